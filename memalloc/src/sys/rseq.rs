//! Restartable sequences: what a thread does between two preemptions, or not at all.
//!
//! The kernel restarts a sequence whose thread it preempts, moves to another CPU, or interrupts
//! with a signal, before its last store (the *commit*). So among the threads of one CPU a
//! sequence is atomic, without an atomic instruction. The area through which that is agreed is
//! the one that glibc registered for each thread; nothing is registered here.
//!
//! The sequences work on one cache for each CPU, [`CacheRow::CPU_BYTES`] from one another. A cache
//! begins with the [`CountWord`] of an array, and the array's objects are [`OBJECTS_AT`] bytes behind
//! it; elsewhere in it there may be another word with its objects. The first word says whether
//! the cache is busy.
//!
//! - INV-Q1: while a cache is not busy, its words and objects are changed by sequences of its CPU
//!   only.
//! - INV-Q2: a cache becomes busy as [`CountWord::LOCAL`] by a sequence of its CPU only, and with a
//!   ticket by an exchange whose effect is checked after [`Rseq::restart_others`]: a sequence that
//!   had seen it free may commit over the ticket. Whoever made it busy has it alone, wherever it
//!   runs, and ends that.
//! - INV-Q3: there are caches for every number that the kernel can give a CPU
//!   (`CpuSlots::count`), and in front of CPU 0's room for those of -1 and -2, which the area of a
//!   thread says that is not registered. Nobody writes there: all zero, they look empty and full.

#[cfg(all(target_os = "linux", target_arch = "x86_64", not(any(loom, miri, counted))))]
mod imp {
    use super::{CacheRow, OBJECTS_AT};
    use crate::broken::{self, Fault};
    use crate::sys::count_word::CountWord;
    use crate::sys::membarrier::membarrier;
    use once_cell::race::OnceNonZeroUsize;
    use std::arch::asm;
    use std::mem::offset_of;
    use std::num::NonZeroIsize;
    use std::num::NonZeroUsize;
    use std::ptr::NonNull;

    /// Where the area of a thread lies, from its thread pointer, which is not at the area.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Rseq {
        area: NonZeroIsize,
    }

    /// Where there are none: no area lies there.
    const NONE: NonZeroUsize = NonZeroUsize::MIN;

    /// Finds the same whichever thread looks first: none waits for another's look.
    static AREA: OnceNonZeroUsize = OnceNonZeroUsize::new();

    fn look() -> Option<Rseq> {
        let rseq = find_area().filter(|rseq| rseq.cpu().is_some())?;
        if !register_restart() {
            return None;
        }
        keep_loaded();
        Some(rseq)
    }

    /// Keeps the library that this is a part of in memory, if it is one, for good: the areas of
    /// threads name descriptors that lie in it, and the kernel reads those at any later moment.
    fn keep_loaded() {
        let mut library = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
        // SAFETY: `library` has room for the answer; all zero is one, too. The name, if there is
        // one, is that of a library which is loaded, and ends in NUL.
        unsafe {
            let inside = std::ptr::from_ref(&AREA).cast();
            let library = match libc::dladdr(inside, library.as_mut_ptr()) {
                0 => return,
                _ => library.assume_init(),
            };
            if !library.dli_fname.is_null() {
                let how = libc::RTLD_NOW | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
                // Null where it is the program itself, which stays anyway.
                libc::dlopen(library.dli_fname, how);
            }
        }
    }

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

    /// A sequence. It is armed first; then the cache of this CPU is found in `{cache}`, and the
    /// steps follow, the last of which is the commit. A restart begins at the front. Other steps are
    /// out of line; they leave to label 8, the end.
    macro_rules! sequence {
        (
            [$($step:literal),*], [$($elsewhere:literal),*],
            $rseq:expr, $row:expr, $($operands:tt)*
        ) => {
            asm!(
                concat!(
                    // The descriptor: version and flags, start, length, and where a restart goes.
                    ".pushsection __rseq_cs, \"aw\", @progbits\n",
                    ".balign 32\n",
                    "2: .long 0, 0\n",
                    ".quad 3f, 4f - 3f, 5f\n",
                    ".popsection\n",
                    "7: lea {cache}, [rip + 2b]\n",
                    "mov qword ptr fs:[{area} + 8], {cache}\n",
                    "3: movsxd {cache}, dword ptr fs:[{area} + 4]\n",
                    "shl {cache}, {cpu_shift}\n",
                    "add {cache}, qword ptr [{row} + {first_at}]\n",
                    $($step, "\n",)*
                    "4:\n",
                    ".pushsection __rseq_failure, \"ax\", @progbits\n",
                    // The signature that the kernel looks for before it jumps to label 5.
                    ".byte 0x0f, 0xb9, 0x3d\n",
                    ".long 0x53053053\n",
                    "5: jmp 7b\n",
                    $($elsewhere, "\n",)*
                    ".popsection\n",
                    "8:\n",
                ),
                area = in(reg) $rseq.area.get(),
                row = in(reg) $row,
                first_at = const offset_of!(CacheRow, first),
                cpu_shift = const CacheRow::CPU_BYTES.trailing_zeros(),
                $($operands)*
                options(nostack),
            )
        };
    }

    impl Rseq {
        /// The sequences of this process, if it has what they need.
        pub(crate) fn find() -> Option<Self> {
            let found = AREA.get_or_init(|| {
                let area = look().map(|rseq| rseq.area.get().cast_unsigned());
                area.and_then(NonZeroUsize::new).unwrap_or(NONE)
            });
            let area = NonZeroIsize::new(found.get().cast_signed()).filter(|_| found != NONE);
            area.map(|area| Self { area })
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

        /// Takes the last object of the first array of this CPU's cache, if it has more than `low`
        /// and the cache is not busy. 0 stands for none.
        ///
        /// # Safety
        ///
        /// The caches of `row` are as the module front says, and stay.
        #[inline(always)]
        pub(crate) unsafe fn pop(self, row: &CacheRow) -> u32 {
            let object: u32;
            // SAFETY: INV-Q1: between the start and the commit this thread alone is in the cache
            // of its CPU, or the kernel restarts it; `count > low` objects are there. INV-Q3: there
            // is such a cache.
            unsafe {
                sequence!(
                    [
                        "mov {word}, qword ptr [{cache}]",
                        "cmp {word:x}, word ptr [{row} + {low_at}]",
                        "jbe 6f",
                        "movzx {result:e}, {word:x}",
                        "mov {result:e}, dword ptr [{cache} + {result:r} * 4 + {last_at}]",
                        "sub {word}, {one}",
                        "mov qword ptr [{cache}], {word}"
                    ],
                    ["6: xor {result:e}, {result:e}", "jmp 8f"],
                    self, row,
                    low_at = const offset_of!(CacheRow, low),
                    last_at = const OBJECTS_AT - 4,
                    one = const CountWord::ONE,
                    cache = out(reg) _,
                    word = out(reg) _,
                    result = out(reg) object,
                );
            }
            object
        }

        /// Puts an object into the array at `AT` bytes from the start of this CPU's cache, if
        /// there is room and the cache is not busy.
        ///
        /// # Safety
        ///
        /// As [`pop`](Self::pop), with an array there as long as the limit in its word.
        #[inline(always)]
        pub(crate) unsafe fn push<const AT: usize>(self, row: &CacheRow, object: u32) -> bool {
            // SAFETY: INV-Q1, as in `pop`. A restart after the object's store and before the
            // commit leaves it above the count, where nobody looks.
            unsafe {
                sequence!(
                    [
                        // What is busy looks full, in the first word.
                        ".if {at} != 0",
                        "cmp dword ptr [{cache} + 4], {busy}",
                        "jge {full}",
                        ".endif",
                        "mov {word}, qword ptr [{cache} + {at}]",
                        "test {word}, {word}",
                        "jns {full}",
                        "movzx {count:e}, {word:x}",
                        "mov dword ptr [{cache} + {count} * 4 + {at} + {objects_at}], {object:e}",
                        "add {word}, {one}",
                        "mov qword ptr [{cache} + {at}], {word}"
                    ],
                    [],
                    self, row,
                    at = const AT,
                    busy = const CountWord::BUSY_ABOVE,
                    objects_at = const OBJECTS_AT,
                    one = const CountWord::ONE,
                    object = in(reg) object,
                    cache = out(reg) _,
                    word = out(reg) _,
                    count = out(reg) _,
                    full = label { return false },
                );
            }
            true
        }

        /// Makes this CPU's cache busy, as [`CountWord::LOCAL`], and gives its address and the word
        /// that it had.
        ///
        /// # Safety
        ///
        /// As [`pop`](Self::pop).
        #[inline(always)]
        pub(crate) unsafe fn enter(self, row: &CacheRow) -> Option<(NonNull<u8>, CountWord)> {
            let (cache, word): (*mut u8, u64);
            // SAFETY: INV-Q2: the commit happens on the cache's own CPU, so no sequence of that
            // CPU is half done, or it is restarted and finds the cache busy. A thread that is not
            // registered is kept from writing (INV-Q3).
            unsafe {
                sequence!(
                    [
                        "cmp dword ptr fs:[{area} + 4], 0",
                        "jl 6f",
                        // One load: what is free now may not have been before.
                        "mov {word}, qword ptr [{cache}]",
                        "mov {result}, {word}",
                        "shr {result}, 32",
                        "cmp {result:e}, {busy}",
                        "jge 6f",
                        "mov {result}, {cache}",
                        "mov qword ptr [{cache}], {local}"
                    ],
                    ["6: xor {result:e}, {result:e}", "jmp 8f"],
                    self, row,
                    busy = const CountWord::BUSY_ABOVE,
                    local = in(reg) CountWord::LOCAL.bits(),
                    cache = out(reg) _,
                    word = out(reg) word,
                    result = out(reg) cache,
                );
            }
            Some((NonNull::new(cache)?, CountWord::from_bits(word)))
        }

        /// Restarts every sequence that another thread of this process is in. Whatever this
        /// thread stored before is seen by every sequence that begins, or begins again, after.
        /// `false` when the system could not do it.
        pub(crate) fn restart_others(self) -> bool {
            broken::leaves_out(Fault::Restart)
                || membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ)
        }
    }
}

#[cfg(counted)]
#[path = "rseq_counted.rs"]
mod imp;

#[cfg(not(any(all(target_os = "linux", target_arch = "x86_64", not(any(loom, miri))), counted)))]
mod imp {
    use super::CacheRow;
    use crate::sys::count_word::CountWord;
    use std::ptr::NonNull;

    /// There is none.
    #[derive(Clone, Copy, Debug)]
    pub(crate) enum Rseq {}

    impl Rseq {
        pub(crate) fn find() -> Option<Self> {
            None
        }

        #[cfg(all(target_os = "linux", not(any(loom, miri))))]
        pub(crate) fn cpu(self) -> Option<usize> {
            match self {}
        }

        /// # Safety
        ///
        /// Can't be called.
        pub(crate) unsafe fn pop(self, _: &CacheRow) -> u32 {
            match self {}
        }

        /// # Safety
        ///
        /// Can't be called.
        pub(crate) unsafe fn push<const AT: usize>(self, _: &CacheRow, _: u32) -> bool {
            match self {}
        }

        /// # Safety
        ///
        /// Can't be called.
        pub(crate) unsafe fn enter(self, _: &CacheRow) -> Option<(NonNull<u8>, CountWord)> {
            match self {}
        }

        pub(crate) fn restart_others(self) -> bool {
            match self {}
        }
    }
}

/// From a word to the objects of its array, in bytes.
pub(crate) const OBJECTS_AT: usize = 12;

/// Caches of one kind, one for each CPU, as the sequences find them; sixteen bytes, so that all
/// that a sequence needs lies together.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub(crate) struct CacheRow {
    /// The address of CPU 0's.
    pub(crate) first: usize,
    /// Their owner's size of an object, in bytes.
    pub(crate) size: u16,
    /// How many objects a pop leaves.
    pub(crate) low: u16,
    /// From how many objects on a push gives up.
    pub(crate) limit: u16,
    /// The same for the other array.
    pub(crate) by_rcu_limit: u8,
    /// Their owner's number for the kind.
    pub(crate) class: u8,
}

impl CacheRow {
    /// From one CPU's cache to the next CPU's, in bytes.
    pub(crate) const CPU_BYTES: usize = 1 << 18;

    /// How many numbers that are no CPU's there is room for in front of CPU 0's cache.
    #[cfg(not(loom))]
    pub(crate) const NO_CPUS: usize = 2;
}

pub(crate) use imp::Rseq;
