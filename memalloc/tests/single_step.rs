//! A debugger that steps through allocations gets to their end.
#![cfg(all(target_os = "linux", not(loom)))]

mod common;

use common::{Object, in_every_setup, layout};
use std::ffi::c_int;
use std::ptr::null_mut;

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
    let mut status = wait(child);
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 9 {
        return None;
    }
    for _ in 0..MOST_STEPS {
        if !libc::WIFSTOPPED(status) {
            return Some(status);
        }
        // SAFETY: the child is stopped, and this thread traces it.
        unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, child, null_mut::<u8>(), null_mut::<u8>()) };
        status = wait(child);
    }
    // SAFETY: the child is this process's own.
    unsafe { libc::kill(child, libc::SIGKILL) };
    wait(child);
    panic!("the child did not end within {MOST_STEPS} steps");
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
