//! Starts a test again as a process of its own, on a machine that was limited before the program
//! began.

#![allow(dead_code, reason = "each test file uses its part")]

use std::ffi::{c_int, c_long, c_ulong};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;
use std::{env, io};

/// Seconds after which the process under the limit counts as stuck.
const STUCK: u32 = 60;

/// Names the machine in the process that runs on it.
const MACHINE: &str = "MEMALLOC_TEST_MACHINE";

/// The exit code of a process that may not set its limit.
pub(crate) const NOT_PERMITTED: i32 = 77;

/// Turns the result of a system call into one with its error.
pub(crate) fn checked(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes these system calls fail with `error`, for good: in this thread, the threads and programs
/// that it starts, and those that the `flags` of the filter add.
pub(crate) fn refuse(calls: &[c_long], error: c_int, flags: c_ulong) -> io::Result<()> {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let number_at = 0;
    let answer = libc::SECCOMP_RET_ERRNO | error as u32;
    let mut program = [statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW); 6];
    program[0] = statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, number_at);
    assert!(calls.len() <= 2, "there is room for two");
    for (place, &call) in program[1..].chunks_mut(2).zip(calls) {
        let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        place[0] = libc::sock_filter { code, jt: 0, jf: 1, k: call as u32 };
        place[1] = statement(libc::BPF_RET | libc::BPF_K, answer);
    }
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program outlives the call, which copies it.
    unsafe {
        checked(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        let mode = libc::SECCOMP_SET_MODE_FILTER;
        checked(libc::syscall(libc::SYS_seccomp, mode, flags, &raw const filter) as c_int)
    }
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
