//! The threads of the bench `flood`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crossbeam_utils::CachePadded;

use super::group_times::GroupTimes;
use super::object::PLACES;
use super::scheme::Scheme;
use super::slots::{LaneAccess, Ledger, Section, SlotTable};
use crate::measure::{Gate, Worker};
use crate::workload::reader;

/// Operations between two reads of the clock.
const STRIDE: usize = 64;

/// Random places taken from one random number.
const PLACES_A_DIE: usize = 8;

/// The task of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Puts objects into random slots of its lane, and retires the previous ones.
    Overwrites,
    /// Fills all slots of its lane, then empties them.
    FillsAndEmpties,
    /// Fills slots of a lane in turn, as they become free.
    Adds,
    /// Empties the slots that another thread fills.
    Deletes,
    /// Enters and leaves read sections all the time, and reads an object in each.
    Reads,
    /// Stays in a read section of this kind, with an object, for this many milliseconds at a time.
    Sits(Section, u64),
}

impl Task {
    /// Returns whether the thread takes objects out, so that its updates are timed.
    pub(super) fn is_timed(self) -> bool {
        match self {
            Self::Overwrites | Self::FillsAndEmpties | Self::Deletes => true,
            Self::Adds | Self::Reads | Self::Sits(..) => false,
        }
    }
}

/// A thread of the bench.
pub(super) struct FloodThread<'f, S> {
    table: &'f SlotTable<S>,
    task: Task,
    lane: usize,
    /// True if the thread registers as a reader, so that its scheme has to wait for it.
    may_read: bool,
    /// The next place of `Adds` and `Deletes`.
    place: usize,
    rng: fastrand::Rng,
    ledger: Ledger,
    /// The number of operations so far, readable by other threads.
    progress: &'f Progress,
    /// The times of its updates, if it makes any.
    times: Option<GroupTimes>,
}

/// The operations of one thread, on a separate cache line.
pub(super) type Progress = CachePadded<AtomicU64>;

impl<'f, S: Scheme> FloodThread<'f, S> {
    /// Creates a thread that writes to a lane, or reads all lanes.
    pub(super) fn new(
        table: &'f SlotTable<S>,
        task: Task,
        lane: usize,
        may_read: bool,
        seed: u64,
        progress: &'f Progress,
        times: Option<GroupTimes>,
    ) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        let ledger = Ledger::default();
        Self { table, task, lane, may_read, place: 0, rng, ledger, progress, times }
    }

    /// Takes the thread's counts, for [`SlotTable::close`].
    pub(super) fn ledger(&mut self) -> Ledger {
        std::mem::take(&mut self.ledger)
    }

    /// Returns the times of the thread's updates, if it makes any.
    pub(super) fn times(&self) -> Option<&GroupTimes> {
        self.times.as_ref()
    }
}

impl<S: Scheme> Worker for FloodThread<'_, S> {
    /// Counts the objects taken out or read.
    fn work(&mut self, gate: &Gate) -> u64 {
        let before = self.ledger.done();
        let mut access = self.table.access(self.lane, &mut self.ledger);
        if self.may_read {
            access.read(Section::Short, self.lane, self.place, || ());
        }
        if let Some(times) = &mut self.times {
            times.begin(access.done());
        }
        while !access.has_failed() {
            match self.task {
                Task::Overwrites => overwrite(&mut access, &mut self.rng),
                Task::FillsAndEmpties => fill_and_empty(&mut access),
                Task::Adds => add(&mut access, &mut self.place),
                Task::Deletes => delete(&mut access, &mut self.place),
                Task::Reads => read(&mut access, &mut self.rng),
                Task::Sits(section, milliseconds) => {
                    let lane = self.rng.u32(..) as usize;
                    let meanwhile = || reader::sit(milliseconds, gate);
                    access.read(section, lane, random_place(&mut self.rng), meanwhile);
                }
            }
            self.progress.store(access.done(), Ordering::Relaxed);
            if let Some(times) = &mut self.times {
                times.note(access.done());
            }
            if !gate.is_open() {
                break;
            }
        }
        if let Some(times) = &mut self.times {
            times.end();
        }
        drop(access);
        self.ledger.done() - before
    }

    fn forget_warm_up(&mut self) {
        if let Some(times) = &mut self.times {
            times.forget();
        }
    }
}

fn overwrite<S: Scheme>(access: &mut LaneAccess<'_, S>, rng: &mut fastrand::Rng) {
    for _ in 0..STRIDE / PLACES_A_DIE {
        let mut die = rng.u64(..);
        for _ in 0..PLACES_A_DIE {
            access.put(die as usize);
            die >>= 8;
        }
    }
}

fn fill_and_empty<S: Scheme>(access: &mut LaneAccess<'_, S>) {
    let found_one = (0..PLACES).fold(false, |found, place| access.put(place) | found);
    let missed_one = (0..PLACES).fold(false, |missed, place| !access.take(place) | missed);
    if (found_one || missed_one) && !access.has_failed() {
        access.blame("an emptied slot was full, or a filled slot was empty");
    }
}

fn add<S: Scheme>(access: &mut LaneAccess<'_, S>, place: &mut usize) {
    for _ in 0..STRIDE {
        if access.is_taken(*place) {
            return give_way();
        }
        access.put(*place);
        *place += 1;
    }
}

fn delete<S: Scheme>(access: &mut LaneAccess<'_, S>, place: &mut usize) {
    // Up to a multiple of the stride, so that every group of timed updates is of the same size.
    let left = STRIDE as u64 - access.done() % STRIDE as u64;
    for _ in 0..left {
        if !access.take_if_any(*place) {
            return give_way();
        }
        *place += 1;
    }
}

/// Lets the other thread of the pair run, in case it waits for this CPU.
fn give_way() {
    std::hint::spin_loop();
    thread::yield_now();
}

fn read<S: Scheme>(access: &mut LaneAccess<'_, S>, rng: &mut fastrand::Rng) {
    for _ in 0..STRIDE {
        let lane = rng.u32(..) as usize;
        access.read(Section::Short, lane, random_place(rng), || ());
    }
}

/// Returns a random number; slots take it modulo the number of places.
#[inline]
fn random_place(rng: &mut fastrand::Rng) -> usize {
    rng.u64(..) as usize
}
