//! What a method *is*. Registration, the OpenRPC document, the REST route, the
//! access check, the command line and the typed client are all read off this.

mod access;
mod codegen;
mod elements;
mod entry;
mod feed;
mod member;
mod misfit;
mod openapi;
mod openrpc;
mod params;
mod rest;
mod schema;
mod spec;

use std::future::Future;

pub use access::Access;
pub use codegen::{codegen_document, codegen_name};
pub(crate) use elements::first_elements;
pub use entry::{Def, Entry, Json, Run};
pub(crate) use feed::LastWords;
pub use feed::{Items, Note, feed};
pub use openapi::{openapi_at, openapi_document};
pub use openrpc::{document, with_servers};
pub use params::{Field, Shape};
pub use rest::{Captures, RestFault, RestRequest, RestStyle, percent_decoded};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
pub use spec::{Push, Rest, Spec, Verb};

use crate::Result;
use crate::app::Cx;

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
    /// Reads a request to its route, where merging path, query and body into one object does not
    /// do. Not for methods whose access rule is about a context.
    fn from_rest(_: &RestRequest<'_>) -> Option<Result<Self>> {
        None
    }
    /// The status of a good answer to a request that [`Method::from_rest`] read, where it is not
    /// always the one of the route.
    fn rest_status(_: &Self::Output) -> Option<u16> {
        None
    }
    /// The result as it goes on the wire; for a result that holds its text already.
    ///
    /// # Errors
    /// [`Error::Bug`](crate::Error::Bug) when it does not serialise.
    fn render(output: Self::Output) -> Result<Json> {
        entry::json(&output)
    }
}

/// A call with many answers, over WebSocket.
pub trait Subscription: Serialize + DeserializeOwned + JsonSchema + Send + 'static {
    /// One notification, as the document describes it.
    type Item: Serialize + DeserializeOwned + JsonSchema + Send + 'static;
    /// As for a method, with [`Spec::push`].
    const SPEC: Spec;
    /// Opens it; whoever drops the items closes it.
    ///
    /// What happens once this has returned is not missed.
    fn open(self, cx: Cx) -> impl Future<Output = Result<Items>> + Send;
}
