//! A periodic timer that interrupts the thread that started it.
//!
//! - BEN-T1: from the start of a timer to the end of its drop, and only then, signals that carry
//!   the address of its target are delivered to the thread that started it.
#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::mem::zeroed;
use std::ptr;

/// The action of a timer's handler. It interrupts any code of its thread, and nothing interrupts
/// it: async-signal-safe calls only, and no panics.
pub(crate) trait Strike {
    /// Called by the handler.
    ///
    /// # Safety
    ///
    /// Only the handler may call it.
    unsafe fn strike(&self);
}

/// The target of a timer, whose address fits into a signal.
pub(crate) struct Target<'t>(pub(crate) &'t dyn Strike);

/// The signal. Nothing else in this program uses it.
const SIGNAL: libc::c_int = libc::SIGUSR1;

/// A running timer.
#[derive(Debug)]
pub(crate) struct Timer<'t> {
    id: libc::timer_t,
    _target: PhantomData<&'t Target<'t>>,
}

impl<'t> Timer<'t> {
    /// Starts a timer that strikes `target` on this thread `rate_hz` times per second.
    ///
    /// # Errors
    ///
    /// The system's error if it has no timer left.
    ///
    /// # Safety
    ///
    /// The timer is dropped, on this thread (BEN-T1), before `target` ends.
    pub(crate) unsafe fn start(target: &'t Target<'t>, rate_hz: u32) -> io::Result<Self> {
        install()?;
        // SAFETY: plain numbers and pointers, for which zero is valid.
        let mut event: libc::sigevent = unsafe { zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = SIGNAL;
        event.sigev_value.sival_ptr = ptr::from_ref(target).cast_mut().cast();
        // SAFETY: takes no arguments.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut id: libc::timer_t = ptr::null_mut();
        // SAFETY: both structures outlive the call.
        let created =
            unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut id) };
        checked(created)?;
        let timer = Self { id, _target: PhantomData };
        // At most a second, and never zero, which would stop the timer.
        let period = match rate_hz {
            0 | 1 => libc::timespec { tv_sec: 1, tv_nsec: 0 },
            rate => libc::timespec { tv_sec: 0, tv_nsec: (1_000_000_000 / rate).max(1).into() },
        };
        let when = libc::itimerspec { it_interval: period, it_value: period };
        // SAFETY: the timer exists, and `when` outlives the call.
        checked(unsafe { libc::timer_settime(id, 0, &raw const when, ptr::null_mut()) })?;
        Ok(timer)
    }
}

impl Drop for Timer<'_> {
    /// After it returns, no signal of the timer is delivered any more.
    fn drop(&mut self) {
        let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the timer is deleted once; the sets and times outlive the calls. The signal is
        // blocked during the calls, and a pending one is consumed.
        unsafe {
            let signal = only_ours();
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signal, ptr::null_mut());
            libc::timer_delete(self.id);
            while libc::sigtimedwait(&raw const signal, ptr::null_mut(), &raw const none) > 0 {}
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const signal, ptr::null_mut());
        }
    }
}

fn only_ours() -> libc::sigset_t {
    // SAFETY: a set of signals is plain numbers, and is made empty before it is used.
    unsafe {
        let mut set: libc::sigset_t = zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, SIGNAL);
        set
    }
}

fn install() -> io::Result<()> {
    // SAFETY: plain numbers and pointers, for which zero is valid.
    let mut action: libc::sigaction = unsafe { zeroed() };
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_signal;
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_RESTART | libc::SA_SIGINFO;
    // SAFETY: the structure outlives the call; the handler is async-signal-safe because its target
    // is.
    checked(unsafe { libc::sigaction(SIGNAL, &raw const action, ptr::null_mut()) })
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn on_signal(
    _signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes a valid pointer to the signal's data.
    let info = unsafe { &*info };
    // Another sender's signal does not carry the address of a target.
    if info.si_code != libc::SI_TIMER {
        return;
    }
    // SAFETY: BEN-T1: the signal carries the address of a target that lives until the timer is
    // dropped, on this thread. `errno` is this thread's.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        let target = info.si_value().sival_ptr.cast::<Target<'_>>();
        (*target).0.strike();
        *errno = before;
    }
}
