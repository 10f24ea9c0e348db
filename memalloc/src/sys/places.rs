//! Places for ranges that take their addresses as they grow.
//!
//! A process may have more allocators than there is room for whole ranges, or a limit on its
//! addresses (`RLIMIT_AS`). A range that is not reserved whole gets a place: a start in a part of
//! the address space that the system does not use by itself, as far from the other places as can
//! be. The first places have terabytes behind them, 30,000 of them half a gigabyte each. Room
//! behind a place is not reserved: growing over another mapping fails.
//!
//! Lock-free, so that a fork finds nothing half done. Two copies of this crate in one process
//! begin at different places.

use crate::sync::{AtomicU64, AtomicUsize, Ordering};
use std::ops::Range;

/// The most places of one area.
const PLACES: usize = 1 << 17;

/// The least room between two places.
const LEAST_ROOM: usize = 64 << 20;

/// A part of the address space for ranges of like sizes, and the places there that are in use.
#[derive(Debug)]
struct Area {
    taken: [AtomicU64; PLACES / 64],
    /// In the words before this one no place is left, or it is overlooked until another is given
    /// back.
    full: AtomicUsize,
    /// Where it begins and ends, in thirty-seconds of the address space. On the systems known,
    /// programs, the heap, the stack, libraries and the shadow memory of sanitizers are elsewhere.
    part: Range<usize>,
}

/// For ranges of at least so many bytes there is one, for smaller ones another.
const LARGE_BYTES: u64 = 1 << 34;
static LARGE: Area = Area::new(12..20);
static SMALL: Area = Area::new(5..10);

/// The start of a place for a range that may come to have so many bytes, aligned to 64 MiB, which
/// nobody has; `None` when there is none left.
pub(crate) fn take(bytes: usize) -> Option<usize> {
    if bytes as u64 >= LARGE_BYTES { LARGE.take() } else { SMALL.take() }
}

/// Gives a place back, if `start` is that of one.
pub(crate) fn give(start: usize) -> bool {
    LARGE.give(start) || SMALL.give(start)
}

impl Area {
    const fn new(part: Range<usize>) -> Self {
        Self { taken: [const { AtomicU64::new(0) }; PLACES / 64], full: AtomicUsize::new(0), part }
    }

    fn take(&'static self) -> Option<usize> {
        let places = Places::of(self)?;
        let words = self.taken.iter().enumerate().take(places.count / 64);
        for (word, bits) in words.skip(self.full.load(Ordering::Relaxed)) {
            let mut seen = bits.load(Ordering::Relaxed);
            while seen != u64::MAX {
                let bit = seen.trailing_ones() as usize;
                let number = word * 64 + bit;
                match bits.compare_exchange_weak(
                    seen,
                    seen | 1 << bit,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => {
                        self.full.store(word, Ordering::Relaxed);
                        return Some(places.start_of(number));
                    }
                    Err(now) => seen = now,
                }
            }
        }
        None
    }

    fn give(&'static self, start: usize) -> bool {
        let number = Places::of(self).and_then(|places| places.number_of(start));
        let Some(number) = number else {
            return false;
        };
        self.taken[number / 64].fetch_and(!(1 << (number % 64)), Ordering::Relaxed);
        self.full.fetch_min(number / 64, Ordering::Relaxed);
        true
    }
}

/// The places of one area.
#[derive(Clone, Copy, Debug)]
struct Places {
    start: usize,
    /// From one to the next, in bytes.
    room: usize,
    /// A power of two.
    count: usize,
    /// The first is at this multiple of the room.
    turn: usize,
}

impl Places {
    /// `None` where addresses are too few for it.
    fn of(area: &'static Area) -> Option<Self> {
        Self::new(address_space()?, area.part.clone(), std::ptr::from_ref(area).addr())
    }

    fn new(space: usize, part: Range<usize>, seed: usize) -> Option<Self> {
        let unit = space / 32;
        let bytes = unit * part.len();
        let count = (bytes / LEAST_ROOM).min(PLACES);
        let count = if count.is_power_of_two() { count } else { count.next_power_of_two() / 2 };
        if count < 64 {
            return None;
        }
        let room = (bytes / count) & !(LEAST_ROOM - 1);
        let start = (unit * part.start).next_multiple_of(LEAST_ROOM);
        // Where a copy of this crate lies differs from copy to copy.
        let turn = (seed >> 12).wrapping_mul(0x9e37_79b9) % count;
        Some(Self { start, room, count, turn })
    }

    /// Half of the places so far lie between two others, whatever the number.
    fn start_of(&self, number: usize) -> usize {
        let bits = self.count.trailing_zeros();
        let spread = number.reverse_bits() >> (usize::BITS - bits);
        self.start + (spread + self.turn) % self.count * self.room
    }

    fn number_of(&self, start: usize) -> Option<usize> {
        let offset = start.checked_sub(self.start)?;
        let at = offset / self.room;
        if at >= self.count || !offset.is_multiple_of(self.room) {
            return None;
        }
        let spread = (at + self.count - self.turn) % self.count;
        Some(spread.reverse_bits() >> (usize::BITS - self.count.trailing_zeros()))
    }
}

/// How many addresses a process of this system has: a power of two, by where the stack is. `None`
/// where they are few.
pub(crate) fn address_space() -> Option<usize> {
    static BYTES: AtomicUsize = AtomicUsize::new(0);
    let mut bytes = BYTES.load(Ordering::Relaxed);
    if bytes == 0 {
        let local = 0_u8;
        bytes = std::ptr::from_ref(&local).addr().checked_next_power_of_two()?;
        let relaxed = Ordering::Relaxed;
        // The first answer counts: places have to be found again.
        bytes =
            BYTES.compare_exchange(0, bytes, relaxed, relaxed).map_or_else(|set| set, |_| bytes);
    }
    (bytes as u64 >= 1 << 38).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn places_are_far_from_one_another_and_are_found_again() {
        for (space, seed) in [(1 << 47, 0), (1 << 47, 0x5555_1234_5000), (1 << 39, 0x7000)] {
            let places = Places::new(space, 12..20, seed).expect("room");
            let mut starts = BTreeSet::new();
            for number in 0..places.count.min(1 << 12) {
                let start = places.start_of(number);
                assert!(start >= places.start && start < space / 32 * 20);
                assert!(start.is_multiple_of(LEAST_ROOM));
                assert_eq!(places.number_of(start), Some(number));
                assert!(starts.insert(start), "{number} has a place of its own");
                if (number + 1).is_power_of_two() {
                    let gap = |(a, b): (&usize, &usize)| b - a;
                    let least = starts.iter().zip(starts.iter().skip(1)).map(gap).min();
                    let even = places.count / (number + 1) * places.room;
                    assert!(least.is_none_or(|least| least == even), "{number}: {least:?}");
                }
            }
            assert_eq!(places.number_of(places.start + 1), None);
            assert_eq!(places.number_of(0), None);
        }
    }

    #[test]
    fn a_place_has_one_owner_until_it_is_given_back() {
        static AREA: Area = Area::new(0..1);
        let taken: Vec<_> = (0..100).map(|_| AREA.take().expect("a place")).collect();
        assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), 100);
        AREA.give(taken[7]);
        assert_eq!(AREA.take(), Some(taken[7]));
    }
}
