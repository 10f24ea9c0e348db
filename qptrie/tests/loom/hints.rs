//! Lookups by hint beside a writer. In a model hints are never removed, so that stale ones are
//! used.
//!
//! A reader asks twice, once by a hint and once by a scan, which does not use hints, in either
//! order. Its answers have to fit the order in which the writer changed the key.

use crate::breaks::breaks;
use crate::explore::{Model, Seen};
use loom::thread;
use memalloc::rcu::Domain;
use memalloc::{AfterRcuGp, Immediate, ReusePolicy};
use qptrie::{Fault, Hints, InsertErrorKind, QpTrie, Update};
use std::sync::Arc;

/// The panic message when a reader's answers fit no order.
const NO_ORDER: &str = "answers that fit no order";
/// The panic message when the results of two writers fit no order.
const LOST_VALUE: &str = "a value that came back twice, or never";

const FOUND: &str = "found";
const NEWER: &str = "found the newer value";
const NOTHING: &str = "found nothing";

// Keys of the same length, so that their leaves have the same size class; below one root.
const KEY: &[u8] = b"11";
const OTHER: &[u8] = b"22";

const FIRST: u64 = 0x1_0000_0002;
const SECOND: u64 = 0x3_0000_0004;
const THIRD: u64 = 0x5_0000_0006;

type Trie<L> = Arc<QpTrie<u64, Immediate, L>>;

fn built<L: ReusePolicy>(fault: Option<Fault>) -> Trie<L> {
    let builder = QpTrie::builder().domain(Domain::new()).reader_retries(0).hints(Hints::On);
    let builder = match fault {
        Some(fault) => builder.fault(fault),
        None => builder,
    };
    Arc::new(builder.build().expect("a model needs no system"))
}

fn put<L: ReusePolicy>(trie: &Trie<L>, key: &[u8], value: u64) -> Option<u64> {
    trie.pin().insert_copied(key, value).expect("the model has memory for it")
}

fn remove<L: ReusePolicy>(trie: &Trie<L>, key: &[u8]) -> Option<u64> {
    trie.pin().remove_copied(key)
}

/// The two ways in which a reader asks for `KEY`, in order.
#[derive(Clone, Copy, Debug)]
enum Asks {
    HintFirst,
    ScanFirst,
    /// Like `ScanFirst`; by a hint it asks only whether the key is present.
    ScanThenWhetherThere,
}

impl Asks {
    fn run<L: ReusePolicy>(self, trie: &Trie<L>) -> [Option<u64>; 2] {
        let by_hint = || trie.pin().get_copied(KEY);
        let by_scan = || {
            let first = trie.pin().iter_copied().next();
            first.filter(|(key, _)| key == KEY).map(|(_, value)| value)
        };
        match self {
            Self::HintFirst => {
                let first = by_hint();
                [first, by_scan()]
            }
            Self::ScanFirst => {
                let first = by_scan();
                [first, by_hint()]
            }
            Self::ScanThenWhetherThere => {
                let first = by_scan();
                [first, trie.pin().contains_key(KEY).then_some(FIRST)]
            }
        }
    }
}

/// The fate of the leaf that the hint names.
#[derive(Clone, Copy, Debug)]
enum Scenario {
    /// Its key is removed.
    Removed,
    /// Its key is removed, and the leaf comes back with the same key.
    SameKey,
    /// Its key is removed, and the leaf comes back with another key.
    OtherKey,
    /// Its key gets another leaf, or, if leaves are reused at once, the leaf gets another value.
    Replaced,
    /// It is free, and is initialised as a leaf of the same key.
    Initialised,
    /// It is free, and is initialised as a leaf of another key.
    InitialisedForOther,
}

impl Scenario {
    fn prepare<L: ReusePolicy>(self, trie: &Trie<L>) {
        put(trie, KEY, FIRST);
        if matches!(self, Self::Initialised | Self::InitialisedForOther) {
            remove(trie, KEY);
            // Under every policy, the leaf is then the first to be reused.
            trie.quiesce().expect("outside of read sections");
        }
    }

    fn write<L: ReusePolicy>(self, trie: &Trie<L>) {
        match self {
            Self::Removed => {
                remove(trie, KEY);
            }
            Self::SameKey => {
                remove(trie, KEY);
                put(trie, KEY, SECOND);
            }
            Self::OtherKey => {
                remove(trie, KEY);
                put(trie, OTHER, SECOND);
            }
            Self::Replaced | Self::Initialised => {
                put(trie, KEY, SECOND);
            }
            Self::InitialisedForOther => {
                put(trie, OTHER, SECOND);
            }
        }
    }

    /// Returns the values that `KEY` has, in order.
    fn values(self) -> &'static [Option<u64>] {
        match self {
            Self::Removed | Self::OtherKey => &[Some(FIRST), None],
            Self::SameKey => &[Some(FIRST), None, Some(SECOND)],
            Self::Replaced => &[Some(FIRST), Some(SECOND)],
            Self::Initialised => &[None, Some(SECOND)],
            Self::InitialisedForOther => &[None],
        }
    }
}

/// Runs one execution.
fn hinted<L: ReusePolicy>(scenario: Scenario, asks: Asks, fault: Option<Fault>, seen: &Seen) {
    let trie = built::<L>(fault);
    scenario.prepare(&trie);
    let reader = {
        let trie = Arc::clone(&trie);
        thread::spawn(move || asks.run(&trie))
    };
    scenario.write(&trie);
    let [first, second] = reader.join().expect("the reader does not panic");
    let mut later = scenario.values().iter();
    if !(later.any(|value| *value == first)
        && (first == second || later.any(|value| *value == second)))
    {
        std::mem::forget(trie);
        panic!("{NO_ORDER}: {first:?}, then {second:?}");
    }
    seen.note(FOUND, [first, second].contains(&Some(FIRST)));
    seen.note(NEWER, [first, second].contains(&Some(SECOND)));
    seen.note(NOTHING, [first, second].contains(&None));
}

fn holds<L: ReusePolicy>(name: &'static str, scenario: Scenario, happens: &'static [&'static str]) {
    for asks in [Asks::HintFirst, Asks::ScanFirst] {
        let model = Model { name, bound: Some(2), least: 50, happens };
        model.explore(move |seen| hinted::<L>(scenario, asks, None, seen));
    }
}

fn fails<L: ReusePolicy>(name: &str, what: &str, scenario: Scenario, asks: Asks, fault: Fault) {
    breaks(name, what, move || hinted::<L>(scenario, asks, Some(fault), &Seen::default()));
}

/// Two writers at one leaf; one of them reaches it by a hint. The other removes the key, and the
/// leaf comes back with another key.
fn overwritten_by_hint(seen: &Seen) {
    let trie = built::<Immediate>(None);
    put(&trie, KEY, FIRST);
    let other = {
        let trie = Arc::clone(&trie);
        thread::spawn(move || {
            let removed = remove(&trie, KEY);
            put(&trie, OTHER, SECOND);
            removed
        })
    };
    let old = put(&trie, KEY, THIRD);
    let removed = other.join().expect("the writer does not panic");
    let view = trie.pin();
    let (last, others) = (view.get_copied(KEY), view.get_copied(OTHER));
    let overwritten_first = old == Some(FIRST) && removed == Some(THIRD) && last.is_none();
    let removed_first = old.is_none() && removed == Some(FIRST) && last == Some(THIRD);
    drop(view);
    if !(overwritten_first || removed_first) || others != Some(SECOND) {
        std::mem::forget(trie);
        panic!("{LOST_VALUE}: {old:?} {removed:?}, and then {last:?} {others:?}");
    }
    seen.note(FOUND, overwritten_first);
    seen.note(NOTHING, removed_first);
}

/// Two writers overwrite one leaf by a hint.
fn overwritten_twice_by_hint(fault: Option<Fault>, seen: &Seen) {
    let trie = built::<Immediate>(fault);
    put(&trie, KEY, FIRST);
    let other = {
        let trie = Arc::clone(&trie);
        thread::spawn(move || put(&trie, KEY, SECOND))
    };
    let old = put(&trie, KEY, THIRD);
    let others = other.join().expect("the writer does not panic");
    let last = trie.pin().get_copied(KEY);
    let mut all = [old, others, last];
    all.sort_unstable();
    if all != [Some(FIRST), Some(SECOND), Some(THIRD)] {
        std::mem::forget(trie);
        panic!("{LOST_VALUE}: {all:?}");
    }
    seen.note(NEWER, last == Some(SECOND));
}

/// A writer that accepts only an absent key, and another one that inserts the key meanwhile, so
/// that there is a hint for it.
fn inserted_meanwhile(seen: &Seen) {
    let trie = built::<Immediate>(None);
    let other = {
        let trie = Arc::clone(&trie);
        thread::spawn(move || put(&trie, KEY, SECOND))
    };
    let inserted = trie.pin().update_copied(KEY, FIRST, Update::NoExist);
    let inserted = inserted.map_err(|error| error.kind());
    let others = other.join().expect("the writer does not panic");
    let inserted_first = inserted == Ok(None) && others == Some(FIRST);
    let refused = inserted == Err(InsertErrorKind::Exists) && others.is_none();
    if !(inserted_first || refused) || trie.pin().get_copied(KEY) != Some(SECOND) {
        std::mem::forget(trie);
        panic!("{LOST_VALUE}: {inserted:?} {others:?}");
    }
    seen.note(FOUND, refused);
    seen.note(NOTHING, inserted_first);
}

#[test]
fn a_hint_is_believed_of_a_linked_leaf_only() {
    let name = "hint: the leaf is removed";
    holds::<Immediate>(name, Scenario::Removed, &[FOUND, NOTHING]);
    holds::<AfterRcuGp>(name, Scenario::Removed, &[FOUND, NOTHING]);
    let name = "hint: the leaf is made one of the same key";
    holds::<Immediate>(name, Scenario::Initialised, &[NEWER, NOTHING]);
    holds::<AfterRcuGp>(name, Scenario::Initialised, &[NEWER, NOTHING]);
    let name = "hint: the leaf is made one of another key";
    holds::<Immediate>(name, Scenario::InitialisedForOther, &[NOTHING]);
    holds::<AfterRcuGp>(name, Scenario::InitialisedForOther, &[NOTHING]);
}

#[test]
fn a_hint_is_believed_of_the_keys_own_leaf_only() {
    let name = "hint: the leaf comes back with another key";
    holds::<Immediate>(name, Scenario::OtherKey, &[FOUND, NOTHING]);
    holds::<AfterRcuGp>(name, Scenario::OtherKey, &[FOUND, NOTHING]);
    let name = "hint: the leaf comes back with the same key";
    holds::<Immediate>(name, Scenario::SameKey, &[FOUND, NEWER, NOTHING]);
    holds::<AfterRcuGp>(name, Scenario::SameKey, &[FOUND, NEWER, NOTHING]);
}

#[test]
fn a_hint_at_a_leaf_that_was_replaced_does_not_bring_the_old_value_back() {
    let name = "hint: the value is replaced";
    holds::<Immediate>(name, Scenario::Replaced, &[FOUND, NEWER]);
    holds::<AfterRcuGp>(name, Scenario::Replaced, &[FOUND, NEWER]);
}

#[test]
fn what_is_overwritten_by_hint_is_the_keys_own() {
    let name = "hint: overwritten, while it is removed and reused";
    let model = Model { name, bound: Some(2), least: 100, happens: &[FOUND, NOTHING] };
    model.explore(overwritten_by_hint);
    let name = "hint: overwritten twice";
    let model = Model { name, bound: Some(2), least: 50, happens: &[NEWER] };
    model.explore(|seen| overwritten_twice_by_hint(None, seen));
}

#[test]
fn a_key_that_is_inserted_meanwhile_is_not_overwritten_by_hint_if_it_has_to_be_absent() {
    let name = "hint: inserted where only an absent key is accepted";
    let model = Model { name, bound: Some(2), least: 50, happens: &[FOUND, NOTHING] };
    model.explore(inserted_meanwhile);
}

#[test]
fn a_hint_misleads_when_the_leaf_is_not_asked_whether_it_is_linked() {
    use Asks::{HintFirst, ScanFirst};
    let fault = Fault::HintedLeafUnlinked;
    let name = "hinted leaf not asked whether linked, removed";
    fails::<AfterRcuGp>(name, NO_ORDER, Scenario::Removed, ScanFirst, fault);
    let name = "hinted leaf not asked whether linked, initialised";
    fails::<Immediate>(name, NO_ORDER, Scenario::Initialised, HintFirst, fault);
}

#[test]
fn a_hint_misleads_when_the_leaf_is_not_asked_whose_it_is() {
    let (name, fault) = ("hinted leaf not asked whose", Fault::HintedLeafUnread);
    let asks = Asks::ScanThenWhetherThere;
    fails::<Immediate>(name, NO_ORDER, Scenario::OtherKey, asks, fault);
    fails::<AfterRcuGp>(name, NO_ORDER, Scenario::InitialisedForOther, asks, fault);
}

#[test]
fn a_hint_misleads_when_the_mark_of_the_leaf_orders_nothing() {
    let (name, fault) = ("mark read relaxed", Fault::HintedLeafRelaxed);
    fails::<AfterRcuGp>(name, "Causality", Scenario::Initialised, Asks::HintFirst, fault);
}

#[test]
fn a_hint_misleads_when_a_leaf_is_marked_before_it_is_linked() {
    let (name, fault) = ("leaf marked early", Fault::MarkedEarly);
    fails::<Immediate>(name, NO_ORDER, Scenario::Initialised, Asks::HintFirst, fault);
    fails::<AfterRcuGp>(name, NO_ORDER, Scenario::Initialised, Asks::HintFirst, fault);
}

#[test]
fn a_hint_misleads_when_a_leaf_is_unmarked_after_it_is_unlinked() {
    let (name, fault) = ("leaf unmarked late", Fault::UnmarkedLate);
    fails::<AfterRcuGp>(name, NO_ORDER, Scenario::Removed, Asks::ScanFirst, fault);
    fails::<AfterRcuGp>(name, NO_ORDER, Scenario::Replaced, Asks::ScanFirst, fault);
}

#[test]
fn a_copy_by_hint_is_torn_when_the_count_of_its_leaf_is_not_read_again() {
    let (name, fault) = ("hinted leaf's count not read again", Fault::LeafUnconfirmed);
    fails::<Immediate>(name, NO_ORDER, Scenario::Replaced, Asks::HintFirst, fault);
    fails::<Immediate>(name, NO_ORDER, Scenario::OtherKey, Asks::HintFirst, fault);
}

#[test]
fn a_value_comes_back_twice_when_writers_by_hint_do_not_exclude_each_other() {
    breaks("written by hint without the lock", LOST_VALUE, || {
        overwritten_twice_by_hint(Some(Fault::WithoutLocks), &Seen::default());
    });
}
