//! What our calls keep besides what jsonrpsee sees to: a middleware around its dispatch.
//!
//! Notifications are run like calls and not answered, in batches too; errors of jsonrpsee's own
//! get our codes and `data`; subscriptions are opened where they can be.

use std::borrow::Cow;
use std::future::{Future, ready};
use std::sync::{Arc, LazyLock};

use futures_util::future::Either;
use jsonrpsee::core::middleware::{Batch, BatchEntry, Notification, RpcServiceT};
use jsonrpsee::core::server::BatchResponseBuilder;
use jsonrpsee::server::{Extensions, MethodCallback, MethodResponse, Methods};
use jsonrpsee::types::error::TOO_MANY_SUBSCRIPTIONS_CODE;
use jsonrpsee::types::{ErrorObjectOwned, Id, Request};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use tower::Layer;

use super::envelope::REFUSED;
use super::link::{Link, Port, Slot};
use crate::access::Visitor;
use crate::error::bare;
use crate::method::{Field, Shape};
use crate::{Code, Error, Result};

/// Puts the rules around jsonrpsee's dispatch.
#[derive(Clone, Debug)]
pub(super) struct RulesLayer {
    methods: Methods,
}

impl RulesLayer {
    pub(super) const fn new(methods: Methods) -> Self {
        Self { methods }
    }
}

impl<S> Layer<S> for RulesLayer {
    type Service = Rules<S>;

    fn layer(&self, inner: S) -> Rules<S> {
        Rules { inner, methods: self.methods.clone() }
    }
}

/// Marks the answer to a message that wants none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unanswered;

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Alone,
    InBatch,
    Unanswered,
}

/// What a request does to subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    None,
    Opens,
    Closes,
}

/// The rules.
#[derive(Clone, Debug)]
pub(super) struct Rules<S> {
    inner: S,
    methods: Methods,
}

impl<S> Rules<S>
where
    S: RpcServiceT<MethodResponse = MethodResponse> + Clone + Send + Sync + 'static,
{
    fn answer<'a>(
        &self,
        mut request: Request<'a>,
        manner: Manner,
    ) -> impl Future<Output = MethodResponse> + Send + 'a {
        let effect = match self.check(&mut request, manner) {
            Ok(effect) => effect,
            Err(error) => return Either::Left(ready(MethodResponse::error(request.id, error))),
        };
        if effect == Effect::None {
            return Either::Right(Either::Left(self.inner.call(request)));
        }
        let (inner, id) = (self.inner.clone(), request.id.clone());
        let link = Link::of(&request.extensions).cloned();
        Either::Right(Either::Right(async move {
            if let Some(link) = link.as_deref().filter(|_| effect == Effect::Closes) {
                link.accepted().await;
            }
            let response = inner.call(request).await;
            match effect {
                Effect::Opens => opened(response, id, link.as_deref()),
                Effect::Closes | Effect::None => response,
            }
        }))
    }

    /// What the request does, or why it may not be run.
    fn check(&self, request: &mut Request<'_>, manner: Manner) -> Result<Effect, ErrorObjectOwned> {
        let visitor = request.extensions.get::<Arc<Visitor>>();
        if let Some((link, visitor)) = Link::of(&request.extensions).zip(visitor) {
            let app = &link.shared.app;
            let seen = visitor.seen(&app.keeper, (app.now)());
            link.take_turn(seen.caller)?;
            let bytes = request.params.as_deref().map_or(0, |params| params.get().len());
            link.shared.sizes.check_params(&request.method, bytes)?;
            // The call is his whose turn it was.
            request.extensions.insert(seen);
        }
        let Some(method) = self.methods.method(&request.method) else {
            return Err(unknown(request));
        };
        let by_http = Link::of(&request.extensions).is_none_or(|link| link.port == Port::Http);
        let needs_socket = "subscriptions need the WebSocket port";
        match method {
            MethodCallback::Sync(_) | MethodCallback::Async(_) => Ok(Effect::None),
            MethodCallback::Subscription(_) => {
                let reason = match manner {
                    _ if by_http => needs_socket,
                    Manner::Alone => return Ok(Effect::Opens),
                    Manner::InBatch => "a subscription cannot be opened in a batch",
                    Manner::Unanswered => "a subscription needs an id to be answered with",
                };
                Err(bare(Code::InvalidRequest, reason))
            }
            MethodCallback::Unsubscription(_) if by_http => {
                Err(bare(Code::InvalidRequest, needs_socket))
            }
            MethodCallback::Unsubscription(_) => {
                let id = named_id(request.params.as_deref().map_or("", RawValue::get))?;
                // jsonrpsee takes it by position only.
                let params = to_raw_value(&[id]).map_err(|e| Error::Bug(e.to_string()))?;
                request.params = Some(Cow::Owned(params));
                Ok(Effect::Closes)
            }
        }
    }
}

impl<S> RpcServiceT for Rules<S>
where
    S: RpcServiceT<MethodResponse = MethodResponse> + Clone + Send + Sync + 'static,
{
    type MethodResponse = MethodResponse;
    type NotificationResponse = MethodResponse;
    type BatchResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let slot = Slot::of(&request.extensions);
        let answer = self.answer(request, Manner::Alone);
        async move {
            let response = answer.await;
            drop(slot);
            response
        }
    }

    fn notification<'a>(
        &self,
        note: Notification<'a>,
    ) -> impl Future<Output = MethodResponse> + Send + 'a {
        let slot = Slot::of(&note.extensions);
        let run = self.answer(as_call(note), Manner::Unanswered);
        async move {
            drop(run.await);
            drop(slot);
            unanswered()
        }
    }

    fn batch<'a>(&self, batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let first = batch.iter().flatten().next();
        let slot = first.and_then(|entry| Slot::of(entry.extensions()));
        let rules = self.clone();
        async move {
            let _slot = slot;
            let mut answers = BatchResponseBuilder::new_with_limit(usize::MAX);
            // One after another: an entry may build on the one before it.
            for entry in batch {
                let answer = match entry {
                    Ok(BatchEntry::Call(call)) => rules.answer(call, Manner::InBatch).await,
                    Ok(BatchEntry::Notification(note)) => {
                        drop(rules.answer(as_call(note), Manner::Unanswered).await);
                        continue;
                    }
                    Err(refused) => {
                        let (error, id) = refused.into_parts();
                        MethodResponse::error(id, bare(Code::InvalidRequest, error.message()))
                    }
                };
                if let Err(too_large) = answers.append(answer) {
                    return too_large;
                }
            }
            if answers.is_empty() {
                return unanswered();
            }
            MethodResponse::from_batch(answers.finish())
        }
    }
}

fn as_call(note: Notification<'_>) -> Request<'_> {
    Request {
        jsonrpc: note.jsonrpc,
        id: Id::Null,
        method: note.method,
        params: note.params,
        extensions: note.extensions,
    }
}

fn unanswered() -> MethodResponse {
    let mut extensions = Extensions::new();
    extensions.insert(Unanswered);
    MethodResponse::notification().with_extensions(extensions)
}

/// What a method that is none is answered with: one of them stands for what is no request.
fn unknown(request: &Request<'_>) -> ErrorObjectOwned {
    if request.method == REFUSED.as_str()
        && let Some(error) = &request.params
        && let Ok(error) = serde_json::from_str(error.get())
    {
        return error;
    }
    // Names are echoed, but not at any length.
    let name: String = request.method.chars().take(80).collect();
    bare(Code::MethodNotFound, format!("no method {name}"))
}

/// The answer to a subscribe call; jsonrpsee's own errors are calls' and not subscriptions'.
fn opened(response: MethodResponse, id: Id<'_>, link: Option<&Link>) -> MethodResponse {
    let Some(code) = response.as_error_code().filter(|_| response.is_method_call()) else {
        return response;
    };
    let error = match link {
        Some(link) if code == TOO_MANY_SUBSCRIPTIONS_CODE => {
            let limit = link.shared.app.config.max_subscriptions.into();
            Error::Limit { what: "subscriptions of one connection".to_owned(), limit }
        }
        _ => Error::Bug(format!("a subscription was not opened: {code}")),
    };
    MethodResponse::error(id, ErrorObjectOwned::from(error))
}

/// The id that an unsubscribe call names.
fn named_id(params: &str) -> Result<String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Close {
        id: String,
    }
    static SHAPE: LazyLock<Shape> = LazyLock::new(|| Shape {
        summary: String::new(),
        description: String::new(),
        fields: vec![Field {
            name: "id".to_owned(),
            required: true,
            schema: json!({ "type": "string" }),
        }],
        strict: true,
    });
    let params = SHAPE.normalize(params)?;
    let Close { id } =
        serde_json::from_str(&params).map_err(|_| Error::params("id", "must be a string"))?;
    Ok(id)
}
