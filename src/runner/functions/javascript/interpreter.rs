//! Calls work functions, one batch after another, in scopes that it makes, keeps and throws away.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rquickjs::context::EvalOptions;
use rquickjs::{Context, Error, Runtime};
use tokio::time::Instant;

use super::super::funnel::Funnel;
use super::super::trim;
use super::realm::{Course, Saved};
use super::source;
use super::teller::Teller;
use crate::model::slices::{Slice, SliceBatch};

/// Stack that JavaScript may take, bytes.
const STACK: usize = 4 << 20;
/// Memory that is taken before the first look for what can be freed, bytes: a few scopes.
const COLLECT: usize = 4 << 20;
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
pub(super) struct Watch {
    pub(super) deadline: Cell<Option<Instant>>,
    pub(super) late: Cell<bool>,
    stop: Arc<AtomicBool>,
}

impl Watch {
    /// Whether it has to end now.
    pub(super) fn is_over(&self) -> bool {
        let late = self.deadline.get().is_some_and(|deadline| Instant::now() >= deadline);
        self.late.set(self.late.get() || late);
        late || self.is_stopped()
    }

    /// Whether everything has to.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// What is to become of a scope after a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
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
        runtime.set_gc_threshold(COLLECT);
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
        let alike = !source::may_name_hidden(batch.args.get());
        let shared = Course {
            batch,
            source,
            may_share: worth_it && alike && source::may_share(source),
            may_assign: source::may_assign(source),
            cautious,
            bounds: self.bounds,
            teller: &self.teller,
            funnel: &self.funnel,
        };
        let alone = Course { may_share: false, ..shared };
        let mut slices = batch.slices.iter().peekable();
        let mut engine = None;
        while let Some(slice) = slices.peek()
            && !self.stop.load(Ordering::Relaxed)
        {
            let shares =
                |slice: &Slice| !shared.may_share || !source::may_name_hidden(slice.datum.get());
            let with_others = shares(slice);
            let kept = if with_others { place.take() } else { None };
            let mut there = match kept {
                Some(there) => there,
                None => self.place(engine.take())?,
            };
            let (kit, watch) = (&mut there.kit, &there.engine.watch);
            let scope = there.context.with(|ctx| {
                if with_others {
                    let mut run = std::iter::from_fn(|| slices.next_if(|slice| shares(slice)));
                    shared.follow(&ctx, watch, kit, &mut run)
                } else {
                    alone.follow(&ctx, watch, kit, &mut slices)
                }
            });
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
