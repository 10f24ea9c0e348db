//! The system call that orders the memory accesses of other threads, and the kinds of barrier that
//! are built on it (`rcu::barrier`).

use crate::parse_name::{ParseNameError, parse_name};
use std::fmt;
use std::str::FromStr;

/// How readers and grace periods order their memory accesses against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BarrierKind {
    /// The domain moves between the other two by itself, by what its barriers cost and how often
    /// they are needed: it begins with [`Membarrier`](Self::Membarrier) and takes
    /// [`Fence`](Self::Fence) while barriers would take more than a fiftieth of the time.
    ///
    /// Statistics show the kind in force.
    Adaptive,
    /// Readers pay nothing, a grace period calls `membarrier(PRIVATE_EXPEDITED)`: about 0.5 µs
    /// alone, about 10 µs on a virtual machine while another core is busy.
    ///
    /// If a filter of system calls that comes into force after the domain was made refuses that
    /// call, no grace period passes any more while another thread may read: install the filter
    /// first, let it pass `membarrier`, or choose [`Fence`](Self::Fence). The same holds for
    /// [`Adaptive`](Self::Adaptive).
    Membarrier,
    /// Both sides execute a SeqCst fence: about 2 ns for every outermost read section. A grace
    /// period is a look at the readers' slots and nothing else.
    Fence,
}

impl BarrierKind {
    /// Every kind, whether this system has it or not.
    pub const ALL: &'static [Self] = &[Self::Adaptive, Self::Membarrier, Self::Fence];

    /// Whether this process can use the kind.
    pub fn is_supported(self) -> bool {
        match self {
            Self::Adaptive | Self::Membarrier => register(),
            Self::Fence => true,
        }
    }

    /// The kind that a domain has by default: [`Adaptive`](Self::Adaptive) where this process can
    /// use it.
    pub fn best() -> Self {
        if Self::Adaptive.is_supported() { Self::Adaptive } else { Self::Fence }
    }
}

impl fmt::Display for BarrierKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Adaptive => "adaptive",
            Self::Membarrier => "membarrier",
            Self::Fence => "fence",
        })
    }
}

impl FromStr for BarrierKind {
    type Err = ParseNameError;

    fn from_str(name: &str) -> Result<Self, ParseNameError> {
        parse_name("barrier kind", Self::ALL, name)
    }
}

#[cfg(all(target_os = "linux", not(any(loom, miri))))]
mod linux {
    use once_cell::race::OnceBool;

    /// Whether the system did what `command` says.
    pub(crate) fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: INV-S1: the call takes no pointers and affects no memory of ours.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }

    pub(super) fn register() -> bool {
        static REGISTERED: OnceBool = OnceBool::new();
        REGISTERED.get_or_init(|| membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED))
    }

    /// Fails for want of memory in the kernel, or where a filter forbids it after all.
    #[cfg(not(counted))]
    pub(crate) fn expedite() -> bool {
        membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
    }

    /// Counts: where one thread goes on at a time, every access is ordered.
    #[cfg(counted)]
    pub(crate) fn expedite() -> bool {
        if let Some(machine) = crate::sync::machine::installed() {
            machine.interrupt_others();
        }
        true
    }
}

#[cfg(all(target_os = "linux", not(any(loom, miri))))]
pub(crate) use linux::expedite;
#[cfg(all(target_os = "linux", target_arch = "x86_64", not(any(loom, miri, counted))))]
pub(crate) use linux::membarrier;
#[cfg(all(target_os = "linux", not(any(loom, miri))))]
use linux::register;

#[cfg(not(all(target_os = "linux", not(any(loom, miri)))))]
fn register() -> bool {
    false
}

#[cfg(not(all(target_os = "linux", not(any(loom, miri)))))]
pub(crate) fn expedite() -> bool {
    unreachable!("the membarrier kind is never chosen where it is not supported");
}
