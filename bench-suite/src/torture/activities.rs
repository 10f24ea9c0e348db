//! The activities: short pieces of work that each thread chooses from at random.

use std::thread;
use std::time::{Duration, Instant};

use memalloc::ReusePolicy;
use memalloc::rcu::Domain;

use super::affinity::Movable;
use super::objects::{FreeKind, Objects, SLOTS, Section};
use super::phases::{Mix, Phase};
use super::readers::SentGuards;
use super::tries::{OwnKeys, Trie};
use super::updaters::{Callbacks, HeldObjects};
use super::verdict::{Count, Verdict, Wrong};
use super::{forks, readers, storms, switches, updaters};
use crate::measure::Gate;

/// The duration of a signal storm.
const STORM: Duration = Duration::from_millis(4);

/// The number of threads that one activity starts.
const SHORT_THREADS: u64 = 24;

/// An activity of a thread.
#[derive(Clone, Copy, Debug)]
enum Activity {
    /// Reads objects in RCU sections.
    Read,
    /// Reads objects in sections that may sleep.
    ReadTrace,
    /// Passes guards to other threads and takes theirs.
    PassGuard,
    /// Sleeps in a section.
    SleepInside,
    /// Replaces 100 published objects.
    Update,
    /// Replaces 3,000 published objects.
    Flood,
    /// Allocates and frees 4,000 unpublished objects.
    Pairs,
    /// Allocates, holds and frees unpublished objects.
    Hold,
    /// Waits for grace periods without a change, and queues callbacks.
    FakeWrite,
    /// Visits the caches of all CPUs.
    Maintain,
    /// Starts short-lived threads.
    StartThreads,
    /// Works while signals interrupt it.
    Storm,
    /// Changes the trie.
    TrieWrite,
    /// Looks up keys in the trie.
    TrieRead,
    /// Scans the trie.
    TrieScan,
    /// Makes adaptive barriers change their kind.
    Switch,
    /// Forks a child that uses the objects.
    Fork,
    /// Sleeps for 2 ms.
    Rest,
}

/// Returns the activities of a mix, with the relative frequency of each.
const fn weights(mix: Mix) -> &'static [(Activity, u32)] {
    use Activity::*;
    match mix {
        Mix::Everything => &[
            (Read, 8),
            (ReadTrace, 4),
            (PassGuard, 4),
            (SleepInside, 2),
            (Update, 8),
            (Flood, 1),
            (Pairs, 4),
            (Hold, 4),
            (FakeWrite, 4),
            (Maintain, 1),
            (StartThreads, 1),
            (Storm, 1),
            (TrieWrite, 8),
            (TrieRead, 8),
            (TrieScan, 3),
        ],
        Mix::Readers => &[
            (Read, 4),
            (ReadTrace, 4),
            (PassGuard, 4),
            (SleepInside, 3),
            (Update, 6),
            (FakeWrite, 1),
            (TrieWrite, 1),
            (TrieRead, 2),
        ],
        Mix::Flood => &[
            (Flood, 6),
            (Read, 3),
            (ReadTrace, 1),
            (SleepInside, 1),
            (FakeWrite, 1),
            (TrieWrite, 1),
        ],
        Mix::Caches => &[(Pairs, 12), (Maintain, 8), (Hold, 4), (Update, 1), (Read, 1)],
        Mix::Trie => &[(TrieWrite, 8), (TrieRead, 6), (TrieScan, 2)],
        Mix::ShortThreads => {
            &[(StartThreads, 2), (Storm, 5), (Update, 2), (Read, 1), (TrieWrite, 1), (TrieRead, 1)]
        }
        Mix::Forks => &[
            (Fork, 1),
            (Read, 6),
            (Update, 6),
            (Pairs, 4),
            (Hold, 4),
            (FakeWrite, 4),
            (SleepInside, 2),
        ],
        Mix::Switches => &[(Switch, 1), (Rest, 4)],
    }
}

/// The data that all threads of a phase share.
#[derive(Debug)]
pub(super) struct Shared<'g, 'd, 'v, P: ReusePolicy, B: ReusePolicy> {
    pub(super) phase: &'g Phase,
    pub(super) domain: &'d Domain,
    pub(super) objects: &'g Objects<'v, P>,
    pub(super) trie: &'g Trie<'v, B, P>,
    pub(super) sent_guards: &'g SentGuards<'d>,
    pub(super) callbacks: &'g Callbacks,
    pub(super) movable: &'g Movable,
    pub(super) verdict: &'v Verdict,
    pub(super) gate: &'g Gate,
}

impl<P: ReusePolicy, B: ReusePolicy> Shared<'_, '_, '_, P, B> {
    /// Runs random activities until the gate closes. Returns the keys that the thread left in the
    /// trie.
    pub(super) fn work(&self, thread: usize) -> OwnKeys {
        let mut random = fastrand::Rng::with_seed(self.phase.seed ^ (thread as u64) << 32);
        let mut own = self.trie.own(thread);
        let mut held = HeldObjects::default();
        let owner = thread as u64 + 1;
        self.movable.join();
        self.domain.register();
        let weights = weights(self.phase.mix);
        let all: u32 = weights.iter().map(|(_, weight)| weight).sum();
        while self.gate.is_open() && self.verdict.is_clean() {
            let mut left = random.u32(..all);
            for &(activity, weight) in weights {
                if left < weight {
                    self.run(activity, owner, &mut own, &mut held, &mut random);
                    break;
                }
                left -= weight;
            }
        }
        held.free_all(self.objects, owner);
        self.movable.leave();
        own
    }

    /// Runs one activity.
    fn run(
        &self,
        activity: Activity,
        owner: u64,
        own: &mut OwnKeys,
        held: &mut HeldObjects,
        random: &mut fastrand::Rng,
    ) {
        let (objects, domain) = (self.objects, self.domain);
        match activity {
            Activity::Read => readers::read(objects, domain, random),
            Activity::ReadTrace => readers::read_trace(objects, domain, random),
            Activity::PassGuard => self.sent_guards.pass(objects, domain, random),
            Activity::SleepInside => readers::sleep_inside(objects, domain, random),
            Activity::Update => updaters::update(objects, owner, random, 100),
            Activity::Flood => updaters::update(objects, owner, random, 3_000),
            Activity::Pairs => updaters::pairs(objects, owner, random, 4_000),
            Activity::Hold => held.exchange(objects, owner, random),
            Activity::FakeWrite => updaters::fake_write(objects, domain, self.callbacks, random),
            Activity::Maintain => (0..64).for_each(|_| objects.maintain(random.usize(..16))),
            Activity::StartThreads => self.start_threads(random),
            Activity::Storm => storms::storm(objects, domain, owner, random, |random| {
                let begun = Instant::now();
                while begun.elapsed() < STORM {
                    match random.u8(..6) {
                        0 => updaters::update(objects, owner, random, 50),
                        1 => updaters::pairs(objects, owner, random, 200),
                        2 => held.exchange(objects, owner, random),
                        3 => readers::read(objects, domain, random),
                        4 => objects.maintain(random.usize(..64)),
                        _ => self.trie.write(own, random),
                    }
                }
            }),
            Activity::TrieWrite => self.trie.write(own, random),
            Activity::TrieRead => self.trie.look_up(random),
            Activity::TrieScan => self.trie.scan(random),
            Activity::Switch => {
                if switches::switch(self.phase, owner, random, 16, self.verdict, self.gate).is_err()
                {
                    self.verdict.report(Wrong::NoMemory, [0; 3]);
                }
            }
            Activity::Fork => forks::fork(objects, domain),
            Activity::Rest => thread::sleep(Duration::from_millis(2)),
        }
    }

    /// Starts threads that each use the objects and the trie once, and waits for them.
    fn start_threads(&self, random: &mut fastrand::Rng) {
        thread::scope(|scope| {
            for number in 0..SHORT_THREADS {
                let slot = random.usize(..SLOTS);
                let owner = 1 << 40 | number << 8 | 1;
                let work = move || {
                    let section = self.domain.pin();
                    if let Some(found) = self.objects.find(slot) {
                        self.objects.check(found, self.objects.protection(Section::Rcu));
                        self.objects.count_reads(1);
                    }
                    drop(section);
                    if let Some(held) = self.objects.take(slot, owner) {
                        self.objects.free(held, owner, FreeKind::Rcu);
                    }
                    self.trie.look_up_one(slot);
                };
                // If the system cannot create a thread, fewer run.
                let _ = thread::Builder::new().spawn_scoped(scope, work);
            }
        });
        self.verdict.count(Count::Threads, SHORT_THREADS);
    }
}
