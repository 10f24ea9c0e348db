//! Allocators and domains on machines that refuse, hide or limit what they are built on, from
//! before the program starts: each claim starts this test again under such a limit.
#![cfg(all(target_os = "linux", target_env = "gnu", not(any(loom, miri))))]

mod common;
#[path = "common/machine.rs"]
mod machine;

use common::{
    Object, Setup, adds_up, behind, layout, run_on, short_lived_threads_leave_nothing_behind,
    stay_on_this_cpu,
};
use machine::{checked, on_machine, refuse};
use memalloc::backing::{Backing, Mapped};
use memalloc::rcu::BarrierKind;
use memalloc::{
    AfterRcuGp, AfterTasksTraceGp, CpuMode, FreeAfterRcuGp, Immediate, KERNEL_SIZES, MemAlloc,
    ReusePolicy,
};
use std::alloc::Layout;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::os::fd::FromRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::{fs, io, ptr, thread};

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

/// The kernel's list of the CPUs that are possible.
const POSSIBLE: &CStr = c"/sys/devices/system/cpu/possible";

/// Shows `text` as the list of the CPUs that are possible.
fn pretend_possible(text: &str) -> io::Result<()> {
    own_mounts()?;
    let file = format!("/tmp/memalloc-possible-{}", std::process::id());
    fs::write(&file, text)?;
    let from = CString::new(&*file)?;
    // SAFETY: all strings outlive the call.
    let mounted = checked(unsafe {
        libc::mount(from.as_ptr(), POSSIBLE.as_ptr(), ptr::null(), libc::MS_BIND, ptr::null())
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

#[test]
fn system_calls_that_are_refused_from_the_start_are_not_needed() {
    let claim = "system_calls_that_are_refused_from_the_start_are_not_needed";
    for error in [libc::EPERM, libc::ENOSYS] {
        let name = |call: &str| format!("{call} refused with {error}");
        let barrier_refused = || {
            assert!(!CpuMode::Rseq.is_supported() && !BarrierKind::Membarrier.is_supported());
            use_every_setup();
        };
        let no_barrier = move || refuse(&[libc::SYS_membarrier], error, 0);
        on_machine(claim, &name("membarrier"), no_barrier, barrier_refused);
        let no_sequences = move || refuse(&[libc::SYS_rseq], error, 0);
        on_machine(claim, &name("rseq"), no_sequences, || {
            assert!(!CpuMode::Rseq.is_supported());
            use_every_setup();
        });
        let neither = move || refuse(&[libc::SYS_membarrier, libc::SYS_rseq], error, 0);
        on_machine(claim, &name("both"), neither, barrier_refused);
    }
}

#[test]
#[cfg_attr(poison, ignore = "AddressSanitizer reserves terabytes of addresses")]
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
                let seen = fs::read_to_string(POSSIBLE.to_str().expect("ASCII")).expect("the list");
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

/// Counts how often a file is opened, by the system's own records.
struct Opens(File);

impl Opens {
    fn of(file: &CStr) -> io::Result<Self> {
        // SAFETY: the string outlives the calls, and the descriptor is owned from here on.
        unsafe {
            let queue = libc::inotify_init1(libc::IN_NONBLOCK);
            let opens = Self(File::from_raw_fd(queue));
            // Two events of one kind in a row would be one.
            let kinds = libc::IN_OPEN | libc::IN_CLOSE;
            let watch = libc::inotify_add_watch(queue, file.as_ptr(), kinds);
            if watch < 0 { Err(io::Error::last_os_error()) } else { Ok(opens) }
        }
    }

    /// Returns the number of times since the last call.
    fn count(&mut self) -> usize {
        const EVENT: usize = size_of::<libc::inotify_event>();
        let mut events = [0; 1000 * EVENT];
        let bytes = self.0.read(&mut events).unwrap_or(0);
        let mask = |event: &[u8]| u32::from_ne_bytes([event[4], event[5], event[6], event[7]]);
        events[..bytes].chunks(EVENT).filter(|event| mask(event) & libc::IN_OPEN != 0).count()
    }
}

#[test]
fn the_list_of_possible_cpus_is_read_once() {
    let claim = "the_list_of_possible_cpus_is_read_once";
    let prepare = || pretend_possible("0-1023");
    on_machine(claim, "a list that is watched", prepare, || {
        let mut opens = Opens::of(POSSIBLE).expect("the file can be watched");
        drop(fs::read(POSSIBLE.to_str().expect("ASCII")));
        assert_eq!(opens.count(), 1, "this test has read it");
        use_allocator::<Immediate>(&Setup::every()[0]);
        assert_eq!(opens.count(), 1, "by the first use");
        use_every_setup();
        assert_eq!(opens.count(), 0, "by later ones");
    });
}

/// Gets its memory from `Mapped`, and asks the system how much of it is there.
#[derive(Debug, Default)]
struct Observed {
    ranges: Mutex<Vec<(usize, usize)>>,
    /// The pages that were there when their ranges ended.
    ended: AtomicUsize,
}

/// Returns how many pages of a range are there: memory, or the page of zeros that the system maps
/// for a read of memory that was never written.
fn pages_of((start, bytes): (usize, usize)) -> usize {
    let mut pages = vec![0_u8; bytes.div_ceil(4096)];
    let start = ptr::with_exposed_provenance_mut(start);
    // SAFETY: there is a byte for each page of the range.
    checked(unsafe { libc::mincore(start, bytes, pages.as_mut_ptr()) }).expect("it is mapped");
    pages.iter().filter(|&page| page & 1 == 1).count()
}

impl Observed {
    fn pages(&self) -> usize {
        let ranges = self.ranges.lock().expect("no panic under this lock");
        self.ended.load(Ordering::Relaxed)
            + ranges.iter().map(|&range| pages_of(range)).sum::<usize>()
    }
}

// SAFETY: every promise is kept by `Mapped`; the rest does not unwind unless the test fails.
unsafe impl Backing for Observed {
    fn reserve(&self, layout: Layout) -> io::Result<NonNull<u8>> {
        let start = Mapped.reserve(layout)?;
        let mut ranges = self.ranges.lock().expect("no panic under this lock");
        ranges.push((start.expose_provenance().get(), layout.size()));
        Ok(start)
    }

    unsafe fn commit(&self, part: NonNull<[u8]>) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { Mapped.commit(part) }
    }

    unsafe fn release(&self, part: NonNull<[u8]>) -> bool {
        // SAFETY: the caller's promise.
        unsafe { Mapped.release(part) }
    }

    unsafe fn advise_small(&self, part: NonNull<[u8]>) {
        // SAFETY: the caller's promise.
        unsafe { Mapped.advise_small(part) };
    }

    unsafe fn unreserve(&self, start: NonNull<u8>, layout: Layout) {
        let range = (start.addr().get(), layout.size());
        self.ranges.lock().expect("no panic under this lock").retain(|&other| other != range);
        self.ended.fetch_add(pages_of(range), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { Mapped.unreserve(start, layout) };
    }
}

/// The calls that visit the caches of every CPU visit only those that were used: a machine that
/// could have a thousand CPUs has memory for those that it has.
#[test]
fn calls_that_visit_every_cpu_touch_only_those_that_were_used() {
    /// For batches and the like. One page of each of the other CPUs would be more.
    const BESIDE: usize = 32;
    fn check<P: ReusePolicy>(setup: &Setup) {
        let observed = &Arc::new(Observed::default());
        let builder = || setup.builder::<P>().backing(observed.clone()).range_bytes(16 << 20);
        let touches = |call: &str, most: usize, work: &mut dyn FnMut()| {
            let before = observed.pages();
            work();
            // A call may also give memory back.
            let more = observed.pages().saturating_sub(before);
            assert!(more <= most, "{call}, {setup:?}, {}: {more} pages", P::KIND);
        };
        let alloc = builder().build().expect("an allocator");
        for size in KERNEL_SIZES {
            Object::new(&alloc, layout(size, 1), 1).free(&alloc);
        }
        touches("stats", 0, &mut || adds_up(&alloc.stats(), 0));
        touches("tend", BESIDE, &mut || alloc.tend());
        touches("trim", BESIDE, &mut || _ = alloc.trim());
        touches("quiesce", BESIDE, &mut || _ = alloc.quiesce().expect("no section is open"));
        let mut alloc = Some(alloc);
        touches("destroy", BESIDE, &mut || {
            alloc.take().expect("it is there").destroy().expect("nothing leaked");
        });

        let alloc = builder().limit_bytes(64 << 10).build().expect("an allocator");
        let (small, large) = (layout(64, 1), layout(4096, 1));
        let held: Vec<_> = (0..16).map(|_| Object::new(&alloc, large, 1)).collect();
        for layout in [small, large] {
            touches("alloc", BESIDE, &mut || assert!(alloc.alloc(layout).is_err()));
            touches("alloc_nowait", BESIDE, &mut || assert!(alloc.alloc_nowait(layout).is_err()));
        }
        held.into_iter().for_each(|object| object.free(&alloc));
        let mut alloc = Some(alloc);
        touches("drop", BESIDE, &mut || drop(alloc.take()));
    }

    let claim = "calls_that_visit_every_cpu_touch_only_those_that_were_used";
    on_machine(
        claim,
        "1024 CPUs are possible",
        || pretend_possible("0-1023"),
        || {
            stay_on_this_cpu();
            for setup in &Setup::every() {
                check::<Immediate>(setup);
                check::<AfterRcuGp>(setup);
                check::<FreeAfterRcuGp>(setup);
                check::<AfterTasksTraceGp>(setup);
            }
        },
    );
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
