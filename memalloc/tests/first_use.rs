//! A first use of the library that is stopped at each of its system calls: a signal handler on its
//! thread, another thread, and the child of a fork make their own first use meanwhile, and wait for
//! nothing.
#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64", not(any(loom, miri))))]

mod common;
#[path = "common/machine.rs"]
mod machine;

use common::{Object, adds_up, in_child, layout};
use machine::{NOT_PERMITTED, checked, on_machine};
use memalloc::rcu::Domain;
use memalloc::{AfterRcuGp, ClassTable, MemAlloc};
use std::ffi::{c_int, c_long, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::abort;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::{io, ptr, thread};

/// The system calls at which a thread stops: of those that a first use makes, the ones that neither
/// the C library's allocator nor its loader makes, since they may hold their locks then. (The
/// allocator may call `madvise` for a heap of more than 128 KiB, which these threads do not have.)
const CALLS: [c_long; 6] = [
    libc::SYS_membarrier,
    libc::SYS_statx,
    libc::SYS_sched_getaffinity,
    libc::SYS_prlimit64,
    libc::SYS_madvise,
    libc::SYS_gettid,
];

/// As many stops as any first use has, or more.
const MOST_STOPS: usize = 16;

/// As a sixth argument, which none of the calls has: the call does not stop.
const PASS: u32 = 0x5a17_9e3d;

/// The number of seconds after which a child counts as stuck and is killed.
const STUCK: u32 = 30;

/// The number of stops so far.
static STOPS: AtomicUsize = AtomicUsize::new(0);

/// True while the handler runs. The calls that it makes do not stop.
static IN_HANDLER: AtomicBool = AtomicBool::new(false);

/// The function that the handler calls with the number of the stop.
static AT_STOP: OnceLock<Box<dyn Fn(usize) + Send + Sync>> = OnceLock::new();

/// Runs at a stop, in the middle of the call, and then makes the call.
extern "C" fn stop(_signal: c_int, _info: *mut libc::siginfo_t, context: *mut c_void) {
    use libc::{REG_R8, REG_R10, REG_RAX, REG_RDI, REG_RDX, REG_RSI};
    // SAFETY: the system passes the state of the thread that it stopped, of which no reference
    // exists; errno is this thread's. The call that is made is the one that was stopped.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        if !IN_HANDLER.swap(true, Ordering::Relaxed) {
            let at_stop = AT_STOP.get().expect("set before the first stop");
            at_stop(STOPS.fetch_add(1, Ordering::Relaxed));
            IN_HANDLER.store(false, Ordering::Relaxed);
        }
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let [call, a, b, c, d, e] = [REG_RAX, REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8]
            .map(|register| registers[register as usize]);
        let result = libc::syscall(call, a, b, c, d, e, c_long::from(PASS));
        registers[REG_RAX as usize] = if result == -1 { -i64::from(*errno) } else { result };
        *errno = before;
    }
}

/// From now on this thread stops at each of the calls, and calls `at_stop`.
fn stop_at_calls(at_stop: impl Fn(usize) + Send + Sync + 'static) -> io::Result<()> {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let load = |at: u32| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at);
    let answer = |answer| statement(libc::BPF_RET | libc::BPF_K, answer);
    let skip = |k: u32, jt: u8, jf: u8| {
        let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        libc::sock_filter { code, jt, jf, k }
    };
    let (number_at, sixth_argument_at) = (0, 16 + 5 * 8);
    let mut program = vec![load(number_at)];
    for (n, call) in CALLS.into_iter().enumerate() {
        program.push(skip(call as u32, (CALLS.len() - n) as u8, 0));
    }
    let allow = answer(libc::SECCOMP_RET_ALLOW);
    let trap = answer(libc::SECCOMP_RET_TRAP);
    program.extend([allow, load(sixth_argument_at), skip(PASS, 0, 1), allow, trap]);
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    assert!(AT_STOP.set(Box::new(at_stop)).is_ok(), "set once in a process");
    // SAFETY: all structures are plain numbers for which zero is valid, and they outlive the calls.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = stop as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        checked(libc::sigaction(libc::SIGSYS, &raw const action, ptr::null_mut()))?;
        checked(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        let mode = libc::SECCOMP_SET_MODE_FILTER;
        checked(libc::syscall(libc::SYS_seccomp, mode, 0, &raw const filter) as c_int)
    }
}

/// Uses everything that is initialised at its first use in a process.
fn first_use_of_all() {
    let domain = Domain::global();
    drop((domain.pin(), domain.pin_trace()));
    assert_eq!(ClassTable::fine(4096).expect("a table").max_size(), 4096);
    let alloc = MemAlloc::<AfterRcuGp>::new().expect("an allocator");
    use_allocator(&alloc);
    adds_up(&alloc.stats(), 0);
}

fn use_allocator(alloc: &MemAlloc<AfterRcuGp>) {
    let guard = alloc.domain().pin();
    Object::new(alloc, layout(64, 1), 1).free(alloc);
    Object::new(alloc, layout(64, 1), 2).free_unshared(alloc);
    drop(guard);
}

static SHARED: OnceLock<MemAlloc<AfterRcuGp>> = OnceLock::new();

fn shared() -> &'static MemAlloc<AfterRcuGp> {
    SHARED.get_or_init(|| MemAlloc::new().expect("an allocator"))
}

/// Uses an allocator that exists.
fn first_use_of_shared() {
    use_allocator(shared());
}

/// A first use that is stopped.
struct Stopped {
    name: &'static str,
    /// Called before.
    prepare: fn(),
    work: fn(),
    /// The same by the calls that a signal handler may make.
    in_handler: fn(),
    /// The least number of its stops.
    stops: usize,
}

const EVERY: [Stopped; 2] = [
    Stopped {
        name: "all",
        prepare: || (),
        work: first_use_of_all,
        // Where it stops, neither the C library's allocator nor its loader is interrupted.
        in_handler: first_use_of_all,
        stops: CALLS.len(),
    },
    Stopped {
        name: "an allocator",
        prepare: || _ = shared(),
        work: first_use_of_shared,
        in_handler: || {
            let (alloc, layout) = (shared(), layout(64, 1));
            drop(alloc.domain().pin());
            if let Ok(object) = alloc.alloc_nowait(layout) {
                Object::filled(object.cast(), layout, 3).free(alloc);
            }
        },
        stops: 2,
    },
];

/// Where the thread is that stops: before its stop, in it, released from it, or at its end.
static WHERE: AtomicUsize = AtomicUsize::new(BEFORE);
const BEFORE: usize = 0;
const STOPPED: usize = 1;
const RELEASED: usize = 2;
const ENDED: usize = 3;

/// Runs `work` on a thread that stops at the calls, beside `meanwhile`. The thread stays: the C
/// library makes one of the calls at the end of a thread, with signals blocked.
fn beside(work: fn(), at_stop: impl Fn(usize) + Send + Sync + 'static, meanwhile: impl FnOnce()) {
    let stops = move || {
        if stop_at_calls(at_stop).is_err() {
            // SAFETY: ends the process of this test.
            unsafe { libc::_exit(NOT_PERMITTED) };
        }
        work();
        WHERE.store(ENDED, Ordering::Release);
    };
    thread::spawn(move || match catch_unwind(AssertUnwindSafe(stops)) {
        Ok(()) => loop {
            thread::park();
        },
        Err(_) => abort(),
    });
    meanwhile();
    while WHERE.load(Ordering::Acquire) != ENDED {
        thread::yield_now();
    }
}

/// Stops each first use at each of its calls, in a process of its own, and runs `at_stop` there,
/// beside `meanwhile`. In the last process it does not stop.
fn at_every_stop(
    claim: &str,
    at_stop: impl Fn(&Stopped) + Copy + Send + Sync + 'static,
    meanwhile: impl Fn(&Stopped),
) {
    for stopped in &EVERY {
        for number in 0..=MOST_STOPS {
            let work = || {
                (stopped.prepare)();
                let at = move |stop| {
                    if stop == number {
                        at_stop(stopped);
                    }
                };
                beside(stopped.work, at, || meanwhile(stopped));
                let stops = STOPS.load(Ordering::Relaxed);
                let least = if number == MOST_STOPS { stopped.stops } else { 1 };
                assert!((least..=MOST_STOPS).contains(&stops), "{stops} stops");
            };
            on_machine(claim, &format!("{}, stop {number}", stopped.name), || Ok(()), work);
        }
    }
}

/// Makes a first use while another thread has stopped in the middle of its own.
fn beside_every_stop(claim: &str, first_use: impl Fn(fn())) {
    let stay = |_: &Stopped| {
        WHERE.store(STOPPED, Ordering::Release);
        while WHERE.load(Ordering::Acquire) == STOPPED {
            thread::yield_now();
        }
    };
    at_every_stop(claim, stay, |stopped| {
        while WHERE.load(Ordering::Acquire) == BEFORE {
            thread::yield_now();
        }
        first_use(stopped.work);
        let order = Ordering::AcqRel;
        _ = WHERE.compare_exchange(STOPPED, RELEASED, order, Ordering::Relaxed);
    });
}

#[test]
#[cfg_attr(poison, ignore = "the calls of AddressSanitizer are stops too")]
fn a_first_use_in_a_signal_handler_does_not_wait_for_the_one_that_it_interrupts() {
    let claim = "a_first_use_in_a_signal_handler_does_not_wait_for_the_one_that_it_interrupts";
    at_every_stop(claim, |stopped| (stopped.in_handler)(), |_| ());
}

#[test]
#[cfg_attr(poison, ignore = "the calls of AddressSanitizer are stops too")]
fn a_first_use_does_not_wait_for_a_thread_in_the_middle_of_its_own() {
    let claim = "a_first_use_does_not_wait_for_a_thread_in_the_middle_of_its_own";
    beside_every_stop(claim, |first_use| first_use());
}

#[test]
#[cfg_attr(poison, ignore = "the calls of AddressSanitizer are stops too")]
fn a_child_makes_its_first_use_where_a_thread_has_vanished_in_the_middle_of_its_own() {
    let claim = "a_child_makes_its_first_use_where_a_thread_has_vanished_in_the_middle_of_its_own";
    beside_every_stop(claim, |first_use| assert_eq!(in_child(STUCK, first_use), 0));
}
