//! What it takes to check an advertisement: reading, encoding, the signature.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, reason = "a benchmark may stop")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use muster::config::{Directory, OwnAdvertisement};
use muster::face::adv::advertisement::{Statement, signed_bytes};
use muster::face::adv::own;
use muster::identity::{Json, NodeKey};

fn advertisement(criterion: &mut Criterion) {
    let key = NodeKey::from_secret(&[7; 32]);
    let about = OwnAdvertisement {
        endpoints: vec!["wss://node.example:443/peer".to_owned()],
        lifetime: Duration::from_secs(600),
        federation: None,
    };
    let text = own::make(&key, &about, 1, 1_900_000_000_000).unwrap();
    let text = text.get().as_bytes();
    let json = Json::read(text, 32).unwrap();
    let bytes = signed_bytes(&json);
    let signature = key.sign(&bytes);
    let rules = Directory::default();
    criterion.bench_function("read strictly", |b| b.iter(|| Json::read(black_box(text), 32)));
    criterion.bench_function("encode", |b| b.iter(|| signed_bytes(black_box(&json))));
    criterion.bench_function("verify", |b| {
        b.iter(|| key.public().verifies(black_box(&bytes), &signature));
    });
    criterion.bench_function("check", |b| {
        b.iter(|| Statement::read(black_box(text), &mut None, &rules).unwrap());
    });
}

criterion_group!(benches, advertisement);
criterion_main!(benches);
