//! What the threads of a flood do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crossbeam_utils::CachePadded;

use super::object::PLACES;
use super::scheme::Scheme;
use super::slots::{LaneAccess, Ledger, SlotTable};
use crate::measure::{Gate, Worker};
use crate::workload::reader;

/// Turns between two looks at the clock.
const STRIDE: usize = 64;

/// Random places that are made of one random number.
const PLACES_A_DIE: usize = 8;

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Puts objects into random slots of its lane, and retires those that were there.
    Overwrites,
    /// Fills all slots of its lane, then empties them.
    FillsAndEmpties,
    /// Fills slots of a lane in turn, as they become free.
    Adds,
    /// Empties the slots that another thread fills.
    Deletes,
    /// Enters and leaves read sections all the time, and looks at an object in each.
    Reads,
    /// Sits in a read section, holding an object, for so many milliseconds at a time.
    Sits(u64),
}

/// One thread.
pub(super) struct FloodThread<'f, S> {
    table: &'f SlotTable<S>,
    task: Task,
    lane: usize,
    /// Whether it may read, and its scheme has to reckon with that.
    may_read: bool,
    /// Where `Adds` and `Deletes` go on.
    place: usize,
    rng: fastrand::Rng,
    ledger: Ledger,
    /// How much it has done so far, for others to see.
    progress: &'f Progress,
}

/// Operations of one thread, on a cache line of its own.
pub(super) type Progress = CachePadded<AtomicU64>;

impl<'f, S: Scheme> FloodThread<'f, S> {
    /// A thread that writes to a lane, or that reads them all.
    pub(super) fn new(
        table: &'f SlotTable<S>,
        task: Task,
        lane: usize,
        may_read: bool,
        seed: u64,
        progress: &'f Progress,
    ) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        Self { table, task, lane, may_read, place: 0, rng, ledger: Ledger::default(), progress }
    }

    /// What it did, to be handed to [`SlotTable::close`].
    pub(super) fn ledger(&mut self) -> Ledger {
        std::mem::take(&mut self.ledger)
    }
}

impl<S: Scheme> Worker for FloodThread<'_, S> {
    /// The operations are the objects that it took out, or looked at.
    fn work(&mut self, gate: &Gate) -> u64 {
        let before = self.ledger.done();
        let mut access = self.table.access(self.lane, &mut self.ledger);
        if self.may_read {
            access.read(self.lane, self.place, || ());
        }
        while !access.has_failed() {
            match self.task {
                Task::Overwrites => overwrite(&mut access, &mut self.rng),
                Task::FillsAndEmpties => fill_and_empty(&mut access),
                Task::Adds => add(&mut access, &mut self.place),
                Task::Deletes => delete(&mut access, &mut self.place),
                Task::Reads => read(&mut access, &mut self.rng),
                Task::Sits(milliseconds) => sit(&mut access, &mut self.rng, milliseconds, gate),
            }
            self.progress.store(access.done(), Ordering::Relaxed);
            if !gate.is_open() {
                break;
            }
        }
        drop(access);
        self.ledger.done() - before
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
        access.blame("a slot was full that had been emptied, or empty that had been filled");
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
    for _ in 0..STRIDE {
        if !access.take_if_any(*place) {
            return give_way();
        }
        *place += 1;
    }
}

/// Lets the other side work, where it waits for this CPU.
fn give_way() {
    std::hint::spin_loop();
    thread::yield_now();
}

fn read<S: Scheme>(access: &mut LaneAccess<'_, S>, rng: &mut fastrand::Rng) {
    for _ in 0..STRIDE {
        let lane = rng.u32(..) as usize;
        access.read(lane, random_place(rng), || ());
    }
}

fn sit<S: Scheme>(
    access: &mut LaneAccess<'_, S>,
    rng: &mut fastrand::Rng,
    milliseconds: u64,
    gate: &Gate,
) {
    let lane = rng.u32(..) as usize;
    access.read(lane, random_place(rng), || reader::sit(milliseconds, gate));
}

/// Slots know their place counted round and round.
#[inline]
fn random_place(rng: &mut fastrand::Rng) -> usize {
    rng.u64(..) as usize
}
