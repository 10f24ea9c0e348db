//! The bytes on their way to the slabs that have no grace period yet, and when to check for one.

use crate::sync::Ordering::Relaxed;
use crate::sync::Tally;
use crate::sys::thread;
use std::time::Duration;

/// Check grace periods once this many more bytes are owed. A grace period that needs no barrier
/// begins then.
const LOOK_BYTES: u64 = if cfg!(loom) { 1 } else { 64 << 10 };

/// Begin a grace period that interrupts the other processors once this many bytes are owed, at most
/// once per `BARRIER_INTERVAL`.
pub(super) const BARRIER_BYTES: u64 = if cfg!(loom) { 1 } else { 1 << 20 };

/// The least time between two grace periods that interrupt the other processors. An interruption
/// takes as long as thousands of allocations, and covers everything that was freed before it.
pub(super) const BARRIER_INTERVAL: Duration =
    Duration::from_micros(if cfg!(loom) { 0 } else { 150 });

/// Begin a grace period at once when this many bytes are owed, regardless of `BARRIER_INTERVAL`.
pub(super) const URGENT_BYTES: u64 = 2 << 20;

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
    /// The time of the last check, in nanoseconds of `thread::coarse_clock`.
    looked_at: Tally,
}

/// A check that is due.
pub(super) struct Due {
    /// The bytes owed.
    pub(super) bytes: u64,
    /// True if the last check was `LOOK_INTERVAL` ago or longer.
    pub(super) late: bool,
}

impl Owed {
    pub(super) fn new() -> Self {
        Self { recent: Tally::new(0), earlier: Tally::new(0), looked_at: Tally::new(0) }
    }

    /// Adds objects of a size. Returns the check to make, if one is due.
    pub(super) fn add(&self, objects: u64, size: u64) -> Option<Due> {
        let bytes = objects * size;
        let before = self.recent.fetch_add(bytes, Relaxed);
        let recent = before + bytes;
        let step = (size * OBJECTS_PER_CLOCK).next_power_of_two();
        if recent < LOOK_BYTES && recent & !(step - 1) == before & !(step - 1) {
            return None;
        }
        let now = thread::coarse_clock().as_nanos() as u64;
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

    pub(super) fn begun(&self) {
        self.earlier.store(0, Relaxed);
    }
}
