//! The mutations: each omits a step of the protocol; a table shows the result of each.

use loom::sync::atomic::Ordering::{Relaxed, Release};

use crate::SCENARIOS;
use crate::protocol::{Count, ParentCheck, Protocol, SlotCheck};
use crate::scenarios::{self, Scenario};
use crate::table::{Expected, Table};

struct Mutation {
    name: &'static str,
    apply: fn(&mut Protocol),
    expected: Verdict,
}

enum Verdict {
    /// This scenario fails; it was made for this mutation.
    FailsIn(&'static Scenario),
    /// No scenario fails: another step does the same work.
    CoveredBy(&'static str),
}
use Verdict::{CoveredBy, FailsIn};

const fn without(name: &'static str, apply: fn(&mut Protocol), expected: Verdict) -> Mutation {
    Mutation { name, apply, expected }
}

static MUTATIONS: &[Mutation] = &[
    without("no count", |p| p.count = Count::Never, FailsIn(&scenarios::OTHER_SHAPE)),
    without(
        "emptying and ordering in place of a count",
        |p| (p.count, p.emptied) = (Count::Never, true),
        FailsIn(&scenarios::OTHER_SHAPE),
    ),
    without(
        "count odd only at reuse",
        |p| p.count = Count::AtReuse,
        FailsIn(&scenarios::FROZEN_PARENT),
    ),
    without("free fence removed", |p| p.free_fence = false, FailsIn(&scenarios::TWO_WRITERS)),
    without(
        "free fence moved into the hand-over",
        |p| (p.free_fence, p.hand_over) = (false, Release),
        CoveredBy("a free list that hands over with Release"),
    ),
    without("branch taken relaxed", |p| p.take_over = Relaxed, FailsIn(&scenarios::TWO_WRITERS)),
    without("init fence removed", |p| p.init_fence = false, FailsIn(&scenarios::TWO_WRITERS)),
    without("init count relaxed", |p| p.init_count = Relaxed, FailsIn(&scenarios::SAME_SLOT)),
    without(
        "publish relaxed, leaf",
        |p| p.publish_leaf = Relaxed,
        FailsIn(&scenarios::LEAF_IN_BRANCH),
    ),
    without(
        "publish relaxed, branch",
        |p| p.publish_branch = Relaxed,
        FailsIn(&scenarios::MOVED_UP),
    ),
    without("root load relaxed", |p| p.root = Relaxed, FailsIn(&scenarios::LEAF_AT_ROOT)),
    without(
        "first count relaxed",
        |p| p.first_count = Relaxed,
        FailsIn(&scenarios::SLOT_OVERWRITTEN),
    ),
    without("odd count accepted", |p| p.odd_test = false, FailsIn(&scenarios::OTHER_SHAPE)),
    without(
        "slot not re-read",
        |p| p.slot_check = SlotCheck::Never,
        FailsIn(&scenarios::SLOT_OVERWRITTEN),
    ),
    without(
        "slot re-read before the count",
        |p| p.slot_check = SlotCheck::BeforeCount,
        FailsIn(&scenarios::SLOT_OVERWRITTEN),
    ),
    without(
        "fence before the parent's count removed",
        |p| p.parent_fence = false,
        FailsIn(&scenarios::BOTH_MOVE),
    ),
    without(
        "parent's count not compared",
        |p| p.parent_check = ParentCheck::Never,
        FailsIn(&scenarios::FROZEN_PARENT),
    ),
    without(
        "parent's count compared first",
        |p| p.parent_check = ParentCheck::BeforeSlot,
        FailsIn(&scenarios::BOTH_MOVE),
    ),
    without(
        "fence before the last count removed",
        |p| p.own_fence = false,
        FailsIn(&scenarios::OTHER_SHAPE),
    ),
    without("last count not compared", |p| p.own_check = false, FailsIn(&scenarios::OTHER_SHAPE)),
    without(
        "absence not validated",
        |p| p.validate_absent = false,
        FailsIn(&scenarios::OTHER_SHAPE),
    ),
    without(
        "leaf touched before validation",
        |p| p.validate_leaf = false,
        FailsIn(&scenarios::LEAF_IN_BRANCH),
    ),
];

/// Prints the table, and fails if a result is not the expected one.
pub(crate) fn check() {
    let mut table = Table::new("trie");
    for mutation in MUTATIONS {
        let mut protocol = Protocol::SOUND;
        (mutation.apply)(&mut protocol);
        let (expected, scenarios) = match &mutation.expected {
            FailsIn(scenario) => (Expected::FAILS, std::slice::from_ref(scenario)),
            CoveredBy(step) => (Expected::CoveredBy(step), SCENARIOS),
        };
        for scenario in scenarios {
            let (exploration, _) = scenario.explore(protocol);
            table.add(mutation.name, expected, scenario.name, &exploration);
        }
    }
    table.finish();
}
