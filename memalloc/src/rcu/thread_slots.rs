//! The calling thread's slots: one of each flavour for every domain that it reads in.
//!
//! The slots of one domain are in an [`Entry`], which stays where it is until the thread ends. The
//! fast path of a section loads the address of one entry, that of the domain used last, and
//! compares its number. A signal handler that pins another domain in between changes which entry
//! that is, but not the entry that was loaded. So threads and their handlers may use different
//! domains.
//!
//! The entries are thread-local; their destructor hands the slots over (see `handover`). A
//! guard that is created after that claims a slot for itself alone.

use super::domain::Inner;
use super::flavour::FlavourKind;
use super::handover;
use super::slots::Slot;
use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

/// The slots of one thread in one domain. While that domain lives, they do not change once they are
/// set, and neither does its number.
#[derive(Debug)]
struct Entry {
    /// The number of the domain; 0 in an entry of none.
    id: Cell<u64>,
    /// The same number if there is an RCU slot, else 0.
    rcu_id: Cell<u64>,
    rcu: Cell<Option<NonNull<Slot>>>,
    trace: Cell<Option<NonNull<Slot>>>,
    /// The entry that was added before this one.
    #[cfg(not(loom))]
    next: Option<NonNull<Entry>>,
}

impl Entry {
    const fn new(#[cfg(not(loom))] next: Option<NonNull<Entry>>) -> Self {
        Self {
            id: Cell::new(0),
            rcu_id: Cell::new(0),
            rcu: Cell::new(None),
            trace: Cell::new(None),
            #[cfg(not(loom))]
            next,
        }
    }

    /// Makes this the entry of a domain, without slots. A handler that interrupts this finds the
    /// entry of no domain.
    fn become_of(&self, id: u64) {
        self.id.set(0);
        self.rcu_id.set(0);
        in_order_for_handlers();
        self.rcu.set(None);
        self.trace.set(None);
        in_order_for_handlers();
        self.id.set(id);
    }

    #[inline(always)]
    fn slot(&self, flavour: FlavourKind) -> Option<NonNull<Slot>> {
        match flavour {
            FlavourKind::Rcu => self.rcu.get(),
            FlavourKind::TasksTrace => self.trace.get(),
        }
    }

    fn set_slot(&self, flavour: FlavourKind, slot: NonNull<Slot>) {
        match flavour {
            FlavourKind::Rcu => {
                self.rcu.set(Some(slot));
                in_order_for_handlers();
                self.rcu_id.set(self.id.get());
            }
            FlavourKind::TasksTrace => self.trace.set(Some(slot)),
        }
    }
}

/// Lets a signal handler on this thread see the stores before it if it sees those after it: a
/// number, then, belongs to the slots beside it.
fn in_order_for_handlers() {
    // ORDERING: pairs with the loads of a signal handler on this thread. Falls to nothing: loom has
    // no signals, and no test interrupts a thread that adds an entry.
    #[cfg(not(loom))]
    crate::sync::compiler_fence(crate::sync::Ordering::Release);
}

/// The entries of one thread, with their domains. Entries of domains that are gone are used again.
#[derive(Default)]
struct ThreadEntries {
    entries: Vec<(NonNull<Entry>, Weak<Inner>)>,
}

impl ThreadEntries {
    /// Returns the thread's entry of a domain, and adds one if there is none.
    fn entry_of(&mut self, inner: &Arc<Inner>) -> &Entry {
        let id = inner.id();
        // SAFETY: entries are dropped with this.
        let known = |&(entry, _): &(NonNull<Entry>, _)| unsafe { entry.as_ref() }.id.get() == id;
        let at = self.entries.iter().position(known).unwrap_or_else(|| {
            let is_gone = |(_, domain): &(_, Weak<Inner>)| domain.strong_count() == 0;
            let at = self.entries.iter().position(is_gone).unwrap_or_else(|| self.add());
            let (entry, domain) = &mut self.entries[at];
            *domain = Arc::downgrade(inner);
            // SAFETY: as above.
            unsafe { entry.as_ref() }.become_of(id);
            at
        });
        // SAFETY: as above.
        unsafe { self.entries[at].0.as_ref() }
    }

    /// Adds an entry of no domain. Returns its index.
    fn add(&mut self) -> usize {
        #[cfg(not(loom))]
        let entry = Box::new(Entry::new(last::all()));
        #[cfg(loom)]
        let entry = Box::new(Entry::new());
        let entry = NonNull::from(Box::leak(entry));
        self.entries.push((entry, Weak::new()));
        last::add(entry);
        self.entries.len() - 1
    }
}

impl Drop for ThreadEntries {
    fn drop(&mut self) {
        // A model that failed has ended before the thread-local storage of its threads is dropped.
        #[cfg(loom)]
        if std::thread::panicking() {
            return;
        }
        last::forget();
        for (entry, domain) in self.entries.drain(..) {
            // SAFETY: it came from a box, and nothing leads to it any more.
            let entry = unsafe { Box::from_raw(entry.as_ptr()) };
            // `domain` is held to the end of the block: it may be the last clone by now.
            if let Some(domain) = domain.upgrade() {
                // SAFETY: `domain` lives as long as this reference, and slots as long as their
                // domain (MEM-R3).
                let (rcu, trace) = unsafe {
                    let slots = (entry.rcu.get(), entry.trace.get());
                    (slots.0.map(|slot| slot.as_ref()), slots.1.map(|slot| slot.as_ref()))
                };
                rcu.into_iter().for_each(|slot| handover::abandon_rcu(slot));
                trace.into_iter().for_each(|slot| domain.trace().slots().end_of_thread(slot));
            }
        }
    }
}

crate::sync::thread_local! {
    static ENTRIES: RefCell<ThreadEntries> = RefCell::new(ThreadEntries::default());
}

/// Returns the thread's RCU slot if `inner` is the domain that the thread used last. The fast path
/// of a section checks nothing else.
#[inline(always)]
pub(super) fn cached_rcu(inner: &Inner) -> Option<NonNull<Slot>> {
    last::rcu(inner.id())
}

/// Returns the thread's slot if `inner` is one of the two domains that the thread used last.
#[inline(always)]
pub(super) fn cached(flavour: FlavourKind, inner: &Inner) -> Option<NonNull<Slot>> {
    last::get(flavour, inner.id())
}

/// Returns the thread's slot and `false`; claims the slot if the thread has none. If the entries
/// are gone or in use, claims a slot for a single guard, and returns it with `true`.
///
/// Async-signal-safe if the thread has a slot.
#[cold]
pub(super) fn find(flavour: FlavourKind, inner: &Arc<Inner>) -> (NonNull<Slot>, bool) {
    if let Some(slot) = last::find(flavour, inner.id()) {
        return (slot, false);
    }
    let found = ENTRIES.try_with(|entries| {
        // Already borrowed if a signal handler interrupted this function.
        let mut entries = entries.try_borrow_mut().ok()?;
        let entry = entries.entry_of(inner);
        if entry.slot(flavour).is_none() {
            entry.set_slot(flavour, inner.claim_slot(flavour));
        }
        last::set(NonNull::from(entry));
        entry.slot(flavour)
    });
    match found {
        Ok(Some(slot)) => (slot, false),
        Ok(None) | Err(_) => (inner.claim_slot(flavour), true),
    }
}

/// The entries of the domains that the thread used last, and the list of all. Each is one word, so
/// a signal handler finds a complete entry at any moment.
#[cfg(not(loom))]
mod last {
    use super::{Entry, FlavourKind, NonNull, Slot};
    use std::cell::Cell;

    struct Last {
        newest: Cell<NonNull<Entry>>,
        /// The one before `newest`, so that a thread may alternate between two domains.
        other: Cell<NonNull<Entry>>,
        all: Cell<Option<NonNull<Entry>>>,
    }

    /// The entry of no domain.
    struct Nobody(Entry);

    // SAFETY: no thread changes it: it is among no thread's entries.
    unsafe impl Sync for Nobody {}

    static NOBODY: Nobody = Nobody(Entry::new(None));

    const fn nobody() -> NonNull<Entry> {
        NonNull::from_ref(&NOBODY.0)
    }

    crate::sync::thread_local! {
        /// Has no destructor, so that an access is a plain load.
        static LAST: Last = const {
            Last {
                newest: Cell::new(nobody()),
                other: Cell::new(nobody()),
                all: Cell::new(None),
            }
        };
    }

    #[inline(always)]
    pub(super) fn rcu(domain: u64) -> Option<NonNull<Slot>> {
        LAST.with(|last| {
            // SAFETY: entries live until `forget`.
            let entry = unsafe { last.newest.get().as_ref() };
            // SAFETY: `rcu_id` is the number of a domain only if there is an RCU slot. That domain
            // lives, so a handler that runs in between does not change the entry.
            (entry.rcu_id.get() == domain).then(|| unsafe { entry.rcu.get().unwrap_unchecked() })
        })
    }

    #[inline(always)]
    pub(super) fn get(flavour: FlavourKind, domain: u64) -> Option<NonNull<Slot>> {
        LAST.with(|last| {
            [last.newest.get(), last.other.get()].into_iter().find_map(|entry| {
                // SAFETY: as in `rcu`.
                let entry = unsafe { entry.as_ref() };
                if entry.id.get() == domain { entry.slot(flavour) } else { None }
            })
        })
    }

    /// Looks through all entries, and makes the one found the newest.
    pub(super) fn find(flavour: FlavourKind, domain: u64) -> Option<NonNull<Slot>> {
        let mut next = all();
        while let Some(entry) = next {
            // SAFETY: as in `rcu`.
            let found = unsafe { entry.as_ref() };
            if found.id.get() == domain {
                return found.slot(flavour).inspect(|_| set(entry));
            }
            next = found.next;
        }
        None
    }

    pub(super) fn all() -> Option<NonNull<Entry>> {
        LAST.with(|last| last.all.get())
    }

    /// Adds an entry to the list, whose `next` is the first one there. The entries are borrowed, so
    /// no handler adds one meanwhile.
    pub(super) fn add(entry: NonNull<Entry>) {
        LAST.with(|last| last.all.set(Some(entry)));
    }

    pub(super) fn set(entry: NonNull<Entry>) {
        LAST.with(|last| {
            let before = last.newest.replace(entry);
            if before != entry {
                last.other.set(before);
            }
        });
    }

    pub(super) fn forget() {
        LAST.with(|last| {
            last.all.set(None);
            last.newest.set(nobody());
            last.other.set(nobody());
        });
    }
}

/// In a model, every lookup goes through the entries.
#[cfg(loom)]
mod last {
    use super::{Entry, FlavourKind, NonNull, Slot};

    pub(super) fn get(_flavour: FlavourKind, _domain: u64) -> Option<NonNull<Slot>> {
        None
    }

    pub(super) fn rcu(_domain: u64) -> Option<NonNull<Slot>> {
        None
    }

    pub(super) fn find(_flavour: FlavourKind, _domain: u64) -> Option<NonNull<Slot>> {
        None
    }

    pub(super) fn add(_entry: NonNull<Entry>) {}

    pub(super) fn set(_entry: NonNull<Entry>) {}

    pub(super) fn forget() {}
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::rcu::Domain;

    #[test]
    fn a_thread_that_alternates_between_two_domains_searches_its_slots_once() {
        let domains = [Domain::new(), Domain::new()];
        let others: Vec<_> = (0..8).map(|_| Domain::new()).collect();
        others.iter().for_each(|other| drop((other.pin(), other.pin_trace())));
        for flavour in [FlavourKind::Rcu, FlavourKind::TasksTrace] {
            let found = domains.each_ref().map(|domain| find(flavour, domain.inner()));
            assert!(found.iter().all(|&(_, own)| !own), "the slots are the thread's");
            for _ in 0..2 {
                drop(domains.each_ref().map(|domain| (domain.pin(), domain.pin_trace())));
                for (domain, &(slot, _)) in domains.iter().zip(&found) {
                    assert_eq!(cached(flavour, domain.inner()), Some(slot));
                }
            }
        }
    }
}
