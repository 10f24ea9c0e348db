//! The sampled objects that are currently allocated, by address: where and when they were
//! allocated.
//!
//! An entry is claimed with an exchange and given up with a store. Only the owner of an object
//! looks for it, so an entry is touched by one thread at a time.

use crate::sync::{AtomicU64, Ordering};
use std::ptr::NonNull;

/// An invalid address, for an entry that is being filled.
const CLAIMED: u64 = 1;

/// The time and CPU of an object's allocation, its size, and the number of objects that it stands
/// for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Birth {
    pub(super) time: u64,
    pub(super) cpu: u16,
    /// At most 4096.
    pub(super) size: u16,
    pub(super) weight: u32,
}

#[derive(Debug, Default)]
struct Entry {
    address: AtomicU64,
    time: AtomicU64,
    rest: AtomicU64,
}

/// The table of sampled objects.
#[derive(Debug)]
pub(super) struct LiveTable(Box<[Entry]>);

impl LiveTable {
    /// Creates a table of `places` entries, a power of two.
    pub(super) fn new(places: usize) -> Self {
        debug_assert!(places.is_power_of_two());
        Self((0..places).map(|_| Entry::default()).collect())
    }

    fn entry(&self, address: u64) -> &Entry {
        let hash = address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        &self.0[hash as usize & (self.0.len() - 1)]
    }

    /// Remembers an object, if its entry is free. Returns true if it was. Async-signal-safe.
    pub(super) fn insert(&self, object: NonNull<u8>, birth: Birth) -> bool {
        let address = object.as_ptr() as u64;
        let entry = self.entry(address);
        let (free, relaxed) = (entry.address.load(Ordering::Relaxed) == 0, Ordering::Relaxed);
        // ORDERING: Acquire pairs with the Release in `remove`: the stores below come after the
        // loads there. Falls to nothing: only load buffering shows it, which loom does not explore.
        if !free || entry.address.compare_exchange(0, CLAIMED, Ordering::Acquire, relaxed).is_err()
        {
            return false;
        }
        let Birth { time, cpu, size, weight } = birth;
        let rest = u64::from(cpu) | u64::from(size) << 16 | u64::from(weight) << 32;
        entry.time.store(time, Ordering::Relaxed);
        entry.rest.store(rest, Ordering::Relaxed);
        // ORDERING: Release pairs with the Acquire in `drain`. (A thread that removes the object
        // got it from this thread, and with it everything stored here.) Falls to
        // `an_object_that_is_still_live_has_the_birth_that_was_remembered`.
        entry.address.store(address, Ordering::Release);
        true
    }

    /// Removes an object that is being freed, if it is in the table. Async-signal-safe.
    #[inline]
    pub(super) fn remove(&self, object: NonNull<u8>) -> Option<Birth> {
        let address = object.as_ptr() as u64;
        let entry = self.entry(address);
        if entry.address.load(Ordering::Relaxed) != address {
            return None;
        }
        let birth = entry.birth();
        // ORDERING: Release pairs with the Acquire in `insert`. Falls to nothing: only load
        // buffering shows it, which loom does not explore.
        entry.address.store(0, Ordering::Release);
        Some(birth)
    }

    /// Removes all objects, one after the other.
    pub(super) fn drain(&self, mut each: impl FnMut(Birth)) {
        for entry in &self.0 {
            // ORDERING: Acquire pairs with the Release in `insert`. Falls to
            // `an_object_that_is_still_live_has_the_birth_that_was_remembered`.
            let address = entry.address.load(Ordering::Acquire);
            let birth = entry.birth();
            let relaxed = Ordering::Relaxed;
            // Fails if the object is freed at this moment: then it is not live.
            if address > CLAIMED
                && entry.address.compare_exchange(address, 0, relaxed, relaxed).is_ok()
            {
                each(birth);
            }
        }
    }
}

impl Entry {
    fn birth(&self) -> Birth {
        let rest = self.rest.load(Ordering::Relaxed);
        let time = self.time.load(Ordering::Relaxed);
        Birth { time, cpu: rest as u16, size: (rest >> 16) as u16, weight: (rest >> 32) as u32 }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_remembered_until_it_is_freed() {
        let table = LiveTable::new(64);
        let mut bytes = [0_u8; 32];
        let object = NonNull::from(&mut bytes[0]);
        let birth = Birth { time: 7, cpu: 3, size: 4096, weight: 99 };
        assert_eq!(table.remove(object), None);
        assert!(table.insert(object, birth));
        assert!(!table.insert(object, birth), "its place is taken");
        assert_eq!(table.remove(object), Some(birth));
        assert_eq!(table.remove(object), None);
        assert!(table.insert(object, birth));
        let mut left = Vec::new();
        table.drain(|birth| left.push(birth));
        assert_eq!(left, [birth]);
        table.drain(|_| panic!("drained"));
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use crate::explore::Model;
    use loom::thread;
    use std::sync::Arc;

    const THERE: &str = "there";
    const NOT_YET: &str = "not there yet";

    #[test]
    fn an_object_that_is_still_live_has_the_birth_that_was_remembered() {
        let name = "the table is drained beside an allocation";
        let model = Model { name, bound: None, least: 5, happens: &[THERE, NOT_YET] };
        model.explore(|seen| {
            const BIRTH: Birth = Birth { time: 7, cpu: 3, size: 4096, weight: 99 };
            let table = Arc::new(LiveTable::new(1));
            let other = thread::spawn({
                let table = table.clone();
                move || table.insert(NonNull::<u64>::dangling().cast(), BIRTH)
            });
            // Loom does not see that a load may come after another thread's store to a word that
            // the thread has just loaded. It sees this.
            let _ = table.0[0].time.load(Ordering::Relaxed);
            let mut found = None;
            table.drain(|birth| found = Some(birth));
            assert!(other.join().unwrap(), "the entry was free");
            assert!(found.is_none_or(|birth| birth == BIRTH), "claim: {found:?}");
            seen.note(THERE, found.is_some());
            seen.note(NOT_YET, found.is_none());
        });
    }
}
