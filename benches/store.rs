//! Commits through the engine, alone and many at once, beside the bare disk; and the event log.
#![allow(missing_docs)]
#![allow(clippy::expect_used, reason = "a benchmark that cannot start should say so")]

use std::hint::black_box;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use muster::app::App;
use muster::config::Config;
use muster::model::task::Language;
use muster::store::{Draft, JOBS, JobRow};
use tokio::runtime::Runtime;

fn start() -> (Runtime, tempfile::TempDir, Arc<App>) {
    let runtime = Runtime::new().expect("runtime");
    let dir = tempfile::tempdir().expect("folder");
    let data_dir = dir.path().to_owned();
    let config = Config { data_dir, events_keep: 200_000, ..Config::default() };
    let app = runtime.block_on(async { App::start(config) }).expect("coordinator");
    (runtime, dir, app)
}

/// What one `job.create` writes: a row and an event that holds it.
async fn commit(app: &App) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let row = JobRow {
        script: "let total = 0; for n in inputs { total += n.len(); } total".to_owned(),
        language: Language::Osis,
        timeout: 60,
        retries: 0,
        env_vars: [("NAME".to_owned(), "value".to_owned())].into(),
        result: [].into(),
        prerequisites: vec![],
        depends: vec![],
        created_at: 0,
        updated_at: 0,
    };
    let change = move |turn: &mut muster::engine::Turn<'_>| {
        turn.put(JOBS, &(1, 1, id), &row)?;
        turn.emit(Draft {
            kind: "job.created",
            context_id: Some(1),
            subject: format!("job/1/1/{id}"),
            group: None,
            data:
                r#"{"id":1,"script":"let total = 0; for n in inputs { total += n.len(); } total"}"#
                    .to_owned(),
        });
        Ok(())
    };
    app.engine.change(change).await.expect("commit");
}

fn commits(c: &mut Criterion) {
    let (runtime, dir, app) = start();
    let mut group = c.benchmark_group("commit");
    let mut file = std::fs::File::create(dir.path().join("bare")).expect("file");
    group.throughput(Throughput::Elements(1));
    group.bench_function("bare append of 300 bytes and fdatasync", |b| {
        b.iter(|| {
            file.write_all(&[b'x'; 300]).expect("append");
            file.sync_data().expect("sync");
        });
    });
    for width in [1, 64, 256] {
        group.throughput(Throughput::Elements(width));
        group.bench_function(format!("{width} at once"), |b| {
            b.to_async(&runtime).iter(|| join_all((0..width).map(|_| commit(&app))));
        });
    }
    group.finish();
}

fn replay(c: &mut Criterion) {
    const EVENTS: u32 = 50_000;
    let (runtime, _dir, app) = start();
    for _ in 0..EVENTS / 500 {
        runtime.block_on(join_all((0..500).map(|_| commit(&app))));
    }
    let mut group = c.benchmark_group("events");
    group.throughput(Throughput::Elements(u64::from(EVENTS)));
    group.sample_size(10);
    group.bench_function("replay", |b| {
        b.iter(|| {
            let (mut since, mut bytes) = (0, 0);
            loop {
                let page = app.store.events(since, 256).expect("events");
                let Some(last) = page.last() else { break };
                since = last.seq;
                bytes += page.iter().map(|event| event.data.len()).sum::<usize>();
            }
            black_box(bytes)
        });
    });
    group.finish();
}

criterion_group!(benches, commits, replay);
criterion_main!(benches);
