//! Starts a test again as a process of its own, on a machine that was limited before the program
//! began.

use std::ffi::c_int;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;
use std::{env, io};

/// Seconds after which the process under the limit counts as stuck.
const STUCK: u32 = 60;

/// Names the machine in the process that runs on it.
const MACHINE: &str = "MEMALLOC_TEST_MACHINE";

/// The exit code of a process that may not set its limit.
const NOT_PERMITTED: i32 = 77;

/// Turns the result of a system call into one with its error.
pub(crate) fn checked(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Starts the test named `claim` again after `prepare`, which runs between fork and exec. There it
/// runs `work`.
pub(crate) fn on_machine(
    claim: &str,
    machine: &str,
    prepare: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
    work: impl FnOnce(),
) {
    match env::var(MACHINE) {
        Ok(this) if this == machine => {
            // SAFETY: a plain system call; its signal ends this process.
            unsafe { libc::alarm(STUCK) };
            work();
            // SAFETY: ends the process before the claim goes on to its other machines.
            unsafe { libc::_exit(0) }
        }
        Ok(_) => return,
        Err(_) => (),
    }
    let mut prepare = prepare;
    let mut this = Command::new(env::current_exe().expect("this program"));
    this.args(["--exact", claim, "--nocapture"]).env(MACHINE, machine);
    // SAFETY: the parent's other threads hold no lock that `prepare` needs: it makes system calls,
    // and its few small allocations are repaired after a fork by the C library.
    unsafe {
        this.pre_exec(move || {
            if prepare().is_err() {
                libc::_exit(NOT_PERMITTED);
            }
            Ok(())
        });
    }
    let status = this.status().expect("a process");
    if status.code() == Some(NOT_PERMITTED) {
        eprintln!("not shown: this system does not permit \"{machine}\"");
        return;
    }
    assert!(status.success(), "{machine}: {status}, signal {:?}", status.signal());
}
