//! Who is calling: an address, proved by a keystore and its password or by an API key.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::keystore::Keystore;
use super::presented::Presented;
use super::secret::Secret;
use super::style::STYLE;
use super::{keystore_cache, keystore_gate, presented, unauthenticated};
use crate::app::Cx;
use crate::method::{Access, Def, Method, Spec};
use crate::model::address::Address;
use crate::store::KEYSTORE_KEYS;
use crate::{Code, Result};

/// This namespace's methods.
pub const METHODS: &[Def] = &[Def::call::<Get>()];

/// Who is calling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Whoever has the same address is the same.
    pub address: Address,
    /// How it was proved.
    pub scheme: Scheme,
    /// The digest of the API key that proved it.
    pub key: Option<[u8; 32]>,
}

/// How an identity is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpScheme")]
pub enum Scheme {
    /// A keystore and its password.
    Basic,
    /// An API key.
    Bearer,
}

/// Who is calling: `auth`, when it is given, wins over the header of the request.
///
/// # Errors
/// 401, which does not tell why; 429 when too many keystores of the peer are being unlocked.
pub async fn identity(cx: &Cx, auth: Option<&str>) -> Result<Identity> {
    let header = cx.credentials.as_ref().map(|credentials| &*credentials.0);
    let text = auth.or(header).ok_or_else(unauthenticated)?;
    let presented = Presented::read(text).ok_or_else(unauthenticated)?;
    let (scheme, key) = match presented {
        Presented::Basic(_) => (Scheme::Basic, None),
        Presented::Bearer(key, _) => (Scheme::Bearer, Some(key)),
    };
    // Looked up each time, also when the secret is remembered: a revoked key ends at once.
    let kept = match presented {
        Presented::Basic(_) => None,
        Presented::Bearer(key, _) => {
            Some(cx.app.store.get(KEYSTORE_KEYS, &key)?.ok_or_else(unauthenticated)?)
        }
    };
    let digest = keystore_cache::digest(text);
    if let Some(address) = keystore_cache::recall(&digest, (cx.app.now)()) {
        return Ok(Identity { address, scheme, key });
    }
    let (keystore, password) = match (presented, kept) {
        (Presented::Bearer(_, secret), Some(row)) => {
            let keystore = Keystore::read(&row.keystore).ok_or_else(unauthenticated)?;
            (keystore, Secret::new(secret.to_owned()))
        }
        (Presented::Basic(encoded), _) => presented::basic(encoded).ok_or_else(unauthenticated)?,
        (Presented::Bearer(..), None) => return Err(unauthenticated()),
    };
    let known = || keystore_cache::recall(&digest, (cx.app.now)());
    let address = keystore_gate::unlock(cx, keystore, password, known).await?;
    let address = address.ok_or_else(unauthenticated)?;
    keystore_cache::remember(digest, address, (cx.app.now)());
    Ok(Identity { address, scheme, key })
}

/// Unlocks a keystore that came in a body: the address, and what the keystore calls it. None when
/// it is no keystore, or does not unlock.
///
/// # Errors
/// 429 when too many keystores of the peer are being unlocked.
pub(super) async fn unlock_given(
    cx: &Cx,
    json: &Value,
    password: Secret,
) -> Result<Option<(Address, Option<String>)>> {
    let keystore = match json {
        Value::String(text) => Keystore::read(text),
        Value::Object(_) => Keystore::read(&json.to_string()),
        _ => None,
    };
    let Some(keystore) = keystore else { return Ok(None) };
    let label = keystore.label.clone();
    // No header text that is ever remembered begins like this.
    let text = Secret::new(format!("given\n{json}\n{}", &*password));
    let digest = keystore_cache::digest(&text);
    let known = || keystore_cache::recall(&digest, (cx.app.now)());
    if let Some(address) = known() {
        return Ok(Some((address, label)));
    }
    let address = keystore_gate::unlock(cx, keystore, password, known).await?;
    if let Some(address) = address {
        keystore_cache::remember(digest, address, (cx.app.now)());
    }
    Ok(address.map(|address| (address, label)))
}

/// Says who is calling.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpIdentityGetParams")]
pub struct Get {
    /// Credentials, where they are not in the `Authorization` header: its text.
    #[serde(default)]
    pub auth: Option<Secret>,
}

/// Who is calling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpIdentity")]
pub struct IdentityView {
    /// `0x` and 40 lower-case hexadecimal digits.
    pub address: String,
    /// How it was proved.
    pub scheme: Scheme,
}

impl Method for Get {
    type Output = IdentityView;
    const SPEC: Spec = Spec::new("dcp.identity.get", Access::Anyone).style(&STYLE).errors(&[
        Code::Unauthenticated,
        Code::LimitReached,
        Code::StorageError,
    ]);

    async fn call(self, cx: Cx) -> Result<IdentityView> {
        let Identity { address, scheme, .. } = identity(&cx, self.auth.as_deref()).await?;
        Ok(IdentityView { address: address.to_string(), scheme })
    }
}
