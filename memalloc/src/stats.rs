//! Statistics about the objects of an allocator; and the end of an allocator.

use crate::alloc::{Cache, MemAlloc, Reclaimed};
use crate::policy::{PolicyKind, ReusePolicy};
use crate::rcu::{BarrierKind, Reader, SynchronizeError};
use crate::sys::cpu::CpuMode;
use crate::sys::cpu_mode_reason::CpuModeReason;
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

/// A number of objects, and their size in bytes (of their class, not the requested size).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// The number of objects.
    pub objects: u64,
    /// The number of bytes.
    pub bytes: u64,
}

impl Amount {
    fn of(objects: u64, size: usize) -> Self {
        Self { objects, bytes: objects * size as u64 }
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.objects += other.objects;
        self.bytes += other.bytes;
    }
}

/// The objects of one class, by state. If no thread allocates or frees,
/// `live + cached + pending == taken`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClassStats {
    /// Size of an object, in bytes.
    pub size: usize,
    /// Objects outside of their slabs.
    pub taken: u64,
    /// Objects that may be allocated without a slab: in the caches of CPUs, and in batches.
    pub cached: u64,
    /// Objects that wait for a grace period.
    pub pending: u64,
    /// Objects that users hold: the rest of `taken`.
    pub live: u64,
}

/// Statistics from [`MemAlloc::stats`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The policy of a plain free.
    pub policy: PolicyKind,
    /// The way in which a thread finds its cache.
    pub cpu_mode: CpuMode,
    /// The reason for that way: where it is not the fastest, what is missing for that.
    pub cpu_mode_reason: CpuModeReason,
    /// The barrier in force between RCU readers and grace periods: [`BarrierKind::Membarrier`] or
    /// [`BarrierKind::Fence`].
    pub barrier: BarrierKind,
    /// The number of times the domain's adaptive barrier changed the kind in force.
    pub barrier_switches: u64,
    /// The number of RCU grace periods of the domain that have passed.
    pub grace_periods: u64,
    /// The number of tasks-trace grace periods of the domain that have passed.
    pub trace_grace_periods: u64,
    /// The soft limit on pending bytes, besides one batch for each CPU and class.
    pub max_pending: u64,
    /// The number of slabs that have objects, each of 64 KiB of address space.
    pub slabs: u64,
    /// The number of times an empty slab was taken into use: more than `slabs` if some were empty
    /// in between.
    pub slabs_opened: u64,
    /// The number of times an empty slab gave its memory back to the system.
    pub slabs_released: u64,
    /// Bytes of whole pages that the slabs have touched and not given back: the memory cost of the
    /// objects, used or not. Not counted are
    ///
    /// - the rest of a huge page, if huge pages were requested and granted;
    /// - the pages of links, 4 bytes for each 16 of slab. Two kinds of objects are linked: those
    ///   freed while the cache was busy (in a signal handler that interrupted it, for example), and
    ///   those freed while there was no memory for a batch.
    pub backing_bytes: u64,
    /// Bytes of memory besides the slabs: the caches of every possible CPU (an unused CPU may not
    /// have touched its memory), batches, and the records of the objects in each slab.
    pub table_bytes: u64,
    /// Objects that users hold.
    pub live: Amount,
    /// Objects that may be allocated without a slab.
    pub cached: Amount,
    /// Objects that wait for a grace period.
    pub pending: Amount,
    /// Objects outside of their slabs.
    pub taken: Amount,
    /// The same numbers for each size class.
    pub classes: Vec<ClassStats>,
}

/// The modes, a line for each class that has objects outside of its slabs, the totals, and the
/// memory that they take.
///
/// ```text
/// policy after-rcu-gp, CPU mode rseq (the fastest), barrier membarrier (0 switches)
///      size       live     cached    pending      taken
///        64          1         31          0         32
///      1024          2         29          1         32
///   objects          3         60          1         64
///     bytes       2112      31680       1024      34816
/// 2 slabs (2 opened, 0 released): 36864 bytes; tables: 557056 bytes; pending at most 4194304 bytes
/// grace periods passed: 3 of RCU, 0 of RCU tasks trace
/// ```
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, cpu_mode, cpu_mode_reason, barrier, barrier_switches, .. } = self;
        writeln!(
            f,
            "policy {policy}, CPU mode {cpu_mode} ({cpu_mode_reason}), barrier {barrier} \
             ({barrier_switches} switches)"
        )?;
        let mut row = |name: &dyn fmt::Display, numbers: [&dyn fmt::Display; 4]| {
            let [live, cached, pending, taken] = numbers;
            writeln!(f, "{name:>9} {live:>10} {cached:>10} {pending:>10} {taken:>10}")
        };
        row(&"size", [&"live", &"cached", &"pending", &"taken"])?;
        for ClassStats { size, taken, cached, pending, live } in &self.classes {
            if *taken > 0 {
                row(size, [live, cached, pending, taken])?;
            }
        }
        let amounts = [&self.live, &self.cached, &self.pending, &self.taken];
        row(&"objects", amounts.map(|amount| &amount.objects as &dyn fmt::Display))?;
        row(&"bytes", amounts.map(|amount| &amount.bytes as &dyn fmt::Display))?;
        let Self { slabs, slabs_opened, slabs_released, backing_bytes, .. } = self;
        writeln!(
            f,
            "{slabs} slabs ({slabs_opened} opened, {slabs_released} released): {backing_bytes} \
             bytes; tables: {} bytes; pending at most {} bytes",
            self.table_bytes, self.max_pending
        )?;
        let Self { grace_periods, trace_grace_periods, .. } = self;
        write!(
            f,
            "grace periods passed: {grace_periods} of RCU, {trace_grace_periods} of RCU tasks trace"
        )
    }
}

/// One line: `64 objects (4096 bytes) returned to slabs, 65536 bytes to the system`.
impl fmt::Display for Reclaimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { objects, bytes, released_bytes } = self;
        write!(
            f,
            "{objects} objects ({bytes} bytes) returned to slabs, {released_bytes} bytes to the \
             system"
        )
    }
}

/// Objects that were not free when their allocator was destroyed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeakReport {
    /// The statistics at the end.
    pub stats: Box<Stats>,
    /// A reader that still held a grace period up when the limit of [`MemAlloc::destroy_timeout`]
    /// passed.
    pub reader: Option<Reader>,
}

impl fmt::Display for LeakReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats { live, pending, .. } = &*self.stats;
        let (objects, were) =
            if live.objects == 1 { ("object", "was") } else { ("objects", "were") };
        write!(f, "{} {objects} ({} bytes) {were} never freed", live.objects, live.bytes)?;
        if pending.objects > 0 {
            let wait = if pending.objects == 1 { "waits" } else { "wait" };
            write!(f, ", {} still {wait} for a grace period", pending.objects)?;
        }
        if let Some(reader) = self.reader {
            write!(f, ": {reader}")?;
        }
        for class in self.stats.classes.iter().filter(|class| class.live > 0) {
            write!(f, "; {} of {} bytes", class.live, class.size)?;
        }
        Ok(())
    }
}

impl std::error::Error for LeakReport {}

impl<P: ReusePolicy> MemAlloc<P> {
    /// Counts the objects by state. Visits the cache of every CPU, and waits for a thread that is
    /// using it; must not be called in a signal handler. Exact if no thread allocates or frees.
    ///
    /// ```
    /// use memalloc::MemAlloc;
    /// use std::alloc::Layout;
    ///
    /// let (alloc, layout) = (MemAlloc::new()?, Layout::new::<[u64; 8]>());
    /// let object = alloc.alloc(layout)?.cast();
    /// let live = alloc.stats().live;
    /// assert_eq!((live.objects, live.bytes), (1, 64));
    /// // SAFETY: allocated with this layout, never published, and freed once.
    /// unsafe { alloc.free_unshared(object, layout) };
    /// println!("{}", alloc.stats()); // A line for each class, and the totals.
    /// # alloc.destroy()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (raw, depot) = (self.raw(), self.raw().depot());
        let usage = depot.slabs.usage();
        let rcu = raw.domain().rcu().stats();
        let mut stats = Stats {
            policy: P::KIND,
            cpu_mode: depot.caches.mode().mode,
            cpu_mode_reason: depot.caches.mode().reason,
            barrier: rcu.barrier,
            barrier_switches: rcu.barrier_switches,
            grace_periods: rcu.grace_periods,
            trace_grace_periods: raw.domain().trace().stats().grace_periods,
            max_pending: raw.max_pending(),
            slabs: usage.slabs,
            slabs_opened: usage.opened,
            slabs_released: usage.released,
            backing_bytes: usage.backing_bytes,
            table_bytes: depot.table_bytes(),
            live: Amount::default(),
            cached: Amount::default(),
            pending: Amount::default(),
            taken: Amount::default(),
            classes: Vec::with_capacity(depot.classes.len()),
        };
        let census = depot.census();
        for (class, (&taken, census)) in usage.taken.iter().zip(census).enumerate() {
            let size = depot.classes.class(class).size;
            let live = taken.saturating_sub(census.cached + census.pending);
            stats.live += Amount::of(live, size);
            stats.cached += Amount::of(census.cached, size);
            stats.pending += Amount::of(census.pending, size);
            stats.taken += Amount::of(taken, size);
            stats.classes.push(ClassStats {
                size,
                taken,
                cached: census.cached,
                pending: census.pending,
                live,
            });
        }
        stats
    }

    /// Waits for readers, ends the allocator, and returns its statistics.
    ///
    /// ```
    /// use memalloc::MemAlloc;
    /// use std::alloc::Layout;
    ///
    /// let alloc = MemAlloc::new()?;
    /// let leaked = alloc.alloc(Layout::new::<u64>())?;
    /// let report = alloc.destroy().expect_err("an object was never freed");
    /// assert_eq!(report.to_string(), "1 object (16 bytes) was never freed; 1 of 16 bytes");
    /// # _ = leaked;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A [`LeakReport`] if users still hold objects, which stay mapped forever; or if the calling
    /// thread is inside a read section that the policy waits for, so that pending objects end
    /// later, when the domain runs its callbacks. Like [`quiesce`](Self::quiesce), it waits forever
    /// if the caller holds a guard from another thread: [`destroy_timeout`](Self::destroy_timeout)
    /// does not.
    #[doc(alias = "bpf_mem_alloc_destroy")]
    pub fn destroy(self) -> Result<Stats, LeakReport> {
        let waited = self.quiesce();
        self.report(waited)
    }

    /// Waits for readers for at most `limit`, ends the allocator, and returns its statistics.
    ///
    /// # Errors
    ///
    /// As [`destroy`](Self::destroy), and if the limit passes while objects are pending: the report
    /// then names a [reader](LeakReport::reader). Those objects end later, as those of a dropped
    /// allocator do.
    pub fn destroy_timeout(self, limit: Duration) -> Result<Stats, LeakReport> {
        let waited = self.quiesce_timeout(limit);
        self.report(waited)
    }

    /// Reports the state after the wait for readers. A thread inside a read section cannot wait:
    /// the statistics then tell what is pending.
    fn report(&self, waited: Result<Reclaimed, SynchronizeError>) -> Result<Stats, LeakReport> {
        let stats = self.stats();
        if stats.live.objects > 0 || (waited.is_err() && stats.pending.objects > 0) {
            let reader = match waited {
                Err(SynchronizeError::TimedOut { reader }) => reader,
                _ => None,
            };
            return Err(LeakReport { stats: Box::new(stats), reader });
        }
        Ok(stats)
    }
}

impl<T: Send + Sync + 'static, P: ReusePolicy> Cache<T, P> {
    /// Counts the objects by state. See [`MemAlloc::stats`].
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.mem_alloc().stats()
    }

    /// Waits for readers, drops the values that are pending, ends the cache, and returns its
    /// statistics. See [`MemAlloc::destroy`].
    ///
    /// # Errors
    ///
    /// As [`MemAlloc::destroy`].
    pub fn destroy(self) -> Result<Stats, LeakReport> {
        self.into_mem_alloc().destroy()
    }

    /// Waits for readers for at most `limit`, ends the cache, and returns its statistics. See
    /// [`MemAlloc::destroy_timeout`].
    ///
    /// # Errors
    ///
    /// As [`MemAlloc::destroy_timeout`].
    pub fn destroy_timeout(self, limit: Duration) -> Result<Stats, LeakReport> {
        self.into_mem_alloc().destroy_timeout(limit)
    }
}
