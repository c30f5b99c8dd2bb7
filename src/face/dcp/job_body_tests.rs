use serde_json::json;

use super::*;

fn wrong(body: &Value) -> Vec<String> {
    let mut problems = Problems::default();
    match read(&body.to_string(), &Compute::default(), &mut problems) {
        Ok(_) => problems.messages,
        Err(err) => vec![format!("{} {}", err.http(), err.data()["error"])],
    }
}

fn order(body: &Value) -> Order {
    let mut problems = Problems::default();
    let order = read(&body.to_string(), &Compute::default(), &mut problems).unwrap();
    assert!(problems.refusal().is_none(), "{body}: {:?}", problems.messages);
    order.unwrap()
}

#[test]
fn what_is_left_out_has_its_default() {
    let order = order(&json!({ "work": { "function": " (x) => x ; ;\n" } }));
    assert_eq!(order.source.function, "(x) => x");
    assert_eq!((order.source.args.as_str(), order.source.requirements.as_str()), ("[]", "{}"));
    assert_eq!(order.language, FunctionLanguage::JavaScript);
    assert!(order.groups.is_empty() && order.capabilities.is_empty());
    assert_eq!((order.offer.as_str(), order.name.as_str()), ("MARKET_VALUE", "Ad-hoc job"));
    assert!(order.slices.is_empty());
}

#[test]
fn languages_and_runtimes_are_told_by_their_names() {
    use FunctionLanguage::{JavaScript, Python};
    let with = |more: Value| {
        let mut work = json!({ "function": "f" });
        work.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "work": work })
    };
    for (more, language) in [
        (json!({ "language": "JS" }), JavaScript),
        (json!({ "language": "" }), JavaScript),
        (json!({ "language": "Python" }), Python),
        (
            json!({ "language": "py", "runtime": { "name": "pyodide", "version": "0.23.2" } }),
            Python,
        ),
        (json!({ "runtime": { "name": "pyodide" } }), Python),
        (json!({ "runtime": { "name": "map-basic", "custom": false } }), JavaScript),
    ] {
        assert_eq!(order(&with(more.clone())).language, language, "{more}");
    }
    for (more, text) in [
        (json!({ "language": "r" }), "`r`"),
        (json!({ "language": "TypeScript" }), "`TypeScript`"),
        (json!({ "language": "cobol" }), "`cobol`"),
        (json!({ "language": 5 }), "must be text"),
        (json!({ "runtime": { "name": "webr" } }), "`webr`"),
        (json!({ "runtime": "pyodide" }), "must be an object"),
        (json!({ "language": "js", "runtime": { "name": "pyodide" } }), "do not agree"),
    ] {
        let messages = wrong(&with(more));
        assert!(messages.len() == 1 && messages[0].contains(text), "{messages:?}");
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let messages = wrong(&json!({
        "work": { "function": " ; " }, "slices": 5, "args": {}, "packages": [1],
        "requirements": [1], "slicePaymentOffer": "-1", "public": { "name": 1 },
        "webHookUrls": ["http://x"], "computeGroups": {},
    }));
    let fields = [
        "work.function",
        "slices",
        "args",
        "packages",
        "requirements",
        "slicePaymentOffer",
        "public.name",
        "webHookUrls",
        "computeGroups",
    ];
    assert_eq!(messages.len(), fields.len(), "{messages:?}");
    for (message, field) in messages.iter().zip(fields) {
        assert!(message.starts_with(field), "{message}");
    }
    assert_eq!(wrong(&json!({})), ["work: required"]);
    assert_eq!(wrong(&json!({ "work": {} })), ["work.function: required"]);
    assert_eq!(wrong(&json!({ "work": { "function": 1 } })), ["work.function: must be text"]);
    assert!(wrong(&json!([]))[0].starts_with("400"));
}

#[test]
fn groups_and_offers_are_checked() {
    let with = |name: &str, value: Value| json!({ "work": { "function": "f" }, name: value });
    for groups in [
        json!([]),
        json!([{ "joinKey": "public" }]),
        json!([{ "joinKey": "public", "joinSecret": "" }]),
    ] {
        let named = groups.as_array().unwrap().len();
        assert_eq!(order(&with("computeGroups", groups)).groups.len(), named);
    }
    for groups in [
        json!({}),
        json!(["public"]),
        json!([{ "joinSecret": "x" }]),
        json!([{ "joinKey": "x", "joinSecret": 5 }]),
        json!(vec![json!({ "joinKey": "x" }); MOST_JOINED + 1]),
    ] {
        assert_eq!(wrong(&with("computeGroups", groups)).len(), 1);
    }
    let demands = json!({ "engine": { "es7": true, "spidermonkey": false }, "useStrict": true });
    let order_of = order(&with("requirements", demands.clone()));
    assert_eq!(order_of.capabilities, ["/engine/es7", "/useStrict"]);
    assert_eq!(order_of.source.requirements, demands.to_string());
    assert_eq!(wrong(&with("requirements", json!({ "gpu": 2 }))).len(), 1);
    for (offer, kept) in [(json!("0.5"), "0.5"), (json!(3), "3"), (json!(null), "MARKET_VALUE")] {
        assert_eq!(order(&with("slicePaymentOffer", offer)).offer, kept);
    }
    for offer in [json!("x"), json!(-1), json!("1."), json!(""), json!({}), json!("market_value")] {
        assert_eq!(wrong(&with("slicePaymentOffer", offer)).len(), 1);
    }
    let remote = with("slices", json!({ "remoteDataSet": ["http://x/1"] }));
    assert!(wrong(&remote)[0].contains("remoteDataSet"));
    assert_eq!(order(&with("slices", json!([1, null, {}]))).slices.len(), 3);
    assert_eq!(order(&with("requirements", json!([]))).source.requirements, "{}");
    let aliases = json!({ "work": { "function": "f" }, "arguments": [1, 2.50], "requires": ["a"] });
    assert_eq!(order(&aliases).source.args, "[1,2.5]");
    assert_eq!(order(&aliases).source.packages, ["a"]);
}
