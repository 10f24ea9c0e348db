//! The calling thread's slots: one of each flavour for every domain that it reads in.
//!
//! The registry of slots is thread-local; its destructor hands the slots over (see `handover`). A
//! guard that is created after that claims a slot for itself alone.

use super::domain::Inner;
use super::flavour::FlavourKind;
use super::handover;
use super::slots::Slot;
use std::cell::RefCell;
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

/// The slots of one thread in one domain.
struct Entry {
    domain: Weak<Inner>,
    id: u64,
    rcu: Option<NonNull<Slot>>,
    trace: Option<NonNull<Slot>>,
}

#[derive(Default)]
struct Registry {
    entries: Vec<Entry>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        // A model that failed has ended before the thread-local storage of its threads is dropped.
        #[cfg(loom)]
        if std::thread::panicking() {
            return;
        }
        last::forget();
        for entry in self.entries.drain(..) {
            // `domain` is held to the end of the block: it may be the last clone by now.
            if let Some(domain) = entry.domain.upgrade() {
                // SAFETY: `domain` lives as long as this reference, and slots as long as their
                // domain (MEM-R3).
                let (rcu, trace) = unsafe {
                    (entry.rcu.map(|slot| slot.as_ref()), entry.trace.map(|slot| slot.as_ref()))
                };
                rcu.into_iter().for_each(|slot| handover::abandon_rcu(slot));
                trace.into_iter().for_each(|slot| domain.trace().slots().end_of_thread(slot));
            }
        }
    }
}

crate::sync::thread_local! {
    static REGISTRY: RefCell<Registry> = RefCell::new(Registry::default());
}

/// Returns the thread's RCU slot if `inner` is the domain that the thread used last. The fast path
/// of a section checks nothing else.
#[inline(always)]
pub(super) fn cached_rcu(inner: &Inner) -> Option<NonNull<Slot>> {
    last::rcu(inner.id())
}

/// Returns the thread's slot if `inner` is the domain that the thread used last.
#[inline(always)]
pub(super) fn cached(flavour: FlavourKind, inner: &Inner) -> Option<NonNull<Slot>> {
    last::get(flavour, inner.id())
}

/// Returns the thread's slot and `false`; claims the slot if the thread has none. If the registry
/// is gone or in use, claims a slot for a single guard, and returns it with `true`.
#[cold]
pub(super) fn find(flavour: FlavourKind, inner: &Arc<Inner>) -> (NonNull<Slot>, bool) {
    let id = inner.id();
    let found = REGISTRY.try_with(|registry| {
        // Already borrowed if a signal handler interrupted this function.
        let mut registry = registry.try_borrow_mut().ok()?;
        let entries = &mut registry.entries;
        let at = entries.iter().position(|entry| entry.id == id).unwrap_or_else(|| {
            entries.retain(|entry| entry.domain.strong_count() > 0);
            entries.push(Entry { domain: Arc::downgrade(inner), id, rcu: None, trace: None });
            entries.len() - 1
        });
        let entry = &mut entries[at];
        let place = match flavour {
            FlavourKind::Rcu => &mut entry.rcu,
            FlavourKind::TasksTrace => &mut entry.trace,
        };
        let slot = *place.get_or_insert_with(|| inner.claim_slot(flavour));
        last::set(id, entry.rcu, entry.trace);
        Some(slot)
    });
    match found {
        Ok(Some(slot)) => (slot, false),
        Ok(None) | Err(_) => (inner.claim_slot(flavour), true),
    }
}

/// The domain that the thread used last, and its slots there. A signal handler may interrupt a
/// change and use the same domain: it finds either no domain, and takes the slow path, or a
/// complete entry.
#[cfg(not(loom))]
mod last {
    use super::{FlavourKind, NonNull, Slot};
    use crate::sync::{Ordering, compiler_fence};
    use std::cell::Cell;

    struct Last {
        /// The number of the domain of the slots; 0 during a change.
        domain: Cell<u64>,
        /// The same number if there is an RCU slot, else 0.
        rcu_domain: Cell<u64>,
        rcu: Cell<Option<NonNull<Slot>>>,
        trace: Cell<Option<NonNull<Slot>>>,
    }

    std::thread_local! {
        /// Has no destructor, so that an access is a plain load.
        static LAST: Last = const {
            Last {
                domain: Cell::new(0),
                rcu_domain: Cell::new(0),
                rcu: Cell::new(None),
                trace: Cell::new(None),
            }
        };
    }

    #[inline(always)]
    pub(super) fn rcu(domain: u64) -> Option<NonNull<Slot>> {
        LAST.with(|last| {
            // SAFETY: `rcu_domain` names a domain only while there is an RCU slot.
            (last.rcu_domain.get() == domain).then(|| unsafe { last.rcu.get().unwrap_unchecked() })
        })
    }

    #[inline(always)]
    pub(super) fn get(flavour: FlavourKind, domain: u64) -> Option<NonNull<Slot>> {
        LAST.with(|last| {
            if last.domain.get() != domain {
                return None;
            }
            match flavour {
                FlavourKind::Rcu => last.rcu.get(),
                FlavourKind::TasksTrace => last.trace.get(),
            }
        })
    }

    pub(super) fn set(domain: u64, rcu: Option<NonNull<Slot>>, trace: Option<NonNull<Slot>>) {
        forget();
        LAST.with(|last| {
            last.rcu.set(rcu);
            last.trace.set(trace);
            // ORDERING: pairs with a signal handler on this thread: a handler that sees the
            // domain's number also sees its slots. No test interrupts between two instructions.
            compiler_fence(Ordering::Release);
            last.domain.set(domain);
            last.rcu_domain.set(if rcu.is_some() { domain } else { 0 });
        });
    }

    pub(super) fn forget() {
        LAST.with(|last| {
            last.domain.set(0);
            last.rcu_domain.set(0);
            // ORDERING: as in `set`: a handler that sees the slots change also sees the zeros.
            compiler_fence(Ordering::Release);
        });
    }
}

/// In a model, every lookup goes to the registry.
#[cfg(loom)]
mod last {
    use super::{FlavourKind, NonNull, Slot};

    pub(super) fn get(_flavour: FlavourKind, _domain: u64) -> Option<NonNull<Slot>> {
        None
    }

    pub(super) fn rcu(_domain: u64) -> Option<NonNull<Slot>> {
        None
    }

    pub(super) fn set(_domain: u64, _rcu: Option<NonNull<Slot>>, _trace: Option<NonNull<Slot>>) {}

    pub(super) fn forget() {}
}
