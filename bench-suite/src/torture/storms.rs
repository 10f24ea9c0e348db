//! Signal storms: a timer interrupts its thread thousands of times per second. The handler reads,
//! allocates and frees, as does the interrupted code.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU64, Ordering};

use memalloc::ReusePolicy;
use memalloc::rcu::Domain;

use super::objects::{FreeKind, Held, Objects, SLOTS, Section};
use super::verdict::Count;
use crate::workload::signals::timer::{Strike, Target, Timer};

/// Signals per second.
const RATE: u32 = 20_000;

/// The number of signals of one storm that do work. Each may wait for readers, longer than until
/// the next signal, so there is a limit.
const MOST_SIGNALS: u64 = 200;

/// The number of objects that the handler keeps.
const KEPT: usize = 8;

/// The bit that tells the owner of a handler's objects from the owner of its thread's objects.
const HANDLER: u64 = 1 << 32;

/// The data of a handler.
struct Storm<'a, 'v, P: ReusePolicy> {
    objects: &'a Objects<'v, P>,
    domain: &'a Domain,
    owner: u64,
    own: UnsafeCell<([Option<Held>; KEPT], fastrand::Rng)>,
    signals: AtomicU64,
}

impl<P: ReusePolicy> Strike for Storm<'_, '_, P> {
    unsafe fn strike(&self) {
        let signals = self.signals.fetch_add(1, Ordering::Relaxed);
        if signals >= MOST_SIGNALS || !self.objects.has_time() {
            return;
        }
        // SAFETY: only the handler accesses it while the timer runs, on one thread, and nothing
        // interrupts the handler (BEN-T1).
        let (held, random) = unsafe { &mut *self.own.get() };
        let slot = random.usize(..SLOTS);
        let section = self.domain.pin();
        if let Some(found) = self.objects.find(slot) {
            self.objects.check(found, self.objects.protection(Section::Rcu));
        }
        drop(section);
        let new = self.objects.take_nowait(slot, self.owner);
        let old = std::mem::replace(&mut held[random.usize(..KEPT)], new);
        if let Some(old) = old {
            let kind = match random.u8(..8) {
                0 => FreeKind::Policy,
                1 => FreeKind::Rcu,
                _ => FreeKind::Unshared,
            };
            self.objects.free(old, self.owner, kind);
        }
    }
}

/// Runs `work` while signals interrupt it.
pub(super) fn storm<P: ReusePolicy>(
    objects: &Objects<'_, P>,
    domain: &Domain,
    owner: u64,
    random: &mut fastrand::Rng,
    work: impl FnOnce(&mut fastrand::Rng),
) {
    // The handler pins the domain. So the thread has a slot, and this is the domain it used last.
    domain.register();
    let owner = owner | HANDLER;
    let own = UnsafeCell::new(([const { None }; KEPT], random.fork()));
    let storm = Storm { objects, domain, owner, own, signals: AtomicU64::new(0) };
    let target = Target(&storm);
    // SAFETY: the timer is dropped below, on this thread, before its target (BEN-T1). `work`
    // unwinds only in a run that then exits the process.
    let timer = unsafe { Timer::start(&target, RATE) };
    work(random);
    drop(timer);
    objects
        .verdict()
        .count(Count::Signals, storm.signals.load(Ordering::Relaxed).min(MOST_SIGNALS));
    let (held, _) = storm.own.into_inner();
    held.into_iter().flatten().for_each(|held| objects.free(held, owner, FreeKind::Policy));
}
