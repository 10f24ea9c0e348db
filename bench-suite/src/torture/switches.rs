//! The adaptive barrier at the moment at which it changes its kind: a domain of its own for every change, a
//! reader on one CPU and a writer on another.
//!
//! The reader's announcement is a store, and what it reads then are loads: a processor may do the loads first.
//! The reader provokes that: before it announces itself it stores to many lines of memory that are not in its
//! caches, so that its announcement waits behind these stores.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use memalloc::rcu::{BarrierKind, Domain};
use memalloc::{AfterRcuGp, BuildError};

use super::affinity;
use super::objects::{Objects, Section};
use super::phases::Phase;
use super::verdict::{Count, Verdict};
use crate::measure::Gate;

/// Rounds behind a change of the kind, in which a reader that was not seen shows.
const AFTERWARDS: u64 = 64;

/// The most rounds of replacements for one change.
const MOST: u64 = 512;

/// Pending bytes, so few that every free looks at the readers.
const NEXT_TO_NOTHING: u64 = 64;

/// Lines that a reader stores to before it announces itself: about what a processor's queue of stores has.
const STORES: usize = 48;

/// Eight-byte words of the memory that is not in the caches.
const COLD_WORDS: usize = 4 << 20;

/// What is stored to. One at a time has it.
static COLD: Mutex<Vec<AtomicU64>> = Mutex::new(Vec::new());

/// Has adaptive domains change their kind, `changes` times, unless another thread does.
pub(super) fn switch(
    phase: &Phase,
    owner: u64,
    random: &mut fastrand::Rng,
    changes: u64,
    verdict: &Verdict,
    gate: &Gate,
) -> Result<(), BuildError> {
    let Ok(mut cold) = COLD.try_lock() else { return Ok(()) };
    if cold.is_empty() {
        cold.extend((0..COLD_WORDS).map(|_| AtomicU64::new(0)));
    }
    if !BarrierKind::Adaptive.is_supported() {
        return Ok(());
    }
    // Readers keep identity, and every free looks at them.
    let phase = Phase { small: true, by_hand: false, ..phase.clone() };
    for _ in 0..changes {
        if !gate.is_open() {
            break;
        }
        let Ok(domain) = Domain::builder().barrier_kind(BarrierKind::Adaptive).build() else {
            return Ok(());
        };
        let objects: Objects<'_, AfterRcuGp> =
            Objects::new(&phase, &domain, Some(NEXT_TO_NOTHING), verdict, gate)?;
        let (gone, seed) = (&AtomicBool::new(false), random.u64(..));
        thread::scope(|scope| {
            let reader = || {
                affinity::stay_on(1);
                read(&objects, &domain, gone, &cold, fastrand::Rng::with_seed(seed));
            };
            if thread::Builder::new().spawn_scoped(scope, reader).is_err() {
                return;
            }
            affinity::stay_on(0);
            replace(&objects, &domain, owner, verdict);
            gone.store(true, Ordering::Relaxed);
        });
        affinity::stay_anywhere();
        verdict.count(Count::Switches, domain.stats().barrier_switches);
        objects.drain();
    }
    Ok(())
}

/// Replaces the object in one slot, until the domain has changed its kind and for some time after.
fn replace(objects: &Objects<'_, AfterRcuGp>, domain: &Domain, owner: u64, verdict: &Verdict) {
    let mut left = MOST;
    while left > 0 && objects.go_on() && verdict.is_clean() {
        if domain.stats().barrier_switches > 0 {
            left = left.min(AFTERWARDS);
        }
        left -= 1;
        for _ in 0..8 {
            let Some(new) = objects.take(0, owner) else { return };
            objects.fill(&new);
            objects.publish(0, new);
        }
    }
}

/// Reads what is in that slot, each time behind many stores, until the writer has gone.
fn read(
    objects: &Objects<'_, AfterRcuGp>,
    domain: &Domain,
    gone: &AtomicBool,
    cold: &[AtomicU64],
    mut random: fastrand::Rng,
) {
    let keeps = objects.keeps(Section::Rcu);
    let local = domain.local();
    let mut reads = 0;
    while !gone.load(Ordering::Relaxed) {
        let mut place = random.usize(..);
        for _ in 0..STORES {
            place = place.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            cold[(place >> 33) % cold.len()].store(reads, Ordering::Relaxed);
        }
        let section = local.pin();
        let found = objects.find(0);
        (0..place % 256).for_each(|_| std::hint::spin_loop());
        found.iter().for_each(|&found| objects.check(found, keeps));
        drop(section);
        reads += 1;
    }
    objects.count_reads(reads);
}
