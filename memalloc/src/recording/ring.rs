//! A bounded queue of events. Any thread and any signal handler may put events in; one thread takes
//! them out.
//!
//! Each slot has a number: `n` if it is free for event `n`, `n + 1` if it holds event `n`. A thread
//! that was interrupted between taking a slot and filling it delays only the events behind it:
//! others continue until the ring is full, and then drop events.

use super::event::WORDS;
use crate::sync::{AtomicU64, Ordering};
use crossbeam_utils::CachePadded;

/// A slot for one event.
#[derive(Debug)]
struct Slot {
    number: AtomicU64,
    words: [AtomicU64; WORDS],
}

/// The queue of events.
#[derive(Debug)]
pub(super) struct Ring {
    slots: Box<[Slot]>,
    /// The number of the next event to put in.
    tail: CachePadded<AtomicU64>,
    dropped: CachePadded<AtomicU64>,
}

impl Ring {
    /// Creates a ring with room for `capacity` events, a power of two.
    pub(super) fn new(capacity: usize) -> Self {
        debug_assert!(capacity.is_power_of_two());
        let slot = |number| Slot {
            number: AtomicU64::new(number),
            words: std::array::from_fn(|_| AtomicU64::new(0)),
        };
        Self {
            slots: (0..capacity as u64).map(slot).collect(),
            tail: CachePadded::new(AtomicU64::new(0)),
            dropped: CachePadded::new(AtomicU64::new(0)),
        }
    }

    fn slot(&self, number: u64) -> &Slot {
        &self.slots[number as usize & (self.slots.len() - 1)]
    }

    /// Puts an event in, or counts it as dropped if there is no room. Async-signal-safe.
    pub(super) fn push(&self, words: [u64; WORDS]) {
        let mut number = self.tail.load(Ordering::Relaxed);
        loop {
            let slot = self.slot(number);
            // ORDERING: Acquire pairs with the Release in `pop`: the words were read before they
            // are overwritten. Falls to nothing: only load buffering shows it, which loom does not
            // explore.
            let found = slot.number.load(Ordering::Acquire);
            if found == number {
                let relaxed = Ordering::Relaxed;
                match self.tail.compare_exchange_weak(number, number + 1, relaxed, relaxed) {
                    Ok(_) => {
                        for (place, word) in slot.words.iter().zip(words) {
                            place.store(word, Ordering::Relaxed);
                        }
                        // ORDERING: Release pairs with the Acquire in `pop`, which reads these
                        // words. Falls to `an_event_is_taken_out_as_it_was_put_in`.
                        slot.number.store(number + 1, Ordering::Release);
                        return;
                    }
                    Err(seen) => number = seen,
                }
            } else if found < number {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            } else {
                number = self.tail.load(Ordering::Relaxed);
            }
        }
    }

    /// Takes event `number` out, if it is there. Called by one thread, with consecutive numbers.
    pub(super) fn pop(&self, number: u64) -> Option<[u64; WORDS]> {
        let slot = self.slot(number);
        // ORDERING: Acquire pairs with the Release in `push`. Falls to
        // `an_event_is_taken_out_as_it_was_put_in`.
        if slot.number.load(Ordering::Acquire) != number + 1 {
            return None;
        }
        let words = std::array::from_fn(|place| slot.words[place].load(Ordering::Relaxed));
        // ORDERING: Release pairs with the Acquire in `push`. Falls to nothing: only load buffering
        // shows it, which loom does not explore.
        slot.number.store(number + self.slots.len() as u64, Ordering::Release);
        Some(words)
    }

    /// Returns how many events found no room.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn forget_dropped(&self) {
        self.dropped.store(0, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_full_ring_counts_what_it_drops_and_goes_on_once_there_is_room() {
        let ring = Ring::new(4);
        (0..6).for_each(|n| ring.push([n; WORDS]));
        assert_eq!(ring.dropped(), 2);
        assert_eq!(ring.pop(0), Some([0; WORDS]));
        ring.push([9; WORDS]);
        let rest: Vec<_> = (1..5).map(|number| ring.pop(number).unwrap()[0]).collect();
        assert_eq!((rest, ring.pop(5)), (vec![1, 2, 3, 9], None));
    }

    #[test]
    fn events_of_many_threads_arrive_whole() {
        const EACH: u64 = 20_000;
        let ring = &Ring::new(64);
        std::thread::scope(|scope| {
            for thread in 0..3 {
                scope.spawn(move || {
                    for n in 0..EACH {
                        let word = thread << 32 | n;
                        ring.push([word, word, word, word]);
                    }
                });
            }
            let (mut number, mut next, mut popped) = (0, [0; 3], 0);
            while popped + ring.dropped() < 3 * EACH {
                let Some(words) = ring.pop(number) else { continue };
                (number, popped) = (number + 1, popped + 1);
                assert_eq!(words, [words[0]; WORDS], "one event in two halves");
                let (thread, n) = ((words[0] >> 32) as usize, words[0] & 0xffff_ffff);
                assert!(n >= next[thread], "each thread's in order");
                next[thread] = n + 1;
            }
        });
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
    fn an_event_is_taken_out_as_it_was_put_in() {
        let name = "an event is taken out as it was put in";
        let model = Model { name, bound: None, least: 5, happens: &[THERE, NOT_YET] };
        model.explore(|seen| {
            const EVENT: [u64; WORDS] = [1; WORDS];
            let ring = Arc::new(Ring::new(2));
            let other = thread::spawn({
                let ring = ring.clone();
                move || ring.push(EVENT)
            });
            // Loom does not see that a load may come after another thread's store to a word that
            // the thread has just loaded. It sees this.
            let _ = ring.slots[0].words[0].load(Ordering::Relaxed);
            let found = ring.pop(0);
            other.join().unwrap();
            assert!(found.is_none_or(|words| words == EVENT), "claim: {found:?}");
            seen.note(THERE, found.is_some());
            seen.note(NOT_YET, found.is_none());
        });
    }
}
