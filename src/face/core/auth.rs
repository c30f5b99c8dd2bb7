//! `auth.*`: signing in by a signature, and who one is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::aside::aside;
use super::{bounds, tell};
use crate::access::{Kind, Means, Secret, key_of, path_of, principal, short, signs};
use crate::app::{App, Caller, Cx};
use crate::engine::Turn;
use crate::identity::PublicKey;
use crate::method::{Access, Def, Method, Spec, Verb};
use crate::model::Millis;
use crate::store::{ACTORS, RUNNERS, SESSIONS, SessionRow};
use crate::{Code, Error, Result};

/// This namespace's methods.
pub const METHODS: &[Def] = &[
    Def::call::<GetChallenge>(),
    Def::call::<SignIn>(),
    Def::call::<SignOut>(),
    Def::call::<WhoAmI>(),
];

/// Sessions of one who signs in; with more, the oldest ends.
const SESSIONS_EACH: usize = 64;
/// Sessions, keys and tokens of all.
const SECRETS: usize = 200_000;
/// Bytes of a challenge or a signature as text.
const TEXT: usize = 512;
/// A point on the curve that is nobody's: what is checked for one who does not exist takes as long.
const NOBODY: [u8; 32] = [
    0x3b, 0x6a, 0x27, 0xbc, 0xce, 0xb6, 0xa4, 0x2d, 0x62, 0xa3, 0xa8, 0xd0, 0x2a, 0x6f, 0x0d, 0x73,
    0x65, 0x32, 0x15, 0x77, 0x1d, 0xe2, 0x43, 0xa6, 0x3a, 0xc0, 0x48, 0xa1, 0x8b, 0x59, 0xda, 0x29,
];

/// Asks for a challenge to sign in with, as an actor or as a runner of a context.
///
/// To be signed with the ed25519 key of `pubkey`: the text `muster-sign-in.v1`, a zero byte, and
/// the challenge as it stands in the answer. It counts once, for a minute. Whether there is such an
/// actor or runner is not told.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AuthChallengeParams")]
pub struct GetChallenge {
    /// The actor; or else a runner.
    #[serde(default)]
    pub actor_id: Option<u32>,
    /// The context of the runner.
    #[serde(default)]
    pub context_id: Option<u32>,
    /// The runner.
    #[serde(default)]
    pub runner_id: Option<u32>,
}

/// A challenge to be signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuthChallenge {
    /// The text to be signed.
    pub challenge: String,
    /// When it is too late, Unix milliseconds.
    pub expires_at: Millis,
}

impl Method for GetChallenge {
    type Output = AuthChallenge;
    const SPEC: Spec =
        Spec::new("auth.challenge", Access::Anyone).rest(Verb::Post, "/auth/challenge", 200);

    async fn call(self, cx: Cx) -> Result<AuthChallenge> {
        let caller = principal_of(self.actor_id, self.context_id, self.runner_id)?;
        let made = cx.app.keeper.challenges.make(caller, (cx.app.now)())?;
        Ok(AuthChallenge { challenge: made.text, expires_at: made.expires_at })
    }
}

fn principal_of(actor: Option<u32>, context: Option<u32>, runner: Option<u32>) -> Result<Caller> {
    match (actor, context, runner) {
        (Some(actor), None, None) => Ok(Caller::Actor(actor)),
        (None, Some(context), Some(runner)) => Ok(Caller::Runner(context, runner)),
        _ => Err(Error::params("", "either actor_id, or context_id and runner_id")),
    }
}

/// Signs in with a signed challenge.
///
/// The token that is answered goes into `Authorization: Bearer` of later requests. A WebSocket on
/// which it is called is the caller's from then on.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AuthSignInParams")]
pub struct SignIn {
    /// The challenge as it was answered.
    pub challenge: String,
    /// The signature, in hexadecimal or base64.
    pub signature: String,
    /// The actor; or else a runner.
    #[serde(default)]
    pub actor_id: Option<u32>,
    /// The context of the runner.
    #[serde(default)]
    pub context_id: Option<u32>,
    /// The runner.
    #[serde(default)]
    pub runner_id: Option<u32>,
}

/// A session that was just begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuthSession {
    /// What to show as `Authorization: Bearer`.
    pub token: String,
    /// When the session ends, Unix milliseconds.
    pub expires_at: Millis,
    /// Whose it is.
    pub caller: AuthCaller,
}

/// A caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuthCaller {
    /// `operator`, `actor`, `runner` or `anonymous`.
    pub kind: String,
    /// The actor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor_id: Option<u32>,
    /// The context of the runner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_id: Option<u32>,
    /// The runner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_id: Option<u32>,
}

impl From<Caller> for AuthCaller {
    fn from(caller: Caller) -> Self {
        let of = |kind: &str, actor_id, context_id, runner_id| Self {
            kind: kind.to_owned(),
            actor_id,
            context_id,
            runner_id,
        };
        match caller {
            Caller::Anonymous => of("anonymous", None, None, None),
            Caller::Operator => of("operator", None, None, None),
            Caller::Actor(id) => of("actor", Some(id), None, None),
            Caller::Runner(context, id) => of("runner", None, Some(context), Some(id)),
        }
    }
}

impl Method for SignIn {
    type Output = AuthSession;
    const SPEC: Spec = Spec::new("auth.sign_in", Access::Anyone)
        .rest(Verb::Post, "/auth/sign-in", 200)
        .errors(&[Code::Forbidden, Code::LimitReached, Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<AuthSession> {
        let Self { challenge, signature, actor_id, context_id, runner_id } = self;
        let caller = principal_of(actor_id, context_id, runner_id)?;
        bounds::length(|| "challenge".to_owned(), &challenge, TEXT)?;
        bounds::length(|| "signature".to_owned(), &signature, TEXT)?;
        let app = cx.app.clone();
        let (proved, pubkey) = aside(move || prove(&app, caller, &challenge, &signature)).await?;
        if !proved {
            let (app, from) = (&cx.app, cx.visitor.from());
            app.metrics.auth_failures.inc();
            app.keeper.failed(from)?;
            tracing::warn!(?caller, ?from, "a sign-in without a good signature");
            return Err(Error::Forbidden("a good signature of a fresh challenge"));
        }
        let secret = Secret::random(Kind::Session)?;
        let lifetime = Millis::try_from(cx.app.config.session_lifetime.as_millis());
        let lifetime = lifetime.unwrap_or(Millis::MAX);
        let held = cx.app.keeper.keyring.len();
        bounds::count("sessions", held + 1, SECRETS)?;
        let digest = secret.digest();
        let change = move |turn: &mut Turn<'_>| {
            // The key may have been replaced since it was looked up.
            if turn_key(turn, caller)?.as_deref() != Some(pubkey.as_str()) {
                return Err(Error::Forbidden("a good signature of a fresh challenge"));
            }
            begin_session(turn, caller, digest, lifetime)
        };
        let expires_at = cx.app.engine.change(change).await?;
        let grant = cx.app.keeper.keyring.look_up(secret.reveal(), (cx.app.now)());
        cx.visitor.become_known(grant);
        Ok(AuthSession { token: secret.reveal().to_owned(), expires_at, caller: caller.into() })
    }
}

/// Whether the caller proved who he is, and by which key.
fn prove(app: &App, caller: Caller, challenge: &str, signature: &str) -> Result<(bool, String)> {
    let (now, challenges) = ((app.now)(), &app.keeper.challenges);
    let pubkey = match caller {
        Caller::Actor(id) => app.store.get(ACTORS, &id)?.map(|row| row.pubkey),
        Caller::Runner(context, id) => {
            app.store.get(RUNNERS, &(context, id))?.map(|row| row.pubkey)
        }
        Caller::Anonymous | Caller::Operator => None,
    };
    let known = pubkey.as_deref().and_then(key_of);
    let key = known.or_else(|| PublicKey::from_bytes(&NOBODY).ok());
    let good = key.is_some_and(|key| signs(&key, challenge, signature));
    let proved = good
        && known.is_some()
        && challenges.knows(challenge, caller, now)
        && challenges.spend(challenge, caller, now)?;
    Ok((proved, pubkey.unwrap_or_default()))
}

fn turn_key(turn: &Turn<'_>, caller: Caller) -> Result<Option<String>> {
    Ok(match caller {
        Caller::Actor(id) => turn.get(ACTORS, &id)?.map(|row| row.pubkey),
        Caller::Runner(context, id) => turn.get(RUNNERS, &(context, id))?.map(|row| row.pubkey),
        Caller::Anonymous | Caller::Operator => None,
    })
}

/// Stores a session, in place of those of the same caller that are over or too many; when it ends.
fn begin_session(
    turn: &mut Turn<'_>,
    caller: Caller,
    digest: [u8; 32],
    lifetime: Millis,
) -> Result<Millis> {
    let (now, whose) = (turn.now, principal::parts(caller));
    let mut live = Vec::new();
    for (key, row) in turn.page(SESSIONS, &whose, None, SESSIONS_EACH)? {
        if row.expires_at <= now {
            turn.remove(SESSIONS, &key);
        } else {
            live.push((row.created_at, key));
        }
    }
    if live.len() >= SESSIONS_EACH
        && let Some((_, oldest)) = live.iter().min()
    {
        turn.remove(SESSIONS, oldest);
    }
    let expires_at = now.saturating_add(lifetime);
    let key = (whose.0, whose.1, whose.2, short(&digest));
    turn.put(SESSIONS, &key, &SessionRow { digest, created_at: now, expires_at })?;
    let data = json!({ "expires_at": expires_at });
    tell(turn, "auth.signed_in", None, path_of(caller).to_string(), &data)?;
    Ok(expires_at)
}

/// Stages the end of every session of those whose sessions begin with `whose`: an actor or runner
/// that is deleted or gets another key.
pub(super) fn end_sessions(turn: &mut Turn<'_>, caller: Caller) -> Result<()> {
    let (kind, context, id) = principal::parts(caller);
    for (key, _) in turn.page(SESSIONS, &(kind, context, id), None, SESSIONS_EACH)? {
        turn.remove(SESSIONS, &key);
    }
    Ok(())
}

/// The same for all runners of a context.
pub(super) fn end_sessions_of_runners(turn: &mut Turn<'_>, context: u32) -> Result<()> {
    let (kind, ..) = principal::parts(Caller::Runner(context, 0));
    super::sweep::remove_below(turn, SESSIONS, &(kind, context))
}

/// Ends the session that the call came with, and everything that hangs on it.
///
/// A token or an API key is not ended by this: it is revoked.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AuthSignOutParams")]
pub struct SignOut {}

/// Whether a session was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignedOut {
    /// Whether there was one.
    pub signed_out: bool,
}

impl Method for SignOut {
    type Output = SignedOut;
    const SPEC: Spec = Spec::new("auth.sign_out", Access::Anyone)
        .rest(Verb::Post, "/auth/sign-out", 200)
        .errors(&[Code::StorageError]);

    async fn call(self, cx: Cx) -> Result<SignedOut> {
        let Some(grant) = cx.grant.filter(|grant| grant.means == Means::Session) else {
            cx.visitor.become_known(None);
            return Ok(SignedOut { signed_out: false });
        };
        let (kind, context, id) = principal::parts(grant.caller);
        let (key, caller) = ((kind, context, id, grant.key), grant.caller);
        let change = move |turn: &mut Turn<'_>| {
            turn.remove(SESSIONS, &key);
            tell(turn, "auth.signed_out", None, path_of(caller).to_string(), &json!({}))
        };
        cx.app.engine.change(change).await?;
        cx.visitor.become_known(None);
        Ok(SignedOut { signed_out: true })
    }
}

/// Says who the caller is taken for.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AuthWhoAmIParams")]
pub struct WhoAmI {}

/// Who the caller is taken for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuthIdentity {
    /// Who.
    pub caller: AuthCaller,
    /// What proves it: `loopback`, `token`, `session` or `api_key`; absent for strangers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub means: Option<String>,
    /// The name of the token or key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When that ends, Unix milliseconds; absent when it does not by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Millis>,
}

impl Method for WhoAmI {
    type Output = AuthIdentity;
    const SPEC: Spec =
        Spec::new("auth.whoami", Access::Anyone).rest(Verb::Get, "/auth/whoami", 200);

    async fn call(self, cx: Cx) -> Result<AuthIdentity> {
        let grant = cx.grant.as_ref();
        let name = grant.map(|grant| grant.name.clone()).filter(|name| !name.is_empty());
        Ok(AuthIdentity {
            caller: cx.caller.into(),
            means: grant.map(|grant| grant.means.name().to_owned()),
            name,
            expires_at: grant.and_then(|grant| grant.expires_at),
        })
    }
}
