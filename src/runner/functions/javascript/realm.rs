//! Calls a work function over slices in QuickJS.
//!
//! Each slice is to find a fresh global scope, and making one takes a hundred times as long as calling
//! a small function. So a scope is used for many slices where they cannot notice: the *expression* is
//! evaluated anew for each slice, so that what it closes over is fresh; everything built in that it
//! can get hold of is frozen; what leads to prototypes, which cannot be frozen, is taken out of the scope
//! (`share.js`); and a source that names such a thing does not share ([`may_share`](super::source::may_share)). A
//! scope that a slice added a variable to, failed in, or left promises behind in is thrown away. All
//! slices of a batch belong to one job of one owner: this keeps them from depending on each other by
//! accident, and is no wall between strangers, which is the process.

use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use rquickjs::function::Args;
use rquickjs::object::Filter;
use rquickjs::{Atom, Ctx, Error, Function, Object, Persistent, Promise, Value};
use tokio::time::Instant;

use super::super::funnel::Funnel;
use super::interpreter::{Bounds, Scope, Watch, sloppy};
use super::teller::Teller;
use crate::model::slices::{Slice, SliceBatch, SliceReport};
use crate::runner::logs::head;

const PRELUDE: &str = include_str!("prelude.js");
const SHARE: &str = include_str!("share.js");

/// One batch on its way.
#[derive(Clone, Copy)]
pub(super) struct Course<'a> {
    pub(super) batch: &'a SliceBatch,
    pub(super) source: &'a str,
    pub(super) may_share: bool,
    pub(super) may_assign: bool,
    pub(super) cautious: bool,
    pub(super) bounds: Bounds,
    pub(super) teller: &'a Rc<Teller>,
    pub(super) funnel: &'a Funnel,
}

/// What a scope has been prepared with.
struct Kit<'js> {
    /// Evaluates the expression.
    make: Function<'js>,
    describe: Function<'js>,
    wait_for: Function<'js>,
    /// Own properties of the global object.
    globals: usize,
}

/// The same between two batches.
pub(super) struct Saved {
    make: Persistent<Function<'static>>,
    describe: Persistent<Function<'static>>,
    wait_for: Persistent<Function<'static>>,
    globals: usize,
}

impl<'js> Kit<'js> {
    fn save(self, ctx: &Ctx<'js>) -> Saved {
        let save = |function| Persistent::save(ctx, function);
        let Self { make, describe, wait_for, globals } = self;
        Saved { make: save(make), describe: save(describe), wait_for: save(wait_for), globals }
    }

    fn restore(saved: Saved, ctx: &Ctx<'js>) -> Result<Self, Error> {
        Ok(Self {
            make: saved.make.restore(ctx)?,
            describe: saved.describe.restore(ctx)?,
            wait_for: saved.wait_for.restore(ctx)?,
            globals: saved.globals,
        })
    }
}

/// Why a slice failed.
#[derive(Debug)]
struct Failure {
    name: String,
    message: String,
}

impl Failure {
    fn new(name: &str, message: impl Into<String>) -> Self {
        Self { name: name.to_owned(), message: message.into() }
    }
}

impl Course<'_> {
    /// Calls the function with as many slices as this scope is good for.
    pub(super) fn follow<'s>(
        &self,
        ctx: &Ctx<'_>,
        watch: &Watch,
        saved: &mut Option<Saved>,
        slices: &mut impl Iterator<Item = &'s Slice>,
    ) -> Scope {
        let mut kit = saved.take().and_then(|saved| Kit::restore(saved, ctx).ok());
        let mut began = Instant::now();
        let limit = Duration::try_from_secs_f64(self.batch.slice_seconds).unwrap_or(Duration::MAX);
        for slice in slices {
            watch.deadline.set(began.checked_add(limit));
            watch.late.set(false);
            self.teller.begin(slice.number);
            let called =
                self.prepared(ctx, &mut kit).and_then(|kit| self.call(ctx, kit, slice, watch));
            let called = called.map_err(|err| self.explain(ctx, &err, kit.as_ref(), watch));
            if watch.is_stopped() {
                return Scope::Broken;
            }
            let ended = Instant::now();
            self.teller.end();
            let failed = self.report(slice.number, ended - began, called);
            began = ended;
            if self.cautious {
                self.funnel.flush();
            }
            let left = self.after(ctx, kit.as_ref(), watch, failed);
            if left != Scope::Clean {
                return left;
            }
        }
        *saved = kit.map(|kit| kit.save(ctx));
        Scope::Clean
    }

    fn prepared<'k, 'js>(
        &self,
        ctx: &Ctx<'js>,
        kit: &'k mut Option<Kit<'js>>,
    ) -> Result<&'k Kit<'js>, Error> {
        if kit.is_none() {
            *kit = Some(self.prepare(ctx)?);
        }
        kit.as_ref().ok_or(Error::Unknown)
    }

    fn prepare<'js>(&self, ctx: &Ctx<'js>) -> Result<Kit<'js>, Error> {
        let teller = Rc::clone(self.teller);
        let tell = move |kind: String, first: String, second: String| {
            teller.tell(&kind, first, second);
        };
        let prelude: Function<'_> = ctx.eval_with_options(PRELUDE, sloppy())?;
        let tell = Function::new(ctx.clone(), tell)?;
        let tools: Object<'_> = prelude.call((tell, self.batch.public.get()))?;
        if self.may_share {
            ctx.eval_with_options::<(), _>(SHARE, sloppy())?;
        }
        // On one line, so that lines of the source keep their numbers.
        let make = format!("(function () {{ return ({}\n); }})", self.source);
        let make = ctx.eval_with_options(make, sloppy())?;
        let globals = if self.may_share { count_globals(ctx) } else { 0 };
        let (describe, wait_for) = (tools.get("describe")?, tools.get("waitFor")?);
        Ok(Kit { make, describe, wait_for, globals })
    }

    /// The result as JSON.
    fn call<'js>(
        &self,
        ctx: &Ctx<'js>,
        kit: &Kit<'js>,
        slice: &Slice,
        watch: &Watch,
    ) -> Result<Option<rquickjs::String<'js>>, Error> {
        let function: Value<'_> = kit.make.call(())?;
        let Some(function) = function.into_function() else {
            return Err(rquickjs::Exception::throw_type(ctx, "the source is not a function"));
        };
        let datum = ctx.json_parse(slice.datum.get())?;
        let value: Value<'_> = if self.batch.args.get() == "[]" {
            function.call((datum,))?
        } else {
            let all: Vec<Value<'_>> =
                rquickjs::FromJs::from_js(ctx, ctx.json_parse(self.batch.args.get())?)?;
            let mut args = Args::new(ctx.clone(), all.len() + 1);
            args.push_arg(datum)?;
            args.push_args(all)?;
            function.call_arg(args)?
        };
        let value = if value.is_object() { settled(ctx, kit, value, watch)? } else { value };
        ctx.json_stringify(value)
    }

    /// What to report of an error.
    fn explain<'js>(
        &self,
        ctx: &Ctx<'js>,
        err: &Error,
        kit: Option<&Kit<'js>>,
        watch: &Watch,
    ) -> Failure {
        let thrown = err.is_exception().then(|| ctx.catch());
        if watch.late.get() {
            let limit = self.batch.slice_seconds;
            return Failure::new("TimeoutError", format!("the slice took longer than {limit} s"));
        }
        if let Some(reason) = self.teller.rejected() {
            return Failure::new("Rejected", reason);
        }
        let described = thrown.map(|thrown| match kit {
            Some(kit) => kit.describe.call::<_, Vec<String>>((thrown,)),
            None => plainly(&thrown),
        });
        let failure = match described {
            Some(Ok(parts)) => {
                let mut parts = parts.into_iter();
                let mut next = || parts.next().unwrap_or_default();
                let (name, message, stack) = (next(), next(), next());
                let stack = stack.trim_end();
                let message =
                    if stack.is_empty() { message } else { format!("{message}\n{stack}") };
                Failure { name, message }
            }
            // Not even that could be said.
            Some(Err(_)) => {
                ctx.catch();
                Failure::new("InternalError", "out of memory, or of stack")
            }
            None if matches!(err, Error::WouldBlock) => {
                Failure::new("Error", "the promise that was returned never settles")
            }
            None => Failure::new("Error", err.to_string()),
        };
        // Describing runs code of the function's own, such as getters.
        if watch.late.get() {
            let limit = self.batch.slice_seconds;
            return Failure::new("TimeoutError", format!("the slice took longer than {limit} s"));
        }
        failure
    }

    /// Answers whether it failed.
    fn report(
        &self,
        number: u64,
        took: Duration,
        called: Result<Option<rquickjs::String<'_>>, Failure>,
    ) -> bool {
        let micros = took.as_micros();
        let failure = match called.map(|value| value.map(|value| value.to_string()).transpose()) {
            Ok(Ok(value)) => {
                let value = value.as_deref().unwrap_or("null");
                if value.len() <= self.bounds.result {
                    self.funnel.push(|line| {
                        let _ = write!(
                            line,
                            r#"{{"finished":{{"number":{number},"value":{value},"seconds":{micros}e-6}}}}"#
                        );
                    });
                    return false;
                }
                let most = self.bounds.result;
                Failure::new("RangeError", format!("the result is larger than {most} bytes"))
            }
            Ok(Err(err)) => Failure::new("Error", err.to_string()),
            Err(failure) => failure,
        };
        let Failure { name, message } = failure;
        self.funnel.report(&SliceReport::Failed {
            number,
            name: head(&name, 200).to_owned(),
            message: head(&message, super::super::TEXT_BYTES).to_owned(),
            seconds: took.as_secs_f64(),
        });
        true
    }

    fn after(&self, ctx: &Ctx<'_>, kit: Option<&Kit<'_>>, watch: &Watch, failed: bool) -> Scope {
        if watch.late.get() {
            return Scope::Broken;
        }
        // Whatever is left to do would do it to the next slice. The first piece of it tells.
        if ctx.execute_pending_job() {
            return Scope::Broken;
        }
        if failed || !self.may_share {
            return Scope::Used;
        }
        let same = !self.may_assign || kit.is_some_and(|kit| kit.globals == count_globals(ctx));
        if same { Scope::Clean } else { Scope::Used }
    }
}

/// Waits for a promise, or whatever has a `then`, by doing what is left to do.
fn settled<'js>(
    ctx: &Ctx<'js>,
    kit: &Kit<'js>,
    value: Value<'js>,
    watch: &Watch,
) -> Result<Value<'js>, Error> {
    let promise: Value<'_> =
        if value.is_promise() { value } else { kit.wait_for.call((value,))? };
    let Some(promise) = promise.as_promise().cloned() else { return Ok(promise) };
    settle(ctx, &promise, watch)
}

fn settle<'js>(ctx: &Ctx<'js>, promise: &Promise<'js>, watch: &Watch) -> Result<Value<'js>, Error> {
    loop {
        if let Some(settled) = promise.result() {
            return settled;
        }
        // Each job may be short and make the next.
        if watch.is_over() || !ctx.execute_pending_job() {
            return Err(Error::WouldBlock);
        }
    }
}

fn count_globals(ctx: &Ctx<'_>) -> usize {
    ctx.globals().own_keys::<Atom<'_>>(Filter::new().string().symbol()).len()
}

/// What was thrown before the prelude could be asked.
fn plainly(thrown: &Value<'_>) -> Result<Vec<String>, Error> {
    let Some(error) = thrown.as_object() else { return Ok(vec!["Error".to_owned()]) };
    Ok(vec![error.get("name")?, error.get("message")?])
}
