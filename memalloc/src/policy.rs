//! The reuse policies, as types and as a value.

use crate::parse_name::{ParseNameError, parse_name};
use std::fmt;
use std::str::FromStr;

/// A freed object may be allocated again at once, last in first out, on the same CPU
/// (`bpf_mem_free`).
///
/// Readers can rely on memory and type, but not on identity: they must validate what they found.
#[derive(Debug)]
#[doc(alias = "bpf_mem_free")]
pub enum Immediate {}

/// A freed object may be allocated again after one RCU grace period (`bpf_mem_free_rcu`).
///
/// Inside a read section an address keeps the object that was found there.
#[derive(Debug)]
#[doc(alias = "bpf_mem_free_rcu")]
pub enum AfterRcuGp {}

/// A freed object goes back to its slab after one RCU grace period, and is allocated again only
/// from there (the RFC flag `BPF_MA_FREE_AFTER_RCU_GP`).
///
/// Inside a read section an address keeps the object that was found there. Readers that may sleep
/// can rely on nothing, not even on memory.
///
/// After a stall, a free returns up to 6,000 objects of its CPU to their slabs, and the next frees,
/// or [`tend`](crate::MemAlloc::tend), return the others. (Under the other policies a free moves up
/// to 2,000 objects along each part of their path.)
#[derive(Debug)]
#[doc(alias = "BPF_MA_FREE_AFTER_RCU_GP")]
pub enum FreeAfterRcuGp {}

/// A freed object may be allocated again after a grace period of either flavour, RCU and RCU
/// tasks trace (`call_rcu_tasks_trace` and `call_rcu` on every free).
///
/// Inside a read section of either flavour an address keeps the object that was found there.
#[derive(Debug)]
#[doc(alias = "call_rcu_tasks_trace")]
pub enum AfterTasksTraceGp {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Immediate {}
    impl Sealed for super::AfterRcuGp {}
    impl Sealed for super::FreeAfterRcuGp {}
    impl Sealed for super::AfterTasksTraceGp {}
}

/// A reuse policy: it decides when a freed object may be allocated again. The policy is in the type
/// of an allocator, so the compiler checks what a reader may assume.
pub trait ReusePolicy: sealed::Sealed + Send + Sync + 'static {
    /// The policy as a value.
    const KIND: PolicyKind;
    /// True if an address keeps its object for as long as a read section lasts.
    const PROTECTS_IDENTITY: bool;
}

/// The policies under which a reader may keep a reference: inside a read section, an address
/// holds the object that was found there.
pub trait ProtectsIdentity: ReusePolicy {}

/// The policies under which a reader that may sleep can keep a reference too: inside a section of
/// [`pin_trace`](crate::rcu::Domain::pin_trace), an address holds the object that was found there.
pub trait ProtectsSleepers: ProtectsIdentity {}

impl ReusePolicy for Immediate {
    const KIND: PolicyKind = PolicyKind::Immediate;
    const PROTECTS_IDENTITY: bool = false;
}

impl ReusePolicy for AfterRcuGp {
    const KIND: PolicyKind = PolicyKind::AfterRcuGp;
    const PROTECTS_IDENTITY: bool = true;
}

impl ProtectsIdentity for AfterRcuGp {}

impl ReusePolicy for FreeAfterRcuGp {
    const KIND: PolicyKind = PolicyKind::FreeAfterRcuGp;
    const PROTECTS_IDENTITY: bool = true;
}

impl ProtectsIdentity for FreeAfterRcuGp {}

impl ReusePolicy for AfterTasksTraceGp {
    const KIND: PolicyKind = PolicyKind::AfterTasksTraceGp;
    const PROTECTS_IDENTITY: bool = true;
}

impl ProtectsIdentity for AfterTasksTraceGp {}

impl ProtectsSleepers for AfterTasksTraceGp {}

/// A reuse policy as a value, for command lines and statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PolicyKind {
    /// Reuse at once, written `immediate`: [`Immediate`].
    Immediate,
    /// Reuse after an RCU grace period, written `after-rcu-gp`: [`AfterRcuGp`].
    AfterRcuGp,
    /// Return to the slab after an RCU grace period, written `free-after-rcu-gp`:
    /// [`FreeAfterRcuGp`].
    FreeAfterRcuGp,
    /// Reuse after a grace period of either flavour, written `after-tasks-trace-gp`:
    /// [`AfterTasksTraceGp`].
    AfterTasksTraceGp,
}

impl PolicyKind {
    /// Every policy.
    pub const ALL: &'static [Self] =
        &[Self::Immediate, Self::AfterRcuGp, Self::FreeAfterRcuGp, Self::AfterTasksTraceGp];
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Immediate => "immediate",
            Self::AfterRcuGp => "after-rcu-gp",
            Self::FreeAfterRcuGp => "free-after-rcu-gp",
            Self::AfterTasksTraceGp => "after-tasks-trace-gp",
        })
    }
}

impl FromStr for PolicyKind {
    type Err = ParseNameError;

    fn from_str(name: &str) -> Result<Self, ParseNameError> {
        parse_name("policy", Self::ALL, name)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_policy_parses_from_its_printed_name() {
        for &kind in PolicyKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        let error = "later".parse::<PolicyKind>().unwrap_err().to_string();
        assert!(error.contains("\"later\"") && error.contains("after-rcu-gp"), "{error}");
    }
}
