//! Keys as nibbles.

/// The bit, in a branch's bitmap, of the way that `key` takes where nibble number `index` is
/// tested: bit 0 where the key has ended, else one more than the nibble.
#[inline(always)]
pub(crate) fn bit_at(key: &[u8], index: u32) -> u32 {
    match key.get(index as usize / 2) {
        None => 1,
        Some(byte) => {
            let nibble = if index.is_multiple_of(2) { byte >> 4 } else { byte & 15 };
            2 << nibble
        }
    }
}

/// The number of the first nibble in which two keys differ; `None` for equal keys. Where one
/// key is the beginning of the other they differ in the nibble after it.
pub(crate) fn first_difference(a: &[u8], b: &[u8]) -> Option<u32> {
    let common = common_bytes(a, b);
    match (a.get(common), b.get(common)) {
        (None, None) => None,
        (Some(a), Some(b)) if (a ^ b) < 16 => Some(common as u32 * 2 + 1),
        _ => Some(common as u32 * 2),
    }
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
    fn keys_differ_in_a_nibble_or_where_one_ends() {
        assert_eq!(first_difference(b"", b""), None);
        assert_eq!(first_difference(b"", b"a"), Some(0));
        assert_eq!(first_difference(b"ab", b"a"), Some(2));
        assert_eq!(first_difference(b"\x12", b"\x13"), Some(1));
        assert_eq!(first_difference(b"\x12", b"\x22"), Some(0));
    }

    proptest! {
        #[test]
        fn keys_are_ordered_as_their_bits_at_the_first_difference(
            common in prop::collection::vec(any::<u8>(), 0..20),
            a in prop::collection::vec(any::<u8>(), 0..10),
            b in prop::collection::vec(any::<u8>(), 0..10),
        ) {
            let (a, b) = ([&common[..], &a].concat(), [&common[..], &b].concat());
            match first_difference(&a, &b) {
                None => prop_assert_eq!(a, b),
                Some(index) => {
                    prop_assert_eq!(bit_at(&a, index).cmp(&bit_at(&b, index)), a.cmp(&b));
                    for earlier in 0..index {
                        prop_assert_eq!(bit_at(&a, earlier), bit_at(&b, earlier));
                    }
                }
            }
        }
    }
}
