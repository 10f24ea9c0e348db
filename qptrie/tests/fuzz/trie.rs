//! The trie against a `BTreeMap`, under every combination of policies, with nested sections, grace
//! periods, limits, and a backing that refuses requests.

use crate::by_ref::Leaves;
use crate::common::Setup;
use crate::common::reference::{Model, branches};
use crate::script::Script;
use memalloc::backing::FailOnDemand;
use memalloc::rcu::SynchronizeError;
use memalloc::{AfterRcuGp, AfterTasksTraceGp, FreeAfterRcuGp, Immediate, ReusePolicy};
use qptrie::{Computed, Hints, InsertError, InsertErrorKind, Operation, QpTrie, TrieRef, Update};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

#[cfg(all(target_os = "linux", not(miri)))]
type Behind = memalloc::backing::Mapped;
#[cfg(not(all(target_os = "linux", not(miri))))]
type Behind = memalloc::backing::System;

/// The length of the longest key that fits 4096 bytes together with a `u64` and its own length.
const LONGEST: usize = 4096 - 8 - 2;

/// The most sections inside one another.
const MOST_NESTED: usize = 3;

/// Returns a key that is close to others: short, behind a common prefix, or as long as possible.
fn key(script: &mut Script<'_>) -> Option<Vec<u8>> {
    const ALPHABET: [u8; 8] = [0x00, 0x01, 0x10, 0x11, b'a', b'b', 0xfe, 0xff];
    let form = script.below(256)?;
    let mut key = match form >> 3 & 15 {
        0..=9 => Vec::new(),
        10 => vec![b'/'; 7],
        11 => vec![b'/'; 8],
        12 => vec![b'/'; 60],
        13 => vec![b'/'; 250],
        14 => vec![b'/'; LONGEST - 3],
        _ => vec![b'/'; LONGEST + 1],
    };
    for _ in 0..form & 7 {
        let byte = script.byte()?;
        // One of a few, or any.
        key.push(if form < 128 { ALPHABET[usize::from(byte % 8)] } else { byte });
    }
    Some(key)
}

struct Run<'t, B: ReusePolicy, L: Leaves> {
    trie: &'t QpTrie<u64, B, L>,
    backing: &'t FailOnDemand<Behind>,
    model: Model<u64>,
    max_entries: usize,
    longest: usize,
    has_limit: bool,
    /// The number of the first request that is not refused.
    refuses_before: u64,
    last: u64,
}

type View<B, L> = TrieRef<u64, B, L>;

impl<B: ReusePolicy, L: Leaves> Run<'_, B, L> {
    fn value(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Checks that a failed insertion of `key` had to fail, and has returned its value.
    fn refused(&self, key: &[u8], value: u64, error: InsertError<u64>, failures: u64) {
        let present = self.model.contains_key(key);
        match error.kind() {
            InsertErrorKind::KeyTooLong { key: length, limit } => {
                assert_eq!((length, limit), (key.len(), self.longest));
                assert!(length > limit);
            }
            InsertErrorKind::TooLarge { key: length, longest_key, .. } => {
                assert!(length == key.len() && length > longest_key);
                assert!((LONGEST - 4..=LONGEST).contains(&longest_key), "{longest_key}");
            }
            InsertErrorKind::Full { max_entries } => {
                assert_eq!(max_entries, self.max_entries as u64);
                assert!(self.model.len() == self.max_entries && !present);
            }
            InsertErrorKind::Memory(_) => {
                assert!(self.has_limit || self.backing.failures() > failures, "{error}");
            }
            other => panic!("{other}"),
        }
        assert_eq!(error.into_value(), value);
    }

    fn update(&mut self, view: &View<B, L>, key: Vec<u8>, how: Update) {
        let (value, failures) = (self.value(), self.backing.failures());
        let old = self.model.get(&key).copied();
        let misses = match how {
            Update::NoExist if old.is_some() => Some(InsertErrorKind::Exists),
            Update::Exist if old.is_none() => Some(InsertErrorKind::NotFound),
            _ => None,
        };
        match view.update_copied(&key, value, how) {
            Ok(replaced) => {
                assert_eq!((replaced, misses), (old, None), "{key:?}");
                assert!(key.len() <= self.longest);
                self.model.insert(key, value);
            }
            Err(error) if Some(error.kind()) == misses => assert_eq!(error.into_value(), value),
            Err(error) => self.refused(&key, value, error, failures),
        }
    }

    fn compute(&mut self, view: &View<B, L>, key: Vec<u8>, how: usize) {
        let (value, failures) = (self.value(), self.backing.failures());
        let old = self.model.get(&key).copied();
        let decide = |seen| {
            assert_eq!(seen, old);
            match how % 3 {
                0 => Operation::Insert(value),
                1 => Operation::Remove,
                _ => Operation::Abort,
            }
        };
        match view.compute_copied(&key, decide) {
            Ok(Computed::Inserted(new)) => {
                assert_eq!((how % 3, old, new), (0, None, value));
                self.model.insert(key, value);
            }
            Ok(Computed::Replaced { old: before, new }) => {
                assert_eq!((how % 3, old, new), (0, Some(before), value));
                self.model.insert(key, value);
            }
            Ok(Computed::Removed(before)) => {
                assert_eq!((how % 3, old), (1, Some(before)));
                self.model.remove(&key);
            }
            Ok(_) => assert!(how % 3 == 2 || how % 3 == 1 && old.is_none()),
            Err(error) => {
                assert_eq!(how % 3, 0);
                self.refused(&key, value, error, failures);
            }
        }
    }

    /// Compares lookups and scans.
    fn read(&self, view: &View<B, L>, how: usize, one: &Vec<u8>, two: &Vec<u8>) {
        let model = &self.model;
        let owned = |(key, value): (&Vec<u8>, &u64)| (key.clone(), *value);
        match how % 7 {
            0 | 1 => {
                assert_eq!(view.get_copied(one), model.get(one).copied(), "{one:?}");
                assert_eq!(view.contains_key(two), model.contains_key(two), "{two:?}");
                let keys = [&one[..], b"", &two[..two.len() / 2], two];
                let expected = keys.map(|key| model.get(key).copied());
                assert_eq!(view.get_many_copied(keys), expected);
            }
            2 => {
                let mut found = Vec::new();
                let next = view.lower_bound_copied(Excluded(one), &mut found);
                let next = next.map(|value| (found.clone(), value));
                let after = (Excluded(one), Unbounded);
                assert_eq!(next, model.range::<Vec<u8>, _>(after).next().map(owned));
                let next = view.upper_bound_copied(Included(one), &mut found);
                let next = next.map(|value| (found.clone(), value));
                assert_eq!(next, model.range::<Vec<u8>, _>(..=one).next_back().map(owned));
            }
            3 => {
                let (from, to) = if one <= two { (one, two) } else { (two, one) };
                let expected = model.range::<Vec<u8>, _>(from..=to).map(owned);
                assert!(view.range_copied(from..=to).eq(expected.clone()));
                assert!(view.range_copied(from..=to).rev().eq(expected.rev()));
                assert!(from == to || view.range_copied(to..=from).next().is_none());
            }
            4 => {
                let begins = |key: &[u8]| key.starts_with(one);
                let expected = model.iter().map(owned).filter(|(key, _)| begins(key));
                assert!(view.prefix_copied(one).eq(expected));
                let prefixes = (0..=two.len()).rev().map(|length| &two[..length]);
                let mut found = prefixes.filter_map(|part| Some((part, *model.get(part)?)));
                assert_eq!(view.longest_prefix_copied(two), found.next());
            }
            5 => {
                let mut scan = view.iter_copied();
                let mut expected = model.iter().map(owned);
                for byte in one {
                    if byte % 2 == 0 {
                        assert_eq!(scan.next(), expected.next());
                    } else {
                        assert_eq!(scan.next_back(), expected.next_back());
                    }
                }
                assert!(scan.eq(expected));
            }
            _ => {
                let mut visited = Vec::new();
                view.for_each_copied(one.., |key, value| visited.push((key.to_vec(), value)));
                assert!(visited.into_iter().eq(model.range(one.clone()..).map(owned)));
            }
        }
    }

    /// Removes some entries in other ways than by key.
    fn shrink(&mut self, view: &View<B, L>, how: usize, key: &[u8]) {
        let mut popped = Vec::new();
        match how % 4 {
            0 => {
                let first = view.pop_first_copied(&mut popped);
                assert_eq!(first.map(|value| (popped, value)), self.model.pop_first());
            }
            1 => {
                let last = view.pop_last_copied(&mut popped);
                assert_eq!(last.map(|value| (popped, value)), self.model.pop_last());
            }
            2 => {
                let is_kept = |other: &[u8], value: u64| other < key || !value.is_multiple_of(3);
                view.retain_copied(is_kept);
                self.model.retain(|other, value| is_kept(other, *value));
            }
            _ => {
                view.clear();
                self.model.clear();
            }
        }
    }

    /// The traits of std's collections, which panic for lack of memory.
    fn as_collection(&mut self, key: &[u8]) {
        if self.has_limit || self.refuses_before > self.backing.requests() {
            return;
        }
        let mut copy = self.trie.clone();
        assert!(copy == *self.trie);
        let value = self.value();
        if key.len() <= self.longest.min(LONGEST - 4) && self.model.len() < self.max_entries {
            copy.extend([(key, 0), (key, value)]);
            assert!(copy != *self.trie);
            (&copy).extend(self.model.iter().map(|(key, value)| (key, *value)));
            assert_eq!(copy.len(), self.model.len() + usize::from(!self.model.contains_key(key)));
            let _ = copy.pin().insert_copied(key, value).expect("it is present");
            let _ = self.trie.pin().insert_copied(key, value).expect("room for one");
            self.model.insert(key.to_vec(), value);
        }
        let entries = copy.pin().iter_copied().collect::<Vec<_>>();
        let collected: QpTrie<u64, B, L> = entries.into_iter().collect();
        assert!(collected == *self.trie);
    }

    fn grace_period(&self, how: usize, is_outside: bool) {
        let domain = self.trie.domain();
        match how % 5 {
            0 => match self.trie.quiesce() {
                Ok(_) => assert!(is_outside),
                Err(SynchronizeError::InsideReadSection) => assert!(!is_outside),
                Err(other) => panic!("{other}"),
            },
            1 => _ = self.trie.trim(),
            2 => self.trie.tend(),
            3 => assert_eq!(domain.advance(domain.start_poll()), is_outside),
            _ => assert_eq!(domain.synchronize().is_ok(), is_outside),
        }
    }

    /// Inserts or removes keys that differ in one byte, so that a branch grows or shrinks.
    fn row(&mut self, view: &View<B, L>, key: &[u8], bytes: std::ops::Range<u8>, inserts: bool) {
        for byte in bytes {
            let key = [key, &[byte]].concat();
            if inserts {
                self.update(view, key, Update::Any);
            } else {
                assert_eq!(view.remove_copied(&key), self.model.remove(&key), "{key:?}");
            }
        }
    }

    /// Runs the script until the section ends, or to its end. `nested` is the number of sections
    /// around this level.
    fn section(&mut self, script: &mut Script<'_>, nested: usize) -> Option<()> {
        let trie = self.trie;
        let section = (nested > 0).then(|| trie.pin());
        // References, and the values that they have to keep as long as the section lasts.
        let mut held: Vec<(&u64, u64)> = Vec::new();
        let outcome = loop {
            match self.step(script, nested) {
                Some(Next::Step) => {}
                Some(Next::Enter) if nested < MOST_NESTED => {
                    if self.section(script, nested + 1).is_none() {
                        break None;
                    }
                }
                Some(Next::Leave) if nested > 0 => break Some(()),
                Some(Next::Hold(key)) => {
                    if let Some(section) = &section {
                        held.extend(L::get(section, &key).map(|value| (value, *value)));
                    }
                }
                Some(Next::Enter | Next::Leave) => {}
                None => break None,
            }
        };
        held.iter().for_each(|(value, expected)| assert_eq!(*value, expected));
        outcome
    }

    fn step(&mut self, script: &mut Script<'_>, nested: usize) -> Option<Next> {
        let trie = self.trie;
        let view = trie.pin();
        match script.operation(24)? {
            how @ 0..=5 => {
                let how = [Update::Any, Update::Any, Update::NoExist, Update::Exist][how % 4];
                self.update(&view, key(script)?, how);
            }
            6..=8 => {
                let key = key(script)?;
                assert_eq!(view.remove_copied(&key), self.model.remove(&key), "{key:?}");
            }
            9..=11 => self.read(&view, script.below(256)?, &key(script)?, &key(script)?),
            12 => self.compute(&view, key(script)?, script.below(256)?),
            13 => self.shrink(&view, script.below(256)?, &key(script)?),
            14 | 15 => {
                let (how, keys) = (script.below(256)?, [key(script)?, key(script)?]);
                L::compare(&view, &mut self.model, how, keys);
            }
            16 => {
                drop(view);
                self.as_collection(&key(script)?);
            }
            17 => {
                drop(view);
                self.grace_period(script.below(256)?, nested == 0);
            }
            18 => {
                let first = self.backing.requests() + script.below(4)? as u64;
                self.refuses_before = first + script.below(8)? as u64;
                self.backing.fail(first..self.refuses_before);
            }
            how @ (19 | 20) => {
                let (key, first, count) = (key(script)?, script.byte()?, script.byte()?);
                self.row(&view, &key, first..first.saturating_add(count), how == 19);
            }
            21 => return Some(Next::Enter),
            22 => return Some(Next::Leave),
            _ => return Some(Next::Hold(key(script)?)),
        }
        assert_eq!(trie.len(), self.model.len());
        Some(Next::Step)
    }

    /// Compares the entries, and the memory of the idle trie.
    fn end(self) {
        let Self { trie, model, backing, .. } = self;
        backing.fail(0..0);
        let owned = |(key, value): (&Vec<u8>, &u64)| (key.clone(), *value);
        assert!(trie.pin().iter_copied().eq(model.iter().map(owned)));
        assert!(model.iter().all(|(key, value)| trie.pin().get_copied(key) == Some(*value)));
        trie.quiesce().expect("no section is left");
        let usage = trie.memory_usage();
        assert_eq!(usage.branches.taken.objects, branches(&model), "branches");
        assert_eq!(usage.leaves.taken.objects, model.len() as u64, "leaves");
    }
}

/// The effect of a step on the sections.
enum Next {
    Step,
    Enter,
    Leave,
    /// Keep a reference to the value of this key.
    Hold(Vec<u8>),
}

fn run<B: ReusePolicy, L: Leaves>(setup: Setup, script: &mut Script<'_>) -> Option<()> {
    let settings = script.byte()?;
    let is_set = |bit: u32| settings >> bit & 1 == 1;
    let backing = Arc::new(FailOnDemand::new(Behind::default()));
    let builder = QpTrie::<u64, B, L>::builder().cpu_mode(setup.cpu_mode).domain(setup.domain());
    let mut builder = builder.backing(Arc::clone(&backing)).range_bytes(256 << 20);
    if is_set(0) {
        builder = builder.hints(Hints::On);
    }
    let (max_entries, longest) =
        (if is_set(1) { 40 } else { usize::MAX }, if is_set(2) { 64 } else { 4095 });
    builder = builder.max_entries(max_entries as u64).max_key_len(longest);
    if is_set(3) {
        builder = builder.max_pending(16 << 10);
    }
    let has_limit = is_set(4) && is_set(5);
    if has_limit {
        builder = builder.limit_bytes(5 << 16);
    }
    let trie = builder.reader_retries(1).build().expect("a trie");
    let model = Model::new();
    let mut run = Run {
        trie: &trie,
        backing: &backing,
        model,
        max_entries,
        longest,
        has_limit,
        refuses_before: 0,
        last: 0,
    };
    while run.section(script, 0).is_some() {}
    run.end();
    drop(trie);
    assert_eq!(Arc::strong_count(&backing), 1, "nothing is held");
    Some(())
}

fn with_branches<B: ReusePolicy>(leaves: usize, setup: Setup, script: &mut Script<'_>) {
    match leaves {
        0 => run::<B, Immediate>(setup, script),
        1 => run::<B, AfterRcuGp>(setup, script),
        2 => run::<B, FreeAfterRcuGp>(setup, script),
        _ => run::<B, AfterTasksTraceGp>(setup, script),
    };
}

/// Reads the policies and the setup, and follows the rest of the script.
fn follow(input: &[u8]) -> Option<()> {
    let mut script = Script::new(input);
    let (branches, leaves) = (script.below(4)?, script.below(4)?);
    let setups: Vec<_> = Setup::every().collect();
    let setup = setups[script.below(setups.len())?];
    match branches {
        0 => with_branches::<Immediate>(leaves, setup, &mut script),
        1 => with_branches::<AfterRcuGp>(leaves, setup, &mut script),
        2 => with_branches::<FreeAfterRcuGp>(leaves, setup, &mut script),
        _ => with_branches::<AfterTasksTraceGp>(leaves, setup, &mut script),
    }
    Some(())
}

#[test]
fn any_script_does_the_same_as_on_a_btree_map() {
    bolero::check!(name = "trie")
        .with_iterations(300)
        .with_max_len(4096)
        .for_each(|input: &[u8]| _ = follow(input));
}
