//! The hint of a leaf moves to the next table while a writer unlinks, reuses or replaces the leaf.

use crate::breaks::breaks;
use crate::explore::{Model, Seen};
use crate::read::move_hints;
use crate::{Fault, Hints, QpTrie};
use loom::thread;
use memalloc::rcu::Domain;
use memalloc::{AfterRcuGp, Immediate, ReusePolicy};
use std::sync::Arc;

const MOVED: &str = "a hint of the key is in the next table";
const LEFT: &str = "none is";

// Keys of the same length, so that their leaves have the same size class; below one root.
const KEY: &[u8] = b"11";
const OTHER: &[u8] = b"22";

/// More entries than one bucket is meant for.
const MANY: u64 = 14;

type Trie<L> = QpTrie<u64, Immediate, L>;

fn put<L: ReusePolicy>(trie: &Trie<L>, key: &[u8], value: u64) {
    trie.pin().insert_copied(key, value).expect("the model has memory for it");
}

/// What the writer does with the leaf that the hint names.
#[derive(Clone, Copy, Debug)]
enum Scenario {
    Removed,
    /// Its key is removed, and the leaf comes back with another key.
    OtherKey,
    Replaced,
    /// It is free, and is initialised as a leaf of the same key.
    Initialised,
    /// It is allocated, linked and hinted while another thread replaces the table.
    Inserted,
}

impl Scenario {
    fn prepare<L: ReusePolicy>(self, trie: &Trie<L>) {
        if matches!(self, Self::Inserted) {
            return;
        }
        put(trie, KEY, 1);
        if matches!(self, Self::Initialised) {
            trie.pin().remove_copied(KEY);
            // Under every policy, the leaf is then the first to be reused.
            trie.quiesce().expect("outside of read sections");
        }
        Self::replace_table(trie);
    }

    fn replace_table<L: ReusePolicy>(trie: &Trie<L>) {
        trie.nodes.hints.fit(&trie.domain, || MANY, false);
        assert!(trie.nodes.hints.are_moving());
    }

    /// Changes the trie. Returns the value that `KEY` has then.
    fn write<L: ReusePolicy>(self, trie: &Trie<L>) -> Option<u64> {
        match self {
            Self::Removed | Self::OtherKey => {
                trie.pin().remove_copied(KEY);
                if matches!(self, Self::OtherKey) {
                    put(trie, OTHER, 2);
                }
                None
            }
            Self::Replaced | Self::Initialised | Self::Inserted => {
                put(trie, KEY, 2);
                Some(2)
            }
        }
    }
}

fn moved<L: ReusePolicy>(scenario: Scenario, fault: Option<Fault>, seen: &Seen) {
    let builder = QpTrie::builder().domain(Domain::new()).reader_retries(0).hints(Hints::On);
    let builder = match fault {
        Some(fault) => builder.fault(fault),
        None => builder,
    };
    let trie: Arc<Trie<L>> = Arc::new(builder.build().expect("a model needs no system"));
    scenario.prepare(&trie);
    let mover = {
        let trie = Arc::clone(&trie);
        thread::spawn(move || {
            let _section = trie.domain.pin();
            if matches!(scenario, Scenario::Inserted) {
                Scenario::replace_table(&trie);
            }
            move_hints(&trie.nodes);
        })
    };
    let value = scenario.write(&trie);
    mover.join().expect("the mover does not panic");
    let view = trie.pin();
    let hash = trie.nodes.hints.for_lookup(KEY).expect("hints are kept");
    let hinted = trie.nodes.hints.find(hash, Some).is_some();
    assert!(view.get_copied(KEY) == value, "claim: the value of the key");
    let other = matches!(scenario, Scenario::OtherKey).then_some(2);
    assert!(view.get_copied(OTHER) == other, "claim: the value of the other key");
    seen.note(MOVED, hinted);
    seen.note(LEFT, !hinted);
}

fn holds<L: ReusePolicy>(scenario: Scenario, happens: &'static [&'static str]) {
    let name = "hints: a hint moves beside a writer of its leaf";
    let model = Model { name, bound: Some(2), least: 10, happens };
    model.explore(move |seen| moved::<L>(scenario, None, seen));
}

#[test]
fn a_hint_moves_beside_a_writer_of_its_leaf() {
    holds::<Immediate>(Scenario::Removed, &[MOVED, LEFT]);
    holds::<AfterRcuGp>(Scenario::Removed, &[MOVED, LEFT]);
    holds::<Immediate>(Scenario::OtherKey, &[MOVED, LEFT]);
    holds::<AfterRcuGp>(Scenario::OtherKey, &[MOVED, LEFT]);
    holds::<Immediate>(Scenario::Replaced, &[MOVED]);
    holds::<AfterRcuGp>(Scenario::Replaced, &[MOVED]);
    holds::<Immediate>(Scenario::Initialised, &[MOVED]);
    holds::<AfterRcuGp>(Scenario::Initialised, &[MOVED]);
    holds::<Immediate>(Scenario::Inserted, &[MOVED, LEFT]);
    holds::<AfterRcuGp>(Scenario::Inserted, &[MOVED, LEFT]);
}

#[test]
fn the_key_of_a_leaf_is_read_while_it_is_written_when_the_mark_orders_nothing() {
    breaks("mark read relaxed by a mover", "Causality", || {
        let (scenario, fault) = (Scenario::Initialised, Fault::HintedLeafRelaxed);
        moved::<AfterRcuGp>(scenario, Some(fault), &Seen::default());
    });
}
