//! The machine of the counting build, driven by shuttle: a turn may end before every access.

use memalloc::sync::machine::{self, Access, Machine};
use shuttle::{current, thread};
use std::panic::Location;
use std::sync::Once;
use std::time::Duration;

/// The number of CPUs: fewer than threads, so that threads share caches.
const CPUS: usize = 3;

/// A thread stays on its CPU for this many steps of the execution.
const STEPS_ON_A_CPU: usize = 64;

struct Scheduled;

/// Makes shuttle the machine of this process.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| machine::install(&Scheduled));
}

impl Machine for Scheduled {
    fn preempt(&self) {
        // A thread whose check failed unwinds in one turn. After a yield it would be deferred, and
        // the failure with it.
        if !std::thread::panicking() {
            // A turn of any length: shuttle has no clock.
            thread::sleep(Duration::ZERO);
        }
    }

    fn access(&self, _access: Access) {}

    fn cell(&self, _: usize, _: usize, _: bool, _: &'static Location<'static>) {}

    fn fence(&self) {}

    fn interrupt_others(&self) {}

    fn pause(&self) {
        thread::yield_now();
    }

    fn sleep(&self, _time: Duration) {
        thread::yield_now();
    }

    fn cpus(&self) -> usize {
        CPUS
    }

    /// Depends on the thread and the step only, so that a schedule can be replayed.
    fn cpu(&self) -> usize {
        let period = current::context_switches() / STEPS_ON_A_CPU;
        let mixed = (period * 31 + usize::from(current::me())).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) % CPUS
    }

    /// A step takes a microsecond.
    fn now(&self) -> Duration {
        Duration::from_micros(current::context_switches() as u64)
    }
}
