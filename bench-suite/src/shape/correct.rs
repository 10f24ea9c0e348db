//! Which policies are correct for a workload: a question of promises, not of speed.

use std::fmt;

use memalloc::PolicyKind;
use serde::{Deserialize, Serialize};

/// What has to be correct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demands {
    /// Whether another thread may look at an object while it is freed.
    pub(crate) readers: bool,
    /// Whether every reader validates what it read.
    pub(crate) validate: bool,
    /// Whether readers keep references to what they found, to the end of their section.
    pub(crate) references: bool,
    /// Whether readers block or await inside a section.
    pub(crate) sleep: bool,
    /// What signal handlers do.
    pub(crate) signals: Signals,
    /// What else uses the memory.
    pub(crate) shared: Shared,
}

/// What signal handlers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Signals {
    /// Neither allocate nor free.
    No,
    /// Allocate.
    Alloc,
    /// Allocate, and free what readers may look at.
    AllocFree,
}

/// What else uses the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Shared {
    /// Nothing: the allocator serves this structure alone.
    Nothing,
    /// Objects of other types come from the same allocator.
    OtherTypes,
    /// Other processes map it, and read.
    Processes,
}

macro_rules! named {
    ($type:ident { $($value:ident = $name:literal),* }) => {
        impl std::str::FromStr for $type {
            type Err = String;

            fn from_str(name: &str) -> Result<Self, String> {
                match name {
                    $($name => Ok(Self::$value),)*
                    _ => Err(format!("allowed are {}", [$($name),*].join(", "))),
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

/// What an object keeps for a reader as long as its section lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Promise {
    Nothing,
    Type,
    Identity,
}

/// Whether a policy is correct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) policy: PolicyKind,
    /// Why it is not, if it is not.
    pub(crate) out: Option<&'static str>,
}

/// Every policy, in the order of what it asks of readers: most first.
pub(crate) fn standings(demands: &Demands) -> Vec<Standing> {
    let standing = |&policy| Standing { policy, out: objection(policy, demands) };
    PolicyKind::ALL.iter().map(standing).collect()
}

/// What a policy keeps: see the table in docs/guide.md.
fn promise(policy: PolicyKind, sleeps: bool) -> Promise {
    match (policy, sleeps) {
        (PolicyKind::Immediate, _) | (PolicyKind::AfterRcuGp, true) => Promise::Type,
        (PolicyKind::FreeAfterRcuGp, true) => Promise::Nothing,
        (PolicyKind::AfterRcuGp | PolicyKind::FreeAfterRcuGp, false)
        | (PolicyKind::AfterTasksTraceGp, _) => Promise::Identity,
        _ => Promise::Nothing,
    }
}

/// Why a policy is not correct. The reasons are looked for in this order, and one is enough.
fn objection(policy: PolicyKind, demands: &Demands) -> Option<&'static str> {
    if demands.shared == Shared::Processes && demands.readers {
        return Some("grace periods wait for readers of this process only");
    }
    if demands.signals != Signals::No && policy == PolicyKind::FreeAfterRcuGp {
        return Some("what handlers took is not made up for by frees: they go to slabs first");
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
            (Promise::Nothing, ..) => "a section that sleeps keeps nothing under it",
            (_, true, true) if policy != PolicyKind::Immediate => {
                "a reference would not hold across a sleep"
            }
            (_, true, false) if policy != PolicyKind::Immediate => {
                "readers that sleep would have to validate"
            }
            (.., true) => "a reference would come to mean another object",
            _ => "readers would have to validate, and can't",
        });
    }
    let is_type_only = kept == Promise::Type;
    (is_type_only && demands.shared == Shared::OtherTypes)
        .then_some("objects of other types share its classes: validation would read foreign bytes")
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
    fn readers_that_validate_may_have_any_policy() {
        assert_eq!(stand(VALIDATING), PolicyKind::ALL);
    }

    #[test]
    fn readers_that_cannot_validate_or_keep_references_may_not_have_immediate_reuse() {
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
        assert!(why_not(FreeAfterRcuGp, sleepers).contains("keeps nothing"));
        // Those that validate after the sleep have memory and type.
        let careful = Demands { sleep: true, ..VALIDATING };
        assert_eq!(stand(careful), [Immediate, AfterRcuGp, AfterTasksTraceGp]);
        assert!(
            why_not(AfterRcuGp, Demands { validate: false, ..careful })
                .contains("that sleep would")
        );
    }

    #[test]
    fn handlers_need_a_reserve_that_frees_fill_up_again() {
        for signals in [Signals::Alloc, Signals::AllocFree] {
            let handlers = Demands { signals, ..VALIDATING };
            assert_eq!(stand(handlers), [Immediate, AfterRcuGp, AfterTasksTraceGp]);
            assert!(why_not(FreeAfterRcuGp, handlers).contains("handlers"));
        }
    }

    #[test]
    fn foreign_types_in_the_same_classes_are_no_company_for_readers_that_validate() {
        let shared = Demands { shared: Shared::OtherTypes, ..VALIDATING };
        assert_eq!(stand(shared), [AfterRcuGp, FreeAfterRcuGp, AfterTasksTraceGp]);
        assert!(why_not(Immediate, shared).contains("foreign"));
        let sleeping = Demands { sleep: true, ..shared };
        assert_eq!(stand(sleeping), [AfterTasksTraceGp]);
    }

    #[test]
    fn readers_of_other_processes_are_protected_by_no_policy() {
        assert_eq!(stand(Demands { shared: Shared::Processes, ..VALIDATING }), []);
    }

    #[test]
    fn without_readers_all_stand() {
        let alone = Demands { readers: false, validate: false, references: true, ..VALIDATING };
        assert_eq!(stand(alone), PolicyKind::ALL);
    }
}
