//! The calling thread's number, the clock, a short sleep, and the start of threads that signals do
//! not interrupt. All but `name_of` and `without_signals` are async-signal-safe, where there are
//! signals.

#[cfg(not(loom))]
use std::cell::Cell;
use std::time::Duration;

/// Returns a number that no other living thread of the process has: never 0, and below 2^31. On
/// Linux it is the kernel's thread id.
#[cfg(not(loom))]
#[inline]
pub(crate) fn current() -> u32 {
    match NUMBER.with(Cell::get) {
        0 => renumber(),
        number => number,
    }
}

#[cfg(not(loom))]
crate::sync::thread_local! { static NUMBER: Cell<u32> = const { Cell::new(0) } }

/// Asks the system for the calling thread's number again, because a fork changes it.
#[cfg(not(loom))]
pub(super) fn renumber() -> u32 {
    let number = imp::number();
    NUMBER.with(|own| own.set(number));
    number
}

/// The thread's number in its execution, and one more. (Its id is another one in each execution,
/// but is shown as that number.)
#[cfg(loom)]
pub(crate) fn current() -> u32 {
    use std::fmt::{Result, Write};

    struct Number(u32);

    impl Write for Number {
        fn write_str(&mut self, text: &str) -> Result {
            for digit in text.chars().filter_map(|character| character.to_digit(10)) {
                self.0 = self.0 * 10 + digit;
            }
            Ok(())
        }
    }

    let mut number = Number(0);
    write!(number, "{:?}", loom::thread::current().id()).expect("it takes everything");
    number.0 + 1
}

/// Returns the name of a living thread of this process, if the system provides it.
pub(crate) fn name_of(number: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/self/task/{number}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// Calls `begin` with signals blocked, so that the threads that it starts have them blocked too.
/// Signals about the thread itself, such as `SIGSEGV`, stay unblocked. During the call the calling
/// thread receives no other signals.
#[cfg(not(loom))]
pub(crate) fn without_signals<R>(begin: impl FnOnce() -> R) -> R {
    let _signals = imp::block_signals();
    begin()
}

/// Time since some moment in the past; never goes back. In a model it stands still.
pub(crate) fn clock() -> Duration {
    #[cfg(counted)]
    if let Some(machine) = crate::sync::machine::installed() {
        return machine.now();
    }
    imp::clock()
}

/// Sleeps for 1 µs after no `earlier` naps of a wait, and twice as long each time, up to 512 µs; or
/// until a signal handler has run.
///
/// `std::thread::sleep` sleeps for the remaining time after a signal. Linux adds the timer slack of
/// the thread, 50 µs by default, to that time, so that such a sleep gets longer with each signal
/// and never ends if they come faster. In a model this lets another thread run.
pub(crate) fn nap(earlier: u32) {
    let time = Duration::from_micros(1 << earlier.min(9));
    #[cfg(counted)]
    if let Some(machine) = crate::sync::machine::installed() {
        return machine.sleep(time);
    }
    imp::nap(time);
}

/// The number of times that [`let_others_run`] yields before it sleeps.
pub const YIELDS: u32 = 16;

/// Lets the thread run that this one waits for: in the first rounds of a wait by a yield, then by a
/// sleep, up to 512 µs long.
///
/// A yield alone never lets a thread of lower priority run, where the waiting one is scheduled by
/// `SCHED_FIFO`. Async-signal-safe.
#[cold]
pub fn let_others_run(round: u32) {
    match round.checked_sub(YIELDS) {
        None => crate::sync::thread::yield_now(),
        Some(naps) => nap(naps),
    }
}

/// As [`clock`], at a fraction of the cost: the time of the last tick, a few milliseconds ago at
/// most.
#[inline]
pub(crate) fn coarse_clock() -> Duration {
    #[cfg(counted)]
    if let Some(machine) = crate::sync::machine::installed() {
        return machine.now();
    }
    imp::coarse_clock()
}

#[cfg(all(unix, not(any(loom, miri))))]
fn read(clock: libc::clockid_t) -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a place for the answer; the callers name clocks that their systems have.
    unsafe { libc::clock_gettime(clock, &mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

#[cfg(all(target_os = "linux", not(any(loom, miri))))]
mod imp {
    use super::Duration;

    /// The signals that the calling thread had blocked, which are restored on drop.
    pub(super) struct Blocked(libc::sigset_t);

    /// Blocks all signals except those that an instruction of the thread itself raises.
    pub(super) fn block_signals() -> Blocked {
        use libc::{SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
        // SAFETY: a set of signals is plain bits, which `sigfillset` and `pthread_sigmask` write;
        // the named signals are valid, and none of the calls can fail with valid sets.
        unsafe {
            let (mut all, mut before) = std::mem::zeroed::<(libc::sigset_t, libc::sigset_t)>();
            libc::sigfillset(&mut all);
            for own in [SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP] {
                libc::sigdelset(&mut all, own);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, &all, &mut before);
            Blocked(before)
        }
    }

    impl Drop for Blocked {
        fn drop(&mut self) {
            // SAFETY: the set is the thread's earlier one.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
        }
    }

    /// shuttle runs all threads of an execution on one thread of the kernel.
    #[cfg(shuttle)]
    pub(super) fn number() -> u32 {
        usize::from(shuttle::current::me()) as u32 + 1
    }

    #[cfg(not(shuttle))]
    pub(super) fn number() -> u32 {
        // SAFETY: takes no arguments and can't fail.
        unsafe { libc::syscall(libc::SYS_gettid) as u32 }
    }

    pub(super) fn nap(time: Duration) {
        let time = libc::timespec {
            tv_sec: time.as_secs() as libc::time_t,
            tv_nsec: time.subsec_nanos() as libc::c_long,
        };
        // SAFETY: MEM-S1: `time` is valid, and a null pointer means that the remaining time is not
        // asked for.
        unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &time, std::ptr::null_mut()) };
    }

    pub(super) fn clock() -> Duration {
        super::read(libc::CLOCK_MONOTONIC)
    }

    pub(super) fn coarse_clock() -> Duration {
        super::read(libc::CLOCK_MONOTONIC_COARSE)
    }
}

#[cfg(not(all(target_os = "linux", not(any(loom, miri)))))]
mod imp {
    use super::Duration;

    /// Blocks nothing: on other systems the worker's thread is like any other.
    #[cfg(not(loom))]
    pub(super) fn block_signals() {}

    #[cfg(not(loom))]
    pub(super) fn number() -> u32 {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed) & (u32::MAX >> 1)
    }

    pub(super) fn nap(time: Duration) {
        #[cfg(not(loom))]
        std::thread::sleep(time);
        #[cfg(loom)]
        {
            let _ = time;
            crate::sync::pause();
        }
    }

    pub(super) fn coarse_clock() -> Duration {
        clock()
    }

    pub(super) fn clock() -> Duration {
        #[cfg(loom)]
        return Duration::ZERO;
        #[cfg(all(unix, not(any(loom, miri))))]
        return super::read(libc::CLOCK_MONOTONIC);
        #[cfg(not(any(loom, all(unix, not(miri)))))]
        {
            use once_cell::race::OnceBox;
            use std::time::Instant;
            static START: OnceBox<Instant> = OnceBox::new();
            START.get_or_init(|| Box::new(Instant::now())).elapsed()
        }
    }
}
