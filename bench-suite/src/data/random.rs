//! Keys of random length and random bytes, like the data set `random` of the kernel's trie: wide at
//! the root and shallow.

use std::collections::BTreeSet;

use super::Keys;

/// The number of keys.
const COUNT: usize = 16_376;

/// Generates distinct keys of 1 to 255 bytes, every length with the same probability.
pub(super) fn generate(rng: &mut fastrand::Rng) -> Keys {
    let mut keys = BTreeSet::new();
    while keys.len() < COUNT {
        let mut key = vec![0; rng.usize(1..=255)];
        rng.fill(&mut key);
        keys.insert(key);
    }
    Keys::ascending(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_16376_keys_of_1_to_255_bytes() {
        let keys = generate(&mut fastrand::Rng::with_seed(7));
        assert_eq!(keys.len(), 16_376);
        let lengths: BTreeSet<_> = keys.iter().map(<[u8]>::len).collect();
        assert_eq!((lengths.first(), lengths.last()), (Some(&1), Some(&255)));
    }
}
