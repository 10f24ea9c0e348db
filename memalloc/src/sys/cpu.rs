//! The CPU that this thread is on, as a hint.
//!
//! The answer may be stale when it is used, so code that enters a cache does not rely on it. Any
//! numbering works, with or without holes; a number beyond the slots wraps.

use super::cpu_mode_reason::CpuModeReason;
use super::rseq::Rseq;
use crate::parse_name::{ParseNameError, parse_name};
use std::fmt;
use std::str::FromStr;

#[cfg(not(any(loom, shuttle)))]
use crate::sync::{AtomicUsize, Ordering};

/// The way in which an allocator finds the cache that a thread uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CpuMode {
    /// One cache per CPU, used by restartable sequences: no atomic instruction, no lock. Linux on
    /// x86_64 with glibc 2.35 or newer.
    ///
    /// An operation that visits the caches of other CPUs calls `membarrier`. If a system-call
    /// filter that takes effect after the allocator was created refuses that call, statistics,
    /// `quiesce`, `destroy`, `tend`, `trim` and the drop of the allocator wait forever, and so does
    /// `alloc` before it reports that memory has run out. Install the filter first, let the call
    /// pass, or choose another mode. A process that is frozen and may be resumed on a machine with
    /// more CPUs has to choose another mode in any case: there are no caches for those CPUs.
    Rseq,
    /// One cache per CPU, entered with one atomic exchange (the kernel's `active` counter).
    ActiveCpu,
    /// As many caches, but each thread always uses the same one. For systems that provide no CPU
    /// number, and for tests. Threads that end leave free objects in their caches, for later
    /// threads that use these; [`tend`](crate::MemAlloc::tend), `trim` and a `Worker` return them
    /// if none does.
    ActiveThread,
}

impl CpuMode {
    /// Every mode, supported by this system or not.
    pub const ALL: &'static [Self] = &[Self::Rseq, Self::ActiveCpu, Self::ActiveThread];

    /// Returns whether this process can use the mode.
    #[must_use]
    pub fn is_supported(self) -> bool {
        match self {
            // A sequence does not check that there is a cache for its CPU (MEM-Q3).
            Self::Rseq => Rseq::find().is_some() && imp::possible_cpus().is_some(),
            Self::ActiveCpu => imp::cpu_number_is_known(),
            Self::ActiveThread => true,
        }
    }

    /// Returns the fastest mode that this process can use.
    #[must_use]
    pub fn best() -> Self {
        ChosenMode::best().mode
    }
}

/// A mode, and the reason for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChosenMode {
    pub(crate) mode: CpuMode,
    pub(crate) reason: CpuModeReason,
}

impl ChosenMode {
    /// The fastest mode that this process can use.
    pub(crate) fn best() -> Self {
        let fallback = |reason| match imp::cpu_number_is_known() {
            true => Self { mode: CpuMode::ActiveCpu, reason },
            false => Self { mode: CpuMode::ActiveThread, reason: CpuModeReason::NoCpuNumber },
        };
        match Rseq::find() {
            Some(_) if CpuMode::Rseq.is_supported() => {
                Self { mode: CpuMode::Rseq, reason: CpuModeReason::Fastest }
            }
            Some(_) => fallback(CpuModeReason::UnknownCpus),
            None => fallback(Rseq::missing()),
        }
    }
}

impl fmt::Display for CpuMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rseq => "rseq",
            Self::ActiveCpu => "active-cpu",
            Self::ActiveThread => "active-thread",
        })
    }
}

impl FromStr for CpuMode {
    type Err = ParseNameError;

    fn from_str(name: &str) -> Result<Self, ParseNameError> {
        parse_name("CPU mode", Self::ALL, name)
    }
}

/// Assigns threads to a fixed number of slots.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuSlots {
    mode: CpuMode,
    slots: usize,
    source: imp::Source,
}

impl CpuSlots {
    pub(crate) fn new(mode: CpuMode) -> Self {
        let slots = imp::possible_cpus().unwrap_or_else(imp::likely_cpus);
        Self { mode, slots, source: imp::Source::find() }
    }

    pub(crate) fn mode(&self) -> CpuMode {
        self.mode
    }

    pub(crate) fn count(&self) -> usize {
        self.slots
    }

    /// Returns the slot of this thread at this moment. Async-signal-safe.
    #[inline(always)]
    pub(crate) fn current(&self) -> usize {
        let number = match self.mode {
            CpuMode::Rseq | CpuMode::ActiveCpu => self.source.cpu(),
            CpuMode::ActiveThread => thread_number(),
        };
        if number < self.slots { number } else { number % self.slots }
    }
}

#[cfg(not(any(loom, shuttle)))]
fn thread_number() -> usize {
    use std::cell::Cell;
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    std::thread_local! { static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) } }
    NUMBER.with(|number| {
        if number.get() == usize::MAX {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

/// Is the same when a schedule is replayed.
#[cfg(shuttle)]
fn thread_number() -> usize {
    super::thread::current() as usize
}

#[cfg(loom)]
pub(crate) use imp::thread_number;

#[cfg(all(target_os = "linux", not(any(loom, miri))))]
mod imp {
    use crate::sys::rseq::Rseq;
    use once_cell::race::OnceNonZeroUsize;
    use std::num::NonZeroUsize;

    /// The source of the CPU number: the area for restartable sequences, at no cost, if there is
    /// one; else `sched_getcpu`.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Source {
        rseq: Option<Rseq>,
    }

    impl Source {
        pub(super) fn find() -> Self {
            Self { rseq: Rseq::find() }
        }

        #[inline(always)]
        pub(super) fn cpu(self) -> usize {
            self.rseq.and_then(Rseq::cpu).unwrap_or_else(ask_the_kernel)
        }
    }

    #[cold]
    fn ask_the_kernel() -> usize {
        // SAFETY: takes no arguments; -1 (not supported) becomes a large number, which wraps.
        unsafe { libc::sched_getcpu() as usize }
    }

    pub(super) fn cpu_number_is_known() -> bool {
        // SAFETY: takes no arguments.
        unsafe { libc::sched_getcpu() >= 0 }
    }

    /// Returns one more than the highest number that a CPU can have. That is not the number of
    /// CPUs, because the numbers have holes. Returns `None` if the system does not tell.
    pub(super) fn possible_cpus() -> Option<usize> {
        #[cfg(counted)]
        if let Some(machine) = crate::sync::machine::installed() {
            return Some(machine.cpus());
        }
        /// That number plus one, or 1 for `None`. Each allocator uses the same, and the file is
        /// read once.
        static POSSIBLE: OnceNonZeroUsize = OnceNonZeroUsize::new();
        let look = || {
            let list = std::fs::read_to_string("/sys/devices/system/cpu/possible").ok();
            let (allowed, room) = own_mask()?;
            Some(bound(list.as_deref(), allowed, room))
        };
        let found = POSSIBLE.get_or_init(|| NonZeroUsize::MIN.saturating_add(look().unwrap_or(0)));
        Some(found.get() - 1).filter(|&cpus| cpus > 0)
    }

    /// Returns one more than the highest number in `list`, or `room` if there is none, or if the
    /// list cannot be the kernel's (a container may provide its own): this thread may run on CPUs
    /// below `allowed`, and the kernel has no room for more than `room`.
    pub(super) fn bound(list: Option<&str>, allowed: usize, room: usize) -> usize {
        let last = |list: &str| list.trim().split(['-', ',']).next_back()?.parse().ok();
        let highest: Option<usize> = list.and_then(last);
        let listed = highest.and_then(|highest| highest.checked_add(1));
        listed.filter(|listed| (allowed..=room).contains(listed)).unwrap_or(room)
    }

    /// Returns one more than the highest CPU that this thread may run on, and the number of CPUs
    /// that the kernel's own sets have room for, which is at least the number that can exist.
    pub(super) fn own_mask() -> Option<(usize, usize)> {
        let mut mask = [0u64; 1 << 10];
        let (own_thread, room, place) = (0, size_of_val(&mask), mask.as_mut_ptr());
        // SAFETY: MEM-S1: `mask` has `room` bytes. Unlike the C library's function, the call itself
        // returns how many of them the kernel has filled.
        let filled = unsafe { libc::syscall(libc::SYS_sched_getaffinity, own_thread, room, place) };
        let words = usize::try_from(filled).ok()?.div_ceil(size_of::<u64>());
        let last = mask.get(..words)?.iter().rposition(|&word| word != 0)?;
        let bits = u64::BITS as usize;
        Some(((last + 1) * bits - mask[last].leading_zeros() as usize, words * bits))
    }

    /// Guesses the number of CPUs. The C library may have it from the list that `bound`
    /// rejects, so the guess keeps to the same limits.
    pub(super) fn likely_cpus() -> usize {
        // SAFETY: a plain query.
        let configured = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
        let guess = usize::try_from(configured).unwrap_or(1).max(1);
        own_mask().map_or(guess, |(allowed, room)| guess.clamp(allowed, room))
    }
}

#[cfg(not(all(target_os = "linux", not(loom), not(miri))))]
mod imp {
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Source;

    impl Source {
        pub(super) fn find() -> Self {
            Self
        }

        pub(super) fn cpu(self) -> usize {
            super::thread_number()
        }
    }

    pub(super) fn cpu_number_is_known() -> bool {
        cfg!(loom)
    }

    pub(super) fn possible_cpus() -> Option<usize> {
        None
    }

    /// Under loom there are two CPUs, the fewest that can disagree.
    pub(super) fn likely_cpus() -> usize {
        if cfg!(loom) { 2 } else { std::thread::available_parallelism().map_or(1, usize::from) }
    }

    #[cfg(loom)]
    loom::thread_local! {
        static CPU: std::cell::Cell<usize> = std::cell::Cell::new(0);
    }

    /// Returns the CPU that a model put this thread on: 0 unless [`run_on`] set another.
    #[cfg(loom)]
    pub(crate) fn thread_number() -> usize {
        CPU.with(|cpu| cpu.get())
    }

    /// Puts the calling thread of a model on CPU `number`.
    #[cfg(loom)]
    pub fn run_on(number: usize) {
        CPU.with(|cpu| cpu.set(number));
    }
}

#[cfg(loom)]
pub use imp::run_on;

#[cfg(all(test, target_os = "linux", not(any(loom, miri))))]
mod tests {
    use super::imp;

    #[test]
    fn a_list_of_cpus_is_believed_unless_the_kernel_contradicts_it() {
        let bound = |list, allowed| imp::bound(Some(list), allowed, 64);
        assert_eq!(bound("0-3\n", 2), 4);
        assert_eq!(bound("0,2-5\n", 6), 6);
        assert_eq!(bound("0\n", 1), 1);
        assert_eq!(bound("0\n", 2), 64, "this thread may run on CPU 1");
        assert_eq!(bound("0-64\n", 2), 64, "the kernel has no room for 65");
        assert_eq!(bound("none", 2), 64);
        assert_eq!(imp::bound(None, 2, 64), 64);
    }

    #[test]
    fn this_system_tells_how_many_cpus_there_can_be() {
        let (allowed, room) = imp::own_mask().expect("a set of CPUs");
        assert!(allowed >= 1 && room.is_multiple_of(64));
        assert!(imp::possible_cpus() >= Some(allowed));
    }
}
