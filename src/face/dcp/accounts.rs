//! `dcp.accounts.*`: the payment accounts of an identity.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::account::{self, Account};
use super::account_param::{AccountParam, Payer};
use super::identity::identity;
use super::refuse;
use super::secret::Secret;
use super::style::STYLE;
use crate::app::Cx;
use crate::face::core::aside::aside;
use crate::method::{Access, Def, Method, RestRequest, Spec, Verb};
use crate::model::credit::Credit;
use crate::store::ACCOUNTS;
use crate::{Code, Result};

/// This namespace's methods.
pub const METHODS: &[Def] = &[Def::call::<List>(), Def::call::<Add>()];

/// Accounts on the one page there is: every account that an identity can have.
const PAGE: usize = 10_000;

/// Lists the caller's payment accounts in order of creation.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpAccountsListParams")]
pub struct List {
    /// Credentials, where they are not in the `Authorization` header: its text.
    #[serde(default)]
    pub auth: Option<Secret>,
}

impl Method for List {
    type Output = Vec<AccountView>;
    const SPEC: Spec = Spec::new("dcp.accounts.list", Access::Anyone)
        .rest(Verb::Get, "/api/v0/accounts", 200)
        .also(&["/api/accounts"])
        .style(&STYLE)
        .errors(&[Code::Unauthenticated, Code::LimitReached, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Vec<AccountView>> {
        let owner = identity(&cx, self.auth.as_deref()).await?.address;
        aside(move || {
            let rows = cx.app.store.page(ACCOUNTS, &owner, None, PAGE)?;
            let view = |((_, number), row): ((_, u32), _)| {
                let crate::store::AccountRow { name, address, balance, .. } = row;
                AccountView::new(Account { address, name, number, balance: Credit(balance) })
            };
            Ok(rows.into_iter().map(view).collect())
        })
        .await
    }

    /// Credentials come in the header only, so that they are in no log of addresses.
    fn from_rest(_: &RestRequest<'_>) -> Option<Result<Self>> {
        Some(Ok(Self::default()))
    }
}

/// Enters a payment account, by its address or its keystore, or renames it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpAccountsAddParams")]
pub struct Add {
    /// Its address: 40 hexadecimal digits, with or without `0x`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub address: Option<Value>,
    /// Its keystore, as an object or as JSON text; goes before the address.
    #[serde(default)]
    pub json: Option<Secretive>,
    /// The keystore's password; empty when left out.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub password: Option<Secretive>,
    /// What to call it; the first eight digits of its address when left out.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub label: Option<Value>,
    /// Credentials, where they are not in the `Authorization` header: its text.
    #[serde(default)]
    pub auth: Option<Secret>,
}

impl Method for Add {
    type Output = AccountView;
    const SPEC: Spec = Spec::new("dcp.accounts.add", Access::Anyone).style(&STYLE).errors(&[
        Code::Unauthenticated,
        Code::Forbidden,
        Code::Conflict,
        Code::LimitReached,
        Code::StorageError,
    ]);

    async fn call(self, cx: Cx) -> Result<AccountView> {
        let owner = identity(&cx, self.auth.as_deref()).await?.address;
        let name = match &self.label {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) => Some(name.clone()),
            Some(_) => return Err(refuse(400, "label: must be text")),
        };
        if let Some(name) = &name {
            account::check_name("label", name)?;
        }
        let account = AccountParam {
            json: self.json.map(|json| json.0),
            password: self.password.map(|password| password.0),
            address: self.address,
            ..AccountParam::default()
        };
        let payer = account.check_at(&cx, "").await?;
        let change = move |turn: &mut crate::engine::Turn<'_>| match (&payer, name) {
            (Payer::Proved { address, .. } | Payer::Address(address), Some(name)) => {
                account::enter_named(turn, owner, *address, &name)
            }
            // Only deploying from an address that is not known is what strictness forbids.
            (payer, _) => account::enter(turn, owner, payer, false),
        };
        cx.app.engine.change(change).await.map(AccountView::new)
    }
}

/// Any JSON, not shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Secretive(pub Value);

impl std::fmt::Debug for Secretive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secretive(…)")
    }
}

/// A payment account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DcpAccount")]
pub struct AccountView {
    /// What it is called.
    pub name: String,
    /// Its address: `0x` and 40 lower-case hexadecimal digits.
    pub address: String,
    /// What is on it, a decimal number as text; there is no bank behind this: only operators and
    /// finished slices change it.
    pub balance: String,
}

impl AccountView {
    /// The object of an account.
    pub fn new(account: Account) -> Self {
        let Account { address, name, number: _, balance } = account;
        Self { name, address: address.to_string(), balance: balance.to_string() }
    }
}
