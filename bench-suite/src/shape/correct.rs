//! Decides which policies are correct for a workload: by their guarantees, not by speed.

use std::fmt;

use memalloc::PolicyKind;
use serde::{Deserialize, Serialize};

/// The correctness requirements of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demands {
    /// True if another thread may read an object while it is freed.
    pub(crate) readers: bool,
    /// True if every reader validates what it reads.
    pub(crate) validate: bool,
    /// True if readers keep references to objects until their section ends.
    pub(crate) references: bool,
    /// True if readers block or await inside a section.
    pub(crate) sleep: bool,
    /// The calls that signal handlers make.
    pub(crate) signals: Signals,
    /// Other users of the memory.
    pub(crate) shared: Shared,
}

/// The calls that signal handlers make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Signals {
    /// Handlers neither allocate nor free.
    No,
    /// Handlers allocate.
    Alloc,
    /// Handlers allocate, and free objects that readers may read.
    AllocFree,
}

/// Other users of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Shared {
    /// None: the allocator serves this structure alone.
    Nothing,
    /// Objects of other types come from the same allocator.
    OtherTypes,
    /// Other processes map the memory and read it.
    Processes,
}

macro_rules! named {
    ($type:ident { $($value:ident = $name:literal),* }) => {
        impl std::str::FromStr for $type {
            type Err = String;

            fn from_str(name: &str) -> Result<Self, String> {
                match name {
                    $($name => Ok(Self::$value),)*
                    _ => Err(format!("expected one of {}", [$($name),*].join(", "))),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$value => $name,)* })
            }
        }
    };
}

named!(Signals { No = "no", Alloc = "alloc", AllocFree = "alloc-free" });
named!(
    Shared { Nothing = "nothing", OtherTypes = "other-types", Processes = "processes" }
);

/// The guarantee that an object gives to a reader until its section ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Promise {
    Nothing,
    Type,
    Identity,
}

/// A policy, and whether it is correct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) policy: PolicyKind,
    /// The reason why the policy is not correct; `None` if it is.
    pub(crate) out: Option<&'static str>,
}

/// Judges every policy, ordered by its demands on readers, greatest first.
pub(crate) fn standings(demands: &Demands) -> Vec<Standing> {
    let standing = |&policy| Standing { policy, out: objection(policy, demands) };
    PolicyKind::ALL.iter().map(standing).collect()
}

/// Returns the guarantee of a policy: see the table in memalloc/docs/guide.md.
fn promise(policy: PolicyKind, sleeps: bool) -> Promise {
    match (policy, sleeps) {
        (PolicyKind::Immediate, _) | (PolicyKind::AfterRcuGp, true) => Promise::Type,
        (PolicyKind::FreeAfterRcuGp, true) => Promise::Nothing,
        (PolicyKind::AfterRcuGp | PolicyKind::FreeAfterRcuGp, false)
        | (PolicyKind::AfterTasksTraceGp, _) => Promise::Identity,
        _ => Promise::Nothing,
    }
}

/// Returns why a policy is not correct: the first reason found, in this order.
fn objection(policy: PolicyKind, demands: &Demands) -> Option<&'static str> {
    if demands.shared == Shared::Processes && demands.readers {
        return Some("grace periods wait only for readers in this process");
    }
    if demands.signals != Signals::No && policy == PolicyKind::FreeAfterRcuGp {
        return Some("frees go to slabs first and do not refill the caches of handlers");
    }
    if !demands.readers {
        return None;
    }
    let kept = promise(policy, demands.sleep);
    let needed = match demands.references || !demands.validate {
        true => Promise::Identity,
        false => Promise::Type,
    };
    if kept < needed {
        return Some(match (kept, demands.sleep, demands.references) {
            (Promise::Nothing, ..) => "it protects nothing in a section that sleeps",
            (_, true, true) if policy != PolicyKind::Immediate => {
                "a reference would not stay valid across a sleep"
            }
            (_, true, false) if policy != PolicyKind::Immediate => {
                "readers that sleep would have to validate"
            }
            (.., true) => "a reference could come to point to another object",
            _ => "readers would have to validate, and can't",
        });
    }
    let is_type_only = kept == Promise::Type;
    (is_type_only && demands.shared == Shared::OtherTypes)
        .then_some("objects of other types share its classes: validation could read their bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use PolicyKind::{AfterRcuGp, AfterTasksTraceGp, FreeAfterRcuGp, Immediate};

    const VALIDATING: Demands = Demands {
        readers: true,
        validate: true,
        references: false,
        sleep: false,
        signals: Signals::No,
        shared: Shared::Nothing,
    };

    fn stand(demands: Demands) -> Vec<PolicyKind> {
        let standings = standings(&demands).into_iter();
        standings.filter(|one| one.out.is_none()).map(|one| one.policy).collect()
    }

    fn why_not(policy: PolicyKind, demands: Demands) -> &'static str {
        let found = standings(&demands).into_iter().find(|one| one.policy == policy);
        found.unwrap().out.unwrap()
    }

    #[test]
    fn every_policy_is_correct_for_readers_that_validate() {
        assert_eq!(stand(VALIDATING), PolicyKind::ALL);
    }

    #[test]
    fn immediate_reuse_is_incorrect_for_readers_that_cannot_validate_or_keep_references() {
        let deferring = [AfterRcuGp, FreeAfterRcuGp, AfterTasksTraceGp];
        let blind = Demands { validate: false, ..VALIDATING };
        assert_eq!(stand(blind), deferring);
        assert!(why_not(Immediate, blind).contains("would have to validate"));
        let keeping = Demands { references: true, ..VALIDATING };
        assert_eq!(stand(keeping), deferring);
        assert!(why_not(Immediate, keeping).contains("another object"));
    }

    #[test]
    fn readers_that_sleep_with_a_reference_leave_one_policy() {
        let sleepers = Demands { references: true, sleep: true, ..VALIDATING };
        assert_eq!(stand(sleepers), [AfterTasksTraceGp]);
        assert!(why_not(AfterRcuGp, sleepers).contains("across a sleep"));
        assert!(why_not(FreeAfterRcuGp, sleepers).contains("protects nothing"));
        // Readers that validate after the sleep can rely on memory and type.
        let careful = Demands { sleep: true, ..VALIDATING };
        assert_eq!(stand(careful), [Immediate, AfterRcuGp, AfterTasksTraceGp]);
        assert!(
            why_not(AfterRcuGp, Demands { validate: false, ..careful })
                .contains("that sleep would")
        );
    }

    #[test]
    fn handlers_need_a_reserve_that_frees_refill() {
        for signals in [Signals::Alloc, Signals::AllocFree] {
            let handlers = Demands { signals, ..VALIDATING };
            assert_eq!(stand(handlers), [Immediate, AfterRcuGp, AfterTasksTraceGp]);
            assert!(why_not(FreeAfterRcuGp, handlers).contains("handlers"));
        }
    }

    #[test]
    fn readers_that_validate_need_classes_without_objects_of_other_types() {
        let shared = Demands { shared: Shared::OtherTypes, ..VALIDATING };
        assert_eq!(stand(shared), [AfterRcuGp, FreeAfterRcuGp, AfterTasksTraceGp]);
        assert!(why_not(Immediate, shared).contains("other types"));
        let sleeping = Demands { sleep: true, ..shared };
        assert_eq!(stand(sleeping), [AfterTasksTraceGp]);
    }

    #[test]
    fn readers_of_other_processes_are_protected_by_no_policy() {
        assert_eq!(stand(Demands { shared: Shared::Processes, ..VALIDATING }), []);
    }

    #[test]
    fn without_readers_every_policy_is_correct() {
        let alone = Demands { readers: false, validate: false, references: true, ..VALIDATING };
        assert_eq!(stand(alone), PolicyKind::ALL);
    }
}
