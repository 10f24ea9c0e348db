//! The memory of all caches: an area of fixed size for each CPU, whatever the number of CPUs, and
//! in it one cache for each class.
//!
//! Memory that is never touched costs nothing, so the caches of CPUs that the program does not run
//! on, and of classes that it does not use, are free. A read touches memory too, so the table
//! records the CPUs whose caches were used, and calls that visit every CPU skip the others. Only
//! the child of a fork reads the caches of all.

#[cfg(not(loom))]
mod imp {
    use crate::backing::{Backing, Region};
    use crate::cpu::cache::{CACHE_BYTES, CpuCache};
    use crate::sync::{AtomicU64, Ordering};
    use crate::sys::fork::Survivor;
    use crate::sys::heap;
    use crate::sys::rseq::CacheRow;
    use crossbeam_utils::CachePadded;
    use std::io;
    use std::ptr::{self, NonNull};
    use std::sync::Arc;

    const CPUS_PER_WORD: usize = u64::BITS as usize;

    /// MEM-C3: `memory` is committed, zero at first, and has a [`CpuCache`] for each class of each
    /// CPU, behind room for numbers that are no CPU's (MEM-Q3).
    #[derive(Debug)]
    pub(crate) struct CacheTable {
        _memory: Region,
        /// The address of CPU 0's caches.
        base: NonNull<u8>,
        cpus: usize,
        classes: usize,
        /// One bit for each CPU that has used one of its caches. It seldom changes, and has cache
        /// lines of its own.
        used: Box<[CachePadded<AtomicU64>]>,
    }

    // SAFETY: `base` is an address in `_memory`, which can be shared.
    unsafe impl Send for CacheTable {}
    // SAFETY: as above.
    unsafe impl Sync for CacheTable {}

    impl CacheTable {
        pub(crate) fn new(
            backing: &Arc<dyn Backing>,
            cpus: usize,
            classes: usize,
        ) -> io::Result<Self> {
            const IN_FRONT: usize = CacheRow::NO_CPUS * CacheRow::CPU_BYTES;
            let bytes = cpus
                .checked_mul(CacheRow::CPU_BYTES)
                .and_then(|bytes| bytes.checked_add(IN_FRONT))
                .ok_or(io::ErrorKind::OutOfMemory)?;
            let words = (0..cpus.div_ceil(CPUS_PER_WORD)).map(|_| AtomicU64::new(0).into());
            let used = heap::try_collect(words).ok_or(io::ErrorKind::OutOfMemory)?;
            let memory = Region::reserve(backing, bytes, 4096)?;
            memory.commit(0, bytes)?;
            memory.advise_small(0, bytes);
            // SAFETY: inside of the range, by its length.
            let base = unsafe { memory.base().add(IN_FRONT) };
            Ok(Self { _memory: memory, base, cpus, classes, used })
        }

        /// In the child of a fork: takes the caches back from vanished threads. Of all CPUs: such a
        /// thread may have entered a cache, and not have recorded its use yet.
        pub(crate) fn repair_after_fork(&self, survivor: Survivor) {
            for cpu in 0..self.cpus {
                for class in 0..self.classes {
                    self.cache(cpu, class).repair_after_fork(survivor);
                }
            }
        }

        /// Records that the CPU of a cache uses its caches.
        pub(crate) fn note_use(&self, cache: &CpuCache) {
            let cpu = (ptr::from_ref(cache).addr() - self.base.addr().get()) / CacheRow::CPU_BYTES;
            let (word, bit) = (&self.used[cpu / CPUS_PER_WORD], 1 << (cpu % CPUS_PER_WORD));
            if word.load(Ordering::Relaxed) & bit == 0 {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }

        /// Returns the first CPU, from `cpu` on, that has used its caches, as far as the calling
        /// thread has seen.
        pub(crate) fn next_used(&self, cpu: usize) -> Option<usize> {
            let mut from = cpu;
            while let Some(used) = self.used.get(from / CPUS_PER_WORD) {
                let later = used.load(Ordering::Relaxed) >> (from % CPUS_PER_WORD);
                if later != 0 {
                    return Some(from + later.trailing_zeros() as usize);
                }
                from = (from / CPUS_PER_WORD + 1) * CPUS_PER_WORD;
            }
            None
        }

        /// Returns the bytes of the pages that hold caches, touched or not, and of the record of
        /// the CPUs that were used.
        pub(crate) fn bytes(&self) -> u64 {
            (self.cpus * (self.classes * CACHE_BYTES).next_multiple_of(4096)) as u64
                + size_of_val(&*self.used) as u64
        }

        /// Returns the address of CPU 0's cache of a class. Its provenance is exposed.
        pub(crate) fn first(&self, class: usize) -> usize {
            debug_assert!(class < self.classes);
            self.base.as_ptr().expose_provenance() + class * CACHE_BYTES
        }

        #[inline(always)]
        pub(crate) fn cache(&self, cpu: usize, class: usize) -> &CpuCache {
            assert!(cpu < self.cpus && class < self.classes);
            let offset = cpu * CacheRow::CPU_BYTES + class * CACHE_BYTES;
            // SAFETY: MEM-C3, and both numbers are in bounds.
            unsafe { self.at(self.base.add(offset)) }
        }

        /// Returns the cache at an address that a sequence returned.
        ///
        /// # Safety
        ///
        /// `place` is the address of a cache of this table.
        #[inline(always)]
        pub(crate) unsafe fn at(&self, place: NonNull<u8>) -> &CpuCache {
            // SAFETY: the caller's promise; MEM-C3.
            unsafe { place.cast().as_ref() }
        }
    }
}

#[cfg(loom)]
mod imp {
    use crate::backing::Backing;
    use crate::cpu::cache::CpuCache;
    use std::io;
    use std::ptr::NonNull;
    use std::sync::Arc;

    /// The caches of a model, which are built one by one in a box.
    #[derive(Debug)]
    pub(crate) struct CacheTable {
        caches: Box<[CpuCache]>,
        cpus: usize,
        classes: usize,
    }

    impl CacheTable {
        pub(crate) fn new(
            _backing: &Arc<dyn Backing>,
            cpus: usize,
            classes: usize,
        ) -> io::Result<Self> {
            let caches = (0..cpus * classes).map(|_| CpuCache::new()).collect();
            Ok(Self { caches, cpus, classes })
        }

        /// A model uses all of its few caches.
        pub(crate) fn note_use(&self, _cache: &CpuCache) {}

        pub(crate) fn next_used(&self, cpu: usize) -> Option<usize> {
            (cpu < self.cpus).then_some(cpu)
        }

        pub(crate) fn bytes(&self) -> u64 {
            size_of_val(&*self.caches) as u64
        }

        pub(crate) fn first(&self, _class: usize) -> usize {
            0
        }

        pub(crate) fn cache(&self, cpu: usize, class: usize) -> &CpuCache {
            &self.caches[cpu * self.classes + class]
        }

        /// There are no forks in a model.
        pub(crate) fn repair_after_fork(&self, _survivor: crate::sys::fork::Survivor) {}

        /// # Safety
        ///
        /// None: loom has no sequences.
        pub(crate) unsafe fn at(&self, _place: NonNull<u8>) -> &CpuCache {
            unreachable!("loom has no sequences")
        }
    }
}

pub(super) use imp::CacheTable;
