//! Keys that are close together: prefixes of one another, bytes at both ends of the range, long
//! common prefixes, and lengths up to the maximum.

use proptest::prelude::*;

/// The bytes of most keys: bytes with a common nibble, and bytes at both ends of the range.
const ALPHABET: [u8; 6] = [0x00, 0x01, 0x10, 0x11, b'a', 0xff];

/// Keys of a few letters, including the empty key.
fn short() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(&ALPHABET[..]), 0..5)
}

/// Keys of at most `longest` bytes; most of them share a prefix with others.
pub(crate) fn any_key(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    let common = (prop::sample::select(vec![7_usize, 8, 60]), short())
        .prop_map(|(length, tail)| [vec![b'/'; length], tail].concat());
    let long = (0..3_usize, prop::sample::select(&ALPHABET[..]))
        .prop_map(move |(less, last)| [vec![b'/'; longest - 1 - less], vec![last]].concat());
    prop_oneof![6 => short(), 3 => common, 1 => long]
}

/// A pseudo-random number generator with the same numbers in every run (xorshift).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns a number below `sides`.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % sides
    }

    /// Returns a key of up to five letters, in half of the cases followed by any byte, so that
    /// branches become wide.
    pub(crate) fn key(&mut self) -> Vec<u8> {
        let mut key: Vec<u8> =
            (0..self.roll(6)).map(|_| ALPHABET[self.roll(ALPHABET.len())]).collect();
        if self.roll(2) == 0 {
            key.push(self.roll(256) as u8);
        }
        key
    }
}
