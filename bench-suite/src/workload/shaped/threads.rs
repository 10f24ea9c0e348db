//! The threads of a shape, and their latencies.

use std::ops::{AddAssign, Range};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::heap::Heap;
use super::objects::{Removed, Table};
use crate::measure::{Gate, Metric, Worker, WrongAnswer};

/// Operations between two checks of the clock and the gate.
const STRIDE: usize = 32;

/// One update in this many is timed, at random.
const TIMED: u32 = 8;

/// The most objects of other threads that are freed after each operation.
const FREED_AT_ONCE: usize = 4;

/// The time within which a sleeping thread notices that the time is up.
const NAP: Duration = Duration::from_micros(500);

/// A thread that is early by less than this spins.
const WORTH_A_SLEEP: Duration = Duration::from_micros(150);

/// Shorter sections are not stretched: the two reads alone take this long.
const LEAST_SECTION: Duration = Duration::from_nanos(50);

/// The task of a thread.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// Updates its own slots, and reads all slots.
    Works {
        /// The share of updates.
        updates: f64,
        slots: Range<usize>,
        /// Updates per second, if limited.
        pace: Option<f64>,
        /// The length of a section.
        section: Duration,
        /// The share of old objects that another thread frees.
        handed: f64,
    },
    /// Stays in a section for this long, then outside for as long, and repeats.
    Sits(Duration),
}

/// The numbers of operations, since the thread or the measurement began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Since the measurement began.
    pub(super) updates: u64,
    pub(super) lookups: u64,
    /// Updates that were refused for lack of memory.
    pub(super) refused: u64,
    /// Since the thread began.
    pub(super) put: u64,
    pub(super) removed: u64,
}

impl Counts {
    fn done(&self) -> u64 {
        self.updates + self.lookups
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.updates += other.updates;
        self.lookups += other.lookups;
        self.refused += other.refused;
        self.put += other.put;
        self.removed += other.removed;
    }
}

/// Times in nanoseconds: of allocations, frees, and whole updates.
#[derive(Debug)]
pub(super) struct Latencies([Histogram<u32>; 3]);

impl Default for Latencies {
    fn default() -> Self {
        // A precision of 1 %, up to minutes: longer times count as the longest.
        let histogram = || Histogram::new_with_bounds(1, 300_000_000_000, 2);
        Self(std::array::from_fn(|_| histogram().unwrap_or_else(|_| unreachable!("valid bounds"))))
    }
}

impl Latencies {
    fn note(&mut self, alloc: Duration, free: Duration, update: Duration) {
        for (histogram, time) in self.0.iter_mut().zip([alloc, free, update]) {
            histogram.saturating_record(time.as_nanos().clamp(1, u64::MAX.into()) as u64);
        }
    }

    fn clear(&mut self) {
        self.0.iter_mut().for_each(Histogram::reset);
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(&other.0) {
            // The bounds are the same, so everything fits.
            let _ = sum.add(more);
        }
    }

    /// Returns the times at a percentile; empty if nothing was timed.
    pub(super) fn at(&self, percentile: f64) -> Vec<(Metric, f64)> {
        let metrics = [Metric::AllocLatencyNs, Metric::FreeLatencyNs, Metric::UpdateLatencyNs];
        let known = metrics.into_iter().zip(&self.0).filter(|(_, times)| !times.is_empty());
        known
            .map(|(metric, times)| (metric, times.value_at_percentile(percentile) as f64))
            .collect()
    }
}

/// One thread.
#[derive(Debug)]
pub(super) struct ShapedThread<'t, H> {
    table: &'t Table<H>,
    part: Part,
    inbox: Option<Receiver<Removed>>,
    outbox: SyncSender<Removed>,
    rng: fastrand::Rng,
    is_filled: bool,
    counts: Counts,
    latencies: Latencies,
    fault: Option<WrongAnswer>,
}

impl<'t, H: Heap> ShapedThread<'t, H> {
    pub(super) fn new(
        table: &'t Table<H>,
        part: Part,
        inbox: Option<Receiver<Removed>>,
        outbox: SyncSender<Removed>,
        seed: u64,
    ) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        Self {
            table,
            part,
            inbox,
            outbox,
            rng,
            is_filled: false,
            counts: Counts::default(),
            latencies: Latencies::default(),
            fault: None,
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// Returns the first fault.
    pub(super) fn fault(&self) -> Option<String> {
        self.fault.as_ref().map(|WrongAnswer(reason)| reason.clone())
    }

    /// Takes the objects that were handed over and are not freed.
    pub(super) fn leave(&mut self) -> Vec<Removed> {
        self.inbox.iter().flat_map(Receiver::try_iter).collect()
    }

    /// Puts an object into each of its slots.
    fn fill(&mut self, slots: Range<usize>) -> Result<(), WrongAnswer> {
        for slot in slots {
            if let Some(object) = self.table.alloc(slot, self.counts.put)? {
                self.counts.put += 1;
                self.take_out(self.table.swap(slot, Some(object))?);
            }
        }
        Ok(())
    }

    fn take_out(&mut self, old: Option<Removed>) {
        if let Some(old) = old {
            self.counts.removed += 1;
            self.table.free(old);
        }
    }

    fn update(&mut self, slot: usize, handed: f64) -> Result<(), WrongAnswer> {
        let is_timed = self.rng.u32(..TIMED) == 0;
        let is_handed = handed > 0.0 && self.rng.f64() < handed;
        let now = || is_timed.then(Instant::now);
        let begun = now();
        let Some(object) = self.table.alloc(slot, self.counts.put)? else {
            self.counts.refused += 1;
            // Another thread may be about to free memory; and a busy loop would slow it down.
            thread::yield_now();
            return Ok(());
        };
        let allocated = now();
        self.counts.put += 1;
        let old = self.table.swap(slot, Some(object))?;
        let swapped = now();
        if let Some(old) = old {
            self.counts.removed += 1;
            match is_handed {
                // A full inbox is not a fault: the object is freed here.
                true => match self.outbox.try_send(old) {
                    Ok(()) => {}
                    Err(TrySendError::Full(old) | TrySendError::Disconnected(old)) => {
                        self.table.free(old);
                    }
                },
                false => self.table.free(old),
            }
        }
        if let (Some(begun), Some(allocated), Some(swapped)) = (begun, allocated, swapped) {
            let ended = Instant::now();
            self.latencies.note(allocated - begun, ended - swapped, ended - begun);
        }
        self.counts.updates += 1;
        Ok(())
    }

    fn free_of_others(&mut self) {
        let Some(inbox) = &self.inbox else { return };
        for object in inbox.try_iter().take(FREED_AT_ONCE) {
            self.table.free(object);
        }
    }

    fn works(&mut self, gate: &Gate) -> Result<(), WrongAnswer> {
        let Part::Works { updates, ref slots, pace, section, handed } = self.part else {
            return Ok(());
        };
        let slots = slots.clone();
        if !self.is_filled {
            self.is_filled = true;
            self.fill(slots.clone())?;
        }
        let all = self.table.len();
        let (begun, mut paced) = (Instant::now(), 0_u64);
        loop {
            for _ in 0..STRIDE {
                if updates > 0.0 && self.rng.f64() < updates {
                    let slot = self.rng.usize(slots.clone());
                    self.update(slot, handed)?;
                    paced += 1;
                    if let Some(pace) = pace {
                        let due = begun + Duration::from_secs_f64(paced as f64 / pace);
                        wait_until(due, gate);
                    }
                } else {
                    let slot = self.rng.usize(..all);
                    self.table.look(slot, || stay(section))?;
                    self.counts.lookups += 1;
                }
                self.free_of_others();
                // After a slow operation the gate is checked at once, to end in time.
                if (pace.is_some() || section > WORTH_A_SLEEP) && !gate.is_open() {
                    return Ok(());
                }
            }
            if !gate.is_open() {
                return Ok(());
            }
        }
    }

    fn sits(&mut self, time: Duration, gate: &Gate) -> Result<(), WrongAnswer> {
        let pass = |time: Duration| {
            let begun = Instant::now();
            while gate.is_open() && begun.elapsed() < time {
                thread::sleep(NAP.min(time));
            }
        };
        loop {
            let slot = self.rng.usize(..self.table.len());
            self.table.look(slot, || pass(time))?;
            pass(time);
            if !gate.is_open() {
                return Ok(());
            }
        }
    }
}

impl<H: Heap> Worker for ShapedThread<'_, H> {
    fn work(&mut self, gate: &Gate) -> u64 {
        if self.fault.is_some() {
            return 0;
        }
        let before = self.counts.done();
        let end = match self.part {
            Part::Works { .. } => self.works(gate),
            Part::Sits(time) => self.sits(time, gate),
        };
        self.fault = end.err();
        self.counts.done() - before
    }

    fn forget_warm_up(&mut self) {
        self.counts =
            Counts { put: self.counts.put, removed: self.counts.removed, ..Counts::default() };
        self.latencies.clear();
    }
}

/// Spins for the length of a section.
#[inline]
fn stay(section: Duration) {
    if section < LEAST_SECTION {
        return;
    }
    let begun = Instant::now();
    while begun.elapsed() < section {
        std::hint::spin_loop();
    }
}

/// Waits for a moment, or for the end of the time.
fn wait_until(due: Instant, gate: &Gate) {
    loop {
        let early = due.saturating_duration_since(Instant::now());
        if early.is_zero() || !gate.is_open() {
            return;
        }
        if early > WORTH_A_SLEEP {
            thread::sleep((early - WORTH_A_SLEEP).min(NAP));
        } else {
            std::hint::spin_loop();
        }
    }
}
