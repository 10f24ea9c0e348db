//! The hooks that run in the library's calls while a recording runs.
//!
//! - MEM-RE1: a hook is async-signal-safe: it uses thread-local cells that need no initialisation,
//!   atomics, and clocks; no allocation and no lock.

use super::event::{Event, Kind};
use super::live_table::{Birth, LiveTable};
use super::ring::Ring;
use super::{Flavour, Way};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::sys::cpu::{CpuMode, CpuSlots};
use crate::sys::thread;
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::OnceLock;

/// The most events that wait to be written.
const RING: usize = 1 << 15;

/// The most sampled objects that are remembered at the same time.
const LIVE: usize = 1 << 16;

/// A section that lasted this many nanoseconds by the coarse clock is recorded even if it is not
/// sampled. The clock's ticks are 1 to 10 ms apart, so it lasted for at least half of that.
const LONG: u64 = 20_000_000;

/// True while a recording runs.
static ON: AtomicBool = AtomicBool::new(false);

/// The average number of allocations or sections per sample.
static PERIOD: AtomicU32 = AtomicU32::new(1);

/// The time at which the recording began, by the clock.
static BEGUN: AtomicU64 = AtomicU64::new(0);

/// Created by the first recording and never dropped: a hook of an earlier recording may still use
/// it.
static STORE: OnceLock<Store> = OnceLock::new();

/// The place where hooks put events.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) ring: Ring,
    pub(super) live: LiveTable,
    cpus: CpuSlots,
}

std::thread_local! {
    /// The events until the next sample, the last gap, and the state of the random numbers.
    static ALLOCS: Countdown = const { Countdown::new() };
    static SECTIONS: Countdown = const { Countdown::new() };
}

/// Samples one event per period on average, at random, so that no periodic behaviour of the program
/// biases the sample.
struct Countdown {
    left: Cell<u32>,
    gap: Cell<u32>,
    state: Cell<u64>,
}

impl Countdown {
    const fn new() -> Self {
        Self { left: Cell::new(0), gap: Cell::new(0), state: Cell::new(0) }
    }

    /// Returns the number of events that the current one stands for, if it is a sample. (If a
    /// handler interrupts this, a sample may be lost or taken twice.)
    #[inline]
    fn strike(&self) -> Option<u32> {
        let left = self.left.get();
        if left > 1 {
            self.left.set(left - 1);
            return None;
        }
        let weight = self.gap.get();
        self.draw();
        // The first event of a thread only starts the countdown.
        (weight > 0).then_some(weight)
    }

    #[cold]
    fn draw(&self) {
        let mut state = self.state.get();
        if state == 0 {
            state = u64::from(thread::current()).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        }
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.state.set(state);
        let period = PERIOD.load(Ordering::Relaxed).max(1);
        let gap = 1 + (state >> 33) as u32 % (2 * period - 1);
        self.gap.set(gap);
        self.left.set(gap);
    }
}

/// Starts recording. Returns `None` if a recording is already running. The caller prevents
/// concurrent calls.
pub(super) fn switch_on(period: u32) -> Option<&'static Store> {
    let store = STORE.get_or_init(|| Store {
        ring: Ring::new(RING),
        live: LiveTable::new(LIVE),
        cpus: CpuSlots::new(match CpuMode::ActiveCpu.is_supported() {
            true => CpuMode::ActiveCpu,
            false => CpuMode::ActiveThread,
        }),
    });
    if ON.load(Ordering::Relaxed) {
        return None;
    }
    store.live.drain(|_| ());
    store.ring.forget_dropped();
    PERIOD.store(period.clamp(1, 1 << 20), Ordering::Relaxed);
    BEGUN.store(clock(), Ordering::Relaxed);
    // A hook finds the store with its own Acquire; an old period or start time spoils a few events
    // at most.
    ON.store(true, Ordering::Relaxed);
    Some(store)
}

/// Stops recording. A hook that is under way may still put in an event.
pub(super) fn switch_off() {
    ON.store(false, Ordering::Relaxed);
}

pub(super) fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Returns the nanoseconds since the recording began.
pub(super) fn now() -> u64 {
    clock().saturating_sub(BEGUN.load(Ordering::Relaxed))
}

fn clock() -> u64 {
    thread::clock().as_nanos() as u64
}

fn coarse_clock() -> u64 {
    thread::coarse_clock().as_nanos() as u64
}

impl Store {
    pub(super) fn cpu(&self) -> u16 {
        self.cpus.current() as u16
    }
}

/// Records that an object was allocated.
#[inline(always)]
pub(crate) fn allocated(size: usize, place: impl FnOnce() -> NonNull<u8>) {
    if is_on() {
        note_alloc(Kind::Alloc, size, place());
    }
}

/// Records that an object was allocated by a call that must not wait (MEM-RE1).
#[inline(always)]
pub(crate) fn allocated_nowait(size: usize, place: impl FnOnce() -> NonNull<u8>) {
    if is_on() {
        note_alloc(Kind::AllocNowait, size, place());
    }
}

/// Records that an object is being freed; it still belongs to the caller.
#[inline(always)]
pub(crate) fn freed(way: Way, place: impl FnOnce() -> NonNull<u8>) {
    if is_on() {
        note_free(way, place());
    }
}

#[cold]
#[inline(never)]
fn note_alloc(kind: Kind, size: usize, object: NonNull<u8>) {
    let Some(weight) = ALLOCS.with(Countdown::strike) else { return };
    let Some(store) = STORE.get() else { return };
    let (time, cpu, thread) = (now(), store.cpu(), thread::current());
    let birth = Birth { time, cpu, size: size.min(usize::from(u16::MAX)) as u16, weight };
    let is_tracked = store.live.insert(object, birth);
    let kind = if is_tracked || kind == Kind::AllocNowait { kind } else { Kind::AllocUntracked };
    let event =
        Event { kind, cpu, thread, time, size: size as u32, weight, duration: 0, elsewhere: false };
    store.ring.push(event.words());
}

#[cold]
#[inline(never)]
fn note_free(way: Way, object: NonNull<u8>) {
    let Some(store) = STORE.get() else { return };
    let Some(birth) = store.live.remove(object) else { return };
    let (time, cpu) = (now(), store.cpu());
    let kind = match way {
        Way::Now => Kind::FreeNow,
        Way::Deferred => Kind::FreeDeferred,
        Way::Unshared => Kind::FreeUnshared,
    };
    let event = Event {
        kind,
        cpu,
        thread: thread::current(),
        time,
        size: birth.size.into(),
        weight: birth.weight,
        duration: time.saturating_sub(birth.time),
        elsewhere: cpu != birth.cpu,
    };
    store.ring.push(event.words());
}

/// The outermost section of a thread, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section {
    /// The time at which it began: by the clock if it is a sample, else by the coarse clock; 0 if
    /// no recording ran, or if it is inside another section.
    begun: u64,
    /// The number of sections that it stands for; 0 if it is no sample.
    weight: u32,
}

impl Section {
    const NONE: Self = Self { begun: 0, weight: 0 };

    /// Returns the value for a section inside another, which is not recorded.
    #[inline(always)]
    pub(crate) fn inner() -> Self {
        Self::NONE
    }

    /// Begins a section.
    #[inline(always)]
    pub(crate) fn begin() -> Self {
        if is_on() { Self::noted() } else { Self::NONE }
    }

    #[cold]
    #[inline(never)]
    fn noted() -> Self {
        let (begun, weight) = match SECTIONS.with(Countdown::strike) {
            Some(weight) => (clock(), weight),
            None => (coarse_clock(), 0),
        };
        Self { begun: begun.max(1), weight }
    }

    /// Ends the section and records it if it is a sample or long.
    #[inline(always)]
    pub(crate) fn end(self, flavour: Flavour) {
        if self.begun != 0 {
            self.note_end(flavour);
        }
    }

    #[cold]
    #[inline(never)]
    fn note_end(self, flavour: Flavour) {
        let is_sample = self.weight > 0;
        let ended = if is_sample { clock() } else { coarse_clock() };
        let duration = ended.saturating_sub(self.begun);
        if !is_on() || (!is_sample && duration < LONG) {
            return;
        }
        let Some(store) = STORE.get() else { return };
        let kind = match (is_sample, flavour) {
            (true, Flavour::Rcu) => Kind::SectionRcu,
            (true, Flavour::Trace) => Kind::SectionTrace,
            (false, Flavour::Rcu) => Kind::LongSectionRcu,
            (false, Flavour::Trace) => Kind::LongSectionTrace,
        };
        let (cpu, thread, time) = (store.cpu(), thread::current(), now());
        let weight = self.weight.max(1);
        let event = Event { kind, cpu, thread, time, size: 0, weight, duration, elsewhere: false };
        store.ring.push(event.words());
    }
}
