//! Writers that replace objects, fake writers, and unshared objects that pass through CPU caches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memalloc::ReusePolicy;
use memalloc::rcu::Domain;

use super::objects::{FreeKind, Held, Objects, SLOTS};
use super::verdict::{Count, Wrong};

/// The largest number of unpublished objects that one thread holds.
const MAX_HELD: usize = 48;

/// Replaces published objects, `updates` times.
pub(super) fn update<P: ReusePolicy>(
    objects: &Objects<'_, P>,
    owner: u64,
    random: &mut fastrand::Rng,
    updates: u64,
) {
    let mut done = 0;
    while done < updates && objects.has_time() {
        done += 1;
        let slot = random.usize(..SLOTS);
        if random.u8(..) == 0 {
            objects.withdraw(slot);
            continue;
        }
        let Some(new) = objects.take(slot, owner) else { break };
        objects.fill(&new);
        match random.u8(..) {
            0..8 => objects.free(new, owner, FreeKind::Unshared),
            _ => objects.publish(slot, new),
        }
    }
    objects.verdict().count(Count::Updates, done);
}

/// Allocates and frees unpublished objects of one size at full speed.
pub(super) fn pairs<P: ReusePolicy>(
    objects: &Objects<'_, P>,
    owner: u64,
    random: &mut fastrand::Rng,
    pairs: u64,
) {
    let size = random.usize(..2);
    let mut other: Option<Held> = None;
    for pair in 0..pairs {
        let Some(new) = objects.take(size, owner) else { break };
        let old = if pair % 3 == 0 { other.replace(new) } else { Some(new) };
        if let Some(old) = old {
            objects.free(old, owner, FreeKind::Unshared);
        }
    }
    if let Some(last) = other {
        objects.free(last, owner, FreeKind::Unshared);
    }
    objects.verdict().count(Count::Pairs, pairs);
}

/// Unpublished objects of every size. A thread holds them for some time and frees them in every
/// way.
#[derive(Debug, Default)]
pub(super) struct HeldObjects(Vec<Held>);

impl HeldObjects {
    /// Allocates and frees some objects.
    pub(super) fn exchange<P: ReusePolicy>(
        &mut self,
        objects: &Objects<'_, P>,
        owner: u64,
        random: &mut fastrand::Rng,
    ) {
        const ROUNDS: u64 = 100;
        for _ in 0..ROUNDS {
            if !objects.has_time() {
                break;
            }
            self.0.extend(objects.take(random.usize(..2), owner));
            while self.0.len() > MAX_HELD || (!self.0.is_empty() && random.bool()) {
                let held = self.0.swap_remove(random.usize(..self.0.len()));
                let kinds = [FreeKind::Policy, FreeKind::Rcu, FreeKind::Unshared];
                objects.free(held, owner, kinds[random.usize(..kinds.len())]);
            }
        }
        objects.verdict().count(Count::Pairs, ROUNDS);
    }

    /// Frees all objects.
    pub(super) fn free_all<P: ReusePolicy>(&mut self, objects: &Objects<'_, P>, owner: u64) {
        self.0.drain(..).for_each(|held| objects.free(held, owner, FreeKind::Policy));
    }
}

/// The numbers of callbacks queued and run.
#[derive(Clone, Debug, Default)]
pub(super) struct Callbacks(Arc<[AtomicU64; 2]>);

impl Callbacks {
    /// Queues a callback that counts itself.
    fn queue(&self, domain: &Domain, trace: bool) {
        self.0[0].fetch_add(1, Ordering::Relaxed);
        let counts = Arc::clone(&self.0);
        let callback = move || _ = counts[1].fetch_add(1, Ordering::Relaxed);
        match trace {
            true => domain.trace().call(callback),
            false => domain.call(callback),
        }
    }

    /// Waits for all callbacks, and reports an error if some have not run. No section may be open.
    pub(super) fn drain<P: ReusePolicy>(&self, domain: &Domain, objects: &Objects<'_, P>) {
        if domain.barrier().is_err() || domain.trace().barrier().is_err() {
            objects.verdict().report(Wrong::Waits, [0; 3]);
        }
        let [queued, ran] = self.0.each_ref().map(|count| count.load(Ordering::Relaxed));
        if queued != ran {
            objects.verdict().report(Wrong::CallbackLost, [queued, ran, 0]);
        }
    }
}

/// Acts like a writer that has changed nothing: waits for grace periods, polls, queues and runs
/// callbacks, and maintains the allocator.
pub(super) fn fake_write<P: ReusePolicy>(
    objects: &Objects<'_, P>,
    domain: &Domain,
    callbacks: &Callbacks,
    random: &mut fastrand::Rng,
) {
    let limit = Duration::from_millis(2);
    let mut passed = 0;
    for _ in 0..8 {
        passed += match random.u8(..8) {
            0 => u64::from(domain.synchronize().is_ok()),
            1 => u64::from(domain.rcu().synchronize_timeout(limit).is_ok()),
            2 => u64::from(domain.trace().synchronize_timeout(limit).is_ok()),
            3 => {
                let (cookie, trace) = (domain.start_poll(), domain.trace().start_poll());
                domain.trace().advance(trace);
                u64::from(domain.advance(cookie) && domain.poll(cookie))
            }
            4 => {
                callbacks.queue(domain, false);
                u64::from(domain.run_callbacks() > 0)
            }
            5 => {
                callbacks.queue(domain, true);
                u64::from(domain.trace().run_callbacks() > 0)
            }
            6 => u64::from(domain.rcu().synchronize_timeout(Duration::ZERO).is_ok()),
            _ => {
                objects.maintain(random.usize(..8));
                0
            }
        };
    }
    objects.verdict().count(Count::GracePeriods, passed);
}
