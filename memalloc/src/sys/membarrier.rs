//! The two halves of an asymmetric barrier.
//!
//! A reader's half is [`Barrier::light`], a writer's half [`Barrier::heavy`]: whichever of a pair
//! comes second in time sees every store that the other thread made before its own half. With
//! `sys_membarrier` the light half is free and the heavy half interrupts the processors that run
//! threads of this process; without it both are SeqCst fences.

use crate::sync::{Ordering, fence};
use std::fmt;
use std::str::FromStr;

/// How readers and grace periods order their memory accesses against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BarrierKind {
    /// Readers pay nothing, a grace period calls `membarrier(PRIVATE_EXPEDITED)`: about 0.5 µs
    /// alone, about 10 µs on a virtual machine while another core is busy.
    ///
    /// Where a filter of system calls comes into force after the domain was made and refuses that
    /// call, no grace period passes any more while another thread may read: install the filter
    /// first, let it pass `membarrier`, or choose [`Fence`](Self::Fence).
    Membarrier,
    /// Both sides execute a SeqCst fence: about 2 ns for every outermost read section.
    Fence,
}

impl BarrierKind {
    /// Every kind, whether this system has it or not.
    pub const ALL: &'static [Self] = &[Self::Membarrier, Self::Fence];

    /// Whether this process can use the kind.
    pub fn is_supported(self) -> bool {
        match self {
            Self::Membarrier => register(),
            Self::Fence => true,
        }
    }

    /// The cheapest kind for readers that this process can use.
    pub fn best() -> Self {
        if Self::Membarrier.is_supported() { Self::Membarrier } else { Self::Fence }
    }

    /// The reader's half: after a reader announced itself, before it loads what it protects.
    #[inline(always)]
    pub(crate) fn light(self) {
        match self {
            // ORDERING: pairs with `heavy`, which acts as this fence on behalf of the reader.
            // If the announcement comes first, the scan after `heavy` sees it; if `heavy` comes
            // first, the reader's loads see every unlinking store before it. Falls to
            // `loom_protocol` "light barrier removed".
            #[cfg(not(any(loom, miri)))]
            Self::Membarrier => crate::sync::compiler_fence(Ordering::SeqCst),
            // ORDERING: pairs with the SeqCst fence in `heavy`; the two cases are as above.
            _ => fence(Ordering::SeqCst),
        }
    }

    /// The writer's half: after unlinking, before looking for readers. `others_may_read` is asked
    /// behind this thread's own fence whether there is a reader on another thread at all.
    ///
    /// `false` when the system could not do it: nothing may be concluded then.
    pub(crate) fn heavy(self, others_may_read: impl FnOnce() -> bool) -> bool {
        // ORDERING: pairs with `light`, and with the fence of a thread that becomes a reader. With
        // membarrier the fence orders this thread itself, the system call every other. Falls to
        // `loom_protocol` "heavy barrier removed".
        fence(Ordering::SeqCst);
        self != Self::Membarrier || !others_may_read() || expedite()
    }
}

impl fmt::Display for BarrierKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Membarrier => "membarrier",
            Self::Fence => "fence",
        })
    }
}

impl FromStr for BarrierKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|kind| kind.to_string() == name).ok_or_else(|| {
            format!("unknown barrier kind \"{name}\": allowed are membarrier and fence")
        })
    }
}

#[cfg(all(target_os = "linux", not(any(loom, miri))))]
mod linux {
    use std::sync::LazyLock;

    /// Whether the system did what `command` says.
    pub(crate) fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: INV-S1: the call takes no pointers and affects no memory of ours.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }

    static REGISTERED: LazyLock<bool> =
        LazyLock::new(|| membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED));

    pub(super) fn register() -> bool {
        *REGISTERED
    }

    /// Fails for want of memory in the kernel, or where a filter forbids it after all.
    pub(super) fn expedite() -> bool {
        membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64", not(any(loom, miri))))]
pub(crate) use linux::membarrier;
#[cfg(all(target_os = "linux", not(any(loom, miri))))]
use linux::{expedite, register};

#[cfg(not(all(target_os = "linux", not(any(loom, miri)))))]
fn register() -> bool {
    false
}

#[cfg(not(all(target_os = "linux", not(any(loom, miri)))))]
fn expedite() -> bool {
    unreachable!("the membarrier kind is never chosen where it is not supported");
}
