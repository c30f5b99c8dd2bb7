//! Everything about a method that is not code.

use super::{Access, Captures, RestFault, RestStyle};
use crate::app::Cx;
use crate::{Code, Error, Result};

/// Name, access rule, REST binding and documented errors of a method.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The name on the wire.
    pub name: &'static str,
    /// Who may call.
    pub access: Access,
    /// The param that names the context, for rules about a context.
    pub scope: &'static str,
    /// Where REST clients find it.
    pub rest: Option<Rest>,
    /// Errors of its own, besides those that its access rule brings.
    pub errors: &'static [Code],
    /// For a subscription: what it sends and how it is ended.
    pub push: Option<Push>,
    /// Published with one parameter called `params`, as the seed document has it.
    pub single: bool,
    /// How its face words refusals; none: as the core face does.
    pub style: Option<&'static RestStyle>,
    /// What a caller must have left before anything of his request is looked at.
    pub turn: Option<fn(&Cx) -> Result<()>>,
}

impl Spec {
    /// Nothing is public by omission: a method must say who may call it.
    pub const fn new(name: &'static str, access: Access) -> Self {
        Self {
            name,
            access,
            scope: "context_id",
            rest: None,
            errors: &[],
            push: None,
            single: false,
            style: None,
            turn: None,
        }
    }

    /// Binds it to a REST route; `{captures}` are named after params.
    pub const fn rest(mut self, verb: Verb, path: &'static str, status: u16) -> Self {
        self.rest = Some(Rest {
            verb,
            path,
            also: &[],
            status,
            more: &[],
            body: None,
            style: &RestStyle::CORE,
        });
        self
    }

    /// Statuses that its route answers besides `status` and those of its errors, and what each of
    /// them says.
    pub const fn answers(mut self, more: &'static [(u16, &'static str)]) -> Self {
        if let Some(rest) = &mut self.rest {
            rest.more = more;
        }
        self
    }

    /// Further paths to the same route.
    pub const fn also(mut self, paths: &'static [&'static str]) -> Self {
        if let Some(rest) = &mut self.rest {
            rest.also = paths;
        }
        self
    }

    /// The param that the whole body of a request is.
    pub const fn body(mut self, param: &'static str) -> Self {
        if let Some(rest) = &mut self.rest {
            rest.body = Some(param);
        }
        self
    }

    /// How its route reads requests, and how refusals are worded on every transport, where not as
    /// the core face does. To be called after [`Spec::rest`], if that is.
    pub const fn style(mut self, style: &'static RestStyle) -> Self {
        self.style = Some(style);
        if let Some(rest) = &mut self.rest {
            rest.style = style;
        }
        self
    }

    /// Takes a turn of the caller before anything of his request is looked at; it may refuse with
    /// [`Error::TooOften`].
    pub const fn turn(mut self, take: fn(&Cx) -> Result<()>) -> Self {
        self.turn = Some(take);
        self
    }

    /// Takes the turn that a call costs.
    ///
    /// # Errors
    /// [`Error::TooOften`] when the caller has none left.
    pub fn take_turn(&self, cx: &Cx) -> Result<()> {
        self.turn.map_or(Ok(()), |take| take(cx))
    }

    /// An error in the words of the method's face.
    pub(super) fn worded(&self, err: Error) -> Error {
        let Some(style) = self.style.filter(|_| !matches!(err, Error::Refused(_))) else {
            return err;
        };
        if let Error::Store(cause) = &err {
            tracing::error!(error = %cause, "storage failed");
        }
        (style.refuse)(&RestFault::Error(&err), &Captures::default()).into()
    }

    /// Lists errors of its own.
    pub const fn errors(mut self, errors: &'static [Code]) -> Self {
        self.errors = errors;
        self
    }

    /// Names what it sends and the call that ends it.
    pub const fn push(mut self, notification: &'static str, unsubscribe: &'static str) -> Self {
        self.push = Some(Push { notification, unsubscribe });
        self
    }

    /// Publishes one parameter called `params`.
    pub const fn single(mut self) -> Self {
        self.single = true;
        self
    }

    /// Names the param that holds the context's id, where it is not `context_id`.
    pub const fn scope(mut self, param: &'static str) -> Self {
        self.scope = param;
        self
    }
}

/// What a subscription sends and how it is ended.
#[derive(Clone, Copy, Debug)]
pub struct Push {
    /// The method name of its notifications.
    pub notification: &'static str,
    /// The call that ends it; subscriptions of one namespace share it.
    pub unsubscribe: &'static str,
}

/// A REST route.
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    /// HTTP method.
    pub verb: Verb,
    /// Path.
    pub path: &'static str,
    /// Further paths to it.
    pub also: &'static [&'static str],
    /// Status of a good answer; 204 has no body.
    pub status: u16,
    /// Further statuses, and what each of them says.
    pub more: &'static [(u16, &'static str)],
    /// The param that the whole body is; none: the body's members are params.
    pub body: Option<&'static str>,
    /// How it reads requests and words its refusals.
    pub style: &'static RestStyle,
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
