//! The caches of each CPU: arrays of free objects for each class, used by one thread at a time.
//!
//! A thread that uses a cache marks its word busy with one exchange. If the word is busy already
//! (because a thread was preempted inside, or a signal handler interrupted one), the caller does
//! not wait: a free goes to a lock-free list beside the cache, an allocation to the slow path.
//! Beside the arrays, a cache has queues of batches that its CPU has deferred. If the system has
//! restartable sequences, single objects move without marking the cache busy, and a sequence marks
//! it busy too (`sys::rseq`). This module knows nothing of slabs or grace periods.
//!
//! - MEM-C1: the arrays of a cache are touched only by the thread that has marked it busy, which
//!   holds an [`Active`], or by a restartable sequence that finds it not busy.
//! - MEM-C2: an object is in one place only: an array, a list, or outside. The link of an object is
//!   used only by the list that the object is in.
//! - MEM-C3: every cache keeps its address for the lifetime of the [`CpuCaches`].
//! - MEM-C4: the caches (`live`) exist once an object has been allocated; until then every row that
//!   is found serves no layout.
//! - MEM-C5: a CPU is recorded as used before an object is put into a cache of it or a list beside
//!   one, and stays so. A thread that is ordered after the free of an object is ordered after the
//!   record too, so Relaxed is enough.

mod by_size;
mod cache;
mod deferred;
mod live;
mod spill_list;
mod table;

pub(crate) use cache::{Active, Arrays, CpuCache};
pub(crate) use deferred::Deferred;
pub(crate) use spill_list::SpillList;

use crate::backing::Backing;
use crate::broken::{self, Fault};
use crate::class::ClassTable;
use crate::slab::Handle;
use crate::sync::{AtomicU64, Ordering};
use crate::sys::count_word::CountWord;
use crate::sys::cpu::{ChosenMode, CpuMode, CpuSlots};
use crate::sys::rseq::{CacheRow, Rseq};
use crate::sys::thread::let_others_run;
use cache::{BY_RCU_AT, FREE_AT};
use live::{Live, LiveCell};
use std::alloc::Layout;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use table::CacheTable;

/// The caches of all CPUs and classes.
#[derive(Debug)]
pub(crate) struct CpuCaches {
    sequences: Option<Rseq>,
    live: LiveCell,
    slots: CpuSlots,
    mode: ChosenMode,
    tickets: AtomicU64,
    backing: Arc<dyn Backing>,
}

impl CpuCaches {
    /// Creates no caches yet; [`wake`](Self::wake) does, in memory of the backing.
    pub(crate) fn new(
        backing: &Arc<dyn Backing>,
        mode: ChosenMode,
        classes: &ClassTable,
    ) -> io::Result<Self> {
        let slots = CpuSlots::new(mode.mode);
        let sequences = Rseq::find().filter(|_| slots.mode() == CpuMode::Rseq);
        let live = LiveCell::new(sequences.is_some().then(|| slots.count()))?;
        let (tickets, backing) = (AtomicU64::new(0), Arc::clone(backing));
        let caches = Self { sequences, live, slots, mode, tickets, backing };
        if cfg!(loom) {
            // In a model they exist before its threads begin.
            caches.wake(classes)?;
        }
        Ok(caches)
    }

    /// Returns true if the caches exist.
    pub(crate) fn is_live(&self) -> bool {
        self.live.get().table.is_some()
    }

    /// Creates empty caches unless they exist. Not for signal handlers.
    #[cold]
    pub(crate) fn wake(&self, classes: &ClassTable) -> io::Result<()> {
        if !self.is_live() {
            let table = CacheTable::new(&self.backing, self.cpus(), classes.len())?;
            self.live.set(Live::new(classes, table)?)?;
        }
        Ok(())
    }

    pub(crate) fn cpus(&self) -> usize {
        self.slots.count()
    }

    /// MEM-C4: called only when the caches exist.
    fn table(&self) -> &CacheTable {
        let Some(table) = &self.live.get().table else {
            unreachable!("no object has been allocated yet");
        };
        table
    }

    /// Returns the CPU that this thread runs on, or ran on a moment ago.
    pub(crate) fn current_cpu(&self) -> usize {
        self.slots.current()
    }

    pub(crate) fn mode(&self) -> ChosenMode {
        self.mode
    }

    /// Returns the bytes of the caches of every CPU, used or not, and of the rows that lead to
    /// them.
    pub(crate) fn table_bytes(&self) -> u64 {
        self.live.get().bytes()
    }

    /// Returns the cache of the CPU that this thread runs on, or ran on a moment ago, to be used
    /// without entering it.
    pub(crate) fn current(&self, class: usize) -> &CpuCache {
        let cache = self.table().cache(self.slots.current(), class);
        // MEM-C5.
        self.table().note_use(cache);
        cache
    }

    /// Returns the caches of one class that were ever used, at most one per CPU.
    pub(crate) fn of_class(&self, class: usize) -> impl Iterator<Item = &CpuCache> {
        let mut used = Used { caches: self, classes: class..class + 1, cpu: 0 };
        std::iter::from_fn(move || used.next().map(|(_, cache)| cache))
    }

    /// Returns the row of the smallest class that serves a layout. If none does, the row has size 0
    /// and nothing to take.
    #[inline(always)]
    pub(crate) fn serving(&self, layout: Layout) -> &CacheRow {
        self.live.get().by_size.of(layout)
    }

    /// Takes an object out of this CPU's cache, if it holds more than `low` objects and is not in
    /// use. Async-signal-safe, never waits.
    #[inline(always)]
    pub(crate) fn pop(&self, caches: &CacheRow) -> Option<Handle> {
        match self.sequences {
            // SAFETY: the layout is asserted in `cache`, and the caches stay (MEM-C3).
            Some(sequences) => Handle::new(unsafe { sequences.pop(caches) }),
            None => self.pop_active(caches),
        }
    }

    /// Out of line, like the two `push_*_active` functions: the exchange costs more than the call,
    /// and callers stay small.
    #[inline(never)]
    fn pop_active(&self, caches: &CacheRow) -> Option<Handle> {
        let mut arrays = self.try_enter(caches.class.into())?;
        if arrays.free.len() > caches.low.into() { arrays.free.pop() } else { None }
    }

    /// Puts an object into this CPU's cache, if it holds fewer than `limit` objects and is not in
    /// use. With sequences, only after this CPU has entered the cache once. Async-signal-safe,
    /// never waits.
    #[inline(always)]
    pub(crate) fn push(&self, caches: &CacheRow, object: Handle) -> bool {
        match self.sequences {
            // SAFETY: as in `pop`; watermarks are below the capacity (`Watermarks::check`).
            Some(sequences) => unsafe { sequences.push::<FREE_AT>(caches, object.get()) },
            None => self.push_active(caches, object),
        }
    }

    #[inline(never)]
    fn push_active(&self, caches: &CacheRow, object: Handle) -> bool {
        let arrays = self.try_enter(caches.class.into());
        arrays.is_some_and(|mut arrays| arrays.push_free(object))
    }

    /// As `push`, for an object that waits for a grace period.
    #[inline(always)]
    pub(crate) fn push_by_rcu(&self, caches: &CacheRow, object: Handle) -> bool {
        match self.sequences {
            // SAFETY: as in `push`; a batch is at most the capacity (`Watermarks::check`).
            Some(sequences) => unsafe { sequences.push::<BY_RCU_AT>(caches, object.get()) },
            None => self.push_by_rcu_active(caches, object),
        }
    }

    #[inline(never)]
    fn push_by_rcu_active(&self, caches: &CacheRow, object: Handle) -> bool {
        let arrays = self.try_enter(caches.class.into());
        arrays.is_some_and(|mut arrays| arrays.push_by_rcu(object))
    }

    /// Returns the arrays of this CPU's cache, unless it is in use. Async-signal-safe, never waits.
    #[inline(always)]
    pub(crate) fn try_enter(&self, class: usize) -> Option<Active<'_>> {
        let live = self.live.get();
        let row = live.by_class.get(class)?;
        let active = match self.sequences {
            Some(sequences) => {
                // SAFETY: as in `pop`; a sequence returns the address of one of our caches.
                unsafe {
                    let (place, word) = sequences.enter(row)?;
                    Active::of_taken(self.table().at(place), word)
                }
            }
            None => self.table().cache(self.slots.current(), class).enter()?,
        };
        if active.is_first_use() && !broken::leaves_out(Fault::NoteUse) {
            // MEM-C5.
            self.table().note_use(active.cache());
        }
        Some(active.limited_by(row))
    }

    /// Returns the arrays of any CPU's cache, unless it is in use.
    pub(crate) fn try_enter_any<'a>(&self, cache: &'a CpuCache) -> Option<Active<'a>> {
        match self.sequences {
            Some(sequences) => {
                // A sequence of the cache's CPU may commit over a ticket; the cache is then not in
                // use.
                for _ in 0..MOST_TICKETS {
                    let ticket = self.ticket();
                    let word = cache.ask(ticket)?;
                    let restarted = sequences.restart_others();
                    let active = cache.enter_with(ticket, word, restarted);
                    if active.is_some() || !restarted {
                        return active;
                    }
                }
                None
            }
            None => cache.enter(),
        }
    }

    /// Returns a ticket that no other running attempt has, unless 2^46 have begun meanwhile.
    fn ticket(&self) -> CountWord {
        CountWord::ticket(self.tickets.fetch_add(1, Ordering::Relaxed))
    }

    /// As `try_enter_any`, but only if that needs no system call.
    pub(crate) fn try_enter_quietly<'a>(&self, cache: &'a CpuCache) -> Option<Active<'a>> {
        if self.sequences.is_some() { None } else { self.try_enter_any(cache) }
    }

    /// Returns the arrays of any CPU's cache. Waits while it is in use. Not for signal handlers.
    fn enter_any<'a>(&self, cache: &'a CpuCache) -> Active<'a> {
        let mut round = 0;
        loop {
            if let Some(active) = self.try_enter_any(cache) {
                return active;
            }
            // The thread that uses it may have been preempted.
            let_others_run(round);
            round += 1;
        }
    }

    /// Calls `look` with the arrays of every CPU's cache of these classes, class by class. If
    /// `may_wait`, waits for caches that are in use, which a signal handler must not do; otherwise
    /// skips them. With sequences, one system call serves 64 caches, all of which stay taken while
    /// `look` has the first of them.
    pub(crate) fn enter_all<'a>(
        &'a self,
        classes: Range<usize>,
        may_wait: bool,
        mut look: impl FnMut(usize, &'a CpuCache, Active<'a>),
    ) {
        let mut all = Used { caches: self, classes, cpu: 0 };
        if let Some(sequences) = self.sequences {
            return self.enter_by_sequences(sequences, all, may_wait, look);
        }
        while let Some((class, cache)) = all.next() {
            if may_wait {
                look(class, cache, self.enter_any(cache));
            } else if let Some(active) = self.try_enter_any(cache) {
                look(class, cache, active);
            }
        }
    }

    fn enter_by_sequences<'a>(
        &'a self,
        sequences: Rseq,
        mut all: Used<'a>,
        may_wait: bool,
        mut look: impl FnMut(usize, &'a CpuCache, Active<'a>),
    ) {
        // A signal handler may have a small stack: these take 1 KiB, and nothing copies them.
        let mut some: [Option<&CpuCache>; AT_ONCE] = [None; AT_ONCE];
        let mut of_class = [0; AT_ONCE];
        // A word that is busy stands for a cache that was.
        let mut words = [CountWord::LOCAL; AT_ONCE];
        loop {
            let ticket = self.ticket();
            let (mut count, mut asked) = (0, false);
            while count < AT_ONCE
                && let Some((class, cache)) = all.next()
            {
                let word = cache.ask(ticket);
                asked |= word.is_some();
                words[count] = word.unwrap_or(CountWord::LOCAL);
                (some[count], of_class[count]) = (Some(cache), class as u8);
                count += 1;
            }
            if count == 0 {
                return;
            }
            let restarted = asked && sequences.restart_others();
            for (place, (&class, &word)) in
                some[..count].iter_mut().zip(of_class.iter().zip(&words))
            {
                if !word.is_busy()
                    && let Some(cache) = *place
                    && let Some(active) = cache.enter_with(ticket, word, restarted)
                {
                    look(class.into(), cache, active);
                    *place = None;
                }
            }
            // Wait only while holding no cache: two threads that wait for each other would
            // deadlock.
            for (place, &class) in some[..count].iter_mut().zip(&of_class) {
                let Some(cache) = place.take() else { continue };
                if may_wait {
                    look(class.into(), cache, self.enter_any(cache));
                } else if restarted && let Some(active) = self.try_enter_any(cache) {
                    look(class.into(), cache, active);
                }
            }
        }
    }
}

/// The caches of some classes that were ever used, class by class. (An iterator by closures takes a
/// kilobyte of stack in a build without optimisation.)
struct Used<'a> {
    caches: &'a CpuCaches,
    /// The classes that are still to come.
    classes: Range<usize>,
    /// The CPU to look at next, in the first of these classes.
    cpu: usize,
}

impl<'a> Used<'a> {
    fn next(&mut self) -> Option<(usize, &'a CpuCache)> {
        let table = self.caches.live.get().table.as_ref()?;
        while self.classes.start < self.classes.end {
            let class = self.classes.start;
            let Some(cpu) = table.next_used(self.cpu) else {
                (self.classes.start, self.cpu) = (class + 1, 0);
                continue;
            };
            self.cpu = cpu + 1;
            let cache = table.cache(cpu, class);
            if cache.was_used() {
                return Some((class, cache));
            }
        }
        None
    }
}

/// The number of attempts to enter a cache from elsewhere before it counts as in use.
const MOST_TICKETS: usize = 16;

/// The number of caches that one system call serves.
const AT_ONCE: usize = 64;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::CpuModeReason;
    use crate::sys::fork::Survivor;
    use crate::sys::thread;

    #[test]
    fn a_cache_whose_thread_vanished_before_it_recorded_that_is_found_once_it_is_used_again() {
        let mode = ChosenMode { mode: CpuMode::ActiveThread, reason: CpuModeReason::Requested };
        let classes = ClassTable::default();
        let caches = CpuCaches::new(&crate::backing::usual(), mode, &classes).expect("memory");
        caches.wake(&classes).expect("memory");
        let live = caches.live.get();
        let cache = caches.table().cache(caches.current_cpu(), 0);
        let entered = cache.enter().expect("it is not in use");
        std::mem::forget(entered.limited_by(live.by_class.first().expect("a class")));
        assert!(caches.of_class(0).next().is_none(), "its use is not recorded");

        let this = thread::current();
        caches.table().repair_after_fork(Survivor { was: this, is: this });
        drop(caches.try_enter(0).expect("it is not in use any more"));
        assert_eq!(caches.of_class(0).count(), 1);
    }
}
