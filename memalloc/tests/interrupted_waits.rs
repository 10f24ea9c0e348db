//! Waits of a thread that signals interrupt more often than the system's timers are exact.
#![cfg(all(target_os = "linux", not(loom)))]

#[path = "common/timer.rs"]
mod timer;

use memalloc::rcu::Domain;
use memalloc::{AfterRcuGp, MemAlloc};
use std::alloc::Layout;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;
use timer::Timer;

/// One signal every 20 µs. Linux wakes a sleeper up to 50 µs late, and counts these 50 µs to what
/// is left of an interrupted sleep.
const PERIOD_NS: libc::c_long = 20_000;

/// The reader leaves after this many signals: the other thread sleeps by then.
const LEAVES: u64 = 5_000;

/// After this many signals, if they still come then, the wait is taken for endless.
const ENDLESS: u64 = 500_000;

/// The handler and the timer are of the process, so one test at a time uses them.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

static SIGNALS: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_signal: libc::c_int) {
    if SIGNALS.fetch_add(1, Ordering::Relaxed) == ENDLESS {
        timer::stop();
    }
}

/// Calls `wait`, which waits for a reader of `domain`, while signals interrupt it. The reader
/// leaves after some of them.
fn ends_while_signals_come(domain: &Domain, wait: impl FnOnce()) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    SIGNALS.store(0, Ordering::Relaxed);
    let is_inside = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            let section = domain.pin();
            is_inside.wait();
            while SIGNALS.load(Ordering::Relaxed) < LEAVES {
                thread::sleep(Duration::from_millis(1));
            }
            drop(section);
        });
        is_inside.wait();
        let timer = Timer::start(PERIOD_NS, count);
        wait();
        drop(timer);
    });
    let signals = SIGNALS.load(Ordering::Relaxed);
    assert!(signals >= LEAVES, "it ended before the reader left, after {signals} signals");
    assert!(signals < ENDLESS, "it ended only when the signals did");
}

#[test]
fn a_grace_period_ends_for_a_thread_that_is_interrupted_all_the_time() {
    let domain = Domain::new();
    ends_while_signals_come(&domain, || domain.synchronize().expect("this thread does not read"));
}

#[test]
fn a_free_that_waits_for_room_ends_for_a_thread_that_is_interrupted_all_the_time() {
    // No reader counts as stalled, so the free waits until the reader has left.
    let domain = Domain::builder().stall_after(Duration::MAX).build().expect("a domain");
    let alloc = MemAlloc::<AfterRcuGp>::builder().domain(domain.clone()).max_pending(0);
    let alloc = alloc.build().expect("an allocator");
    let layout = Layout::new::<[u64; 512]>();
    ends_while_signals_come(&domain, || {
        // More objects than a CPU collects before it looks for readers.
        let objects: Vec<_> = (0..256).map(|_| alloc.alloc(layout).expect("memory")).collect();
        // SAFETY: the objects are this thread's own.
        objects.into_iter().for_each(|object| unsafe { alloc.free(object.cast(), layout) });
    });
}
