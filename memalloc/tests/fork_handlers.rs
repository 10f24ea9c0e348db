//! A program whose own handlers of forks were registered before it had an allocator. One test, so that
//! it has none before.
#![cfg(all(target_os = "linux", not(loom)))]

mod common;

use common::{in_child, layout};
use memalloc::{AfterRcuGp, MemAlloc};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Until a run that hangs counts as such.
const SECONDS: u32 = 60;

/// A lock of the program's, which its handlers hold through a fork.
struct Own(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: a mutex is there to be shared.
unsafe impl Sync for Own {}

static OWN: Own = Own(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));

extern "C" fn lock() {
    // SAFETY: initialised, and never moved.
    assert_eq!(unsafe { libc::pthread_mutex_lock(OWN.0.get()) }, 0);
}

extern "C" fn unlock() {
    // SAFETY: as above, and this thread has it.
    assert_eq!(unsafe { libc::pthread_mutex_unlock(OWN.0.get()) }, 0);
}

/// The program allocates under its lock, and its handlers take that lock: they run first.
#[test]
fn handlers_that_were_registered_before_the_first_allocator_may_take_a_lock_to_allocate_under() {
    // SAFETY: functions of this program.
    assert_eq!(unsafe { libc::pthread_atfork(Some(lock), Some(unlock), Some(unlock)) }, 0);
    // SAFETY: ends this process if it hangs.
    unsafe { libc::alarm(SECONDS) };
    let alloc = MemAlloc::<AfterRcuGp>::new().expect("an allocator");
    let forked = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !forked.load(Ordering::Relaxed) {
                    lock();
                    let held: Vec<_> =
                        (0..64).map(|_| alloc.alloc(layout(4096, 1)).expect("memory")).collect();
                    for object in held {
                        // SAFETY: allocated above with this layout.
                        unsafe { alloc.free_unshared(object.cast(), layout(4096, 1)) };
                    }
                    alloc.trim();
                    _ = alloc.stats();
                    unlock();
                }
            });
        }
        for _ in 0..300 {
            let status = in_child(SECONDS, || {
                lock();
                let object = alloc.alloc(layout(64, 1)).expect("memory").cast();
                // SAFETY: allocated above with this layout.
                unsafe { alloc.free(object, layout(64, 1)) };
                unlock();
            });
            assert_eq!(status, 0);
        }
        forked.store(true, Ordering::Relaxed);
    });
}
