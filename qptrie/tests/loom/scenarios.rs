//! What the writer does while the reader looks a key up.

use crate::breaks::WRONG_ANSWER;
use crate::explore::Seen;
use loom::thread;
use memalloc::rcu::Domain;
use memalloc::{Immediate, ReusePolicy};
use qptrie::{Fault, QpTrie};
use std::sync::Arc;

/// The key that is always there: below the branch that the writer reuses.
const KEY: &[u8] = &[0x11, 0x77];

/// Its sibling in that branch.
const SIBLING: &[u8] = &[0x12];

/// A lookup could not believe what it saw, and took locks.
pub(crate) const TURNED_AWAY: &str = "took locks";
/// A lookup found the first value.
pub(crate) const FOUND: &str = "found";
/// A lookup found the second value.
pub(crate) const NEWER: &str = "found the newer value";

/// What happens to the branch `X` of `KEY` and `SIBLING`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// `X` hangs on the root. It is copied to make room for a third key, and its memory becomes
    /// a branch that tests another nibble, below `SIBLING`.
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

fn built<B: ReusePolicy>(fault: Option<Fault>) -> Trie<B> {
    // One try without locks: another one is like the first, only that it knows more.
    let builder = QpTrie::builder().domain(Domain::new()).reader_retries(0);
    match fault {
        Some(fault) => builder.fault(fault),
        None => builder,
    }
    .build()
    .expect("a model needs no system")
}

/// Runs one execution: a reader looks `KEY` up, which is always there.
pub(crate) fn reader_against_writer<B: ReusePolicy>(
    scenario: Scenario,
    fault: Option<Fault>,
    seen: &Seen,
) {
    let trie = Arc::new(built::<B>(fault));
    put(&trie, KEY);
    put(&trie, SIBLING);
    if scenario.has_parent() {
        put(&trie, &[0x21]);
    }
    let reader = {
        let trie = Arc::clone(&trie);
        thread::spawn(move || trie.pin().get(KEY).copied())
    };
    match scenario {
        Scenario::Reused | Scenario::ChildMoves => {
            put(&trie, &[0x13]);
            put(&trie, &[0x12, 0x55]);
        }
        Scenario::Frozen => {
            put(&trie, &[0x31]);
            put(&trie, &[0x13]);
            put(&trie, &[0x12, 0x55]);
        }
        Scenario::Merged => {
            trie.pin().remove(SIBLING).expect("it was put there");
            put(&trie, &[0x21, 0x55]);
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
    seen.note(TURNED_AWAY, trie.stats().fallbacks > 0);
}

/// A leaf that is published in an empty subtree is seen whole, or not at all.
pub(crate) fn lone_leaf(seen: &Seen) {
    let trie = Arc::new(built::<Immediate>(None));
    let reader = {
        let trie = Arc::clone(&trie);
        thread::spawn(move || trie.pin().get(KEY).copied())
    };
    put(&trie, KEY);
    let found = reader.join().expect("the reader does not panic");
    assert!(found.is_none_or(|value| value == 1));
    seen.note(FOUND, found.is_some());
}
