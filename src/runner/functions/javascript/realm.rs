//! Calls a work function over slices in QuickJS.
//!
//! Each slice is to find a fresh global scope, and making one takes a hundred times as long as calling
//! a small function. So a scope is used for many slices where they cannot notice: the *expression* is
//! evaluated anew for each slice, so that what it closes over is fresh; everything built in that it
//! can get hold of is frozen; what leads to prototypes, which cannot be frozen, is taken out of the scope
//! (`prelude.js`); and a source that names such a thing does not share ([`source::may_share`]). A
//! scope that a slice added a variable to, failed in, or left promises behind in is thrown away. All
//! slices of a batch belong to one job of one owner: this keeps them from depending on each other by
//! accident, and is no wall between strangers, which is the process.

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rquickjs::context::EvalOptions;
use rquickjs::function::Args;
use rquickjs::object::Filter;
use rquickjs::{Atom, Context, Ctx, Error, Function, Object, Persistent, Promise, Runtime, Value};
use tokio::time::Instant;

use super::super::funnel::Funnel;
use super::super::trim;
use super::source;
use super::teller::Teller;
use crate::model::slices::{Slice, SliceBatch, SliceReport};
use crate::runner::logs::head;

const PRELUDE: &str = include_str!("prelude.js");
/// Stack that JavaScript may take, bytes.
const STACK: usize = 4 << 20;
/// Batches of fewer slices are not worth the preparation of a scope that is shared.
const WORTH_SHARING: usize = 8;

/// Bounds on what a function may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Memory, bytes; 0 is no limit.
    pub(super) memory: usize,
    /// A result as JSON, bytes.
    pub(super) result: usize,
}

/// When the slice under way has to end.
#[derive(Debug)]
struct Watch {
    deadline: Cell<Option<Instant>>,
    late: Cell<bool>,
    stop: Arc<AtomicBool>,
}

impl Watch {
    /// Whether it has to end now.
    fn is_over(&self) -> bool {
        let late = self.deadline.get().is_some_and(|deadline| Instant::now() >= deadline);
        self.late.set(self.late.get() || late);
        late || self.is_stopped()
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// What is to become of a scope after a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// Good for the next slice.
    Clean,
    /// To be replaced.
    Used,
    /// To be replaced together with the runtime: jobs may be left in it, or memory.
    Broken,
}

/// Calls functions, one batch after another.
#[derive(Debug)]
pub(super) struct Interpreter {
    bounds: Bounds,
    stop: Arc<AtomicBool>,
    funnel: Arc<Funnel>,
    teller: Rc<Teller>,
    /// The scope of the batch before, good for more slices of the same function.
    warm: Option<Warm>,
}

/// A scope that is kept. The order of its members is that in which they have to go.
struct Place {
    kit: Option<Saved>,
    context: Context,
    engine: Engine,
}

/// A runtime, and what watches over it.
struct Engine {
    runtime: Runtime,
    watch: Rc<Watch>,
}

/// A scope that was made for a function.
struct Warm {
    function: String,
    public: String,
    place: Place,
}

impl std::fmt::Debug for Warm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Warm").field("function", &self.function).finish_non_exhaustive()
    }
}

impl Interpreter {
    /// One that reports to `funnel`, and stops once `stop` is set.
    pub(super) fn new(bounds: Bounds, stop: Arc<AtomicBool>, funnel: Arc<Funnel>) -> Self {
        let teller = Rc::new(Teller::new(Arc::clone(&funnel)));
        Self { bounds, stop, funnel, teller, warm: None }
    }

    fn engine(&self) -> Result<Engine, Error> {
        let runtime = Runtime::new()?;
        if self.bounds.memory > 0 {
            runtime.set_memory_limit(self.bounds.memory);
        }
        runtime.set_max_stack_size(STACK);
        let (deadline, late) = (Cell::new(None), Cell::new(false));
        let watch = Rc::new(Watch { deadline, late, stop: Arc::clone(&self.stop) });
        let watched = Rc::clone(&watch);
        runtime.set_interrupt_handler(Some(Box::new(move || watched.is_over())));
        Ok(Engine { runtime, watch })
    }

    fn place(&self, engine: Option<Engine>) -> Result<Place, Error> {
        let engine = engine.map_or_else(|| self.engine(), Ok)?;
        Ok(Place { kit: None, context: Context::full(&engine.runtime)?, engine })
    }

    /// Calls the function with every slice, until told to stop. Each result is written before the
    /// next slice begins if `cautious`.
    ///
    /// # Errors
    /// When not even an empty runtime can be made.
    pub(super) fn run(&mut self, batch: &SliceBatch, cautious: bool) -> Result<(), Error> {
        let source = trim(&batch.function);
        let same = |warm: &Warm| warm.function == source && warm.public == batch.public.get();
        let mut place = self.warm.take().filter(same).map(|warm| warm.place);
        let worth_it = place.is_some() || batch.slices.len() >= WORTH_SHARING;
        let course = Course {
            batch,
            source,
            may_share: worth_it && source::may_share(source),
            may_assign: source::may_assign(source),
            cautious,
            bounds: self.bounds,
            teller: &self.teller,
            funnel: &self.funnel,
        };
        let mut slices = batch.slices.iter().peekable();
        let mut engine = None;
        while slices.peek().is_some() && !self.stop.load(Ordering::Relaxed) {
            let mut there = match place.take() {
                Some(there) => there,
                None => self.place(engine.take())?,
            };
            let (kit, watch) = (&mut there.kit, &there.engine.watch);
            let scope = there.context.with(|ctx| course.follow(&ctx, watch, kit, &mut slices));
            match scope {
                Scope::Clean => place = Some(there),
                Scope::Used if !there.engine.runtime.is_job_pending() => {
                    engine = Some(there.engine);
                }
                // Should it fail to end, nothing is lost.
                Scope::Used | Scope::Broken => self.funnel.flush(),
            }
        }
        let (function, public) = (source.to_owned(), batch.public.get().to_owned());
        self.warm = place.map(|place| Warm { function, public, place });
        Ok(())
    }
}

/// How work functions are compiled: not strict, as their authors are used to.
pub(super) fn sloppy() -> EvalOptions {
    let mut options = EvalOptions::default();
    options.strict = false;
    options.filename = Some("work.js".to_owned());
    options
}

/// One batch on its way.
struct Course<'a> {
    batch: &'a SliceBatch,
    source: &'a str,
    may_share: bool,
    may_assign: bool,
    cautious: bool,
    bounds: Bounds,
    teller: &'a Rc<Teller>,
    funnel: &'a Funnel,
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
struct Saved {
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
    fn follow<'s>(
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
        let tools: Object<'_> = prelude.call((tell, self.batch.public.get(), self.may_share))?;
        // On one line, so that lines of the source keep their numbers.
        let make = format!("(function () {{ return ({}\n); }})", self.source);
        let make = ctx.eval_with_options(make, sloppy())?;
        let globals = count_globals(ctx);
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
