//! Deterministic CBOR (RFC 8949, section 4.2.1) of JSON content: one content, one sequence of bytes.

use minicbor::Encoder;

use super::Json;

/// The encoding of a value.
pub fn encode(value: &Json) -> Vec<u8> {
    let mut out = Encoder::new(Vec::with_capacity(1_024));
    write(value, &mut out);
    out.into_writer()
}

/// The encoding of an object without one of its members; of anything else as it is.
pub fn encode_without(value: &Json, left_out: &str) -> Vec<u8> {
    let mut out = Encoder::new(Vec::with_capacity(1_024));
    match value {
        Json::Object(members) => {
            object(members.iter().filter(|(key, _)| key != left_out), &mut out);
        }
        other => write(other, &mut out),
    }
    out.into_writer()
}

type Out = Encoder<Vec<u8>>;

/// The depth of a [`Json`] is bounded by its reader.
fn write(value: &Json, out: &mut Out) {
    // Writing to memory does not fail.
    let _ = match value {
        Json::Null => out.null().map(drop),
        Json::Bool(on) => out.bool(*on).map(drop),
        Json::Unsigned(number) => out.u64(*number).map(drop),
        Json::Negative(number) => out.i64(*number).map(drop),
        Json::Float(number) => return float(*number, out),
        Json::String(text) => out.str(text).map(drop),
        Json::Array(items) => {
            let head = out.array(length(items.len())).map(drop);
            for item in items {
                write(item, out);
            }
            head
        }
        Json::Object(members) => return object(members.iter(), out),
    };
}

fn object<'a>(members: impl Iterator<Item = &'a (String, Json)>, out: &mut Out) {
    let mut members: Vec<&(String, Json)> = members.collect();
    // The encoded key begins with its length.
    members.sort_unstable_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
    let _ = out.map(length(members.len()));
    for (key, value) in members {
        let _ = out.str(key);
        write(value, out);
    }
}

/// The shortest of half, single and double that has exactly the same value.
fn float(number: f64, out: &mut Out) {
    let half = half::f16::from_f64(number);
    let single = half::f16::to_f32(half);
    let _ = if f64::from(single).to_bits() == number.to_bits() {
        out.f16(single)
    } else {
        match narrowed(number) {
            Some(single) => out.f32(single),
            None => out.f64(number),
        }
    };
}

/// The same value as a single, if it is one.
fn narrowed(number: f64) -> Option<f32> {
    #[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "checked below")]
    let single = number as f32;
    (f64::from(single).to_bits() == number.to_bits()).then_some(single)
}

fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
