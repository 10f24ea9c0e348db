//! What keys differ in: the symbols that they are strings of.

/// A byte of a key, or the key's end, which comes before every byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Symbol(Option<u8>);

impl Symbol {
    pub(crate) const END: Self = Self(None);

    #[inline(always)]
    pub(crate) const fn byte(byte: u8) -> Self {
        Self(Some(byte))
    }

    /// The byte; none for the end.
    #[inline(always)]
    pub(crate) const fn as_byte(self) -> Option<u8> {
        self.0
    }
}

/// Symbol number `index` of `key`.
#[inline(always)]
pub(crate) fn symbol_at(key: &[u8], index: u32) -> Symbol {
    Symbol(key.get(index as usize).copied())
}

/// The number of the first symbol in which two keys differ; `None` for equal keys. Where one
/// key is the beginning of the other they differ in the symbol after it.
pub(crate) fn first_difference(a: &[u8], b: &[u8]) -> Option<u32> {
    let common = common_bytes(a, b);
    (common < a.len() || common < b.len()).then_some(common as u32)
}

/// How many bytes two keys have in common at their beginnings.
fn common_bytes(a: &[u8], b: &[u8]) -> usize {
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    let mut whole = 0;
    for (a, b) in words {
        let different = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if different != 0 {
            return whole + different.trailing_zeros() as usize / 8;
        }
        whole += 8;
    }
    whole + a[whole..].iter().zip(&b[whole..]).take_while(|(a, b)| a == b).count()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_differ_in_a_byte_or_where_one_ends() {
        assert_eq!(first_difference(b"", b""), None);
        assert_eq!(first_difference(b"", b"a"), Some(0));
        assert_eq!(first_difference(b"ab", b"a"), Some(1));
        assert_eq!(first_difference(b"ab", b"ac"), Some(1));
        assert_eq!(first_difference(b"ab", b"bb"), Some(0));
    }

    proptest! {
        #[test]
        fn keys_are_ordered_as_their_symbols_at_the_first_difference(
            common in prop::collection::vec(any::<u8>(), 0..20),
            a in prop::collection::vec(any::<u8>(), 0..10),
            b in prop::collection::vec(any::<u8>(), 0..10),
        ) {
            let (a, b) = ([&common[..], &a].concat(), [&common[..], &b].concat());
            match first_difference(&a, &b) {
                None => prop_assert_eq!(a, b),
                Some(index) => {
                    prop_assert_eq!(symbol_at(&a, index).cmp(&symbol_at(&b, index)), a.cmp(&b));
                    for earlier in 0..index {
                        prop_assert_eq!(symbol_at(&a, earlier), symbol_at(&b, earlier));
                    }
                }
            }
        }
    }
}
