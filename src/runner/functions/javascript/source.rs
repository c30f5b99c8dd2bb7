//! What can be read off the source of a work function before it is compiled.

/// Words by which a function can reach the global object, the prototypes of what is built in, or
/// code made of text; and those by which something can outlive its slice.
const WORDS: [&str; 22] = [
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

/// Whether slices can share a global scope without noticing each other, once the scope has been
/// prepared for that: the source cannot name what is left to reach.
pub(super) fn may_share(source: &str) -> bool {
    // An escape in a name or a text may spell any of the words.
    let escapes = source.contains("\\u") || source.contains("\\x");
    !escapes && !WORDS.iter().any(|word| source.contains(word)) && names(source).all(is_plain)
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
    assigns || names(source).any(|(name, _)| matches!(name, "of" | "in" | "for"))
}

/// The words of the source, wherever they stand, and what follows each.
fn names(source: &str) -> impl Iterator<Item = (&str, &str)> {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let mut rest = source;
    std::iter::from_fn(move || {
        let start = rest.find(part)?;
        let from = rest.get(start..)?;
        let end = from.find(|c| !part(c)).unwrap_or(from.len());
        let (name, after) = from.split_at_checked(end)?;
        rest = after;
        Some((name, after.trim_start()))
    })
}

fn is_plain((name, after): (&str, &str)) -> bool {
    !CLASSES.contains(&name) || after.starts_with(['.', '('])
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
        ] {
            assert!(!may_share(source), "{source}");
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
