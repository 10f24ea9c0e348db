//! What the counting build tells of its accesses, and whom: a simulated machine, which decides too
//! when another thread goes on, which CPU a thread is on, and what time it is.
//!
//! Without a machine, and for threads that are on none of its CPUs, nothing is told.

use std::panic::Location;
use std::sync::OnceLock;
use std::time::Duration;

/// What an access does to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKind {
    /// Reads.
    Load,
    /// Writes.
    Store,
    /// An atomic read-modify-write, or a store that is as dear: it owns the line, whatever it finds.
    ReadModifyWrite,
}

/// One access of the code under test.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// The first byte.
    pub address: usize,
    /// How many bytes.
    pub bytes: usize,
    /// What it does to them.
    pub kind: AccessKind,
    /// The line of source that asks for it.
    pub place: &'static Location<'static>,
}

/// A simulated machine. Its methods are called by every thread of the process.
pub trait Machine: Sync {
    /// May let another thread go on: called before every access that can be told from others.
    fn preempt(&self);

    /// An access that comes next, before any other thread goes on.
    fn access(&self, access: Access);

    /// The bytes of a cell may be read from now on and, if it `writes`, written, until another
    /// thread asks for the cell.
    fn cell(&self, address: usize, bytes: usize, writes: bool, place: &'static Location<'static>);

    /// A fence that waits until every store is seen.
    fn fence(&self);

    /// A system call that interrupts every other CPU.
    fn interrupt_others(&self);

    /// The thread can't go on before another has.
    fn pause(&self);

    /// The same, for a time.
    fn sleep(&self, time: Duration);

    /// How many CPUs there are.
    fn cpus(&self) -> usize;

    /// The one that the calling thread is on.
    fn cpu(&self) -> usize;

    /// The time.
    fn now(&self) -> Duration;
}

static MACHINE: OnceLock<&'static dyn Machine> = OnceLock::new();

/// Has every access from now on told to `machine`.
///
/// # Panics
///
/// If there is one already.
pub fn install(machine: &'static dyn Machine) {
    assert!(MACHINE.set(machine).is_ok(), "there is a machine already");
}

/// The machine, if there is one.
pub(crate) fn installed() -> Option<&'static dyn Machine> {
    MACHINE.get().copied()
}

/// Tells of an access at a place where another thread may go on before it.
pub(crate) fn access<T>(at: *const T, kind: AccessKind, place: &'static Location<'static>) {
    if let Some(machine) = installed() {
        machine.preempt();
        machine.access(Access { address: at.addr(), bytes: size_of::<T>(), kind, place });
    }
}

/// Tells of an access to a cell.
pub(crate) fn cell<T>(at: *const T, writes: bool, place: &'static Location<'static>) {
    if let Some(machine) = installed() {
        machine.preempt();
        machine.cell(at.addr(), size_of::<T>(), writes, place);
    }
}
