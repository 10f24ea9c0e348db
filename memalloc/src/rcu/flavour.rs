//! The flavours of readers, as types and as values.

use std::fmt;

/// The flavour of readers that must not sleep and that cost two stores: see
/// [`Domain::pin`](super::Domain::pin).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rcu {}

/// The flavour of readers that may sleep and move to another thread: see
/// [`Domain::pin_trace`](super::Domain::pin_trace).
#[doc(alias = "rcu_tasks_trace")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TasksTrace {}

/// A flavour as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FlavourKind {
    /// Sections that stay on their thread and are short: [`Rcu`].
    Rcu,
    /// Sections that may sleep: [`TasksTrace`].
    TasksTrace,
}

impl fmt::Display for FlavourKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rcu => "RCU",
            Self::TasksTrace => "RCU tasks trace",
        })
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Rcu {}
    impl Sealed for super::TasksTrace {}
}

/// A flavour of readers, and of the grace periods that wait for them.
pub trait Flavour:
    sealed::Sealed + Copy + Ord + std::hash::Hash + fmt::Debug + Send + Sync + 'static
{
    /// The flavour as a value.
    const KIND: FlavourKind;
}

impl Flavour for Rcu {
    const KIND: FlavourKind = FlavourKind::Rcu;
}

impl Flavour for TasksTrace {
    const KIND: FlavourKind = FlavourKind::TasksTrace;
}
