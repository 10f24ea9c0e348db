//! What the writer does while the reader looks a key up.

use crate::breaks::WRONG_ANSWER;
use crate::explore::Seen;
use loom::thread;
use memalloc::rcu::Domain;
use memalloc::{Immediate, ReusePolicy};
use qptrie::{Fault, QpTrie};
use std::ops::Bound::Excluded;
use std::sync::Arc;

/// The key that is always there: below the branch that the writer reuses.
const KEY: &[u8] = b"1177";

/// Before it, with nothing in between.
const BOUND: &[u8] = b"1144";

/// Its sibling in that branch.
const SIBLING: &[u8] = b"12";

/// A reader could not believe what it saw.
pub(crate) const TURNED_AWAY: &str = "turned away";
/// A lookup found the first value.
pub(crate) const FOUND: &str = "found";
/// A lookup found the second value.
pub(crate) const NEWER: &str = "found the newer value";

/// What happens to the branch `X` of `KEY` and `SIBLING`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// `X` hangs on the root. It is copied to make room for a third key, and its memory becomes
    /// a branch that tests another byte, below `SIBLING`.
    Reused,
    /// The same below a parent that stays linked.
    ChildMoves,
    /// The parent is copied first, and its memory left alone: its count and its slots stand
    /// still while `X` is reused.
    Frozen,
    /// `SIBLING` is removed, so that `KEY` takes the place of `X`; its memory becomes a branch
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
    // One try without locks: another one is like the first, only that it knows more.
    let builder = QpTrie::builder().domain(Domain::new()).reader_retries(0);
    match fault {
        Some(fault) => builder.fault(fault),
        None => builder,
    }
    .build()
    .expect("a model needs no system")
}

/// How the reader comes by `KEY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// By a lookup.
    Up,
    /// By a seek for the first key from some place on.
    Ahead,
    /// By a scan from the least key to the greatest.
    Forwards,
    /// By a scan from the greatest key to the least.
    Backwards,
}

impl Look {
    /// The value of `KEY`, if the reader came by it and, where `SIBLING` is always there too, by
    /// that.
    fn run<B: ReusePolicy>(self, trie: &Trie<B>, scenario: Scenario) -> Option<u64> {
        let view = trie.pin();
        let mut entries: Vec<(&[u8], &u64)> = Vec::new();
        // As far as the last key that is always there: what comes behind it is not asked about.
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
    stats.retries + stats.fallbacks > 0
}

/// Runs one execution: a reader looks for `KEY`, which is always there.
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
        // Ending the trie takes a working model, which a panic ends first.
        std::mem::forget(trie);
        panic!("{WRONG_ANSWER}");
    }
    seen.note(FOUND, found == Some(1));
    seen.note(NEWER, found == Some(2));
    seen.note(TURNED_AWAY, turned_away(&trie));
}

/// Runs one execution: a reader asks for the first key beyond a bound, which is `KEY`, while the
/// writer puts a lesser one where the branch of `KEY` hangs.
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

/// Runs one execution: a scan that stands on the parent of `X` goes on after its own thread made
/// `X` move and reused it, while another writer copies the parent.
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

/// A leaf that is published in an empty subtree is seen whole, or not at all.
pub(crate) fn lone_leaf(look: Look, seen: &Seen) {
    let trie = Arc::new(built::<Immediate>(None));
    let reader = {
        let trie = Arc::clone(&trie);
        // That there is no sibling is as when it was merged away.
        thread::spawn(move || look.run(&trie, Scenario::Merged))
    };
    put(&trie, KEY);
    let found = reader.join().expect("the reader does not panic");
    assert!(found.is_none_or(|value| value == 1));
    seen.note(FOUND, found.is_some());
}
