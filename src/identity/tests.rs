//! What is read, written and signed.

use std::os::unix::fs::PermissionsExt;

use super::json::DEPTH;
use super::*;

fn read(text: &str) -> Result<Json, JsonError> {
    Json::read(text.as_bytes(), DEPTH)
}

#[test]
fn what_is_no_json_is_malformed() {
    let deep = "[".repeat(10_000);
    for wrong in [
        "",
        " ",
        "{",
        "}",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "1 2",
        "{}{}",
        "nul",
        "True",
        "// x\n1",
        "/* */ 1",
        "01",
        "-",
        "-x",
        "1.",
        ".5",
        "1e",
        "1e+",
        "+1",
        "0x10",
        "NaN",
        "Infinity",
        "\"",
        "\"\u{1}\"",
        "\"\n\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"\\ud800x\"",
        "{\"\\ud800\":1}",
        "\u{feff}{}",
        "[1 2]",
        "{\"a\" 1}",
        "[",
        "\"\\",
        "{\"a\":}",
        "\u{a0}1",
        "-00",
        "[-01]",
    ] {
        assert!(
            matches!(read(wrong), Err(JsonError::Malformed(_))),
            "{wrong:?}: {:?}",
            read(wrong)
        );
    }
    assert!(matches!(Json::read(b"\"\xff\"", 1), Err(JsonError::Malformed(1))));
    assert!(matches!(Json::read(b"\xef\xbb\xbf{}", 1), Err(JsonError::Malformed(0))));
    assert!(matches!(read(&deep), Err(JsonError::TooDeep(32))));
}

#[test]
fn thirty_two_levels_are_enough_and_no_more_are_read() {
    let nested = |levels: usize| ["[".repeat(levels), "]".repeat(levels)].concat();
    assert!(read(&nested(32)).is_ok());
    assert_eq!(read(&nested(33)), Err(JsonError::TooDeep(32)));
    assert!(read(&format!("[{},{}]", nested(31), nested(31))).is_ok());
    let objects = ["{\"a\":".repeat(32), "1".to_owned(), "}".repeat(32)].concat();
    assert!(read(&objects).is_ok());
    assert!(matches!(read(&format!("[{objects}]")), Err(JsonError::TooDeep(_))));
}

#[test]
fn a_key_is_there_once_however_it_is_spelled() {
    for twice in [
        r#"{"a":1,"a":1}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"[{"x":{"":1,"b":2,"":3}}]"#,
        r#"{"é":1,"\u00e9":2}"#,
        r#"{"a/b":1,"a\/b":2}"#,
        r#"{"😀":1,"\ud83d\ude00":1}"#,
    ] {
        assert!(matches!(read(twice), Err(JsonError::DuplicateKey(_))), "{twice}");
    }
    let many = |last: &str| {
        let members: Vec<String> = (0..40).map(|n| format!("\"k{n}\":{n}")).collect();
        format!("{{{},\"{last}\":0}}", members.join(","))
    };
    assert!(read(&many("k40")).is_ok());
    assert!(matches!(read(&many("k7")), Err(JsonError::DuplicateKey(_))));
    // No normalisation: these are two keys.
    assert!(read("{\"é\":1,\"e\u{301}\":2}").is_ok());
    // What is no JSON is told first, then keys, then numbers.
    assert!(matches!(read(r#"{"a":1,"a":2"#), Err(JsonError::Malformed(_))));
    assert!(matches!(read(r#"{"a":-0,"a":2}"#), Err(JsonError::DuplicateKey(_))));
    assert!(matches!(read(r#"{"a":-0,"b":}"#), Err(JsonError::Malformed(_))));
}

#[test]
fn numbers_survive_or_are_refused() {
    for (text, want) in [
        ("0", Json::Unsigned(0)),
        ("9007199254740993", Json::Unsigned(9_007_199_254_740_993)),
        ("18446744073709551615", Json::Unsigned(u64::MAX)),
        ("-9223372036854775808", Json::Negative(i64::MIN)),
        ("-1", Json::Negative(-1)),
        ("1.0", Json::Float(1.0)),
        ("1e2", Json::Float(100.0)),
        ("51.248178375505404", Json::Float(51.248178375505404)),
        ("5e-324", Json::Float(5e-324)),
        ("1e-400", Json::Float(0.0)),
        ("0.5E+1", Json::Float(5.0)),
    ] {
        assert_eq!(read(text), Ok(want), "{text}");
    }
    assert!(matches!(read("-0.0"), Ok(Json::Float(zero)) if zero.is_sign_negative()));
    for lost in
        ["-0", "18446744073709551616", "-9223372036854775809", "1e400", "-1e400", "1e999999999"]
    {
        assert_eq!(read(lost), Err(JsonError::Number(0)), "{lost}");
    }
}

#[test]
fn texts_are_what_they_say() {
    let text = read(r#""\"\\\/\b\f\n\r\té\u00e9\ud83d\ude00\u0000""#).unwrap();
    assert_eq!(text.as_str(), Some("\"\\/\u{8}\u{c}\n\r\téé😀\0"));
}

#[test]
fn floats_take_the_shortest_form_that_is_exact() {
    let hex = |text: &str| {
        let bytes = cbor::encode(&read(text).unwrap());
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    // RFC 8949, appendix A.
    for (text, want) in [
        ("0.0", "f90000"),
        ("-0.0", "f98000"),
        ("1.0", "f93c00"),
        ("1.5", "f93e00"),
        ("65504.0", "f97bff"),
        ("100000.0", "fa47c35000"),
        ("3.4028234663852886e+38", "fa7f7fffff"),
        ("1.1", "fb3ff199999999999a"),
        ("1.0e+300", "fb7e37e43c8800759c"),
        ("5.960464477539063e-8", "f90001"),
        ("0.00006103515625", "f90400"),
        ("-4.0", "f9c400"),
        ("-4.1", "fbc010666666666666"),
        ("23", "17"),
        ("24", "1818"),
        ("-1000", "3903e7"),
        ("18446744073709551615", "1bffffffffffffffff"),
        ("[]", "80"),
        ("{}", "a0"),
        ("[1,[2,3]]", "8201820203"),
        (r#"{"bb":1,"a":2}"#, "a26161026262620 1"),
    ] {
        assert_eq!(hex(text), want.replace(' ', ""), "{text}");
    }
}

#[test]
fn canonical_json_is_sorted_and_dense() {
    let value = read(r#"{ "b" : [1.0, 1e21, "é\u000a"], "a": {"signature": 1}, "signature": {} }"#);
    let text = canonical::encode_without(&value.unwrap(), &["signature"]).unwrap();
    assert_eq!(String::from_utf8(text).unwrap(), r#"{"a":{"signature":1},"b":[1,1e+21,"é\n"]}"#);
}

#[test]
fn keys_that_anybody_could_use_are_none() {
    let key = NodeKey::generate().unwrap();
    for text in [key.public().multibase(), key.public().did(), key.node_id()] {
        assert_eq!(PublicKey::from_text(&text), Ok(*key.public()));
    }
    assert_eq!(PublicKey::from_multibase(&key.public().did()), Err(KeyError::Text));
    let mut low = [[0_u8; 32]; 3];
    low[0][0] = 1;
    low[2] = [0xff; 32];
    (low[2][0], low[2][31]) = (0xec, 0x7f);
    for bytes in low {
        assert_eq!(PublicKey::from_bytes(&bytes), Err(KeyError::SmallOrder), "{bytes:?}");
        assert!(matches!(
            PublicKey::from_multibase(&public::node_id_of_raw(&bytes)["node:did:key:".len()..]),
            Err(KeyError::SmallOrder)
        ));
    }
    // y = 2^255 - 19 + 1 is another spelling of y = 1.
    let mut other = [0xff; 32];
    (other[0], other[31]) = (0xee, 0x7f);
    assert_eq!(PublicKey::from_bytes(&other), Err(KeyError::Point));
    let mut off_curve = [0; 32];
    off_curve[0] = 2;
    assert_eq!(PublicKey::from_bytes(&off_curve), Err(KeyError::Point));
}

#[test]
fn other_codecs_and_lengths_are_no_keys() {
    let raw = *NodeKey::generate().unwrap().public().as_bytes();
    let spelled = |codec: &[u8], raw: &[u8]| {
        format!("z{}", bs58::encode([codec, raw].concat()).into_string())
    };
    assert!(PublicKey::from_multibase(&spelled(&[0xed, 1], &raw)).is_ok());
    for wrong in [
        spelled(&[0xec, 1], &raw),
        spelled(&[0xed, 1], &raw[1..]),
        spelled(&[0xed, 1, 0], &raw),
        spelled(&[0, 0xed, 1], &raw),
        format!("z1{}", &spelled(&[0xed, 1], &raw)[1..]),
        "z".to_owned(),
        String::new(),
        "zl0".to_owned(),
        format!("z{}", "1".repeat(300)),
    ] {
        assert_eq!(PublicKey::from_multibase(&wrong), Err(KeyError::Text), "{wrong}");
    }
    assert!(public::is_node_id("node:did:key:zABC"));
    for wrong in ["node:did:key:z", "node:did:key:zl", "Node:did:key:zA", "node:did:key:zA ", "zA"]
    {
        assert!(!public::is_node_id(wrong), "{wrong}");
    }
    let longest = format!("node:did:key:z{}", "1".repeat(256 - 14));
    assert!(public::is_node_id(&longest) && !public::is_node_id(&format!("{longest}1")));
}

#[test]
fn signatures_have_one_text_and_one_form() {
    let key = NodeKey::generate().unwrap();
    let signature = key.sign(b"text");
    assert!(key.public().verifies(b"text", &signature));
    assert!(!key.public().verifies(b"texts", &signature));
    let text = signature::to_text(&signature);
    assert_eq!(signature::from_text(&text), Some(signature));
    let last = text.chars().last().unwrap();
    let spare = char::from(u8::try_from(u32::from(last)).unwrap() + 1);
    let cut = &text[..85];
    for wrong in [
        format!("{text}="),
        cut.to_owned(),
        format!("{cut}{spare}"),
        format!("{text}A"),
        text.replacen(&text[..1], "+", 1),
        String::new(),
    ] {
        assert_eq!(signature::from_text(&wrong), None, "{wrong}");
    }
}

#[test]
fn a_key_file_is_made_once_and_only_for_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(NodeKey::load(dir.path()), Err(KeyFileError::Missing(_))));
    let key = NodeKey::of_dir(dir.path()).unwrap();
    let path = dir.path().join(node::FILE);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(NodeKey::of_dir(dir.path()).unwrap().node_id(), key.node_id());
    let text = std::fs::read_to_string(&path).unwrap();
    let secret = text.split(' ').nth(1).unwrap();
    assert!(!format!("{key:?}").contains(secret));
    for mode in [0o640, 0o604, 0o666, 0o610] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let refused = NodeKey::of_dir(dir.path()).unwrap_err();
        assert!(matches!(refused, KeyFileError::Open { .. }));
        assert!(refused.to_string().contains("chmod 600") && !refused.to_string().contains(secret));
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut swapped = text.clone();
    swapped.replace_range(20..21, if &text[20..21] == "A" { "B" } else { "A" });
    for damaged in
        ["", "x", &text[..40], &format!("{text}x"), &swapped, &"y".repeat(5_000), "\u{0}"]
    {
        std::fs::write(&path, damaged).unwrap();
        let refused = NodeKey::of_dir(dir.path()).unwrap_err();
        assert!(matches!(refused, KeyFileError::Damaged { .. }), "{damaged}: {refused}");
        assert!(!refused.to_string().contains(secret));
    }
    std::fs::write(&path, text).unwrap();
    assert_eq!(NodeKey::load(dir.path()).unwrap().node_id(), key.node_id());
}
