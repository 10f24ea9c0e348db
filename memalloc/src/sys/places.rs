//! Places: start addresses for ranges that reserve their addresses as they grow.
//!
//! A process may have more allocators than there is room for whole ranges, or a limit on its
//! addresses (`RLIMIT_AS`). A range that is not reserved whole gets a place: a start address in a
//! part of the address space that the system does not use on its own, as far from the other places
//! as possible. The first places have terabytes behind them, 30,000 of them half a gigabyte each.
//! The room behind a place is not reserved: growth over another mapping fails.
//!
//! Lock-free, so that a fork finds nothing half done. Two copies of this crate in one process begin
//! at different places.

use crate::sync::{AtomicU64, AtomicUsize, Ordering};
use std::ops::Range;

/// The maximum number of places in one area.
const PLACES: usize = 1 << 17;

/// The minimum distance between two places, in bytes.
const LEAST_ROOM: usize = 64 << 20;

/// A part of the address space for ranges of similar sizes, and the places in it that are in use.
#[derive(Debug)]
struct Area {
    taken: [AtomicU64; PLACES / 64],
    /// The words before this index have no free place, or one that is overlooked until another
    /// place is given back.
    full: AtomicUsize,
    /// The start and end of the part, in 1/32 of the address space. On the known systems, programs,
    /// the heap, the stack, libraries and the shadow memory of sanitizers are elsewhere.
    part: Range<usize>,
}

/// Ranges of at least this many bytes use [`LARGE`], smaller ones [`SMALL`].
const LARGE_BYTES: u64 = 1 << 34;
static LARGE: Area = Area::new(12..20);
static SMALL: Area = Area::new(5..10);

/// Returns a free place for a range that may grow to `bytes`: a start address aligned to 64 MiB.
/// Returns `None` if no place is left.
pub(crate) fn take(bytes: usize) -> Option<usize> {
    if bytes as u64 >= LARGE_BYTES { LARGE.take() } else { SMALL.take() }
}

/// Gives back the place at `start`. Returns `false` if `start` is not the start of a place.
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
    /// The distance from one place to the next, in bytes.
    room: usize,
    /// A power of two.
    count: usize,
    /// Place 0 is this many times `room` after `start`.
    turn: usize,
}

impl Places {
    /// Returns `None` if there are too few addresses for the area.
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
        // The address of the area differs between copies of this crate.
        let turn = (seed >> 12).wrapping_mul(0x9e37_79b9) % count;
        Some(Self { start, room, count, turn })
    }

    /// Reverses the bits of `number`, so that each place is as far as possible from the ones before
    /// it.
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

/// Returns the number of addresses of a process on this system: a power of two, derived from the
/// address of the stack. Returns `None` if it is below 2^38.
pub(crate) fn address_space() -> Option<usize> {
    static BYTES: AtomicUsize = AtomicUsize::new(0);
    let mut bytes = BYTES.load(Ordering::Relaxed);
    if bytes == 0 {
        let local = 0_u8;
        bytes = std::ptr::from_ref(&local).addr().checked_next_power_of_two()?;
        let relaxed = Ordering::Relaxed;
        // The first result stays, because places have to be found again.
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
        if address_space().is_none() {
            // Under memcheck, stacks are at low addresses.
            return assert_eq!(AREA.take(), None);
        }
        let taken: Vec<_> = (0..100).map(|_| AREA.take().expect("a place")).collect();
        assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), 100);
        AREA.give(taken[7]);
        assert_eq!(AREA.take(), Some(taken[7]));
    }
}
