//! The small worlds in which the protocol is explored: readers, an updater and drivers, each with a
//! script.

use loom::thread;
use std::rc::Rc;
use std::sync::Arc;

use crate::events::{Event, Events};
use crate::explore::{Exploration, explore};
use crate::protocol::Read::{self, Enter, Find, Leave, Touch};
use crate::protocol::Update::{self, Drive, Reuse, Stamp, Unlink, Yield};
use crate::protocol::{Barrier, Domain, Protocol};

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    barrier: Barrier,
    readers: &'static [&'static [Read]],
    /// The updater, and further drivers.
    updaters: &'static [&'static [Update]],
    /// Each of these has to happen in some execution.
    shows: &'static [Event],
    /// The minimum number of executions: with fewer, the scenario no longer tests its case.
    least: usize,
}

impl Scenario {
    /// Explores the sound protocol to the end, and prints the extent of the exploration.
    pub(crate) fn holds(&'static self) {
        let (exploration, events) = self.explore(Protocol::SOUND);
        let (name, preemptions) = (self.name, exploration.preemptions);
        println!("loom rcu/{name}: {exploration} (preemption bound {preemptions}; {events})");
        assert_eq!(exploration.violation, None);
        assert!(exploration.executions >= self.least, "at least {} executions", self.least);
        for event in self.shows {
            assert!(events.seen(*event) > 0, "{event:?} never happened");
        }
        exploration.record(name, None, None);
    }

    /// Explores a protocol, to the end or to its first failure.
    pub(crate) fn explore(&'static self, protocol: Protocol) -> (Exploration, Arc<Events>) {
        let events = Arc::new(Events::default());
        let counted = Arc::clone(&events);
        let threads = self.readers.len() + self.updaters.len();
        let exploration = explore(threads, move || self.run(protocol, Arc::clone(&counted)));
        (exploration, events)
    }

    /// Runs one execution; the first reader is its main thread.
    fn run(&'static self, protocol: Protocol, events: Arc<Events>) {
        // All threads of a model are coroutines of one thread. Loom's own `Arc` would add its count
        // to the exploration.
        let domain = Rc::new(Domain::new(protocol, self.barrier, self.readers.len(), events));
        let mut threads = Vec::new();
        for (updater, steps) in self.updaters.iter().enumerate() {
            let domain = Rc::clone(&domain);
            threads.push(thread::spawn(move || domain.update(updater, steps)));
        }
        for (reader, steps) in self.readers.iter().enumerate().skip(1) {
            let domain = Rc::clone(&domain);
            threads.push(thread::spawn(move || domain.read(reader, steps)));
        }
        domain.read(0, self.readers[0]);
        for thread in threads {
            thread.join().expect("a panic ends the model at once");
        }
    }
}

const SECTION: &[Read] = &[Enter, Find, Touch, Leave];
const UPDATER: &[Update] = &[Unlink, Stamp, Drive, Yield, Drive, Reuse];
const DRIVER: &[Update] = &[Drive, Yield, Drive];

/// The updater drives its own grace period.
pub(crate) static ONE_SECTION: Scenario = Scenario {
    name: "one_section",
    barrier: Barrier::Fences,
    readers: &[SECTION],
    updaters: &[UPDATER],
    shows: &[Event::Reuse, Event::Old, Event::New, Event::Waited, Event::Passed],
    least: 70,
};

/// A scan may see the reader's newer epoch, after a section in the older one.
pub(crate) static TWO_SECTIONS: Scenario = Scenario {
    name: "two_sections",
    readers: &[&[Enter, Find, Touch, Leave, Enter, Find, Touch, Leave]],
    least: 1000,
    ..ONE_SECTION
};

/// An inner section begins and ends between finding the object and reading it.
pub(crate) static NESTED: Scenario = Scenario {
    name: "nested",
    readers: &[&[Enter, Find, Enter, Leave, Touch, Leave]],
    ..ONE_SECTION
};

/// One grace period is over before the updater begins; the reader may announce its epoch late.
pub(crate) static STALE_EPOCH: Scenario = Scenario {
    name: "stale_epoch",
    updaters: &[&[Drive, Unlink, Stamp, Drive, Yield, Drive, Reuse]],
    least: 150,
    ..ONE_SECTION
};

/// The second reader's slot counts too.
pub(crate) static TWO_READERS: Scenario =
    Scenario { name: "two_readers", readers: &[SECTION, SECTION], least: 1500, ..ONE_SECTION };

/// The updater takes a cookie and polls; another thread drives.
pub(crate) static OTHER_DRIVER: Scenario = Scenario {
    name: "other_driver",
    updaters: &[&[Unlink, Stamp, Yield, Reuse, Yield, Reuse], DRIVER],
    least: 500,
    ..ONE_SECTION
};

/// Two threads drive: one may raise the epoch, and the other scan.
pub(crate) static RELAY: Scenario = Scenario {
    name: "relay",
    updaters: &[&[Unlink, Stamp, Drive, Yield, Reuse], DRIVER],
    shows: &[Event::Reuse, Event::Old, Event::New, Event::Waited, Event::Passed, Event::Relay],
    least: 1000,
    ..ONE_SECTION
};

// The same scenarios with the barrier in which only the driver acts.

pub(crate) static MEMBARRIER_ONE_SECTION: Scenario = Scenario {
    name: "membarrier/one_section",
    barrier: Barrier::Membarrier,
    least: 1000,
    ..ONE_SECTION
};

pub(crate) static MEMBARRIER_TWO_SECTIONS: Scenario = Scenario {
    name: "membarrier/two_sections",
    barrier: Barrier::Membarrier,
    least: 10_000,
    ..TWO_SECTIONS
};

pub(crate) static MEMBARRIER_NESTED: Scenario =
    Scenario { name: "membarrier/nested", barrier: Barrier::Membarrier, least: 2000, ..NESTED };

pub(crate) static MEMBARRIER_STALE_EPOCH: Scenario = Scenario {
    name: "membarrier/stale_epoch",
    barrier: Barrier::Membarrier,
    least: 2500,
    ..STALE_EPOCH
};

pub(crate) static MEMBARRIER_OTHER_DRIVER: Scenario = Scenario {
    name: "membarrier/other_driver",
    barrier: Barrier::Membarrier,
    least: 4000,
    ..OTHER_DRIVER
};

pub(crate) static MEMBARRIER_RELAY: Scenario =
    Scenario { name: "membarrier/relay", barrier: Barrier::Membarrier, least: 10_000, ..RELAY };
