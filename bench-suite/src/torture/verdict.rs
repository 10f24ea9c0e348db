//! The results of a run: counts, the ages of objects that readers saw, and the first error.
//! Everything is atomic, so that signal handlers can count and report as well.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use serde::Serialize;

/// A count.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    /// Checks of an object that a reader had found in its section.
    Reads,
    /// Published objects that were replaced.
    Updates,
    /// Pairs of an allocation and a free of an unpublished object.
    Pairs,
    /// Lookups in the trie.
    Lookups,
    /// Entries that scans of the trie returned.
    Scanned,
    /// Changes of the trie.
    Changes,
    /// Grace periods that ended for a fake writer.
    GracePeriods,
    /// Guards that were dropped by a thread that took them over.
    HandedOver,
    /// Short-lived threads.
    Threads,
    /// Signals whose handler did work.
    Signals,
    /// Changes of a thread's affinity.
    Moves,
    /// Forks.
    Forks,
    /// Changes of an adaptive barrier from one kind to the other.
    Switches,
}

/// The number of counts.
const COUNTS: usize = Count::Switches as usize + 1;

/// The number of age buckets. The last one contains all greater ages.
pub(crate) const AGES: usize = 8;

/// The steps of the child of a fork, by the exit status of a child that fails in them.
const STEPS_OF_CHILD: [&str; 5] =
    ["the fork", "a grace period", "allocating and freeing", "reading", "a free after reading"];

fn step_of_child(number: u64) -> &'static str {
    STEPS_OF_CHILD.get(number as usize).copied().unwrap_or("an unknown step")
}

/// The kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Wrong {
    /// An object was reused during the section of its reader.
    TooOld = 1,
    /// The contents of an object changed during the section of its reader.
    Changed,
    /// The memory of an object became something else during the section of its reader.
    NotAnObject,
    /// An allocation returned an object that already has an owner.
    HandedOutTwice,
    /// The owner of an object changed while a thread held it.
    Taken,
    /// Objects are missing at the end of a phase.
    Lost,
    /// Callbacks are missing at the end of a phase.
    CallbackLost,
    /// An allocation failed.
    NoMemory,
    /// A lookup missed a stable key.
    KeyMissed,
    /// A lookup returned a value that the key did not have during the lookup.
    StaleValue,
    /// The only writer of a key found another value than the one it had left.
    ChangeLost,
    /// A scan returned keys out of order, or did not end.
    OutOfOrder,
    /// A scan missed a stable key.
    ScanIncomplete,
    /// The number of entries is wrong at the end of a phase.
    Miscounted,
    /// A grace period did not end, although no reader was left.
    Waits,
    /// The child of a fork failed.
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

    /// Describes an error with its three details.
    fn describe(self, [first, second, third]: [u64; 3]) -> String {
        match self {
            Self::TooOld => format!(
                "the object at {first:#x} was reused during its reader's section: found in life \
                 {second}, now in life {third}"
            ),
            Self::Changed => format!(
                "the object at {first:#x} changed during its reader's section: word {second} of \
                 life {third}"
            ),
            Self::NotAnObject => {
                format!(
                    "the memory at {first:#x} stopped being an object during its reader's section: \
                     its mark is {second:#x}"
                )
            }
            Self::HandedOutTwice => {
                format!("the object at {first:#x} was allocated to {third} while {second} owned it")
            }
            Self::Taken => {
                format!("the object at {first:#x} of owner {third} has the owner {second}")
            }
            Self::Lost => {
                format!("objects are missing: {first} live and {second} pending of {third} taken")
            }
            Self::CallbackLost => format!("callbacks are missing: {second} of {first} ran"),
            Self::NoMemory => "an allocation failed".into(),
            Self::KeyMissed => format!("a lookup missed the stable key {first}"),
            Self::StaleValue => format!(
                "a lookup of key {first} returned {second:#x}, which is not its value: expected \
                 version {third} or later"
            ),
            Self::ChangeLost => format!(
                "the only writer of key {first} left {second:#x} and found {third:#x} (0: absent)"
            ),
            Self::OutOfOrder => format!("a scan is out of order or endless after {first} entries"),
            Self::ScanIncomplete => {
                format!("a scan returned {first} of the {second} stable keys")
            }
            Self::Miscounted => format!("the trie counts {first} entries, but has {second}"),
            Self::Waits => "a grace period does not end, although no reader is left".into(),
            Self::ChildFailed => format!(
                "the child of a fork failed: status {first:#x}, in {}",
                step_of_child(second)
            ),
            Self::Panicked => "a thread panicked (see above)".into(),
            Self::Stuck => format!("the phase did not end within {first} ms"),
        }
    }
}

/// The results of a run, shared by all threads.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    counts: [AtomicU64; COUNTS],
    /// The age buckets of objects with protected identity, then those of the others.
    ages: [[AtomicU64; AGES]; 2],
    errors: AtomicU64,
    /// The kind of the first error, a [`Wrong`], or 0.
    first: AtomicU32,
    /// The details of the first error.
    details: [AtomicU64; 3],
}

impl Verdict {
    /// Adds to a count.
    pub(super) fn count(&self, what: Count, amount: u64) {
        self.counts[what as usize].fetch_add(amount, Ordering::Relaxed);
    }

    /// Counts the age of a reader's object: the number of times it was reused since it was found.
    pub(super) fn count_age(&self, has_identity: bool, age: u64) {
        let age = age.min(AGES as u64 - 1) as usize;
        self.ages[usize::from(!has_identity)][age].fetch_add(1, Ordering::Relaxed);
    }

    /// Reports an error. Async-signal-safe.
    #[cold]
    pub(super) fn report(&self, what: Wrong, details: [u64; 3]) {
        if self.errors.fetch_add(1, Ordering::Relaxed) == 0 {
            for (place, detail) in self.details.iter().zip(details) {
                place.store(detail, Ordering::Relaxed);
            }
            // ORDERING: Release pairs with the Acquire in `first`, which sees the details of this
            // error.
            self.first.store(what as u32, Ordering::Release);
        }
    }

    /// Returns true if no error has been reported.
    pub(super) fn is_clean(&self) -> bool {
        self.errors.load(Ordering::Relaxed) == 0
    }

    /// Returns the description of the first error, if any.
    pub(super) fn first(&self) -> Option<String> {
        // ORDERING: see `report`.
        let first = self.first.load(Ordering::Acquire);
        let what = Wrong::ALL.into_iter().find(|wrong| *wrong as u32 == first)?;
        Some(what.describe(self.details.each_ref().map(|detail| detail.load(Ordering::Relaxed))))
    }

    /// Returns the current counts.
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

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Tally {
    /// Seconds since the run began.
    pub(crate) seconds: f64,
    /// The number of phases that have ended.
    pub(crate) phases: u64,
    /// This and the following: see the variant of [`Count`] with the same name.
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
    /// Histogram of the ages of objects with protected identity, as readers saw them: element `i`
    /// counts the objects that were reused `i` times during the section. Only the first may be
    /// above 0.
    pub(crate) ages: [u64; AGES],
    /// The same for objects without protected identity.
    ages_without_identity: [u64; AGES],
    /// The number of errors.
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
            "{seconds:.0} s: phases {phases}, reads {reads}, ages {} (without identity {}), \
             updates {updates}, pairs {pairs}, lookups {lookups}, scanned {scanned}, \
             changes {changes}, grace periods {grace_periods}, handed over {handed_over}, \
             threads {threads}, signals {signals}, moves {moves}, forks {forks}, \
             switches {switches}, errors {}",
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
    fn the_first_error_is_described_and_all_are_counted() {
        let verdict = Verdict::default();
        assert_eq!(verdict.first(), None);
        verdict.report(Wrong::KeyMissed, [7, 0, 0]);
        verdict.report(Wrong::NoMemory, [0; 3]);
        assert!(verdict.first().is_some_and(|first| first.contains("key 7")));
        assert_eq!(verdict.tally(1, 1.0).errors, 2);
    }

    #[test]
    fn the_numbers_of_errors_are_their_positions() {
        for (number, wrong) in (1..).zip(Wrong::ALL) {
            assert_eq!(wrong as u32, number);
        }
    }

    #[test]
    fn the_last_bucket_contains_all_greater_ages() {
        let verdict = Verdict::default();
        verdict.count_age(true, 0);
        verdict.count_age(false, u64::MAX);
        let tally = verdict.tally(0, 0.0);
        assert_eq!((tally.ages[0], tally.ages_without_identity[AGES - 1]), (1, 1));
    }
}
