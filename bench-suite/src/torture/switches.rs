//! Tests the adaptive barrier while it changes its kind: a new domain for every change, a reader on
//! one CPU and a writer on another.
//!
//! The reader announces itself with a store and then loads objects. A processor may execute the
//! loads first. The reader provokes this: before the announcement it stores to many cache lines
//! that miss in its caches, so that the announcement waits in the store buffer behind these stores.

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

/// The number of rounds after a change of the kind. They show reuse under a reader that the change
/// missed.
const ROUNDS_AFTER: u64 = 64;

/// The largest number of rounds for one change.
const MAX_ROUNDS: u64 = 512;

/// The limit of pending bytes, so small that every free checks the readers.
const TINY_MAX_PENDING: u64 = 64;

/// The number of stores of a reader before it announces itself: about the size of a store buffer.
const STORES: usize = 48;

/// The number of words of [`COLD`], which is too large for the caches.
const COLD_WORDS: usize = 4 << 20;

/// The memory that readers store to. One thread uses it at a time.
static COLD: Mutex<Vec<AtomicU64>> = Mutex::new(Vec::new());

/// Makes adaptive domains change their kind `changes` times, unless another thread is doing so.
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
    // Sections protect the identity of objects, and every free checks the readers.
    let phase = Phase { small: true, uses_free_rcu: false, ..phase.clone() };
    for _ in 0..changes {
        if !gate.is_open() {
            break;
        }
        let Ok(domain) = Domain::builder().barrier_kind(BarrierKind::Adaptive).build() else {
            return Ok(());
        };
        let objects: Objects<'_, AfterRcuGp> =
            Objects::new(&phase, &domain, Some(TINY_MAX_PENDING), verdict, gate)?;
        let (finished, seed) = (&AtomicBool::new(false), random.u64(..));
        thread::scope(|scope| {
            let reader = || {
                affinity::stay_on(1);
                read(&objects, &domain, finished, &cold, fastrand::Rng::with_seed(seed));
            };
            if thread::Builder::new().spawn_scoped(scope, reader).is_err() {
                return;
            }
            affinity::stay_on(0);
            replace(&objects, &domain, owner, verdict);
            finished.store(true, Ordering::Relaxed);
        });
        affinity::stay_anywhere();
        verdict.count(Count::Switches, domain.stats().barrier_switches);
        objects.drain();
    }
    Ok(())
}

/// Replaces the object in slot 0 until the domain has changed its kind, and for some rounds after
/// that.
fn replace(objects: &Objects<'_, AfterRcuGp>, domain: &Domain, owner: u64, verdict: &Verdict) {
    let mut left = MAX_ROUNDS;
    while left > 0 && objects.has_time() && verdict.is_clean() {
        if domain.stats().barrier_switches > 0 {
            left = left.min(ROUNDS_AFTER);
        }
        left -= 1;
        for _ in 0..8 {
            let Some(new) = objects.take(0, owner) else { return };
            objects.fill(&new);
            objects.publish(0, new);
        }
    }
}

/// Reads the object in slot 0, each time after many stores, until the writer has finished.
fn read(
    objects: &Objects<'_, AfterRcuGp>,
    domain: &Domain,
    finished: &AtomicBool,
    cold: &[AtomicU64],
    mut random: fastrand::Rng,
) {
    let protection = objects.protection(Section::Rcu);
    let local = domain.local();
    let mut reads = 0;
    while !finished.load(Ordering::Relaxed) {
        let mut place = random.usize(..);
        for _ in 0..STORES {
            place = place.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            cold[(place >> 33) % cold.len()].store(reads, Ordering::Relaxed);
        }
        let section = local.pin();
        let found = objects.find(0);
        (0..place % 256).for_each(|_| std::hint::spin_loop());
        found.iter().for_each(|&found| objects.check(found, protection));
        drop(section);
        reads += 1;
    }
    objects.count_reads(reads);
}
