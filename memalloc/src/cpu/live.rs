//! The caches of an allocator from its first allocation on, and the stand-in before that.
//!
//! The stand-in is process-wide and serves no layout. The fast paths find nothing in it without
//! checking whether caches exist, and callers take the slow path, which creates them. So an
//! allocator that is never used has no caches.

use super::by_size::BySize;
use super::table::CacheTable;
use crate::class::{Class, ClassTable};
use crate::sys::fork::{AtFork, Forking, Registration};
use crate::sys::heap;
#[cfg(all(target_os = "linux", not(miri), not(loom)))]
use crate::sys::map;
use crate::sys::rseq::CacheRow;
use std::fmt;
use std::io;
use std::ptr;
use std::sync::Arc;
// Models need not see it: their caches are created before their threads begin.
use std::sync::atomic::{AtomicPtr, Ordering};

/// The caches, and the rows that lead to them.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) by_size: BySize,
    /// The row of each class.
    pub(super) by_class: Box<[CacheRow]>,
    /// `None` in the twin, the stand-in.
    pub(super) table: Option<CacheTable>,
}

impl Live {
    pub(super) fn new(classes: &ClassTable, table: CacheTable) -> io::Result<Self> {
        let by_size = BySize::new(classes, &table);
        let of_class = |class: &Class| *by_size.of(class.layout());
        let by_class = heap::try_collect(classes.classes().iter().map(of_class));
        let by_class = by_class.ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { by_size, by_class, table: Some(table) })
    }

    fn twin(first: usize) -> Self {
        Self { by_size: BySize::unserved(first), by_class: Box::default(), table: None }
    }

    pub(super) fn bytes(&self) -> u64 {
        let table = |table: &CacheTable| table.bytes() + size_of::<Self>() as u64;
        self.table.as_ref().map_or(0, table) + size_of_val(&*self.by_class) as u64
    }
}

/// Points to the caches.
pub(super) struct LiveCell {
    /// The caches, or a twin, which is never dropped.
    live: AtomicPtr<Live>,
    /// Dropped before `owner`.
    _registration: Registration,
    owner: Arc<Owner>,
}

/// Owns the caches, also across forks; null until they exist.
struct Owner(AtomicPtr<Live>);

impl fmt::Debug for LiveCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl LiveCell {
    /// Creates a cell without caches. Sequences that run on `cpus` CPUs read a word of the twin in
    /// place of a cache.
    pub(super) fn new(cpus: Option<usize>) -> io::Result<Self> {
        let twin = twin(cpus)?;
        let owner = Arc::new(Owner(AtomicPtr::new(ptr::null_mut())));
        // SAFETY: the place is in the `Arc`, which is dropped after the registration.
        let _registration = unsafe { Registration::new(&owner) };
        Ok(Self { live: AtomicPtr::new(ptr::from_ref(twin).cast_mut()), _registration, owner })
    }

    #[inline(always)]
    pub(super) fn get(&self) -> &Live {
        // ORDERING: Acquire pairs with the Release in `set`: the caches are initialised before they
        // are found. Falls to nothing: a model's caches are there before its threads begin.
        // SAFETY: a twin is never dropped, and the caches stay until `owner` is dropped.
        unsafe { &*self.live.load(Ordering::Acquire) }
    }

    /// Makes `get` return `live` from now on, unless another thread has set its caches already.
    pub(super) fn set(&self, live: Live) -> io::Result<()> {
        let made = Box::into_raw(boxed(live)?);
        // ORDERING: Release: as below. Acquire: another thread's caches are published by this
        // thread too. Falls to nothing: a model's caches are there before its threads begin.
        let set = self.owner.0.compare_exchange(
            ptr::null_mut(),
            made,
            Ordering::Release,
            Ordering::Acquire,
        );
        if set.is_err() {
            // SAFETY: made above, and no other thread knows of it.
            drop(unsafe { Box::from_raw(made) });
        }
        // ORDERING: Release pairs with the Acquire in `get`. Falls to nothing: a model's caches are
        // there before its threads begin.
        self.live.store(set.map_or_else(|others| others, |_| made), Ordering::Release);
        Ok(())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let live = *self.0.get_mut();
        if !live.is_null() {
            // SAFETY: made by `set`; no other owner is left.
            drop(unsafe { Box::from_raw(live) });
        }
    }
}

impl AtFork for Owner {
    fn after(&self, fork: &Forking) {
        let Some(survivor) = fork.survivor() else {
            return;
        };
        // SAFETY: the caches stay until `self` is dropped. The only thread of a child sees what the
        // parent's threads stored before the fork.
        let live = unsafe { self.0.load(Ordering::Relaxed).as_ref() };
        if let Some(table) = live.and_then(|live| live.table.as_ref()) {
            table.repair_after_fork(survivor);
        }
    }
}

/// Returns the process's twin. For sequences, it has room to read in place of a cache for each of
/// `cpus` CPUs, as many as there can be, and for numbers that are no CPU's (MEM-Q3).
fn twin(cpus: Option<usize>) -> io::Result<&'static Live> {
    static READABLE: AtomicPtr<Live> = AtomicPtr::new(ptr::null_mut());
    static UNREADABLE: AtomicPtr<Live> = AtomicPtr::new(ptr::null_mut());
    let place = if cpus.is_some() { &READABLE } else { &UNREADABLE };
    // ORDERING: Acquire pairs with the Release below: the twin is initialised before it is found.
    // Falls to nothing: a model's caches are there before its threads begin.
    let mut twin = place.load(Ordering::Acquire);
    if twin.is_null() {
        let room = cpus.map(Room::new).transpose()?;
        let made = Box::into_raw(boxed(Live::twin(room.as_ref().map_or(0, Room::cpu_0)))?);
        // ORDERING: Release and Acquire as above. Falls to nothing: a model's caches are there
        // before its threads begin.
        twin = match place.compare_exchange(twin, made, Ordering::Release, Ordering::Acquire) {
            Ok(_) => {
                room.into_iter().for_each(Room::stay);
                made
            }
            Err(others) => {
                // SAFETY: made here, and no other thread knows of it.
                drop(unsafe { Box::from_raw(made) });
                others
            }
        };
    }
    // SAFETY: made by this function in some thread, and never dropped.
    Ok(unsafe { &*twin })
}

fn boxed(live: Live) -> io::Result<Box<Live>> {
    heap::try_box(live).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// Zeroed memory to read in place of caches.
#[cfg(all(target_os = "linux", not(miri), not(loom)))]
struct Room {
    start: ptr::NonNull<u8>,
    bytes: usize,
}

#[cfg(all(target_os = "linux", not(miri), not(loom)))]
impl Room {
    fn new(cpus: usize) -> io::Result<Self> {
        // In the counting build a machine may have more CPUs than the one before it.
        let cpus = if cfg!(counted) { cpus.max(1 << 10) } else { cpus };
        let bytes = (cpus + CacheRow::NO_CPUS) * CacheRow::CPU_BYTES;
        Ok(Self { start: map::zeros(bytes)?, bytes })
    }

    /// Keeps the memory mapped until the process ends.
    fn stay(self) {
        std::mem::forget(self);
    }

    fn cpu_0(&self) -> usize {
        self.start.as_ptr().expose_provenance() + CacheRow::NO_CPUS * CacheRow::CPU_BYTES
    }
}

#[cfg(all(target_os = "linux", not(miri), not(loom)))]
impl Drop for Room {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`; `stay` was called if it is in use.
        unsafe { map::unmap(self.start.as_ptr(), self.bytes) };
    }
}

/// A stand-in for systems without sequences.
#[cfg(not(all(target_os = "linux", not(miri), not(loom))))]
struct Room;

#[cfg(not(all(target_os = "linux", not(miri), not(loom))))]
impl Room {
    fn new(_cpus: usize) -> io::Result<Self> {
        Ok(Self)
    }

    fn stay(self) {}

    fn cpu_0(&self) -> usize {
        0
    }
}
