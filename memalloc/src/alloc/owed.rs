//! The bytes on their way to the slabs that have no grace period yet: when they make a check due,
//! and when a check is to begin a grace period. Knows numbers only, no objects and no readers.

use crate::sync::Ordering::Relaxed;
use crate::sync::Tally;
use std::time::Duration;

/// Check grace periods once this many more bytes are owed. A grace period that needs no barrier
/// begins then.
const LOOK_BYTES: u64 = if cfg!(loom) { 1 } else { 64 << 10 };

/// Begin a grace period that interrupts the other processors once this many bytes are owed, at most
/// once per `BARRIER_INTERVAL`.
const BARRIER_BYTES: u64 = if cfg!(loom) { 1 } else { 1 << 20 };

/// The least time between two grace periods that interrupt the other processors. An interruption
/// takes as long as thousands of allocations, and covers everything that was freed before it.
const BARRIER_INTERVAL: Duration = Duration::from_micros(if cfg!(loom) { 0 } else { 150 });

/// Begin a grace period at once when this many bytes are owed, regardless of `BARRIER_INTERVAL`.
const URGENT_BYTES: u64 = 2 << 20;

/// If the last check is longer ago than this, the next addition triggers one, however few bytes are
/// owed, and begins a grace period. One interruption per interval is negligible.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Read the clock about once per this many objects: a read takes as long as handling several of
/// them.
const OBJECTS_PER_CLOCK: u64 = 64;

/// Bytes on their way to the slabs whose grace period has not begun.
#[derive(Debug)]
pub(super) struct Owed {
    /// Since the last check.
    recent: Tally,
    /// Before the last check, since the last grace period was begun.
    earlier: Tally,
    /// The time of the last check, in nanoseconds.
    looked_at: Tally,
}

/// A check that is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// The bytes owed.
    bytes: u64,
    /// True if the last check was `LOOK_INTERVAL` ago or longer.
    late: bool,
}

impl Owed {
    pub(super) fn new() -> Self {
        Self { recent: Tally::new(0), earlier: Tally::new(0), looked_at: Tally::new(0) }
    }

    /// Adds objects of a size. Returns the check to make, if one is due. Most calls do not read
    /// `clock`.
    pub(super) fn add(
        &self,
        objects: u64,
        size: u64,
        clock: impl FnOnce() -> Duration,
    ) -> Option<Due> {
        let bytes = objects * size;
        let before = self.recent.fetch_add(bytes, Relaxed);
        let recent = before + bytes;
        let step = (size * OBJECTS_PER_CLOCK).next_power_of_two();
        if recent < LOOK_BYTES && recent & !(step - 1) == before & !(step - 1) {
            return None;
        }
        let now = clock().as_nanos() as u64;
        let looked_ago = Duration::from_nanos(now.saturating_sub(self.looked_at.load(Relaxed)));
        let late = looked_ago >= LOOK_INTERVAL;
        (late || recent >= LOOK_BYTES).then(|| {
            // Bytes that others add meanwhile may be lost: the count decides when to check, not
            // what is there.
            self.recent.store(0, Relaxed);
            self.looked_at.store(now, Relaxed);
            Due { bytes: recent + self.earlier.fetch_add(recent, Relaxed), late }
        })
    }

    /// Returns a check to make now, whether or not one is due.
    pub(super) fn at_once(&self) -> Due {
        let recent = self.recent.swap(0, Relaxed);
        Due { bytes: recent + self.earlier.fetch_add(recent, Relaxed), late: false }
    }

    /// Notes that a grace period has begun for the bytes of every check so far.
    pub(super) fn begun(&self) {
        self.earlier.store(0, Relaxed);
    }
}

impl Due {
    /// The check of an allocation that finds no object and could use one of `bytes` pending bytes.
    pub(super) fn for_allocation(bytes: u64) -> Self {
        // A quarter of `BARRIER_BYTES` is enough here, since carving new memory has a cost too.
        let bytes = if bytes > BARRIER_BYTES / 4 { bytes.max(BARRIER_BYTES) } else { bytes };
        Self { bytes, late: false }
    }

    /// Returns whether a grace period is worth its cost, given whether it takes a barrier, and the
    /// time since the newest grace period began.
    pub(super) fn is_worth_a_grace_period(
        &self,
        costs_a_barrier: impl FnOnce() -> bool,
        begun_ago: impl FnOnce() -> Duration,
    ) -> bool {
        self.late
            || !costs_a_barrier()
            || self.bytes >= URGENT_BYTES
            || (self.bytes >= BARRIER_BYTES && begun_ago() >= BARRIER_INTERVAL)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// A page, the largest object.
    const PAGE: u64 = 4096;

    fn early() -> Duration {
        Duration::ZERO
    }

    #[test]
    fn a_check_is_due_when_enough_has_been_added_and_counts_all_since_the_last_grace_period() {
        let owed = Owed::new();
        let step = LOOK_BYTES / PAGE;
        let check = |objects| owed.add(objects, PAGE, early);
        assert_eq!(check(step - 1), None);
        assert_eq!(check(1), Some(Due { bytes: LOOK_BYTES, late: false }));
        assert_eq!(check(step - 1), None, "the count begins again with each check");
        assert_eq!(check(1), Some(Due { bytes: 2 * LOOK_BYTES, late: false }));
        owed.begun();
        assert_eq!(check(step), Some(Due { bytes: LOOK_BYTES, late: false }));
    }

    #[test]
    fn the_clock_is_read_once_for_many_small_objects_and_makes_a_late_check_due() {
        let owed = Owed::new();
        for _ in 1..OBJECTS_PER_CLOCK {
            assert_eq!(owed.add(1, 64, || panic!("read for an object")), None);
        }
        let bytes = 64 * OBJECTS_PER_CLOCK;
        assert_eq!(owed.add(1, 64, || LOOK_INTERVAL), Some(Due { bytes, late: true }));
        let soon = LOOK_INTERVAL + LOOK_INTERVAL / 2;
        assert_eq!(
            owed.add(OBJECTS_PER_CLOCK, 64, || soon),
            None,
            "the last check was not long ago"
        );
    }

    #[test]
    fn a_grace_period_begins_if_it_needs_no_barrier_or_is_late_or_for_many_bytes() {
        let begins = |bytes, late, barrier, ago| {
            Due { bytes, late }.is_worth_a_grace_period(|| barrier, || ago)
        };
        let (just, before) = (BARRIER_INTERVAL, BARRIER_INTERVAL - Duration::from_nanos(1));
        assert!(begins(1, false, false, early()), "it costs nothing");
        assert!(begins(1, true, true, early()), "it is late");
        assert!(!begins(BARRIER_BYTES - 1, false, true, just));
        assert!(begins(BARRIER_BYTES, false, true, just));
        assert!(!begins(BARRIER_BYTES, false, true, before));
        assert!(!begins(URGENT_BYTES - 1, false, true, before));
        assert!(begins(URGENT_BYTES, false, true, before));
    }

    #[test]
    fn an_allocation_needs_a_quarter_of_the_bytes_for_a_grace_period_with_a_barrier() {
        let begins = |bytes| {
            Due::for_allocation(bytes).is_worth_a_grace_period(|| true, || BARRIER_INTERVAL)
        };
        assert!(!begins(BARRIER_BYTES / 4));
        assert!(begins(BARRIER_BYTES / 4 + 1));
    }
}
