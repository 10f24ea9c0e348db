//! The paths of the trie: lookups, updates, insertions, removals and scans, on keys that one CPU
//! alone changes and on keys that all CPUs change. Leaves wait for a grace period or are reused at
//! once.

use super::machine::{Cpu, run};
use super::measured::Measured;
use memalloc::rcu::Domain;
use memalloc::{AfterRcuGp, Immediate};
use qptrie::QpTrie;
use std::fmt;

/// Keys in the trie. Each worker owns an equal part of them.
const KEYS: usize = 4096;

/// The number of entries of a scan.
const SCANNED: usize = 64;

/// The work of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Looks up present keys.
    Hit,
    /// Looks up absent keys.
    Miss,
    /// Changes values of keys that no other CPU changes. The keys are neighbours of one another.
    UpdateOwnRange,
    /// Changes values of keys that no other CPU changes. Other CPUs change the neighbours.
    UpdateOwnSpread,
    /// Changes values of random keys; all CPUs use the same keys.
    UpdateShared,
    /// Changes the value of one key, the same for all CPUs.
    UpdateOne,
    /// Removes a key that no other CPU changes, and inserts it again. The worker's keys are
    /// neighbours of one another.
    ReplaceOwnRange,
    /// Removes a key that no other CPU changes, and inserts it again. Other CPUs change the
    /// neighbours.
    ReplaceOwnSpread,
    /// Looks up keys, while one more CPU changes values.
    HitBesideUpdates,
    /// Looks up keys, while one more CPU removes and inserts keys.
    HitBesideReplacements,
    /// Scans 64 entries.
    Scan,
}

impl Work {
    /// Every kind of work, in the order of the document.
    pub(crate) const ALL: [Self; 11] = [
        Self::Hit,
        Self::Miss,
        Self::Scan,
        Self::HitBesideUpdates,
        Self::HitBesideReplacements,
        Self::UpdateOwnRange,
        Self::UpdateOwnSpread,
        Self::UpdateShared,
        Self::UpdateOne,
        Self::ReplaceOwnRange,
        Self::ReplaceOwnSpread,
    ];

    /// Returns the number of operations of each worker before counting and while counting. With one
    /// key for all CPUs there are few: each operation makes those of all other CPUs retry.
    fn amounts(self, workers: usize) -> (usize, usize) {
        match self {
            Self::UpdateOne => (1, (256 / workers).max(2)),
            Self::UpdateOwnRange => (1024, 64),
            _ => (64, 64),
        }
    }

    /// Returns the work of the one more CPU, if there is one.
    fn beside(self) -> Option<Self> {
        match self {
            Self::HitBesideUpdates => Some(Self::UpdateShared),
            Self::HitBesideReplacements => Some(Self::ReplaceOwnSpread),
            _ => None,
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Hit => "lookup, hit",
            Self::Miss => "lookup, miss",
            Self::UpdateOwnRange => "update, own keys in a range",
            Self::UpdateOwnSpread => "update, own keys between others'",
            Self::UpdateShared => "update, any key",
            Self::UpdateOne => "update, one key",
            Self::ReplaceOwnRange => "remove and insert, own keys in a range",
            Self::ReplaceOwnSpread => "remove and insert, own keys between others'",
            Self::HitBesideUpdates => "lookup, one more CPU updates",
            Self::HitBesideReplacements => "lookup, one more CPU removes and inserts",
            Self::Scan => "scan of 64 entries",
        })
    }
}

/// The operations of a trie that the experiment uses, with either kind of leaf.
pub(crate) trait Trie: Sync {
    /// Creates an empty trie.
    fn empty() -> Self;
    /// Returns the value of a key.
    fn get(&self, key: &[u8]) -> Option<u64>;
    /// Inserts a key, or changes its value.
    fn put(&self, key: &[u8], value: u64);
    /// Removes a key.
    fn remove(&self, key: &[u8]);
    /// Returns the sum of the values of up to `count` entries, beginning at `from`.
    fn scan(&self, from: &[u8], count: usize) -> u64;
}

/// A trie whose leaves wait for a grace period before they are reused.
pub(crate) type Deferred = QpTrie<u64, Immediate, AfterRcuGp>;

impl Trie for Deferred {
    fn empty() -> Self {
        // Experiments with a common domain would depend on one another.
        Self::builder().domain(Domain::new()).build().expect("memory")
    }

    fn get(&self, key: &[u8]) -> Option<u64> {
        self.pin().get(key).copied()
    }

    fn put(&self, key: &[u8], value: u64) {
        self.pin().insert(key, value).expect("memory");
    }

    fn remove(&self, key: &[u8]) {
        self.pin().remove(key);
    }

    fn scan(&self, from: &[u8], count: usize) -> u64 {
        self.pin().range(from..).take(count).map(|(_, value)| value).sum()
    }
}

/// A trie whose leaves are reused at once.
pub(crate) type AtOnce = QpTrie<u64, Immediate, Immediate>;

impl Trie for AtOnce {
    fn empty() -> Self {
        // Experiments with a common domain would depend on one another.
        Self::builder().domain(Domain::new()).build().expect("memory")
    }

    fn get(&self, key: &[u8]) -> Option<u64> {
        self.pin().get_copied(key)
    }

    fn put(&self, key: &[u8], value: u64) {
        self.pin().insert_copied(key, value).expect("memory");
    }

    fn remove(&self, key: &[u8]) {
        self.pin().remove_copied(key);
    }

    fn scan(&self, from: &[u8], count: usize) -> u64 {
        self.pin().range_copied(from..).take(count).map(|(_, value)| value).sum()
    }
}

fn key(number: usize) -> Vec<u8> {
    format!("user/{number:06}").into_bytes()
}

fn filled<T: Trie>() -> T {
    let trie = T::empty();
    (0..KEYS).for_each(|number| trie.put(&key(number), number as u64));
    trie
}

/// Does one operation of CPU number `cpu`, on a key that suits the work.
fn step<T: Trie>(trie: &T, work: Work, cpu: usize, workers: usize, random: &mut fastrand::Rng) {
    let any = random.usize(..KEYS);
    let own_keys = KEYS / workers;
    let in_range = cpu % workers * own_keys + any % own_keys;
    let spread = any % own_keys * workers + cpu % workers;
    let value = random.u64(..);
    let replace = |key: &[u8]| {
        trie.remove(key);
        trie.put(key, value);
    };
    match work {
        Work::Hit | Work::HitBesideUpdates => {
            assert!(trie.get(&key(any)).is_some(), "always there");
        }
        Work::HitBesideReplacements => _ = trie.get(&key(any)),
        Work::Miss => assert_eq!(trie.get(&key(KEYS + any)), None),
        Work::UpdateOwnRange => trie.put(&key(in_range), value),
        Work::UpdateOwnSpread => trie.put(&key(spread), value),
        Work::UpdateShared => trie.put(&key(any), value),
        Work::UpdateOne => trie.put(&key(KEYS / 2), value),
        Work::ReplaceOwnRange => replace(&key(in_range)),
        Work::ReplaceOwnSpread => replace(&key(spread)),
        Work::Scan => _ = trie.scan(&key(any), SCANNED),
    }
}

/// Counts a kind of work.
pub(crate) fn measure<T: Trie>(work: Work, workers: usize) -> Measured {
    let others = usize::from(work.beside().is_some());
    let (warm_up, counted) = work.amounts(workers);
    let outcome = run((workers, others), 1, filled::<T>, |trie: &T, cpu: &Cpu| {
        let mut random = fastrand::Rng::with_seed(cpu.number() as u64);
        let mut step = |work| step(trie, work, cpu.number(), workers, &mut random);
        match work.beside().filter(|_| cpu.number() >= workers) {
            Some(beside) => _ = cpu.accompany(|| step(beside)),
            None => cpu.work(warm_up, counted, || step(work)),
        }
    });
    Measured::of(outcome, workers, counted)
}
