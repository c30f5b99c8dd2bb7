//! Figures, not checks: `MUSTER_MEASURE=DIR cargo test --release --lib store::tests::measure -- --ignored
//! --nocapture --test-threads 1`, `fill` first.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Instant;

use crate::model::task::{JobStatus, Language};
use crate::store::*;

const JOBS_TOTAL: u32 = 1_000_000;

fn dir() -> PathBuf {
    std::env::var_os("MUSTER_MEASURE").map_or_else(|| "target/measure".into(), PathBuf::from)
}

#[expect(clippy::disallowed_methods, reason = "measures")]
fn now() -> Instant {
    Instant::now()
}

fn job(id: u32) -> JobRow {
    JobRow {
        script: format!("print('{id:0>220}')"),
        language: Language::Python,
        timeout: 60,
        retries: 3,
        env_vars: [("INPUT".to_owned(), format!("part-{id}"))].into(),
        result: Default::default(),
        prerequisites: vec![],
        depends: vec![id, id + 1],
        created_at: 1_790_000_000_000,
        updated_at: 1_790_000_000_000,
    }
}

fn task(id: u32, status: JobStatus) -> TaskRow {
    TaskRow {
        status,
        updated_at: 1_790_000_000_000,
        attempt: None,
        failures: 0,
        losses: 0,
        not_before: None,
        satisfied: vec![],
        result: Some(format!(r#"{{"words":"{id}","file":"part"}}"#)),
        reason: None,
        log_lines: 2,
    }
}

fn draft(id: u32, to: &str) -> Draft {
    Draft {
        kind: "job.status",
        context_id: Some(1),
        subject: format!("job/1/1/{id}"),
        group: Some("flow/1/1".to_owned()),
        data: format!(r#"{{"to":"{to}","attempt":1}}"#),
    }
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = |name: &str| status.lines().find(|l| l.starts_with(name)).unwrap_or("").to_owned();
    format!("{} {}", line("VmRSS"), line("VmHWM"))
}

fn du(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    entries.map(|p| if p.is_dir() { du(&p) } else { p.metadata().unwrap().blocks() * 512 }).sum()
}

#[test]
#[ignore = "measures"]
fn fill() {
    let _ = std::fs::remove_dir_all(dir());
    let store = Store::open(Options::new(dir())).unwrap();
    let started = now();
    for base in (0..JOBS_TOTAL).step_by(250) {
        let mut tx = store.begin();
        for id in base..base + 250 {
            tx.mark();
            tx.put(JOBS, &(1, 1, id), &job(id)).unwrap();
            tx.emit(1, draft(id, "Dispatched"));
        }
        store.submit(tx, |done| done.unwrap());
        for status in [JobStatus::Dispatched, JobStatus::Started, JobStatus::Finished] {
            let mut tx = store.begin();
            for id in base..base + 250 {
                let _: Option<TaskRow> = tx.get(TASKS, &(1, 1, id)).unwrap();
                tx.mark();
                tx.put(TASKS, &(1, 1, id), &task(id, status)).unwrap();
                tx.emit(1, draft(id, "Started"));
            }
            store.submit(tx, |done| done.unwrap());
        }
    }
    let wrote = started.elapsed().as_secs_f64();
    println!(
        "{:.0} jobs/s (4 changes, 4 events each), {}",
        f64::from(JOBS_TOTAL) / wrote,
        resident()
    );
    println!("{:?}", store.stats().unwrap());
    store.close();
    println!("closed after {:.2}", started.elapsed().as_secs_f64() - wrote);
    println!("{} bytes on disk per job", du(&dir()) / u64::from(JOBS_TOTAL));
}

#[test]
#[ignore = "measures"]
fn open() {
    println!("before {}", resident());
    let started = now();
    let store = Store::open(Options::new(dir())).unwrap();
    let opened = started.elapsed();
    store.get(JOBS, &(1, 1, 777_777)).unwrap().unwrap();
    println!("open {opened:?}, first read {:?}, {}", started.elapsed(), resident());
    println!("{:?}", store.stats().unwrap());
    let (started, mut found) = (now(), 0);
    for n in 0..200_000_u32 {
        let id = n.wrapping_mul(2_654_435_761) % 100_000;
        found += usize::from(store.get(JOBS, &(1, 1, id)).unwrap().is_some());
    }
    println!("{found} gets, {:.2} us each", started.elapsed().as_secs_f64() * 5.0);
    let (started, mut since, mut read) = (now(), store.oldest() - 1, 0);
    while let Some(last) = store.events(since, 256).unwrap().last() {
        (since, read) = (last.seq, read + 1);
    }
    println!("{read} pages of events, {:?}, {}", started.elapsed(), resident());
}

#[test]
#[ignore = "measures"]
fn smaller() {
    let started = now();
    println!("{:?} in {:?}", compact(&dir()).unwrap(), started.elapsed());
    println!("{} bytes on disk per job", du(&dir()) / u64::from(JOBS_TOTAL));
}

#[test]
#[ignore = "measures"]
fn latency() {
    let dir = tempfile::TempDir::new_in(".").unwrap();
    let store = Store::open(Options::new(dir.path())).unwrap();
    let mut times = vec![];
    let (sender, receiver) = mpsc::channel();
    for id in 0..2_000 {
        let started = now();
        let mut tx = store.begin();
        tx.put(JOBS, &(1, 1, id), &job(id)).unwrap();
        tx.emit(1, draft(id, "Started"));
        let sender = sender.clone();
        store.submit(tx, move |done| sender.send(done).unwrap());
        receiver.recv().unwrap().unwrap();
        times.push(started.elapsed());
    }
    times.sort();
    println!("commit p50 {:?} p90 {:?}", times[1_000], times[1_800]);
    let file = File::create(dir.path().join("raw")).unwrap();
    let mut raw = vec![];
    for n in 0..2_000 {
        use std::os::unix::fs::FileExt;
        let started = now();
        file.write_all_at(&[7; 512], n * 512).unwrap();
        file.sync_data().unwrap();
        raw.push(started.elapsed());
    }
    raw.sort();
    println!("raw append + fdatasync p50 {:?} p90 {:?}", raw[1_000], raw[1_800]);
}
