//! The header of a branch: the symbol that it tests, and the ways that it has.
//!
//! There are four forms, each the smallest or the fastest for its set of ways; the first word
//! distinguishes them:
//!
//! ```text
//!              31 … 20    19 18   16    15 … 0
//!  pair      | index    | 0     | end | second byte, first byte
//!  list      | index    | 1     | end | number   |  the bytes, ascending, at most eight: 2 words
//!  groups    | index    | 2     | end | 4 upper  |  lower nibbles, 16 bits for each upper one:
//!                                       nibbles     2 words
//!  full      | index    | 3     | end | -        |  a bit for each byte: 8 words; how many ways
//!                                                   come before each of these: 2 words;
//!                                                   how many twigs are no holes: 1 word
//! ```
//!
//! The header does not change during a life, except for the last word of the full form.
//!
//! If a pair or a list has fewer bytes than it has room for, the last byte is repeated. If there
//! are fewer than four upper nibbles, the last one is repeated, without lower nibbles.
//!
//! A header of several words can be torn between two lives of a branch. A slot number computed from
//! it may be outside the branch, and must not be used before the count was read again.

use super::bits::ones;
use super::{Symbol, Symbols};
use std::cmp::Ordering::{Equal, Greater, Less};
use std::hint::select_unpredictable;
use std::ops::Range;

const INDEX_SHIFT: u32 = 20;
const FORM_SHIFT: u32 = 18;
const PAIR: u32 = 0;
const LIST: u32 = 1;
const GROUPS: u32 = 2;
const FULL: u32 = 3;
const END: u32 = 1 << 16;

/// The maximum number of bytes in a list.
const MOST_LISTED: usize = 8;
/// The maximum number of groups.
const MOST_GROUPS: usize = 4;

/// The lowest bit of every byte, and the top bit of every byte.
const ONES: u64 = u64::MAX / 255;
const TOPS: u64 = ONES << 7;
/// The same bits for nibbles.
const NIBBLE_ONES: u32 = 0x1111;
const NIBBLE_TOPS: u32 = NIBBLE_ONES << 3;

/// The index of the word of the shape; the count is before it.
const SHAPE: usize = 1;
/// The index of the first word of the list, of the lower nibbles, or of the bits.
const WAYS: usize = 2;
/// The number of words of the bits.
const BIT_WORDS: usize = 8;
/// The index of the first word of the ranks.
const RANKS: usize = WAYS + BIT_WORDS;
/// The index of the word with the number of twigs.
const TWIGS: usize = RANKS + 2;

/// The number of the first slot of a pair.
const PAIR_SLOTS: u32 = 2;
/// The number of the first slot of a list, and of groups.
const SLOTS: u32 = 4;
/// The number of the first slot of the full form.
const FULL_SLOTS: u32 = 13;

/// The number of words of the largest branch.
#[cfg(all(test, not(loom)))]
pub(super) const MOST_WORDS: usize = FULL_SLOTS as usize + 257;

/// The first word of a branch's header: the index of the symbol that the branch tests, its form,
/// and part of its ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape(pub(super) u32);

impl Shape {
    /// Returns the index of the tested symbol.
    #[inline(always)]
    pub(crate) fn index(self) -> u32 {
        self.0 >> INDEX_SHIFT
    }

    #[inline(always)]
    fn form(self) -> u32 {
        self.0 >> FORM_SHIFT & 3
    }

    /// Returns true if the form is a pair: exactly two ways.
    #[inline(always)]
    pub(crate) fn is_pair(self) -> bool {
        self.form() == PAIR
    }

    #[inline(always)]
    fn end(self) -> u32 {
        (self.0 / END) & 1
    }

    /// Returns the number of the slot of `symbol`, if it has a way. `word` returns the words of the
    /// branch.
    #[inline(always)]
    pub(super) fn way(self, symbol: Symbol, word: impl Fn(usize) -> u32) -> Option<u16> {
        let Some(byte) = symbol.as_byte() else {
            return (self.end() != 0).then(|| self.first_slot() as u16);
        };
        match self.form() {
            PAIR | LIST => self.way_in_list(byte, word),
            GROUPS => self.way_in_groups(byte, word),
            _ => {
                let (slot, exists) = self.place_in_full(byte, word);
                exists.then_some(slot)
            }
        }
    }

    /// Returns the number of the slot that a twig of `symbol` has, or would have. `word` returns
    /// the words of the branch.
    pub(super) fn place(self, symbol: Symbol, word: impl Fn(usize) -> u32) -> u16 {
        let Some(byte) = symbol.as_byte() else {
            return self.first_slot() as u16;
        };
        match self.form() {
            PAIR | LIST => {
                let listed = self.list(word).to_le_bytes().into_iter();
                let before = listed.take(self.listed() as usize).filter(|&listed| listed < byte);
                (self.first_slot() + self.end()) as u16 + before.count() as u16
            }
            GROUPS => {
                let (upper, lower) = (u32::from(byte >> 4), byte & 15);
                let before = self.groups(word).map(|(group, lowers)| match group.cmp(&upper) {
                    Less => lowers,
                    Equal => lowers & ((1 << lower) - 1),
                    Greater => 0,
                });
                let before: u32 = before.map(|lowers| ones(lowers.into())).sum();
                (SLOTS + self.end() + before) as u16
            }
            _ => self.place_in_full(byte, word).0,
        }
    }

    /// Returns the number of the slot of the end, or of the first byte.
    #[inline(always)]
    fn first_slot(self) -> u32 {
        match self.form() {
            PAIR => PAIR_SLOTS,
            LIST | GROUPS => SLOTS,
            _ => FULL_SLOTS,
        }
    }

    /// Returns the number of bytes in a pair or a list.
    #[inline(always)]
    fn listed(self) -> u32 {
        match self.form() {
            PAIR => 2 - self.end(),
            // In a header that is half from another life this may be any number.
            _ => (self.0 & 0xffff).min(MOST_LISTED as u32),
        }
    }

    /// Returns the bytes of a pair or a list, the first one in the lowest bits.
    #[inline(always)]
    fn list(self, word: impl Fn(usize) -> u32) -> u64 {
        let (first, second) = (u64::from(self.0 & 0xff), u64::from(self.0 >> 8 & 0xff));
        // The form changes from step to step, so a branch instruction would be mispredicted. (A
        // pair has its twigs where a list has its bytes.)
        select_unpredictable(self.form() == PAIR, first | (second * (ONES << 8)), pair_of(word))
    }

    /// Returns the upper nibbles, each with its lower ones. The last one may be repeated.
    #[inline(always)]
    fn groups(self, word: impl Fn(usize) -> u32) -> impl Iterator<Item = (u32, u16)> {
        let lowers = pair_of(word);
        (0..MOST_GROUPS)
            .map(move |group| (self.0 >> (group * 4) & 15, (lowers >> (group * 16)) as u16))
    }

    #[inline(always)]
    fn way_in_list(self, byte: u8, word: impl Fn(usize) -> u32) -> Option<u16> {
        let list = self.list(word);
        let first = select_unpredictable(self.form() == PAIR, PAIR_SLOTS, SLOTS) + self.end();
        let different = list ^ (u64::from(byte) * ONES);
        // Finds the top bit of the first byte that is zero; no bit before it is set.
        let same = different.wrapping_sub(ONES) & !different & TOPS;
        (same != 0).then(|| (first + same.trailing_zeros() / 8) as u16)
    }

    #[inline(always)]
    fn way_in_groups(self, byte: u8, word: impl Fn(usize) -> u32) -> Option<u16> {
        let different = (self.0 & 0xffff) ^ (u32::from(byte >> 4) * NIBBLE_ONES);
        // As in a list.
        let same = different.wrapping_sub(NIBBLE_ONES) & !different & NIBBLE_TOPS;
        if same == 0 {
            return None;
        }
        let bit = (same.trailing_zeros() / 4) * 16 + u32::from(byte & 15);
        let lowers = pair_of(word);
        let before = lowers & ((1 << bit) - 1);
        (lowers >> bit & 1 != 0).then(|| (SLOTS + self.end() + ones(before)) as u16)
    }

    #[inline(always)]
    fn place_in_full(self, byte: u8, word: impl Fn(usize) -> u32) -> (u16, bool) {
        let (number, bit) = (usize::from(byte) / 32, u32::from(byte) % 32);
        let bits = word(WAYS + number);
        let rank = word(RANKS + number / 4) >> (number % 4 * 8) & 0xff;
        let before = rank + ones(u64::from(bits & ((1 << bit) - 1)));
        ((FULL_SLOTS + before) as u16, bits >> bit & 1 != 0)
    }

    /// Returns the numbers of the slots. `word` returns the words of the branch.
    #[inline(always)]
    pub(super) fn slots(self, word: impl Fn(usize) -> u32) -> Range<u16> {
        if let Some(slots) = self.slots_of_list() {
            return slots;
        }
        let count = match self.form() {
            GROUPS => self.end() + ones(pair_of(word)),
            _ => {
                let last = word(RANKS + 1) >> 24;
                last + ones(u64::from(word(WAYS + BIT_WORDS - 1)))
            }
        };
        let first = self.first_slot();
        first as u16..(first + count) as u16
    }

    /// Returns the numbers of the slots of a pair or a list; `None` for any other form. They follow
    /// from the shape alone, so they are inside the branch, in whichever life.
    #[inline(always)]
    pub(crate) fn slots_of_list(self) -> Option<Range<u16>> {
        if self.form() > LIST {
            return None;
        }
        // As in `list`, a branch instruction would be mispredicted.
        let is_pair = self.form() == PAIR;
        let first = select_unpredictable(is_pair, PAIR_SLOTS, SLOTS);
        let listed = (self.0 & 0xffff).min(MOST_LISTED as u32);
        let count = select_unpredictable(is_pair, 2, self.end() + listed);
        Some(first as u16..(first + count) as u16)
    }

    /// Returns the index of the word with the number of twigs that are not holes. Only the full
    /// form has it: with few slots, counting them is faster.
    #[inline(always)]
    pub(super) fn twigs_word(self) -> Option<usize> {
        (self.form() == FULL).then_some(TWIGS)
    }

    /// Returns the symbols that have ways. `word` returns the words of the branch.
    pub(super) fn symbols(self, word: impl Fn(usize) -> u32) -> Symbols {
        let mut symbols = Symbols { end: self.end() != 0, ..Symbols::default() };
        match self.form() {
            PAIR | LIST => {
                // The last byte may be repeated.
                for byte in self.list(word).to_le_bytes() {
                    symbols.insert(Symbol::byte(byte));
                }
            }
            GROUPS => {
                for (upper, lowers) in self.groups(word) {
                    symbols.bytes[upper as usize / 4] |= u64::from(lowers) << (upper % 4 * 16);
                }
            }
            _ => {
                let bits = |number| u64::from(word(WAYS + number));
                symbols.bytes =
                    std::array::from_fn(|number| bits(number * 2) | bits(number * 2 + 1) << 32);
            }
        }
        symbols
    }
}

/// Returns the two words of a list, or of lower nibbles.
#[inline(always)]
fn pair_of(word: impl Fn(usize) -> u32) -> u64 {
    u64::from(word(WAYS)) | u64::from(word(WAYS + 1)) << 32
}

/// A header of a branch that is about to be created.
pub(super) struct Header {
    words: [u32; FULL_SLOTS as usize],
    slots: Range<u16>,
}

impl Header {
    /// Creates the header of a branch that tests symbol number `index` and has a way for each of
    /// `symbols`, at least two.
    pub(super) fn new(index: u32, symbols: &Symbols) -> Self {
        debug_assert!(index < 1 << (u32::BITS - INDEX_SHIFT) && symbols.len() >= 2);
        let mut words = [0; FULL_SLOTS as usize];
        let end = u32::from(symbols.end) * END;
        words[SHAPE] = end;
        let count = symbols.len();
        let listed = count - usize::from(symbols.end);
        let (form, first) = if listed <= MOST_LISTED {
            let mut bytes = symbols.bytes();
            let mut last = 0;
            let list = [(); MOST_LISTED].map(|()| {
                last = bytes.next().unwrap_or(last);
                last
            });
            if count == 2 {
                words[SHAPE] |= u32::from(u16::from_le_bytes([list[0], list[1]]));
                (PAIR, PAIR_SLOTS)
            } else {
                words[SHAPE] |= listed as u32;
                let list = u64::from_le_bytes(list);
                (words[WAYS], words[WAYS + 1]) = (list as u32, (list >> 32) as u32);
                (LIST, SLOTS)
            }
        } else if symbols.groups().count() <= MOST_GROUPS {
            let mut groups = symbols.groups();
            let mut last = 0;
            for group in 0..MOST_GROUPS {
                let lowers = groups.next().map_or(0, |(upper, lowers)| {
                    last = upper;
                    lowers
                });
                words[SHAPE] |= last << (group * 4);
                words[WAYS + group / 2] |= u32::from(lowers) << (group % 2 * 16);
            }
            (GROUPS, SLOTS)
        } else {
            let mut rank = u32::from(symbols.end);
            let halves = symbols.bytes.iter().flat_map(|&word| [word as u32, (word >> 32) as u32]);
            for (number, bits) in halves.enumerate() {
                words[WAYS + number] = bits;
                words[RANKS + number / 4] |= rank << (number % 4 * 8);
                rank += ones(bits.into());
            }
            (FULL, FULL_SLOTS)
        };
        words[SHAPE] |= index << INDEX_SHIFT | form << FORM_SHIFT;
        Self { words, slots: first as u16..first as u16 + count as u16 }
    }

    /// Returns the shape: the first word after the count.
    pub(super) fn shape(&self) -> Shape {
        Shape(self.words[SHAPE])
    }

    /// Returns the words after the count, with their indices.
    pub(super) fn words(&self) -> impl Iterator<Item = (usize, u32)> {
        (SHAPE..usize::from(self.slots.start)).map(|number| (number, self.words[number]))
    }

    /// Returns the numbers of the slots.
    pub(super) fn slots(&self) -> Range<u16> {
        self.slots.clone()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the words of a branch with this header, with a pattern in its slots.
    fn words(header: &Header) -> Vec<u32> {
        let mut words = vec![0x5555_5555; usize::from(header.slots().end).max(4)];
        for (number, word) in header.words() {
            words[number] = word;
        }
        words
    }

    fn every_symbol() -> impl Iterator<Item = Symbol> {
        std::iter::once(Symbol::END).chain((0..=255).map(Symbol::byte))
    }

    fn check(index: u32, symbols: &Symbols) -> u32 {
        let header = Header::new(index, symbols);
        let words = words(&header);
        let (shape, word) = (Shape(words[SHAPE]), |number: usize| words[number]);
        assert_eq!(shape.index(), index);
        assert_eq!(shape.symbols(word), *symbols);
        assert_eq!(shape.slots(word), header.slots());
        assert_eq!(header.slots().len(), symbols.len());
        for symbol in every_symbol() {
            let before = symbols.iter().filter(|other| *other < symbol).count();
            let place = header.slots().start + before as u16;
            let way = symbols.iter().any(|other| other == symbol).then_some(place);
            assert_eq!(shape.place(symbol, word), place, "{symbol:?}");
            assert_eq!(shape.way(symbol, word), way, "{symbol:?}");
        }
        shape.form()
    }

    #[test]
    fn every_pair_of_symbols_is_told_apart() {
        for first in every_symbol() {
            for second in every_symbol().filter(|second| *second > first) {
                assert_eq!(check(4095, &[first, second].into_iter().collect()), PAIR);
            }
        }
    }

    #[test]
    fn the_form_is_the_smallest_that_has_room() {
        let of = |bytes: &[u8]| bytes.iter().map(|byte| Symbol::byte(*byte)).collect();
        let form = |symbols: Symbols| (check(0, &symbols), check(7, &symbols.with(Symbol::END)));
        assert_eq!(form(of(b"xy")), (PAIR, LIST));
        assert_eq!(form(of(&[0x00, 0xff])), (PAIR, LIST));
        assert_eq!(form(of(&[0x01, 0x12, 0x23, 0x34, 0x45, 0x56, 0x67, 0x78])), (LIST, LIST));
        let nine = [0x01, 0x02, 0x03, 0x5f, 0x52, 0xff, 0xf0, 0x90, 0x91];
        assert_eq!(form(of(&nine)), (GROUPS, GROUPS));
        assert_eq!(form(of(&[&nine[..], &[0x62]].concat())), (FULL, FULL));
        assert_eq!(form(of(&(0x40..0x80).collect::<Vec<_>>())), (GROUPS, GROUPS));
        assert_eq!(form(of(&(0..=255).collect::<Vec<_>>())), (FULL, FULL));
        assert_eq!(Header::new(0, &every_symbol().collect()).slots().end, MOST_WORDS as u16);
    }

    #[test]
    fn a_torn_header_can_name_a_slot_outside_of_the_branch() {
        let of = |bytes: &[u8]| bytes.iter().map(|byte| Symbol::byte(*byte)).collect::<Symbols>();
        let groups = of(&[0x01, 0x02, 0x03, 0x5f, 0x52, 0xff, 0xf0, 0x90, 0x91]);
        let list = of(&[0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff]).with(Symbol::END);
        // One branch may have both in two lives: they have the same number of words.
        let (one, other) = (Header::new(0, &groups), Header::new(0, &list));
        assert_eq!(one.slots().end, other.slots().end);
        let (torn, rest) = (Shape(words(&one)[SHAPE]), words(&other));
        let way = torn.way(Symbol::byte(0xff), |number| rest[number]);
        assert!(way.is_some_and(|slot| slot > 2 * one.slots().end), "{way:?}");
    }

    proptest! {
        #[test]
        fn any_set_of_symbols_comes_out_as_it_went_in(
            numbers in prop_oneof![
                prop::collection::btree_set(0..=256_u32, 2..257),
                prop::collection::btree_set(0..=256_u32, 2..11),
                prop::collection::btree_set(97..=122_u32, 2..20),
            ],
            index in 0..4096_u32,
        ) {
            let every: Vec<Symbol> = every_symbol().collect();
            check(index, &numbers.iter().map(|number| every[*number as usize]).collect());
        }
    }
}
