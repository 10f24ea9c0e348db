//! Events, counted over all executions of an exploration: a scenario in which nothing dangerous
//! happens proves nothing.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// The updater took the object back after its grace period.
    Reuse,
    /// A reader read the object that is taken back later.
    Old,
    /// A reader read the object that replaced it.
    New,
    /// The scan found a reader of the epoch that ends.
    Waited,
    /// The scan passed a reader of the epoch that begins.
    Passed,
    /// The thread that scans is not the one that raised the epoch.
    Relay,
}

const ALL: [Event; 6] =
    [Event::Reuse, Event::Old, Event::New, Event::Waited, Event::Passed, Event::Relay];

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
