//! Which CPU this thread is on, as a hint.
//!
//! The answer may be stale when it is used: the `active` protocol of the caches does not rely on
//! it. Any numbering will do, holes included; a number beyond the slots wraps.

use std::fmt;
use std::str::FromStr;

#[cfg(not(loom))]
use crate::sync::{AtomicUsize, Ordering};

/// How an allocator finds the cache that a thread uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CpuMode {
    /// A cache for each CPU, entered with one atomic exchange (the kernel's `active` counter).
    ActiveCpu,
    /// As many caches, but each thread keeps to one of them: where the system tells no CPU
    /// number, and for tests.
    ActiveThread,
}

impl CpuMode {
    /// Every mode, whether this system has it or not.
    pub const ALL: &'static [Self] = &[Self::ActiveCpu, Self::ActiveThread];

    /// Whether this process can use the mode.
    pub fn is_supported(self) -> bool {
        match self {
            Self::ActiveCpu => imp::cpu_number_is_known(),
            Self::ActiveThread => true,
        }
    }

    /// The fastest mode that this process can use.
    pub fn best() -> Self {
        if Self::ActiveCpu.is_supported() { Self::ActiveCpu } else { Self::ActiveThread }
    }
}

impl fmt::Display for CpuMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ActiveCpu => "active-cpu",
            Self::ActiveThread => "active-thread",
        })
    }
}

impl FromStr for CpuMode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|mode| mode.to_string() == name).ok_or_else(|| {
            format!("unknown CPU mode \"{name}\": allowed are active-cpu and active-thread")
        })
    }
}

/// Chooses a slot out of a fixed number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuSlots {
    mode: CpuMode,
    slots: usize,
    source: imp::Source,
}

impl CpuSlots {
    pub(crate) fn new(mode: CpuMode) -> Self {
        Self { mode, slots: imp::possible_cpus(), source: imp::Source::find() }
    }

    pub(crate) fn mode(&self) -> CpuMode {
        self.mode
    }

    pub(crate) fn count(&self) -> usize {
        self.slots
    }

    /// The slot for this thread at this moment. Async-signal-safe.
    #[inline(always)]
    pub(crate) fn current(&self) -> usize {
        let number = match self.mode {
            CpuMode::ActiveCpu => self.source.cpu(),
            CpuMode::ActiveThread => thread_number(),
        };
        if number < self.slots { number } else { number % self.slots }
    }
}

#[cfg(not(loom))]
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

#[cfg(loom)]
pub(crate) use imp::thread_number;

#[cfg(all(target_os = "linux", not(any(loom, miri))))]
mod imp {
    use std::sync::LazyLock;

    /// Where the thread pointer finds the restartable-sequence area that glibc registered, or
    /// `None` where there is none (another libc, an old one, or switched off).
    static RSEQ_OFFSET: LazyLock<Option<isize>> = LazyLock::new(find_rseq_offset);

    fn find_rseq_offset() -> Option<isize> {
        let symbol = |name: &std::ffi::CStr| {
            // SAFETY: `name` ends in NUL; looking a symbol up has no other condition (INV-S1).
            unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }
        };
        let (offset, size) = (symbol(c"__rseq_offset"), symbol(c"__rseq_size"));
        if !cfg!(target_arch = "x86_64") || offset.is_null() || size.is_null() {
            return None;
        }
        // SAFETY: glibc documents both as constant objects of these types, set before `main`.
        let (offset, size) = unsafe { (*offset.cast::<isize>(), *size.cast::<u32>()) };
        (size != 0).then_some(offset)
    }

    /// Where the CPU number comes from.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct Source {
        /// Zero (never the place of the area) stands for `sched_getcpu`.
        rseq_offset: isize,
    }

    impl Source {
        pub(super) fn find() -> Self {
            Self { rseq_offset: RSEQ_OFFSET.unwrap_or(0) }
        }

        #[inline(always)]
        pub(super) fn cpu(self) -> usize {
            #[cfg(target_arch = "x86_64")]
            if self.rseq_offset != 0 {
                let number: i32;
                // SAFETY: the area lies at that offset from the thread pointer of every thread
                // (glibc's registration); `cpu_id` is its second 32-bit word, and the kernel
                // keeps it up to date.
                unsafe {
                    std::arch::asm!(
                        "mov {number:e}, dword ptr fs:[{offset} + 4]",
                        number = out(reg) number,
                        offset = in(reg) self.rseq_offset,
                        options(nostack, preserves_flags, readonly),
                    );
                }
                if number >= 0 {
                    return number as usize;
                }
            }
            ask_the_kernel()
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

    pub(super) fn possible_cpus() -> usize {
        // SAFETY: a plain query.
        let configured = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
        usize::try_from(configured).unwrap_or(1).max(1)
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

    /// Under loom two CPUs, as few as can disagree.
    pub(super) fn possible_cpus() -> usize {
        if cfg!(loom) { 2 } else { std::thread::available_parallelism().map_or(1, usize::from) }
    }

    #[cfg(loom)]
    loom::thread_local! {
        static CPU: std::cell::Cell<usize> = std::cell::Cell::new(0);
    }

    /// The CPU that a model put this thread on: 0 unless [`run_on`] said otherwise.
    #[cfg(loom)]
    pub(crate) fn thread_number() -> usize {
        CPU.with(|cpu| cpu.get())
    }

    /// Puts the calling thread of a model on a CPU.
    #[cfg(loom)]
    pub fn run_on(number: usize) {
        CPU.with(|cpu| cpu.set(number));
    }
}

#[cfg(loom)]
pub use imp::run_on;
