//! What happens when a step of the protocol is left out: the table of all of them.

use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::fmt::Write;

use crate::SCENARIOS;
use crate::protocol::{Cookie, Protocol, Raise, WaitsFor};
use crate::scenarios::{self, Scenario};

struct Mutation {
    name: &'static str,
    apply: fn(&mut Protocol),
    expected: Verdict,
}

enum Verdict {
    /// The scenario was made for it.
    FailsIn(&'static Scenario),
    /// No scenario fails: something else does the same work.
    CoveredBy(&'static str),
}
use Verdict::{CoveredBy, FailsIn};

const fn without(name: &'static str, apply: fn(&mut Protocol), expected: Verdict) -> Mutation {
    Mutation { name, apply, expected }
}

static MUTATIONS: &[Mutation] = &[
    // A fence as light barrier is behind this load, and does its work.
    without(
        "epoch load relaxed",
        |p| p.epoch_load = Relaxed,
        FailsIn(&scenarios::MEMBARRIER_ONE_SECTION),
    ),
    without("slot store relaxed", |p| p.slot_store = Relaxed, FailsIn(&scenarios::TWO_SECTIONS)),
    without("slot clear relaxed", |p| p.slot_clear = Relaxed, FailsIn(&scenarios::ONE_SECTION)),
    without("light barrier removed", |p| p.light_barrier = false, FailsIn(&scenarios::ONE_SECTION)),
    without(
        "light barrier removed, membarrier",
        |p| p.light_barrier = false,
        FailsIn(&scenarios::MEMBARRIER_ONE_SECTION),
    ),
    without(
        "inner section announces",
        |p| p.inner_enter_stores = true,
        FailsIn(&scenarios::NESTED),
    ),
    without(
        "inner section ends the outer",
        |p| p.inner_leave_clears = true,
        FailsIn(&scenarios::NESTED),
    ),
    without("pointer load relaxed", |p| p.pointer_load = Relaxed, FailsIn(&scenarios::ONE_SECTION)),
    without("unlink relaxed", |p| p.unlink = Relaxed, FailsIn(&scenarios::ONE_SECTION)),
    without(
        "cookie relaxed",
        |p| p.cookie = Cookie::Rmw(Relaxed),
        FailsIn(&scenarios::OTHER_DRIVER),
    ),
    without(
        "cookie by plain load",
        |p| p.cookie = Cookie::Load(Acquire),
        FailsIn(&scenarios::OTHER_DRIVER),
    ),
    without(
        "raise relaxed",
        |p| p.raise_order = Relaxed,
        CoveredBy("the release sequence of the cookies, and the fence of the heavy barrier"),
    ),
    without(
        "raise after the barrier",
        |p| p.raise = Raise::AfterBarrier,
        FailsIn(&scenarios::OTHER_DRIVER),
    ),
    without(
        "raise after the scan",
        |p| p.raise = Raise::AfterScan,
        FailsIn(&scenarios::OTHER_DRIVER),
    ),
    without("heavy barrier removed", |p| p.heavy_barrier = false, FailsIn(&scenarios::ONE_SECTION)),
    without(
        "heavy barrier removed, membarrier",
        |p| p.heavy_barrier = false,
        FailsIn(&scenarios::MEMBARRIER_ONE_SECTION),
    ),
    without("two drivers at once", |p| p.driven = None, FailsIn(&scenarios::RELAY)),
    without(
        "driver's flag taken relaxed",
        |p| p.driven = Some((Relaxed, Release)),
        FailsIn(&scenarios::RELAY),
    ),
    without(
        "driver's flag given up relaxed",
        |p| p.driven = Some((Acquire, Relaxed)),
        FailsIn(&scenarios::RELAY),
    ),
    without("scan relaxed", |p| p.scan = Relaxed, FailsIn(&scenarios::ONE_SECTION)),
    without(
        "scan of the first slot only",
        |p| p.scan_every_slot = false,
        FailsIn(&scenarios::TWO_READERS),
    ),
    without(
        "wait only for older epochs",
        |p| p.waits_for = WaitsFor::OlderThanOld,
        FailsIn(&scenarios::ONE_SECTION),
    ),
    without(
        "wait only for the same epoch",
        |p| p.waits_for = WaitsFor::OldOnly,
        FailsIn(&scenarios::STALE_EPOCH),
    ),
    without("completed relaxed", |p| p.completed = Relaxed, FailsIn(&scenarios::OTHER_DRIVER)),
    without("poll relaxed", |p| p.poll = Relaxed, FailsIn(&scenarios::OTHER_DRIVER)),
];

/// Prints the table, and fails where it does not say what was expected.
pub(crate) fn check() {
    let mut table = String::from("loom rcu: each step left out, and where it shows\n");
    let mut surprises = Vec::new();
    for mutation in MUTATIONS {
        let mut protocol = Protocol::SOUND;
        (mutation.apply)(&mut protocol);
        let (row, as_expected) = match mutation.expected {
            FailsIn(scenario) => fails(scenario, protocol),
            CoveredBy(reason) => holds(reason, protocol),
        };
        writeln!(table, "  {:35} {row}", mutation.name).expect("a String takes everything");
        if !as_expected {
            surprises.push(mutation.name);
        }
    }
    print!("{table}");
    assert!(surprises.is_empty(), "not as expected: {surprises:?}");
}

fn fails(scenario: &'static Scenario, protocol: Protocol) -> (String, bool) {
    let (exploration, _) = scenario.explore(protocol);
    let Some(violation) = exploration.violation else {
        return (format!("{:24} NOT CAUGHT", scenario.name), false);
    };
    let row = format!("{:24} execution {:>6}  {violation}", scenario.name, exploration.executions);
    // Any other panic is a mistake of the model.
    let claim = ["claim: ", "Causality violation: "].iter().any(|c| violation.starts_with(c));
    (row, claim)
}

fn holds(reason: &str, protocol: Protocol) -> (String, bool) {
    let mut executions = 0;
    for scenario in SCENARIOS {
        let (exploration, _) = scenario.explore(protocol);
        if let Some(violation) = exploration.violation {
            return (format!("{:24} UNEXPECTED  {violation}", scenario.name), false);
        }
        executions += exploration.executions;
    }
    (format!("not caught in {executions} executions: covered by {reason}"), true)
}
