//! The calling thread's slots: one of each flavour for every domain that it reads in.
//!
//! The way to them lies in thread-local storage, whose end gives them back. A guard that is made
//! after that has a slot of its own.

use super::domain::Inner;
use super::slots::Slot;
use super::{reader, sleepable};
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
        // A model that failed is over before its threads' storage is dropped.
        #[cfg(loom)]
        if std::thread::panicking() {
            return;
        }
        last::forget();
        for entry in self.entries.drain(..) {
            // Named, so that it is held to the end: it may be the last clone by now.
            if let Some(domain) = entry.domain.upgrade() {
                // SAFETY: `domain` lives as long as this reference, and slots as long as their
                // domain (INV-R3).
                let (rcu, trace) = unsafe {
                    (entry.rcu.map(|slot| slot.as_ref()), entry.trace.map(|slot| slot.as_ref()))
                };
                rcu.into_iter().for_each(|slot| reader::abandon(slot));
                if let Some(slot) = trace {
                    let me = slot.owner();
                    sleepable::abandon(slot);
                    // Those of single guards, which may be elsewhere: the number may be another
                    // thread's before they are gone.
                    domain.trace().slots().disown_all(me);
                }
            }
        }
    }
}

crate::sync::thread_local! {
    static REGISTRY: RefCell<Registry> = RefCell::new(Registry::default());
}

/// Which of a thread's slots.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Rcu,
    Trace,
}

/// The thread's slot for RCU, if the domain is the one that the thread used last: the fast path of
/// a section asks nothing else.
#[inline(always)]
pub(super) fn cached_rcu(inner: &Inner) -> Option<NonNull<Slot>> {
    last::rcu(inner.id())
}

/// The thread's slot, if it is of the domain that the thread used last.
#[inline(always)]
pub(super) fn cached(kind: Kind, inner: &Inner) -> Option<NonNull<Slot>> {
    last::get(kind, inner.id())
}

/// The thread's slot, claimed if it has none; or one for a single guard, and `true`.
#[cold]
pub(super) fn find(kind: Kind, inner: &Arc<Inner>) -> (NonNull<Slot>, bool) {
    let id = inner.id();
    let slots = match kind {
        Kind::Rcu => inner.rcu().slots(),
        Kind::Trace => inner.trace().slots(),
    };
    let found = REGISTRY.try_with(|registry| {
        // Borrowed already: a signal handler interrupted this very function.
        let mut registry = registry.try_borrow_mut().ok()?;
        let entries = &mut registry.entries;
        let at = entries.iter().position(|entry| entry.id == id).unwrap_or_else(|| {
            entries.retain(|entry| entry.domain.strong_count() > 0);
            entries.push(Entry { domain: Arc::downgrade(inner), id, rcu: None, trace: None });
            entries.len() - 1
        });
        let entry = &mut entries[at];
        let place = match kind {
            Kind::Rcu => &mut entry.rcu,
            Kind::Trace => &mut entry.trace,
        };
        let slot = *place.get_or_insert_with(|| slots.claim(inner));
        last::set(id, entry.rcu, entry.trace);
        Some(slot)
    });
    match found {
        Ok(Some(slot)) => (slot, false),
        Ok(None) | Err(_) => (slots.claim(inner), true),
    }
}

/// What the thread used last. A signal handler may interrupt a change, and use the same domain: it
/// finds either nothing, and goes the long way, or all of it.
#[cfg(not(loom))]
mod last {
    use super::{Kind, NonNull, Slot};
    use crate::sync::{Ordering, compiler_fence};
    use std::cell::Cell;

    struct Last {
        /// Names the domain that the others are of; 0 while they change.
        domain: Cell<u64>,
        /// The same, where there is a slot for RCU; else 0.
        rcu_domain: Cell<u64>,
        rcu: Cell<Option<NonNull<Slot>>>,
        trace: Cell<Option<NonNull<Slot>>>,
    }

    std::thread_local! {
        /// Needs no destructor, so that looking here is a load.
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
            // SAFETY: it names a domain only while there is a slot.
            (last.rcu_domain.get() == domain).then(|| unsafe { last.rcu.get().unwrap_unchecked() })
        })
    }

    #[inline(always)]
    pub(super) fn get(kind: Kind, domain: u64) -> Option<NonNull<Slot>> {
        LAST.with(|last| {
            if last.domain.get() != domain {
                return None;
            }
            match kind {
                Kind::Rcu => last.rcu.get(),
                Kind::Trace => last.trace.get(),
            }
        })
    }

    pub(super) fn set(domain: u64, rcu: Option<NonNull<Slot>>, trace: Option<NonNull<Slot>>) {
        forget();
        LAST.with(|last| {
            last.rcu.set(rcu);
            last.trace.set(trace);
            // ORDERING: pairs with a signal handler on this thread: it sees the number behind the
            // slots. No test interrupts between two instructions.
            compiler_fence(Ordering::Release);
            last.domain.set(domain);
            last.rcu_domain.set(if rcu.is_some() { domain } else { 0 });
        });
    }

    pub(super) fn forget() {
        LAST.with(|last| {
            last.domain.set(0);
            last.rcu_domain.set(0);
            // ORDERING: as in `set`: it sees the slots change behind this.
            compiler_fence(Ordering::Release);
        });
    }
}

/// A model looks into the registry every time.
#[cfg(loom)]
mod last {
    use super::{Kind, NonNull, Slot};

    pub(super) fn get(_kind: Kind, _domain: u64) -> Option<NonNull<Slot>> {
        None
    }

    pub(super) fn rcu(_domain: u64) -> Option<NonNull<Slot>> {
        None
    }

    pub(super) fn set(_domain: u64, _rcu: Option<NonNull<Slot>>, _trace: Option<NonNull<Slot>>) {}

    pub(super) fn forget() {}
}
