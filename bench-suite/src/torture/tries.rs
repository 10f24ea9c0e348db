//! The trie: keys that are always there, with neighbours that come and go around them, each of which
//! one thread alone writes and knows the answers for.
//!
//! ```text
//!  s, a, 0x10 and s, a, 0x80       always there, for each of 16 letters a: a pair below a wide branch
//!  s, a, 0x20 + c                  come and go beside them: the pair is replaced again and again
//!  s, 0x40 + i, 1                  come and go beside the letters: the wide branch is copied
//!  b, a, …                         come and go elsewhere: they take the branches that were freed
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use memalloc::rcu::Domain;
use memalloc::{BuildError, ReusePolicy};
use qptrie::{Hints, QpTrie, Update};

use super::phases::Phase;
use super::verdict::{Count, Verdict, Wrong};

const LETTERS: u8 = 16;

/// Neighbours of the keys of one letter.
const NEIGHBOURS: u8 = 6;

/// Keys that come and go beside the letters.
const BESIDE: u8 = 24;

/// The number of the first neighbour in values.
const PASSING: usize = 1_000;

/// A scan that goes on behind so many entries does not end.
const MOST_ENTRIES: usize = 1 << 14;

/// A key that is always there. Its only writer sets `begun` before it changes the value, and `done` after.
#[derive(Debug)]
struct Stable {
    key: Vec<u8>,
    begun: AtomicU64,
    done: AtomicU64,
}

/// A trie under torture.
#[derive(Debug)]
pub(super) struct Trie<'v, B: ReusePolicy, L: ReusePolicy> {
    trie: QpTrie<u64, B, L>,
    /// In ascending order.
    stable: Vec<Stable>,
    passing: Vec<Vec<u8>>,
    threads: usize,
    verdict: &'v Verdict,
}

/// The neighbours that one thread writes, and what it left there: 0 stands for absent.
#[derive(Debug)]
pub(super) struct Own {
    thread: usize,
    values: Vec<(usize, u64)>,
    version: u64,
}

/// A value says whose it is.
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

fn passing_keys() -> Vec<Vec<u8>> {
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
    /// A trie in the setting of a phase, with the keys that are always there.
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
                verdict.complain(Wrong::NoMemory, [0; 3]);
            }
        }
        Ok(Self { trie, stable, passing: passing_keys(), threads, verdict })
    }

    /// The keys of a thread; none is there yet.
    pub(super) fn own(&self, thread: usize) -> Own {
        let mine = (0..self.passing.len()).filter(|number| number % self.threads == thread);
        Own { thread, values: mine.map(|number| (number, 0)).collect(), version: 1 }
    }

    /// Inserts, replaces and removes keys of the thread's own, and knows the answers.
    pub(super) fn write(&self, own: &mut Own, random: &mut fastrand::Rng) {
        const CHANGES: u64 = 64;
        for _ in 0..CHANGES {
            if own.values.is_empty() || random.u8(..) < 32 {
                self.replace_stable(own, random);
                continue;
            }
            // One of them more often than the others.
            let place = if random.bool() { 0 } else { random.usize(..own.values.len()) };
            let (number, before) = own.values[place];
            let key = &self.passing[number];
            own.version += 1;
            let new = match before == 0 || random.u8(..) < 64 {
                true => value(PASSING + number, own.version),
                false => 0,
            };
            let view = self.trie.pin();
            let found = match new {
                0 => view.remove_copied(key),
                _ => match view.insert_copied(key, new) {
                    Ok(old) => old,
                    Err(_) => return self.verdict.complain(Wrong::NoMemory, [0; 3]),
                },
            };
            own.values[place].1 = new;
            self.same(number, before, found);
            let now = if random.bool() { view.get_copied(key) } else { self.seen(number) };
            self.same(number, new, now);
        }
        self.verdict.count(Count::Changes, CHANGES);
    }

    /// What another section finds at a neighbour.
    fn seen(&self, number: usize) -> Option<u64> {
        self.trie.pin().get_copied(&self.passing[number])
    }

    /// Complains unless the only writer of a key found what it had left there.
    fn same(&self, number: usize, left: u64, found: Option<u64>) {
        let found = found.unwrap_or(0);
        if left != found {
            self.verdict.complain(Wrong::ChangeLost, [number as u64, left, found]);
        }
    }

    fn replace_stable(&self, own: &Own, random: &mut fastrand::Rng) {
        let of = random.usize(..self.stable.len()) / self.threads * self.threads + own.thread;
        let Some(Stable { key, begun, done }) = self.stable.get(of) else { return };
        let version = done.load(Ordering::Relaxed) + 1;
        begun.store(version, Ordering::SeqCst);
        match self.trie.pin().update_copied(key, value(of, version), Update::Exist) {
            Ok(old) => {
                let (left, found) = (value(of, version - 1), old.unwrap_or(0));
                if left != found {
                    self.verdict.complain(Wrong::ChangeLost, [of as u64, left, found]);
                }
            }
            Err(_) => self.verdict.complain(Wrong::KeyMissed, [of as u64, 0, 0]),
        }
        done.store(version, Ordering::SeqCst);
    }

    /// Looks up every key that is always there, one by one or four at a time, and some that come and go.
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
            let number = random.usize(..self.passing.len().min(most));
            if let Some(found) = self.seen(number) {
                self.check_passing(number, found);
            }
        }
        self.verdict.count(Count::Lookups, 2 * self.stable.len() as u64);
    }

    /// Looks up one key that is always there.
    pub(super) fn look_up_one(&self, number: usize) {
        let of = number % self.stable.len();
        let done = self.stable[of].done.load(Ordering::SeqCst);
        self.check_stable(of, done, self.trie.pin().get_copied(&self.stable[of].key));
        self.verdict.count(Count::Lookups, 1);
    }

    /// What was found at a key that is always there, of which `done` versions had been written before.
    fn check_stable(&self, of: usize, done: u64, found: Option<u64>) {
        let begun = self.stable[of].begun.load(Ordering::SeqCst);
        match found {
            None => self.verdict.complain(Wrong::KeyMissed, [of as u64, 0, 0]),
            Some(found) if !(value(of, done)..=value(of, begun)).contains(&found) => {
                self.verdict.complain(Wrong::StaleValue, [of as u64, found, done]);
            }
            Some(_) => {}
        }
    }

    fn check_passing(&self, number: usize, found: u64) {
        if found >> 32 != (PASSING + number) as u64 {
            self.verdict.complain(Wrong::StaleValue, [(PASSING + number) as u64, found, 0]);
        }
    }

    /// Goes through everything, in one direction or the other.
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
                return self.verdict.complain(Wrong::OutOfOrder, [entries as u64, 0, 0]);
            }
            let of = (found >> 32) as usize;
            let is_its_own = match of.checked_sub(PASSING) {
                Some(number) => self.passing.get(number) == Some(&key),
                None => self.stable.get(of).is_some_and(|stable| stable.key == key),
            };
            if !is_its_own {
                return self.verdict.complain(Wrong::StaleValue, [u64::MAX, found, 0]);
            }
            stable += usize::from(of < PASSING);
            last.get_or_insert_default().clone_from(&key);
        }
        if stable != self.stable.len() {
            let details = [stable as u64, self.stable.len() as u64, 0];
            self.verdict.complain(Wrong::ScanIncomplete, details);
        }
        self.verdict.count(Count::Scanned, entries as u64);
    }

    /// Counts, removes everything, and looks whether all of it came back. No other thread is left.
    pub(super) fn drain(&self, owns: &[Own]) {
        let there = owns.iter().flat_map(|own| &own.values).filter(|(_, value)| *value != 0);
        let (entries, counted) =
            ((self.stable.len() + there.count()) as u64, self.trie.len() as u64);
        if counted != entries {
            self.verdict.complain(Wrong::Miscounted, [counted, entries, 0]);
        }
        for &(number, left) in owns.iter().flat_map(|own| &own.values) {
            self.same(number, left, self.trie.pin().remove_copied(&self.passing[number]));
        }
        for (of, Stable { key, done, .. }) in self.stable.iter().enumerate() {
            let done = done.load(Ordering::Relaxed);
            self.check_stable(of, done, self.trie.pin().remove_copied(key));
        }
        if !self.trie.is_empty() {
            self.verdict.complain(Wrong::Miscounted, [self.trie.len() as u64, 0, 0]);
        }
        if self.trie.quiesce().is_err() {
            self.verdict.complain(Wrong::Waits, [0; 3]);
        }
        let usage = self.trie.memory_usage();
        for stats in [usage.branches, usage.leaves] {
            let left = [stats.live.objects, stats.pending.objects, stats.taken.objects];
            if left != [0; 3] {
                self.verdict.complain(Wrong::Lost, left);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_there_always_and_now_and_then() {
        let (stable, passing) = (stable_keys(), passing_keys());
        assert!(stable.is_sorted() && stable.len() < PASSING);
        let all: std::collections::BTreeSet<_> = stable.iter().chain(&passing).collect();
        assert_eq!(all.len(), stable.len() + passing.len());
    }
}
