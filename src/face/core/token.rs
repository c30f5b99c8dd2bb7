//! `token.*`: operators' tokens.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::aside::aside;
use super::{bounds, tell};
use crate::access::{Kind, Secret, short};
use crate::app::Cx;
use crate::engine::Turn;
use crate::method::{Access, Def, Method, Spec, Verb};
use crate::model::Millis;
use crate::store::{OPERATOR_TOKENS, TokenRow};
use crate::{Code, Error, Result};

/// This namespace's methods.
pub const METHODS: &[Def] = &[Def::call::<Create>(), Def::call::<List>(), Def::call::<Revoke>()];

/// Most tokens.
const TOKENS: usize = 1_000;

/// Creates an operator's token.
///
/// Whoever shows it as `Authorization: Bearer` may do everything. It is shown this once; only its
/// digest is kept. As soon as there is one, sitting on the coordinator's machine proves nothing
/// any more.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TokenCreateParams")]
pub struct Create {
    /// What to call it: letters, digits, `.`, `_` and `-`, at most 64 of them.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
}

/// A token that was just created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CreatedToken")]
pub struct Created {
    /// What it is called.
    pub name: String,
    /// The token; it is not shown again.
    pub token: String,
    /// When it was created, Unix milliseconds.
    pub created_at: Millis,
}

impl Method for Create {
    type Output = Created;
    const SPEC: Spec = Spec::new("token.create", Access::Operator)
        .rest(Verb::Post, "/tokens", 200)
        .errors(&[Code::Conflict, Code::LimitReached, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Created> {
        bounds::name("name", &self.name)?;
        let secret = Secret::random(Kind::Token)?;
        let (name, digest) = (self.name, secret.digest());
        let change = move |turn: &mut Turn<'_>| {
            let known = turn.page(OPERATOR_TOKENS, &(), None, TOKENS)?;
            bounds::count("tokens", known.len() + 1, TOKENS)?;
            if known.iter().any(|(_, row)| row.name == name) {
                return Err(Error::conflict("taken", "there is a token of that name"));
            }
            let row = TokenRow { name: name.clone(), digest, created_at: turn.now };
            turn.put(OPERATOR_TOKENS, &short(&digest), &row)?;
            tell(turn, "token.created", None, subject(&name), &json!({ "name": name }))?;
            Ok((name, turn.now))
        };
        let (name, created_at) = cx.app.engine.change(change).await?;
        Ok(Created { name, token: secret.reveal().to_owned(), created_at })
    }
}

/// Lists operators' tokens by name, without the tokens themselves.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TokenListParams")]
pub struct List {}

/// Operators' tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenList {
    /// Those that were created, by name.
    pub items: Vec<Token>,
    /// How many the configuration names besides.
    pub configured: u32,
}

/// An operator's token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Token {
    /// What it is called.
    pub name: String,
    /// When it was created, Unix milliseconds.
    pub created_at: Millis,
}

impl Method for List {
    type Output = TokenList;
    const SPEC: Spec = Spec::new("token.list", Access::Operator)
        .rest(Verb::Get, "/tokens", 200)
        .errors(&[Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<TokenList> {
        let configured = u32::try_from(cx.app.keeper.keyring.configured()).unwrap_or(u32::MAX);
        let rows =
            aside(move || Ok(cx.app.store.page(OPERATOR_TOKENS, &(), None, TOKENS)?)).await?;
        let token = |row: TokenRow| Token { name: row.name, created_at: row.created_at };
        let mut items: Vec<Token> = rows.into_iter().map(|(_, row)| token(row)).collect();
        items.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(TokenList { items, configured })
    }
}

/// Revokes an operator's token, at once and for every connection that came with it.
///
/// The last one stays as long as other machines can reach the coordinator.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TokenRevokeParams")]
pub struct Revoke {
    /// What it is called.
    pub name: String,
}

/// The answer of a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Revoked {
    /// Always true.
    pub revoked: bool,
}

impl Method for Revoke {
    type Output = Revoked;
    const SPEC: Spec = Spec::new("token.revoke", Access::Operator)
        .rest(Verb::Delete, "/tokens/{name}", 200)
        .errors(&[Code::NotFound, Code::Conflict, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<Revoked> {
        let name = self.name;
        let needed = cx.app.config.exposed().is_some() && cx.app.keeper.keyring.configured() == 0;
        let change = move |turn: &mut Turn<'_>| {
            let known = turn.page(OPERATOR_TOKENS, &(), None, TOKENS)?;
            let found = known.iter().find(|(_, row)| row.name == name);
            let (key, _) =
                found.ok_or_else(|| Error::NotFound { kind: "token", id: name.clone() })?;
            if needed && known.len() == 1 {
                let reason = "it is the last one, and other machines can reach the coordinator";
                return Err(Error::conflict("last", reason));
            }
            turn.remove(OPERATOR_TOKENS, key);
            tell(turn, "token.revoked", None, subject(&name), &json!({ "name": name }))?;
            Ok(Revoked { revoked: true })
        };
        cx.app.engine.change(change).await
    }
}

fn subject(name: &str) -> String {
    format!("token/{name}")
}
