//! The body of a deploy: read leniently, and everything that is wrong with it said at once.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{job_function, refuse, refuse_each, slice_texts, webhook};
use crate::config::Compute;
use crate::engine::Slices;
use crate::face::core::compute_group::{JoinGroup, MOST_JOINED};
use crate::model::demand::demanded;
use crate::model::slices::FunctionLanguage;
use crate::store::WorkSourceRow;
use crate::{Error, Result};

/// The offer of whatever the market asks.
pub(super) const MARKET: &str = "MARKET_VALUE";
/// What a job is called that nobody named.
const NAME: &str = "Ad-hoc job";

/// The members of the body, as they came.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Body<'b> {
    #[serde(deserialize_with = "few")]
    work: Option<Value>,
    #[serde(borrow)]
    slices: Option<&'b RawValue>,
    #[serde(borrow)]
    args: Option<&'b RawValue>,
    #[serde(borrow)]
    arguments: Option<&'b RawValue>,
    #[serde(deserialize_with = "few")]
    pub(super) account: Option<Value>,
    #[serde(rename = "computeGroups")]
    #[serde(deserialize_with = "few")]
    compute_groups: Option<Value>,
    #[serde(rename = "slicePaymentOffer")]
    #[serde(deserialize_with = "few")]
    offer: Option<Value>,
    #[serde(deserialize_with = "few")]
    requirements: Option<Value>,
    #[serde(deserialize_with = "few")]
    packages: Option<Value>,
    #[serde(deserialize_with = "few")]
    requires: Option<Value>,
    #[serde(deserialize_with = "few")]
    public: Option<Value>,
    #[serde(rename = "webHookUrls")]
    #[serde(deserialize_with = "few")]
    web_hooks: Option<Value>,
}

/// The longest member that becomes a tree, bytes: a tree may take fifty times as many.
const TREE: usize = 8 << 20;

/// A member that is not large.
fn few<'de, D: Deserializer<'de>>(reader: D) -> std::result::Result<Option<Value>, D::Error> {
    let Some(text) = Option::<&RawValue>::deserialize(reader)? else { return Ok(None) };
    if text.get().len() > TREE {
        return Err(D::Error::custom(format_args!("larger than {TREE} bytes")));
    }
    serde_json::from_str(text.get()).map(Some).map_err(D::Error::custom)
}

/// A job as it is to be deployed.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) source: WorkSourceRow,
    pub(super) language: FunctionLanguage,
    /// What runners it needs, but for their groups.
    pub(super) capabilities: Vec<String>,
    pub(super) groups: Vec<JoinGroup>,
    pub(super) offer: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) link: String,
    pub(super) slices: Slices,
    /// How many of them are URLs of what they are.
    pub(super) remote: u64,
    /// Where each result is to be sent.
    pub(super) hooks: Vec<String>,
    /// What stands under `account`, unread.
    pub(super) account: Option<Value>,
}

/// What is wrong, one text for each problem, and the status that the worst of them has.
#[derive(Debug, Default)]
pub(super) struct Problems {
    pub(super) messages: Vec<String>,
}

impl Problems {
    pub(super) fn add(&mut self, message: impl Into<String>) {
        self.messages.push(message.into());
    }

    /// What a check gave, or nothing after noting a refusal with status 400.
    pub(super) fn note<T>(&mut self, checked: Result<T>) -> Result<Option<T>> {
        match checked {
            Ok(value) => Ok(Some(value)),
            Err(Error::Refused(refusal)) if refusal.status == 400 => {
                let text = refusal.body.get("error").and_then(Value::as_str);
                self.add(text.unwrap_or("invalid"));
                Ok(None)
            }
            Err(err) => Err(err),
        }
    }

    /// The refusal, if there is any problem.
    pub(super) fn refusal(&self) -> Option<Error> {
        let text = self.messages.join("; ");
        (!text.is_empty()).then(|| refuse_each(400, text, &self.messages))
    }
}

/// Reads a body; what is wrong with its members is in the problems.
///
/// # Errors
/// 400 when it is no object, 403 for the wrong secret of a compute group.
pub(super) fn read(
    text: &str,
    allowed: &Compute,
    problems: &mut Problems,
) -> Result<Option<Order>> {
    if !text.trim_ascii_start().starts_with('{') {
        return Err(refuse(400, "the body must be a JSON object"));
    }
    let body: Body<'_> = serde_json::from_str(text).map_err(|err| {
        refuse(400, format!("the body must be a JSON object: {}", super::job_params::shape(&err)))
    })?;
    let work = job_function::read(body.work.as_ref(), problems);
    let slices = problems.note(slices(body.slices, allowed))?;
    let args =
        array("args", given_text(body.args).or_else(|| given_text(body.arguments)), problems);
    let packages = texts(given(&body.packages).or_else(|| given(&body.requires)), problems);
    let (requirements, capabilities) = requirements(given(&body.requirements), problems);
    let offer = offer(given(&body.offer), problems);
    let (name, description, link) = public(given(&body.public), problems);
    let hooks = webhook::read(given(&body.web_hooks), &allowed.webhook_allow);
    let hooks = hooks.unwrap_or_else(|problem| {
        problems.add(problem);
        Vec::new()
    });
    let groups = problems.note(groups(given(&body.compute_groups)))?;
    let (Some((function, language)), Some((slices, remote)), Some(groups)) = (work, slices, groups)
    else {
        return Ok(None);
    };
    let source = WorkSourceRow { function, args, requirements, packages };
    let order = Order {
        source,
        language,
        capabilities,
        groups,
        offer,
        name,
        description,
        link,
        slices,
        remote,
        hooks,
        account: body.account,
    };
    Ok(Some(order))
}

fn given(member: &Option<Value>) -> Option<&Value> {
    member.as_ref().filter(|value| !value.is_null())
}

fn given_text(member: Option<&RawValue>) -> Option<&RawValue> {
    member.filter(|text| text.get() != "null")
}

/// The slices, and how many of them are URLs of what they are.
fn slices(slices: Option<&RawValue>, allowed: &Compute) -> Result<(Slices, u64)> {
    #[derive(Deserialize)]
    struct Remote {
        #[serde(rename = "remoteDataSet")]
        urls: Vec<String>,
    }
    let Some(text) = given_text(slices) else { return Ok((Slices::default(), 0)) };
    if !text.get().starts_with('{') {
        return Ok((slice_texts::of_array("slices", Some(text))?, 0));
    }
    let remote: Remote = serde_json::from_str(text.get()).map_err(|_| {
        refuse(400, "slices: must be an array, or an object with a list of URLs, remoteDataSet")
    })?;
    for url in &remote.urls {
        webhook::permitted("slices.remoteDataSet", url, &allowed.remote_data_allow)
            .map_err(|wrong| refuse(400, wrong))?;
    }
    let texts: Vec<String> =
        remote.urls.into_iter().map(|url| Value::String(url).to_string()).collect();
    let slices = Slices::new(texts.iter().map(String::as_str))?;
    let count = slices.len();
    Ok((slices, count))
}

fn array(field: &str, text: Option<&RawValue>, problems: &mut Problems) -> String {
    match text {
        None => "[]".to_owned(),
        Some(text) if text.get().starts_with('[') => text.get().to_owned(),
        Some(_) => {
            problems.add(format!("{field}: must be an array"));
            String::new()
        }
    }
}

fn texts(packages: Option<&Value>, problems: &mut Problems) -> Vec<String> {
    let Some(packages) = packages else { return Vec::new() };
    let text = |item: &Value| item.as_str().map(str::to_owned);
    let texts = packages.as_array().and_then(|items| items.iter().map(text).collect());
    texts.unwrap_or_else(|| {
        problems.add("packages: must be an array of texts");
        Vec::new()
    })
}

/// The demands as they came, and what of them must be met.
fn requirements(requirements: Option<&Value>, problems: &mut Problems) -> (String, Vec<String>) {
    let none = || ("{}".to_owned(), Vec::new());
    match requirements {
        Some(Value::Object(members)) => match demanded(members) {
            Ok(demanded) => (Value::Object(members.clone()).to_string(), demanded),
            Err(wrong) => {
                problems.add(format!("requirements: {wrong}"));
                none()
            }
        },
        Some(Value::Array(items)) if items.is_empty() => none(),
        None => none(),
        Some(_) => {
            problems.add("requirements: must be an object");
            none()
        }
    }
}

fn offer(offer: Option<&Value>, problems: &mut Problems) -> String {
    let decimal = |text: &str| {
        let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
        digits(whole) && digits(rest)
    };
    match offer {
        None => MARKET.to_owned(),
        Some(Value::String(text)) if text == MARKET || decimal(text) => text.clone(),
        Some(Value::Number(number)) if number.as_f64().is_some_and(|offer| offer >= 0.0) => {
            number.to_string()
        }
        Some(_) => {
            problems.add("slicePaymentOffer: must be MARKET_VALUE or a decimal number from 0 up");
            String::new()
        }
    }
}

fn public(public: Option<&Value>, problems: &mut Problems) -> (String, String, String) {
    let members = match public {
        None => None,
        Some(Value::Object(members)) => Some(members),
        Some(_) => {
            problems.add("public: must be an object");
            None
        }
    };
    let mut text = |name: &str, default: &str| match members
        .and_then(|members| members.get(name))
        .filter(|value| !value.is_null())
    {
        None => default.to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(_) => {
            problems.add(format!("public.{name}: must be text"));
            String::new()
        }
    };
    (text("name", NAME), text("description", ""), text("link", ""))
}

/// The compute groups whose runners may serve the job; none: the public one.
fn groups(groups: Option<&Value>) -> Result<Vec<JoinGroup>> {
    let wrong = || refuse(400, "computeGroups: must be an array of objects with joinKey");
    let Some(groups) = groups else { return Ok(Vec::new()) };
    let groups = groups.as_array().ok_or_else(wrong)?;
    if groups.len() > MOST_JOINED {
        return Err(refuse(400, format!("computeGroups: at most {MOST_JOINED}")));
    }
    let group = |group: &Value| {
        let join_key = group.get("joinKey").and_then(Value::as_str).ok_or_else(wrong)?;
        let join_secret = match group.get("joinSecret") {
            None | Some(Value::Null) => "",
            Some(secret) => secret.as_str().ok_or_else(wrong)?,
        };
        Ok(JoinGroup { join_key: join_key.to_owned(), join_secret: join_secret.to_owned() })
    };
    groups.iter().map(group).collect()
}

#[cfg(test)]
#[path = "job_body_tests.rs"]
mod tests;
