//! Events, counted over all executions of an exploration: a scenario in which nothing dangerous
//! happens proves nothing.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// A branch was initialised for another life during the reader's walk.
    Reuse,
    /// Retry: the count was odd.
    Odd,
    /// Retry: the slot had changed to another node.
    Slot,
    /// Retry: the parent's count had changed.
    Parent,
    /// Retry: the branch's own count had changed.
    Own,
    /// The reader used up its attempts and took the lock.
    Lock,
}

const ALL: [Event; 6] =
    [Event::Reuse, Event::Odd, Event::Slot, Event::Parent, Event::Own, Event::Lock];

#[derive(Debug, Default)]
pub(crate) struct Events([AtomicUsize; ALL.len()]);

impl Events {
    pub(crate) fn count(&self, event: Event) {
        self.0[event as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn seen(&self, event: Event) -> usize {
        self.0[event as usize].load(Relaxed)
    }
}

impl fmt::Display for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = ALL.map(|event| format!("{event:?} {}", self.seen(event)));
        f.write_str(&counts.join(", "))
    }
}
