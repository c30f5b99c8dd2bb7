//! How large a JSON-RPC message may be: as configured, unless it is one call of a method whose face
//! takes more over REST.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;

use crate::Error;
use crate::config::Config;
use crate::method::{Entry, codegen_name};

/// Methods that take less than this say themselves what is wrong with more, and make no tree of it.
const SHORT: u32 = 256 << 10;

/// Largest sizes of messages, bytes.
#[derive(Debug)]
pub(super) struct Sizes {
    usual: u32,
    largest: u32,
    /// Of methods that take more than usual.
    of: HashMap<Cow<'static, str>, u32>,
    /// Of the params of methods that take less.
    params: HashMap<Cow<'static, str>, u32>,
}

impl Sizes {
    pub(super) fn new(methods: &'static [Entry], config: &Config) -> Self {
        let usual = config.max_body_bytes;
        let (mut of, mut params) = (HashMap::new(), HashMap::new());
        for spec in methods.iter().map(|entry| &entry.def.spec) {
            let most = spec.style.map(|style| (style.max_body_bytes)(config));
            if let Some(less) = most.filter(|most| (SHORT..usual).contains(most)) {
                params.insert(Cow::Borrowed(spec.name), less);
                params.insert(Cow::Owned(codegen_name(spec.name)), less);
            }
            if let Some(most) = most.filter(|most| *most > usual) {
                of.insert(Cow::Borrowed(spec.name), most);
                of.insert(Cow::Owned(codegen_name(spec.name)), most);
            }
        }
        let largest = of.values().copied().max().unwrap_or(usual);
        Self { usual, largest, of, params }
    }

    /// The largest that any message may be.
    pub(super) const fn largest(&self) -> u32 {
        self.largest
    }

    /// Whether this message may be as large as it is.
    pub(super) fn admit(&self, message: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Called<'a> {
            #[serde(borrow)]
            method: Cow<'a, str>,
        }
        let fits = |most: u32| u32::try_from(message.len()).is_ok_and(|size| size <= most);
        if fits(self.usual) {
            return true;
        }
        fits(self.largest)
            && serde_json::from_slice::<Called<'_>>(message)
                .is_ok_and(|called| self.of.get(&called.method).is_some_and(|most| fits(*most)))
    }

    /// Refuses params that are larger than their method takes over REST: before they are read, since
    /// what becomes of them may take much more memory than they do.
    ///
    /// # Errors
    /// [`Error::Limit`].
    pub(super) fn check_params(&self, method: &str, bytes: usize) -> Result<(), Error> {
        let Some(&most) = self.params.get(method) else { return Ok(()) };
        if u32::try_from(bytes).is_ok_and(|bytes| bytes <= most) {
            return Ok(());
        }
        Err(Error::Limit { what: "bytes in the params".to_owned(), limit: most.into() })
    }

    /// What is said of a message that may not.
    pub(super) fn refusal(&self, what: &str) -> Error {
        Error::Limit { what: what.to_owned(), limit: self.usual.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face;

    #[test]
    fn only_single_calls_of_faces_that_take_more_may_be_larger() {
        let config = Config { max_body_bytes: 1_000, ..Config::default() };
        let sizes = Sizes::new(face::entries(), &config);
        let call = |method: &str, size: usize| {
            let data = "x".repeat(size);
            format!(r#"{{"jsonrpc":"2.0","id":1,"params":{{"a":"{data}"}},"method":"{method}"}}"#)
        };
        assert!(sizes.admit(call("job.load", 900).as_bytes()));
        assert!(!sizes.admit(call("job.load", 1_000).as_bytes()));
        assert!(sizes.admit(call("dcp.job.deploy", 60 << 20).as_bytes()));
        assert!(sizes.admit(call("dcp_job_deploy", 2_000).as_bytes()));
        assert!(!sizes.admit(call("dcp.job.deploy", 64 << 20).as_bytes()));
        assert!(!sizes.admit(format!("[{}]", call("dcp.job.deploy", 1_000)).as_bytes()));
        assert!(!sizes.admit("x".repeat(1_001).as_bytes()));
        let sizes = Sizes::new(face::entries(), &Config::default());
        for method in ["dcp.key.create", "dcp_key_create", "dcp.job.result", "dcp.job.subscribe"] {
            assert!(sizes.check_params(method, 1 << 20).is_ok(), "{method}");
            assert!(sizes.check_params(method, (1 << 20) + 1).is_err(), "{method}");
        }
        for method in ["dcp.job.deploy", "dcp.job.add_slices", "job.create", "adv.put"] {
            assert!(sizes.check_params(method, 9 << 20).is_ok(), "{method}");
        }
        let usual = Sizes::new(&[], &config);
        assert_eq!(usual.largest(), 1_000);
    }
}
