//! Restartable sequences: what a thread does between two preemptions, or not at all.
//!
//! The kernel restarts a sequence whose thread it preempts, moves to another CPU, or interrupts
//! with a signal, before its last store (the *commit*). So among the threads of one CPU a
//! sequence is atomic, without an atomic instruction. The area through which that is agreed is
//! the one that glibc registered for each thread; nothing is registered here.
//!
//! The sequences work on one cache for each CPU, [`Caches::CPU_BYTES`] from one another, that
//! begins with 32-bit words: `busy`, `count`, and `count` objects; elsewhere in it there may be
//! another count with its objects.
//!
//! - INV-Q1: while `busy` is 0, the counts and the objects are changed by sequences of that CPU
//!   only.
//! - INV-Q2: `busy` goes from 0 to [`LOCAL`] by a sequence of that CPU only, and to a ticket by
//!   an exchange whose effect is checked after [`Rseq::restart_others`]. Whoever set it has the
//!   cache alone, wherever it runs, and sets it back to 0.

/// The cache is not in use beyond sequences.
pub(crate) const FREE: u32 = 0;
/// A thread that was on the cache's CPU has it.
pub(crate) const LOCAL: u32 = 1;
/// From this number on: a thread that may be on any CPU has it, or tries to. Each attempt takes a
/// number of its own, so that nobody takes another's for its own.
pub(crate) const FIRST_TICKET: u32 = 2;

#[cfg(all(target_os = "linux", target_arch = "x86_64", not(any(loom, miri))))]
mod imp {
    use super::{COUNT_AT, Caches};
    use crate::sys::membarrier::membarrier;
    use std::arch::asm;
    use std::mem::offset_of;
    use std::num::NonZeroIsize;
    use std::ptr::NonNull;
    use std::sync::LazyLock;

    /// Where the area of a thread lies, from its thread pointer, which is not at the area.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Rseq {
        area: NonZeroIsize,
    }

    static RSEQ: LazyLock<Option<Rseq>> = LazyLock::new(|| {
        let rseq = find_area()?;
        (rseq.cpu().is_some() && register_restart()).then_some(rseq)
    });

    fn find_area() -> Option<Rseq> {
        let symbol = |name: &std::ffi::CStr| {
            // SAFETY: `name` ends in NUL; looking a symbol up has no other condition.
            unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }
        };
        let (offset, size) = (symbol(c"__rseq_offset"), symbol(c"__rseq_size"));
        if offset.is_null() || size.is_null() {
            return None;
        }
        // SAFETY: glibc documents both as constant objects of these types, set before `main`.
        let (area, size) = unsafe { (*offset.cast::<isize>(), *size.cast::<u32>()) };
        NonZeroIsize::new(area).filter(|_| size != 0).map(|area| Rseq { area })
    }

    fn register_restart() -> bool {
        membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ)
    }

    /// The beginning of every sequence: arms it, and finds the cache of this CPU in `{cache}`.
    /// A thread whose area is not registered has a number that is no CPU's (INV-Q3).
    /// The end is label 4, a restart comes to label 5, and label 6 gives up with zero in
    /// `{result}`.
    macro_rules! sequence {
        ($($step:literal),* $(,)?) => {
            concat!(
                // The descriptor: version and flags, start, length, and where a restart goes.
                ".pushsection __rseq_cs, \"aw\", @progbits\n",
                ".balign 32\n",
                "2: .long 0, 0\n",
                ".quad 3f, 4f - 3f, 5f\n",
                ".popsection\n",
                "7: lea {cache}, [rip + 2b]\n",
                "mov qword ptr fs:[{area} + 8], {cache}\n",
                "3: mov {cache:e}, dword ptr fs:[{area} + 4]\n",
                "cmp {cache:x}, word ptr [{caches} + {cpus_at}]\n",
                "jae 6f\n",
                "shl {cache}, {cpu_shift}\n",
                "add {cache}, qword ptr [{caches} + {first_at}]\n",
                "cmp dword ptr [{cache}], 0\n",
                "jne 6f\n",
                $($step, "\n",)*
                "4:\n",
                ".pushsection __rseq_failure, \"ax\", @progbits\n",
                // The signature that the kernel looks for before it jumps to label 5.
                ".byte 0x0f, 0xb9, 0x3d\n",
                ".long 0x53053053\n",
                "5: jmp 7b\n",
                "6: xor {result:e}, {result:e}\n",
                "jmp 8f\n",
                ".popsection\n",
                "8:\n",
            )
        };
    }

    impl Rseq {
        /// The sequences of this process, if it has what they need.
        pub(crate) fn find() -> Option<Self> {
            *RSEQ
        }

        /// The CPU that this thread is on; `None` where its area is not registered.
        #[inline(always)]
        pub(crate) fn cpu(self) -> Option<usize> {
            let number: i32;
            // SAFETY: `cpu_id` is the second word of the area, which every thread has.
            unsafe {
                asm!(
                    "mov {number:e}, dword ptr fs:[{area} + 4]",
                    number = out(reg) number,
                    area = in(reg) self.area.get(),
                    options(nostack, preserves_flags, readonly),
                );
            }
            usize::try_from(number).ok()
        }

        /// Takes the last object of this CPU's cache, if it has more than `low` and is not busy.
        /// 0 stands for none.
        ///
        /// # Safety
        ///
        /// `caches` are as the module front says, and stay.
        #[inline(always)]
        pub(crate) unsafe fn pop(self, caches: &Caches) -> u32 {
            let object: u32;
            // SAFETY: INV-Q1: between the start and the commit this thread alone is in the cache
            // of its CPU, or the kernel restarts it; `count > low` objects are there.
            unsafe {
                asm!(
                    sequence!(
                        "mov {count:e}, dword ptr [{cache} + {count_at}]",
                        "cmp {count:l}, byte ptr [{caches} + {low_at}]",
                        "jbe 6f",
                        "mov {result:e}, dword ptr [{cache} + {count:r} * 4 + {count_at}]",
                        "sub {count:e}, 1",
                        "mov dword ptr [{cache} + {count_at}], {count:e}",
                    ),
                    low_at = const offset_of!(Caches, low),
                    count_at = const COUNT_AT,
                    first_at = const offset_of!(Caches, first),
                    cpus_at = const offset_of!(Caches, cpus),
                    cpu_shift = const Caches::CPU_BYTES.trailing_zeros(),
                    area = in(reg) self.area.get(),
                    caches = in(reg) caches,
                    cache = out(reg) _,
                    count = out(reg) _,
                    result = out(reg) object,
                    options(nostack),
                );
            }
            object
        }

        /// Puts an object into this CPU's cache, behind the count at `AT` bytes from its start, if
        /// that is below the limit at `LIMIT_AT` bytes from the start of `caches` and the cache is
        /// not busy.
        ///
        /// # Safety
        ///
        /// As [`pop`](Self::pop), with a count there and room for as many objects as the limit
        /// says.
        #[inline(always)]
        pub(crate) unsafe fn push<const AT: usize, const LIMIT_AT: usize>(
            self,
            caches: &Caches,
            object: u32,
        ) -> bool {
            let done: u32;
            // SAFETY: INV-Q1, as in `pop`. A restart after the object's store and before the
            // commit leaves it beyond `count`, where nobody looks.
            unsafe {
                asm!(
                    sequence!(
                        "mov {result:e}, dword ptr [{cache} + {count_at}]",
                        "cmp {result:l}, byte ptr [{caches} + {limit_at}]",
                        "jae 6f",
                        "mov dword ptr [{cache} + {result:r} * 4 + {count_at} + 4], {object:e}",
                        "add {result:e}, 1",
                        "mov dword ptr [{cache} + {count_at}], {result:e}",
                    ),
                    limit_at = const LIMIT_AT,
                    count_at = const AT,
                    first_at = const offset_of!(Caches, first),
                    cpus_at = const offset_of!(Caches, cpus),
                    cpu_shift = const Caches::CPU_BYTES.trailing_zeros(),
                    area = in(reg) self.area.get(),
                    caches = in(reg) caches,
                    object = in(reg) object,
                    cache = out(reg) _,
                    result = out(reg) done,
                    options(nostack),
                );
            }
            done != 0
        }

        /// Sets this CPU's cache busy, as [`LOCAL`](super::LOCAL), and gives its address.
        ///
        /// # Safety
        ///
        /// As [`pop`](Self::pop).
        #[inline(always)]
        pub(crate) unsafe fn enter(self, caches: &Caches) -> Option<NonNull<u8>> {
            let cache: *mut u8;
            // SAFETY: INV-Q2: the commit happens on the cache's own CPU, so no sequence of that
            // CPU is half done, or it is restarted and finds the cache busy.
            unsafe {
                asm!(
                    sequence!("mov {result:r}, {cache}", "mov dword ptr [{cache}], 1"),
                    first_at = const offset_of!(Caches, first),
                    cpus_at = const offset_of!(Caches, cpus),
                    cpu_shift = const Caches::CPU_BYTES.trailing_zeros(),
                    area = in(reg) self.area.get(),
                    caches = in(reg) caches,
                    cache = out(reg) _,
                    result = out(reg) cache,
                    options(nostack),
                );
            }
            NonNull::new(cache)
        }

        /// Restarts every sequence that another thread of this process is in. Whatever this
        /// thread stored before is seen by every sequence that begins, or begins again, after.
        /// `false` when the system could not do it.
        pub(crate) fn restart_others(self) -> bool {
            membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ)
        }
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64", not(any(loom, miri)))))]
mod imp {
    use super::Caches;
    use std::ptr::NonNull;

    /// There is none.
    #[derive(Clone, Copy, Debug)]
    pub(crate) enum Rseq {}

    impl Rseq {
        pub(crate) fn find() -> Option<Self> {
            None
        }

        /// # Safety
        ///
        /// Can't be called.
        pub(crate) unsafe fn pop(self, _: &Caches) -> u32 {
            match self {}
        }

        /// # Safety
        ///
        /// Can't be called.
        pub(crate) unsafe fn push<const AT: usize, const LIMIT_AT: usize>(
            self,
            _: &Caches,
            _: u32,
        ) -> bool {
            match self {}
        }

        /// # Safety
        ///
        /// Can't be called.
        pub(crate) unsafe fn enter(self, _: &Caches) -> Option<NonNull<u8>> {
            match self {}
        }

        pub(crate) fn restart_others(self) -> bool {
            match self {}
        }
    }
}

/// Where a cache has the count of what is popped and pushed, in bytes.
pub(crate) const COUNT_AT: usize = 4;

/// Caches of one kind, one for each CPU, as the sequences find them; sixteen bytes, so that all
/// that a sequence needs lies together.
///
/// INV-Q3: `cpus` is at most [`Caches::MOST_CPUS`], so that what the area says of a thread that
/// is not registered (-1 or -2) is no CPU, cut to 16 bits as it is.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub(crate) struct Caches {
    /// The address of CPU 0's.
    pub(crate) first: usize,
    /// How many there are.
    pub(crate) cpus: u16,
    /// How many objects a pop leaves.
    pub(crate) low: u8,
    /// From how many objects on a push gives up.
    pub(crate) limit: u8,
    /// The same for the other count.
    pub(crate) by_rcu_limit: u8,
    /// Their owner's number for the kind.
    pub(crate) class: u8,
    /// Their owner's size of an object, in bytes.
    pub(crate) size: u16,
}

impl Caches {
    /// From one CPU's cache to the next CPU's, in bytes.
    pub(crate) const CPU_BYTES: usize = 1 << 17;

    pub(crate) const MOST_CPUS: usize = 1 << 15;
}

pub(crate) use imp::Rseq;
