//! Restartable sequences: instructions that a thread executes between two preemptions, or not at
//! all.
//!
//! The kernel restarts a sequence if it preempts the thread, moves it to another CPU, or interrupts
//! it with a signal, before the last store (the *commit*). So among the threads of one CPU a
//! sequence is atomic, without an atomic instruction. Thread and kernel agree on this through the
//! area that glibc registered for each thread; nothing is registered here.
//!
//! The sequences work on one cache for each CPU, [`CacheRow::CPU_BYTES`] apart. A cache begins with
//! the `CountWord` of an array, whose objects are [`OBJECTS_AT`] bytes after the word. Elsewhere
//! in the cache there may be another word with its objects. The first word says whether the cache
//! is busy.
//!
//! - MEM-Q1: while a cache is not busy, only sequences of its CPU change its words and objects.
//! - MEM-Q2: a cache becomes busy as `CountWord::LOCAL` only by a sequence of its CPU, and with a
//!   ticket only by an exchange whose effect is checked after [`Rseq::restart_others`]: a sequence
//!   that saw the cache free may commit over the ticket. The thread that made the cache busy has it
//!   alone, wherever it runs, until it ends that itself.
//! - MEM-Q3: there is a cache for every number that the kernel can give a CPU (`CpuSlots::count`),
//!   and in front of CPU 0's cache there is room for the numbers -1 and -2, which the area of an
//!   unregistered thread contains. No thread writes to that room: all zero, these caches look empty
//!   and full.

#[cfg(all(target_os = "linux", target_arch = "x86_64", not(any(loom, miri, counted))))]
mod imp {
    use super::{CacheRow, OBJECTS_AT};
    use crate::broken::{self, Fault};
    use crate::sys::count_word::CountWord;
    use crate::sys::cpu_mode_reason::CpuModeReason;
    use crate::sys::membarrier::{membarrier, visit_every_cpu};
    use once_cell::race::OnceNonZeroUsize;
    use std::arch::asm;
    use std::mem::offset_of;
    use std::num::NonZeroIsize;
    use std::num::NonZeroUsize;
    use std::ptr::NonNull;

    /// The offset of a thread's area from its thread pointer; never 0.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Rseq {
        area: NonZeroIsize,
    }

    /// Stands for no sequences: no area is at this offset.
    const NONE: NonZeroUsize = NonZeroUsize::MIN;

    /// Every thread finds the same value, so no thread waits for another's search.
    static AREA: OnceNonZeroUsize = OnceNonZeroUsize::new();

    fn look() -> Option<Rseq> {
        let rseq = find_area().filter(|rseq| rseq.cpu().is_some())?;
        if !register_restart() {
            return None;
        }
        keep_loaded();
        Some(rseq)
    }

    /// If this code is in a library, keeps the library in memory forever: the areas of threads
    /// point to descriptors in it, which the kernel may read at any later moment.
    fn keep_loaded() {
        let mut library = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
        // SAFETY: `library` has room for the answer, and all zero is a valid value. The name, if
        // there is one, is that of a loaded library, and ends in NUL.
        unsafe {
            let inside = std::ptr::from_ref(&AREA).cast();
            let library = match libc::dladdr(inside, library.as_mut_ptr()) {
                0 => return,
                _ => library.assume_init(),
            };
            if !library.dli_fname.is_null() {
                let how = libc::RTLD_NOW | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
                // Null for the program itself, which stays anyway.
                libc::dlopen(library.dli_fname, how);
            }
        }
    }

    fn find_area() -> Option<Rseq> {
        let symbol = |name: &std::ffi::CStr| {
            // SAFETY: `name` ends in NUL; a symbol lookup has no other condition.
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

    /// The number of times that a sequence begins before its caller treats the cache as busy. A
    /// debugger that steps through a sequence restarts it at every step.
    const MOST_TRIES: u32 = 3;

    /// A sequence. It arms itself with its descriptor, then puts the address of this CPU's cache
    /// into `{cache}`, then executes the steps, the last of which is the commit. A restart begins
    /// at the front; after `MOST_TRIES` it executes the steps that are out of line instead, which
    /// are those for a busy cache. They jump to label 8, the end.
    macro_rules! sequence {
        (
            [$($step:literal),*], [$($elsewhere:literal),*],
            $rseq:expr, $row:expr, $($operands:tt)*
        ) => {
            asm!(
                concat!(
                    // The descriptor: version and flags, start, length, and the address for a
                    // restart.
                    ".pushsection __rseq_cs, \"aw\", @progbits\n",
                    ".balign 32\n",
                    "2: .long 0, 0\n",
                    ".quad 3f, 4f - 3f, 5f\n",
                    ".popsection\n",
                    "xor {tries:e}, {tries:e}\n",
                    "7: lea {cache}, [rip + 2b]\n",
                    "mov qword ptr fs:[{area} + 8], {cache}\n",
                    "3: movsxd {cache}, dword ptr fs:[{area} + 4]\n",
                    "shl {cache}, {cpu_shift}\n",
                    "add {cache}, qword ptr [{row} + {first_at}]\n",
                    $($step, "\n",)*
                    "4:\n",
                    ".pushsection __rseq_failure, \"ax\", @progbits\n",
                    // The kernel checks this signature before it jumps to label 5.
                    ".byte 0x0f, 0xb9, 0x3d\n",
                    ".long 0x53053053\n",
                    "5: inc {tries:e}\n",
                    "cmp {tries:e}, {most_tries}\n",
                    "jb 7b\n",
                    $($elsewhere, "\n",)*
                    ".popsection\n",
                    "8:\n",
                ),
                area = in(reg) $rseq.area.get(),
                row = in(reg) $row,
                first_at = const offset_of!(CacheRow, first),
                cpu_shift = const CacheRow::CPU_BYTES.trailing_zeros(),
                tries = out(reg) _,
                most_tries = const MOST_TRIES,
                $($operands)*
                options(nostack),
            )
        };
    }

    impl Rseq {
        /// Returns the sequences of this process, if it supports them.
        pub(crate) fn find() -> Option<Self> {
            let found = AREA.get_or_init(|| {
                let area = look().map(|rseq| rseq.area.get().cast_unsigned());
                area.and_then(NonZeroUsize::new).unwrap_or(NONE)
            });
            let area = NonZeroIsize::new(found.get().cast_signed()).filter(|_| found != NONE);
            area.map(|area| Self { area })
        }

        /// Returns the reason that `find` returns `None`.
        pub(crate) fn missing() -> CpuModeReason {
            match find_area().filter(|rseq| rseq.cpu().is_some()) {
                Some(_) => CpuModeReason::NoRseqBarrier,
                None => CpuModeReason::NoRseqArea,
            }
        }

        /// Returns the CPU that this thread is on, or `None` if its area is not registered.
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

        /// Takes the last object of the first array of this CPU's cache, if the array has more than
        /// `low` objects and the cache is not busy. Otherwise returns 0.
        ///
        /// # Safety
        ///
        /// The caches of `row` must be as the module documentation says, and stay.
        #[inline(always)]
        pub(crate) unsafe fn pop(self, row: &CacheRow) -> u32 {
            let object: u32;
            // SAFETY: MEM-Q1: between the start and the commit only this thread is in the cache of
            // its CPU, or the kernel restarts it; `count > low` objects are there. MEM-Q3: there is
            // such a cache.
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

        /// Puts an object into the array at `AT` bytes from the start of this CPU's cache, if there
        /// is room and the cache is not busy. Returns whether it did.
        ///
        /// # Safety
        ///
        /// As [`pop`](Self::pop). The array at `AT` must be as long as the limit in its word.
        #[inline(always)]
        pub(crate) unsafe fn push<const AT: usize>(self, row: &CacheRow, object: u32) -> bool {
            // SAFETY: MEM-Q1, as in `pop`. A restart after the object's store and before the commit
            // leaves the object above the count, where no thread looks.
            unsafe {
                sequence!(
                    [
                        // By its first word, a busy cache looks full.
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
                    ["jmp {full}"],
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

        /// Makes this CPU's cache busy, as [`CountWord::LOCAL`]. Returns its address and the word
        /// that it had, or `None` if it was busy.
        ///
        /// # Safety
        ///
        /// As [`pop`](Self::pop).
        #[inline(always)]
        pub(crate) unsafe fn enter(self, row: &CacheRow) -> Option<(NonNull<u8>, CountWord)> {
            let (cache, word): (*mut u8, u64);
            // SAFETY: MEM-Q2: the commit happens on the cache's own CPU, so no other sequence of
            // that CPU is half done, or it is restarted and finds the cache busy. An unregistered
            // thread does not write (MEM-Q3).
            unsafe {
                sequence!(
                    [
                        "cmp dword ptr fs:[{area} + 4], 0",
                        "jl 6f",
                        // A single load, so that the checked word is the returned one.
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

        /// Restarts every sequence that another thread of this process is in. Every sequence that
        /// begins or restarts after this call sees all stores that this thread made before it.
        /// Returns `false` if the system refused.
        pub(crate) fn restart_others(self) -> bool {
            broken::leaves_out(Fault::Restart)
                || membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ)
                || visit_every_cpu()
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
    use crate::sys::cpu_mode_reason::CpuModeReason;
    use std::ptr::NonNull;

    /// There are no sequences on this system.
    #[derive(Clone, Copy, Debug)]
    pub(crate) enum Rseq {}

    impl Rseq {
        pub(crate) fn find() -> Option<Self> {
            None
        }

        pub(crate) fn missing() -> CpuModeReason {
            CpuModeReason::NotForThisSystem
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

/// The distance from a word to the objects of its array, in bytes.
pub(crate) const OBJECTS_AT: usize = 12;

/// Caches of one kind, one for each CPU, as the sequences find them. Sixteen aligned bytes, so that
/// all fields that a sequence needs are on one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub(crate) struct CacheRow {
    /// The address of the cache of CPU 0.
    pub(crate) first: usize,
    /// The size of an object, in bytes. Not read by sequences.
    pub(crate) size: u16,
    /// A pop fails if the array has this many objects or fewer.
    pub(crate) low: u16,
    /// A push fails if the array has this many objects or more.
    pub(crate) limit: u16,
    /// The same for the other array.
    pub(crate) by_rcu_limit: u8,
    /// The number of the size class. Not read by sequences.
    pub(crate) class: u8,
}

impl CacheRow {
    /// The distance from the cache of one CPU to that of the next, in bytes.
    pub(crate) const CPU_BYTES: usize = 1 << 18;

    /// In front of the cache of CPU 0 there is room for this many numbers that are no CPU's: -1 and
    /// -2.
    #[cfg(not(loom))]
    pub(crate) const NO_CPUS: usize = 2;
}

pub(crate) use imp::Rseq;
