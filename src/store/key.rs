//! Order-preserving keys: bytes sort as values do, so a range is a list.

/// A key whose bytes sort as its values do.
pub trait Key: Sized {
    /// Appends the key.
    fn encode(&self, out: &mut Vec<u8>);
    /// Takes the key off the front of `bytes`.
    fn decode(bytes: &mut &[u8]) -> Option<Self>;
}

/// The prefix of every key.
impl Key for () {
    fn encode(&self, _: &mut Vec<u8>) {}
    fn decode(_: &mut &[u8]) -> Option<Self> {
        Some(())
    }
}

macro_rules! integer {
    ($($type:ty)+) => { $(
        impl Key for $type {
            fn encode(&self, out: &mut Vec<u8>) {
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

/// A digest.
impl Key for [u8; 16] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let (head, tail) = bytes.split_first_chunk()?;
        *bytes = tail;
        Some(*head)
    }
}

/// Ends in a zero byte, so that no key is the prefix of another.
impl Key for String {
    fn encode(&self, out: &mut Vec<u8>) {
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
            fn encode(&self, out: &mut Vec<u8>) {
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
        let mut out = vec![];
        key.encode(&mut out);
        out
    }

    proptest! {
        #[test]
        fn bytes_sort_as_values_do(
            a in ("[a-z]{0,3}", any::<u32>(), any::<u64>()),
            b in ("[a-z]{0,3}", any::<u32>(), any::<u64>()),
        ) {
            prop_assert_eq!(bytes(&a).cmp(&bytes(&b)), a.cmp(&b));
            prop_assert_eq!(<(String, u32, u64)>::decode(&mut bytes(&a).as_slice()), Some(a));
        }
    }
}
