//! Tracks which objects are in their slabs, fills batches from slabs, and takes them back.
//!
//! There is one lock, taken once per batch of objects. Each slab has a bitmap of the objects that
//! are in it, kept beside the slab, not inside. Objects are carved in ascending order, so that
//! memory is touched only as far as it is needed.
//!
//! A slab belongs to the shard (a subset of the CPUs) that last carved from it. So two CPUs seldom
//! have objects of the same slab, and seldom bounce its cache lines.

use super::Handle;
use super::arena::{Arena, SLAB_BYTES, SLAB_UNITS};
use super::descriptor::Slab;
use super::empty::{EmptySlabs, MOST_AT_ALLOC, RECENT};
use super::lists::State;
use crate::class::{ClassTable, UNIT};
use crate::sync::{LockGuard, Ordering, Tally};
use crate::sys::fork::{ForkLock, Registration};
use crate::sys::thread::coarse_clock;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

/// A shard carves from another's slabs only if that one has more than this many with objects in
/// them.
const LEFT_ALONE: usize = 2;

/// The slabs of a class are sparse once they have more than this many bytes, and more than
/// `SPARSE_FROM` times those of their objects outside, until that is `SPARSE_UNTIL` times.
const SPARSE_BYTES: u64 = 4 << 20;
const SPARSE_FROM: u64 = 8;
const SPARSE_UNTIL: u64 = 4;

/// The most shards.
const MOST_SHARDS: usize = if cfg!(loom) { 1 } else { 8 };

/// Builds an object when it leaves its slab, in memory that no other thread can reach.
pub(crate) type Constructor = unsafe fn(NonNull<u8>);

/// The reason that no object could be carved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlabError {
    /// The limit on slab memory, in bytes, is reached.
    Limit(u64),
    /// The reserved range, in bytes, is used up.
    Range(u64),
    /// The system has no more memory.
    System,
}

/// The use of slabs at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct SlabUse {
    /// Number of objects outside their slabs, for each class.
    pub(crate) taken: Vec<u64>,
    /// Number of slabs that have a class.
    pub(crate) slabs: u64,
    /// The number of times that a slab was given a class.
    pub(crate) opened: u64,
    /// The number of times that an empty slab returned its memory.
    pub(crate) released: u64,
    /// Bytes of whole pages that have been touched since the backing provided them.
    pub(crate) backing_bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Slabs {
    pub(super) arena: Arena,
    limit_slabs: u64,
    constructor: Option<Constructor>,
    /// A bit for each class: set while its slabs are sparse. Stored under the lock.
    sparse: Tally,
    #[cfg(poison)]
    keep_class: bool,
    /// Dropped before `state`.
    _registration: Registration,
    pub(super) state: Arc<ForkLock<State>>,
}

/// The system, or the backing, gets its memory back without marks.
#[cfg(poison)]
impl Drop for Slabs {
    fn drop(&mut self) {
        let slabs = self.state.lock().slabs.len() as u32;
        let first_units = (1..slabs).map(|number| number * SLAB_UNITS);
        for object in first_units.filter_map(Handle::new) {
            self.arena.carved(object, SLAB_UNITS);
        }
    }
}

impl Slabs {
    pub(crate) fn new(
        arena: Arena,
        classes: &ClassTable,
        limit_bytes: u64,
        constructor: Option<Constructor>,
        keep_class: bool,
        cpus: usize,
    ) -> Self {
        let shards = cpus.clamp(1, MOST_SHARDS);
        let empty_lists = if keep_class { classes.len() } else { 1 };
        let state = State { shards, classes: classes.len(), empty_lists, ..State::default() };
        let state = Arc::new(ForkLock::new(state));
        // SAFETY: the place is in the `Arc`, which is dropped after the registration.
        let _registration = unsafe { Registration::new(&state) };
        let limit_slabs = limit_bytes / SLAB_BYTES as u64;
        let sparse = Tally::new(0);
        Self {
            arena,
            limit_slabs,
            constructor,
            sparse,
            #[cfg(poison)]
            keep_class,
            _registration,
            state,
        }
    }

    #[inline(always)]
    pub(crate) fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Takes up to `wanted` objects of a class out of slabs, those of a CPU's shard first, and
    /// gives each to `receive`. Takes at least one, or returns an error.
    #[doc(alias = "alloc_bulk")]
    pub(crate) fn carve(
        &self,
        classes: &ClassTable,
        class: usize,
        cpu: usize,
        wanted: usize,
        mut receive: impl FnMut(Handle),
    ) -> Result<(), SlabError> {
        let units = classes.class(class).units();
        let mut state = self.state.lock();
        if state.slabs.is_empty() && !state.begin() {
            return Err(SlabError::System);
        }
        let shard = cpu % state.shards;
        let mut got = 0;
        while got < wanted {
            let number = match self.choose(&mut state, class, shard, units) {
                Ok(number) => number,
                Err(_) if got > 0 => break,
                Err(error) => return Err(error),
            };
            let inside = state.slabs[number as usize].count;
            let count = inside.min((wanted - got) as u32);
            if count == inside {
                state.unlist(number);
            }
            state.taken[class] += u64::from(count);
            got += count as usize;
            let mut end = 0;
            state.slabs[number as usize].take_lowest(count, |index| {
                end = (index + 1) as usize * units as usize * UNIT;
                let Some(object) = Handle::new(number * SLAB_UNITS + index * units) else {
                    unreachable!("slab 0 is never used");
                };
                self.arena.carved(object, units);
                if let Some(construct) = self.constructor {
                    // SAFETY: the object has just left its slab, so only this thread holds it
                    // (MEM-A2, MEM-A3), and its place is as large and aligned as its class.
                    unsafe { construct(self.arena.pointer(object)) };
                }
                receive(object);
            });
            state.touch(number, end);
        }
        self.note_sparse(&state, classes, class);
        let of = state.empty_of(class);
        let surplus = state.empty[of].surplus_at(coarse_clock, MOST_AT_ALLOC);
        self.release(&mut state, of, surplus);
        Ok(())
    }

    /// Takes one object of a class out of a slab, unless that would wait for a lock, need memory
    /// from the system or run a constructor. Async-signal-safe.
    pub(crate) fn carve_nowait(
        &self,
        classes: &ClassTable,
        class: usize,
        cpu: usize,
    ) -> Option<Handle> {
        let units = classes.class(class).units();
        let mut lock = self.state.try_lock()?;
        let state = &mut *lock;
        if self.constructor.is_some() || state.slabs.is_empty() {
            return None;
        }
        let shard = cpu % state.shards;
        let mut lists = class * state.shards..(class + 1) * state.shards;
        let listed = lists.find_map(|list| state.partial[list].last().copied());
        let number = match listed {
            Some(number) => number,
            None => self.reopen(state, class, shard, units)?,
        };
        if state.slabs[number as usize].count == 1 {
            state.unlist(number);
        }
        state.taken[class] += 1;
        let (mut taken, mut end) = (None, 0);
        state.slabs[number as usize].take_lowest(1, |index| {
            taken = Handle::new(number * SLAB_UNITS + index * units);
            end = (index + 1) as usize * units as usize * UNIT;
        });
        state.touch(number, end);
        taken.inspect(|&object| self.arena.carved(object, units))
    }

    /// Chooses a slab of a class with objects in it for a shard: one of its own, else one of a
    /// shard that has several, else an empty one, else any.
    fn choose(
        &self,
        state: &mut State,
        class: usize,
        shard: usize,
        units: u32,
    ) -> Result<u32, SlabError> {
        let lists = class * state.shards..(class + 1) * state.shards;
        if let Some(&number) = state.partial[lists.start + shard].last() {
            return Ok(number);
        }
        let mut others = lists.clone();
        if let Some(list) = others.find(|&list| state.partial[list].len() > LEFT_ALONE)
            && let Some(number) = state.take_over(list, class, shard)
        {
            return Ok(number);
        }
        self.open(state, class, shard, units).or_else(|error| {
            let mut others = lists;
            let found = others.find(|&list| !state.partial[list].is_empty());
            found.and_then(|list| state.take_over(list, class, shard)).ok_or(error)
        })
    }

    /// Puts objects back into their slabs. Returns false, and puts none back, if the lock is taken
    /// and `may_wait` is not set. Then returns the memory of a few of the empty slabs that need not
    /// stay, unless `more` objects follow.
    ///
    /// The caller holds the objects, and no reader can (MEM-A3).
    #[doc(alias = "free_all")]
    pub(crate) fn put_back(
        &self,
        classes: &ClassTable,
        objects: &[Handle],
        may_wait: bool,
        more: bool,
    ) -> bool {
        let lock = if may_wait { Some(self.state.lock()) } else { self.state.try_lock() };
        let Some(mut state) = lock else {
            return false;
        };
        for &object in objects {
            self.put_back_one(&mut state, classes, object);
        }
        if let Some(object) = objects.first() {
            let slab = object.get() / SLAB_UNITS;
            let class = state.slabs[slab as usize].class;
            self.note_sparse(&state, classes, class);
            if !more {
                let of = state.empty_of(class);
                let surplus = state.empty[of].surplus_at_free(coarse_clock);
                self.release(&mut state, of, surplus);
            }
        }
        true
    }

    fn put_back_one(&self, state: &mut LockGuard<'_, State>, classes: &ClassTable, object: Handle) {
        let number = object.get() / SLAB_UNITS;
        let state = &mut **state;
        let slab = &mut state.slabs[number as usize];
        let index = slab.index_of(object.get() % SLAB_UNITS);
        let (word, bit) = (index as usize / 64, index % 64);
        debug_assert!(slab.inside[word] & (1 << bit) == 0, "{object:?} went back twice");
        slab.inside[word] |= 1 << bit;
        slab.count += 1;
        let (class, count) = (slab.class, slab.count);
        #[cfg(poison)]
        if !self.keep_class {
            self.arena.went_back(object, classes.class(class).units());
        }
        let list = class * state.shards + slab.shard;
        state.taken[class] -= 1;
        if count == 1 {
            slab.listed_at = state.partial[list].len();
            state.partial[list].push(number);
        }
        if count == SLAB_UNITS / classes.class(class).units() {
            state.owned[list] -= 1;
            state.unlist(number);
            state.in_use -= 1;
            let of = state.empty_of(class);
            state.empty[of].add(number);
        }
    }

    /// Returns true if the slabs of a class hold many times the bytes of its objects outside. Free
    /// objects should then return to their slabs, because each may keep 64 KiB.
    pub(crate) fn is_sparse(&self, class: usize) -> bool {
        self.sparse.load(Ordering::Relaxed) >> class & 1 != 0
    }

    /// Finds out whether the slabs of a class are sparse.
    fn note_sparse(&self, state: &State, classes: &ClassTable, class: usize) {
        let owned = &state.owned[class * state.shards..(class + 1) * state.shards];
        let held = owned.iter().sum::<usize>() as u64 * SLAB_BYTES as u64;
        let outside = state.taken[class] * classes.class(class).size as u64;
        let was_sparse = self.is_sparse(class);
        let times = if was_sparse { SPARSE_UNTIL } else { SPARSE_FROM };
        if was_sparse != (held > SPARSE_BYTES && held > times * outside) {
            self.sparse.fetch_xor(1 << class, Ordering::Relaxed);
        }
    }

    /// Gives an empty slab the class `class`, lists it, and returns its number.
    fn open(
        &self,
        state: &mut State,
        class: usize,
        shard: usize,
        units: u32,
    ) -> Result<u32, SlabError> {
        if state.in_use >= self.limit_slabs {
            return Err(SlabError::Limit(self.limit_slabs * SLAB_BYTES as u64));
        }
        let of = state.empty_of(class);
        let (empty, slabs) = (&mut state.empty[of], &state.slabs);
        let was_needed = |number: u32| {
            let slab = &slabs[number as usize];
            slab.class == class && coarse_clock().saturating_sub(slab.released_at) < RECENT
        };
        let number = match empty.take(was_needed) {
            Some(number) => number,
            None => self.extend(state, of)?,
        };
        let list = class * state.shards + shard;
        let words = Slab::words(units);
        if state.slabs[number as usize].make_room(words) && state.has_room_to_list(list) {
            state.give_class(number, class, shard, units);
            return Ok(number);
        }
        state.empty[of].add(number);
        Err(SlabError::System)
    }

    /// Opens an empty slab that still has its memory, without allocating. The slab goes to the
    /// first shard, from `shard` on, whose list has room. Otherwise like `open`.
    fn reopen(&self, state: &mut State, class: usize, shard: usize, units: u32) -> Option<u32> {
        let of = state.empty_of(class);
        let number = state.empty[of].newest()?;
        let has_room = |shard: &usize| {
            let list = class * state.shards + shard;
            state.partial[list].capacity() > state.owned[list]
        };
        let mut shards = (shard..state.shards).chain(0..shard);
        let shard = shards.find(has_room)?;
        if state.slabs[number as usize].inside.capacity() < Slab::words(units)
            || state.in_use >= self.limit_slabs
        {
            return None;
        }
        state.empty[of].take(|_| false);
        state.give_class(number, class, shard, units);
        Some(number)
    }

    /// Returns the number of a slab that was never used.
    fn extend(&self, state: &mut State, of: usize) -> Result<u32, SlabError> {
        let number = state.slabs.len() as u32;
        if number >= self.arena.slabs() {
            return Err(SlabError::Range(u64::from(self.arena.slabs()) * SLAB_BYTES as u64));
        }
        if state.slabs.try_reserve(1).is_err() {
            return Err(SlabError::System);
        }
        if number == 1 || Arena::opens_chunk(number) {
            // SAFETY: this thread has the lock.
            unsafe { self.arena.commit(number) }.map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => SlabError::Range(self.arena.reserved()),
                _ => SlabError::System,
            })?;
        }
        if !state.empty[of].make_room() {
            return Err(SlabError::System);
        }
        state.slabs.push(Slab::default());
        Ok(number)
    }

    pub(crate) fn backing_bytes(&self) -> u64 {
        self.state.lock().backing_bytes
    }

    /// Returns true if an object has ever left its slab.
    pub(crate) fn were_used(&self) -> bool {
        self.state.lock().opened > 0
    }

    pub(crate) fn usage(&self) -> SlabUse {
        let state = self.state.lock();
        SlabUse {
            taken: if state.taken.is_empty() {
                vec![0; state.classes]
            } else {
                state.taken.clone()
            },
            slabs: state.in_use,
            opened: state.opened,
            released: state.released,
            backing_bytes: state.backing_bytes,
        }
    }

    /// Returns the bytes of the tables beside the slabs. Looks at every slab.
    pub(crate) fn table_bytes(&self) -> u64 {
        fn room<T>(list: &Vec<T>) -> usize {
            list.capacity() * size_of::<T>()
        }
        let state = self.state.lock();
        let State { slabs, empty, partial, taken, owned, .. } = &*state;
        let inside: usize = slabs.iter().map(|slab| room(&slab.inside)).sum();
        let listed: usize = partial.iter().map(room).sum();
        let empty = room(empty) + empty.iter().map(EmptySlabs::table_bytes).sum::<usize>();
        let numbers = empty + room(taken) + room(owned);
        (size_of::<State>() + room(slabs) + inside + room(partial) + listed + numbers) as u64
    }
}

#[cfg(all(test, not(loom)))]
pub(super) mod tests {
    use super::*;
    use std::collections::HashSet;

    fn arena() -> Arena {
        Arena::reserve(&crate::backing::usual(), 1 << 30, false).unwrap()
    }

    pub(in crate::slab) fn slabs(limit_bytes: u64) -> (Slabs, ClassTable) {
        let classes = ClassTable::default();
        (Slabs::new(arena(), &classes, limit_bytes, None, false, 2), classes)
    }

    pub(in crate::slab) fn carve(
        slabs: &Slabs,
        classes: &ClassTable,
        class: usize,
        wanted: usize,
    ) -> Vec<Handle> {
        let mut got = Vec::new();
        slabs.carve(classes, class, 0, wanted, |object| got.push(object)).unwrap();
        got
    }

    #[test]
    fn objects_are_aligned_to_their_class_and_do_not_overlap() {
        let (slabs, classes) = slabs(u64::MAX);
        let mut units = HashSet::new();
        for class in 0..classes.len() {
            let size = classes.class(class).size;
            for object in carve(&slabs, &classes, class, 3 * SLAB_BYTES / size) {
                let pointer = slabs.arena().pointer(object);
                assert_eq!(slabs.arena().handle(pointer), object);
                assert!(pointer.addr().get().is_multiple_of(classes.class(class).align()));
                for unit in 0..classes.class(class).units() {
                    assert!(units.insert(object.get() + unit));
                }
            }
        }
    }

    #[test]
    fn a_slab_that_keeps_its_class_serves_no_other_though_its_memory_went_back() {
        let classes = ClassTable::default();
        let slabs = Slabs::new(arena(), &classes, u64::MAX, None, true, 2);
        let small = carve(&slabs, &classes, 0, 4 * 4096);
        assert!(slabs.put_back(&classes, &small, true, false));
        slabs.release_spare();
        assert_eq!(slabs.usage().slabs, 0);
        let large = carve(&slabs, &classes, 10, 64);
        let in_one = |a: Handle, b: Handle| a.get() / SLAB_UNITS == b.get() / SLAB_UNITS;
        assert!(large.iter().all(|&large| !small.iter().any(|&small| in_one(small, large))));
        let mut again = carve(&slabs, &classes, 0, 4 * 4096);
        again.sort_unstable_by_key(|object| object.get());
        assert_eq!(again, small, "the same four slabs");
    }

    #[test]
    fn memory_is_counted_as_far_as_it_was_touched() {
        let (slabs, classes) = slabs(u64::MAX);
        let first = carve(&slabs, &classes, 2, 48);
        assert_eq!(slabs.usage().backing_bytes, 4096);
        assert!(slabs.put_back(&classes, &first, true, false));
        assert_eq!(carve(&slabs, &classes, 2, 48), first);
        assert_eq!(slabs.usage().backing_bytes, 4096);
    }

    #[test]
    fn cpus_have_slabs_of_their_own_until_there_is_no_other() {
        let (slabs, classes) = slabs(2 * SLAB_BYTES as u64);
        let slab_of = |cpu: usize, wanted: usize| {
            let mut got = Vec::new();
            slabs.carve(&classes, 10, cpu, wanted, |object| got.push(object)).unwrap();
            got.iter().map(|object| object.get() / SLAB_UNITS).collect::<HashSet<_>>()
        };
        let (first, second) = (slab_of(0, 4), slab_of(1, 4));
        assert!(first.is_disjoint(&second));
        assert_eq!((slab_of(0, 4), slab_of(1, 4)), (first.clone(), second.clone()));
        assert_eq!(slab_of(0, 16), &first | &second, "no other slab may be opened");
    }

    #[test]
    fn the_limit_is_kept_and_named() {
        let (slabs, classes) = slabs(2 * SLAB_BYTES as u64);
        let got = carve(&slabs, &classes, 10, 100);
        assert_eq!(got.len(), 32, "two slabs of 16");
        let error = slabs.carve(&classes, 0, 0, 1, |_| ()).unwrap_err();
        assert_eq!(error, SlabError::Limit(2 * SLAB_BYTES as u64));
        assert!(slabs.put_back(&classes, &got[..16], true, false));
        assert_eq!(carve(&slabs, &classes, 0, 1).len(), 1);
    }
}
