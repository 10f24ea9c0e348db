//! Symbols, the units in which keys are compared.

/// The maximum key length, in bytes: the limit of symbol numbers and of a leaf's length.
pub(crate) const LONGEST_KEY: usize = 4095;

/// A byte of a key, or the key's end, which comes before every byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Symbol(Option<u8>);

impl Symbol {
    pub(crate) const END: Self = Self(None);

    #[inline(always)]
    pub(crate) const fn byte(byte: u8) -> Self {
        Self(Some(byte))
    }

    /// Returns the byte; `None` for the end.
    #[inline(always)]
    pub(crate) const fn as_byte(self) -> Option<u8> {
        self.0
    }
}

/// Returns symbol number `index` of `key`.
#[inline(always)]
pub(crate) fn symbol_at(key: &[u8], index: u32) -> Symbol {
    Symbol(key.get(index as usize).copied())
}

/// The first difference of another key from a given one: the index of the first symbol that
/// differs, and the other key's symbol there; `None` if the keys are equal. If one key is a prefix
/// of the other, they differ in the symbol after it.
pub(crate) type Parting = Option<(u32, Symbol)>;

/// Returns the first difference of `other` from `key`.
#[inline]
pub(crate) fn parting(key: &[u8], other: &[u8]) -> Parting {
    let common = common_bytes(key, other);
    let differ = common < key.len() || common < other.len();
    differ.then(|| (common as u32, symbol_at(other, common as u32)))
}

/// Returns the length of the common prefix of two keys, in bytes.
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
    fn keys_part_in_a_byte_or_where_one_ends() {
        let byte = |index, byte| Some((index, Symbol::byte(byte)));
        assert_eq!(parting(b"", b""), None);
        assert_eq!(parting(b"", b"a"), byte(0, b'a'));
        assert_eq!(parting(b"ab", b"a"), Some((1, Symbol::END)));
        assert_eq!(parting(b"ab", b"ac"), byte(1, b'c'));
        assert_eq!(parting(b"ab", b"bb"), byte(0, b'b'));
    }

    proptest! {
        #[test]
        fn keys_are_ordered_as_their_symbols_where_they_part(
            common in prop::collection::vec(any::<u8>(), 0..20),
            a in prop::collection::vec(any::<u8>(), 0..10),
            b in prop::collection::vec(any::<u8>(), 0..10),
        ) {
            let (a, b) = ([&common[..], &a].concat(), [&common[..], &b].concat());
            match parting(&a, &b) {
                None => prop_assert_eq!(a, b),
                Some((index, symbol)) => {
                    prop_assert_eq!(symbol_at(&b, index), symbol);
                    prop_assert_eq!(symbol_at(&a, index).cmp(&symbol), a.cmp(&b));
                    for earlier in 0..index {
                        prop_assert_eq!(symbol_at(&a, earlier), symbol_at(&b, earlier));
                    }
                }
            }
        }
    }
}
