//! Sets of symbols.

use super::Symbol;
use super::bits::ones;

/// Words that have a bit for each byte.
pub(super) const BYTE_WORDS: usize = 8;

/// The symbols for which a branch has twigs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Symbols {
    pub(super) end: bool,
    /// Bit `byte % 32` of word `byte / 32`.
    pub(super) bytes: [u32; BYTE_WORDS],
}

impl Symbols {
    /// All that there are.
    pub(crate) const EVERY: Self = Self { end: true, bytes: [u32::MAX; BYTE_WORDS] };

    /// These and one more.
    pub(crate) fn with(mut self, symbol: Symbol) -> Self {
        match symbol.as_byte() {
            None => self.end = true,
            Some(byte) => self.bytes[usize::from(byte) / 32] |= 1 << (byte % 32),
        }
        self
    }

    /// These without one of them.
    pub(crate) fn without(mut self, symbol: Symbol) -> Self {
        match symbol.as_byte() {
            None => self.end = false,
            Some(byte) => self.bytes[usize::from(byte) / 32] &= !(1 << (byte % 32)),
        }
        self
    }

    /// Whether `symbol` is one of them.
    pub(crate) fn has(&self, symbol: Symbol) -> bool {
        symbol
            .as_byte()
            .map_or(self.end, |byte| self.bytes[usize::from(byte) / 32] >> (byte % 32) & 1 != 0)
    }

    /// The one that `before` others come before.
    pub(crate) fn nth(&self, before: u16) -> Option<Symbol> {
        let mut before = u32::from(before);
        if self.end {
            if before == 0 {
                return Some(Symbol::END);
            }
            before -= 1;
        }
        (0..).zip(self.bytes).find_map(|(number, word)| {
            let here = ones(word.into());
            if before >= here {
                before -= here;
                return None;
            }
            let left = (0..before).fold(word, |left, _| left & (left - 1));
            Some(Symbol::byte((number * u32::BITS + left.trailing_zeros()) as u8))
        })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        let bytes: u32 = self.bytes.iter().map(|&word| ones(word.into())).sum();
        bytes as usize + usize::from(self.end)
    }

    /// All of them, ascending.
    pub(crate) fn iter(self) -> impl Iterator<Item = Symbol> + Clone {
        let bytes = self.bytes.into_iter().enumerate().flat_map(|(number, word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros();
                left &= left.wrapping_sub(1);
                (bit < u32::BITS).then(|| Symbol::byte((number as u32 * u32::BITS + bit) as u8))
            })
        });
        self.end.then_some(Symbol::END).into_iter().chain(bytes)
    }

    /// The bytes by their upper nibbles: of each that there is, which lower ones.
    pub(super) fn groups(&self) -> impl Iterator<Item = (u32, u16)> {
        let halves = self.bytes.into_iter().flat_map(|word| [word as u16, (word >> 16) as u16]);
        (0..).zip(halves).filter(|(_, lowers)| *lowers != 0)
    }
}

impl FromIterator<Symbol> for Symbols {
    fn from_iter<I: IntoIterator<Item = Symbol>>(symbols: I) -> Self {
        symbols.into_iter().fold(Self::default(), Self::with)
    }
}
