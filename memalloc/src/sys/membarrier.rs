//! The system call that orders the memory accesses of other threads, and the kinds of barrier that
//! use it (`rcu::barrier`).

use crate::parse_name::{ParseNameError, parse_name};
use std::fmt;
use std::str::FromStr;

/// The barrier that orders the memory accesses of readers and grace periods against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BarrierKind {
    /// Switches between the other two at run time. It begins with [`Membarrier`](Self::Membarrier),
    /// changes to [`Fence`](Self::Fence) when membarriers take more than 1/50 of the time, and back
    /// when they would take less than 1/200.
    ///
    /// Statistics show the kind in force.
    Adaptive,
    /// Readers pay nothing, and a grace period calls `membarrier(PRIVATE_EXPEDITED)`: about 0.5 µs
    /// alone, about 10 µs on a virtual machine while another core is busy.
    ///
    /// If a system-call filter that takes effect after the domain was created refuses that call,
    /// the domain switches to [`Fence`](Self::Fence) for the rest of its life; so does a domain
    /// with [`Adaptive`](Self::Adaptive). For the switch, the calling thread visits every CPU,
    /// which takes milliseconds on a busy machine and needs `sched_setaffinity`. If the filter
    /// refuses that too, no grace period passes while another thread may read.
    Membarrier,
    /// Both sides execute a SeqCst fence: about 2 ns for every outermost read section. A grace
    /// period only scans the readers' slots.
    Fence,
}

impl BarrierKind {
    /// Every kind, supported by this system or not.
    pub const ALL: &'static [Self] = &[Self::Adaptive, Self::Membarrier, Self::Fence];

    /// Returns whether this process can use the kind.
    #[must_use]
    pub fn is_supported(self) -> bool {
        match self {
            Self::Adaptive | Self::Membarrier => register(),
            Self::Fence => true,
        }
    }

    /// Returns the default kind of a domain: [`Adaptive`](Self::Adaptive) if this process can use
    /// it, else [`Fence`](Self::Fence).
    #[must_use]
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

    /// Executes `command`, and returns whether it succeeded.
    pub(crate) fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: MEM-S1: the call takes no pointers and affects no memory of ours.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }

    pub(super) fn register() -> bool {
        static REGISTERED: OnceBool = OnceBool::new();
        REGISTERED.get_or_init(|| membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED))
    }

    /// Orders the memory accesses of all threads as `membarrier` does, for a process in which a
    /// filter has started to refuse that: runs the calling thread on every CPU in turn, so that
    /// each CPU switches away from the thread that it runs. The switch also restarts that thread's
    /// sequence. Returns `false` if the system refuses this too. Async-signal-safe.
    ///
    /// Skips CPUs that the calling thread may not run on. Threads that the program confines to such
    /// CPUs, by another cgroup, are not ordered.
    #[cold]
    pub(crate) fn visit_every_cpu() -> bool {
        /// One bit for each of the 8192 CPUs that Linux supports.
        const WORDS: usize = 8192 / 64;
        const WORD_BYTES: usize = size_of::<u64>();
        let mut own = [0_u64; WORDS];
        let own_thread = 0;
        // SAFETY: MEM-S1: the sets have as many bytes as are passed to the calls.
        let set = |cpus: &[u64]| unsafe {
            let (call, bytes) = (libc::SYS_sched_setaffinity, size_of_val(cpus));
            libc::syscall(call, own_thread, bytes, cpus.as_ptr()) == 0
        };
        // SAFETY: as above. The call returns the number of bytes that it filled.
        let filled = unsafe {
            let (call, bytes) = (libc::SYS_sched_getaffinity, size_of_val(&own));
            libc::syscall(call, own_thread, bytes, own.as_mut_ptr())
        };
        let Ok(words) = usize::try_from(filled).map(|bytes| bytes / WORD_BYTES) else {
            return false;
        };
        let mut visited = false;
        for cpu in 0..words * 64 {
            let mut one = [0_u64; WORDS];
            one[cpu / 64] = 1 << (cpu % 64);
            visited |= set(&one[..words]);
        }
        // The thread's own set is restored.
        visited && set(&own[..words])
    }

    /// Returns `false` if the kernel has no memory, or if a filter refuses the call.
    #[cfg(not(counted))]
    pub(crate) fn expedite() -> bool {
        membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
    }

    /// Only counts: one thread runs at a time, so every access is ordered.
    #[cfg(counted)]
    pub(crate) fn expedite() -> bool {
        if let Some(machine) = crate::sync::machine::installed() {
            machine.interrupt_others();
        }
        true
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64", not(any(loom, miri, counted))))]
pub(crate) use linux::membarrier;
#[cfg(all(target_os = "linux", not(any(loom, miri))))]
use linux::register;
#[cfg(all(target_os = "linux", not(any(loom, miri))))]
pub(crate) use linux::{expedite, visit_every_cpu};

#[cfg(not(all(target_os = "linux", not(any(loom, miri)))))]
fn register() -> bool {
    false
}

#[cfg(not(all(target_os = "linux", not(any(loom, miri)))))]
pub(crate) fn expedite() -> bool {
    unreachable!("the membarrier kind is never chosen where it is not supported");
}

#[cfg(not(all(target_os = "linux", not(any(loom, miri)))))]
pub(crate) fn visit_every_cpu() -> bool {
    false
}
