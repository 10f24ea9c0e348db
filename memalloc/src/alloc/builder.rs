//! Configures an allocator.

use super::MemAlloc;
use super::depot::{Depot, Hooks, Route};
use super::error::BuildError;
use super::raw::Raw;
use crate::backing::{self, Backing};
use crate::batch::Pool;
use crate::class::{ClassTable, UNIT};
use crate::cpu::CpuCaches;
use crate::policy::{AfterRcuGp, ReusePolicy};
use crate::rcu::Domain;
use crate::slab::{Arena, Constructor, LEAST_RANGE, Slabs};
use crate::sys::cpu::CpuMode;
use std::ffi::OsStr;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

/// What 32-bit handles reach: 64 GiB.
const MOST_RANGE: u64 = (u32::MAX as u64 + 1) * UNIT as u64;

/// Bytes that may wait for a grace period. Models never wait for room.
const DEFAULT_MAX_PENDING: u64 = if cfg!(loom) { u64::MAX } else { 4 << 20 };

/// Configures a [`MemAlloc`], or what else `A` is: [`Cache::builder`](crate::Cache::builder) gives
/// the builder of a [`Cache`](crate::Cache).
///
/// ```
/// use memalloc::{ClassTable, Immediate, MemAlloc};
///
/// let alloc = MemAlloc::<Immediate>::builder()
///     .classes(ClassTable::fine(1024)?)
///     .limit_bytes(64 << 20)
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct Builder<P: ReusePolicy = AfterRcuGp, A = MemAlloc<P>> {
    domain: Option<Domain>,
    cpu_mode: Option<CpuMode>,
    classes: ClassTable,
    backing: Option<Arc<dyn Backing>>,
    limit_bytes: u64,
    range_bytes: Option<u64>,
    huge_pages: bool,
    keep_class: bool,
    constructor: Option<Constructor>,
    hooks: Hooks,
    max_pending: u64,
    builds: PhantomData<fn() -> (P, A)>,
}

impl<P: ReusePolicy, A> Builder<P, A> {
    pub(super) fn new() -> Self {
        Self {
            domain: None,
            cpu_mode: None,
            classes: ClassTable::default(),
            backing: None,
            limit_bytes: u64::MAX,
            range_bytes: None,
            huge_pages: false,
            keep_class: false,
            constructor: None,
            hooks: Hooks::default(),
            max_pending: DEFAULT_MAX_PENDING,
            builds: PhantomData,
        }
    }

    /// The domain whose readers the allocator waits for; without it, the global one. Any number
    /// of allocators may share a domain.
    pub fn domain(mut self, domain: Domain) -> Self {
        self.domain = Some(domain);
        self
    }

    /// How a thread finds its cache; without it, the environment variable `MEMALLOC_CPU_MODE`
    /// (for tests) or the fastest that this system has.
    pub fn cpu_mode(mut self, mode: CpuMode) -> Self {
        self.cpu_mode = Some(mode);
        self
    }

    /// The size classes and their watermarks; without it, the kernel's.
    pub fn classes(mut self, classes: ClassTable) -> Self {
        self.classes = classes;
        self
    }

    /// The most slab memory to hold, in bytes, rounded down to slabs of 64 KiB; without it, as
    /// much as the range allows. An allocation beyond it fails with
    /// [`LimitReached`](crate::AllocErrorKind::LimitReached); below one slab, all do.
    pub fn limit_bytes(mut self, bytes: u64) -> Self {
        self.limit_bytes = bytes;
        self
    }

    /// Where the memory of slabs, batches and caches comes from; without it,
    /// [`Mapped`](crate::backing::Mapped) on Linux and [`System`](crate::backing::System)
    /// elsewhere. The backing ends with the allocator, or stays for good where objects leak.
    pub fn backing(mut self, backing: impl Backing + 'static) -> Self {
        self.backing = Some(Arc::new(backing));
        self
    }

    /// How far the allocator's range of addresses may grow, in bytes: at most to the 64 GiB that
    /// handles reach, at least to 16 MiB; without it, to what the backing takes by itself
    /// ([`Backing::default_range_bytes`]), on Linux the 64 GiB. There it costs no memory, and
    /// where the process may have few addresses (`ulimit -v`) or has many allocators they are taken
    /// as slabs are opened. Where the backing grants less, the allocator makes do; an allocation
    /// beyond it fails with [`RangeExhausted`](crate::AllocErrorKind::RangeExhausted).
    pub fn range_bytes(mut self, bytes: u64) -> Self {
        self.range_bytes = Some(bytes);
        self
    }

    /// Whether to ask the backing for huge pages behind the slabs: faster where objects are read
    /// at random, at the price of memory in steps of 2 MiB. Off by default. Statistics count what
    /// was touched in pages of 4096 bytes all the same; and a system that is set to give huge
    /// pages to everybody gives them unasked.
    pub fn huge_pages(mut self, wanted: bool) -> Self {
        self.huge_pages = wanted;
        self
    }

    /// Whether a slab that once had a class keeps it as long as the allocator lives, though it becomes empty
    /// and its memory goes back to the system: off by default.
    ///
    /// Then, where an object was once, there is an object of the same class, or zeros, or what was there, and
    /// not only until the grace periods have passed. So a word that is atomic in every object can be looked
    /// at through a handle of any age ([`MemAlloc::word`]). The price is address space: what one
    /// class had at most no other can have, so that [`range_bytes`](Self::range_bytes) has to reach for the
    /// sum; and each class may keep memory of a few empty slabs.
    pub fn keep_class(mut self, wanted: bool) -> Self {
        self.keep_class = wanted;
        self
    }

    /// The most bytes of freed objects that may wait for a grace period; without it, 4 MiB. A
    /// free that goes beyond it pushes the grace period, then waits until readers have left, but
    /// no longer than the domain's [`stall_after`](crate::rcu::Builder::stall_after); then it
    /// tells the stall handler which reader is in the way, once for each. So it does in a signal
    /// handler, too. Behind a reader that stalls, a sixteenth of the limit (or one batch, if that is
    /// more) may be added for each further `stall_after`.
    ///
    /// A thread that is inside a read section of its own does not wait there: it waits when its
    /// outermost section has ended, in the drop of that guard, unless it unwinds or another thread
    /// drops the guard. Then its next section waits.
    ///
    /// Beside the limit, each CPU may hold one unfinished batch of each class, and each section may
    /// free what it will.
    pub fn max_pending(mut self, bytes: u64) -> Self {
        self.max_pending = bytes;
        self
    }

    /// Runs `finalizer` for every deferred object once its grace period has passed, before it
    /// may be allocated again. Objects freed at once, and objects never freed, are not its
    /// concern.
    ///
    /// It may run inside any call of this allocator that frees, waits or tends, and with the domain's
    /// callbacks once the allocator was dropped, so the caller must not hold a lock there that the
    /// finalizer needs; and deferred frees are not async-signal-safe then. It does not run inside an
    /// allocation, unless that would fail for lack of memory otherwise, and never inside the `nowait` ones.
    /// What it frees itself is finalized behind it, not inside it. If it panics, the other objects are
    /// finalized all the same, and the panic goes on when that is done.
    ///
    /// # Safety
    ///
    /// The function must be right for every object that is freed by `free_rcu`, or by `free`
    /// under a deferring policy, whatever its layout.
    pub unsafe fn finalizer(mut self, finalizer: unsafe fn(NonNull<u8>)) -> Self {
        self.hooks.finalizer = Some(finalizer);
        self
    }

    /// Runs `destructor` for every object that goes back to its slab
    /// (`bpf_mem_alloc_set_dtor`), also when the allocator ends. With a constructor (see
    /// [`Cache::type_stable`](crate::Cache::type_stable)), it ends what that began.
    ///
    /// It may run where a [finalizer](Self::finalizer) may, and must not use the allocator; frees are not
    /// async-signal-safe then. If it panics, no other object is kept from it, as there.
    ///
    /// # Safety
    ///
    /// The function must be right for every object, whatever its layout and its history.
    #[doc(alias = "bpf_mem_alloc_set_dtor")]
    pub unsafe fn destructor(mut self, destructor: unsafe fn(NonNull<u8>)) -> Self {
        self.hooks.destructor = Some(destructor);
        self
    }

    /// Runs for every object when it leaves its slab.
    pub(super) fn constructor(mut self, constructor: Constructor) -> Self {
        self.constructor = Some(constructor);
        self
    }

    /// Addresses for the range asked for, or for as large a part as the system grants, with its
    /// batches and the caches of the CPUs.
    fn reserve(&self, mode: CpuMode) -> Result<(Arena, Pool, CpuCaches), BuildError> {
        let backing = &self.backing.clone().unwrap_or_else(backing::usual);
        let bytes = self.range_bytes.unwrap_or_else(|| backing.default_range_bytes());
        let mut bytes = usize::try_from(bytes.min(MOST_RANGE)).unwrap_or(usize::MAX / 4);
        loop {
            let all = Arena::reserve(backing, bytes, self.huge_pages).and_then(|arena| {
                let pool = Pool::for_range(backing, bytes)?;
                #[cfg(not(loom))]
                let arena = arena.grows_with(pool.beside());
                Ok((arena, pool, CpuCaches::new(backing, mode, &self.classes)?))
            });
            match all {
                Ok(all) => return Ok(all),
                Err(_) if bytes > LEAST_RANGE => bytes = (bytes / 2).max(LEAST_RANGE),
                Err(error) => return Err(BuildError::Reserve(error)),
            }
        }
    }

    pub(super) fn build_alloc(self) -> Result<MemAlloc<P>, BuildError> {
        let mode = match self.cpu_mode {
            Some(mode) => mode,
            None => mode_of_environment()?.unwrap_or_else(CpuMode::best),
        };
        if !mode.is_supported() {
            return Err(BuildError::CpuMode(mode));
        }
        let (arena, pool, caches) = self.reserve(mode)?;
        let slabs = Slabs::new(
            arena,
            &self.classes,
            self.limit_bytes,
            self.constructor,
            self.keep_class,
            caches.cpus(),
        );
        let depot = Depot::new(self.classes, caches, pool, slabs, self.hooks, Route::of(P::KIND));
        let domain = self.domain.unwrap_or_else(default_domain);
        Ok(MemAlloc::from_raw(Raw::new(domain, depot, self.max_pending)))
    }
}

impl<P: ReusePolicy> Builder<P> {
    /// The allocator.
    ///
    /// # Errors
    ///
    /// See [`BuildError`]. Nothing is held when it fails.
    pub fn build(self) -> Result<MemAlloc<P>, BuildError> {
        self.build_alloc()
    }
}

/// The CPU mode that the environment asks for, if it does.
fn mode_of_environment() -> Result<Option<CpuMode>, BuildError> {
    std::env::var_os("MEMALLOC_CPU_MODE").map(|name| mode_named(&name)).transpose()
}

fn mode_named(name: &OsStr) -> Result<CpuMode, BuildError> {
    // What is no text can't be a name, and is shown as well as it can be.
    name.to_string_lossy().parse().map_err(BuildError::Environment)
}

fn default_domain() -> Domain {
    #[cfg(not(loom))]
    return Domain::global().clone();
    #[cfg(loom)]
    Domain::new()
}

#[cfg(all(test, not(loom), unix))]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_mode_in_the_environment_that_is_no_text_is_an_error() {
        assert!(matches!(mode_named(OsStr::new("active-cpu")), Ok(CpuMode::ActiveCpu)));
        let error = mode_named(OsStr::from_bytes(b"rseq\xff")).unwrap_err().to_string();
        assert!(
            error.starts_with("MEMALLOC_CPU_MODE: ") && error.contains("allowed are"),
            "{error}"
        );
    }
}
