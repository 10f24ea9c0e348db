//! Byte strings stored contiguously.
//!
//! Queries are in memory in the order of their use, so a lookup waits for the map's memory, not for
//! the list of queries. In a real program, too, the key of a lookup has just arrived and is in the
//! cache.

use std::cmp::Ordering;

/// A list of keys in one block of memory.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    bytes: Vec<u8>,
    /// The end of each key, which is the start of the next one.
    ends: Vec<u32>,
}

impl Keys {
    /// The most bytes of all keys of a list together.
    pub(crate) const MAX_BYTES: usize = u32::MAX as usize;

    /// Sorts keys, and drops duplicates.
    pub(crate) fn ascending<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Self {
        let mut keys: Vec<K> = keys.into_iter().collect();
        keys.sort_unstable_by(|a, b| a.as_ref().cmp(b.as_ref()));
        keys.dedup_by(|a, b| a.as_ref() == b.as_ref());
        let mut list = Self::default();
        for key in &keys {
            list.push(key.as_ref());
        }
        list
    }

    fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        let end = u32::try_from(self.bytes.len());
        self.ends.push(end.expect("sources keep to Keys::MAX_BYTES"));
    }

    /// Serializes the keys for another process of this program: their number, the end of each, and
    /// their bytes.
    pub(super) fn pack(&self) -> Vec<u8> {
        let mut packed = Vec::with_capacity(4 + 4 * self.ends.len() + self.bytes.len());
        packed.extend((self.ends.len() as u32).to_le_bytes());
        self.ends.iter().for_each(|end| packed.extend(end.to_le_bytes()));
        packed.extend_from_slice(&self.bytes);
        packed
    }

    /// Parses packed keys; `None` if the input is anything else.
    pub(super) fn unpack(packed: &[u8]) -> Option<Self> {
        let (count, rest) = packed.split_first_chunk::<4>()?;
        let (ends, bytes) = rest.split_at_checked(4 * u32::from_le_bytes(*count) as usize)?;
        let ends: Vec<u32> = ends
            .chunks_exact(4)
            .map(|end| u32::from_le_bytes([end[0], end[1], end[2], end[3]]))
            .collect();
        let fits = ends.is_sorted() && ends.last().copied().unwrap_or(0) as usize == bytes.len();
        fits.then(|| Self { bytes: bytes.to_vec(), ends })
    }

    /// Returns the number of keys.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the bytes of all keys together.
    pub(crate) fn total_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the key at a place in the list.
    #[inline]
    pub(crate) fn get(&self, place: usize) -> &[u8] {
        let start = if place == 0 { 0 } else { self.ends[place - 1] };
        &self.bytes[start as usize..self.ends[place] as usize]
    }

    /// Returns the keys in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|place| self.get(place))
    }

    /// Returns whether an ascending list contains a key.
    pub(super) fn has(&self, key: &[u8]) -> bool {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle).cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return true,
            }
        }
        false
    }

    /// Returns the same keys in a random order.
    pub(crate) fn shuffled(&self, rng: &mut fastrand::Rng) -> Stream {
        let mut numbers: Vec<u32> = (0..).take(self.len()).collect();
        rng.shuffle(&mut numbers);
        let mut keys = Self {
            bytes: Vec::with_capacity(self.bytes.len()),
            ends: Vec::with_capacity(self.ends.len()),
        };
        for &number in &numbers {
            keys.push(self.get(number as usize));
        }
        Stream { keys, numbers }
    }
}

/// Keys of a list in another order, each with its place in that list.
#[derive(Debug)]
pub(crate) struct Stream {
    keys: Keys,
    numbers: Vec<u32>,
}

impl Stream {
    /// Creates an empty stream with the capacity of another one.
    pub(super) fn with_room_of(other: &Self) -> Self {
        let keys = Keys {
            bytes: Vec::with_capacity(other.keys.bytes.len()),
            ends: Vec::with_capacity(other.keys.ends.len()),
        };
        Self { keys, numbers: Vec::with_capacity(other.numbers.len()) }
    }

    /// Appends a key.
    pub(super) fn push(&mut self, number: u32, key: &[u8]) {
        self.keys.push(key);
        self.numbers.push(number);
    }

    /// Returns the number of keys.
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Returns the key at a place in the stream, after its number.
    #[inline]
    pub(crate) fn get(&self, place: usize) -> (u32, &[u8]) {
        (self.numbers[place], self.keys.get(place))
    }

    /// Returns the keys in the order of the stream, each after its number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        (0..self.len()).map(|place| self.get(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_by_their_bytes_and_distinct() {
        let keys = Keys::ascending([&b"b"[..], b"a\xff", b"", b"a", b"b", b"a\x00"]);
        let list: Vec<_> = keys.iter().collect();
        assert_eq!(list, [&b""[..], b"a", b"a\x00", b"a\xff", b"b"]);
        assert_eq!((keys.len(), keys.total_bytes()), (5, 6));
        assert!(list.iter().all(|key| keys.has(key)));
        assert!(![&b"a\x01"[..], b"b\x00", b"0", b"c"].iter().any(|key| keys.has(key)));
    }

    #[test]
    fn unpacked_keys_equal_the_packed_ones() {
        let keys = Keys::ascending([&b"b"[..], b"", b"a\xff"]);
        let packed = keys.pack();
        assert!(Keys::unpack(&packed).unwrap().iter().eq(keys.iter()));
        for wrong in [&packed[..packed.len() - 1], &packed[..9], b"", b"\xff\xff\xff\xff"] {
            assert!(Keys::unpack(wrong).is_none(), "{wrong:?}");
        }
    }
}
