//! The simulated machine of the counting build. The build reports its accesses to the machine,
//! which also decides when another thread runs, which CPU a thread is on, and what time it is.
//!
//! Without a machine, nothing is reported.

use std::panic::Location;
use std::sync::OnceLock;
use std::time::Duration;

/// The effect of an access on memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKind {
    /// Reads.
    Load,
    /// Writes.
    Store,
    /// An atomic read-modify-write, or a store of the same cost: it owns the line, whatever it
    /// finds.
    ReadModifyWrite,
}

/// One access of the code under test.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// The address of the first byte.
    pub address: usize,
    /// The number of bytes.
    pub bytes: usize,
    /// The kind of access.
    pub kind: AccessKind,
    /// The line of source that makes the access.
    pub place: &'static Location<'static>,
}

/// A simulated machine. Every thread of the process calls its methods, also those on none of its
/// CPUs.
pub trait Machine: Sync {
    /// May let another thread run. Called before every access and fence, and once for a restartable
    /// sequence.
    fn preempt(&self);

    /// Reports the next access. No other thread runs before it.
    fn access(&self, access: Access);

    /// Reports that the bytes of a cell may be read from now on and, if `writes`, written, until
    /// another thread asks for the cell.
    fn cell(&self, address: usize, bytes: usize, writes: bool, place: &'static Location<'static>);

    /// Reports a fence that waits until every store is visible.
    fn fence(&self);

    /// Reports a system call that interrupts every other CPU.
    fn interrupt_others(&self);

    /// Lets other threads run: the calling thread cannot go on before another has.
    fn pause(&self);

    /// Lets other threads run for `time`.
    fn sleep(&self, time: Duration);

    /// The number of CPUs.
    fn cpus(&self) -> usize;

    /// The CPU that the calling thread is on.
    fn cpu(&self) -> usize;

    /// The time on the machine's clock.
    fn now(&self) -> Duration;
}

static MACHINE: OnceLock<&'static dyn Machine> = OnceLock::new();

/// Reports every access from now on to `machine`.
///
/// # Panics
///
/// If a machine is already installed.
pub fn install(machine: &'static dyn Machine) {
    assert!(MACHINE.set(machine).is_ok(), "a machine is already installed");
}

/// Returns the installed machine, if there is one.
pub(crate) fn installed() -> Option<&'static dyn Machine> {
    MACHINE.get().copied()
}

/// Reports an access, before which another thread may run.
pub(crate) fn access<T>(at: *const T, kind: AccessKind, place: &'static Location<'static>) {
    if let Some(machine) = installed() {
        machine.preempt();
        machine.access(Access { address: at.addr(), bytes: size_of::<T>(), kind, place });
    }
}

/// Reports an access to a cell, before which another thread may run.
pub(crate) fn cell<T>(at: *const T, writes: bool, place: &'static Location<'static>) {
    if let Some(machine) = installed() {
        machine.preempt();
        machine.cell(at.addr(), size_of::<T>(), writes, place);
    }
}
