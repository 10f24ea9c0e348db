//! Shared by the tests: every configuration that this system supports, objects whose contents can
//! be checked, and the sums that always hold.
#![allow(dead_code, unused_imports, unused_macros, reason = "each test file uses its part")]

use memalloc::rcu::{BarrierKind, Domain};
use memalloc::{Amount, Builder, Cache, CpuMode, MemAlloc, PolicyKind, ReusePolicy, Stats};
use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;

/// The way an allocator finds its caches, and the way its domain orders readers and writers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) cpu_mode: CpuMode,
    pub(crate) barrier: BarrierKind,
}

impl Setup {
    /// Returns every combination that this system supports.
    pub(crate) fn every() -> Vec<Self> {
        let modes = CpuMode::ALL.iter().filter(|mode| mode.is_supported());
        modes
            .flat_map(|&cpu_mode| {
                let kinds = BarrierKind::ALL.iter().filter(|kind| kind.is_supported());
                kinds.map(move |&barrier| Self { cpu_mode, barrier })
            })
            .collect()
    }

    /// Returns a combination for every kind of barrier that this system supports.
    pub(crate) fn every_barrier() -> Vec<Self> {
        let mut every = Self::every();
        every.retain(|setup| setup.cpu_mode == CpuMode::best());
        every
    }

    pub(crate) fn domain(&self) -> Domain {
        Domain::builder()
            .barrier_kind(self.barrier)
            .build()
            .expect("only supported kinds are listed")
    }

    /// Returns the builder of an allocator with its own domain.
    pub(crate) fn builder<P: ReusePolicy>(&self) -> Builder<P> {
        MemAlloc::builder().cpu_mode(self.cpu_mode).domain(self.domain())
    }

    /// The same of a cache.
    pub(crate) fn cache_builder<T, P>(&self) -> Builder<P, Cache<T, P>>
    where
        T: Send + Sync + 'static,
        P: ReusePolicy,
    {
        Cache::builder().cpu_mode(self.cpu_mode).domain(self.domain())
    }

    pub(crate) fn allocator<P: ReusePolicy>(&self) -> MemAlloc<P> {
        self.builder().build().expect("an allocator")
    }

    pub(crate) fn allocator_in<P: ReusePolicy>(&self, domain: &Domain) -> MemAlloc<P> {
        self.builder().domain(domain.clone()).build().expect("an allocator")
    }
}

/// Runs `work` in a child process, which is killed after `seconds`. Returns its wait status; 0
/// means success.
#[cfg(unix)]
pub(crate) fn in_child(seconds: u32, work: impl FnOnce()) -> libc::c_int {
    // SAFETY: the child calls only what this library allows there, and exits without running any
    // code of the parent.
    unsafe {
        match libc::fork() {
            -1 => panic!("no memory for a child"),
            0 => {
                libc::alarm(seconds);
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
                libc::_exit(outcome.is_err().into())
            }
            child => {
                let mut status = 0;
                while libc::waitpid(child, &raw mut status, 0) != child {}
                status
            }
        }
    }
}

/// Prints the configuration of a test that fails.
pub(crate) struct Announce(pub(crate) Setup, pub(crate) Option<memalloc::PolicyKind>);

impl Drop for Announce {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let policy = self.1.map(|kind| format!("policy {kind} and ")).unwrap_or_default();
            eprintln!("failed with {policy}{:?}", self.0);
        }
    }
}

/// `in_every_setup! { fn claim<P>(setup) { … } }` is a test of that name that runs over every CPU
/// mode, barrier kind and policy. With a policy in place of `P`, it runs over that policy only;
/// with `ProtectsIdentity`, over all policies that protect identity. Without a parameter, the claim
/// is about domains, which know nothing of CPU modes: it runs over every barrier kind.
macro_rules! in_every_setup {
    ($(#[$attribute:meta])* fn $claim:ident($setup:ident) $body:block) => {
        $(#[$attribute])*
        #[test]
        fn $claim() {
            for setup in $crate::common::Setup::every_barrier() {
                let _announce = $crate::common::Announce(setup, None);
                let $setup = &setup;
                $body
            }
        }
    };
    ($(#[$attribute:meta])* fn $claim:ident<Immediate>($setup:ident) $body:block) => {
        $crate::common::in_every_setup! {
            @ ReusePolicy [$(#[$attribute])*] $claim $setup $body Immediate
        }
    };
    ($(#[$attribute:meta])* fn $claim:ident<ProtectsIdentity>($setup:ident) $body:block) => {
        $crate::common::in_every_setup! {
            @ ProtectsIdentity [$(#[$attribute])*] $claim $setup $body
            AfterRcuGp FreeAfterRcuGp AfterTasksTraceGp
        }
    };
    ($(#[$attribute:meta])* fn $claim:ident<P>($setup:ident) $body:block) => {
        $crate::common::in_every_setup! {
            @ ReusePolicy [$(#[$attribute])*] $claim $setup $body
            Immediate AfterRcuGp FreeAfterRcuGp AfterTasksTraceGp
        }
    };
    ($(#[$attribute:meta])* fn $claim:ident<$policy:ident>($setup:ident) $body:block) => {
        $crate::common::in_every_setup! {
            @ ProtectsIdentity [$(#[$attribute])*] $claim $setup $body $policy
        }
    };
    (@ $bound:ident [$($attribute:tt)*] $claim:ident $setup:ident $body:block $($policy:ident)+) => {
        $($attribute)*
        #[test]
        fn $claim() {
            #[allow(clippy::extra_unused_type_parameters, reason = "a claim may name its policy")]
            fn check<P: memalloc::$bound>($setup: &$crate::common::Setup) $body
            for setup in $crate::common::Setup::every() {
                $({
                    type Policy = memalloc::$policy;
                    let kind = <Policy as memalloc::ReusePolicy>::KIND;
                    let _announce = $crate::common::Announce(setup, Some(kind));
                    check::<Policy>(&setup);
                })+
            }
        }
    };
}
pub(crate) use in_every_setup;

/// Returns a layout that is known to be valid.
pub(crate) fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("a valid layout")
}

/// An object and the byte that was written to it.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) place: NonNull<u8>,
    pub(crate) layout: Layout,
    pattern: u8,
}

// SAFETY: an `Object` is the only holder of its memory.
unsafe impl Send for Object {}

impl Object {
    /// Allocates and fills an object.
    pub(crate) fn new<P: ReusePolicy>(alloc: &MemAlloc<P>, layout: Layout, pattern: u8) -> Self {
        Self::filled(alloc.alloc(layout).expect("memory").cast(), layout, pattern)
    }

    /// Returns an object that was filled before, to check it again.
    pub(crate) fn seen_before(place: NonNull<u8>, layout: Layout, pattern: u8) -> Self {
        Self { place, layout, pattern }
    }

    /// Fills an object that the caller has just allocated.
    pub(crate) fn filled(place: NonNull<u8>, layout: Layout, pattern: u8) -> Self {
        assert!(place.addr().get().is_multiple_of(layout.align()), "not aligned");
        // SAFETY: the object was allocated with this layout, and no other thread knows it.
        unsafe { place.write_bytes(pattern, layout.size()) };
        Self { place, layout, pattern }
    }

    pub(crate) fn address(&self) -> usize {
        self.place.addr().get()
    }

    /// Returns the value of each of its bytes.
    pub(crate) fn pattern(&self) -> u8 {
        self.pattern
    }

    /// Panics if the object was overwritten.
    pub(crate) fn check(&self) {
        // SAFETY: the object is live, or pending inside a section of this thread, so its memory is
        // mapped and may not be written.
        let bytes = unsafe { std::slice::from_raw_parts(self.place.as_ptr(), self.layout.size()) };
        assert!(bytes.iter().all(|byte| *byte == self.pattern), "contents changed: {self:?}");
    }

    /// Frees the object as the policy says.
    pub(crate) fn free<P: ReusePolicy>(self, alloc: &MemAlloc<P>) {
        self.check();
        // SAFETY: allocated from `alloc` with this layout, and given up here.
        unsafe { alloc.free(self.place, self.layout) };
    }

    /// Frees the object for reuse after a grace period.
    pub(crate) fn free_rcu<P: ReusePolicy>(self, alloc: &MemAlloc<P>) {
        self.check();
        // SAFETY: as in `free`.
        unsafe { alloc.free_rcu(self.place, self.layout) };
    }

    /// Frees the object for immediate reuse.
    pub(crate) fn free_unshared<P: ReusePolicy>(self, alloc: &MemAlloc<P>) {
        self.check();
        // SAFETY: as in `free`, and no reader has ever seen the object.
        unsafe { alloc.free_unshared(self.place, self.layout) };
    }
}

/// Counts its drops, and panics if it is dropped twice.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) dropped: AtomicU64,
    all: Arc<AtomicUsize>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        assert_eq!(self.dropped.fetch_add(1, Ordering::Relaxed), 0, "dropped twice");
        self.all.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) fn counted(all: &Arc<AtomicUsize>) -> Counted {
    Counted { dropped: AtomicU64::new(0), all: all.clone() }
}

/// Returns the first word of an object, which names its owner; 0 means none. A free object keeps
/// its bytes and fresh memory is zero, so an allocation always finds a 0.
pub(crate) fn owner_of<'a>(object: NonNull<u8>) -> &'a AtomicU64 {
    // SAFETY: objects are at least 16 bytes, aligned to 16, and mapped as long as their allocator
    // lives; the tests that use this access the word only in this way.
    unsafe { object.cast::<AtomicU64>().as_ref() }
}

/// Marks an object that was just allocated. Panics if it has another owner.
pub(crate) fn claim(object: NonNull<u8>, owner: u64) {
    let before = owner_of(object).swap(owner, Ordering::Relaxed);
    assert_eq!(before, 0, "handed out twice: {object:?}");
}

/// Removes the mark, before the object is freed.
pub(crate) fn disclaim(object: NonNull<u8>, owner: u64) {
    let before = owner_of(object).swap(0, Ordering::Relaxed);
    assert_eq!(before, owner, "it had another owner too: {object:?}");
}

/// Checks the sums of a quiet allocator of which the test holds `live` objects.
pub(crate) fn adds_up(stats: &Stats, live: usize) {
    let whole = [stats.live, stats.cached, stats.pending, stats.taken];
    let mut sums = [Amount::default(); 4];
    for class in &stats.classes {
        assert_eq!(class.live + class.cached + class.pending, class.taken, "{stats:?}");
        let parts = [class.live, class.cached, class.pending, class.taken];
        for (sum, objects) in sums.iter_mut().zip(parts) {
            *sum += Amount { objects, bytes: objects * class.size as u64 };
        }
    }
    assert_eq!(sums, whole, "the classes make up the whole");
    assert_eq!(stats.live.objects, live as u64, "{stats:?}");
}

/// The backing with the system's pages, if there is one.
#[cfg(all(target_os = "linux", not(miri)))]
pub(crate) type Pages = memalloc::backing::Mapped;
#[cfg(not(all(target_os = "linux", not(miri))))]
pub(crate) type Pages = memalloc::backing::System;

/// Returns the bytes of the system's memory that an allocator on the default backing holds. If that
/// backing does not take memory back, returns the bytes that it would hold if it did: the slabs
/// that have objects.
pub(crate) fn held_bytes(stats: &Stats) -> u64 {
    let goes_back = cfg!(all(target_os = "linux", not(miri)));
    if goes_back { stats.backing_bytes } else { stats.slabs * (64 << 10) }
}

/// Pseudo-random numbers that are the same in every run (xorshift).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns a number below `sides`.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % sides
    }
}

/// Runs `work` while another thread, named `sitter`, holds the result of `enter` and is blocked.
/// That thread leaves when `work` returns or panics.
pub(crate) fn behind<G, R>(enter: impl FnOnce() -> G + Send, work: impl FnOnce() -> R) -> R {
    let (tell_inside, inside) = channel();
    let (stay, leave) = channel::<()>();
    thread::scope(|scope| {
        let sit = move || {
            let guard = enter();
            tell_inside.send(()).expect("a receiver");
            // An error: nothing is sent, the other end is dropped.
            let _ = leave.recv();
            drop(guard);
        };
        let sitter = thread::Builder::new().name("sitter".to_owned());
        sitter.spawn_scoped(scope, sit).expect("a thread");
        inside.recv().expect("the sitter is inside");
        let _stay = stay;
        work()
    })
}

/// Starts threads, eight at a time, that allocate, read and free, and tends the allocator after
/// each eight. However many caches there are, and each thread may use another one, little stays in
/// those that no thread uses any more, and in the end nothing.
pub(crate) fn short_lived_threads_leave_nothing_behind<P: ReusePolicy>(setup: &Setup) {
    const AT_ONCE: usize = 8;
    /// Objects that a cache carves at its first use are idle after two rounds. Then they are ready
    /// for other caches, and after a few more rounds in their slabs.
    const ROUNDS_KEPT: usize = 8;
    let alloc = &setup.allocator::<P>();
    let layout = layout(200, 1);
    let work = |pattern| {
        let guard = alloc.domain().pin();
        let [first, second] = [0, 1].map(|_| Object::new(alloc, layout, pattern));
        drop(guard);
        first.free(alloc);
        second.free_rcu(alloc);
    };
    let class = alloc.classes().classes()[alloc.classes().class_for(layout).expect("a class")];
    let carved = match P::KIND {
        PolicyKind::FreeAfterRcuGp => class.watermarks.deferred(class.size),
        _ => class.watermarks.batch,
    };
    let bound = (ROUNDS_KEPT * AT_ONCE * carved) as u64;
    for _ in 0..2_000 / AT_ONCE / Setup::every().len() {
        thread::scope(|scope| {
            let threads: Vec<_> =
                (0..AT_ONCE as u8).map(|n| scope.spawn(move || work(n))).collect();
            // The end of the scope alone would not wait for the drop of thread-local storage.
            threads.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
        });
        alloc.tend();
        let taken = alloc.stats().taken.objects;
        assert!(taken <= bound, "{taken} objects, {bound} allowed");
    }
    adds_up(&alloc.stats(), 0);
    assert_eq!(alloc.domain().stats().slots, 0);
    (0..ROUNDS_KEPT).for_each(|_| alloc.tend());
    assert_eq!(alloc.stats().taken.objects, 0, "all are in their slabs");
}

/// Restricts the calling thread to this CPU, if the system has it, or lets it run on all.
#[cfg(target_os = "linux")]
pub(crate) fn run_on(cpu: Option<usize>) {
    // SAFETY: a set of CPUs is plain bits, and all zero is the empty set; the calls read it within
    // its size. If the system refuses, the thread stays where it may run, which is good enough.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        match cpu {
            Some(cpu) => libc::CPU_SET(cpu, &mut set),
            None => (0..64).for_each(|cpu| libc::CPU_SET(cpu, &mut set)),
        }
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set);
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn run_on(_cpu: Option<usize>) {}

/// Returns how many CPUs this process may use.
pub(crate) fn cpus() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Keeps the calling thread on its current CPU, so that it can reach the objects that it leaves in
/// that CPU's cache.
pub(crate) fn stay_on_this_cpu() {
    #[cfg(target_os = "linux")]
    // SAFETY: takes no arguments; -1 is no CPU number and leaves the thread where it is.
    run_on(usize::try_from(unsafe { libc::sched_getcpu() }).ok());
}

/// Keeps the calling thread on the CPU after its current one, if there are several.
pub(crate) fn stay_on_another_cpu() {
    #[cfg(target_os = "linux")]
    {
        run_on(None);
        // SAFETY: takes no arguments; -1 is no CPU number and leaves the thread where it is.
        let this = usize::try_from(unsafe { libc::sched_getcpu() }).ok();
        run_on(this.map(|this| (this + 1) % cpus()));
    }
}
