//! Forks beside busy threads. The child continues to use their allocator and domain.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::sync::Mutex;
use std::time::Duration;

use memalloc::ReusePolicy;
use memalloc::rcu::Domain;

use super::objects::Objects;
use super::verdict::{Count, Wrong};

/// The number of seconds after which a child is killed as stuck.
const STUCK_SECONDS: u32 = 15;

/// The time limit of a grace period in the child. The child has no other thread, so it need not
/// wait.
const GRACE_PERIOD_LIMIT: Duration = Duration::from_millis(250);

/// The owner of the child's objects.
const CHILD: u64 = 1 << 33;

/// Held during a fork: one child exists at a time.
static FORKING: Mutex<()> = Mutex::new(());

/// Forks, unless another thread is forking, and reports an error if the child fails.
pub(super) fn fork<P: ReusePolicy>(objects: &Objects<'_, P>, domain: &Domain) {
    let Ok(_alone) = FORKING.try_lock() else { return };
    // SAFETY: the child calls only functions that the libraries permit after a fork, and exits
    // without running any of the parent's code.
    let child = unsafe { libc::fork() };
    match child {
        // The system cannot create a process.
        -1 => {}
        0 => {
            // SAFETY: both functions take only numbers; the second ends the process.
            unsafe {
                libc::alarm(STUCK_SECONDS);
                libc::_exit(run_child(objects, domain))
            }
        }
        _ => {
            let mut status = 0;
            // SAFETY: `status` is valid for writes.
            while unsafe { libc::waitpid(child, &raw mut status, 0) } == -1
                && std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted
            {
            }
            if status != 0 {
                let failed_in = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 0 };
                let details = [u64::from(status as u32), failed_in as u64, 0];
                objects.verdict().report(Wrong::ChildFailed, details);
            }
            objects.verdict().count(Count::Forks, 1);
        }
    }
}

/// Runs the child. Returns its exit status: 0, or the number of the step that failed, as
/// [`Wrong::ChildFailed`] reports it.
fn run_child<P: ReusePolicy>(objects: &Objects<'_, P>, domain: &Domain) -> libc::c_int {
    let was_clean = objects.verdict().is_clean();
    let step = Cell::new(1);
    let work = || {
        if domain.rcu().synchronize_timeout(GRACE_PERIOD_LIMIT).is_err() {
            return false;
        }
        step.set(2);
        if !objects.use_in_child(CHILD) {
            return false;
        }
        step.set(3);
        drop((domain.pin(), domain.local().pin()));
        step.set(4);
        domain.rcu().synchronize_timeout(GRACE_PERIOD_LIMIT).is_ok()
    };
    let succeeded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(false);
    let is_well = succeeded && objects.verdict().is_clean() == was_clean;
    if is_well { 0 } else { step.get() }
}
