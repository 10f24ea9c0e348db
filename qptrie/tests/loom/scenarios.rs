//! Actions of the writer while the reader looks up a key.

use crate::explore::Seen;
use loom::thread;
use memalloc::rcu::Domain;
use memalloc::{Immediate, ReusePolicy};
use qptrie::{Fault, QpTrie};
use std::ops::Bound::Excluded;
use std::sync::Arc;

/// A key that is always there, below the branch that the writer reuses.
const KEY: &[u8] = b"1177";

/// A bound before `KEY`, with no key in between.
const BOUND: &[u8] = b"1144";

/// The sibling of `KEY` in that branch.
const SIBLING: &[u8] = b"12";

/// The panic message when a reader misses a key.
pub(crate) const WRONG_ANSWER: &str = "a key that was always there is reported absent";

/// A reader had to retry.
pub(crate) const TURNED_AWAY: &str = "turned away";
/// A lookup found the first value.
pub(crate) const FOUND: &str = "found";
/// A lookup found the second value.
pub(crate) const NEWER: &str = "found the newer value";

/// Changes to the branch `X` of `KEY` and `SIBLING`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// `X` is directly below the root. It is copied to make room for a third key, and its memory
    /// becomes a branch that tests another byte, below `SIBLING`.
    Reused,
    /// Like `Reused`, below a parent that stays linked.
    ChildMoves,
    /// The parent is copied first, and its memory is not reused: its count and its slots do not
    /// change while `X` is reused.
    Frozen,
    /// `SIBLING` is removed, so `KEY` takes the place of `X`, whose memory becomes a branch
    /// elsewhere.
    Merged,
    /// `X` stays, and the value of `KEY` is replaced.
    Replaced,
}

impl Scenario {
    fn has_parent(self) -> bool {
        matches!(self, Self::ChildMoves | Self::Frozen | Self::Merged)
    }
}

type Trie<B> = QpTrie<u64, B>;

fn put<B: ReusePolicy>(trie: &Trie<B>, key: &[u8]) {
    trie.pin().insert(key, 1).expect("the model has memory for it");
}

pub(crate) fn built<B: ReusePolicy>(fault: Option<Fault>) -> Trie<B> {
    // One attempt without insisting: a further attempt is the same as a first one that begins
    // later.
    let builder = QpTrie::builder().domain(Domain::new()).reader_retries(0);
    match fault {
        Some(fault) => builder.fault(fault),
        None => builder,
    }
    .build()
    .expect("a model needs no system")
}

/// The operation by which the reader reaches `KEY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// A lookup.
    Up,
    /// A seek for the first key after a bound.
    Ahead,
    /// A scan from the smallest key to the greatest.
    Forwards,
    /// A scan from the greatest key to the smallest.
    Backwards,
}

impl Look {
    /// Returns the value of `KEY`, if the reader found it, and, in scenarios where `SIBLING` is
    /// always there, found that too.
    fn run<B: ReusePolicy>(self, trie: &Trie<B>, scenario: Scenario) -> Option<u64> {
        let view = trie.pin();
        let mut entries: Vec<(&[u8], &u64)> = Vec::new();
        // Scan up to the last key that is always there; later entries are not checked.
        match self {
            Self::Up => return view.get(KEY).copied(),
            Self::Ahead => {
                let next = view.lower_bound(Excluded(BOUND));
                return next.filter(|(key, _)| *key == KEY).map(|(_, value)| *value);
            }
            Self::Forwards => {
                let mut scan = view.iter();
                while entries.last().is_none_or(|(key, _)| *key < SIBLING)
                    && let Some(entry) = scan.next()
                {
                    entries.push(entry);
                }
            }
            Self::Backwards => {
                let mut scan = view.iter();
                while entries.last().is_none_or(|(key, _)| *key > KEY)
                    && let Some(entry) = scan.next_back()
                {
                    entries.push(entry);
                }
                entries.reverse();
            }
        }
        let both = scenario == Scenario::Merged || entries.iter().any(|(key, _)| *key == SIBLING);
        let found = entries.iter().find(|(key, _)| *key == KEY && both);
        if found.is_some() {
            assert!(entries.is_sorted_by(|a, b| a.0 < b.0), "a scan out of order: {entries:?}");
        }
        found.map(|(_, value)| **value)
    }
}

fn turned_away<B: ReusePolicy>(trie: &Trie<B>) -> bool {
    let stats = trie.stats();
    stats.retries + stats.insisted > 0
}

/// Runs one execution: a reader looks up `KEY`, which is always there.
pub(crate) fn reader_against_writer<B: ReusePolicy>(
    scenario: Scenario,
    look: Look,
    fault: Option<Fault>,
    seen: &Seen,
) {
    let trie = Arc::new(built::<B>(fault));
    put(&trie, KEY);
    put(&trie, SIBLING);
    if scenario.has_parent() {
        put(&trie, b"21");
    }
    let reader = {
        let trie = Arc::clone(&trie);
        thread::spawn(move || look.run(&trie, scenario))
    };
    match scenario {
        Scenario::Reused | Scenario::ChildMoves => {
            put(&trie, b"13");
            put(&trie, b"1255");
        }
        Scenario::Frozen => {
            put(&trie, b"31");
            put(&trie, b"13");
            put(&trie, b"1255");
        }
        Scenario::Merged => {
            trie.pin().remove(SIBLING).expect("it was put there");
            put(&trie, b"2155");
        }
        Scenario::Replaced => {
            trie.pin().insert(KEY, 2).expect("the model has memory for it");
        }
    }
    let found = reader.join().expect("the reader does not panic");
    if found.is_none() {
        // Dropping the trie needs a running model, which a panic ends first.
        std::mem::forget(trie);
        panic!("{WRONG_ANSWER}");
    }
    seen.note(FOUND, found == Some(1));
    seen.note(NEWER, found == Some(2));
    seen.note(TURNED_AWAY, turned_away(&trie));
}

/// Runs one execution: a reader looks for the first key after a bound, which is `KEY`, while the
/// writer inserts a smaller key above the branch of `KEY`.
pub(crate) fn seek_against_writer<B: ReusePolicy>(fault: Option<Fault>, seen: &Seen) {
    let trie = Arc::new(built::<B>(fault));
    put(&trie, KEY);
    put(&trie, b"1178");
    let reader = {
        let trie = Arc::clone(&trie);
        thread::spawn(move || {
            let view = trie.pin();
            view.lower_bound(Excluded(BOUND)).is_some_and(|(key, _)| key == KEY)
        })
    };
    put(&trie, b"1111");
    if !reader.join().expect("the reader does not panic") {
        std::mem::forget(trie);
        panic!("{WRONG_ANSWER}");
    }
    seen.note(TURNED_AWAY, turned_away(&trie));
}

/// Runs one execution: a scan that stands on the parent of `X` continues after its own thread moved
/// `X` and reused its memory, while another writer copies the parent.
pub(crate) fn scan_beside_two_writers<B: ReusePolicy>(fault: Option<Fault>, seen: &Seen) {
    let trie = Arc::new(built::<B>(fault));
    for key in [KEY, SIBLING, b"01"] {
        put(&trie, key);
    }
    let (writer, found) = {
        let view = trie.pin();
        let mut scan = view.iter();
        assert_eq!(scan.next(), Some((&b"01"[..], &1)));
        let writer = {
            let trie = Arc::clone(&trie);
            thread::spawn(move || put(&trie, b"31"))
        };
        put(&trie, b"13");
        put(&trie, b"1255");
        (writer, scan.any(|(key, _)| key == KEY))
    };
    writer.join().expect("the writer does not panic");
    if !found {
        std::mem::forget(trie);
        panic!("{WRONG_ANSWER}");
    }
    seen.note(TURNED_AWAY, turned_away(&trie));
}

/// A leaf that is published in an empty subtree is seen completely, or not at all.
pub(crate) fn lone_leaf(look: Look, seen: &Seen) {
    let trie = Arc::new(built::<Immediate>(None));
    let reader = {
        let trie = Arc::clone(&trie);
        // As in `Merged`, there is no sibling to find.
        thread::spawn(move || look.run(&trie, Scenario::Merged))
    };
    put(&trie, KEY);
    let found = reader.join().expect("the reader does not panic");
    assert!(found.is_none_or(|value| value == 1));
    seen.note(FOUND, found.is_some());
}

/// Like `lone_leaf`, with the leaf of the empty key, which is a prefix of every key.
pub(crate) fn lone_prefix(seen: &Seen) {
    let trie = Arc::new(built::<Immediate>(None));
    let reader = {
        let trie = Arc::clone(&trie);
        thread::spawn(move || trie.pin().longest_prefix(KEY).map(|(_, value)| *value))
    };
    put(&trie, b"");
    let found = reader.join().expect("the reader does not panic");
    assert!(found.is_none_or(|value| value == 1));
    seen.note(FOUND, found.is_some());
}
