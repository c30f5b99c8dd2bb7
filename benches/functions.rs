//! A work function over many slices: the whole way through a runner's process, beside bare QuickJS.
#![allow(missing_docs)]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a benchmark that cannot start should say so"
)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use muster::model::slices::{FunctionLanguage, Slice, SliceBatch};
use muster::runner::Stopper;
use muster::runner::executor::Limits;
use muster::runner::functions::{Functions, check_function};
use rquickjs::{Context, Function, Runtime, Value};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

/// Slices of a batch, as the coordinator cuts them.
const SLICES: u64 = 1_024;
const DOUBLE: &str = "(x) => x * 2";
/// What it is in a scope of its own.
const ALONE: &str = "(x) => x * 2 // this";

fn batch(function: &str, slices: u64) -> SliceBatch {
    let raw = |text: String| RawValue::from_string(text).expect("JSON");
    SliceBatch {
        function: function.to_owned(),
        args: raw("[]".to_owned()),
        public: raw("{}".to_owned()),
        slice_seconds: 30.0,
        slices: (1..=slices)
            .map(|number| Slice { number, datum: raw(number.to_string()) })
            .collect(),
    }
}

async fn run(functions: &Functions, batch: SliceBatch) -> usize {
    let (_stopper, stop) = Stopper::new();
    let (sender, mut receiver) = mpsc::channel(8);
    let running = functions.run(FunctionLanguage::JavaScript, batch, stop, sender);
    let counting = async {
        let mut count = 0;
        while let Some(reports) = receiver.recv().await {
            count += reports.len();
        }
        count
    };
    let (ran, count) = tokio::join!(running, counting);
    ran.expect("the batch runs");
    count
}

fn functions(c: &mut Criterion) {
    let mut group = c.benchmark_group("functions");
    group.throughput(Throughput::Elements(SLICES));
    let data: Vec<String> = (1..=SLICES).map(|number| number.to_string()).collect();
    let runtime = Runtime::new().expect("a runtime");
    let context = Context::full(&runtime).expect("a context");
    group.bench_function("1,024 calls, bare QuickJS", |b| {
        b.iter(|| {
            context.with(|ctx| {
                let function: Function<'_> = ctx.eval(DOUBLE).expect("a function");
                let mut bytes = 0;
                for datum in &data {
                    let datum = ctx.json_parse(datum.as_str()).expect("JSON");
                    let value: Value<'_> = function.call((datum,)).expect("a value");
                    let text = ctx.json_stringify(value).expect("JSON").expect("JSON");
                    bytes += text.to_string().expect("text").len();
                }
                bytes
            })
        });
    });
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("tokio");
    let executor = Functions::new(&Limits::default(), Some(env!("CARGO_BIN_EXE_muster").into()));
    group.bench_function("1,024 slices in one batch", |b| {
        b.to_async(&tokio).iter(|| run(&executor, batch(DOUBLE, SLICES)));
    });
    group.throughput(Throughput::Elements(2 * SLICES));
    group.bench_function("1,024 slices in each of two batches at once", |b| {
        b.to_async(&tokio).iter(|| async {
            tokio::join!(
                run(&executor, batch(DOUBLE, SLICES)),
                run(&executor, batch(DOUBLE, SLICES))
            )
        });
    });
    group.throughput(Throughput::Elements(SLICES));
    group.bench_function("1,024 slices, each in a scope of its own", |b| {
        b.to_async(&tokio).iter(|| run(&executor, batch(ALONE, SLICES)));
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("one slice alone", |b| {
        b.to_async(&tokio).iter(|| run(&executor, batch(DOUBLE, 1)));
    });
    group.bench_function("check_function", |b| {
        b.iter(|| check_function(FunctionLanguage::JavaScript, DOUBLE));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(std::time::Duration::from_secs(2)).warm_up_time(std::time::Duration::from_millis(500));
    targets = functions
}
criterion_main!(benches);
