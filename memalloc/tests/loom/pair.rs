//! Shared parts of the models: a small allocator, a second thread, and the sums at the end.

use crate::explore::Seen;
use loom::cell::UnsafeCell;
use memalloc::rcu::Domain;
use memalloc::{Builder, ClassTable, Handle, MemAlloc, ReusePolicy, run_on, sync::thread};
use std::alloc::Layout;
use std::sync::Arc;

/// The one layout that the models use.
pub(crate) const LAYOUT: Layout = Layout::new::<[u64; 2]>();

/// Returns an allocator of one class, on its own domain.
pub(crate) fn allocator<P: ReusePolicy>() -> Arc<MemAlloc<P>> {
    allocator_in(&Domain::new())
}

/// Returns an allocator of one class, on `domain`, whose end is no part of the model.
pub(crate) fn allocator_in<P: ReusePolicy>(domain: &Domain) -> Arc<MemAlloc<P>> {
    Arc::new(built(of_one_class().domain(domain.clone())).ends_at_once())
}

/// Returns an allocator of one class, on `domain`, for a model of its end.
pub(crate) fn allocator_that_ends<P: ReusePolicy>(domain: &Domain) -> MemAlloc<P> {
    built(of_one_class().domain(domain.clone()))
}

/// Returns a builder of allocators of one class.
pub(crate) fn of_one_class<P: ReusePolicy>() -> Builder<P> {
    MemAlloc::builder().classes(ClassTable::new(&[LAYOUT.size()]).expect("one class is a table"))
}

/// Builds an allocator.
pub(crate) fn built<P: ReusePolicy>(builder: Builder<P>) -> MemAlloc<P> {
    builder.build().expect("under loom there is always memory")
}

/// Plain memory beside the objects. Loom reports unordered accesses to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plain(Arc<UnsafeCell<u32>>);

// SAFETY: unordered accesses end the model; the type exists to find them.
unsafe impl Send for Plain {}
// SAFETY: as above.
unsafe impl Sync for Plain {}

impl Plain {
    pub(crate) fn read(&self) -> u32 {
        // SAFETY: loom has just checked that no other thread writes.
        self.0.with(|word| unsafe { *word })
    }

    pub(crate) fn increment(&self) {
        // SAFETY: loom has just checked that no other thread reads or writes.
        self.0.with_mut(|word| unsafe { *word += 1 });
    }
}

/// Runs `other` on a second thread, on CPU `cpu`, and `here` on this thread, on CPU 0.
pub(crate) fn beside<T: 'static, U>(
    cpu: usize,
    other: impl FnOnce() -> T + 'static,
    here: impl FnOnce() -> U,
) -> (T, U) {
    let other = thread::spawn(move || {
        run_on(cpu);
        other()
    });
    let here = here();
    (other.join().expect("the other thread does not panic"), here)
}

/// Takes an object and writes to it, as its only holder.
pub(crate) fn take<P: ReusePolicy>(alloc: &MemAlloc<P>) -> Handle {
    let object = alloc.alloc_handle(LAYOUT).expect("there are more slabs than a model needs");
    alloc.writes_plain(object);
    object
}

/// Writes to an object and frees it for immediate reuse.
pub(crate) fn give<P: ReusePolicy>(alloc: &MemAlloc<P>, object: Handle) {
    alloc.writes_plain(object);
    // SAFETY: every model frees each object that it took once, with the same layout.
    unsafe { alloc.free_unshared_handle(object, LAYOUT) };
}

/// Frees an object for reuse after a grace period.
pub(crate) fn give_rcu<P: ReusePolicy>(alloc: &MemAlloc<P>, object: Handle) {
    // SAFETY: as in `give`.
    unsafe { alloc.free_rcu_handle(object, LAYOUT) };
}

/// Checks the end of a model: every object is counted in one state, `live` of them with the model,
/// and all others go back to their slabs.
pub(crate) fn adds_up<P: ReusePolicy>(alloc: &MemAlloc<P>, live: u64, seen: &Seen) {
    let stats = alloc.stats();
    let sum = stats.live.objects + stats.cached.objects + stats.pending.objects;
    assert_eq!(sum, stats.taken.objects, "{stats:?}");
    assert_eq!(stats.live.objects, live, "{stats:?}");
    seen.note("sums added up", true);

    alloc.quiesce().expect("no guard is left");
    let stats = alloc.stats();
    assert_eq!((stats.taken.objects, stats.live.objects), (live, live), "{stats:?}");
}
