//! `dcp.accounts.credit`: an operator puts credit on an account.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::account;
use super::accounts::AccountView;
use super::refuse;
use super::style::STYLE;
use crate::app::Cx;
use crate::engine::Turn;
use crate::method::{Access, Def, Method, Spec};
use crate::model::address::Address;
use crate::model::credit::millionths;
use crate::{Code, Result};

/// This namespace's methods.
pub const METHODS: &[Def] = &[Def::call::<AddCredit>()];

/// Puts credit on a payment account of whomever, or takes some off it.
///
/// With the setting `credits`, each finished slice costs what its job offers, and jobs of an account
/// that cannot pay are `paused`; they go on when it can.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpAccountsCreditParams")]
pub struct AddCredit {
    /// The identity whose account it is: 40 hexadecimal digits, with or without `0x`.
    #[schemars(with = "String")]
    pub identity: Option<Value>,
    /// The account's address, written alike.
    #[schemars(with = "String")]
    pub address: Option<Value>,
    /// A decimal number, as text or number; with `-` before it, it is taken off.
    #[schemars(with = "String")]
    pub amount: Option<Value>,
}

impl Method for AddCredit {
    type Output = AccountView;
    const SPEC: Spec = Spec::new("dcp.accounts.credit", Access::Operator)
        .style(&STYLE)
        .errors(&[Code::NotFound, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<AccountView> {
        let owner = address("identity", self.identity.as_ref())?;
        let account = address("address", self.address.as_ref())?;
        let amount = match &self.amount {
            Some(Value::Number(number)) => signed(&number.to_string()),
            Some(Value::String(text)) => signed(text),
            _ => None,
        };
        let amount = amount.ok_or_else(|| refuse(400, "amount: must be a decimal number"))?;
        let change = move |turn: &mut Turn<'_>| {
            let credited = account::credit(turn, owner, account, amount)?;
            turn.account_changed(owner, account)?;
            Ok(credited)
        };
        cx.app.engine.change(change).await.map(AccountView::new)
    }
}

fn address(field: &str, text: Option<&Value>) -> Result<Address> {
    let address = text.and_then(Value::as_str).and_then(Address::parse);
    address.ok_or_else(|| refuse(400, format!("{field}: must be 40 hexadecimal digits")))
}

/// Millionths, with their sign.
fn signed(text: &str) -> Option<i64> {
    let (text, sign) = text.strip_prefix('-').map_or((text, 1), |rest| (rest, -1));
    Some(i64::try_from(millionths(text)?).ok()? * sign)
}
