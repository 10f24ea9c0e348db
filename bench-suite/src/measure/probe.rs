//! Probes of the machine between samples: the speed of a CPU, by arithmetic whose steps depend on
//! each other and by arithmetic whose steps do not, and the time of a cache line between two CPUs.
//! In a virtual machine each can change at any moment, by a factor of three.
//!
//! A core that runs two threads shares out its instruction slots. A neighbour there, which a
//! virtual machine does not see, doubles the time of independent steps and leaves dependent ones
//! alone.

use std::hint::{black_box, spin_loop};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::placement::is_same;
use super::{Summary, cpus};

/// Steps of arithmetic, each dependent on the previous one: about a quarter of a millisecond.
const STEPS: u64 = 200_000;

/// The number of round trips of the cache line.
const ROUND_TRIPS: u32 = 1000;

/// The number of round trips that are not timed.
const WARM_UP: u32 = 10;

/// If the middle half spreads by this factor, values of different moments are not comparable.
const UNSTEADY: f64 = 1.25;

/// The probes so far.
#[derive(Debug)]
pub(crate) struct Probe {
    begun: Instant,
    arithmetic_ns: Vec<f64>,
    independent_ns: Vec<f64>,
    round_trip_ns: Vec<f64>,
}

/// The state of the machine at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Look {
    /// The time since the run began.
    pub(crate) at: Duration,
    /// The time of an arithmetic step that depends on the previous one, in nanoseconds.
    pub(crate) arithmetic_ns: f64,
    /// The time of six arithmetic steps that do not depend on each other, in nanoseconds.
    pub(crate) independent_ns: f64,
    /// The time of a cache line's round trip to another CPU, in nanoseconds; `None` with one CPU.
    pub(crate) round_trip_ns: Option<f64>,
}

impl Look {
    /// Returns whether the CPUs were at the same distance from each other at another moment.
    pub(crate) fn is_of_the_same_placement(&self, other: &Self) -> bool {
        is_same(self.round_trip_ns, other.round_trip_ns)
    }
}

impl Default for Probe {
    /// Starts the clock, without a probe.
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            arithmetic_ns: Vec::new(),
            independent_ns: Vec::new(),
            round_trip_ns: Vec::new(),
        }
    }
}

impl Probe {
    /// Probes the machine, which takes about a millisecond.
    pub(crate) fn look(&mut self) -> Look {
        let at = self.begun.elapsed();
        let (arithmetic_ns, independent_ns) = (arithmetic_ns(), independent_ns());
        let round_trip_ns = if cpus::available() > 1 { round_trip_ns() } else { None };
        self.arithmetic_ns.push(arithmetic_ns);
        self.independent_ns.push(independent_ns);
        self.round_trip_ns.extend(round_trip_ns);
        Look { at, arithmetic_ns, independent_ns, round_trip_ns }
    }

    /// Returns the time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Returns the time of a dependent arithmetic step, in nanoseconds; `None` without a probe.
    pub(crate) fn arithmetic(&self) -> Option<Summary> {
        Summary::of(&self.arithmetic_ns)
    }

    /// Returns the time of six independent arithmetic steps, in nanoseconds; `None` without a
    /// probe.
    pub(crate) fn independent(&self) -> Option<Summary> {
        Summary::of(&self.independent_ns)
    }

    /// Returns the time of a cache line's round trip to another CPU, in nanoseconds; `None` with
    /// one CPU.
    pub(crate) fn round_trip(&self) -> Option<Summary> {
        Summary::of(&self.round_trip_ns)
    }

    /// Returns whether the machine changed so much that values of different moments mean little.
    pub(crate) fn is_unsteady(&self) -> bool {
        let wide = |summary: Summary| summary.high > summary.low * UNSTEADY;
        [self.arithmetic(), self.independent(), self.round_trip()].into_iter().flatten().any(wide)
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

/// Times steps of arithmetic of which six do not depend on each other: as many as a core can begin
/// at once. Each is another operation, or the compiler would do several as one.
fn independent_ns() -> f64 {
    let begun = Instant::now();
    let [mut a, mut b, mut c, mut d, mut e, mut f] = black_box([1_u64, 2, 3, 4, 5, 6]);
    for step in 0..STEPS {
        a = a.wrapping_add(step).rotate_left(1);
        b = (b ^ step).rotate_left(3);
        c = c.wrapping_sub(step).rotate_left(5);
        d = (d & !step).rotate_left(7);
        e = (e | step).rotate_left(11);
        f = step.wrapping_sub(f).rotate_left(13);
    }
    black_box([a, b, c, d, e, f]);
    begun.elapsed().as_nanos() as f64 / STEPS as f64
}

/// Times two threads on separate CPUs that take turns on one word. `None` if the system can't start
/// the threads.
fn round_trip_ns() -> Option<f64> {
    let word = &AtomicU32::new(0);
    // Even: this thread's turn. Odd: the other's.
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
            // By the second turn the other thread has answered, so it is running.
            take_turns(0, 0..WARM_UP);
            let begun = Instant::now();
            take_turns(0, WARM_UP..ROUND_TRIPS);
            begun.elapsed().as_nanos() as f64 / f64::from(ROUND_TRIPS - WARM_UP)
        });
        match timed {
            Ok(timed) => timed.join().ok(),
            Err(_) => {
                // Otherwise the other thread would wait forever.
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
    fn a_probe_times_a_cpu_and_a_cache_line_between_two() {
        let mut probe = Probe::default();
        assert!(probe.arithmetic().is_none() && !probe.is_unsteady());
        probe.look();
        assert!(probe.arithmetic().unwrap().median > 0.0);
        assert!(probe.independent().unwrap().median > 0.0);
        assert_eq!(probe.round_trip().is_some(), cpus::available() > 1);
    }

    #[test]
    fn only_a_machine_that_changes_is_unsteady() {
        let arithmetic_ns = [1.0, 1.0, 1.01, 1.0, 9.0].to_vec();
        let steady = Probe { arithmetic_ns, round_trip_ns: vec![100.0; 5], ..Probe::default() };
        assert!(!steady.is_unsteady(), "one disturbance does not count");
        let round_trip_ns = [100.0, 100.0, 300.0, 300.0, 300.0].to_vec();
        assert!(Probe { round_trip_ns, ..steady }.is_unsteady());
        let steady = Probe { arithmetic_ns: vec![1.0; 5], ..Probe::default() };
        assert!(!steady.is_unsteady());
        let independent_ns = [1.0, 1.0, 2.0, 2.0, 2.0].to_vec();
        assert!(Probe { independent_ns, ..steady }.is_unsteady(), "a neighbour on the core");
    }
}
