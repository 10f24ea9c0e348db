//! Forks beside busy threads: the child goes on with the allocator and the domain that they use.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::sync::Mutex;
use std::time::Duration;

use memalloc::ReusePolicy;
use memalloc::rcu::Domain;

use super::objects::Objects;
use super::verdict::{Count, Wrong};

/// After so many seconds a child is stuck.
const STUCK_SECONDS: u32 = 15;

/// The longest that a child waits for a grace period. It has no other thread to wait for, so it does not.
const WAITS: Duration = Duration::from_millis(250);

/// The owner of the child's objects.
const CHILD: u64 = 1 << 33;

/// One at a time: two children that end need two parents that wait.
static FORKING: Mutex<()> = Mutex::new(());

/// Forks, unless another thread does, and complains if the child could not go on.
pub(super) fn fork<P: ReusePolicy>(objects: &Objects<'_, P>, domain: &Domain) {
    let Ok(_alone) = FORKING.try_lock() else { return };
    // SAFETY: the child calls what the libraries say may be called there, and ends without running
    // anything of the parent's.
    let child = unsafe { libc::fork() };
    match child {
        // The system has no room for a child.
        -1 => {}
        0 => {
            // SAFETY: both take numbers only, and end the process.
            unsafe {
                libc::alarm(STUCK_SECONDS);
                libc::_exit(go_on(objects, domain))
            }
        }
        _ => {
            let mut status = 0;
            // SAFETY: `status` is a place for the answer.
            while unsafe { libc::waitpid(child, &raw mut status, 0) } == -1
                && std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted
            {
            }
            if status != 0 {
                let failed_in = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 0 };
                let details = [u64::from(status as u32), failed_in as u64, 0];
                objects.verdict().complain(Wrong::ChildFailed, details);
            }
            objects.verdict().count(Count::Forks, 1);
        }
    }
}

/// The life of the child: 0, or the number of the step in which it could not go on, whose name
/// [`Wrong::ChildFailed`] knows.
fn go_on<P: ReusePolicy>(objects: &Objects<'_, P>, domain: &Domain) -> libc::c_int {
    let was_clean = objects.verdict().is_clean();
    let step = Cell::new(1);
    let work = || {
        if domain.rcu().synchronize_timeout(WAITS).is_err() {
            return false;
        }
        step.set(2);
        if !objects.live_on(CHILD) {
            return false;
        }
        step.set(3);
        drop((domain.pin(), domain.local().pin()));
        step.set(4);
        domain.rcu().synchronize_timeout(WAITS).is_ok()
    };
    let went = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(false);
    let is_well = went && objects.verdict().is_clean() == was_clean;
    if is_well { 0 } else { step.get() }
}
