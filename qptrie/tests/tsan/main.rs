//! Programs for ThreadSanitizer: four threads on an allocator, or on a trie, that write and read
//! plain memory whenever the library says that they may. They run in the portable mode with fences.
//!
//! The threads share nothing besides the library and the pointers that they publish, so that
//! nothing else orders their accesses. See "Sanitizers" in docs/CONTRIBUTING.md.
#![cfg(tsan)]

#[path = "../../../memalloc/tests/shuttle/broken.rs"]
mod broken;

use memalloc::broken::Fault;
use memalloc::rcu::{BarrierKind, Domain};
use memalloc::{AfterRcuGp, AfterTasksTraceGp, CpuMode, FreeAfterRcuGp, Immediate};
use memalloc::{MemAlloc, ProtectsIdentity, ReusePolicy};
use qptrie::{Hints, QpTrie};
use std::alloc::Layout;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::{array, env, thread};

/// The number of threads.
const THREADS: usize = 4;

/// The number of operations of each thread; `TSAN_LONGER` multiplies it.
const OPERATIONS: usize = 20_000;

/// The number of places where threads publish objects.
const PLACES: usize = 16;

/// An object: plain memory, whose words are equal.
type Object = [u64; 8];

/// Runs `work` on each thread, with pseudo-random numbers.
fn on_every_thread(work: impl Fn(u64) + Sync) {
    broken::leave_out();
    let longer =
        env::var("TSAN_LONGER").map_or(1, |times| times.parse().expect("TSAN_LONGER is a number"));
    thread::scope(|scope| {
        for number in 1..=THREADS as u64 {
            let work = &work;
            scope.spawn(move || {
                let mut random = number;
                for _ in 0..OPERATIONS * longer {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    work(random >> 8);
                }
            });
        }
    });
}

fn domain() -> Domain {
    Domain::builder().barrier_kind(BarrierKind::Fence).build().expect("fences are always there")
}

struct Published<P: ReusePolicy> {
    alloc: MemAlloc<P>,
    places: [AtomicPtr<Object>; PLACES],
}

impl<P: ReusePolicy> Published<P> {
    fn new() -> Self {
        let builder = MemAlloc::builder().cpu_mode(CpuMode::ActiveCpu).domain(domain());
        let alloc = builder.build().expect("an allocator");
        Self { alloc, places: array::from_fn(|_| AtomicPtr::new(ptr::null_mut())) }
    }

    /// Publishes an object with these words, and frees the one that was there.
    fn replace(&self, place: usize, word: u64) {
        let layout = Layout::new::<Object>();
        let object = self.alloc.alloc(layout).expect("memory").cast::<Object>();
        // SAFETY: just allocated.
        unsafe { object.write([word; 8]) };
        let old = self.places[place].swap(object.as_ptr(), Ordering::AcqRel);
        if let Some(old) = NonNull::new(old) {
            // SAFETY: allocated above, by some thread, and no thread finds it any more.
            unsafe { self.alloc.free(old.cast(), layout) };
        }
    }

    /// Reads a published object.
    ///
    /// # Safety
    ///
    /// In a section in which the policy protects identity.
    unsafe fn read(&self, place: usize) {
        let object = self.places[place].load(Ordering::Acquire);
        // SAFETY: the caller's promise.
        if let Some(words) = unsafe { object.as_ref() } {
            assert!(words.iter().all(|word| *word == words[0]), "{words:?}");
        }
    }
}

/// Reads and replaces objects under a policy that protects them.
fn read_and_replace<P: ProtectsIdentity>() {
    let published = Published::<P>::new();
    on_every_thread(|random| {
        let (place, rest) = (random as usize % PLACES, random >> 8);
        if rest.is_multiple_of(4) {
            return published.replace(place, rest);
        }
        let _section = published.alloc.domain().pin();
        for more in 0..4 {
            // SAFETY: in a section of a policy that protects identity.
            unsafe { published.read((place + more) % PLACES) };
        }
    });
}

#[test]
fn objects_under_reuse_at_once_are_written_in_turn() {
    let published = Published::<Immediate>::new();
    on_every_thread(|random| published.replace(random as usize % PLACES, random));
}

#[test]
fn objects_are_not_written_under_their_readers() {
    read_and_replace::<AfterRcuGp>();
}

#[test]
fn objects_that_return_to_slabs_are_not_written_under_their_readers() {
    read_and_replace::<FreeAfterRcuGp>();
}

#[test]
fn objects_are_not_written_under_sleepers() {
    let published = Published::<AfterTasksTraceGp>::new();
    on_every_thread(|random| {
        let (place, rest) = (random as usize % PLACES, random >> 8);
        if rest.is_multiple_of(4) {
            return published.replace(place, rest);
        }
        let _section = published.alloc.domain().pin_trace();
        // SAFETY: in a section of a policy that protects identity for sleepers.
        unsafe { published.read(place) };
    });
}

/// Inserts, removes, looks up and scans; values are plain memory, read by reference.
fn look_up_and_change<B: ReusePolicy, L: ProtectsIdentity>(hints: Hints) {
    let trie = QpTrie::<[u64; 4], B, L>::builder().cpu_mode(CpuMode::ActiveCpu).domain(domain());
    let trie = trie.hints(hints).build().expect("a trie");
    let is_whole = |value: &[u64; 4]| value.iter().all(|word| *word == value[0]);
    on_every_thread(|random| {
        let rest = random >> 16;
        let key =
            [b"a/common/part/".as_slice(), &[random as u8 & 0x33, (random >> 8) as u8 & 0x11]];
        let (key, view) = (key.concat(), trie.pin());
        match rest % 16 {
            0..3 => _ = view.insert(&key, [rest; 4]).expect("memory"),
            3..5 => _ = view.remove(&key),
            5 => assert!(view.iter().take(64).all(|(_, value)| is_whole(value))),
            _ => assert!(view.get(&key).is_none_or(is_whole)),
        }
    });
}

#[test]
fn values_are_not_written_under_their_readers() {
    look_up_and_change::<Immediate, AfterRcuGp>(Hints::Off);
    look_up_and_change::<Immediate, AfterRcuGp>(Hints::On);
}

#[test]
fn values_in_branches_that_are_kept_are_not_written_under_their_readers() {
    look_up_and_change::<AfterRcuGp, AfterRcuGp>(Hints::On);
    look_up_and_change::<FreeAfterRcuGp, FreeAfterRcuGp>(Hints::Off);
}

#[test]
fn a_missing_grace_period_is_reported() {
    let claim = "objects_are_not_written_under_their_readers";
    broken::fails_without(Fault::GracePeriod, claim, &["ThreadSanitizer: data race"]);
}
