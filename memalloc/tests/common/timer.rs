//! A timer that interrupts the thread that created it with signals.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The timer under way.
static RUNNING: AtomicPtr<libc::c_void> = AtomicPtr::new(ptr::null_mut());

/// Ends the signals of the timer under way. Async-signal-safe.
pub(crate) fn stop() {
    let timer = RUNNING.load(Ordering::Relaxed);
    // SAFETY: the structure is plain numbers for which zero is valid, and means that the timer
    // stops; the timer is deleted after it was taken out of `RUNNING`.
    unsafe {
        let never: libc::itimerspec = std::mem::zeroed();
        libc::timer_settime(timer, 0, &raw const never, ptr::null_mut());
    }
}

/// Signals its thread until it is dropped. One at a time in a process: it has the handler of
/// `SIGUSR1`.
pub(crate) struct Timer(libc::timer_t);

impl Timer {
    /// Calls `handler`, which is async-signal-safe, every `period_ns` nanoseconds.
    pub(crate) fn start(period_ns: libc::c_long, handler: extern "C" fn(libc::c_int)) -> Self {
        // SAFETY: all structures are plain numbers for which zero is valid, and they outlive the
        // calls that read them; the handler calls async-signal-safe functions only.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_RESTART;
            assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, ptr::null_mut()), 0);

            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = libc::SIGUSR1;
            event.sigev_notify_thread_id = libc::gettid();
            let mut timer: libc::timer_t = ptr::null_mut();
            let clock = libc::CLOCK_MONOTONIC;
            assert_eq!(libc::timer_create(clock, &raw mut event, &raw mut timer), 0);

            RUNNING.store(timer, Ordering::Relaxed);
            let period = libc::timespec { tv_sec: 0, tv_nsec: period_ns };
            let when = libc::itimerspec { it_interval: period, it_value: period };
            assert_eq!(libc::timer_settime(timer, 0, &raw const when, ptr::null_mut()), 0);
            Self(timer)
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        stop();
        RUNNING.store(ptr::null_mut(), Ordering::Relaxed);
        // SAFETY: the timer was created by `start` and is deleted once.
        unsafe { libc::timer_delete(self.0) };
    }
}
