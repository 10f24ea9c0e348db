//! Any context: a timer signal interrupts the same calls that its handler makes.
#![cfg(all(target_os = "linux", not(loom)))]

mod common;
#[path = "common/timer.rs"]
mod timer;

use common::{Dice, adds_up, behind, claim, disclaim, in_every_setup};
use memalloc::{MemAlloc, ReusePolicy};
use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::ptr::{self, NonNull};
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use timer::Timer;

/// Number of signals in each configuration, without a reader and beside one.
const SIGNALS: usize = 500;

/// One signal every 500 µs.
const PERIOD_NS: libc::c_long = 500_000;

/// The owner of the handler's objects; owners of the main path have smaller numbers.
const HANDLER: u64 = u64::MAX;

/// Small and large objects, as used by both sides.
const LAYOUTS: [Layout; 2] = [Layout::new::<[u64; 2]>(), Layout::new::<[u64; 512]>()];

/// An object, and the index of its layout.
type Held = (NonNull<u8>, usize);

/// The state of the handler. It runs on one thread, and does not interrupt itself.
struct Storm<'a, P: ReusePolicy> {
    alloc: &'a MemAlloc<P>,
    held: UnsafeCell<[Option<Held>; 16]>,
    dice: UnsafeCell<Dice>,
    signals: AtomicUsize,
    got: AtomicUsize,
}

impl<P: ReusePolicy> Storm<'_, P> {
    /// Allocates an object into a random place, and frees the previous object of that place in one
    /// of three ways.
    fn strike(&self) {
        // SAFETY: only the handler touches both while signals come, and it is not reentered.
        let (held, dice) = unsafe { (&mut *self.held.get(), &mut *self.dice.get()) };
        for _ in 0..4 {
            let which = dice.roll(LAYOUTS.len());
            let new = self.alloc.alloc_nowait(LAYOUTS[which]).ok().map(|memory| {
                claim(memory.cast(), HANDLER);
                self.got.fetch_add(1, Ordering::Relaxed);
                (memory.cast(), which)
            });
            let place = &mut held[dice.roll(16)];
            if let Some((object, which)) = std::mem::replace(place, new) {
                disclaim(object, HANDLER);
                // SAFETY: the handler's own object, given up here.
                unsafe { free(self.alloc, object, LAYOUTS[which], dice.roll(3)) };
            }
        }
        self.signals.fetch_add(1, Ordering::Relaxed);
    }
}

/// Frees an object in one of three ways.
///
/// # Safety
///
/// As [`MemAlloc::free`]; the object has no readers.
unsafe fn free<P: ReusePolicy>(
    alloc: &MemAlloc<P>,
    object: NonNull<u8>,
    layout: Layout,
    way: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match way {
            0 => alloc.free(object, layout),
            1 => alloc.free_rcu(object, layout),
            _ => alloc.free_unshared(object, layout),
        }
    }
}

/// The storm of the thread that has the timer.
static STORM: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

extern "C" fn on_signal<P: ReusePolicy>(_signal: libc::c_int) {
    let storm = STORM.load(Ordering::Relaxed).cast::<Storm<'_, P>>();
    // SAFETY: set by the thread that the timer signals, which resets it only when the timer is
    // gone; the handler is installed with the policy of the storm.
    if let Some(storm) = unsafe { storm.as_ref() } {
        storm.strike();
    }
}

/// The storm is global to the process, so one test at a time uses it.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// So small that deferred frees wait for room, in the handler too.
const MAX_PENDING: u64 = 64 << 10;

/// The main path allocates and frees in every way, trims, counts and drives grace periods until
/// there have been [`SIGNALS`] signals.
fn storm<P: ReusePolicy>(alloc: &MemAlloc<P>) {
    let storm = Storm {
        alloc,
        held: UnsafeCell::new([None; 16]),
        dice: UnsafeCell::new(Dice::new(7)),
        signals: AtomicUsize::new(0),
        got: AtomicUsize::new(0),
    };
    STORM.store((&raw const storm).cast_mut().cast(), Ordering::Relaxed);
    let timer = Timer::start(PERIOD_NS, on_signal::<P>);

    let mut dice = Dice::new(3);
    let mut held: Vec<Held> = Vec::new();
    let mut rounds = 0_u64;
    while storm.signals.load(Ordering::Relaxed) < SIGNALS {
        rounds += 1;
        let which = dice.roll(LAYOUTS.len());
        let object = alloc.alloc(LAYOUTS[which]).expect("memory").cast();
        claim(object, rounds);
        held.push((object, which));
        while held.len() > 30 || (!held.is_empty() && dice.roll(2) == 0) {
            let (object, which) = held.swap_remove(dice.roll(held.len()));
            let owner = common::owner_of(object).load(Ordering::Relaxed);
            assert!(owner != 0 && owner != HANDLER, "it has another owner too");
            disclaim(object, owner);
            // SAFETY: this path's own object, given up here.
            unsafe { free(alloc, object, LAYOUTS[which], dice.roll(3)) };
        }
        match rounds % 4_096 {
            0 => _ = alloc.trim(),
            1_024 => _ = alloc.stats(),
            2_048 => _ = alloc.quiesce(),
            3_072 => alloc.domain().synchronize().expect("this thread does not read"),
            _ => (),
        }
    }
    drop(timer);
    // A signal that is still pending is harmless: it finds no storm.
    STORM.store(ptr::null_mut(), Ordering::Relaxed);

    let left = storm.held.into_inner();
    let left: Vec<_> = left.into_iter().flatten().collect();
    let got = storm.got.load(Ordering::Relaxed);
    assert!(got > SIGNALS, "the handler got hardly anything: {got}");
    adds_up(&alloc.stats(), held.len() + left.len());
    for (object, which) in held.into_iter().chain(left) {
        // SAFETY: the remaining objects of both sides; the timer is gone.
        unsafe { free(alloc, object, LAYOUTS[which], 0) };
    }
    alloc.quiesce().expect("no guard is left");
    adds_up(&alloc.stats(), 0);
    assert_eq!(alloc.stats().taken.objects, 0);
}

in_every_setup! {
    /// The handler allocates and frees from the same caches as the calls that it interrupts. No
    /// object is lost or handed out twice, and no call waits for ever. This holds without readers,
    /// when deferred objects are reused at once, and beside a thread that may read, when they have
    /// to wait.
    fn a_handler_may_interrupt_the_calls_that_it_makes<P>(setup) {
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let alloc = setup.builder::<P>().max_pending(MAX_PENDING).build().expect("an allocator");
        storm(&alloc);
        behind(|| alloc.domain().register(), || storm(&alloc));
    }
}
