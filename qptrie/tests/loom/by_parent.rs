//! Replacing a value beside another writer: a hint leads to the leaf, and the leaf's parent to its
//! slot. The branch that was the parent when the leaf was linked changes at the same time.

use crate::breaks::breaks;
use crate::explore::{Model, Seen};
use loom::thread;
use memalloc::rcu::Domain;
use memalloc::{AfterRcuGp, Immediate, ReusePolicy};
use qptrie::{Fault, Hints, QpTrie};
use std::sync::Arc;

/// The panic message when results and contents fit no order.
const NO_ORDER: &str = "results that fit no order";

const FIRST_TO_CHANGE: &str = "the replacement came first";
const LAST_TO_CHANGE: &str = "the replacement came last";

// Below one root.
const KEY: &[u8] = b"11";
const SIBLING: &[u8] = b"22";
const OTHER: &[u8] = b"33";
/// Forks above the leaf of `KEY`.
const BELOW_KEY: &[u8] = b"1155";
/// Forks above the leaf of `SIBLING`.
const BELOW_SIBLING: &[u8] = b"2255";

const OLD: u64 = 0x1_0000_0002;
const NEW: u64 = 0x3_0000_0004;
const OTHERS: u64 = 0x5_0000_0006;

type Trie<B> = Arc<QpTrie<u64, B, AfterRcuGp>>;

fn put<B: ReusePolicy>(trie: &Trie<B>, key: &[u8], value: u64) -> Option<u64> {
    trie.pin().insert_copied(key, value).expect("the model has memory for it")
}

/// The other writer's changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scenario {
    /// The parent gets a twig more, so it is copied.
    Grown,
    /// Like `Grown`, and its memory becomes a branch elsewhere.
    Reused,
    /// Like `Grown`, and its memory becomes the new parent of the same leaf.
    ReusedAbove,
    /// The parent loses its other twig, so the leaf moves up to the root.
    Shrunk,
    /// The key is removed, which empties its slot in the parent.
    Removed,
    /// The key is removed, and the parent with it.
    RemovedWithParent,
    /// The value is replaced, also by hint and parent.
    Replaced,
}

impl Scenario {
    fn built<B: ReusePolicy>(self, fault: Option<Fault>) -> Trie<B> {
        let builder = QpTrie::builder().domain(Domain::new()).reader_retries(0).hints(Hints::On);
        let builder = match fault {
            Some(fault) => builder.fault(fault),
            None => builder,
        };
        let trie = Arc::new(builder.build().expect("a model needs no system"));
        // The leaf of `KEY` is linked last, so that its parent is the branch in its final size.
        put(&trie, SIBLING, OTHERS);
        if self == Self::Removed {
            put(&trie, OTHER, OTHERS);
        }
        put(&trie, KEY, OLD);
        trie
    }

    /// Changes the trie. Returns what a change of `KEY` returned.
    fn change<B: ReusePolicy>(self, trie: &Trie<B>) -> Option<u64> {
        match self {
            Self::Grown => put(trie, OTHER, OTHERS),
            Self::Reused => {
                put(trie, OTHER, OTHERS);
                put(trie, BELOW_SIBLING, OTHERS)
            }
            Self::ReusedAbove => {
                put(trie, OTHER, OTHERS);
                put(trie, BELOW_KEY, OTHERS)
            }
            Self::Shrunk => trie.pin().remove_copied(SIBLING).filter(|&value| value != OTHERS),
            Self::Removed | Self::RemovedWithParent => trie.pin().remove_copied(KEY),
            Self::Replaced => put(trie, KEY, OTHERS),
        }
    }

    /// Returns the other keys that are there at the end, in order.
    fn others(self) -> &'static [&'static [u8]] {
        match self {
            Self::Grown | Self::Removed => &[SIBLING, OTHER],
            Self::Reused => &[SIBLING, BELOW_SIBLING, OTHER],
            Self::ReusedAbove => &[BELOW_KEY, SIBLING, OTHER],
            Self::Shrunk => &[],
            Self::RemovedWithParent | Self::Replaced => &[SIBLING],
        }
    }
}

/// Runs one execution.
fn replaced_beside<B: ReusePolicy>(scenario: Scenario, fault: Option<Fault>, seen: &Seen) {
    let trie = scenario.built::<B>(fault);
    let other = {
        let trie = Arc::clone(&trie);
        thread::spawn(move || scenario.change(&trie))
    };
    let returned = put(&trie, KEY, NEW);
    let others = other.join().expect("the writer does not panic");
    // A scan uses no hints.
    let mut entries: Vec<(Vec<u8>, u64)> = trie.pin().iter_copied().collect();
    let last = entries.iter().position(|(key, _)| key == KEY).map(|place| entries.remove(place).1);
    let hinted = trie.pin().get_copied(KEY);
    let (first, second) = match (returned, others, last) {
        (Some(OLD), None, Some(NEW)) => (true, true),
        (Some(OLD), Some(NEW), None | Some(OTHERS)) => (true, false),
        (None | Some(OTHERS), Some(OLD), Some(NEW)) => (false, true),
        _ => (false, false),
    };
    let right = scenario.others().iter().map(|key| (key.to_vec(), OTHERS));
    let changes_key =
        matches!(scenario, Scenario::Removed | Scenario::RemovedWithParent | Scenario::Replaced);
    let is_right = (first || second)
        && (changes_key || (first && second))
        && hinted == last
        && right.eq(entries.iter().cloned())
        && trie.len() == entries.len() + usize::from(last.is_some());
    if !is_right {
        std::mem::forget(trie);
        panic!("{NO_ORDER}: {returned:?} {others:?}, and then {last:?} {hinted:?} {entries:?}");
    }
    seen.note(FIRST_TO_CHANGE, first);
    seen.note(LAST_TO_CHANGE, second);
}

/// Explores a scenario with up to `bound` preemptions. A bound of one is given to
/// scenarios that take more than five minutes with two.
fn holds<B: ReusePolicy>(name: &'static str, scenario: Scenario, bound: usize) {
    let happens = &[FIRST_TO_CHANGE, LAST_TO_CHANGE];
    let model = Model { name, bound: Some(bound), least: 50, happens };
    model.explore(move |seen| replaced_beside::<B>(scenario, None, seen));
}

fn fails<B: ReusePolicy>(name: &str, scenario: Scenario, fault: Fault) {
    breaks(name, NO_ORDER, move || {
        replaced_beside::<B>(scenario, Some(fault), &Seen::default());
    });
}

#[test]
fn a_value_is_replaced_through_the_parent_of_its_leaf_though_the_parent_is_replaced() {
    holds::<Immediate>("parent grown", Scenario::Grown, 2);
    holds::<AfterRcuGp>("parent grown, deferred branches", Scenario::Grown, 1);
    holds::<Immediate>("parent merged away", Scenario::Shrunk, 2);
}

#[test]
fn a_value_is_replaced_through_the_parent_of_its_leaf_though_the_parent_is_reused() {
    holds::<Immediate>("parent reused elsewhere", Scenario::Reused, 1);
    holds::<Immediate>("parent reused above the leaf", Scenario::ReusedAbove, 1);
}

#[test]
fn a_value_is_replaced_through_the_parent_of_its_leaf_or_removed_first() {
    holds::<Immediate>("removed, parent stays", Scenario::Removed, 2);
    holds::<Immediate>("removed with the parent", Scenario::RemovedWithParent, 2);
}

#[test]
fn two_replacements_through_the_parent_of_a_leaf_follow_each_other() {
    holds::<Immediate>("replaced twice through the parent", Scenario::Replaced, 1);
}

#[test]
fn a_value_is_lost_when_the_parent_of_its_leaf_is_not_locked() {
    let fault = Fault::ParentUnlocked;
    for (name, scenario) in [
        ("parent not locked, grown", Scenario::Grown),
        ("parent not locked, merged away", Scenario::Shrunk),
        ("parent not locked, removed", Scenario::Removed),
        ("parent not locked, replaced", Scenario::Replaced),
    ] {
        fails::<Immediate>(name, scenario, fault);
    }
}

#[test]
fn a_value_is_lost_when_the_life_of_the_parent_is_ignored() {
    let fault = Fault::ParentLifeIgnored;
    fails::<Immediate>("parent's life ignored, grown", Scenario::Grown, fault);
    fails::<Immediate>("parent's life ignored, merged away", Scenario::Shrunk, fault);
    fails::<AfterRcuGp>("parent's life ignored, grown", Scenario::Grown, fault);
}

#[test]
fn a_value_is_lost_when_the_slot_in_the_parent_is_not_checked_under_the_lock() {
    let fault = Fault::SlotNotCheckedUnderLock;
    fails::<Immediate>("parent's slot not checked, removed", Scenario::Removed, fault);
    fails::<Immediate>("parent's slot not checked, replaced", Scenario::Replaced, fault);
}
