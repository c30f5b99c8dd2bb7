//! What a method *is*. Registration, the OpenRPC document, the REST route, the
//! access check, the command line and the typed client are all read off this.

mod access;
mod openrpc;
mod params;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

pub use access::Access;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt};
pub use openrpc::document;
pub use params::{Field, Shape};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};

use crate::app::{App, Caller, Cx};
use crate::{Code, Error, Result};

/// A call with one answer, implemented by its params type.
///
/// The doc comment of the params type is the method's documentation, and those
/// of its fields are the parameters'. Required fields come first.
pub trait Method: Serialize + DeserializeOwned + JsonSchema + Send + 'static {
    /// The result.
    type Output: Serialize + DeserializeOwned + JsonSchema + Send + 'static;
    /// Everything about it that is not code.
    const SPEC: Spec;
    /// Runs it.
    fn call(self, cx: Cx) -> impl Future<Output = Result<Self::Output>> + Send;
}

/// A call with many answers, over WebSocket.
pub trait Subscription: Serialize + DeserializeOwned + JsonSchema + Send + 'static {
    /// One notification.
    type Item: Serialize + DeserializeOwned + JsonSchema + Send + 'static;
    /// As for a method, with [`Spec::push`].
    const SPEC: Spec;
    /// Opens it; whoever drops the stream closes it.
    fn open(self, cx: Cx) -> impl Future<Output = Result<BoxStream<'static, Self::Item>>> + Send;
}

/// Everything about a method that is not code.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The name on the wire.
    pub name: &'static str,
    /// Who may call.
    pub access: Access,
    /// Where REST clients find it.
    pub rest: Option<Rest>,
    /// Errors of its own, besides those that its access rule brings.
    pub errors: &'static [Code],
    /// For a subscription: the notification's and the unsubscribe call's names.
    pub push: Option<(&'static str, &'static str)>,
    /// Published with one parameter called `params`, as the seed document has it.
    pub single: bool,
}

impl Spec {
    /// Nothing is public by omission: a method must say who may call it.
    pub const fn new(name: &'static str, access: Access) -> Self {
        Self { name, access, rest: None, errors: &[], push: None, single: false }
    }

    /// Binds it to a REST route; `{captures}` are named after params.
    pub const fn rest(mut self, verb: Verb, path: &'static str, status: u16) -> Self {
        self.rest = Some(Rest { verb, path, status });
        self
    }

    /// Lists errors of its own.
    pub const fn errors(mut self, errors: &'static [Code]) -> Self {
        self.errors = errors;
        self
    }

    /// Names what it sends and the call that ends it.
    pub const fn push(mut self, notification: &'static str, close: &'static str) -> Self {
        self.push = Some((notification, close));
        self
    }

    /// Publishes one parameter called `params`.
    pub const fn single(mut self) -> Self {
        self.single = true;
        self
    }
}

/// A REST route.
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    /// HTTP method.
    pub verb: Verb,
    /// Path.
    pub path: &'static str,
    /// Status of a good answer.
    pub status: u16,
}

/// The HTTP methods in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `GET`
    Get,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `DELETE`
    Delete,
}

impl Verb {
    /// As it appears on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// A result as it goes on the wire.
pub type Json = Box<RawValue>;
/// A subscription's notifications as they go on the wire.
pub type Items = BoxStream<'static, Json>;

/// A method with its types erased: one row of the table.
#[derive(Debug)]
pub struct Def {
    /// Everything about it that is not code.
    pub spec: Spec,
    /// How to run it.
    pub run: Run,
    params: fn(&mut SchemaGenerator) -> Schema,
    output: fn(&mut SchemaGenerator) -> Schema,
}

/// How to run a method on params that are one JSON object.
#[derive(Debug)]
pub enum Run {
    /// One answer.
    Call(fn(Cx, String) -> BoxFuture<'static, Result<Json>>),
    /// Many.
    Open(fn(Cx, String) -> BoxFuture<'static, Result<Items>>),
}

impl Def {
    /// The row of a method.
    pub const fn call<M: Method>() -> Self {
        let run = Run::Call(|cx, params| {
            Box::pin(async move { json(&parse::<M>(&params)?.call(cx).await?) })
        });
        Self { spec: M::SPEC, run, params: M::json_schema, output: schema::<M::Output> }
    }

    /// The row of a subscription.
    pub const fn open<S: Subscription>() -> Self {
        let run = Run::Open(|cx, params| {
            Box::pin(async move {
                let items = parse::<S>(&params)?.open(cx).await?;
                Ok(items.filter_map(|item| async move { json(&item).ok() }).boxed())
            })
        });
        Self { spec: S::SPEC, run, params: S::json_schema, output: schema::<S::Item> }
    }
}

/// A row with its schema worked out, once per process.
#[derive(Debug)]
pub struct Entry {
    /// The row.
    pub def: &'static Def,
    /// Its parameters and documentation.
    pub shape: Shape,
}

impl Entry {
    /// Prepares a row.
    pub fn new(def: &'static Def) -> Self {
        Self { def, shape: Shape::of(def, &mut params::generator(true)) }
    }

    /// The one way a call takes, whatever it came in by.
    ///
    /// A panic in a method is an internal error of that call alone.
    pub async fn call(&self, app: Arc<App>, caller: Caller, params: &str) -> Result<Json> {
        let params = self.admit(&app, caller, params)?;
        let Run::Call(call) = self.def.run else {
            return Err(Error::params("", "subscribe over WebSocket".to_owned()));
        };
        let answer =
            AssertUnwindSafe(call(Cx { app, caller, connection: 0 }, params)).catch_unwind().await;
        answer.unwrap_or_else(|_| Err(Error::Bug(format!("{} panicked", self.def.spec.name))))
    }

    /// The same for a subscription.
    pub async fn open(&self, app: Arc<App>, caller: Caller, params: &str) -> Result<Items> {
        let params = self.admit(&app, caller, params)?;
        match self.def.run {
            Run::Open(open) => open(Cx { app, caller, connection: 0 }, params).await,
            Run::Call(_) => Err(Error::params("", "not a subscription".to_owned())),
        }
    }

    fn admit(&self, app: &App, caller: Caller, params: &str) -> Result<String> {
        self.def.spec.access.check_identity(caller)?;
        let params = self.shape.normalize(params)?.into_owned();
        self.def.spec.access.check_context(caller, &params, &app.store)?;
        Ok(params)
    }
}

fn parse<T: DeserializeOwned>(params: &str) -> Result<T> {
    serde_json::from_str(params).map_err(|e| Error::params("", e.to_string()))
}

fn json(value: &impl Serialize) -> Result<Json> {
    to_raw_value(value).map_err(|e| Error::Bug(e.to_string()))
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[tokio::test]
    async fn a_panic_is_the_error_of_one_call() {
        static BROKEN: Def = Def {
            spec: Spec::new("test.panic", Access::Anyone),
            run: Run::Call(|_, _| Box::pin(async { panic!("on purpose") })),
            params: schema::<()>,
            output: schema::<()>,
        };
        let app = App::start(Config {
            data_dir: tempfile::tempdir().unwrap().path().into(),
            ..Config::default()
        })
        .unwrap();
        let answer = Entry::new(&BROKEN).call(app, Caller::Anonymous, "{}").await;
        assert_eq!(answer.unwrap_err().code(), Code::InternalError);
    }
}
