//! Byte strings laid end to end.
//!
//! Queries lie in memory in the order in which they are asked: what a lookup waits for is then
//! the map's memory, not the memory of the list of queries. In a program, too, the key of a
//! lookup has just arrived and is in the cache.

use std::cmp::Ordering;

/// A list of keys in one block of memory.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    bytes: Vec<u8>,
    /// Where each key ends; it starts where the one before it ends.
    ends: Vec<u32>,
}

impl Keys {
    /// The most bytes that all keys of a list may have together.
    pub(crate) const MAX_BYTES: usize = u32::MAX as usize;

    /// Sorts keys, and drops those that are there already.
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

    /// The keys as bytes, for another process of this program: how many, where each ends, and what
    /// they are.
    pub(super) fn pack(&self) -> Vec<u8> {
        let mut packed = Vec::with_capacity(4 + 4 * self.ends.len() + self.bytes.len());
        packed.extend((self.ends.len() as u32).to_le_bytes());
        self.ends.iter().for_each(|end| packed.extend(end.to_le_bytes()));
        packed.extend_from_slice(&self.bytes);
        packed
    }

    /// The keys that were packed; `None` where something else was.
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

    /// The number of keys.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of all keys together.
    pub(crate) fn total_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The key at a place in the list.
    #[inline]
    pub(crate) fn get(&self, place: usize) -> &[u8] {
        let start = if place == 0 { 0 } else { self.ends[place - 1] };
        &self.bytes[start as usize..self.ends[place] as usize]
    }

    /// The keys in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|place| self.get(place))
    }

    /// Whether an ascending list has a key.
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

    /// The same keys in a random order.
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

/// Keys of a list in an order of their own, each with its place in that list.
#[derive(Debug)]
pub(crate) struct Stream {
    keys: Keys,
    numbers: Vec<u32>,
}

impl Stream {
    /// An empty stream with room for as many keys, and as many bytes of them, as another has.
    pub(super) fn with_room_of(other: &Self) -> Self {
        let keys = Keys {
            bytes: Vec::with_capacity(other.keys.bytes.len()),
            ends: Vec::with_capacity(other.keys.ends.len()),
        };
        Self { keys, numbers: Vec::with_capacity(other.numbers.len()) }
    }

    /// Puts a key at the end.
    pub(super) fn push(&mut self, number: u32, key: &[u8]) {
        self.keys.push(key);
        self.numbers.push(number);
    }

    /// The number of keys.
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The key at a place in the stream, after its number.
    #[inline]
    pub(crate) fn get(&self, place: usize) -> (u32, &[u8]) {
        (self.numbers[place], self.keys.get(place))
    }

    /// The keys in the order of the stream, each after its number.
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
    fn keys_come_out_as_they_were_packed() {
        let keys = Keys::ascending([&b"b"[..], b"", b"a\xff"]);
        let packed = keys.pack();
        assert!(Keys::unpack(&packed).unwrap().iter().eq(keys.iter()));
        for wrong in [&packed[..packed.len() - 1], &packed[..9], b"", b"\xff\xff\xff\xff"] {
            assert!(Keys::unpack(wrong).is_none(), "{wrong:?}");
        }
    }
}
