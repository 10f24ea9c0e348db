//! A program of 4 to 8 threads on one trie, whose keys are prefixes and neighbours of one another.
//! For every key there is a rule that its answers keep under any schedule.

use super::common::{Dice, Setup};
use super::reference::{Model, branches};
use memalloc::rcu::Domain;
use memalloc::sync::thread;
use memalloc::{AfterRcuGp, AfterTasksTraceGp, FreeAfterRcuGp, Immediate, ReusePolicy};
use qptrie::{Computed, Hints, LeafPolicy, Operation, QpTrie, TrieRef, Update};
use std::ops::Bound::{Excluded, Included};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

/// The number of operations of all threads together.
const OPERATIONS: usize = 640;

/// A thread stays in its section for fewer operations than this.
const LONGEST_SECTION: usize = 12;

/// Pending memory at which a free waits for readers.
const MAX_PENDING: u64 = 16 << 10;

/// The rule for the answers about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// The key is always there; one thread overwrites its value, with higher versions.
    Stable,
    /// One thread changes the key, and knows every answer.
    Owned,
    /// Every thread changes the key. It was inserted as often as removed, or once more.
    Contested,
}

/// A key, and the records about it. They are std's atomics, so that no turn ends at a record.
struct Entry {
    key: Vec<u8>,
    rule: Rule,
    /// The versions of a stable value: one may have been written, the other has been.
    begun: AtomicU64,
    done: AtomicU64,
    /// The insertions of a contested key, less its removals.
    balance: AtomicI64,
}

/// A policy of leaves, with lookups by reference where it permits them.
pub(crate) trait Leaves: LeafPolicy<u64> {
    /// Returns the value of a key, or `None` if this policy has no references.
    fn by_ref<'r, B: ReusePolicy>(view: &'r TrieRef<u64, B, Self>, key: &[u8]) -> Option<&'r u64>;
}

impl Leaves for Immediate {
    fn by_ref<'r, B: ReusePolicy>(_: &'r TrieRef<u64, B, Self>, _: &[u8]) -> Option<&'r u64> {
        None
    }
}

macro_rules! leaves {
    ($($policy:ty)+) => {
        $(
            impl Leaves for $policy {
                fn by_ref<'r, B: ReusePolicy>(
                    view: &'r TrieRef<u64, B, Self>,
                    key: &[u8],
                ) -> Option<&'r u64> {
                    view.get(key)
                }
            }
        )+
    };
}
leaves!(AfterRcuGp FreeAfterRcuGp AfterTasksTraceGp);

/// The keys, in ascending order.
fn entries() -> Vec<Entry> {
    let mut keys = Vec::new();
    for head in [&b""[..], b"a", b"ab", b"ab/a/long/part/that/keys/have/"] {
        keys.push(head.to_vec());
        for last in [0x00, 0x11, 0x12, 0x81, 0xff] {
            keys.push([head, &[last]].concat());
            keys.push([head, &[last, last]].concat());
        }
    }
    keys.sort();
    keys.dedup();
    let rules = [Rule::Stable, Rule::Owned, Rule::Contested, Rule::Owned, Rule::Contested];
    let entry = |(of, key)| Entry {
        key,
        rule: rules[of % rules.len()],
        begun: AtomicU64::new(0),
        done: AtomicU64::new(0),
        balance: AtomicI64::new(0),
    };
    keys.into_iter().enumerate().map(entry).collect()
}

/// A value tells which key has it.
fn value(of: usize, version: u64) -> u64 {
    (of as u64) << 32 | version
}

struct Shared<B: ReusePolicy, L: Leaves> {
    trie: QpTrie<u64, B, L>,
    entries: Vec<Entry>,
    threads: usize,
}

/// A thread of the program.
struct Worker<'s, B: ReusePolicy, L: Leaves> {
    shared: &'s Shared<B, L>,
    number: usize,
    dice: Dice,
    /// The values of the keys that this thread owns, by key.
    own: Vec<Option<u64>>,
    versions: u64,
}

impl<B: ReusePolicy, L: Leaves> Shared<B, L> {
    /// Whether the key has this rule, and a thread changes it, or may.
    fn is_for(&self, of: usize, rule: Rule, thread: usize) -> bool {
        self.entries[of].rule == rule && (rule == Rule::Contested || of % self.threads == thread)
    }

    /// Checks a value that was found at a key, `done` being its version before.
    fn check(&self, of: usize, done: u64, found: Option<u64>) {
        let entry = &self.entries[of];
        assert!(found.is_none_or(|found| found >> 32 == of as u64), "{:?}: {found:x?}", entry.key);
        if entry.rule == Rule::Stable {
            let current = value(of, done)..=value(of, entry.begun.load(SeqCst));
            let found = found.expect("a key that is always there is missed");
            assert!(current.contains(&found), "{:?}: {found:x} is not in {current:x?}", entry.key);
        }
    }
}

impl<B: ReusePolicy, L: Leaves> Worker<'_, B, L> {
    fn version(&mut self) -> u64 {
        self.versions += 1;
        self.versions << 8 | self.number as u64
    }

    fn any(&mut self) -> usize {
        self.dice.roll(self.shared.entries.len())
    }

    /// Changes a key of this thread, whose answers it knows.
    fn change_own(&mut self, view: &TrieRef<u64, B, L>, of: usize) {
        let (key, old) = (&self.shared.entries[of].key, self.own[of]);
        let new = value(of, self.version());
        match self.dice.roll(6) {
            0..2 => {
                assert_eq!(view.insert_copied(key, new).expect("memory"), old, "{key:?}");
                self.own[of] = Some(new);
            }
            2 => {
                let is_there = view.update_copied(key, new, Update::Exist).is_ok();
                assert_eq!(is_there, old.is_some(), "{key:?}");
                self.own[of] = old.map(|_| new);
            }
            3 => {
                let was_vacant = view.update_copied(key, new, Update::NoExist).is_ok();
                assert_eq!(was_vacant, old.is_none(), "{key:?}");
                self.own[of] = old.or(Some(new));
            }
            _ => {
                assert_eq!(view.remove_copied(key), old, "{key:?}");
                self.own[of] = None;
            }
        }
    }

    fn change_contested(&mut self, view: &TrieRef<u64, B, L>, of: usize) {
        let entry = &self.shared.entries[of];
        let new = value(of, self.version());
        let (added, old) = match self.dice.roll(5) {
            0 => {
                let old = view.insert_copied(&entry.key, new).expect("memory");
                (i64::from(old.is_none()), old)
            }
            1 => match view.update_copied(&entry.key, new, Update::NoExist) {
                Ok(old) => (1, old),
                Err(_) => (0, None),
            },
            2 => {
                let toggle = |old: Option<u64>| match old {
                    Some(_) => Operation::Remove,
                    None => Operation::Insert(new),
                };
                match view.compute_copied(&entry.key, toggle).expect("memory") {
                    Computed::Inserted(_) => (1, None),
                    Computed::Removed(old) => (-1, Some(old)),
                    other => panic!("{other:?}"),
                }
            }
            _ => {
                let old = view.remove_copied(&entry.key);
                (-i64::from(old.is_some()), old)
            }
        };
        self.shared.check(of, 0, old);
        entry.balance.fetch_add(added, SeqCst);
    }

    fn overwrite_stable(&mut self, view: &TrieRef<u64, B, L>, of: usize) {
        let entry = &self.shared.entries[of];
        let (before, version) = (entry.done.load(SeqCst), self.version().max(1));
        entry.begun.store(version, SeqCst);
        let old = view.update_copied(&entry.key, value(of, version), Update::Exist);
        assert_eq!(old.expect("it is always there"), Some(value(of, before)));
        entry.done.store(version, SeqCst);
    }

    fn change(&mut self, view: &TrieRef<u64, B, L>) {
        let (of, me) = (self.any(), self.number);
        if self.shared.is_for(of, Rule::Owned, me) {
            self.change_own(view, of);
        } else if self.shared.is_for(of, Rule::Contested, me) {
            self.change_contested(view, of);
        } else if self.shared.is_for(of, Rule::Stable, me) {
            self.overwrite_stable(view, of);
        }
    }

    fn look_up(&mut self, view: &TrieRef<u64, B, L>) {
        let asked: [usize; 4] = std::array::from_fn(|_| self.any());
        let done = asked.map(|of| self.shared.entries[of].done.load(SeqCst));
        let keys = asked.map(|of| &self.shared.entries[of].key[..]);
        let found = match self.dice.roll(2) {
            0 => view.get_many_copied(keys),
            _ => keys.map(|key| view.get_copied(key)),
        };
        for ((of, done), found) in asked.into_iter().zip(done).zip(found) {
            self.check(of, done, found);
        }
    }

    fn check(&self, of: usize, done: u64, found: Option<u64>) {
        self.shared.check(of, done, found);
        if self.shared.is_for(of, Rule::Owned, self.number) {
            assert_eq!(found, self.own[of], "{:?}", self.shared.entries[of].key);
        }
    }

    /// Scans the keys from one on, in either direction.
    fn scan(&mut self, view: &TrieRef<u64, B, L>) {
        let entries = &self.shared.entries;
        let (from, descends) = (self.any(), self.dice.roll(2) == 1);
        let done: Vec<_> = entries.iter().map(|entry| entry.done.load(SeqCst)).collect();
        let iter = view.range_copied(&entries[from].key[..]..);
        let mut found: Vec<_> = if descends { iter.rev().collect() } else { iter.collect() };
        if descends {
            found.reverse();
        }
        assert!(found.is_sorted_by(|(a, _), (b, _)| a < b), "not ascending: {found:?}");
        let mut found = found.into_iter().peekable();
        for of in from..entries.len() {
            let here = found.next_if(|(key, _)| *key == entries[of].key);
            self.check(of, done[of], here.map(|(_, value)| value));
        }
        assert_eq!(found.next(), None, "a key that was never inserted");
    }

    /// Looks for the neighbours of a stable key. The next stable key is at most as far.
    fn look_around(&mut self, view: &TrieRef<u64, B, L>) {
        let entries = &self.shared.entries;
        let (of, mut key) = (self.any(), Vec::new());
        if entries[of].rule == Rule::Stable {
            let low = &entries[of].key[..];
            view.lower_bound_copied(Included(low), &mut key).expect("it is always there");
            assert_eq!(key, low);
            let next = entries[of + 1..].iter().find(|entry| entry.rule == Rule::Stable);
            if let Some(high) = next {
                view.lower_bound_copied(Excluded(low), &mut key).expect("there is a higher one");
                assert!(low < &key[..] && key <= high.key, "{low:?} {key:?} {:?}", high.key);
                view.upper_bound_copied(Excluded(&high.key), &mut key).expect("a lower one");
                assert!(low <= &key[..] && key < high.key, "{low:?} {key:?} {:?}", high.key);
            }
        }
    }

    /// Runs some operations in one section. A value that was found by reference stays as it is.
    fn session(&mut self, operations: usize) {
        let view = &*self.shared.trie.pin();
        let mut seen = Vec::new();
        for _ in 0..operations {
            match self.dice.roll(16) {
                0..8 => self.change(view),
                8..11 => self.look_up(view),
                11 => self.scan(view),
                12 => self.look_around(view),
                _ => {
                    let of = self.any();
                    let done = self.shared.entries[of].done.load(SeqCst);
                    let found = L::by_ref(view, &self.shared.entries[of].key);
                    if L::PROTECTS_IDENTITY {
                        self.check(of, done, found.copied());
                    }
                    seen.extend(found.map(|value| (value, *value)));
                }
            }
        }
        for (value, seen) in seen {
            assert_eq!(*value, seen, "a value has changed under its reader");
        }
    }

    fn work(mut self, mut operations: usize) -> Vec<Option<u64>> {
        while operations > 0 {
            let now = (1 + self.dice.roll(LONGEST_SECTION)).min(operations);
            self.session(now);
            operations -= now;
            match self.dice.roll(8) {
                0 => self.shared.trie.tend(),
                1 => _ = self.shared.trie.quiesce().expect("outside of sections"),
                2 => self.shared.trie.domain().synchronize().expect("outside of sections"),
                _ => {}
            }
        }
        self.own
    }
}

fn run_with<B: ReusePolicy, L: Leaves>(seed: u64, mut dice: Dice) {
    let setups = Setup::every();
    let setup = setups[dice.roll(setups.len())];
    let domain = Domain::builder().barrier_kind(setup.barrier);
    let domain = domain.stall_after(Duration::from_millis(1)).stall_handler(|_| ());
    let trie = QpTrie::<u64, B, L>::builder().domain(domain.build().expect("it is supported"));
    let trie = trie.cpu_mode(setup.cpu_mode).max_pending(MAX_PENDING);
    let trie =
        trie.hints([Hints::Off, Hints::On][dice.roll(2)]).reader_retries([0, 1, 64][dice.roll(3)]);
    let (threads, entries) = (4 + dice.roll(5), entries());
    let shared = Arc::new(Shared { trie: trie.build().expect("a trie"), entries, threads });
    for (of, entry) in shared.entries.iter().enumerate() {
        if entry.rule == Rule::Stable {
            shared.trie.pin().insert_copied(&entry.key, value(of, 0)).expect("memory");
        }
    }
    let begin = |number| {
        let (shared, dice) = (shared.clone(), Dice::new(seed ^ (number as u64 + 1)));
        thread::spawn(move || {
            let own = vec![None; shared.entries.len()];
            let worker = Worker { shared: &shared, number, dice, own, versions: 0 };
            worker.work(OPERATIONS / threads)
        })
    };
    let threads: Vec<_> = (0..threads).map(begin).collect();
    let join = |thread: thread::JoinHandle<_>| thread.join().expect("it does not panic");
    let owned: Vec<Vec<Option<u64>>> = threads.into_iter().map(join).collect();
    check_end(&shared, &owned);
}

/// Checks the entries and the memory that are left.
fn check_end<B: ReusePolicy, L: Leaves>(shared: &Shared<B, L>, owned: &[Vec<Option<u64>>]) {
    let view = shared.trie.pin();
    let mut left = Model::new();
    for (of, entry) in shared.entries.iter().enumerate() {
        let found = view.get_copied(&entry.key);
        match entry.rule {
            Rule::Stable => assert_eq!(found, Some(value(of, entry.done.load(SeqCst)))),
            Rule::Owned => assert_eq!(found, owned[of % shared.threads][of], "{:?}", entry.key),
            Rule::Contested => {
                let balance = entry.balance.load(SeqCst);
                assert_eq!(balance, i64::from(found.is_some()), "{:?}", entry.key);
            }
        }
        left.extend(found.map(|found| (entry.key.clone(), found)));
    }
    assert!(view.iter_copied().eq(left.clone()), "a scan of the entries that are left");
    assert_eq!(shared.trie.len(), left.len());
    drop(view);
    shared.trie.quiesce().expect("outside of sections");
    let usage = shared.trie.memory_usage();
    assert_eq!(usage.branches.taken.objects, branches(&left), "branches");
    assert_eq!(usage.leaves.taken.objects, left.len() as u64, "leaves");
}

/// Runs the program that a seed stands for.
pub(crate) fn run<L: Leaves>(seed: u64) {
    let mut dice = Dice::new(seed);
    match dice.roll(4) {
        0 => run_with::<AfterRcuGp, L>(seed, dice),
        1 => run_with::<FreeAfterRcuGp, L>(seed, dice),
        _ => run_with::<Immediate, L>(seed, dice),
    }
}
