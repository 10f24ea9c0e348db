//! Several threads: keys that are always there are never missed, values are never stale, scans are
//! complete, and in the end nothing is lost.
//!
//! The tests do not depend on timing: for every interleaving of the threads, some order of the
//! operations must explain all answers.
#![cfg(not(loom))]

mod common;

use common::keys::Dice;
use common::reference::{Model, same_entries, same_memory};
use common::{Setup, in_every_setup};
use memalloc::ReusePolicy;
use qptrie::{QpTrie, Update};
use std::ops::Bound::{Excluded, Included};
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::thread;

/// The number of writers; with the readers more threads than most test machines have processors.
const WRITERS: usize = 3;

/// The number of changes by each writer.
const CHANGES: usize = 6_000;

/// Returns keys that are always there. Other keys are inserted and removed around each: its
/// prefixes, keys that it is a prefix of, and keys that differ from it in the last byte.
fn stable_keys() -> Vec<Vec<u8>> {
    let mut keys = vec![b"".to_vec(), b"s".to_vec()];
    for tail in [&b""[..], b"\0", b"abc", b"/a/long/part/that/many/keys/have/"] {
        for last in [0x11, 0x18, 0x81, 0xff] {
            keys.push([b"s", tail, &[last]].concat());
        }
    }
    keys.sort();
    keys
}

/// Returns a key near a stable one, not stable itself, that only writer `own` changes.
fn neighbour(dice: &mut Dice, stable: &[Vec<u8>], own: usize) -> Vec<u8> {
    loop {
        let mut key = stable[dice.roll(stable.len())].clone();
        match dice.roll(4) {
            0 => key.push(dice.roll(256) as u8),
            1 => key.extend([0, dice.roll(2) as u8, 0xff]),
            2 => key = key[..dice.roll(key.len() + 1)].to_vec(),
            _ => _ = key.last_mut().map(|last| *last ^= 1 << dice.roll(8)),
        }
        let sum: usize = key.iter().map(|byte| *byte as usize).sum();
        if sum % WRITERS == own && stable.binary_search(&key).is_err() {
            return key;
        }
    }
}

/// The range of versions that a stable key may have: its only writer sets `begun` before the change
/// and `done` after it.
#[derive(Default)]
struct Version {
    begun: AtomicU64,
    done: AtomicU64,
}

/// Returns a value that encodes its key.
fn value(of: usize, version: u64) -> u64 {
    (of as u64) << 32 | version
}

/// Returns the value of a neighbour, which encodes its writer and the writer's step.
fn passing(own: usize, step: usize) -> u64 {
    value(1000 + own, step as u64)
}

struct Scene<B: ReusePolicy> {
    trie: QpTrie<u64, B>,
    stable: Vec<Vec<u8>>,
    versions: Vec<Version>,
    writing: AtomicUsize,
}

/// A check that a reader repeats.
type Look<B> = fn(&Scene<B>, &mut Dice);

/// Counts a writer as finished, even if it panics.
struct Writing<'s>(&'s AtomicUsize);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl<B: ReusePolicy> Scene<B> {
    fn new(trie: QpTrie<u64, B>) -> Self {
        let stable = stable_keys();
        for (of, key) in stable.iter().enumerate() {
            trie.pin().insert(key, value(of, 0)).expect("memory");
        }
        let versions = stable.iter().map(|_| Version::default()).collect();
        Self { trie, stable, versions, writing: AtomicUsize::new(WRITERS) }
    }

    /// Repeats `look` at least once, and until all writers have finished.
    fn while_written(&self, mut look: impl FnMut()) {
        loop {
            let last = self.writing.load(Ordering::Acquire) == 0;
            look();
            if last {
                return;
            }
        }
    }

    /// Inserts, replaces and removes neighbours of the stable keys. Only this thread changes these
    /// keys, so it knows every answer. Returns the entries that are left.
    fn write(&self, own: usize) -> Model<u64> {
        let _writing = Writing(&self.writing);
        let (mut dice, mut mine) = (Dice::new(own as u64), Model::new());
        for step in 0..CHANGES {
            move_to_some_cpu(&mut dice);
            let key = neighbour(&mut dice, &self.stable, own);
            let view = self.trie.pin();
            match dice.roll(8) {
                0..3 => {
                    let old = view.insert(&key, passing(own, step)).expect("memory");
                    assert_eq!(old.copied(), mine.insert(key, passing(own, step)));
                }
                3 => {
                    let done = view.update(&key, passing(own, step), Update::Exist).is_ok();
                    assert_eq!(done, mine.contains_key(&key));
                    mine.entry(key).and_modify(|value| *value = passing(own, step));
                }
                4..7 => assert_eq!(view.remove(&key).copied(), mine.remove(&key)),
                _ => self.replace_stable(dice.roll(self.stable.len()), own),
            }
        }
        mine
    }

    fn replace_stable(&self, of: usize, own: usize) {
        let of = of - of % WRITERS + own;
        let Some(key) = self.stable.get(of) else {
            return;
        };
        let Version { begun, done } = &self.versions[of];
        let (before, version) = (done.load(Ordering::Relaxed), done.load(Ordering::Relaxed) + 1);
        begun.store(version, Ordering::SeqCst);
        let view = self.trie.pin();
        let old = view.update(key, value(of, version), Update::Exist).expect("always there");
        assert_eq!(old, Some(&value(of, before)));
        done.store(version, Ordering::SeqCst);
    }

    /// Looks up every stable key: it is present, with a value that was current during the lookup.
    fn look_up(&self, dice: &mut Dice) {
        move_to_some_cpu(dice);
        for (of, key) in self.stable.iter().enumerate() {
            let done = self.versions[of].done.load(Ordering::SeqCst);
            let found = self.trie.pin().get(key).copied();
            self.check_found(of, done, found);
        }
    }

    /// Like `look_up`, four keys at a time.
    fn look_up_many(&self, dice: &mut Dice) {
        move_to_some_cpu(dice);
        for first in 0..self.stable.len() {
            let asked: [usize; 4] = std::array::from_fn(|n| (first + n) % self.stable.len());
            let done = asked.map(|of| self.versions[of].done.load(Ordering::SeqCst));
            let view = self.trie.pin();
            let found = view.get_many(asked.map(|of| &self.stable[of][..]));
            for ((of, done), found) in asked.into_iter().zip(done).zip(found) {
                self.check_found(of, done, found.copied());
            }
        }
    }

    /// Checks the value found at a stable key after `done` versions had been written.
    fn check_found(&self, of: usize, done: u64, found: Option<u64>) {
        let begun = self.versions[of].begun.load(Ordering::SeqCst);
        let key = &self.stable[of];
        let Some(found) = found else {
            panic!("a key that was always there is missed: {key:?}");
        };
        let current = value(of, done)..=value(of, begun);
        assert!(current.contains(&found), "{key:?}: {found:#x} is not in {current:x?}");
    }

    /// Scans all entries from the front, from the back, or from both ends in turn.
    fn scan(&self, dice: &mut Dice) {
        move_to_some_cpu(dice);
        let (view, ends) = (self.trie.pin(), dice.roll(3));
        let (mut iter, mut front, mut back) = (view.iter(), Vec::new(), Vec::new());
        loop {
            let forwards = ends == 0 || ends == 2 && dice.roll(2) == 0;
            let entry = if forwards { iter.next() } else { iter.next_back() };
            let Some(entry) = entry else {
                break;
            };
            if forwards { &mut front } else { &mut back }.push(entry);
            assert!(front.len() + back.len() < 1 << 20, "a scan that does not end");
        }
        front.extend(back.into_iter().rev());
        self.check_entries(front);
    }

    /// Checks a scan: ascending, no duplicates, every stable key, and only values that were
    /// written.
    fn check_entries(&self, entries: Vec<(&[u8], &u64)>) {
        self.check_scan(entries.iter().map(|(key, _)| *key));
        for (key, found) in entries {
            let owner = (found >> 32) as usize;
            match self.stable.binary_search_by(|stable| stable[..].cmp(key)) {
                Ok(of) => assert_eq!(owner, of, "{key:?}"),
                Err(_) => assert!((1000..1000 + WRITERS).contains(&owner), "{key:?}"),
            }
        }
    }

    /// Scans with a cursor, in one direction or the other, each step in its own section; other
    /// threads remove the cursor's key meanwhile.
    fn step_through(&self, dice: &mut Dice) {
        move_to_some_cpu(dice);
        let (mut keys, mut next, forwards) = (Vec::<Vec<u8>>::new(), Vec::new(), dice.roll(2) == 0);
        loop {
            let (view, last) = (self.trie.pin(), keys.last().map(|key| &key[..]));
            let more = match forwards {
                true => view.next_key(last, &mut next),
                false => view.prev_key(last, &mut next),
            };
            if !more {
                break;
            }
            keys.push(next.clone());
            assert!(keys.len() < 1 << 20, "a scan that does not end");
        }
        if !forwards {
            keys.reverse();
        }
        self.check_scan(keys.iter().map(|key| &key[..]));
    }

    /// Looks up the neighbours of stable keys: none is beyond the next stable key.
    fn look_around(&self, dice: &mut Dice) {
        move_to_some_cpu(dice);
        let view = self.trie.pin();
        let key_of = |entry: Option<(_, _)>| entry.map(|(key, _): (&[u8], &u64)| key);
        for pair in self.stable.windows(2) {
            let (low, high) = (&pair[0][..], &pair[1][..]);
            assert_eq!(key_of(view.lower_bound(Included(high))), Some(high));
            assert_eq!(key_of(view.upper_bound(Included(low))), Some(low));
            let above = key_of(view.lower_bound(Excluded(low))).expect("high is there");
            assert!(low < above && above <= high, "{low:?} {above:?} {high:?}");
            let below = key_of(view.upper_bound(Excluded(high))).expect("low is there");
            assert!(low <= below && below < high, "{low:?} {below:?} {high:?}");
            let begun = key_of(view.longest_prefix(&[low, b"\x11x"].concat()));
            assert!(begun.is_some_and(|key| key.starts_with(low)), "{low:?} {begun:?}");
        }
        let (from, to) = (dice.roll(self.stable.len()), dice.roll(self.stable.len()));
        let (from, to) = (from.min(to), from.max(to));
        let range = view.range(&self.stable[from]..=&self.stable[to]);
        let is_stable = |key: &&[u8]| self.stable.binary_search_by(|s| s[..].cmp(key)).is_ok();
        let found = range.map(|(key, _)| key).filter(is_stable);
        assert!(found.eq(self.stable[from..=to].iter().map(|key| &key[..])));
    }

    fn check_scan<'k>(&self, keys: impl Iterator<Item = &'k [u8]> + Clone) {
        let later = keys.clone().skip(1);
        assert!(keys.clone().zip(later).all(|(a, b)| a < b), "not ascending");
        let stable = keys.filter(|key| self.stable.binary_search_by(|s| s[..].cmp(key)).is_ok());
        assert!(stable.eq(self.stable.iter().map(|key| &key[..])), "a stable key is missed");
    }

    /// Runs writers beside `readers`, and checks the final entries.
    fn play(&self, readers: &[Look<B>]) {
        let mut model: Model<u64> = thread::scope(|scope| {
            let writers: Vec<_> =
                (0..WRITERS).map(|own| scope.spawn(move || self.write(own))).collect();
            for (number, look) in readers.iter().enumerate() {
                scope.spawn(move || {
                    let mut dice = Dice::new(100 + number as u64);
                    self.while_written(|| look(self, &mut dice));
                });
            }
            let left = writers.into_iter().map(|writer| writer.join().expect("no panic"));
            left.flatten().collect()
        });
        for (of, key) in self.stable.iter().enumerate() {
            let version = self.versions[of].done.load(Ordering::Relaxed);
            model.insert(key.clone(), value(of, version));
        }
        same_entries(&self.trie, &model);
        same_memory(&self.trie, &model);
    }
}

/// Sometimes moves the calling thread to another processor, so that objects are freed and allocated
/// on different processors and threads are preempted in the middle of the protocol.
#[cfg(target_os = "linux")]
fn move_to_some_cpu(dice: &mut Dice) {
    if dice.roll(50) != 0 {
        return;
    }
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    // SAFETY: a zeroed set is empty; the call reads no more than the given size. If this process
    // may not use the processor, the call fails and the thread stays where it is.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(dice.roll(cpus), &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

#[cfg(not(target_os = "linux"))]
fn move_to_some_cpu(_dice: &mut Dice) {}

fn a_reader_never_misses_a_key_that_is_always_there<B: ReusePolicy>(setup: Setup) {
    let scene = Scene::<B>::new(setup.trie());
    scene.play(&[Scene::<B>::look_up as Look<B>, Scene::look_up_many]);
    if B::PROTECTS_IDENTITY {
        assert_eq!(scene.trie.stats().retries, 0, "plain readers never retry");
    }
}

/// With no retries, a reader insists whenever a branch changes under it.
fn a_reader_that_insists_misses_nothing_either<B: ReusePolicy>(setup: Setup) {
    let trie = setup.builder::<u64, B>().reader_retries(0).build().expect("a trie");
    let scene = Scene::<B>::new(trie);
    scene.play(&[Scene::<B>::look_up as Look<B>, Scene::look_up_many]);
    assert_eq!(scene.trie.stats().retries, 0);
}

/// All keys but one have the same first byte, so that scans and writers conflict constantly.
fn a_scan_is_in_order_and_misses_no_key_that_is_always_there<B: ReusePolicy>(setup: Setup) {
    let scene = Scene::<B>::new(setup.trie());
    scene.play(&[Scene::scan, Scene::step_through, Scene::look_around]);
}

/// With no retries, every walk that gets lost insists.
fn a_scan_that_insists_misses_nothing_either<B: ReusePolicy>(setup: Setup) {
    let trie = setup.builder::<u64, B>().reader_retries(0).build().expect("a trie");
    let scene = Scene::<B>::new(trie);
    scene.play(&[Scene::scan, Scene::step_through, Scene::look_around]);
}

/// Every thread inserts and removes the same few keys. Each successful insertion is matched by a
/// removal or by a remaining entry.
fn one_of_many_wins_each_key<B: ReusePolicy>(setup: Setup) {
    const THREADS: u64 = 5;
    const KEYS: [&[u8]; 5] = [b"key", b"key\x00", b"key\x08", b"key\x10", b"key\x10\x00"];
    let trie = setup.trie::<u64, B>();
    let balance: Vec<AtomicI64> = KEYS.iter().map(|_| AtomicI64::new(0)).collect();
    thread::scope(|scope| {
        for own in 0..THREADS {
            let (trie, balance) = (&trie, &balance);
            scope.spawn(move || {
                let mut dice = Dice::new(own);
                for _ in 0..4_000 {
                    move_to_some_cpu(&mut dice);
                    let (number, view) = (dice.roll(KEYS.len()), trie.pin());
                    if dice.roll(2) == 0 {
                        if view.update(KEYS[number], own, Update::NoExist).is_ok() {
                            balance[number].fetch_add(1, Ordering::Relaxed);
                        }
                    } else if let Some(owner) = view.remove(KEYS[number]) {
                        assert!(*owner < THREADS);
                        balance[number].fetch_sub(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    for (key, balance) in KEYS.iter().zip(balance) {
        assert_eq!(balance.into_inner(), i64::from(trie.pin().contains_key(key)), "{key:?}");
    }
    let left = trie.pin().iter().map(|(key, value)| (key.to_vec(), *value)).collect();
    same_memory(&trie, &left);
}

/// Each thread lives for one operation, so that readers' slots and threads' caches change owners
/// constantly.
fn threads_that_come_and_go_lose_nothing<B: ReusePolicy>(setup: Setup) {
    let trie = setup.trie::<u64, B>();
    let mut model = Model::new();
    for round in 0..60_u64 {
        thread::scope(|scope| {
            for own in 0..8_u64 {
                let trie = &trie;
                scope.spawn(move || {
                    let key = [(round % 7) as u8, own as u8];
                    trie.pin().insert(&key, round).expect("memory");
                    assert_eq!(trie.pin().get(&key), Some(&round));
                });
            }
        });
        model.extend((0..8).map(|own| (vec![(round % 7) as u8, own], round)));
    }
    same_entries(&trie, &model);
    same_memory(&trie, &model);
}

in_every_setup![
    a_reader_never_misses_a_key_that_is_always_there,
    a_reader_that_insists_misses_nothing_either,
    a_scan_is_in_order_and_misses_no_key_that_is_always_there,
    a_scan_that_insists_misses_nothing_either,
    one_of_many_wins_each_key,
    threads_that_come_and_go_lose_nothing,
];
