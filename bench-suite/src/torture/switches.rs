//! Tests the adaptive barrier while it changes its kind: a new domain for every change, a reader on
//! one CPU and a writer on another.
//!
//! A reader stores to its slot, then loads the mode and the object. A processor may execute the
//! loads while the store is still in its store buffer. The window in which that does harm without a
//! membarrier between the modes, in the order of the accesses to memory:
//!
//! 1. the writer's last membarrier under the mode `PLAIN` ends; it empties the reader's buffer;
//! 2. the reader loads `PLAIN`, so it does not fence, and finds an object;
//! 3. the writer stores the mode `FENCED`, replaces the object, scans the slots without a
//!    membarrier, sees no reader, and fills the object again;
//! 4. the reader's store arrives in its slot;
//! 5. the reader looks at the object again.
//!
//! On the machine measured, step 3 takes the writer some 300 ns. A store stays in the buffer for
//! about 100 ns, even behind stores that miss in every cache, since their lines are fetched side by
//! side. So the reader first stores to one line several times and evicts the line after each store
//! ([`store_slowly`]): these stores wait for one another, and the store to the slot waits behind
//! them, for some 2 µs. It checks the object within the next 1.5 µs.
#![allow(unsafe_code)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crossbeam_utils::CachePadded;
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
const MAX_ROUNDS: u64 = 1_024;

/// The limit of pending bytes, so small that every free checks the readers.
const TINY_MAX_PENDING: u64 = 64;

/// The number of slow stores of a reader before it announces itself.
const SLOW_STORES: usize = 8;

/// The longest delay of a reader inside its section, in turns of a loop.
const MAX_TURNS: u32 = 64;

/// Held by the thread that makes domains change, since each change needs two CPUs.
static CHANGING: Mutex<()> = Mutex::new(());

/// Makes adaptive domains change their kind `changes` times, unless another thread is doing so.
pub(super) fn switch(
    phase: &Phase,
    owner: u64,
    random: &mut fastrand::Rng,
    changes: u64,
    verdict: &Verdict,
    gate: &Gate,
) -> Result<(), BuildError> {
    let Ok(_alone) = CHANGING.try_lock() else { return Ok(()) };
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
                read(&objects, &domain, finished, fastrand::Rng::with_seed(seed));
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

/// Reads the object in slot 0, each time behind slow stores, until the writer has finished.
fn read(
    objects: &Objects<'_, AfterRcuGp>,
    domain: &Domain,
    finished: &AtomicBool,
    mut random: fastrand::Rng,
) {
    let protection = objects.protection(Section::Rcu);
    let (local, line) = (domain.local(), CachePadded::new(AtomicU64::new(0)));
    let mut reads = 0;
    while !finished.load(Ordering::Relaxed) {
        let turns = random.u32(..MAX_TURNS);
        (0..SLOW_STORES).for_each(|_| store_slowly(&line, reads));
        let section = local.pin();
        let found = objects.find(0);
        (0..turns).for_each(|_| std::hint::spin_loop());
        found.iter().for_each(|&found| objects.check(found, protection));
        drop(section);
        reads += 1;
    }
    objects.count_reads(reads);
}

/// Stores to a line and evicts it from every cache, so that the next store to it is slow. On
/// processors other than x86_64, whose stores may overtake one another, only stores.
fn store_slowly(line: &AtomicU64, value: u64) {
    line.store(value, Ordering::Relaxed);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: no invariant is needed: every x86_64 processor has the instruction, which changes no
    // memory, and the address is that of a reference.
    unsafe {
        std::arch::x86_64::_mm_clflush(std::ptr::from_ref(line).cast());
    }
}
