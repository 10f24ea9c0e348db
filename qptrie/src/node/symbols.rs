//! Sets of symbols.

use super::Symbol;
use super::bits::ones;

/// Words that have a bit for each byte.
const WORDS: usize = 4;

/// The symbols for which a branch has twigs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Symbols {
    pub(super) end: bool,
    /// Bit `byte % 64` of word `byte / 64`.
    pub(super) bytes: [u64; WORDS],
}

impl Symbols {
    /// All that there are.
    pub(crate) const EVERY: Self = Self { end: true, bytes: [u64::MAX; WORDS] };

    /// Puts one more in, if it is not there.
    ///
    /// In place: a set that is handed on by value with each symbol is stored by one word and loaded
    /// by two, for which the processor waits each time.
    #[inline]
    pub(super) fn insert(&mut self, symbol: Symbol) {
        match symbol.as_byte() {
            None => self.end = true,
            Some(byte) => self.bytes[usize::from(byte) / 64] |= 1 << (byte % 64),
        }
    }

    /// These and one more.
    #[inline]
    pub(crate) fn with(mut self, symbol: Symbol) -> Self {
        self.insert(symbol);
        self
    }

    /// These without one of them.
    #[inline]
    pub(crate) fn without(mut self, symbol: Symbol) -> Self {
        match symbol.as_byte() {
            None => self.end = false,
            Some(byte) => self.bytes[usize::from(byte) / 64] &= !(1 << (byte % 64)),
        }
        self
    }

    /// Whether `symbol` is one of them.
    pub(crate) fn has(&self, symbol: Symbol) -> bool {
        symbol
            .as_byte()
            .map_or(self.end, |byte| self.bytes[usize::from(byte) / 64] >> (byte % 64) & 1 != 0)
    }

    /// How many there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        let bytes: u32 = self.bytes.iter().map(|&word| ones(word)).sum();
        bytes as usize + usize::from(self.end)
    }

    /// All of them, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Symbol> {
        self.end.then_some(Symbol::END).into_iter().chain(self.bytes().map(Symbol::byte))
    }

    /// The bytes, ascending.
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

    /// The bytes by their upper nibbles: of each that there is, which lower ones.
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
