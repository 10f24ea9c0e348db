//! What every address is used for, from the outside of the allocator: live objects, and freed ones
//! with the sections that may rely on them.
//!
//! Callers note a section after it began and before it ends, and a free before it happens. So each
//! section in the ledger is open, and a noted free really had to wait for those that were open
//! then. No function here ends a turn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

/// What a freed object is, to a section that was open when it was freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// Nothing.
    None,
    /// An object of the same size.
    Type,
    /// The same object.
    Identity,
}

/// A flavour of read sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Flavour {
    Rcu,
    TasksTrace,
}

/// An open section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Section(Flavour, u64);

#[derive(Debug)]
struct Freed {
    size: usize,
    protected: Vec<(Section, Protection)>,
}

#[derive(Debug, Default)]
struct Books {
    /// The sizes of live objects, by address.
    live: BTreeMap<usize, usize>,
    /// Freed objects that an open section may rely on, by address.
    freed: BTreeMap<usize, Vec<Freed>>,
    open: BTreeSet<Section>,
    sections: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Books>);

impl Ledger {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Notes a section that has begun.
    pub(crate) fn begin(&self, flavour: Flavour) -> Section {
        let mut books = self.books();
        books.sections += 1;
        let section = Section(flavour, books.sections);
        books.open.insert(section);
        section
    }

    /// Notes that a section is about to end.
    pub(crate) fn end(&self, section: Section) {
        assert!(self.books().open.remove(&section));
    }

    /// Notes an object that was allocated just now. Panics if another live object overlaps it, or
    /// if an open section relies on other contents there.
    pub(crate) fn allocated(&self, address: usize, size: usize) {
        let mut books = self.books();
        let Books { live, freed, open, .. } = &mut *books;
        let before = live.range(..address + size).next_back();
        let overlap = before.filter(|&(at, other)| at + other > address);
        assert!(overlap.is_none(), "handed out twice: {size} bytes at {address:#x}, {overlap:x?}");
        for (&at, here) in freed.range_mut(address.saturating_sub(4096)..address + size) {
            here.retain_mut(|freed| {
                freed.protected.retain(|(section, _)| open.contains(section));
                !freed.protected.is_empty()
            });
            for freed in here.iter().filter(|freed| at + freed.size > address) {
                let is_same = (at, freed.size) == (address, size);
                let may = |protection| protection == Protection::Type && is_same;
                let broken = freed.protected.iter().find(|(_, protection)| !may(*protection));
                assert!(broken.is_none(), "reused too early: {at:#x} {freed:?} {broken:?}");
            }
        }
        live.insert(address, size);
    }

    /// Notes an object that is about to be freed.
    pub(crate) fn frees(&self, address: usize, protection: impl Fn(Flavour) -> Protection) {
        let mut books = self.books();
        let size = books.live.remove(&address).expect("it is live");
        let protected = |&section: &Section| Some((section, protection(section.0)));
        let relevant = |&(_, protection): &(Section, Protection)| protection != Protection::None;
        let protected: Vec<_> = books.open.iter().filter_map(protected).filter(relevant).collect();
        if !protected.is_empty() {
            books.freed.entry(address).or_default().push(Freed { size, protected });
        }
    }

    /// The number of live objects.
    pub(crate) fn live(&self) -> usize {
        self.books().live.len()
    }
}
