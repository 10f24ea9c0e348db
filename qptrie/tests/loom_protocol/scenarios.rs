//! The small worlds in which the protocol is explored: a trie, a reader, and writers that follow a
//! script.

use loom::thread;
use std::rc::Rc;
use std::sync::Arc;

use crate::events::{Event, Events};
use crate::explore::{Exploration, explore};
use crate::protocol::Node::{self, Branch, Leaf};
use crate::protocol::Slot::{Root, Twig};
use crate::protocol::Step::{self, Expect, Free, Init, Publish, Take, WriteLeaf};
use crate::protocol::{Contents, Key, Protocol, Start, Trie, Update};

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    start: Start,
    writers: &'static [&'static [Update]],
    lookup: Key,
    /// True if the key is always there, false if it is never there.
    present: bool,
    /// Events that have to happen in some execution.
    shows: &'static [Event],
    /// The minimum number of executions; with fewer the scenario no longer tests what it was made
    /// for.
    least: usize,
}

impl Scenario {
    /// Explores the complete protocol to the end, and reports the number of executions.
    pub(crate) fn holds(&'static self) {
        let (exploration, events) = self.explore(Protocol::SOUND);
        let (name, preemptions) = (self.name, exploration.preemptions);
        println!("loom trie/{name}: {exploration} (preemption bound {preemptions}; {events})");
        assert_eq!(exploration.violation, None);
        assert!(exploration.executions >= self.least, "at least {} executions", self.least);
        for event in self.shows {
            assert!(events.seen(*event) > 0, "{event:?} never happened");
        }
        exploration.record(name, None, None);
    }

    /// Explores a protocol, to the end or to its first failure.
    pub(crate) fn explore(&'static self, protocol: Protocol) -> (Exploration, Arc<Events>) {
        let events = Arc::new(Events::default());
        let counted = Arc::clone(&events);
        let exploration = explore(1 + self.writers.len(), move || {
            self.run(protocol, Arc::clone(&counted));
        });
        (exploration, events)
    }

    /// Runs one execution.
    fn run(&'static self, protocol: Protocol, events: Arc<Events>) {
        // All threads of a model are coroutines of one thread. loom's own `Arc` would add its
        // counter to the exploration.
        let trie = Rc::new(Trie::new(&self.start, protocol, events));
        let writers = self.writers.iter().map(|updates| {
            let trie = Rc::clone(&trie);
            thread::spawn(move || trie.write(updates))
        });
        let writers: Vec<_> = writers.collect();

        let found = trie.contains(self.lookup);
        assert!(found || !self.present, "claim: a key that is always there is found");
        assert!(self.present || !found, "claim: a key that is never there is not found");

        for writer in writers {
            writer.join().expect("a panic ends the model at once");
        }
    }
}

// A key is its subtree and two nibbles. The reader looks up `A`, or `ABSENT`.
const A: Key = [0, 1, 0];
/// Sorts before `A`: in a branch with `B`, `A`'s twig is in another position.
const B: Key = [0, 0, 0];
const C: Key = [0, 2, 0];
const D: Key = [0, 3, 0];
/// Shares its first nibble with `A`.
const E: Key = [0, 1, 1];
const F: Key = [0, 1, 2];
/// Shares its first nibble with `D`.
const ABSENT: Key = [0, 3, 2];
const X: Key = [1, 0, 2];
const Y: Key = [1, 0, 3];
const Z: Key = [1, 1, 0];

const LEAVES: &[Option<Key>] =
    &[Some(A), Some(B), Some(C), Some(D), Some(E), Some(F), Some(X), Some(Y), Some(Z), None];
const LEAF_A: Node = Leaf(0);
const LEAF_B: Node = Leaf(1);
const LEAF_C: Node = Leaf(2);
const LEAF_D: Node = Leaf(3);
const LEAF_E: Node = Leaf(4);
const LEAF_F: Node = Leaf(5);
const LEAF_X: Node = Leaf(6);
const LEAF_Y: Node = Leaf(7);
const LEAF_Z: Node = Leaf(8);
/// The leaf that a writer creates.
const NEW: usize = 9;
const LEAF_NEW: Node = Leaf(NEW);

const fn branch(index: u32, twigs: &'static [(u32, Node)]) -> Contents {
    Contents { index, twigs }
}

/// Two leaves; `A`'s is in the first position.
const PAIR: Contents = branch(1, &[(1, LEAF_A), (2, LEAF_C)]);
/// A branch for the same index, with `A`'s leaf in the second position.
const SHIFTED: Contents = branch(1, &[(0, LEAF_B), (1, LEAF_A), (2, LEAF_C)]);
/// The upper of two levels; the lower one, which has `A`, is `Branch(1)` in its first position.
const UPPER: Contents = branch(1, &[(1, Branch(1)), (3, LEAF_D)]);
const UPPER_AND_C: Contents = branch(1, &[(1, Branch(1)), (2, LEAF_C), (3, LEAF_D)]);
const LOWER: Contents = branch(2, &[(0, LEAF_A), (1, LEAF_E)]);
const LOWER_AND_F: Contents = branch(2, &[(0, LEAF_A), (1, LEAF_E), (2, LEAF_F)]);
/// For the other subtree: its shape says that `A` is absent, and its first twig is another key's
/// leaf.
const FOREIGN: Contents = branch(2, &[(2, LEAF_X), (3, LEAF_Y)]);

const fn in_subtree(subtree: usize, steps: &'static [Step]) -> Update {
    Update { subtree, steps }
}

/// The branch is copied, freed, and reused elsewhere with another shape (F1 and F2).
pub(crate) static OTHER_SHAPE: Scenario = Scenario {
    name: "other_shape",
    start: Start { roots: [Branch(0), LEAF_X], branches: &[Some(PAIR), None], leaves: LEAVES },
    writers: &[&[
        in_subtree(
            0,
            &[
                WriteLeaf(NEW, D),
                Init(1, branch(1, &[(1, LEAF_A), (2, LEAF_C), (3, LEAF_NEW)])),
                Publish(Root(0), Branch(1)),
                Free(0),
            ],
        ),
        in_subtree(1, &[Init(0, FOREIGN), Publish(Root(1), Branch(0))]),
    ]],
    lookup: A,
    present: true,
    shows: &[Event::Reuse, Event::Odd, Event::Slot, Event::Own, Event::Lock],
    least: 500,
};

/// Like `OTHER_SHAPE`, for a key that is never there; its path leads to the leaf that the writer
/// creates.
pub(crate) static ABSENT_KEY: Scenario =
    Scenario { name: "absent_key", lookup: ABSENT, present: false, ..OTHER_SHAPE };

/// The branch collapses to a leaf, and its slot is split again: the same branch is back in the same
/// slot, and the key's twig is in another position.
pub(crate) static SAME_SLOT: Scenario = Scenario {
    name: "same_slot",
    start: Start { roots: [Branch(0), LEAF_X], branches: &[Some(PAIR)], leaves: LEAVES },
    writers: &[&[
        in_subtree(0, &[Publish(Root(0), LEAF_A), Free(0)]),
        in_subtree(
            0,
            &[Init(0, branch(1, &[(0, LEAF_B), (1, LEAF_A)])), Publish(Root(0), Branch(0))],
        ),
    ]],
    lookup: A,
    present: true,
    shows: &[Event::Reuse, Event::Odd, Event::Slot, Event::Own, Event::Lock],
    least: 2000,
};

/// A value is replaced; its leaf is directly in the root slot.
pub(crate) static LEAF_AT_ROOT: Scenario = Scenario {
    name: "leaf_at_root",
    start: Start { roots: [LEAF_A, LEAF_X], branches: &[], leaves: LEAVES },
    writers: &[&[in_subtree(0, &[WriteLeaf(NEW, A), Publish(Root(0), LEAF_NEW)])]],
    lookup: A,
    present: true,
    shows: &[],
    least: 2,
};

/// A value is replaced; its leaf is in a branch.
pub(crate) static LEAF_IN_BRANCH: Scenario = Scenario {
    name: "leaf_in_branch",
    start: Start { roots: [Branch(0), LEAF_X], branches: &[Some(PAIR)], leaves: LEAVES },
    writers: &[&[in_subtree(0, &[WriteLeaf(NEW, A), Publish(Twig(0, 0), LEAF_NEW)])]],
    lookup: A,
    present: true,
    shows: &[],
    least: 2,
};

/// The child is replaced in its parent's slot, and reused elsewhere; the parent stays.
pub(crate) static SLOT_OVERWRITTEN: Scenario = Scenario {
    name: "slot_overwritten",
    start: Start {
        roots: [Branch(0), LEAF_X],
        branches: &[Some(UPPER), Some(LOWER)],
        leaves: LEAVES,
    },
    writers: &[&[
        in_subtree(0, &[Publish(Twig(0, 0), LEAF_A), Free(1)]),
        in_subtree(1, &[Init(1, FOREIGN), Publish(Root(1), Branch(1))]),
    ]],
    lookup: A,
    present: true,
    shows: &[Event::Reuse, Event::Odd, Event::Slot, Event::Own, Event::Lock],
    least: 500,
};

/// The parent is copied, freed, and reused elsewhere; the child stays, below the copy.
pub(crate) static PARENT_REUSED: Scenario = Scenario {
    name: "parent_reused",
    start: Start {
        roots: [Branch(0), LEAF_X],
        branches: &[Some(UPPER), Some(LOWER), None],
        leaves: LEAVES,
    },
    writers: &[&[
        in_subtree(0, &[Init(2, UPPER_AND_C), Publish(Root(0), Branch(2)), Free(0)]),
        in_subtree(1, &[Init(0, FOREIGN), Publish(Root(1), Branch(0))]),
    ]],
    lookup: A,
    present: true,
    shows: &[Event::Reuse, Event::Odd, Event::Slot, Event::Parent, Event::Own, Event::Lock],
    least: 1500,
};

/// The parent is replaced by its copy, and not reused. Then the child is replaced in the copy, and
/// reused elsewhere: the old parent's slot still names it (F3).
pub(crate) static FROZEN_PARENT: Scenario = Scenario {
    name: "frozen_parent",
    start: Start {
        roots: [Branch(0), LEAF_X],
        branches: &[Some(UPPER), Some(LOWER), None, None],
        leaves: LEAVES,
    },
    writers: &[&[
        in_subtree(0, &[Init(2, UPPER_AND_C), Publish(Root(0), Branch(2)), Free(0)]),
        in_subtree(0, &[Init(3, LOWER_AND_F), Publish(Twig(2, 0), Branch(3)), Free(1)]),
        in_subtree(1, &[Init(1, FOREIGN), Publish(Root(1), Branch(1))]),
    ]],
    lookup: A,
    present: true,
    shows: &[Event::Reuse, Event::Odd, Event::Slot, Event::Parent, Event::Own, Event::Lock],
    least: 8000,
};

/// The child moves to the other subtree. The parent follows, and there the child is in the same
/// slot again.
pub(crate) static BOTH_MOVE: Scenario = Scenario {
    name: "both_move",
    start: Start {
        roots: [Branch(0), LEAF_X],
        branches: &[Some(UPPER), Some(LOWER)],
        leaves: LEAVES,
    },
    writers: &[&[
        in_subtree(0, &[Publish(Twig(0, 0), LEAF_A), Free(1)]),
        in_subtree(1, &[Init(1, FOREIGN), Publish(Root(1), Branch(1))]),
        in_subtree(0, &[Publish(Root(0), LEAF_A), Free(0)]),
        in_subtree(
            1,
            &[Init(0, branch(1, &[(0, Branch(1)), (1, LEAF_Z)])), Publish(Root(1), Branch(0))],
        ),
    ]],
    lookup: A,
    present: true,
    shows: &[Event::Reuse, Event::Odd, Event::Slot, Event::Parent, Event::Own, Event::Lock],
    least: 100_000,
};

/// A branch of the other subtree moves to the reader's subtree.
pub(crate) static ARRIVAL: Scenario = Scenario {
    name: "arrival",
    start: Start {
        roots: [Branch(1), Branch(0)],
        branches: &[Some(FOREIGN), Some(PAIR)],
        leaves: LEAVES,
    },
    writers: &[&[
        in_subtree(1, &[Publish(Root(1), LEAF_X), Free(0)]),
        in_subtree(0, &[Init(0, SHIFTED), Publish(Root(0), Branch(0)), Free(1)]),
    ]],
    lookup: A,
    present: true,
    shows: &[Event::Reuse, Event::Odd, Event::Slot, Event::Lock],
    least: 50,
};

/// A branch of the other subtree moves below the reader's upper branch; then another writer removes
/// its sibling, and moves it up into the root slot.
pub(crate) static MOVED_UP: Scenario = Scenario {
    name: "moved_up",
    start: Start {
        roots: [Branch(0), Branch(1)],
        branches: &[Some(branch(1, &[(1, LEAF_A), (3, LEAF_D)])), Some(FOREIGN)],
        leaves: LEAVES,
    },
    writers: &[
        &[
            in_subtree(1, &[Publish(Root(1), LEAF_X), Free(1)]),
            in_subtree(0, &[Init(1, LOWER), Publish(Twig(0, 0), Branch(1))]),
        ],
        &[in_subtree(0, &[Expect(Twig(0, 0), Branch(1)), Publish(Root(0), Branch(1)), Free(0)])],
    ],
    lookup: A,
    present: true,
    shows: &[Event::Reuse, Event::Odd, Event::Parent, Event::Own, Event::Lock],
    least: 200,
};

/// One writer frees the branch, another initialises it.
pub(crate) static TWO_WRITERS: Scenario = Scenario {
    name: "two_writers",
    start: Start { roots: [Branch(0), LEAF_X], branches: &[Some(PAIR)], leaves: LEAVES },
    writers: &[
        &[in_subtree(0, &[Publish(Root(0), LEAF_A), Free(0)])],
        &[in_subtree(1, &[Take(0), Init(0, FOREIGN), Publish(Root(1), Branch(0))])],
    ],
    lookup: A,
    present: true,
    shows: &[Event::Reuse, Event::Odd, Event::Slot, Event::Own, Event::Lock],
    least: 500,
};
