//! The system call that orders the memory accesses of other threads, and the kinds of barrier that
//! are built on it (`rcu::barrier`).

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
    /// call, the domain changes to [`Fence`](Self::Fence) for good, and so does one with
    /// [`Adaptive`](Self::Adaptive). The change takes a visit to every CPU, milliseconds on a busy
    /// machine. It needs `sched_setaffinity`: where the filter refuses that too, no grace period
    /// ends while another thread may read.
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
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|kind| kind.to_string() == name).ok_or_else(|| {
            format!("unknown barrier kind \"{name}\": allowed are adaptive, membarrier and fence")
        })
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

    /// Orders the memory accesses of all threads as `membarrier` does, where a filter has come to
    /// refuse that: runs the calling thread on every CPU in turn, which takes each from the thread
    /// that it ran. A sequence that was interrupted so is restarted. `false` where the system refuses
    /// this too. Async-signal-safe.
    ///
    /// A CPU that the calling thread may not run on is passed over. Nothing is known of threads
    /// that the program keeps to such CPUs by a cgroup of their own.
    #[cold]
    pub(crate) fn visit_every_cpu() -> bool {
        /// As many CPUs as Linux can have.
        const WORDS: usize = 8192 / 64;
        const WORD_BYTES: usize = size_of::<u64>();
        let mut own = [0_u64; WORDS];
        let own_thread = 0;
        // SAFETY: INV-S1: the sets have as many bytes as the calls are told.
        let set = |cpus: &[u64]| unsafe {
            let (call, bytes) = (libc::SYS_sched_setaffinity, size_of_val(cpus));
            libc::syscall(call, own_thread, bytes, cpus.as_ptr()) == 0
        };
        // SAFETY: as above. Returns the number of bytes that it filled.
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
        // Threads of this process run on the CPUs of the calling thread's set at least.
        visited && set(&own[..words])
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
pub(crate) use linux::{expedite, visit_every_cpu};
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

#[cfg(not(all(target_os = "linux", not(any(loom, miri)))))]
pub(crate) fn visit_every_cpu() -> bool {
    false
}
