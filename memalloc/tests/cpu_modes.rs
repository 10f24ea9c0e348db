//! The CPU mode of an allocator on machines that are not like this one, and the reason for it. Each
//! is a process of its own, because a process finds out once.
#![cfg(all(target_os = "linux", not(loom), not(miri)))]

mod common;

use common::{adds_up, claim, cpus, disclaim, layout, run_on};
use memalloc::{CpuMode, CpuModeReason, Immediate, MemAlloc};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, fs, io, ptr, thread};

/// Set to what the test has prepared in a process that it has started.
const MACHINE: &str = "MEMALLOC_TEST_MACHINE";

/// The command that runs one test of this file on the machine `name`.
fn this_test_on(name: &str, test: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--exact", test, "--nocapture"]).env(MACHINE, name);
    command.env_remove("MEMALLOC_CPU_MODE");
    command
}

/// Returns the mode of an allocator that does not ask for one, and the reason.
fn chosen() -> (CpuMode, CpuModeReason) {
    let stats = MemAlloc::new().expect("an allocator").stats();
    let text = stats.to_string();
    let shown = format!("CPU mode {} ({}),", stats.cpu_mode, stats.cpu_mode_reason);
    assert!(text.contains(&shown), "{text}");
    (stats.cpu_mode, stats.cpu_mode_reason)
}

#[test]
fn the_statistics_say_why_an_allocator_has_its_cpu_mode() {
    use CpuModeReason::{Environment, Fastest, NoRseqArea, Requested};
    let asked = |mode| MemAlloc::<Immediate>::builder().cpu_mode(mode).build();
    for mode in CpuMode::ALL.iter().filter(|mode| mode.is_supported()) {
        assert_eq!(asked(*mode).expect("supported").stats().cpu_mode_reason, Requested);
    }
    match env::var(MACHINE).as_deref() {
        Ok("unregistered") => return assert_eq!(chosen(), (CpuMode::ActiveCpu, NoRseqArea)),
        Ok(_) => return assert_eq!(chosen(), (CpuMode::ActiveThread, Environment)),
        Err(_) => (),
    }
    let test = "the_statistics_say_why_an_allocator_has_its_cpu_mode";
    let mut asks = this_test_on("asks", test);
    assert!(asks.env("MEMALLOC_CPU_MODE", "active-thread").status().expect("runs").success());
    if CpuMode::Rseq.is_supported() && env::var_os("MEMALLOC_CPU_MODE").is_none() {
        assert_eq!(chosen(), (CpuMode::Rseq, Fastest));
        let mut unregistered = this_test_on("unregistered", test);
        unregistered.env("GLIBC_TUNABLES", "glibc.pthread.rseq=0");
        assert!(unregistered.status().expect("runs").success());
    }
}

/// The kernel's list of possible CPUs.
const POSSIBLE: &CStr = c"/sys/devices/system/cpu/possible";

/// In a new process: shows it `list` in place of [`POSSIBLE`].
fn hide_cpus(list: &CStr) -> io::Result<()> {
    let check = |result: libc::c_int| match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: all names end in NUL, and null stands for a value that is not used.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNS) != 0 {
            check(libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS))?;
        }
        let (none, flags) = (ptr::null(), libc::MS_REC | libc::MS_PRIVATE);
        check(libc::mount(none, c"/".as_ptr(), ptr::null(), flags, ptr::null()))?;
        check(libc::mount(
            list.as_ptr(),
            POSSIBLE.as_ptr(),
            ptr::null(),
            libc::MS_BIND,
            ptr::null(),
        ))
    }
}

/// A container may tell one CPU while its threads run on several. Each of these has a cache of its
/// own there, too, and the sequences work on it.
#[test]
fn a_container_that_hides_cpus_does_not_slow_the_caches_down() {
    let test = "a_container_that_hides_cpus_does_not_slow_the_caches_down";
    if env::var_os(MACHINE).is_some() {
        assert_eq!(fs::read_to_string("/sys/devices/system/cpu/possible").unwrap().trim(), "0");
        assert_eq!(chosen(), (CpuMode::Rseq, CpuModeReason::Fastest));
        return every_cpu_has_a_cache_of_its_own();
    }
    if cpus() < 2 || !CpuMode::Rseq.is_supported() {
        return;
    }
    let list = env::temp_dir().join(format!("memalloc-cpus-{}", std::process::id()));
    fs::write(&list, "0\n").expect("a temporary file");
    let mut hidden = this_test_on("hidden", test);
    let name = CString::new(list.as_os_str().as_bytes()).expect("no NUL");
    // SAFETY: the closure makes system calls only.
    unsafe { hidden.pre_exec(move || hide_cpus(&name)) };
    // An error: the system does not let this process change what another one sees.
    let status = hidden.status();
    fs::remove_file(&list).expect("the file is there");
    assert!(status.is_err() || status.is_ok_and(|status| status.success()));
}

fn every_cpu_has_a_cache_of_its_own() {
    let alloc = &MemAlloc::<Immediate>::with_policy().expect("an allocator");
    let (layout, owners) = (layout(64, 8), AtomicU64::new(1));
    let work = |cpu| {
        run_on(Some(cpu));
        let own = owners.fetch_add(1, Ordering::Relaxed);
        for _ in 0..20_000 {
            let object = alloc.alloc(layout).expect("memory").cast();
            claim(object, own);
            disclaim(object, own);
            // SAFETY: allocated with this layout, and given up here.
            unsafe { alloc.free(object, layout) };
        }
    };
    thread::scope(|scope| (0..4).for_each(|n| _ = scope.spawn(move || work(n % 2))));
    adds_up(&alloc.stats(), 0);
    // One thread after the other, on two CPUs: the second does not find the first one's object.
    let last_of = |cpu| {
        run_on(Some(cpu));
        let object = alloc.alloc(layout).expect("memory").cast::<u8>();
        // SAFETY: as above.
        unsafe { alloc.free(object, layout) };
        object
    };
    assert_ne!(last_of(0), last_of(1));
    assert_eq!(last_of(1), last_of(1));
}
