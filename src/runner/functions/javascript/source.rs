//! What can be read off the source of a work function before it is compiled.

/// Words by which a function can reach the global object, the prototypes of what is built in, or
/// code made of text; and those by which something can outlive its slice.
const WORDS: [&str; 25] = [
    "prototype",
    "__proto__",
    "PrototypeOf",
    "constructor",
    "Species",
    "species",
    "eval",
    "Function",
    "Reflect",
    "Proxy",
    "globalThis",
    "this",
    "super",
    "defineProperty",
    "defineProperties",
    "PropertyDescriptor",
    "__defineGetter__",
    "__defineSetter__",
    "__lookupGetter__",
    "__lookupSetter__",
    "WeakRef",
    "FinalizationRegistry",
    "queueMicrotask",
    "stackTraceLimit",
    "prepareStackTrace",
];

/// Names of what is built in and has a `prototype`: harmless when called or asked for a member by
/// name, but not when handed around.
const CLASSES: [&str; 46] = [
    "AggregateError",
    "Array",
    "ArrayBuffer",
    "AsyncIterator",
    "Atomics",
    "BigInt",
    "BigInt64Array",
    "BigUint64Array",
    "Boolean",
    "DOMException",
    "DataView",
    "Date",
    "Error",
    "EvalError",
    "Float16Array",
    "Float32Array",
    "Float64Array",
    "Int16Array",
    "Int32Array",
    "Int8Array",
    "InternalError",
    "Iterator",
    "Map",
    "Number",
    "Object",
    "Promise",
    "RangeError",
    "ReferenceError",
    "RegExp",
    "Set",
    "SharedArrayBuffer",
    "String",
    "SuppressedError",
    "Symbol",
    "SyntaxError",
    "TypeError",
    "URIError",
    "Uint16Array",
    "Uint32Array",
    "Uint8Array",
    "Uint8ClampedArray",
    "WeakMap",
    "WeakSet",
    "DisposableStack",
    "AsyncDisposableStack",
    "CallSite",
];

/// Objects of what is built in, to which a function may want to add or change members: harmless when
/// asked for a member by name, but not when handed around.
const NAMESPACES: [&str; 3] = ["JSON", "Math", "performance"];

/// Other names of the global scope, which a function may want to mean something else by.
const OTHERS: [&str; 15] = [
    "atob",
    "btoa",
    "console",
    "decodeURI",
    "decodeURIComponent",
    "encodeURI",
    "encodeURIComponent",
    "escape",
    "isFinite",
    "isNaN",
    "parseFloat",
    "parseInt",
    "progress",
    "unescape",
    "work",
];

/// Members of everything that are not there in a scope that slices share.
const HIDDEN: [&str; 4] = ["constructor", "__proto__", "__define", "__lookup"];

/// Whether a value may name such a member, so that a function which looks up what it is given could
/// tell whether its scope is shared.
pub(super) fn may_name_hidden(json: &str) -> bool {
    // A text of nine characters in quotes is the shortest. Escapes may spell the letters, which are
    // from `\u0061` to `\u007a`, and the underscore.
    let escaped = ["\\u005", "\\u006", "\\u007"];
    json.len() >= 11 && HIDDEN.iter().chain(&escaped).any(|name| json.contains(name))
}

/// Whether slices can share a global scope without noticing each other, once the scope has been
/// prepared for that: the source cannot name what is left to reach.
pub(super) fn may_share(source: &str) -> bool {
    // An escape in a name or a text may spell any of the words.
    let escapes = source.contains("\\u") || source.contains("\\x");
    !escapes
        && !WORDS.iter().any(|word| source.contains(word))
        && names(source).all(|word| is_plain(&word))
}

/// Whether the source may create a global variable: it assigns in some way.
pub(super) fn may_assign(source: &str) -> bool {
    let bytes = source.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or_default();
    let assigns = (0..bytes.len()).any(|index| {
        let before = if index == 0 { 0 } else { at(index - 1) };
        let two_before = if index < 2 { 0 } else { at(index - 2) };
        match at(index) {
            b'=' if at(index + 1) == b'=' || at(index + 1) == b'>' => false,
            // `<=` and `>=` compare, `<<=` and `>>=` assign.
            b'=' => match before {
                b'=' | b'!' => false,
                b'<' | b'>' => two_before == before,
                _ => true,
            },
            b'+' | b'-' => at(index + 1) == at(index),
            _ => false,
        }
    });
    assigns || names(source).any(|word| matches!(word.name, "of" | "in" | "for"))
}

/// A word of the source, and what stands around it.
struct Word<'s> {
    before: &'s str,
    name: &'s str,
    after: &'s str,
}

/// The words of the source, wherever they stand.
fn names(source: &str) -> impl Iterator<Item = Word<'_>> {
    let mut rest = source;
    std::iter::from_fn(move || {
        let from = rest.get(rest.find(is_part)?..)?;
        let end = from.find(|c| !is_part(c)).unwrap_or(from.len());
        let (name, after) = from.split_at_checked(end)?;
        rest = after;
        let before = source.get(..source.len() - from.len())?;
        Some(Word { before: before.trim_end(), name, after: after.trim_start() })
    })
}

/// Whether a character may stand in a name.
fn is_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// Whether a word is harmless where it stands. What is built in is frozen where slices share a scope,
/// so a function that changes it would not find its change.
fn is_plain(word: &Word<'_>) -> bool {
    let Word { before, name, after } = word;
    if CLASSES.contains(name) {
        return after.starts_with(['.', '(']) && !is_changed(word);
    }
    // `a.progress` is a member of something else, but `...Math` is not.
    if before.ends_with('.') && !before.ends_with("...") {
        return true;
    }
    if NAMESPACES.contains(name) {
        let unpacked = before.strip_suffix('=').is_some_and(|left| left.trim_end().ends_with('}'));
        return (unpacked || after.starts_with('.')) && !is_changed(word);
    }
    let declared = || ["let", "const", "var"].iter().any(|word| before.ends_with(word));
    !OTHERS.contains(name) || declared() || !is_changed(word)
}

/// Whether this name, or a member of it, is assigned to or deleted, or may be.
fn is_changed(word: &Word<'_>) -> bool {
    let mut after = word.after;
    while let Some(member) = after.strip_prefix('.') {
        after = member.trim_start().trim_start_matches(is_part).trim_start();
    }
    let operator = after.find(|c| !"+-*/%<>&|^?".contains(c)).unwrap_or(after.len());
    let (operator, right) = after.split_at_checked(operator).unwrap_or((after, ""));
    let compares = right.starts_with("==") || matches!(operator, "<" | ">");
    let assigned = right.starts_with('=') && !right.starts_with("=>") && !compares;
    let stepped = |text: &str| text.starts_with("++") || text.starts_with("--");
    let before = ["++", "--", "delete"].iter().any(|change| word.before.ends_with(change));
    assigned || stepped(operator) || before || after.starts_with('[')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_reach_anything_shared_shares() {
        for source in [
            "(x) => x * 2",
            "(x) => Math.max(...x.map(Math.abs))",
            "async (x) => { progress(); return Object.keys(await x).length; }",
            "(x) => { const m = new Map([[1, x]]); return [...m]; }",
            "(x) => { const { max, PI } = Math; return max(x, PI) <= Math.E; }",
            "(x) => x.map(parseFloat).filter((n) => !isNaN(n) && n == Math.PI - -1)",
            "(x) => { let progress = 0; x.work = x.progress += 2; return JSON.stringify(x); }",
        ] {
            assert!(may_share(source), "{source}");
        }
        for source in [
            "(x) => { Array.prototype.n = 1; }",
            "(x) => x['__pro' + 'to__'].constructor",
            "(x) => x.\\u0063onstructor",
            "(x) => Array['proto' + 'type'].push(x)",
            "(x) => { const A = Array; return A; }",
            "function (x) { return this; }",
            "(x) => (0, eval)('n = 1')",
            "(x) => [x].map(Number)",
            "(x) => { Math.random = () => x; return Math.random(); }",
            "(x) => { Math.n ??= 1; }",
            "(x) => { Math . n\n.m <<= 1; }",
            "(x) => { Math['n'] = 1; }",
            "(x) => { Math = {}; }",
            "(x) => { ++Math.n; }",
            "(x) => { Math.n--; }",
            "(x) => { delete Math.max; }",
            "(x) => { const M = Math; M.n = 1; }",
            "(x) => Object.assign(JSON, x)",
            "(x) => ({ ...Math })",
            "(x) => { Date.now = () => 0; return Date.now(); }",
            "(x) => { Object.keys.cache = x; }",
            "(x) => { progress = () => x; }",
            "(x) => { parseInt.cache = x; }",
            "(x) => { Error.stackTraceLimit = 0; }",
            "async (x) => new Promise((done) => queueMicrotask(done))",
        ] {
            assert!(!may_share(source), "{source}");
        }
    }

    #[test]
    fn values_that_name_what_is_hidden_are_seen() {
        for json in [
            r#""constructor""#,
            r#"{"a":["__proto__"]}"#,
            r#""\u005f_proto__""#,
            r#""__defineGetter__""#,
            r#""const\u0072uctor""#,
        ] {
            assert!(may_name_hidden(json), "{json}");
        }
        for json in ["1", "[1,2,3,4,5,6,7]", r#""the prototype of an \u00e9""#] {
            assert!(!may_name_hidden(json), "{json}");
        }
    }

    #[test]
    fn assignments_are_seen() {
        for source in ["(x) => x * 2", "(x) => x >= 1 && x <= 2 && x !== 3 || x == 4"] {
            assert!(!may_assign(source), "{source}");
        }
        for source in [
            "(x) => { n = x }",
            "(x) => n++",
            "(x) => --n",
            "(x) => { n <<= 2 }",
            "(x) => { n ??= 2 }",
            "(x) => { for (n of x); }",
            "(x) => { [n] = x }",
        ] {
            assert!(may_assign(source), "{source}");
        }
    }
}
