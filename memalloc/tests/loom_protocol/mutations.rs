//! The mutation table: each step of the protocol that is left out, and its effect.

use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::protocol::{Cookie, Protocol, Raise, WaitsFor};
use crate::scenarios::{self, Scenario};
use crate::table::{Expected, Table};

struct Mutation {
    name: &'static str,
    apply: fn(&mut Protocol),
    /// The scenario that has to fail.
    fails_in: &'static Scenario,
}

const fn without(
    name: &'static str,
    apply: fn(&mut Protocol),
    fails_in: &'static Scenario,
) -> Mutation {
    Mutation { name, apply, fails_in }
}

static MUTATIONS: &[Mutation] = &[
    // With fences as the light barrier, the fence after this load does its work.
    without("epoch load relaxed", |p| p.epoch_load = Relaxed, &scenarios::MEMBARRIER_ONE_SECTION),
    without("slot store relaxed", |p| p.slot_store = Relaxed, &scenarios::TWO_SECTIONS),
    without("slot clear relaxed", |p| p.slot_clear = Relaxed, &scenarios::ONE_SECTION),
    without("light barrier removed", |p| p.light_barrier = false, &scenarios::ONE_SECTION),
    without(
        "light barrier removed, membarrier",
        |p| p.light_barrier = false,
        &scenarios::MEMBARRIER_ONE_SECTION,
    ),
    without("inner section announces", |p| p.inner_enter_stores = true, &scenarios::NESTED),
    without("inner section ends the outer", |p| p.inner_leave_clears = true, &scenarios::NESTED),
    without("pointer load relaxed", |p| p.pointer_load = Relaxed, &scenarios::ONE_SECTION),
    without("unlink relaxed", |p| p.unlink = Relaxed, &scenarios::ONE_SECTION),
    without("cookie relaxed", |p| p.cookie = Cookie::Rmw(Relaxed), &scenarios::OTHER_DRIVER),
    without("cookie by plain load", |p| p.cookie = Cookie::Load(Acquire), &scenarios::OTHER_DRIVER),
    without("raise after the barrier", |p| p.raise = Raise::AfterBarrier, &scenarios::OTHER_DRIVER),
    without("raise after the scan", |p| p.raise = Raise::AfterScan, &scenarios::OTHER_DRIVER),
    without("heavy barrier removed", |p| p.heavy_barrier = false, &scenarios::ONE_SECTION),
    without(
        "heavy barrier removed, membarrier",
        |p| p.heavy_barrier = false,
        &scenarios::MEMBARRIER_ONE_SECTION,
    ),
    without("two drivers at once", |p| p.driven = None, &scenarios::RELAY),
    without(
        "driver's flag taken relaxed",
        |p| p.driven = Some((Relaxed, Release)),
        &scenarios::RELAY,
    ),
    without(
        "driver's flag given up relaxed",
        |p| p.driven = Some((Acquire, Relaxed)),
        &scenarios::RELAY,
    ),
    without("scan relaxed", |p| p.scan = Relaxed, &scenarios::ONE_SECTION),
    without("scan of the first slot only", |p| p.scan_every_slot = false, &scenarios::TWO_READERS),
    without(
        "wait only for older epochs",
        |p| p.waits_for = WaitsFor::OlderThanOld,
        &scenarios::ONE_SECTION,
    ),
    without(
        "wait only for the same epoch",
        |p| p.waits_for = WaitsFor::OldOnly,
        &scenarios::STALE_EPOCH,
    ),
    without("completed relaxed", |p| p.completed = Relaxed, &scenarios::OTHER_DRIVER),
    without("poll relaxed", |p| p.poll = Relaxed, &scenarios::OTHER_DRIVER),
];

/// Prints the table, and fails if it is not as expected.
pub(crate) fn check() {
    let mut table = Table::new("rcu");
    for mutation in MUTATIONS {
        let mut protocol = Protocol::SOUND;
        (mutation.apply)(&mut protocol);
        let (exploration, _) = mutation.fails_in.explore(protocol);
        table.add(mutation.name, Expected::FAILS, mutation.fails_in.name, &exploration);
    }
    table.finish();
}
