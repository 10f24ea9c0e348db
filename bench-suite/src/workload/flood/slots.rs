//! A scheme and the slots that hold its objects, behind a safe interface.
//!
//! - BEN-F1 and BEN-F2 of [`object`](super::object) hold because only this file puts objects into
//!   slots and retires them: a table's slots hold only objects of its scheme.
#![allow(unsafe_code)]

use super::object::{Found, Lane, MOST_LANES, Object, PLACES, Slot, Stamp};
use super::scheme::{Scheme, Session};
use crate::measure::WrongAnswer;

/// A scheme, and a lane of slots for each writer.
#[derive(Debug)]
pub(super) struct SlotTable<S> {
    scheme: S,
    lanes: Box<[Lane]>,
}

/// The operations of a thread, and its first fault.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    put: u64,
    removed: u64,
    looks: u64,
    fault: Option<String>,
}

impl Ledger {
    /// Returns the number of objects taken out or read.
    pub(super) fn done(&self) -> u64 {
        self.removed + self.looks
    }
}

impl<S: Scheme> SlotTable<S> {
    pub(super) fn new(scheme: S, lanes: usize) -> Self {
        assert!((1..=MOST_LANES).contains(&lanes));
        Self { scheme, lanes: (0..lanes).map(|_| Lane::new()).collect() }
    }

    /// Gives the calling thread access to a lane, counted in `ledger`.
    pub(super) fn access<'f>(&'f self, lane: usize, ledger: &'f mut Ledger) -> LaneAccess<'f, S> {
        LaneAccess { session: self.scheme.session(), lanes: &self.lanes, lane, ledger }
    }

    /// Empties all slots, and checks that nothing was lost.
    pub(super) fn close(self, ledgers: impl Iterator<Item = Ledger>) -> Result<(), WrongAnswer> {
        let mut sum = Ledger::default();
        for mut ledger in ledgers {
            sum.put += ledger.put;
            sum.removed += ledger.removed;
            sum.fault = sum.fault.or(ledger.fault.take());
        }
        for lane in 0..self.lanes.len() {
            let mut access = self.access(lane, &mut sum);
            for place in 0..PLACES {
                access.take(place);
            }
        }
        if let Some(fault) = sum.fault {
            return Err(WrongAnswer(fault));
        }
        if sum.put != sum.removed {
            return Err(WrongAnswer(format!(
                "{} objects were put into slots and {} came out",
                sum.put, sum.removed
            )));
        }
        self.scheme.close(sum.removed)
    }
}

/// The kind of a read section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// Of a reader that does not sleep.
    Short,
    /// Of a reader that may sleep.
    MaySleep,
}

/// The access of one thread: it puts objects into the slots of one lane and takes them out, and
/// reads all slots.
pub(super) struct LaneAccess<'f, S: Scheme + 'f> {
    session: S::Session<'f>,
    lanes: &'f [Lane],
    lane: usize,
    ledger: &'f mut Ledger,
}

impl<S: Scheme> LaneAccess<'_, S> {
    /// Returns whether there was a fault, after which the thread stops.
    #[inline]
    pub(super) fn has_failed(&self) -> bool {
        self.ledger.fault.is_some()
    }

    /// Returns the number of objects that the thread has taken out or read.
    #[inline]
    pub(super) fn done(&self) -> u64 {
        self.ledger.done()
    }

    /// Returns whether there is an object in a slot of the lane.
    #[inline]
    pub(super) fn is_taken(&self, place: usize) -> bool {
        self.slot(place).is_taken()
    }

    /// Puts a new object into a slot, and retires the previous one. Returns whether there was one.
    #[inline(always)]
    pub(super) fn put(&mut self, place: usize) -> bool {
        let Some(object) = self.session.alloc() else {
            self.blame("an allocation failed");
            return false;
        };
        if S::KEEPS_BYTES && object.stamp().is_live() {
            self.blame("an object was handed out while it was in use");
            return false;
        }
        object.set_stamp(Stamp::live(self.lane, place % PLACES, self.ledger.put));
        self.ledger.put += 1;
        let old = self.slot(place).swap(Some(object));
        self.give_up(old, place)
    }

    /// Retires the object in a slot. Returns whether there was one.
    #[inline(always)]
    pub(super) fn take(&mut self, place: usize) -> bool {
        let old = self.slot(place).swap(None);
        self.give_up(old, place)
    }

    /// Like [`take`](Self::take), but checks first: an empty slot is not written.
    #[inline]
    pub(super) fn take_if_any(&mut self, place: usize) -> bool {
        self.is_taken(place) && self.take(place)
    }

    /// Reads the object in a slot of any lane, calls `meanwhile` inside the section, and reads it
    /// again.
    #[inline]
    pub(super) fn read(
        &mut self,
        section: Section,
        lane: usize,
        place: usize,
        meanwhile: impl FnOnce(),
    ) {
        let lane = lane % self.lanes.len();
        let slot = self.lanes[lane].slot(place);
        let mut right = true;
        let look = |found: Option<Found<'_>>| {
            let first = found.map(|object| object.stamp());
            meanwhile();
            let second = found.map(|object| object.stamp());
            right = first.zip(second).is_none_or(|(first, second)| {
                if S::PROTECTS_IDENTITY {
                    first.is_of(lane, place % PLACES) && first.same_life(second)
                } else {
                    first.is_stamp() && second.is_stamp()
                }
            });
        };
        // SAFETY: BEN-F1: the table's slots hold only objects of its scheme, and only this file
        // retires them.
        unsafe {
            match section {
                Section::Short => self.session.read(slot, look),
                Section::MaySleep => self.session.read_asleep(slot, look),
            }
        }
        self.ledger.looks += 1;
        if !right {
            self.blame("a reader found an object that was reused during its section");
        }
    }

    #[inline]
    fn slot(&self, place: usize) -> &Slot {
        self.lanes[self.lane].slot(place)
    }

    #[inline(always)]
    fn give_up(&mut self, old: Option<Object>, place: usize) -> bool {
        let Some(object) = old else { return false };
        let stamp = object.take_out();
        if !(stamp.is_live() && stamp.is_of(self.lane, place % PLACES)) {
            // Another holder will free it.
            self.blame("an object in a slot was in use elsewhere");
            return true;
        }
        self.ledger.removed += 1;
        // SAFETY: BEN-F1: the object is of this table's scheme, and this thread swapped it out.
        unsafe { self.session.retire(object) };
        true
    }

    /// Records the first fault.
    #[cold]
    pub(super) fn blame(&mut self, what: &str) {
        self.ledger.fault.get_or_insert_with(|| what.to_owned());
    }
}
