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

/// Where another key parts from the one that is looked for: the number of the first symbol in which they
/// differ, and the other's; none where they are equal. Where one key is the beginning of the other they
/// part in the symbol after it.
pub(crate) type Parting = Option<(u32, Symbol)>;

/// Where `other` parts from `key`.
#[inline]
pub(crate) fn parting(key: &[u8], other: &[u8]) -> Parting {
    let common = common_bytes(key, other);
    let differ = common < key.len() || common < other.len();
    differ.then(|| (common as u32, symbol_at(other, common as u32)))
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
