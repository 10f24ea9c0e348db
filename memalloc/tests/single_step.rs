//! One instruction at a time: a debugger that steps through allocations gets to their end, and a
//! signal may come between any two instructions of a section.
#![cfg(all(target_os = "linux", not(loom)))]

mod common;

use common::{Object, in_every_setup, layout};
use memalloc::rcu::Domain;
use std::ffi::c_int;
use std::ptr::null_mut;
use std::sync::OnceLock;

/// The most instructions in which the child has to end. It needs about a hundredth of it.
const MOST_STEPS: u32 = 2_000_000;

/// Waits for the child to stop or end, and returns its status.
fn wait(child: libc::pid_t) -> c_int {
    let mut status = 0;
    // SAFETY: the status has room for the answer.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child, "{}", std::io::Error::last_os_error());
    status
}

/// Runs `work` in a child, one instruction at a time. `None` where the system does not let a
/// process step through its child.
fn step_through(work: impl FnOnce()) -> Option<c_int> {
    let (child, mut status) = stopped_before(work)?;
    for _ in 0..MOST_STEPS {
        if !libc::WIFSTOPPED(status) {
            return Some(status);
        }
        status = resume(child, libc::PTRACE_SINGLESTEP, 0);
    }
    // SAFETY: the child is this process's own.
    unsafe { libc::kill(child, libc::SIGKILL) };
    wait(child);
    panic!("the child did not end within {MOST_STEPS} steps");
}

/// Lets a stopped child continue, with a signal unless that is 0, and waits for it.
fn resume(child: libc::pid_t, how: libc::c_uint, signal: c_int) -> c_int {
    // SAFETY: the child is stopped, and this thread traces it.
    unsafe { libc::ptrace(how, child, null_mut::<u8>(), signal as libc::c_long) };
    wait(child)
}

/// Starts a child that stops before `work`. `None` where the system does not let a process step
/// through its child.
fn stopped_before(work: impl FnOnce()) -> Option<(libc::pid_t, c_int)> {
    // SAFETY: the child calls `work`, which allocates by this crate only, and ends without
    // running anything else of the parent's.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: plain system calls.
        unsafe {
            if libc::ptrace(libc::PTRACE_TRACEME, 0, null_mut::<u8>(), null_mut::<u8>()) != 0 {
                libc::_exit(9);
            }
            libc::raise(libc::SIGSTOP);
            work();
            libc::_exit(0);
        }
    }
    let status = wait(child);
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 9 {
        return None;
    }
    Some((child, status))
}

in_every_setup! {
    fn allocations_that_a_debugger_steps_through_come_to_an_end<P>(setup) {
        let alloc = setup.allocator::<P>();
        let layout = layout(64, 8);
        Object::new(&alloc, layout, 1).free(&alloc);
        let status = step_through(|| {
            Object::new(&alloc, layout, 2).free(&alloc);
            Object::new(&alloc, layout, 3).free_rcu(&alloc);
        });
        if let Some(status) = status {
            assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status:#x}");
        }
    }
}

/// The domain of the handler.
static OTHER: OnceLock<Domain> = OnceLock::new();

extern "C" fn pins_other(_signal: c_int) {
    if let Some(other) = OTHER.get() {
        let guard = other.pin();
        assert!(guard.is_of(other));
    }
}

/// A thread has one slot in each domain. A handler that uses another domain than the thread, at
/// whatever instruction, does not make the thread announce its section in the wrong one.
#[test]
fn a_section_is_of_its_own_domain_wherever_a_handler_pins_another() {
    let own = Domain::new();
    let other = OTHER.get_or_init(Domain::new);
    own.register();
    other.register();
    // SAFETY: the structure is plain numbers for which zero is valid; the handler only pins.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = pins_other as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR2, &raw const action, null_mut()), 0);
    }
    for last in [&own, other] {
        last.register();
        for steps in 0.. {
            let child = stopped_before(|| {
                let guard = own.pin();
                let is_own = guard.is_of(&own);
                drop(guard);
                // SAFETY: a plain system call.
                unsafe { libc::_exit(if is_own { 0 } else { 1 }) };
            });
            let Some((child, mut status)) = child else { return };
            (0..steps).for_each(|_| {
                if libc::WIFSTOPPED(status) {
                    status = resume(child, libc::PTRACE_SINGLESTEP, 0);
                }
            });
            let ended = !libc::WIFSTOPPED(status);
            let mut signal = libc::SIGUSR2;
            while libc::WIFSTOPPED(status) {
                status = resume(child, libc::PTRACE_CONT, signal);
                signal = 0;
            }
            assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{steps} steps");
            if ended {
                break;
            }
        }
    }
}
