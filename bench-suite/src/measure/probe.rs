//! The machine itself, looked at between samples: how fast a CPU computes just now, and how fast a
//! cache line goes from one to another. A virtual machine may change either from one moment to the
//! next, and a factor of three with it.

use std::hint::{black_box, spin_loop};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Summary, cpus};

/// Steps of arithmetic, each of which needs the one before: about a quarter of a millisecond.
const STEPS: u64 = 200_000;

/// How often the line goes there and back.
const ROUND_TRIPS: u32 = 1000;

/// So many of them are not timed.
const WARM_UP: u32 = 10;

/// A spread of the middle half as wide as this makes figures of different moments incomparable.
const UNSTEADY: f64 = 1.25;

/// What was seen so far.
#[derive(Debug)]
pub(crate) struct Probe {
    begun: Instant,
    arithmetic_ns: Vec<f64>,
    round_trip_ns: Vec<f64>,
}

/// The machine at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Look {
    /// The moment, since the probe began.
    pub(crate) at: Duration,
    /// A step of arithmetic, in nanoseconds.
    pub(crate) arithmetic_ns: f64,
    /// A cache line to another CPU and back, in nanoseconds; none where there is one CPU.
    pub(crate) round_trip_ns: Option<f64>,
}

impl Default for Probe {
    /// Nothing is seen yet; time begins.
    fn default() -> Self {
        Self { begun: Instant::now(), arithmetic_ns: Vec::new(), round_trip_ns: Vec::new() }
    }
}

impl Probe {
    /// Looks once more: takes about a millisecond.
    pub(crate) fn look(&mut self) -> Look {
        let at = self.begun.elapsed();
        let arithmetic_ns = arithmetic_ns();
        let round_trip_ns = if cpus::available() > 1 { round_trip_ns() } else { None };
        self.arithmetic_ns.push(arithmetic_ns);
        self.round_trip_ns.extend(round_trip_ns);
        Look { at, arithmetic_ns, round_trip_ns }
    }

    /// How long ago it began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// What a step of arithmetic took, in nanoseconds; none without a look.
    pub(crate) fn arithmetic(&self) -> Option<Summary> {
        Summary::of(&self.arithmetic_ns)
    }

    /// What a cache line took to another CPU and back, in nanoseconds; none where there is one CPU.
    pub(crate) fn round_trip(&self) -> Option<Summary> {
        Summary::of(&self.round_trip_ns)
    }

    /// Whether the machine changed so much that figures taken at different moments mean little.
    pub(crate) fn is_unsteady(&self) -> bool {
        let wide = |summary: Summary| summary.high > summary.low * UNSTEADY;
        self.arithmetic().is_some_and(wide) || self.round_trip().is_some_and(wide)
    }
}

fn arithmetic_ns() -> f64 {
    let begun = Instant::now();
    let mut number = black_box(1_u64);
    for _ in 0..STEPS {
        number = black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
    begun.elapsed().as_nanos() as f64 / STEPS as f64
}

/// Two threads, each on a CPU of its own, which take turns at one word. `None` where the system has no
/// thread for it.
fn round_trip_ns() -> Option<f64> {
    let word = &AtomicU32::new(0);
    // Even: ours to move on. Odd: the other's.
    let take_turns = move |first: u32, turns: Range<u32>| {
        for turn in turns {
            while word.load(Ordering::Relaxed) != 2 * turn + first {
                spin_loop();
            }
            word.store(2 * turn + first + 1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let other = thread::Builder::new().spawn_scoped(scope, move || {
            cpus::pin(1);
            take_turns(1, 0..ROUND_TRIPS);
        });
        other.ok()?;
        let timed = thread::Builder::new().spawn_scoped(scope, move || {
            cpus::pin(0);
            // By the second turn the other thread has answered: it is under way.
            take_turns(0, 0..WARM_UP);
            let begun = Instant::now();
            take_turns(0, WARM_UP..ROUND_TRIPS);
            begun.elapsed().as_nanos() as f64 / f64::from(ROUND_TRIPS - WARM_UP)
        });
        match timed {
            Ok(timed) => timed.join().ok(),
            Err(_) => {
                // The other thread would wait for ever.
                take_turns(0, 0..ROUND_TRIPS);
                None
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_sees_the_cpus_and_what_lies_between_them() {
        let mut probe = Probe::default();
        assert!(probe.arithmetic().is_none() && !probe.is_unsteady());
        probe.look();
        assert!(probe.arithmetic().unwrap().median > 0.0);
        assert_eq!(probe.round_trip().is_some(), cpus::available() > 1);
    }

    #[test]
    fn a_machine_that_changes_is_told_from_one_that_does_not() {
        let arithmetic_ns = [1.0, 1.0, 1.01, 1.0, 9.0].to_vec();
        let steady = Probe { arithmetic_ns, round_trip_ns: vec![100.0; 5], ..Probe::default() };
        assert!(!steady.is_unsteady(), "one disturbance is none");
        let round_trip_ns = [100.0, 100.0, 300.0, 300.0, 300.0].to_vec();
        assert!(Probe { round_trip_ns, ..steady }.is_unsteady());
    }
}
