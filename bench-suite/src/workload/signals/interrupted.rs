//! A thread that is interrupted, and the handler that interrupts it.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;

use super::heap::Heap;
use super::held_objects::HeldObjects;
use super::timer::{Strike, Target, Timer};
use super::watchdog::Pulse;
use crate::measure::{Gate, Worker, WrongAnswer};

/// Operations between two reads of the clock.
const STRIDE: u64 = 64;

/// Strides between two slow calls.
const STRIDES_A_CHORE: u64 = 256;

/// The allocations of a handler per signal, each with a free.
const TURNS: usize = 4;

/// The state of the handler.
///
/// - BEN-H1: while a timer runs, only the handler accesses `insides`, on one thread; at other times
///   only code that has the `Storm` by `&mut`.
#[derive(Debug)]
struct Storm<'h, H> {
    heap: &'h H,
    insides: UnsafeCell<Insides>,
}

#[derive(Debug)]
struct Insides {
    objects: HeldObjects<16>,
    strikes: u64,
}

impl<H: Heap> Strike for Storm<'_, H> {
    unsafe fn strike(&self) {
        // SAFETY: BEN-H1: this is the handler, and nothing interrupts it.
        let insides = unsafe { &mut *self.insides.get() };
        for _ in 0..TURNS {
            insides.objects.turn_over(self.heap, H::alloc_nowait);
        }
        insides.strikes += 1;
    }
}

/// A thread that allocates and frees, and is interrupted.
#[derive(Debug)]
pub(super) struct Interrupted<'h, H> {
    objects: HeldObjects<32>,
    storm: Storm<'h, H>,
    rate_hz: u32,
    strides: u64,
    pulse: &'h Pulse,
    fault: Option<WrongAnswer>,
}

/// The counts of both sides.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Toll {
    /// Signals handled.
    pub(super) strikes: u64,
    /// Allocations in handlers, and those of them that would have blocked.
    pub(super) asked: u64,
    pub(super) refused: u64,
    /// Objects that another side held, too.
    pub(super) duplicated: u64,
}

impl<'h, H: Heap> Interrupted<'h, H> {
    /// Creates the `number`th thread, to be interrupted `rate_hz` times per second.
    pub(super) fn new(heap: &'h H, number: u64, rate_hz: u32, pulse: &'h Pulse) -> Self {
        let insides = Insides { objects: HeldObjects::new(2 * number + 2), strikes: 0 };
        Self {
            objects: HeldObjects::new(2 * number + 1),
            storm: Storm { heap, insides: UnsafeCell::new(insides) },
            rate_hz,
            strides: 0,
            pulse,
            fault: None,
        }
    }

    /// Frees everything, and returns the counts.
    pub(super) fn close(&mut self) -> Result<Toll, WrongAnswer> {
        let Insides { objects, strikes } = self.storm.insides.get_mut();
        objects.empty(self.storm.heap);
        self.objects.empty(self.storm.heap);
        if self.objects.refused > 0 {
            return Err(WrongAnswer(format!("{} allocations failed", self.objects.refused)));
        }
        let (asked, refused) = (objects.asked, objects.refused);
        let duplicated = objects.duplicated + self.objects.duplicated;
        self.fault.take().map_or(Ok(Toll { strikes: *strikes, asked, refused, duplicated }), Err)
    }
}

impl<H: Heap> Worker for Interrupted<'_, H> {
    fn work(&mut self, gate: &Gate) -> u64 {
        let heap = self.storm.heap;
        // A handler can allocate only objects that are ready.
        self.objects.turn_over(heap, H::alloc);
        let target = Target(&self.storm);
        // SAFETY: the timer is dropped below, before `target` ends.
        let _timer = match unsafe { Timer::start(&target, self.rate_hz) } {
            Ok(timer) => timer,
            Err(error) => {
                self.fault = Some(WrongAnswer(format!("starting a timer failed: {error}")));
                return 1;
            }
        };
        let before = self.strides;
        loop {
            for _ in 0..STRIDE {
                self.objects.turn_over(heap, H::alloc);
            }
            self.strides += 1;
            if self.strides.is_multiple_of(STRIDES_A_CHORE) {
                heap.slow_call(self.strides / STRIDES_A_CHORE);
            }
            self.pulse.beat();
            if !gate.is_open() {
                return (self.strides - before) * STRIDE;
            }
        }
    }
}
