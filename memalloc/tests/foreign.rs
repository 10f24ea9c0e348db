//! Allocators and domains on machines that refuse, hide or limit what they are built on, from
//! before the program starts: each claim starts this test again under such a limit.
#![cfg(all(target_os = "linux", target_env = "gnu", not(any(loom, miri))))]

mod common;

use common::{
    Object, Setup, adds_up, behind, layout, run_on, short_lived_threads_leave_nothing_behind,
};
use memalloc::rcu::BarrierKind;
use memalloc::{
    AfterRcuGp, AfterTasksTraceGp, CpuMode, FreeAfterRcuGp, Immediate, MemAlloc, ReusePolicy,
};
use std::ffi::{CStr, CString, c_int};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;
use std::{env, fs, io, ptr, thread};

/// Seconds after which the process under the limit counts as stuck.
const STUCK: u32 = 60;

/// Names the machine in the process that runs on it.
const MACHINE: &str = "MEMALLOC_TEST_MACHINE";

/// The exit code of a process that may not set its limit.
const NOT_PERMITTED: i32 = 77;

/// Turns the result of a system call into one with its error.
fn checked(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes these system calls fail with `error`, in this process and the programs that it starts.
fn refuse(calls: &[libc::c_long], error: c_int) -> io::Result<()> {
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
        checked(libc::syscall(libc::SYS_seccomp, mode, 0, &raw const filter) as c_int)
    }
}

/// Limits a resource of this process and the programs that it starts.
fn limit(resource: libc::__rlimit_resource_t, bytes: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: the limit outlives the call.
    checked(unsafe { libc::setrlimit(resource, &raw const limit) })
}

/// Gives this process and the programs that it starts their own view of the file system.
fn own_mounts() -> io::Result<()> {
    let (none, root) = (c"none".as_ptr(), c"/".as_ptr());
    // SAFETY: all strings outlive the calls.
    unsafe {
        checked(libc::unshare(libc::CLONE_NEWNS))?;
        let private = libc::MS_REC | libc::MS_PRIVATE;
        checked(libc::mount(none, root, ptr::null(), private, ptr::null()))
    }
}

/// Hides a directory behind an empty one.
fn hide(directory: &CStr) -> io::Result<()> {
    let kind = c"tmpfs".as_ptr();
    // SAFETY: all strings outlive the call.
    checked(unsafe { libc::mount(kind, directory.as_ptr(), kind, 0, ptr::null()) })
}

/// Shows `text` as the list of the CPUs that are possible.
fn pretend_possible(text: &str) -> io::Result<()> {
    own_mounts()?;
    let file = format!("/tmp/memalloc-possible-{}", std::process::id());
    fs::write(&file, text)?;
    let (from, to) = (CString::new(&*file)?, c"/sys/devices/system/cpu/possible");
    // SAFETY: all strings outlive the call.
    let mounted = checked(unsafe {
        libc::mount(from.as_ptr(), to.as_ptr(), ptr::null(), libc::MS_BIND, ptr::null())
    });
    fs::remove_file(&file)?;
    mounted
}

/// Runs this process, and the programs that it starts, before all others.
fn real_time() -> io::Result<()> {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameters outlive the call.
    checked(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) })
}

/// Allocates, frees and reads on two CPUs and behind a reader, and accounts for every object.
fn use_allocator<P: ReusePolicy>(setup: &Setup) {
    let alloc = setup.allocator::<P>();
    let work = |cpu: usize| {
        run_on(Some(cpu));
        for round in 0..100 {
            let size = [16, 64, 1000, 4096][round % 4];
            let held: Vec<_> =
                (0..20).map(|n| Object::new(&alloc, layout(size, 16), n as u8)).collect();
            let guard = alloc.domain().pin();
            held.into_iter().for_each(|object| object.free(&alloc));
            drop(guard);
            Object::new(&alloc, layout(size, 16), 1).free_rcu(&alloc);
        }
    };
    thread::scope(|scope| {
        for cpu in [0, 1, 0, 1] {
            scope.spawn(move || work(cpu));
        }
    });
    run_on(None);
    behind(
        || alloc.domain().pin(),
        || {
            let limit = std::time::Duration::from_millis(1);
            let ended = alloc.domain().rcu().synchronize_timeout(limit);
            assert!(ended.is_err(), "{setup:?}: a reader is inside");
        },
    );
    alloc.domain().rcu().synchronize().expect("no section is open");
    alloc.domain().trace().synchronize().expect("no section is open");
    adds_up(&alloc.stats(), 0);
    alloc.destroy().unwrap_or_else(|leak| panic!("{setup:?}: {leak}"));
}

fn use_every_setup() {
    for setup in &Setup::every() {
        use_allocator::<Immediate>(setup);
        use_allocator::<AfterRcuGp>(setup);
        use_allocator::<FreeAfterRcuGp>(setup);
        use_allocator::<AfterTasksTraceGp>(setup);
    }
}

/// Starts the test named `claim` again after `prepare`, which runs between fork and exec. There it
/// runs `work`.
fn on_machine(
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

#[test]
fn system_calls_that_are_refused_from_the_start_are_not_needed() {
    let claim = "system_calls_that_are_refused_from_the_start_are_not_needed";
    for error in [libc::EPERM, libc::ENOSYS] {
        let name = |call: &str| format!("{call} refused with {error}");
        let barrier_refused = || {
            assert!(!CpuMode::Rseq.is_supported() && !BarrierKind::Membarrier.is_supported());
            use_every_setup();
        };
        let no_barrier = move || refuse(&[libc::SYS_membarrier], error);
        on_machine(claim, &name("membarrier"), no_barrier, barrier_refused);
        let no_sequences = move || refuse(&[libc::SYS_rseq], error);
        on_machine(claim, &name("rseq"), no_sequences, || {
            assert!(!CpuMode::Rseq.is_supported());
            use_every_setup();
        });
        let neither = move || refuse(&[libc::SYS_membarrier, libc::SYS_rseq], error);
        on_machine(claim, &name("both"), neither, barrier_refused);
    }
}

#[test]
fn limits_on_memory_leave_room_for_every_setup() {
    let claim = "limits_on_memory_leave_room_for_every_setup";
    let addresses = || limit(libc::RLIMIT_AS, 512 << 20);
    on_machine(claim, "512 MiB of addresses", addresses, use_every_setup);
    let data = || limit(libc::RLIMIT_DATA, 256 << 20);
    on_machine(claim, "256 MiB of data", data, use_every_setup);
    on_machine(
        claim,
        "locked memory",
        || Ok(()),
        || {
            // SAFETY: a plain system call, which may be refused.
            if unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) } == 0 {
                use_every_setup();
            }
        },
    );
}

#[test]
fn a_real_time_thread_does_not_wait_for_one_that_cannot_run() {
    let claim = "a_real_time_thread_does_not_wait_for_one_that_cannot_run";
    on_machine(claim, "SCHED_FIFO", real_time, use_every_setup);
    let on_one_cpu = || {
        run_on(Some(0));
        real_time()
    };
    on_machine(claim, "SCHED_FIFO on one CPU", on_one_cpu, use_every_setup);
}

#[test]
fn proc_and_sys_are_not_needed() {
    let claim = "proc_and_sys_are_not_needed";
    let hidden = || {
        own_mounts()?;
        hide(c"/proc")?;
        hide(c"/sys")
    };
    on_machine(claim, "no /proc and /sys", hidden, || {
        assert!(!fs::exists("/proc/self").unwrap() && !fs::exists("/sys/devices").unwrap());
        use_every_setup();
    });
}

/// A list that the kernel contradicts is not believed, nor what the C library reads from it.
#[test]
fn any_list_of_possible_cpus_serves() {
    let claim = "any_list_of_possible_cpus_serves";
    for list in ["0", "0-1", "0-63", "0-1023", "0-99999", "none"] {
        on_machine(
            claim,
            list,
            move || pretend_possible(list),
            || {
                let seen =
                    fs::read_to_string("/sys/devices/system/cpu/possible").expect("the list");
                assert_eq!(seen, list);
                let alloc = MemAlloc::<Immediate>::with_policy().expect("an allocator");
                Object::new(&alloc, layout(16, 16), 1).free(&alloc);
                let (tables, least_for_a_cpu) = (alloc.stats().table_bytes, 1 << 10);
                assert!(
                    tables < 50_000 * least_for_a_cpu,
                    "{tables} bytes: caches for all of {list}"
                );
                drop(alloc);
                use_every_setup();
            },
        );
    }
}

/// In the mode that assigns caches to threads in turn, each of many threads uses a different one of
/// the 1024 caches.
#[test]
fn thousands_of_short_lived_threads_leave_nothing_behind_in_a_thousand_caches() {
    let claim = "thousands_of_short_lived_threads_leave_nothing_behind_in_a_thousand_caches";
    let prepare = || pretend_possible("0-1023");
    on_machine(claim, "1024 CPUs are possible", prepare, || {
        for setup in &Setup::every() {
            short_lived_threads_leave_nothing_behind::<Immediate>(setup);
            short_lived_threads_leave_nothing_behind::<AfterRcuGp>(setup);
            short_lived_threads_leave_nothing_behind::<FreeAfterRcuGp>(setup);
            short_lived_threads_leave_nothing_behind::<AfterTasksTraceGp>(setup);
        }
    });
}
