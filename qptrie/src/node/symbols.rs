//! Sets of symbols.

use super::Symbol;
use super::bits::ones;

/// The number of words with a bit for each byte.
const WORDS: usize = 4;

/// The symbols for which a branch has twigs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Symbols {
    pub(super) end: bool,
    /// Byte `b` is bit `b % 64` of word `b / 64`.
    pub(super) bytes: [u64; WORDS],
}

impl Symbols {
    /// All symbols.
    pub(crate) const EVERY: Self = Self { end: true, bytes: [u64::MAX; WORDS] };

    /// Adds a symbol.
    ///
    /// Changes the set in place: a set passed by value with each symbol is stored one word at a
    /// time and loaded two words at a time, which stalls the processor each time.
    #[inline]
    pub(super) fn insert(&mut self, symbol: Symbol) {
        match symbol.as_byte() {
            None => self.end = true,
            Some(byte) => self.bytes[usize::from(byte) / 64] |= 1 << (byte % 64),
        }
    }

    /// Returns this set with one more symbol.
    #[inline]
    pub(crate) fn with(mut self, symbol: Symbol) -> Self {
        self.insert(symbol);
        self
    }

    /// Returns this set without a symbol.
    #[inline]
    pub(crate) fn without(mut self, symbol: Symbol) -> Self {
        match symbol.as_byte() {
            None => self.end = false,
            Some(byte) => self.bytes[usize::from(byte) / 64] &= !(1 << (byte % 64)),
        }
        self
    }

    /// Returns true if `symbol` is in the set.
    pub(crate) fn has(&self, symbol: Symbol) -> bool {
        symbol
            .as_byte()
            .map_or(self.end, |byte| self.bytes[usize::from(byte) / 64] >> (byte % 64) & 1 != 0)
    }

    /// Returns the number of symbols.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        let bytes: u32 = self.bytes.iter().map(|&word| ones(word)).sum();
        bytes as usize + usize::from(self.end)
    }

    /// Returns all symbols in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Symbol> {
        self.end.then_some(Symbol::END).into_iter().chain(self.bytes().map(Symbol::byte))
    }

    /// Returns the bytes in ascending order.
    #[inline]
    pub(super) fn bytes(&self) -> impl Iterator<Item = u8> {
        let (mut number, mut left) = (0, self.bytes);
        std::iter::from_fn(move || {
            while number < WORDS {
                let word = left[number];
                if word != 0 {
                    left[number] = word & (word - 1);
                    return Some((number as u32 * u64::BITS + word.trailing_zeros()) as u8);
                }
                number += 1;
            }
            None
        })
    }

    /// Returns the bytes grouped by upper nibble: each upper nibble that occurs, with a bit for
    /// each of its lower nibbles.
    pub(super) fn groups(&self) -> impl Iterator<Item = (u32, u16)> {
        let lowers =
            self.bytes.into_iter().flat_map(|word| [0, 16, 32, 48].map(|at| (word >> at) as u16));
        (0..).zip(lowers).filter(|(_, lowers)| *lowers != 0)
    }
}

impl FromIterator<Symbol> for Symbols {
    fn from_iter<I: IntoIterator<Item = Symbol>>(symbols: I) -> Self {
        let mut all = Self::default();
        for symbol in symbols {
            all.insert(symbol);
        }
        all
    }
}
