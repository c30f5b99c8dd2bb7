//! Order-preserving keys: bytes sort as values do, so a range is a list.

use std::borrow::Borrow;
use std::fmt;

use crate::model::address::Address;

/// Room for every key of numbers; only names need the heap.
const INLINE: usize = 30;

/// The bytes of a key, in place while they are few: most rows need no allocation for theirs.
#[derive(Clone)]
pub struct KeyBytes(Repr);

#[derive(Clone)]
enum Repr {
    Inline { length: u8, bytes: [u8; INLINE] },
    Heap(Vec<u8>),
}

impl KeyBytes {
    /// No bytes yet.
    pub const fn new() -> Self {
        Self(Repr::Inline { length: 0, bytes: [0; INLINE] })
    }

    /// The bytes so far.
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Repr::Heap(bytes) => bytes,
        }
    }

    /// Appends one byte.
    pub fn push(&mut self, byte: u8) {
        self.extend_from_slice(&[byte]);
    }

    /// Appends bytes.
    pub fn extend_from_slice(&mut self, more: &[u8]) {
        match &mut self.0 {
            Repr::Inline { length, bytes } => {
                let old = usize::from(*length);
                let free = bytes.get_mut(old..old + more.len());
                if let (Some(free), Ok(new)) = (free, u8::try_from(old + more.len())) {
                    free.copy_from_slice(more);
                    *length = new;
                } else {
                    let mut heap = bytes.get(..old).unwrap_or_default().to_vec();
                    heap.extend_from_slice(more);
                    self.0 = Repr::Heap(heap);
                }
            }
            Repr::Heap(bytes) => bytes.extend_from_slice(more),
        }
    }
}

impl Default for KeyBytes {
    fn default() -> Self {
        Self::new()
    }
}

impl From<&[u8]> for KeyBytes {
    fn from(bytes: &[u8]) -> Self {
        let mut key = Self::new();
        key.extend_from_slice(bytes);
        key
    }
}

impl AsRef<[u8]> for KeyBytes {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Borrow<[u8]> for KeyBytes {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for KeyBytes {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for KeyBytes {}

impl PartialOrd for KeyBytes {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for KeyBytes {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.as_slice() {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// A key whose bytes sort as its values do.
pub trait Key: Sized {
    /// Appends the key.
    fn encode(&self, out: &mut KeyBytes);
    /// Takes the key off the front of `bytes`.
    fn decode(bytes: &mut &[u8]) -> Option<Self>;
}

/// The prefix of every key.
impl Key for () {
    fn encode(&self, _: &mut KeyBytes) {}
    fn decode(_: &mut &[u8]) -> Option<Self> {
        Some(())
    }
}

macro_rules! integer {
    ($($type:ty)+) => { $(
        impl Key for $type {
            fn encode(&self, out: &mut KeyBytes) {
                out.extend_from_slice(&self.to_be_bytes());
            }
            fn decode(bytes: &mut &[u8]) -> Option<Self> {
                let (head, tail) = bytes.split_first_chunk()?;
                *bytes = tail;
                Some(Self::from_be_bytes(*head))
            }
        }
    )+ };
}
integer!(u8 u32 u64);

/// A digest, or a public key.
impl<const N: usize> Key for [u8; N] {
    fn encode(&self, out: &mut KeyBytes) {
        out.extend_from_slice(self);
    }
    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let (head, tail) = bytes.split_first_chunk()?;
        *bytes = tail;
        Some(*head)
    }
}

impl Key for Address {
    fn encode(&self, out: &mut KeyBytes) {
        self.0.encode(out);
    }
    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        Key::decode(bytes).map(Self)
    }
}

/// Ends in a zero byte, so that no key is the prefix of another.
impl Key for String {
    fn encode(&self, out: &mut KeyBytes) {
        debug_assert!(!self.contains('\0'), "ids are checked at the edge");
        out.extend_from_slice(self.as_bytes());
        out.push(0);
    }
    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|b| *b == 0)?;
        let (head, tail) = (bytes.get(..end)?, bytes.get(end + 1..)?);
        *bytes = tail;
        Self::from_utf8(head.to_vec()).ok()
    }
}

macro_rules! tuple {
    ($($name:ident)+) => {
        impl<$($name: Key),+> Key for ($($name,)+) {
            #[expect(non_snake_case, reason = "one binding per type parameter")]
            fn encode(&self, out: &mut KeyBytes) {
                let ($($name,)+) = self;
                $($name.encode(out);)+
            }
            fn decode(bytes: &mut &[u8]) -> Option<Self> {
                Some(($($name::decode(bytes)?,)+))
            }
        }
    };
}
tuple!(A B);
tuple!(A B C);
tuple!(A B C D);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(key: &impl Key) -> Vec<u8> {
        let mut out = KeyBytes::new();
        key.encode(&mut out);
        out.as_slice().to_vec()
    }

    proptest! {
        #[test]
        fn bytes_sort_as_values_do(
            a in ("[a-z]{0,3}", any::<u32>(), any::<u64>()),
            b in ("[a-z]{0,3}", any::<u32>(), any::<u64>()),
        ) {
            prop_assert_eq!(KeyBytes::from(&*bytes(&a)).cmp(&KeyBytes::from(&*bytes(&b))), a.cmp(&b));
            prop_assert_eq!(bytes(&a).cmp(&bytes(&b)), a.cmp(&b));
            prop_assert_eq!(<(String, u32, u64)>::decode(&mut bytes(&a).as_slice()), Some(a));
        }
    }
    proptest! {
        #[test]
        fn bytes_are_kept_however_they_come(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..6)) {
            let mut key = KeyBytes::new();
            for part in &parts {
                key.extend_from_slice(part);
            }
            prop_assert_eq!(key.as_slice(), parts.concat());
        }
    }
}
