//! What was seen: amounts, the ages that readers saw, and the first thing that was wrong. Atomics only,
//! so that signal handlers count and complain too.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use serde::Serialize;

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    /// Looks at an object that a reader had found in its section, all of them checked.
    Reads,
    /// Objects that were replaced under readers.
    Updates,
    /// Objects that no reader saw, allocated and freed.
    Pairs,
    /// Keys that were looked up in the trie.
    Lookups,
    /// Entries that scans of the trie returned.
    Scanned,
    /// Changes of the trie.
    Changes,
    /// Grace periods that somebody waited for.
    GracePeriods,
    /// Guards that ended on another thread.
    HandedOver,
    /// Threads that came and went.
    Threads,
    /// Signals whose handler allocated and freed.
    Signals,
    /// Changes of a thread's affinity.
    Moves,
    /// Forks whose child went on.
    Forks,
    /// Changes of an adaptive barrier from one kind to the other.
    Switches,
}

/// How many there are.
const COUNTS: usize = Count::Switches as usize + 1;

/// Ages that are told apart; the last one is everything from there on.
pub(crate) const AGES: usize = 8;

/// The steps of the child of a fork, by the numbers with which it exits where it can't go on.
const STEPS_OF_CHILD: [&str; 5] =
    ["the fork", "a grace period", "allocating and freeing", "reading", "a free after reading"];

fn step_of_child(number: u64) -> &'static str {
    STEPS_OF_CHILD.get(number as usize).copied().unwrap_or("an unknown step")
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Wrong {
    /// A reader's object was reused in its section.
    TooOld = 1,
    /// The contents of a reader's object changed in its section.
    Changed,
    /// A reader's memory became something else than an object of its class.
    NotAnObject,
    /// An object was allocated that somebody has.
    HandedOutTwice,
    /// An object that a thread has was given to another.
    Taken,
    /// Objects are missing at the end of a phase.
    Lost,
    /// Callbacks are missing at the end of a phase.
    CallbackLost,
    /// There was no memory.
    NoMemory,
    /// A key that is always there was missed.
    KeyMissed,
    /// A value was none that the key had during the question.
    StaleValue,
    /// An answer to the only writer of a key contradicts what it did before.
    ChangeLost,
    /// A scan was not in order.
    OutOfOrder,
    /// A scan missed a key that is always there.
    ScanIncomplete,
    /// The number of entries is wrong at the end of a phase.
    Miscounted,
    /// A grace period did not end though no reader was left.
    Waits,
    /// The child of a fork could not go on.
    ChildFailed,
    /// A thread panicked.
    Panicked,
    /// A phase did not end.
    Stuck,
}

impl Wrong {
    const ALL: [Self; 18] = [
        Self::TooOld,
        Self::Changed,
        Self::NotAnObject,
        Self::HandedOutTwice,
        Self::Taken,
        Self::Lost,
        Self::CallbackLost,
        Self::NoMemory,
        Self::KeyMissed,
        Self::StaleValue,
        Self::ChangeLost,
        Self::OutOfOrder,
        Self::ScanIncomplete,
        Self::Miscounted,
        Self::Waits,
        Self::ChildFailed,
        Self::Panicked,
        Self::Stuck,
    ];

    /// What happened, with the three numbers that belong to it.
    fn told(self, [first, second, third]: [u64; 3]) -> String {
        match self {
            Self::TooOld => format!(
                "the object at {first:#x} was reused under its reader: found in life {second}, left in life {third}"
            ),
            Self::Changed => format!(
                "the object at {first:#x} changed under its reader: word {second} of life {third}"
            ),
            Self::NotAnObject => {
                format!("the memory at {first:#x} is no object under its reader: {second:#x}")
            }
            Self::HandedOutTwice => format!(
                "the object at {first:#x} was handed out twice: to {third}, while {second} has it"
            ),
            Self::Taken => format!(
                "the object at {first:#x}, which {third} has, was given to {second} as well"
            ),
            Self::Lost => {
                format!("objects are lost: {first} live and {second} pending of {third} taken")
            }
            Self::CallbackLost => format!("callbacks are lost: {second} of {first} ran"),
            Self::NoMemory => "an allocation failed".into(),
            Self::KeyMissed => format!("key {first}, which is always there, was missed"),
            Self::StaleValue => format!(
                "key {first} had the value {second:#x}, which is not current: version {third} was"
            ),
            Self::ChangeLost => format!(
                "the only writer of key {first} left {second:#x} there and found {third:#x} (0 stands for absent)"
            ),
            Self::OutOfOrder => format!("a scan was not in order behind {first} entries"),
            Self::ScanIncomplete => {
                format!("a scan saw {first} of the {second} keys that are always there")
            }
            Self::Miscounted => format!("the trie counts {first} entries and has {second}"),
            Self::Waits => "a grace period does not end though no reader is left".into(),
            Self::ChildFailed => format!(
                "the child of a fork could not go on: status {first:#x}, in {}",
                step_of_child(second)
            ),
            Self::Panicked => "a thread panicked (see above)".into(),
            Self::Stuck => format!("the phase did not end within {first} ms"),
        }
    }
}

/// Shared by all threads of a run.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    counts: [AtomicU64; COUNTS],
    /// Of readers whose objects keep their identity, and of the others.
    ages: [[AtomicU64; AGES]; 2],
    errors: AtomicU64,
    /// A [`Wrong`], or 0.
    first: AtomicU32,
    details: [AtomicU64; 3],
}

impl Verdict {
    /// Adds to an amount.
    pub(super) fn count(&self, what: Count, amount: u64) {
        self.counts[what as usize].fetch_add(amount, Ordering::Relaxed);
    }

    /// Takes note of how many lives old a reader's object had become.
    pub(super) fn saw_age(&self, has_identity: bool, age: u64) {
        let age = age.min(AGES as u64 - 1) as usize;
        self.ages[usize::from(!has_identity)][age].fetch_add(1, Ordering::Relaxed);
    }

    /// Says that something is wrong. Async-signal-safe.
    #[cold]
    pub(super) fn complain(&self, what: Wrong, details: [u64; 3]) {
        if self.errors.fetch_add(1, Ordering::Relaxed) == 0 {
            for (place, detail) in self.details.iter().zip(details) {
                place.store(detail, Ordering::Relaxed);
            }
            // ORDERING: Release pairs with the Acquire in `first`: who sees what is wrong sees its details.
            self.first.store(what as u32, Ordering::Release);
        }
    }

    /// Whether nothing was wrong so far.
    pub(super) fn is_clean(&self) -> bool {
        self.errors.load(Ordering::Relaxed) == 0
    }

    /// The first thing that was wrong.
    pub(super) fn first(&self) -> Option<String> {
        // ORDERING: see `complain`.
        let first = self.first.load(Ordering::Acquire);
        let what = Wrong::ALL.into_iter().find(|wrong| *wrong as u32 == first)?;
        Some(what.told(self.details.each_ref().map(|detail| detail.load(Ordering::Relaxed))))
    }

    /// The amounts so far.
    pub(super) fn tally(&self, phases: u64, seconds: f64) -> Tally {
        let count = |what: Count| self.counts[what as usize].load(Ordering::Relaxed);
        let ages = |row: usize| self.ages[row].each_ref().map(|age| age.load(Ordering::Relaxed));
        Tally {
            seconds: (seconds * 1e3).round() / 1e3,
            phases,
            reads: count(Count::Reads),
            updates: count(Count::Updates),
            pairs: count(Count::Pairs),
            lookups: count(Count::Lookups),
            scanned: count(Count::Scanned),
            changes: count(Count::Changes),
            grace_periods: count(Count::GracePeriods),
            handed_over: count(Count::HandedOver),
            threads: count(Count::Threads),
            signals: count(Count::Signals),
            moves: count(Count::Moves),
            forks: count(Count::Forks),
            switches: count(Count::Switches),
            ages: ages(0),
            ages_without_identity: ages(1),
            errors: self.errors.load(Ordering::Relaxed),
        }
    }
}

/// The amounts at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Tally {
    /// Seconds since the run began.
    pub(crate) seconds: f64,
    /// Phases that have ended.
    pub(crate) phases: u64,
    /// See [`Count`]; so the following.
    pub(crate) reads: u64,
    updates: u64,
    pairs: u64,
    lookups: u64,
    scanned: u64,
    changes: u64,
    grace_periods: u64,
    handed_over: u64,
    threads: u64,
    signals: u64,
    moves: u64,
    forks: u64,
    switches: u64,
    /// Lives that an object became older under a reader, where its policy protects identity: the
    /// first is none.
    pub(crate) ages: [u64; AGES],
    /// The same where it does not.
    ages_without_identity: [u64; AGES],
    /// Wrong answers.
    pub(crate) errors: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, phases, reads, updates, pairs, lookups, scanned, changes, .. } = self;
        let Self { grace_periods, handed_over, threads, signals, moves, forks, switches, .. } =
            self;
        let ages = |ages: &[u64; AGES]| ages.map(|age| age.to_string()).join(" ");
        write!(
            f,
            "{seconds:.0} s: phases {phases}, reads {reads}, ages {} (without identity {}), updates {updates}, \
             pairs {pairs}, lookups {lookups}, scanned {scanned}, changes {changes}, \
             grace periods {grace_periods}, handed over {handed_over}, threads {threads}, signals {signals}, \
             moves {moves}, forks {forks}, switches {switches}, errors {}",
            ages(&self.ages),
            ages(&self.ages_without_identity),
            self.errors,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_complaint_is_told_and_all_are_counted() {
        let verdict = Verdict::default();
        assert_eq!(verdict.first(), None);
        verdict.complain(Wrong::KeyMissed, [7, 0, 0]);
        verdict.complain(Wrong::NoMemory, [0; 3]);
        assert!(verdict.first().is_some_and(|first| first.contains("key 7")));
        assert_eq!(verdict.tally(1, 1.0).errors, 2);
    }

    #[test]
    fn every_complaint_is_found_by_its_number() {
        for (number, wrong) in (1..).zip(Wrong::ALL) {
            assert_eq!(wrong as u32, number);
        }
    }

    #[test]
    fn ages_beyond_the_last_are_in_the_last() {
        let verdict = Verdict::default();
        verdict.saw_age(true, 0);
        verdict.saw_age(false, u64::MAX);
        let tally = verdict.tally(0, 0.0);
        assert_eq!((tally.ages[0], tally.ages_without_identity[AGES - 1]), (1, 1));
    }
}
