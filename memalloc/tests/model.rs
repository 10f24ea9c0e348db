//! Random histories against a map of the live objects: objects do not overlap, and their contents
//! stay while they are live, and while they are pending inside a section.
#![cfg(not(loom))]

mod common;

use common::{Announce, Object, Setup, adds_up, layout};
use memalloc::rcu::Guard;
use memalloc::{
    AfterRcuGp, AfterTasksTraceGp, AllocErrorKind, FreeAfterRcuGp, Immediate, MemAlloc, ReusePolicy,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Step {
    Alloc { size: usize, align_log: u32, zeroed: bool },
    AllocNowait { size: usize },
    Free { which: usize },
    FreeRcu { which: usize },
    FreeUnshared { which: usize },
    Pin,
    Unpin { which: usize },
    Advance,
    Trim,
    Quiesce,
    Synchronize,
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![0_usize..=128, 0_usize..=1024, 0_usize..=4200];
    let which = any::<usize>();
    prop_oneof![
        8 => (size.clone(), 0_u32..=13, any::<bool>())
            .prop_map(|(size, align_log, zeroed)| Step::Alloc { size, align_log, zeroed }),
        2 => size.prop_map(|size| Step::AllocNowait { size }),
        3 => which.prop_map(|which| Step::Free { which }),
        3 => which.prop_map(|which| Step::FreeRcu { which }),
        1 => which.prop_map(|which| Step::FreeUnshared { which }),
        1 => Just(Step::Pin),
        1 => which.prop_map(|which| Step::Unpin { which }),
        1 => Just(Step::Advance),
        1 => Just(Step::Trim),
        1 => Just(Step::Quiesce),
        1 => Just(Step::Synchronize),
    ]
}

/// The expected state of the allocator.
struct Model<'a, P: ReusePolicy> {
    alloc: &'a MemAlloc<P>,
    /// By address.
    live: BTreeMap<usize, Object>,
    /// Freed deferred since the first of the guards began, by address.
    pending: BTreeMap<usize, Object>,
    guards: Vec<Guard<'a>>,
    patterns: u8,
}

impl<'a, P: ReusePolicy> Model<'a, P> {
    fn new(alloc: &'a MemAlloc<P>) -> Self {
        let (live, pending) = (BTreeMap::new(), BTreeMap::new());
        Self { alloc, live, pending, guards: Vec::new(), patterns: 0 }
    }

    /// Records an object that was just allocated.
    fn add(&mut self, object: Object) {
        let (start, end) = (object.address(), object.address() + object.layout.size().max(1));
        for held in [&self.live, &self.pending] {
            let before = held.range(..end).next_back();
            let overlap = before.filter(|(at, other)| **at + other.layout.size().max(1) > start);
            assert!(overlap.is_none(), "{object:?} overlaps {overlap:?}");
        }
        self.live.insert(start, object);
    }

    /// Removes a live object from the model.
    fn remove(&mut self, which: usize) -> Option<Object> {
        let address = *self.live.keys().nth(which.checked_rem(self.live.len())?)?;
        self.live.remove(&address)
    }

    fn defer(&mut self, object: &Object, pattern: u8) {
        if !self.guards.is_empty() {
            let again = Object::seen_before(object.place, object.layout, pattern);
            self.pending.insert(object.address(), again);
        }
    }

    fn alloc(&mut self, size: usize, align: usize, zeroed: bool) {
        let layout = layout(size, align);
        self.patterns = self.patterns.wrapping_add(1);
        let memory =
            if zeroed { self.alloc.alloc_zeroed(layout) } else { self.alloc.alloc(layout) };
        match memory {
            Ok(memory) => {
                assert!(size <= 4096 && align <= 4096);
                // SAFETY: the object is ours.
                let clean = !zeroed || unsafe { memory.as_ref() }.iter().all(|byte| *byte == 0);
                assert!(clean, "not zero");
                self.add(Object::filled(memory.cast(), layout, self.patterns));
            }
            Err(error) => match error.kind() {
                AllocErrorKind::TooLarge { requested, limit } => {
                    assert_eq!((requested, limit), (size, 4096));
                    assert!(size > 4096);
                }
                AllocErrorKind::OverAligned { requested, limit } => {
                    assert_eq!((requested, limit), (align, 4096));
                    assert!(align > 4096);
                }
                other => panic!("{other:?}"),
            },
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Alloc { size, align_log, zeroed } => self.alloc(size, 1 << align_log, zeroed),
            Step::AllocNowait { size } => {
                let layout = layout(size, 1);
                if let Ok(memory) = self.alloc.alloc_nowait(layout) {
                    self.patterns = self.patterns.wrapping_add(1);
                    self.add(Object::filled(memory.cast(), layout, self.patterns));
                }
            }
            Step::Free { which } => {
                if let Some(object) = self.remove(which) {
                    if P::PROTECTS_IDENTITY {
                        self.defer(&object, object.pattern());
                    }
                    object.free(self.alloc);
                }
            }
            Step::FreeRcu { which } => {
                if let Some(object) = self.remove(which) {
                    self.defer(&object, object.pattern());
                    object.free_rcu(self.alloc);
                }
            }
            Step::FreeUnshared { which } => {
                if let Some(object) = self.remove(which) {
                    object.free_unshared(self.alloc);
                }
            }
            Step::Pin => {
                let alloc = self.alloc;
                self.guards.push(alloc.domain().pin());
            }
            Step::Unpin { which } => {
                if !self.guards.is_empty() {
                    if self.guards.len() == 1 {
                        self.pending.values().for_each(Object::check);
                        self.pending.clear();
                    }
                    drop(self.guards.swap_remove(which % self.guards.len()));
                }
            }
            Step::Advance => {
                let domain = self.alloc.domain();
                let cookie = domain.start_poll();
                assert_eq!(domain.advance(cookie), self.guards.is_empty());
                assert_eq!(domain.poll(cookie), self.guards.is_empty());
            }
            Step::Trim => _ = self.alloc.trim(),
            Step::Quiesce => {
                assert_eq!(self.alloc.quiesce().is_ok(), self.guards.is_empty());
                if self.guards.is_empty() {
                    assert_eq!(self.alloc.stats().taken.objects, self.live.len() as u64);
                }
            }
            Step::Synchronize => {
                assert_eq!(self.alloc.domain().synchronize().is_ok(), self.guards.is_empty());
            }
        }
        adds_up(&self.alloc.stats(), self.live.len());
    }

    fn end(mut self) {
        self.pending.values().for_each(Object::check);
        self.guards.clear();
        for object in std::mem::take(&mut self.live).into_values() {
            object.free(self.alloc);
        }
        self.alloc.quiesce().expect("no guard is left");
        assert_eq!(self.alloc.stats().taken.objects, 0);
    }
}

fn follow<P: ReusePolicy>(setup: Setup, steps: &[Step]) {
    let _announce = Announce(setup, Some(P::KIND));
    let alloc = setup.builder::<P>().range_bytes(256 << 20).build().expect("an allocator");
    let mut model = Model::new(&alloc);
    steps.iter().for_each(|step| model.step(step));
    model.end();
    alloc.destroy().expect("nothing leaked");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn an_allocator_is_a_set_of_disjoint_objects(
        steps in proptest::collection::vec(step(), 1..600),
    ) {
        for setup in Setup::every() {
            follow::<Immediate>(setup, &steps);
            follow::<AfterRcuGp>(setup, &steps);
            follow::<FreeAfterRcuGp>(setup, &steps);
            follow::<AfterTasksTraceGp>(setup, &steps);
        }
    }
}
