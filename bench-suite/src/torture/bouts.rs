//! What one thread does for a moment, before it does something else.

use std::thread;
use std::time::{Duration, Instant};

use memalloc::ReusePolicy;
use memalloc::rcu::Domain;

use super::affinity::Movable;
use super::objects::{Objects, SLOTS, Section, Way};
use super::phases::{Mix, Phase};
use super::readers::Parcels;
use super::tries::{Own, Trie};
use super::updaters::{Callbacks, Hoard};
use super::verdict::{Count, Verdict, Wrong};
use super::{forks, readers, storms, switches, updaters};
use crate::measure::Gate;

/// How long a storm lasts.
const STORM: Duration = Duration::from_millis(4);

/// Threads that come and go in one bout.
const COMERS: u64 = 24;

/// What a thread does for a moment.
#[derive(Clone, Copy, Debug)]
enum Bout {
    Read,
    ReadTrace,
    Pass,
    SleepInside,
    Update,
    Flood,
    Pairs,
    Hoard,
    Pretend,
    LookAround,
    Come,
    Storm,
    TrieWrite,
    TrieRead,
    TrieScan,
    Switch,
    Fork,
    Rest,
}

/// How often a mix has each, in proportion.
const fn weights(mix: Mix) -> &'static [(Bout, u32)] {
    use Bout::*;
    match mix {
        Mix::Everything => &[
            (Read, 8),
            (ReadTrace, 4),
            (Pass, 4),
            (SleepInside, 2),
            (Update, 8),
            (Flood, 1),
            (Pairs, 4),
            (Hoard, 4),
            (Pretend, 4),
            (LookAround, 1),
            (Come, 1),
            (Storm, 1),
            (TrieWrite, 8),
            (TrieRead, 8),
            (TrieScan, 3),
        ],
        Mix::Readers => &[
            (Read, 4),
            (ReadTrace, 4),
            (Pass, 4),
            (SleepInside, 3),
            (Update, 6),
            (Pretend, 1),
            (TrieWrite, 1),
            (TrieRead, 2),
        ],
        Mix::Flood => {
            &[(Flood, 6), (Read, 3), (ReadTrace, 1), (SleepInside, 1), (Pretend, 1), (TrieWrite, 1)]
        }
        Mix::Caches => &[(Pairs, 12), (LookAround, 8), (Hoard, 4), (Update, 1), (Read, 1)],
        Mix::Trie => &[(TrieWrite, 8), (TrieRead, 6), (TrieScan, 2)],
        Mix::Comings => {
            &[(Come, 2), (Storm, 5), (Update, 2), (Read, 1), (TrieWrite, 1), (TrieRead, 1)]
        }
        Mix::Forks => &[
            (Fork, 1),
            (Read, 6),
            (Update, 6),
            (Pairs, 4),
            (Hoard, 4),
            (Pretend, 4),
            (SleepInside, 2),
        ],
        Mix::Switches => &[(Switch, 1), (Rest, 4)],
    }
}

/// What all threads of a phase share.
#[derive(Debug)]
pub(super) struct Ground<'g, 'd, 'v, P: ReusePolicy, B: ReusePolicy> {
    pub(super) phase: &'g Phase,
    pub(super) domain: &'d Domain,
    pub(super) objects: &'g Objects<'v, P>,
    pub(super) trie: &'g Trie<'v, B, P>,
    pub(super) parcels: &'g Parcels<'d>,
    pub(super) callbacks: &'g Callbacks,
    pub(super) movable: &'g Movable,
    pub(super) verdict: &'v Verdict,
    pub(super) gate: &'g Gate,
}

impl<P: ReusePolicy, B: ReusePolicy> Ground<'_, '_, '_, P, B> {
    /// Does one thing after another until the gate is closed, and gives what it left in the trie.
    pub(super) fn work(&self, thread: usize) -> Own {
        let mut random = fastrand::Rng::with_seed(self.phase.seed ^ (thread as u64) << 32);
        let mut own = self.trie.own(thread);
        let mut hoard = Hoard::default();
        let owner = thread as u64 + 1;
        self.movable.join();
        self.domain.register();
        let weights = weights(self.phase.mix);
        let all: u32 = weights.iter().map(|(_, weight)| weight).sum();
        while self.gate.is_open() && self.verdict.is_clean() {
            let mut left = random.u32(..all);
            for &(bout, weight) in weights {
                if left < weight {
                    self.one(bout, owner, &mut own, &mut hoard, &mut random);
                    break;
                }
                left -= weight;
            }
        }
        hoard.empty(self.objects, owner);
        self.movable.leave();
        own
    }

    fn one(
        &self,
        bout: Bout,
        owner: u64,
        own: &mut Own,
        hoard: &mut Hoard,
        random: &mut fastrand::Rng,
    ) {
        let (objects, domain) = (self.objects, self.domain);
        match bout {
            Bout::Read => readers::read(objects, domain, random),
            Bout::ReadTrace => readers::read_trace(objects, domain, random),
            Bout::Pass => self.parcels.pass(objects, domain, random),
            Bout::SleepInside => readers::sleep_inside(objects, domain, random),
            Bout::Update => updaters::update(objects, owner, random, 100),
            Bout::Flood => updaters::update(objects, owner, random, 3_000),
            Bout::Pairs => updaters::pairs(objects, owner, random, 4_000),
            Bout::Hoard => hoard.stir(objects, owner, random),
            Bout::Pretend => updaters::pretend(objects, domain, self.callbacks, random),
            Bout::LookAround => (0..64).for_each(|_| objects.look_around(random.usize(..16))),
            Bout::Come => self.come(random),
            Bout::Storm => storms::storm(objects, domain, owner, random, |random| {
                let begun = Instant::now();
                while begun.elapsed() < STORM {
                    match random.u8(..6) {
                        0 => updaters::update(objects, owner, random, 50),
                        1 => updaters::pairs(objects, owner, random, 200),
                        2 => hoard.stir(objects, owner, random),
                        3 => readers::read(objects, domain, random),
                        4 => objects.look_around(random.usize(..64)),
                        _ => self.trie.write(own, random),
                    }
                }
            }),
            Bout::TrieWrite => self.trie.write(own, random),
            Bout::TrieRead => self.trie.look_up(random),
            Bout::TrieScan => self.trie.scan(random),
            Bout::Switch => {
                if switches::switch(self.phase, owner, random, 16, self.verdict, self.gate).is_err()
                {
                    self.verdict.complain(Wrong::NoMemory, [0; 3]);
                }
            }
            Bout::Fork => forks::fork(objects, domain),
            Bout::Rest => thread::sleep(Duration::from_millis(2)),
        }
    }

    /// Threads that use everything once.
    fn come(&self, random: &mut fastrand::Rng) {
        thread::scope(|scope| {
            for number in 0..COMERS {
                let slot = random.usize(..SLOTS);
                let owner = 1 << 40 | number << 8 | 1;
                let pass = move || {
                    let section = self.domain.pin();
                    if let Some(found) = self.objects.find(slot) {
                        self.objects.check(found, self.objects.keeps(Section::Rcu));
                        self.objects.count_reads(1);
                    }
                    drop(section);
                    if let Some(held) = self.objects.take(slot, owner) {
                        self.objects.free(held, owner, Way::Rcu);
                    }
                    self.trie.look_up_one(slot);
                };
                // Where the system has no thread left, fewer come.
                let _ = thread::Builder::new().spawn_scoped(scope, pass);
            }
        });
        self.verdict.count(Count::Threads, COMERS);
    }
}
