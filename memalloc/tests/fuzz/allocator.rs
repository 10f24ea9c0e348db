//! The allocator against a map of the live objects: sizes, alignments, ways to free, sections of
//! both flavours, grace periods, moves between CPUs, and a backing that refuses requests.

use crate::common::{Object, Pages, Setup, adds_up, cpus, layout, run_on};
use crate::script::Script;
use memalloc::backing::FailOnDemand;
use memalloc::rcu::{Domain, Guard, SynchronizeError, TraceGuard};
use memalloc::{
    AfterRcuGp, AfterTasksTraceGp, AllocError, AllocErrorKind, ClassTable, FreeAfterRcuGp,
    Immediate, MemAlloc, PolicyKind, ReusePolicy,
};
use std::alloc::Layout;
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The most objects to hold.
const MOST_LIVE: usize = 4_000;

/// The most guards of a flavour to hold.
const MOST_GUARDS: usize = 4;

/// The ways to free an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ByPolicy,
    Deferred,
    Unshared,
}

/// The objects that a section protects.
#[derive(Debug, Default)]
struct Protected {
    /// Identity: objects that must keep their contents, by address.
    objects: BTreeMap<usize, Object>,
    /// Type: the sizes of the objects that the addresses hold.
    sizes: BTreeMap<usize, usize>,
}

impl Protected {
    fn end(&mut self) {
        self.objects.values().for_each(Object::check);
        *self = Self::default();
    }

    /// Panics if the new object at `start` takes the place of a protected one.
    fn admit(&self, start: usize, size: usize) {
        let overlaps = self.objects.range(..start + size).next_back();
        let overlaps = overlaps.filter(|(at, other)| **at + other.layout.size().max(1) > start);
        assert!(overlaps.is_none(), "{start:x} is still protected: {overlaps:?}");
        let typed = self.sizes.range(..start + size).next_back();
        let typed = typed.filter(|(at, other)| **at + **other > start);
        let same = typed.is_none_or(|(&at, &other)| (at, other) == (start, size));
        assert!(same, "{size} bytes at {start:x} where a reader knows {typed:x?}");
    }
}

struct Model<'a, P: ReusePolicy> {
    alloc: &'a MemAlloc<P>,
    backing: &'a FailOnDemand<Pages>,
    limit: Option<u64>,
    /// By address.
    live: BTreeMap<usize, Object>,
    guards: Vec<Guard<'a>>,
    protected: Protected,
    sleepers: Vec<(TraceGuard<'a>, Protected)>,
    patterns: u8,
    callbacks: u64,
    called: Arc<AtomicU64>,
}

impl<'a, P: ReusePolicy> Model<'a, P> {
    fn size(&self, layout: Layout) -> Option<usize> {
        let classes = self.alloc.classes();
        classes.class_for(layout).map(|class| classes.classes()[class].size)
    }

    /// Records the result of an allocation.
    fn add(&mut self, layout: Layout, result: Result<NonNull<[u8]>, AllocError>, failures: u64) {
        let size = self.size(layout);
        match result {
            Ok(memory) => {
                assert_eq!(Some(memory.len()), size);
                self.patterns = self.patterns.wrapping_add(1);
                let object = Object::filled(memory.cast(), layout, self.patterns);
                let (start, size) = (object.address(), memory.len());
                let before = self.live.range(..start + size).next_back();
                let overlap = before.filter(|(at, other)| {
                    **at + self.size(other.layout).expect("it is live") > start
                });
                assert!(overlap.is_none(), "{object:?} overlaps {overlap:?}");
                self.protected.admit(start, size);
                self.sleepers.iter().for_each(|(_, protected)| protected.admit(start, size));
                assert_eq!(self.alloc.pointer(self.alloc.handle(object.place)), object.place);
                self.live.insert(start, object);
            }
            Err(error) => match error.kind() {
                AllocErrorKind::TooLarge { requested, limit } => {
                    assert_eq!((requested, size), (layout.size(), None));
                    assert_eq!(limit, self.alloc.classes().max_size());
                }
                AllocErrorKind::OverAligned { requested, limit } => {
                    assert_eq!((requested, size), (layout.align(), None));
                    assert!(limit < requested);
                }
                AllocErrorKind::LimitReached { limit } => {
                    assert_eq!(Some(limit), self.limit);
                }
                AllocErrorKind::OutOfMemory => {
                    assert!(self.backing.failures() > failures, "the backing refused nothing");
                }
                AllocErrorKind::WouldBlock => {}
                other => panic!("{other:?}"),
            },
        }
    }

    fn alloc(&mut self, layout: Layout, how: usize) {
        if self.live.len() >= MOST_LIVE {
            return;
        }
        let failures = self.backing.failures();
        let result = match how {
            0 => self.alloc.alloc_nowait(layout),
            1 => self.alloc.alloc_zeroed(layout).inspect(|memory| {
                // SAFETY: the object is ours.
                let bytes = unsafe { memory.as_ref() };
                assert!(bytes.iter().all(|byte| *byte == 0), "not zero");
            }),
            _ => self.alloc.alloc(layout),
        };
        let would_block =
            matches!(&result, Err(error) if error.kind() == AllocErrorKind::WouldBlock);
        assert!(!would_block || how == 0, "this call may block");
        self.add(layout, result, failures);
    }

    /// Frees the live object with the smallest address from `from` on, or the last one.
    fn free(&mut self, from: usize, way: Way) {
        let next = self.live.range(from..).next().or_else(|| self.live.iter().next_back());
        let Some((&address, _)) = next else { return };
        let object = self.live.remove(&address).expect("just seen");
        let size = self.size(object.layout).expect("it was allocated");
        let is_deferred = match way {
            Way::ByPolicy => P::PROTECTS_IDENTITY,
            Way::Deferred => true,
            Way::Unshared => false,
        };
        let protect = |protected: &mut Protected, identity: bool| {
            if identity {
                let again = Object::seen_before(object.place, object.layout, object.pattern());
                protected.objects.insert(address, again);
            }
            if way != Way::Unshared {
                protected.sizes.insert(address, size);
            }
        };
        if !self.guards.is_empty() {
            protect(&mut self.protected, is_deferred);
        }
        if P::KIND != PolicyKind::FreeAfterRcuGp {
            let identity = is_deferred && P::KIND == PolicyKind::AfterTasksTraceGp;
            self.sleepers.iter_mut().for_each(|(_, protected)| protect(protected, identity));
        }
        match way {
            Way::ByPolicy => object.free(self.alloc),
            Way::Deferred => object.free_rcu(self.alloc),
            Way::Unshared => object.free_unshared(self.alloc),
        }
    }

    /// Returns an address somewhere among the live objects.
    fn somewhere(&self, script: &mut Script<'_>) -> Option<usize> {
        let part = script.below(256)?;
        let first = self.live.first_key_value().map_or(0, |(first, _)| *first);
        let last = self.live.last_key_value().map_or(0, |(last, _)| *last);
        Some(first + (last - first) / 256 * part)
    }

    fn unpin(&mut self, which: usize) {
        if self.guards.len() == 1 {
            self.protected.end();
        }
        if !self.guards.is_empty() {
            drop(self.guards.swap_remove(which % self.guards.len()));
        }
    }

    fn unpin_trace(&mut self, which: usize) {
        if !self.sleepers.is_empty() {
            let (guard, mut protected) = self.sleepers.swap_remove(which % self.sleepers.len());
            protected.end();
            drop(guard);
        }
    }

    fn quiesce(&self) {
        let sleeps = P::KIND != PolicyKind::FreeAfterRcuGp && !self.sleepers.is_empty();
        match self.alloc.quiesce() {
            Ok(_) => {
                assert!(self.guards.is_empty() && !sleeps);
                assert_eq!(self.alloc.stats().taken.objects, self.live.len() as u64);
            }
            Err(SynchronizeError::InsideReadSection) => assert!(!self.guards.is_empty() || sleeps),
            Err(other) => panic!("{other:?}"),
        }
    }

    /// Runs one operation. Returns `None` at the end of the script.
    fn step(&mut self, script: &mut Script<'_>) -> Option<()> {
        let alloc = self.alloc;
        let domain = alloc.domain();
        match script.operation(26)? {
            how @ 0..=5 => {
                let size = script.below([130, 130, 1040, 4100][how % 4])?;
                let align = if how == 5 { 1 << script.below(14)? } else { 1 };
                self.alloc(layout(size, align), how);
            }
            how @ 6..=8 => {
                let (size, count) = ([16, 256, 4096][how - 6] - script.below(16)?, script.byte()?);
                (0..count).for_each(|_| self.alloc(layout(size, 1), how));
            }
            way @ 9..=14 => {
                let from = self.somewhere(script)?;
                let way = [Way::ByPolicy, Way::Deferred, Way::Unshared][way % 3];
                self.free(from, way);
            }
            way @ 15..=17 => {
                let (from, count) = (self.somewhere(script)?, script.byte()?);
                let way = [Way::ByPolicy, Way::Deferred, Way::Unshared][way % 3];
                (0..count).for_each(|_| self.free(from, way));
            }
            18 if self.guards.len() < MOST_GUARDS => self.guards.push(domain.pin()),
            18 | 19 => self.unpin(script.below(256)?),
            20 if self.sleepers.len() < MOST_GUARDS => {
                self.sleepers.push((domain.pin_trace(), Protected::default()));
            }
            20 | 21 => self.unpin_trace(script.below(256)?),
            22 => self.grace_period(script.below(6)?),
            23 => match script.below(4)? {
                0 => self.quiesce(),
                1 => _ = alloc.trim(),
                2 => alloc.tend(),
                _ => {
                    let (size, count) = (script.below(4100)?, script.below(600)?);
                    let failures = self.backing.failures();
                    if let Err(error) = alloc.prefill(layout(size, 1), count) {
                        self.add(layout(size, 1), Err(error), failures);
                    }
                }
            },
            24 => {
                let first = self.backing.requests() + script.below(4)? as u64;
                self.backing.fail(first..first + script.below(8)? as u64);
            }
            _ => run_on(Some(script.below(cpus())?)),
        }
        Some(())
    }

    fn grace_period(&mut self, how: usize) {
        let domain = self.alloc.domain();
        let (outside, awake) = (self.guards.is_empty(), self.sleepers.is_empty());
        match how {
            0 => {
                let cookie = domain.start_poll();
                assert_eq!(domain.advance(cookie), outside);
                assert_eq!(domain.poll(cookie), outside);
            }
            1 => {
                let cookie = domain.trace().start_poll();
                assert_eq!(domain.trace().advance(cookie), awake);
                assert_eq!(domain.trace().poll(cookie), awake);
            }
            2 => assert_eq!(domain.synchronize().is_ok(), outside),
            3 => assert_eq!(domain.trace().synchronize().is_ok(), awake),
            4 => {
                let called = Arc::clone(&self.called);
                self.callbacks += 1;
                domain.call(move || _ = called.fetch_add(1, Ordering::Relaxed));
                assert!(outside || self.called.load(Ordering::Relaxed) < self.callbacks);
            }
            _ => _ = domain.run_callbacks(),
        }
        assert!(self.called.load(Ordering::Relaxed) <= self.callbacks);
    }

    fn end(mut self) {
        self.backing.fail(0..0);
        while !self.guards.is_empty() {
            self.unpin(0);
        }
        while !self.sleepers.is_empty() {
            self.unpin_trace(0);
        }
        while !self.live.is_empty() {
            self.free(0, Way::ByPolicy);
        }
        self.alloc.domain().barrier().expect("no guard is left");
        assert_eq!(self.called.load(Ordering::Relaxed), self.callbacks);
        self.alloc.quiesce().expect("no guard is left");
        assert_eq!(self.alloc.stats().taken.objects, 0);
        self.alloc(layout(16, 1), 2);
        assert_eq!(self.live.len(), 1, "memory is served again");
        self.free(0, Way::Unshared);
    }
}

fn run<P: ReusePolicy>(setup: Setup, script: &mut Script<'_>) -> Option<()> {
    let settings = script.byte()?;
    let backing = Arc::new(FailOnDemand::new(Pages::default()));
    let domain =
        Domain::builder().barrier_kind(setup.barrier).stall_after(Duration::from_micros(100));
    let domain = domain.stall_handler(|_| ()).build().expect("only supported kinds are listed");
    let limit = (settings & 1 == 1).then_some(12 << 16);
    let mut builder = setup.builder::<P>().domain(domain).backing(Arc::clone(&backing));
    builder = builder.limit_bytes(limit.unwrap_or(u64::MAX)).keep_class(settings & 2 == 2);
    if settings & 4 == 4 {
        builder = builder.classes(ClassTable::fine(2048).expect("a table"));
    }
    if settings & 8 == 8 {
        builder = builder.max_pending(64 << 10);
    }
    let alloc = builder.range_bytes(256 << 20).build().expect("an allocator");
    let mut model = Model {
        alloc: &alloc,
        backing: &backing,
        limit,
        live: BTreeMap::new(),
        guards: Vec::new(),
        protected: Protected::default(),
        sleepers: Vec::new(),
        patterns: 0,
        callbacks: 0,
        called: Arc::default(),
    };
    let mut steps = 0_u32;
    while let Some(()) = model.step(script) {
        steps += 1;
        if steps.is_multiple_of(16) {
            adds_up(&alloc.stats(), model.live.len());
        }
    }
    adds_up(&alloc.stats(), model.live.len());
    model.end();
    run_on(None);
    alloc.destroy().expect("nothing leaked");
    assert_eq!(Arc::strong_count(&backing), 1, "nothing is held");
    Some(())
}

/// Reads the policy and the setup, and follows the rest of the script.
fn follow(input: &[u8]) -> Option<()> {
    let mut script = Script::new(input);
    let policy = script.below(PolicyKind::ALL.len())?;
    let setups = Setup::every();
    let setup = setups[script.below(setups.len())?];
    match PolicyKind::ALL[policy] {
        PolicyKind::Immediate => run::<Immediate>(setup, &mut script),
        PolicyKind::AfterRcuGp => run::<AfterRcuGp>(setup, &mut script),
        PolicyKind::FreeAfterRcuGp => run::<FreeAfterRcuGp>(setup, &mut script),
        PolicyKind::AfterTasksTraceGp => run::<AfterTasksTraceGp>(setup, &mut script),
        other => panic!("no run for {other}"),
    }
}

#[test]
fn any_script_leaves_an_allocator_whole() {
    bolero::check!(name = "allocator")
        .with_iterations(300)
        .with_max_len(4096)
        .for_each(|input: &[u8]| _ = follow(input));
}
