//! Updaters, fake writers, and what goes through the caches of CPUs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memalloc::ReusePolicy;
use memalloc::rcu::Domain;

use super::objects::{Held, Objects, SLOTS, Way};
use super::verdict::{Count, Wrong};

/// Objects that one thread holds at most that no reader has seen.
const MOST_HELD: usize = 48;

/// Replaces objects in their slots.
pub(super) fn update<P: ReusePolicy>(
    objects: &Objects<'_, P>,
    owner: u64,
    random: &mut fastrand::Rng,
    updates: u64,
) {
    let mut done = 0;
    while done < updates && objects.go_on() {
        done += 1;
        let slot = random.usize(..SLOTS);
        if random.u8(..) == 0 {
            objects.withdraw(slot);
            continue;
        }
        let Some(new) = objects.take(slot, owner) else { break };
        objects.fill(&new);
        match random.u8(..) {
            0..8 => objects.free(new, owner, Way::Unshared),
            _ => objects.publish(slot, new),
        }
    }
    objects.verdict().count(Count::Updates, done);
}

/// Allocates and frees objects of one size that nobody sees, as fast as can be.
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
            objects.free(old, owner, Way::Unshared);
        }
    }
    if let Some(last) = other {
        objects.free(last, owner, Way::Unshared);
    }
    objects.verdict().count(Count::Pairs, pairs);
}

/// Objects that a thread keeps for a while, of every size, and frees in every way.
#[derive(Debug, Default)]
pub(super) struct Hoard(Vec<Held>);

impl Hoard {
    /// Takes some and frees some.
    pub(super) fn stir<P: ReusePolicy>(
        &mut self,
        objects: &Objects<'_, P>,
        owner: u64,
        random: &mut fastrand::Rng,
    ) {
        const ROUNDS: u64 = 100;
        for _ in 0..ROUNDS {
            if !objects.go_on() {
                break;
            }
            self.0.extend(objects.take(random.usize(..2), owner));
            while self.0.len() > MOST_HELD || (!self.0.is_empty() && random.bool()) {
                let held = self.0.swap_remove(random.usize(..self.0.len()));
                let ways = [Way::Policy, Way::Rcu, Way::Unshared];
                objects.free(held, owner, ways[random.usize(..ways.len())]);
            }
        }
        objects.verdict().count(Count::Pairs, ROUNDS);
    }

    /// Frees all of them.
    pub(super) fn empty<P: ReusePolicy>(&mut self, objects: &Objects<'_, P>, owner: u64) {
        self.0.drain(..).for_each(|held| objects.free(held, owner, Way::Policy));
    }
}

/// Callbacks that were queued and those that ran.
#[derive(Clone, Debug, Default)]
pub(super) struct Callbacks(Arc<[AtomicU64; 2]>);

impl Callbacks {
    fn queue(&self, domain: &Domain, trace: bool) {
        self.0[0].fetch_add(1, Ordering::Relaxed);
        let counts = Arc::clone(&self.0);
        let callback = move || _ = counts[1].fetch_add(1, Ordering::Relaxed);
        match trace {
            true => domain.trace().call(callback),
            false => domain.call(callback),
        }
    }

    /// Waits for all of them, and complains if some are missing. No section is open.
    pub(super) fn drain<P: ReusePolicy>(&self, domain: &Domain, objects: &Objects<'_, P>) {
        if domain.barrier().is_err() || domain.trace().barrier().is_err() {
            objects.verdict().complain(Wrong::Waits, [0; 3]);
        }
        let [queued, ran] = self.0.each_ref().map(|count| count.load(Ordering::Relaxed));
        if queued != ran {
            objects.verdict().complain(Wrong::CallbackLost, [queued, ran, 0]);
        }
    }
}

/// Waits for grace periods, polls, queues callbacks, and looks into every cache: as writers do that
/// have changed nothing.
pub(super) fn pretend<P: ReusePolicy>(
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
                objects.look_around(random.usize(..8));
                0
            }
        };
    }
    objects.verdict().count(Count::GracePeriods, passed);
}
