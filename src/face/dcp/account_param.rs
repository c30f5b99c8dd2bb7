//! Which account pays, as a client says it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::identity::{Identity, unlock_given};
use super::keystore::MOST_TEXT;
use super::secret::Secret;
use super::{account, refuse};
use crate::Result;
use crate::app::Cx;
use crate::model::address::Address;

/// A payment account: by keystore, by address or by name, whichever comes first.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpAccountParam")]
pub struct AccountParam {
    /// Its keystore, as an object or as JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
    /// The keystore's password; empty when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub password: Option<Value>,
    /// Its address: 40 hexadecimal digits, with or without `0x`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub address: Option<Value>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub label: Option<Value>,
    /// Its name, where there is no label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub name: Option<Value>,
}

/// Neither keystore nor password is shown.
impl std::fmt::Debug for AccountParam {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountParam")
            .field("address", &self.address)
            .field("label", &self.label)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// An account that a client may pay from, checked as far as that goes without the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payer {
    /// Whoever pays has unlocked its keystore.
    Proved {
        /// Its address.
        address: Address,
        /// What the keystore says it is called.
        label: Option<String>,
    },
    /// Named by address.
    Address(Address),
    /// Named by name.
    Name(String),
}

impl AccountParam {
    /// Reads what stands under `account` in a body.
    ///
    /// # Errors
    /// 400 when it is missing or not an object.
    pub fn read(account: Option<&Value>) -> Result<Self> {
        let of_object = |value: &Value| {
            let members = value.as_object()?;
            let member = |name: &str| members.get(name).filter(|value| !value.is_null()).cloned();
            Some(Self {
                json: member("json"),
                password: member("password"),
                address: member("address"),
                label: member("label"),
                name: member("name"),
            })
        };
        match account {
            None | Some(Value::Null) => Err(refuse(400, "account: required")),
            Some(value) => {
                of_object(value).ok_or_else(|| refuse(400, "account: must be an object"))
            }
        }
    }

    /// Checks it, and unlocks its keystore if it has one.
    ///
    /// # Errors
    /// 400 when it is malformed or names nothing, 403 when the keystore does not unlock, 429 when
    /// too many keystores of the peer are being unlocked.
    pub async fn check(&self, cx: &Cx) -> Result<Payer> {
        self.check_at(cx, "account.").await
    }

    /// The same, with the names of its members beginning with `at`.
    pub(super) async fn check_at(&self, cx: &Cx, at: &str) -> Result<Payer> {
        match self.form(at)? {
            Form::Named(payer) => Ok(payer),
            Form::Locked { json, password } => {
                let locked = || refuse(403, format!("{at}json: the keystore does not unlock"));
                let unlocked = unlock_given(cx, json, password).await?;
                let (address, label) = unlocked.ok_or_else(locked)?;
                Ok(Payer::Proved { address, label })
            }
        }
    }

    /// Checks as much as can be checked without unlocking anything.
    ///
    /// # Errors
    /// 400 when it is malformed or names nothing.
    pub(super) fn check_form(&self) -> Result<()> {
        self.form("account.").map(drop)
    }

    fn form(&self, at: &str) -> Result<Form<'_>> {
        if let Some(json) = given(&self.json) {
            let password = match given(&self.password) {
                None => Secret::new(String::new()),
                Some(Value::String(text)) => Secret::new(text.clone()),
                Some(_) => return Err(refuse(400, format!("{at}password: must be text"))),
            };
            return Ok(Form::Locked { json, password });
        }
        if let Some(address) = given(&self.address) {
            let address = address.as_str().and_then(Address::parse);
            let bad = || refuse(400, format!("{at}address: must be 40 hexadecimal digits"));
            return address.map(|address| Form::Named(Payer::Address(address))).ok_or_else(bad);
        }
        let named = [("label", given(&self.label)), ("name", given(&self.name))];
        match named.into_iter().find_map(|(field, value)| Some((field, value?))) {
            Some((field, Value::String(name))) => {
                account::check_name(&format!("{at}{field}"), name)?;
                Ok(Form::Named(Payer::Name(name.clone())))
            }
            Some((field, _)) => Err(refuse(400, format!("{at}{field}: must be text"))),
            None => Err(refuse(400, format!("{at}address: needs an address, a json or a label"))),
        }
    }
}

/// What was given, first match.
enum Form<'p> {
    /// A keystore that is still to be unlocked.
    Locked { json: &'p Value, password: Secret },
    /// An address or a name.
    Named(Payer),
}

/// A member that is there and not null.
fn given(member: &Option<Value>) -> Option<&Value> {
    member.as_ref().filter(|value| !value.is_null())
}

/// Checks which account pays and enters it, where it is a new one, in a change of its own.
///
/// To do it in the same change as something else, use [`AccountParam::check`] before the change
/// and [`account::enter`] in it.
///
/// # Errors
/// As those two.
pub async fn resolve_account(
    cx: &Cx,
    identity: &Identity,
    param: &AccountParam,
) -> Result<account::Account> {
    let payer = param.check(cx).await?;
    let (owner, strict) = (identity.address, cx.app.config.strict_accounts);
    cx.app.engine.change(move |turn| account::enter(turn, owner, &payer, strict)).await
}

/// A keystore as text to keep, when it is short enough.
pub(super) fn keystore_text(json: &Value) -> Option<String> {
    let text = match json {
        Value::String(text) => text.clone(),
        json => json.to_string(),
    };
    (text.len() <= MOST_TEXT).then_some(text)
}
