//! The encoding of JSON content: decoded by somebody else's decoder it is the same content, its
//! keys are in order, and numbers take the shortest form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use minicbor::Decoder;
use minicbor::data::Type;
use muster::identity::{Json, cbor};

fuzz_target!(|text: &[u8]| {
    let Ok(json) = Json::read(text, 32) else { return };
    let bytes = cbor::encode(&json);
    let mut decoder = Decoder::new(&bytes);
    same(&json, &mut decoder);
    assert_eq!(decoder.position(), bytes.len());
});

fn same(json: &Json, decoder: &mut Decoder<'_>) {
    let at = decoder.position();
    let kind = decoder.datatype().unwrap();
    match json {
        Json::Null => decoder.null().unwrap(),
        Json::Bool(on) => assert_eq!(decoder.bool().unwrap(), *on),
        Json::Unsigned(number) => {
            assert_eq!(decoder.u64().unwrap(), *number);
            let want = match number {
                0..=23 => 1,
                24..=0xff => 2,
                0x100..=0xffff => 3,
                0x1_0000..=0xffff_ffff => 5,
                _ => 9,
            };
            assert_eq!(decoder.position() - at, want);
        }
        Json::Negative(number) => assert_eq!(decoder.i64().unwrap(), *number),
        Json::Float(number) => {
            let (read, narrower) = match kind {
                Type::F16 => (f64::from(decoder.f16().unwrap()), None),
                Type::F32 => {
                    let read = f64::from(decoder.f32().unwrap());
                    (read, Some(f64::from(half::f16::from_f64(read))))
                }
                _ => {
                    let read = decoder.f64().unwrap();
                    (read, Some(f64::from(read as f32)))
                }
            };
            assert_eq!(read.to_bits(), number.to_bits());
            assert!(narrower.is_none_or(|narrower| narrower.to_bits() != number.to_bits()));
        }
        Json::String(text) => assert_eq!(decoder.str().unwrap(), text),
        Json::Array(items) => {
            assert_eq!(decoder.array().unwrap(), Some(items.len() as u64));
            items.iter().for_each(|item| same(item, decoder));
        }
        Json::Object(members) => {
            assert_eq!(decoder.map().unwrap(), Some(members.len() as u64));
            let mut before: Option<Vec<u8>> = None;
            for _ in members {
                let start = decoder.position();
                let key = decoder.str().unwrap();
                let encoded = decoder.input()[start..decoder.position()].to_vec();
                assert!(before.is_none_or(|before| before < encoded));
                before = Some(encoded);
                same(json.get(key).unwrap(), decoder);
            }
        }
    }
}
