//! Rows of the method table, and the one way a call takes through them.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tracing::Instrument;

use super::access::Needed;
use super::{Items, Method, RestRequest, Shape, Spec, Subscription, misfit, params};
use crate::access::{Refusals, Seen, Standing};
use crate::app::Cx;
use crate::engine::acting_for;
use crate::telemetry::Stopwatch;
use crate::{Code, Error, Result};

/// A result as it goes on the wire, serialised once.
pub type Json = Box<RawValue>;
/// The same for a REST client, with the status where it is not that of the route.
type Answer = (Json, Option<u16>);
/// A call on its way, or why its params do not fit.
type Begun<T> = Result<BoxFuture<'static, Result<T>>>;

/// A method with its types erased: one row of the table.
#[derive(Debug)]
pub struct Def {
    /// Everything about it that is not code.
    pub spec: Spec,
    /// How to run it.
    pub run: Run,
    /// Runs it on a REST request that it reads itself; none where the generic way does.
    rest: fn(Cx, &RestRequest<'_>) -> Option<Begun<Answer>>,
    /// The params type itself, its own schema written out.
    pub(super) params: fn(&mut SchemaGenerator) -> Schema,
    /// A reference to it, under its published name.
    pub(super) named: fn(&mut SchemaGenerator) -> Schema,
    pub(super) output: fn(&mut SchemaGenerator) -> Schema,
}

/// How to run a method on params that are one JSON object.
#[derive(Debug)]
pub enum Run {
    /// One answer.
    Call(fn(Cx, &str) -> Begun<Json>),
    /// Many.
    Open(fn(Cx, &str) -> Begun<Items>),
}

impl Def {
    /// The row of a method.
    pub const fn call<M: Method>() -> Self {
        let run = Run::Call(|cx, params| {
            let method: M = misfit::parse(params)?;
            Ok(Box::pin(async move { M::render(method.call(cx).await?) }))
        });
        let rest = |cx: Cx, request: &RestRequest<'_>| {
            let method = M::from_rest(request)?;
            Some(method.map(|method| -> BoxFuture<'static, Result<Answer>> {
                Box::pin(async move {
                    let output = method.call(cx).await?;
                    let status = M::rest_status(&output);
                    Ok((M::render(output)?, status))
                })
            }))
        };
        Self {
            spec: M::SPEC,
            run,
            rest,
            params: M::json_schema,
            named: schema::<M>,
            output: schema::<M::Output>,
        }
    }

    /// The row of a subscription.
    pub const fn open<S: Subscription>() -> Self {
        let run = Run::Open(|cx, params| {
            let subscription: S = misfit::parse(params)?;
            Ok(Box::pin(subscription.open(cx)))
        });
        Self {
            spec: S::SPEC,
            run,
            rest: |_, _| None,
            params: S::json_schema,
            named: schema::<S>,
            output: schema::<S::Item>,
        }
    }
}

/// A row with its schema worked out, once per process.
#[derive(Debug)]
pub struct Entry {
    /// The row.
    pub def: &'static Def,
    /// Its parameters and documentation.
    pub shape: Shape,
    /// Its place in the table.
    pub index: usize,
}

impl Entry {
    /// Prepares the row at `index` of the table.
    pub fn new((index, def): (usize, &'static Def)) -> Self {
        Self { def, shape: Shape::of(def, &mut params::generator(true)), index }
    }

    /// The one way a call takes, whatever it came in by.
    ///
    /// A panic in a method is an internal error of that call alone.
    ///
    /// # Errors
    /// Whatever the access rule, the params or the method say.
    pub async fn call(&self, cx: Cx, params: &str) -> Result<Json> {
        let Run::Call(call) = self.def.run else {
            return Err(Error::params("", "a subscription: open it over WebSocket"));
        };
        let begin = |cx: Cx| {
            self.def.spec.take_turn(&cx)?;
            self.begin(cx, params, call, &mut None)
        };
        let answer = self.run(cx, begin).await;
        answer.map_err(|err| self.def.spec.worded(err))
    }

    /// The same for a REST request, whose turn is taken already, with the status where it is not
    /// that of the route; `merged` makes one object of it where the method does not read it itself.
    ///
    /// # Errors
    /// As [`Entry::call`], and whatever `merged` says.
    pub async fn call_rest(
        &self,
        cx: Cx,
        request: &RestRequest<'_>,
        merged: impl FnOnce(&RestRequest<'_>) -> Result<String>,
    ) -> Result<(Json, Option<u16>)> {
        let Run::Call(call) = self.def.run else {
            return Err(Error::params("", "a subscription: open it over WebSocket"));
        };
        let begin = |cx: Cx| {
            self.def.spec.access.check_identity(cx.caller)?;
            match (self.def.rest)(cx.clone(), request) {
                Some(begun) => begun,
                None => {
                    let begun = self.begin(cx, &merged(request)?, call, &mut None)?;
                    Ok(begun.map(|answer| answer.map(|json| (json, None))).boxed())
                }
            }
        };
        self.run(cx, begin).await
    }

    /// The same for a subscription.
    ///
    /// # Errors
    /// As [`Entry::call`].
    pub async fn open(&self, cx: Cx, params: &str) -> Result<Items> {
        let Run::Open(open) = self.def.run else {
            return Err(Error::params("", "not a subscription"));
        };
        let (app, grant, mut needed) = (cx.app.clone(), cx.grant.clone(), None);
        let answer = self.run(cx, |cx| self.begin(cx, params, open, &mut needed)).await;
        let items = answer.map_err(|err| self.def.spec.worded(err))?;
        Ok(items.watched(Standing::new(app, grant, needed)))
    }

    async fn run<T>(&self, cx: Cx, begin: impl FnOnce(Cx) -> Begun<T>) -> Result<T> {
        let (app, visitor) = (cx.app.clone(), cx.visitor.clone());
        let request = app.metrics.next_request();
        let method = self.def.spec.name;
        let seen = Seen { caller: cx.caller, grant: cx.grant.clone() };
        let by = visitor.by(&seen, method);
        let span = tracing::info_span!("call", connection = cx.connection, request, method);
        let watch = Stopwatch::start();
        let answer = async {
            let begun = AssertUnwindSafe(async { begin(cx)?.await });
            let answer = begun.catch_unwind().await;
            answer.unwrap_or_else(|_| Err(Error::Bug(format!("{method} panicked"))))
        };
        let mut answer = acting_for(by, answer.instrument(span)).await;
        if let Err(err) = &mut answer
            && matches!(err.code(), Code::Unauthenticated | Code::Forbidden)
        {
            if err.code() == Code::Unauthenticated && visitor.showed_wrong((app.now)()) {
                app.metrics.auth_failures.inc();
                match app.keeper.failed(visitor.from()) {
                    Ok(()) => tracing::warn!(method, from = ?visitor.from(), "wrong credentials"),
                    // A face that knows them itself sees to it that guessing costs enough.
                    Err(_) if matches!(err, Error::Refused(_)) => {}
                    Err(wait) => *err = wait,
                }
            }
            Refusals::note(&app, visitor.by(&seen, method), err.code());
        }
        app.metrics.called(self.index, watch, answer.as_ref().err().map(Error::code));
        answer
    }

    /// Access, spelling of the params, the context's role, then the method's own parsing.
    fn begin<T>(
        &self,
        cx: Cx,
        params: &str,
        run: fn(Cx, &str) -> Begun<T>,
        needed: &mut Option<Needed>,
    ) -> Begun<T> {
        let spec = &self.def.spec;
        spec.access.check_identity(cx.caller)?;
        let params = self.shape.normalize(params)?;
        *needed = spec.access.check_context(&cx, spec.scope, &params)?;
        run(cx, &params)
    }
}

pub(super) fn json(value: &impl Serialize) -> Result<Json> {
    to_raw_value(value).map_err(|e| Error::Bug(e.to_string()))
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{App, Caller};
    use crate::config::Config;
    use crate::method::Access;

    #[tokio::test]
    async fn a_panic_is_the_error_of_one_call() {
        static BROKEN: Def = Def {
            spec: Spec::new("test.panic", Access::Anyone),
            run: Run::Call(|_, _| Ok(Box::pin(async { panic!("on purpose") }))),
            rest: |_, _| None,
            params: schema::<()>,
            named: schema::<()>,
            output: schema::<()>,
        };
        let dir = tempfile::tempdir().unwrap();
        let config = Config { data_dir: dir.path().into(), ..Config::default() };
        let cx = Cx::inside(App::start(config).unwrap(), Caller::Anonymous);
        let answer = Entry::new((0, &BROKEN)).call(cx, "{}").await;
        assert_eq!(answer.unwrap_err().code(), Code::InternalError);
    }
}
