//! Makes allocators.

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
use crate::sys::cpu::{ChosenMode, CpuMode};
use crate::sys::cpu_mode_reason::CpuModeReason;
use std::ffi::OsStr;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

/// The largest range that 32-bit handles can address: 64 GiB.
const MOST_RANGE: u64 = (u32::MAX as u64 + 1) * UNIT as u64;

/// Default of [`Builder::max_pending`], in bytes. Models never wait for room.
const DEFAULT_MAX_PENDING: u64 = if cfg!(loom) { u64::MAX } else { 4 << 20 };

impl MemAlloc {
    /// Creates an allocator with the kernel's size classes, on the global domain, under the default
    /// policy, [`AfterRcuGp`].
    ///
    /// It exists for the default policy only, so that the compiler infers the policy. For other
    /// policies use [`with_policy`](Self::with_policy).
    ///
    /// ```
    /// use memalloc::MemAlloc;
    ///
    /// let alloc = MemAlloc::new()?;
    /// assert_eq!(alloc.stats().policy.to_string(), "after-rcu-gp");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`Builder::build`].
    #[doc(alias = "bpf_mem_alloc_init")]
    pub fn new() -> Result<Self, BuildError> {
        Self::with_policy()
    }
}

impl<P: ReusePolicy> MemAlloc<P> {
    /// An allocator with the kernel's size classes, on the global domain, under the policy that its
    /// type names: `MemAlloc::<Immediate>::with_policy()`.
    ///
    /// # Errors
    ///
    /// See [`Builder::build`].
    #[doc(alias = "bpf_mem_alloc_init")]
    pub fn with_policy() -> Result<Self, BuildError> {
        Self::builder().build()
    }

    /// Returns a builder that configures an allocator.
    pub fn builder() -> Builder<P> {
        Builder::new()
    }
}

/// Configures a [`MemAlloc`] or, as returned by [`Cache::builder`](crate::Cache::builder), a
/// [`Cache`](crate::Cache).
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

    /// Sets the domain whose readers the allocator waits for. Any number of allocators may share a
    /// domain. Default: the global domain.
    pub fn domain(mut self, domain: Domain) -> Self {
        self.domain = Some(domain);
        self
    }

    /// Sets how a thread finds its cache. Default: the mode in the environment variable
    /// `MEMALLOC_CPU_MODE` (for tests), else the fastest mode that this system has.
    pub fn cpu_mode(mut self, mode: CpuMode) -> Self {
        self.cpu_mode = Some(mode);
        self
    }

    /// Sets the size classes and their watermarks. Default: the kernel's.
    pub fn classes(mut self, classes: ClassTable) -> Self {
        self.classes = classes;
        self
    }

    /// Sets the most slab memory to hold, in bytes, rounded down to slabs of 64 KiB. An allocation
    /// beyond it fails with [`LimitReached`](crate::AllocErrorKind::LimitReached); below one slab,
    /// every allocation does. Default: as much as the range allows.
    pub fn limit_bytes(mut self, bytes: u64) -> Self {
        self.limit_bytes = bytes;
        self
    }

    /// Sets where the memory of slabs, batches and caches comes from. The backing is dropped with
    /// the allocator, or never if objects leak. Default: [`Mapped`](crate::backing::Mapped) on
    /// Linux, [`System`](crate::backing::System) elsewhere.
    pub fn backing(mut self, backing: impl Backing + 'static) -> Self {
        self.backing = Some(Arc::new(backing));
        self
    }

    /// Sets how far the allocator's address range may grow, in bytes: from 16 MiB to the 64 GiB
    /// that handles can address. Default: [`Backing::default_range_bytes`], on Linux 64 GiB.
    ///
    /// On Linux the range costs no memory. If the process is limited to few addresses (`ulimit -v`)
    /// or has many allocators, addresses are taken as slabs are opened. If the backing grants a
    /// smaller range, the allocator uses that; an allocation beyond it fails with
    /// [`RangeExhausted`](crate::AllocErrorKind::RangeExhausted).
    pub fn range_bytes(mut self, bytes: u64) -> Self {
        self.range_bytes = Some(bytes);
        self
    }

    /// Sets whether to ask the backing for huge pages for the slabs. They speed up random access,
    /// but memory is taken in steps of 2 MiB. Default: off. Statistics count touched memory in
    /// pages of 4096 bytes either way, and a system configured to use huge pages everywhere uses
    /// them in any case.
    pub fn huge_pages(mut self, wanted: bool) -> Self {
        self.huge_pages = wanted;
        self
    }

    /// Sets whether a slab keeps its size class for the lifetime of the allocator, even when it has
    /// become empty and its memory has been returned to the system. Default: off.
    ///
    /// With it, the place of an object always holds an object of the same class, zeros, or the old
    /// contents, not only until the grace periods have passed. A word that is atomic in every
    /// object can therefore be read through a handle of any age ([`MemAlloc::word`]).
    ///
    /// The price is address space: a class never gives up the slabs of its peak, so
    /// [`range_bytes`](Self::range_bytes) has to cover the sum of the peaks of all classes. Each
    /// class may also keep the memory of empty slabs, up to 5 MiB.
    pub fn keep_class(mut self, wanted: bool) -> Self {
        self.keep_class = wanted;
        self
    }

    /// Sets the most bytes of freed objects that may be pending. Default: 4 MiB. A free beyond the
    /// limit drives the grace period and blocks until readers have left, for at most the domain's
    /// [`stall_after`](crate::rcu::Builder::stall_after). It then reports the stalled reader to the
    /// stall handler, once per grace period. Once readers have left, it makes more room than it
    /// takes, and leaves the rest to the next frees. This holds in a signal handler, too. Behind a
    /// stalled reader, another sixteenth of the limit (or one batch, if that is more) may be added
    /// for each further `stall_after`.
    ///
    /// A thread inside a read section does not block there. It blocks in the drop of its outermost
    /// guard, unless it is unwinding or another thread drops the guard; in that case its next
    /// section blocks.
    ///
    /// The limit bounds neither one unfinished batch of each class per CPU nor the objects freed
    /// inside a read section.
    pub fn max_pending(mut self, bytes: u64) -> Self {
        self.max_pending = bytes;
        self
    }

    /// Runs `finalizer` for every deferred object once its grace period has passed, before the
    /// object may be allocated again. It does not run for objects that are freed for immediate
    /// reuse or never freed.
    ///
    /// It may run inside any call of this allocator that frees, waits or tends, and, after the
    /// allocator has been dropped, with the callbacks of the domain. The caller must not hold a
    /// lock there that the finalizer needs, and deferred frees are not async-signal-safe. It runs
    /// inside an allocation only if that would otherwise fail for lack of memory, and never inside
    /// the `nowait` ones. Objects that the finalizer frees are finalized after it returns, not
    /// inside it. If it panics, the remaining objects are finalized first, then the panic resumes.
    ///
    /// A free runs it for at most 16 batches of up to 250 objects, and leaves the others pending
    /// for the next deferred frees of any class, a [`Worker`](crate::Worker), `tend`, `trim` or
    /// `quiesce`. If more than [`max_pending`](Self::max_pending) is pending, the free continues
    /// until that is less than before it, also by what its finalizers have freed. It waits for the
    /// readers that hold that up, for at most `stall_after`.
    ///
    /// It must not wait for a thread that calls `quiesce` of the same allocator, which may be
    /// waiting for the call that runs it.
    ///
    /// # Safety
    ///
    /// The function must be sound for every object that is freed by `free_rcu`, or by `free` under
    /// a deferring policy, whatever its layout.
    pub unsafe fn finalizer(mut self, finalizer: unsafe fn(NonNull<u8>)) -> Self {
        self.hooks.finalizer = Some(finalizer);
        self
    }

    /// Runs `destructor` for every object that returns to its slab (`bpf_mem_alloc_set_dtor`), also
    /// when the allocator ends. With a constructor (see
    /// [`Cache::type_stable`](crate::Cache::type_stable)), it undoes the construction.
    ///
    /// It may run wherever a [finalizer](Self::finalizer) may, and must not use the allocator.
    /// Frees are not async-signal-safe with it. If it panics, it still runs for the remaining
    /// objects first, then the panic resumes.
    ///
    /// # Safety
    ///
    /// The function must be sound for every object, whatever its layout and history.
    #[doc(alias = "bpf_mem_alloc_set_dtor")]
    pub unsafe fn destructor(mut self, destructor: unsafe fn(NonNull<u8>)) -> Self {
        self.hooks.destructor = Some(destructor);
        self
    }

    /// Runs `constructor` for every object when it leaves its slab.
    pub(super) fn constructor(mut self, constructor: Constructor) -> Self {
        self.constructor = Some(constructor);
        self
    }

    /// Reserves addresses for the range, or for as large a part as the system grants, with its
    /// batches and the caches of the CPUs.
    fn reserve(&self, mode: ChosenMode) -> Result<(Arena, Pool, CpuCaches), BuildError> {
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
        let asked = |mode, reason| ChosenMode { mode, reason };
        let mode = match self.cpu_mode {
            Some(mode) => asked(mode, CpuModeReason::Requested),
            None => mode_of_environment()?
                .map(|mode| asked(mode, CpuModeReason::Environment))
                .unwrap_or_else(ChosenMode::best),
        };
        if !mode.mode.is_supported() {
            return Err(BuildError::CpuMode(mode.mode));
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

impl<P: ReusePolicy, A: FromBuilder<P>> Builder<P, A> {
    /// Builds the allocator, or the cache. The only size class of a [`Cache`](crate::Cache) is that
    /// of its type, whatever [`classes`](Self::classes) said.
    ///
    /// ```
    /// use memalloc::{Cache, MemAlloc};
    ///
    /// let alloc: MemAlloc = MemAlloc::builder().build()?;
    /// let cache: Cache<String> = Cache::builder().limit_bytes(64 << 20).build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`BuildError::Type`] when the type of a cache is larger, or more strictly aligned, than 4096
    /// bytes; see also [`BuildError`]. A failed build holds no resources.
    pub fn build(self) -> Result<A, BuildError> {
        A::from_builder(self)
    }
}

/// A [`MemAlloc`], or a [`Cache`](crate::Cache) under a policy that fits its type: what a
/// [`Builder`] builds.
///
/// Code that is generic over the policy requires this trait of the cache that it builds, or
/// [`ProtectsIdentity`](crate::ProtectsIdentity) of the policy. Other crates can't implement it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be built",
    note = "under `Immediate` a cache has objects of a type that is `TypeStable`",
    note = "under the other policies (`ProtectsIdentity`) it has objects of any type"
)]
pub trait FromBuilder<P: ReusePolicy>: Sized + sealed::Sealed {
    #[doc(hidden)]
    fn from_builder(builder: Builder<P, Self>) -> Result<Self, BuildError>;
}

pub(super) mod sealed {
    /// Other crates can't name this trait.
    pub trait Sealed {}
}

impl<P: ReusePolicy> sealed::Sealed for MemAlloc<P> {}

impl<P: ReusePolicy> FromBuilder<P> for MemAlloc<P> {
    fn from_builder(builder: Builder<P, Self>) -> Result<Self, BuildError> {
        builder.build_alloc()
    }
}

/// Returns the CPU mode that the environment variable asks for, if it is set.
fn mode_of_environment() -> Result<Option<CpuMode>, BuildError> {
    std::env::var_os("MEMALLOC_CPU_MODE").map(|name| mode_named(&name)).transpose()
}

fn mode_named(name: &OsStr) -> Result<CpuMode, BuildError> {
    // A value that is not valid UTF-8 is no mode; the error shows it as well as it can.
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
    fn a_cpu_mode_in_the_environment_that_is_not_utf8_is_an_error() {
        assert!(matches!(mode_named(OsStr::new("active-cpu")), Ok(CpuMode::ActiveCpu)));
        let error = mode_named(OsStr::from_bytes(b"rseq\xff")).unwrap_err().to_string();
        assert!(
            error.starts_with("MEMALLOC_CPU_MODE: ") && error.contains("allowed are"),
            "{error}"
        );
    }
}
