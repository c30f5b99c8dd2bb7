//! Text to params and events to text.
#![allow(missing_docs)]
#![allow(clippy::expect_used, reason = "a benchmark that cannot start should say so")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use muster::bench::shape::{Shape, write_job};
use muster::face::core::flow::FlowCreate;
use muster::face::core::job::JobCreate;
use muster::model::event::Event;
use serde::Deserialize;
use serde_json::Value;

/// Params of `flow.submit`.
#[derive(Deserialize)]
struct Submit {
    flow: FlowCreate,
    jobs: Vec<JobCreate>,
}

fn params(c: &mut Criterion) {
    let mut group = c.benchmark_group("params");
    let submit = Shape::layered(100, 100).submit(1, 1);
    let bytes = |text: &str| Throughput::Bytes(u64::try_from(text.len()).unwrap_or(1));
    group.throughput(bytes(&submit));
    group.bench_function("flow.submit of 10,000 jobs", |b| {
        b.iter(|| {
            let submit: Submit = serde_json::from_str(black_box(&submit)).expect("params");
            submit.flow.jobs.len() + submit.jobs.len()
        });
    });
    group.bench_function("flow.submit of 10,000 jobs, bare JSON", |b| {
        b.iter(|| serde_json::from_str::<Value>(black_box(&submit)).expect("JSON"));
    });
    let mut job = String::new();
    write_job(&mut job, 7, 1, &[1, 2]);
    group.throughput(bytes(&job));
    group.bench_function("one job", |b| {
        b.iter(|| serde_json::from_str::<JobCreate>(black_box(&job)).expect("params"));
    });
    group.finish();
}

fn events(c: &mut Criterion) {
    let event = Event {
        seq: 123_456,
        at: 1_800_000_000_000,
        kind: "job.status".into(),
        context_id: Some(1),
        subject: "job/1/42/3".into(),
        group: Some("flow/1/9".into()),
        data: r#"{"from":"Started","to":"Finished","attempt":1,"runner_id":5,"flow_id":9}"#.into(),
        by: None,
    };
    c.bench_function("event to text", |b| b.iter(|| black_box(&event).to_json()));
}

criterion_group!(benches, params, events);
criterion_main!(benches);
