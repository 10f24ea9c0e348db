//! `grace-period`: one thread waits for grace periods one after the other, while the others, if
//! any, enter and leave read sections. A sample is the median of all waits in it, and the number of
//! sections per second of all readers.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crossbeam_utils::CachePadded;

use super::scheme::GracePeriods;
use crate::measure::{
    Curve, Gate, Metric, NoReadings, Reading, Slice, Summary, Team, Worker, WrongAnswer,
};

/// The name of the case.
pub(super) const CASE: &str = "grace-period";

/// The most waits whose times are kept.
const KEPT: usize = 1 << 20;

/// Sections between two reads of the clock.
const STRIDE: u64 = 64;

/// The pauses of a reader in each section, so that there is something to wait for.
const PAUSES: u32 = 8;

/// Runs one thread that waits, and others that read.
pub(super) fn run<S: GracePeriods>(
    scheme: &S,
    threads: usize,
    slice: Slice,
) -> Result<Vec<Reading>, NoReadings> {
    let ledger = Ledger::default();
    let waiter = Participant::Waits(Waiter {
        scheme,
        ledger: &ledger,
        times: Vec::with_capacity(KEPT),
        fault: None,
    });
    let readers =
        (1..threads).map(|_| Participant::Reads(Reader { scheme, ledger: &ledger, broken: 0 }));
    let mut team: Team<_> = std::iter::once(waiter).chain(readers).collect();
    let throughput = team.run_for(slice, || {})?;
    let mut readings = Vec::new();
    for participant in team.iter_mut() {
        match participant {
            Participant::Waits(Waiter { fault: Some(fault), .. }) => {
                return Err(fault.clone().into());
            }
            Participant::Waits(waiter) => readings.extend(
                Summary::of(&waiter.times)
                    .map(|times| Reading::new(CASE, Metric::GpLatencyNs, times.median))
                    .map(|reading| reading.with_curve(Curve::distribution(&waiter.times))),
            ),
            Participant::Reads(Reader { broken: 0, .. }) => {}
            Participant::Reads(Reader { broken, .. }) => {
                return Err(WrongAnswer(format!(
                    "{broken} read sections were still open at the end of a grace period that had \
                     to wait for them"
                ))
                .into());
            }
        }
    }
    // The first participant waits.
    if let [_, sections @ ..] = throughput.operations()
        && !sections.is_empty()
    {
        let speed = throughput.per_second(sections.iter().sum());
        readings.push(Reading::new(CASE, Metric::LookupsPerS, speed));
    }
    readings.extend(throughput.cpu_share(CASE));
    Ok(readings)
}

/// Numbered versions: the newest that readers can find, and the newest that they may no longer use.
#[derive(Debug)]
struct Ledger {
    current: CachePadded<AtomicU64>,
    gone: CachePadded<AtomicU64>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { current: CachePadded::new(AtomicU64::new(1)), gone: CachePadded::default() }
    }
}

impl Ledger {
    /// Returns the version that a reader finds.
    #[inline]
    fn find(&self) -> u64 {
        // ORDERING: Relaxed is enough for a number that is only compared; the measured scheme
        // orders it against the waiter.
        self.current.load(Ordering::Relaxed)
    }

    /// Returns whether a version that was found may still be used.
    #[inline]
    fn is_there(&self, version: u64) -> bool {
        self.gone.load(Ordering::Relaxed) < version
    }

    /// Replaces the current version, and returns it.
    fn replace(&self) -> u64 {
        self.current.fetch_add(1, Ordering::Relaxed)
    }

    /// Records, after a grace period, that no reader uses a version any more.
    fn forget(&self, version: u64) {
        self.gone.store(version, Ordering::Relaxed);
    }
}

enum Participant<'r, S> {
    Waits(Waiter<'r, S>),
    Reads(Reader<'r, S>),
}

impl<S: GracePeriods> Worker for Participant<'_, S> {
    fn work(&mut self, gate: &Gate) -> u64 {
        match self {
            Self::Waits(waiter) => waiter.work(gate),
            Self::Reads(reader) => reader.work(gate),
        }
    }

    fn forget_warm_up(&mut self) {
        if let Self::Waits(waiter) = self {
            waiter.times.clear();
        }
    }
}

struct Waiter<'r, S> {
    scheme: &'r S,
    ledger: &'r Ledger,
    times: Vec<f64>,
    fault: Option<WrongAnswer>,
}

impl<S: GracePeriods> Waiter<'_, S> {
    fn work(&mut self, gate: &Gate) -> u64 {
        // Registers a reader with the domain, outside any section: without readers there is nothing
        // to check.
        self.scheme.section(|| ());
        let mut waits = 0;
        loop {
            let version = self.ledger.replace();
            let begun = Instant::now();
            let end = self.scheme.synchronize();
            let elapsed = begun.elapsed();
            self.ledger.forget(version);
            if let Err(fault) = end {
                self.fault = Some(fault);
                return 1;
            }
            waits += 1;
            if self.times.len() < KEPT {
                self.times.push(elapsed.as_nanos() as f64);
            }
            if !gate.is_open() {
                return waits;
            }
        }
    }
}

struct Reader<'r, S> {
    scheme: &'r S,
    ledger: &'r Ledger,
    broken: u64,
}

impl<S: GracePeriods> Reader<'_, S> {
    fn work(&mut self, gate: &Gate) -> u64 {
        let mut done = 0;
        while done == 0 || gate.is_open() {
            for _ in 0..STRIDE {
                let held = self.scheme.section(|| {
                    let version = self.ledger.find();
                    (0..PAUSES).for_each(|_| spin_loop());
                    self.ledger.is_there(version)
                });
                self.broken += u64::from(!held);
            }
            done += STRIDE;
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicPtr;
    use std::time::Duration;

    use super::super::scheme::Scheme;
    use super::*;

    #[test]
    fn a_version_that_is_forgotten_while_in_use_is_detected() {
        let ledger = Ledger::default();
        let found = ledger.find();
        assert!(ledger.is_there(found));
        let replaced = ledger.replace();
        assert!(ledger.is_there(found));
        ledger.forget(replaced);
        assert!(!ledger.is_there(found) && ledger.is_there(ledger.find()));
    }

    /// Fails every wait.
    struct Refuses;

    impl Scheme for Refuses {
        type Local<'s> = ();

        fn local(&self) {}

        fn read<T>(&self, (): &mut (), place: &AtomicPtr<T>) -> *mut T {
            place.load(Ordering::Relaxed)
        }
    }

    impl GracePeriods for Refuses {
        fn section<R>(&self, inside: impl FnOnce() -> R) -> R {
            inside()
        }

        fn synchronize(&self) -> Result<(), WrongAnswer> {
            Err(WrongAnswer("refused".into()))
        }
    }

    #[test]
    fn a_grace_period_that_fails_ends_the_run() {
        let slice = Slice::new(Duration::from_millis(1), None);
        assert_eq!(run(&Refuses, 1, slice), Err(WrongAnswer("refused".into()).into()));
    }
}
