//! A trie with stable keys, which are always present, and transient keys, which are inserted and
//! removed around them. Each key has one thread as its only writer, which knows its value.
//!
//! ```text
//!  s, a, 0x10 and s, a, 0x80   stable, for each of 16 letters a: a pair below a wide branch
//!  s, a, 0x20 + c              transient, beside a pair: its branch is replaced repeatedly
//!  s, 0x40 + i, 1              transient, beside the letters: the wide branch is copied
//!  b, a, …                     transient, elsewhere: they reuse the freed branches
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use memalloc::rcu::Domain;
use memalloc::{BuildError, ReusePolicy};
use qptrie::{Hints, QpTrie, Update};

use super::phases::Phase;
use super::verdict::{Count, Verdict, Wrong};

/// The number of letters.
const LETTERS: u8 = 16;

/// The number of transient keys beside the pair of one letter.
const NEIGHBOURS: u8 = 6;

/// The number of transient keys beside the letters.
const BESIDE: u8 = 24;

/// The number of the first transient key in values. Stable keys have smaller numbers.
const FIRST_TRANSIENT: usize = 1_000;

/// A scan with more entries than this counts as endless.
const MOST_ENTRIES: usize = 1 << 14;

/// A stable key. Its only writer sets `begun` to the new version before it changes the value, and
/// `done` after that.
#[derive(Debug)]
struct Stable {
    key: Vec<u8>,
    begun: AtomicU64,
    done: AtomicU64,
}

/// The trie under test, and its keys.
#[derive(Debug)]
pub(super) struct Trie<'v, B: ReusePolicy, L: ReusePolicy> {
    trie: QpTrie<u64, B, L>,
    /// The stable keys, in ascending order.
    stable: Vec<Stable>,
    /// The transient keys.
    transient: Vec<Vec<u8>>,
    threads: usize,
    verdict: &'v Verdict,
}

/// The transient keys that one thread writes: the number and the current value of each, where 0
/// stands for absent.
#[derive(Debug)]
pub(super) struct OwnKeys {
    thread: usize,
    values: Vec<(usize, u64)>,
    version: u64,
}

/// Returns the value of a key, given the number of the key and a version.
fn value(of: usize, version: u64) -> u64 {
    (of as u64) << 32 | version
}

fn stable_keys() -> Vec<Vec<u8>> {
    let mut keys = vec![b"".to_vec(), b"s".to_vec()];
    for letter in 0..LETTERS {
        keys.push(vec![b's', letter, 0x10]);
        keys.push(vec![b's', letter, 0x80]);
    }
    keys
}

fn transient_keys() -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    for letter in 0..LETTERS {
        for number in 0..NEIGHBOURS {
            keys.push(vec![b's', letter, 0x20 + number]);
            keys.push(vec![b'b', letter, 0x20 + number]);
        }
    }
    keys.extend((0..BESIDE).map(|number| vec![b's', 0x40 + number, 1]));
    keys
}

impl<'v, B: ReusePolicy, L: ReusePolicy> Trie<'v, B, L> {
    /// Creates a trie with the settings of a phase, and inserts the stable keys.
    pub(super) fn new(
        phase: &Phase,
        domain: &Domain,
        threads: usize,
        verdict: &'v Verdict,
    ) -> Result<Self, BuildError> {
        let hints = if phase.hints { Hints::On } else { Hints::Off };
        let builder = QpTrie::builder().domain(domain.clone()).cpu_mode(phase.mode).hints(hints);
        let trie: QpTrie<u64, B, L> = builder.build()?;
        let stable: Vec<Stable> = stable_keys()
            .into_iter()
            .map(|key| Stable { key, begun: AtomicU64::new(1), done: AtomicU64::new(1) })
            .collect();
        for (of, Stable { key, .. }) in stable.iter().enumerate() {
            if trie.pin().insert_copied(key, value(of, 1)).is_err() {
                verdict.report(Wrong::NoMemory, [0; 3]);
            }
        }
        Ok(Self { trie, stable, transient: transient_keys(), threads, verdict })
    }

    /// Returns the transient keys of a thread. All are absent at first.
    pub(super) fn own(&self, thread: usize) -> OwnKeys {
        let mine = (0..self.transient.len()).filter(|number| number % self.threads == thread);
        OwnKeys { thread, values: mine.map(|number| (number, 0)).collect(), version: 1 }
    }

    /// Inserts, replaces and removes keys of which the thread is the only writer, and checks every
    /// result.
    pub(super) fn write(&self, own: &mut OwnKeys, random: &mut fastrand::Rng) {
        const CHANGES: u64 = 64;
        for _ in 0..CHANGES {
            if own.values.is_empty() || random.u8(..) < 32 {
                self.replace_stable(own, random);
                continue;
            }
            // The first key changes more often than the others.
            let place = if random.bool() { 0 } else { random.usize(..own.values.len()) };
            let (number, before) = own.values[place];
            let key = &self.transient[number];
            own.version += 1;
            let new = match before == 0 || random.u8(..) < 64 {
                true => value(FIRST_TRANSIENT + number, own.version),
                false => 0,
            };
            let view = self.trie.pin();
            let found = match new {
                0 => view.remove_copied(key),
                _ => match view.insert_copied(key, new) {
                    Ok(old) => old,
                    Err(_) => return self.verdict.report(Wrong::NoMemory, [0; 3]),
                },
            };
            own.values[place].1 = new;
            self.check_own(number, before, found);
            let now = if random.bool() { view.get_copied(key) } else { self.get_transient(number) };
            self.check_own(number, new, now);
        }
        self.verdict.count(Count::Changes, CHANGES);
    }

    /// Looks up a transient key in a section of its own.
    fn get_transient(&self, number: usize) -> Option<u64> {
        self.trie.pin().get_copied(&self.transient[number])
    }

    /// Reports an error if the only writer of a key found another value than the one it had left.
    fn check_own(&self, number: usize, left: u64, found: Option<u64>) {
        let found = found.unwrap_or(0);
        if left != found {
            self.verdict.report(Wrong::ChangeLost, [number as u64, left, found]);
        }
    }

    /// Changes the value of a stable key of which the thread is the only writer.
    fn replace_stable(&self, own: &OwnKeys, random: &mut fastrand::Rng) {
        let of = random.usize(..self.stable.len()) / self.threads * self.threads + own.thread;
        let Some(Stable { key, begun, done }) = self.stable.get(of) else { return };
        let version = done.load(Ordering::Relaxed) + 1;
        begun.store(version, Ordering::SeqCst);
        match self.trie.pin().update_copied(key, value(of, version), Update::Exist) {
            Ok(old) => {
                let (left, found) = (value(of, version - 1), old.unwrap_or(0));
                if left != found {
                    self.verdict.report(Wrong::ChangeLost, [of as u64, left, found]);
                }
            }
            Err(_) => self.verdict.report(Wrong::KeyMissed, [of as u64, 0, 0]),
        }
        done.store(version, Ordering::SeqCst);
    }

    /// Looks up every stable key, singly or four at a time, and some transient keys.
    pub(super) fn look_up(&self, random: &mut fastrand::Rng) {
        let done = |of: usize| self.stable[of].done.load(Ordering::SeqCst);
        for first in 0..self.stable.len() {
            if random.u8(..) < 32 {
                let asked: [usize; 4] = std::array::from_fn(|n| (first + n) % self.stable.len());
                let before = asked.map(done);
                let view = self.trie.pin();
                let found = view.get_many_copied(asked.map(|of| &self.stable[of].key[..]));
                for ((of, before), found) in asked.into_iter().zip(before).zip(found) {
                    self.check_stable(of, before, found);
                }
            } else {
                let before = done(first);
                let found = self.trie.pin().get_copied(&self.stable[first].key);
                self.check_stable(first, before, found);
            }
            let most = if random.bool() { self.threads } else { usize::MAX };
            let number = random.usize(..self.transient.len().min(most));
            if let Some(found) = self.get_transient(number) {
                self.check_transient(number, found);
            }
        }
        self.verdict.count(Count::Lookups, 2 * self.stable.len() as u64);
    }

    /// Looks up one stable key.
    pub(super) fn look_up_one(&self, number: usize) {
        let of = number % self.stable.len();
        let done = self.stable[of].done.load(Ordering::SeqCst);
        self.check_stable(of, done, self.trie.pin().get_copied(&self.stable[of].key));
        self.verdict.count(Count::Lookups, 1);
    }

    /// Checks the result of a lookup of a stable key, which had the version `done` or a later one
    /// before the lookup.
    fn check_stable(&self, of: usize, done: u64, found: Option<u64>) {
        let begun = self.stable[of].begun.load(Ordering::SeqCst);
        match found {
            None => self.verdict.report(Wrong::KeyMissed, [of as u64, 0, 0]),
            Some(found) if !(value(of, done)..=value(of, begun)).contains(&found) => {
                self.verdict.report(Wrong::StaleValue, [of as u64, found, done]);
            }
            Some(_) => {}
        }
    }

    /// Checks that a value found at a transient key is a value of that key.
    fn check_transient(&self, number: usize, found: u64) {
        if found >> 32 != (FIRST_TRANSIENT + number) as u64 {
            self.verdict.report(Wrong::StaleValue, [(FIRST_TRANSIENT + number) as u64, found, 0]);
        }
    }

    /// Scans the whole trie in either direction, and checks the order, every value, and that no
    /// stable key is missing.
    pub(super) fn scan(&self, random: &mut fastrand::Rng) {
        let (view, forwards) = (self.trie.pin(), random.bool());
        let mut scan = view.iter_copied();
        let (mut last, mut key) = (None::<Vec<u8>>, Vec::new());
        let (mut entries, mut stable) = (0, 0);
        loop {
            let entry =
                if forwards { scan.next_into(&mut key) } else { scan.next_back_into(&mut key) };
            let Some(found) = entry else { break };
            entries += 1;
            let in_order = match &last {
                Some(last) if forwards => *last < key,
                Some(last) => *last > key,
                None => true,
            };
            if !in_order || entries > MOST_ENTRIES {
                return self.verdict.report(Wrong::OutOfOrder, [entries as u64, 0, 0]);
            }
            let of = (found >> 32) as usize;
            let is_its_own = match of.checked_sub(FIRST_TRANSIENT) {
                Some(number) => self.transient.get(number) == Some(&key),
                None => self.stable.get(of).is_some_and(|stable| stable.key == key),
            };
            if !is_its_own {
                return self.verdict.report(Wrong::StaleValue, [u64::MAX, found, 0]);
            }
            stable += usize::from(of < FIRST_TRANSIENT);
            last.get_or_insert_default().clone_from(&key);
        }
        if stable != self.stable.len() {
            let details = [stable as u64, self.stable.len() as u64, 0];
            self.verdict.report(Wrong::ScanIncomplete, details);
        }
        self.verdict.count(Count::Scanned, entries as u64);
    }

    /// Checks the number of entries, removes all of them, and reports an error if objects are
    /// missing. No other thread may be left.
    pub(super) fn drain(&self, own_keys: &[OwnKeys]) {
        let there = own_keys.iter().flat_map(|own| &own.values).filter(|(_, value)| *value != 0);
        let (entries, counted) =
            ((self.stable.len() + there.count()) as u64, self.trie.len() as u64);
        if counted != entries {
            self.verdict.report(Wrong::Miscounted, [counted, entries, 0]);
        }
        for &(number, left) in own_keys.iter().flat_map(|own| &own.values) {
            self.check_own(number, left, self.trie.pin().remove_copied(&self.transient[number]));
        }
        for (of, Stable { key, done, .. }) in self.stable.iter().enumerate() {
            let done = done.load(Ordering::Relaxed);
            self.check_stable(of, done, self.trie.pin().remove_copied(key));
        }
        if !self.trie.is_empty() {
            self.verdict.report(Wrong::Miscounted, [self.trie.len() as u64, 0, 0]);
        }
        if self.trie.quiesce().is_err() {
            self.verdict.report(Wrong::Waits, [0; 3]);
        }
        let usage = self.trie.memory_usage();
        for stats in [usage.branches, usage.leaves] {
            let left = [stats.live.objects, stats.pending.objects, stats.taken.objects];
            if left != [0; 3] {
                self.verdict.report(Wrong::Lost, left);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_both_stable_and_transient() {
        let (stable, transient) = (stable_keys(), transient_keys());
        assert!(stable.is_sorted() && stable.len() < FIRST_TRANSIENT);
        let all: std::collections::BTreeSet<_> = stable.iter().chain(&transient).collect();
        assert_eq!(all.len(), stable.len() + transient.len());
    }
}
