//! How many objects an array has, whether there is room for one more, and whether somebody has the
//! cache that it belongs to: one word, so that one load tells all of it.
//!
//! | bits | free | busy |
//! |---|---|---|
//! | 0 to 15 | the count | 0: looks empty |
//! | 16 to 63 | count minus limit: negative while there is room | `01` on top: looks full; a ticket below |
//!
//! All zero, an array looks empty and full: nobody has used it yet.

/// See the module's front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct CountWord(u64);

const COUNT_BITS: u32 = u16::BITS;

/// Bit 62 without bit 63, which is set with it while there is room.
const BUSY: u64 = 1 << 62;

impl CountWord {
    /// That of an array that nobody has used yet.
    pub(crate) const UNUSED: Self = Self::free(0, 0);

    /// One object more, and as much less room. For sequences.
    #[cfg_attr(
        any(loom, miri, not(all(target_os = "linux", target_arch = "x86_64"))),
        allow(dead_code)
    )]
    pub(crate) const ONE: u64 = 1 << COUNT_BITS | 1;

    /// The upper half, as a signed number, is at least this in a busy word, and less in any other.
    /// For sequences.
    #[cfg_attr(
        any(loom, miri, not(all(target_os = "linux", target_arch = "x86_64"))),
        allow(dead_code)
    )]
    pub(crate) const BUSY_ABOVE: i32 = (BUSY >> 32) as i32;

    /// Busy by a thread that was on the cache's CPU.
    pub(crate) const LOCAL: Self = Self(BUSY);

    /// Busy by a thread that may be on any CPU, or by its attempt, which has a number that
    /// differs from that of every other under way.
    pub(crate) const fn ticket(number: u64) -> Self {
        let number = number % ((BUSY >> COUNT_BITS) - 1) + 1;
        Self(BUSY | number << COUNT_BITS)
    }

    /// The word of an array that nobody uses, with so many objects, of at most `limit` where there
    /// is to be room.
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

    /// What the sequences read from a word.
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
        assert_eq!(unused.bits(), 0, "as memory is that nobody has written");
        assert!(!unused.is_busy() && !has_room(unused) && unused.count() == 0);
    }
}
