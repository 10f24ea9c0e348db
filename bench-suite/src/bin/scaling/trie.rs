//! The trie: lookups, updates, inserts and removals, scans, of keys that a CPU has for itself and of
//! keys that all CPUs change; with leaves that wait for a grace period and with leaves that do not.

use super::machine::{Cpu, run};
use super::measured::Measured;
use memalloc::{AfterRcuGp, Immediate};
use qptrie::QpTrie;
use std::fmt;

/// Keys in the trie; a worker's own are a part of them.
const KEYS: usize = 4096;

/// Entries of a scan.
const SCANNED: usize = 64;

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Looks up keys that are there.
    Hit,
    /// Looks up keys that are not.
    Miss,
    /// Changes values of keys that no other CPU changes: a range of neighbours.
    UpdateOwnRange,
    /// The same, of keys whose neighbours other CPUs change.
    UpdateOwnSpread,
    /// Changes values of any keys.
    UpdateShared,
    /// Changes the value of one key, the same on all CPUs.
    UpdateOne,
    /// Removes a key of its own range, and inserts it again.
    ReplaceOwnRange,
    /// The same, of keys whose neighbours are other CPUs'.
    ReplaceOwnSpread,
    /// Looks up keys, beside one more CPU that changes values.
    HitBesideUpdates,
    /// The same, beside one that removes and inserts.
    HitBesideReplacements,
    /// Goes through 64 entries.
    Scan,
}

impl Work {
    /// All of them.
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

    /// Operations of a worker, before it counts and after. Where all CPUs want one key, each
    /// operation of one has all others begin again: fewer of them say as much.
    fn amounts(self, workers: usize) -> (usize, usize) {
        match self {
            Self::UpdateOne => (1, (256 / workers).max(2)),
            Self::UpdateOwnRange => (1024, 64),
            _ => (64, 64),
        }
    }

    /// What the one more CPU does, if there is one.
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

/// What the experiment needs of a trie, for both kinds of leaves.
pub(crate) trait Trie: Sync {
    /// An empty one.
    fn empty() -> Self;
    /// Looks a key up.
    fn get(&self, key: &[u8]) -> Option<u64>;
    /// Inserts a key, or changes its value.
    fn put(&self, key: &[u8], value: u64);
    /// Removes a key.
    fn remove(&self, key: &[u8]);
    /// Goes through so many entries.
    fn scan(&self, from: &[u8], count: usize) -> u64;
}

/// Leaves that wait for a grace period before they are reused.
pub(crate) type Deferred = QpTrie<u64, Immediate, AfterRcuGp>;

impl Trie for Deferred {
    fn empty() -> Self {
        Self::with_policies().expect("memory")
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

/// Leaves that are reused at once.
pub(crate) type AtOnce = QpTrie<u64, Immediate, Immediate>;

impl Trie for AtOnce {
    fn empty() -> Self {
        Self::with_policies().expect("memory")
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

/// One operation of a CPU, of `workers`, on the keys that its work is about.
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
