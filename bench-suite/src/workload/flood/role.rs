//! What the threads of a flood do.

use std::thread;
use std::time::{Duration, Instant};

use super::field::{Field, Hand, Ledger};
use super::object::PLACES;
use super::subject::Subject;
use crate::measure::{Gate, Worker};

/// Turns between two looks at the clock.
const STRIDE: usize = 64;

/// Random places that are made of one random number.
const PLACES_A_DIE: usize = 8;

/// How long a sitting reader stays in a section.
const SITS: Duration = Duration::from_millis(100);

/// How soon a sitting reader notices that the time is up.
const NAP: Duration = Duration::from_micros(500);

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
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
    /// Sits in a read section, holding an object, for 100 ms at a time.
    Sits,
}

/// One thread.
pub(super) struct Hired<'f, S> {
    field: &'f Field<S>,
    role: Role,
    lane: usize,
    /// Whether it may read, and its subject has to reckon with that.
    may_read: bool,
    /// Where `Adds` and `Deletes` go on.
    place: usize,
    rng: fastrand::Rng,
    ledger: Ledger,
}

impl<'f, S: Subject> Hired<'f, S> {
    /// A thread that writes to a lane, or that reads them all.
    pub(super) fn new(
        field: &'f Field<S>,
        role: Role,
        lane: usize,
        may_read: bool,
        seed: u64,
    ) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        Self { field, role, lane, may_read, place: 0, rng, ledger: Ledger::default() }
    }

    /// What it did, to be handed to [`Field::close`].
    pub(super) fn ledger(&mut self) -> Ledger {
        std::mem::take(&mut self.ledger)
    }
}

impl<S: Subject> Worker for Hired<'_, S> {
    /// The operations are the objects that it took out, or looked at.
    fn work(&mut self, gate: &Gate) -> u64 {
        let before = self.ledger.done();
        let mut hand = self.field.hand(self.lane, &mut self.ledger);
        if self.may_read {
            hand.read(self.lane, self.place, || ());
        }
        while !hand.has_failed() {
            match self.role {
                Role::Overwrites => overwrite(&mut hand, &mut self.rng),
                Role::FillsAndEmpties => fill_and_empty(&mut hand),
                Role::Adds => add(&mut hand, &mut self.place),
                Role::Deletes => delete(&mut hand, &mut self.place),
                Role::Reads => read(&mut hand, &mut self.rng),
                Role::Sits => sit(&mut hand, &mut self.rng, gate),
            }
            if !gate.is_open() {
                break;
            }
        }
        drop(hand);
        self.ledger.done() - before
    }
}

fn overwrite<S: Subject>(hand: &mut Hand<'_, S>, rng: &mut fastrand::Rng) {
    for _ in 0..STRIDE / PLACES_A_DIE {
        let mut die = rng.u64(..);
        for _ in 0..PLACES_A_DIE {
            hand.put(die as usize);
            die >>= 8;
        }
    }
}

fn fill_and_empty<S: Subject>(hand: &mut Hand<'_, S>) {
    let found_one = (0..PLACES).fold(false, |found, place| hand.put(place) | found);
    let missed_one = (0..PLACES).fold(false, |missed, place| !hand.take(place) | missed);
    if (found_one || missed_one) && !hand.has_failed() {
        hand.blame("a slot was full that had been emptied, or empty that had been filled");
    }
}

fn add<S: Subject>(hand: &mut Hand<'_, S>, place: &mut usize) {
    for _ in 0..STRIDE {
        if hand.is_taken(*place) {
            return give_way();
        }
        hand.put(*place);
        *place += 1;
    }
}

fn delete<S: Subject>(hand: &mut Hand<'_, S>, place: &mut usize) {
    for _ in 0..STRIDE {
        if !hand.take_if_any(*place) {
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

fn read<S: Subject>(hand: &mut Hand<'_, S>, rng: &mut fastrand::Rng) {
    for _ in 0..STRIDE {
        let lane = rng.u32(..) as usize;
        hand.read(lane, random_place(rng), || ());
    }
}

fn sit<S: Subject>(hand: &mut Hand<'_, S>, rng: &mut fastrand::Rng, gate: &Gate) {
    let begun = Instant::now();
    hand.read(rng.u32(..) as usize, random_place(rng), || {
        while gate.is_open() && begun.elapsed() < SITS {
            thread::sleep(NAP);
        }
    });
}

/// Slots know their place counted round and round.
#[inline]
fn random_place(rng: &mut fastrand::Rng) -> usize {
    rng.u64(..) as usize
}
