//! One word that tells the number of objects in an array, whether there is room for one more, and
//! whether the array's cache is busy. One load reads all of it.
//!
//! | bits | free | busy |
//! |---|---|---|
//! | 0 to 15 | the count | 0: looks empty |
//! | 16 to 63 | count minus limit: negative while there is room | `01` on top: looks full; a ticket below |
//!
//! An all-zero word looks empty and full: no thread has used the array yet.

/// The word of an array; see the module documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct CountWord(u64);

const COUNT_BITS: u32 = u16::BITS;

/// Bit 62. A busy word has it without bit 63; a free word with room has both.
const BUSY: u64 = 1 << 62;

impl CountWord {
    /// The word of an array that no thread has used yet.
    pub(crate) const UNUSED: Self = Self::free(0, 0);

    /// Added to a word, this counts one more object, and room for one fewer. For sequences.
    #[cfg_attr(
        any(loom, miri, not(all(target_os = "linux", target_arch = "x86_64"))),
        allow(dead_code)
    )]
    pub(crate) const ONE: u64 = 1 << COUNT_BITS | 1;

    /// The upper half of a busy word, as a signed number, is at least this; that of any other word
    /// is less. For sequences.
    #[cfg_attr(
        any(loom, miri, not(all(target_os = "linux", target_arch = "x86_64"))),
        allow(dead_code)
    )]
    pub(crate) const BUSY_ABOVE: i32 = (BUSY >> 32) as i32;

    /// The word of a cache that was made busy by a thread on the cache's CPU.
    pub(crate) const LOCAL: Self = Self(BUSY);

    /// Returns the word of a cache that a thread on any CPU made busy, or attempts to. `number`
    /// must differ from that of every other attempt under way.
    pub(crate) const fn ticket(number: u64) -> Self {
        let number = number % ((BUSY >> COUNT_BITS) - 1) + 1;
        Self(BUSY | number << COUNT_BITS)
    }

    /// Returns the word of an array in a cache that is not busy, with `count` objects and room for
    /// up to `limit`.
    pub(crate) const fn free(count: usize, limit: u16) -> Self {
        let above = count as i64 - limit as i64;
        Self((above << COUNT_BITS) as u64 | count as u64)
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn is_busy(self) -> bool {
        self.0 >> 62 == 1
    }

    pub(crate) const fn count(self) -> usize {
        (self.0 & ((1 << COUNT_BITS) - 1)) as usize
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Reads a word as the sequences do.
    fn has_room(word: CountWord) -> bool {
        (word.bits() as i64) < 0
    }

    fn upper_half(word: CountWord) -> i32 {
        (word.bits() >> 32) as i32
    }

    #[test]
    fn a_word_tells_count_room_and_use() {
        for limit in [0, 1, 2, 57, 249, 255, 256, 349] {
            for count in 0..400 {
                let word = CountWord::free(count, limit);
                assert_eq!(word.count(), count);
                assert_eq!(has_room(word), count < limit.into(), "{count} of {limit}");
                assert!(!word.is_busy() && upper_half(word) < CountWord::BUSY_ABOVE);
                let more = CountWord::from_bits(word.bits().wrapping_add(CountWord::ONE));
                assert_eq!(more, CountWord::free(count + 1, limit));
                let less = CountWord::from_bits(more.bits().wrapping_sub(CountWord::ONE));
                assert_eq!(less, word);
            }
        }
        let tickets = [0, 1, 2, u64::from(u32::MAX), u64::MAX].map(CountWord::ticket);
        for word in tickets.into_iter().chain([CountWord::LOCAL]) {
            assert!(word.is_busy() && upper_half(word) >= CountWord::BUSY_ABOVE);
            assert!(!has_room(word) && word.count() == 0, "no sequence changes it");
        }
        assert!(tickets.iter().all(|&ticket| ticket != CountWord::LOCAL));
        let unused = CountWord::UNUSED;
        assert_eq!(unused.bits(), 0, "as memory that was never written");
        assert!(!unused.is_busy() && !has_room(unused) && unused.count() == 0);
    }
}
