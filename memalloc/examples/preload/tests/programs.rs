//! A program that knows nothing of the library runs on it: this test, started a second time.
#![cfg(all(target_os = "linux", target_env = "gnu", not(loom)))]

use libc::c_void;
use memalloc::{CpuMode, PolicyKind};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc;
use std::{env, fs, ptr, thread};

/// Set in the process that runs on the library.
const INSIDE: &str = "PRELOAD_TEST_INSIDE";

/// Seconds after which that process counts as stuck.
const STUCK: u32 = 120;

/// Builds the library, and returns its path.
fn build() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is inside of another");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--package", "preload", "--target-dir"]);
    let built = cargo.arg(target).current_dir(env!("CARGO_MANIFEST_DIR")).status();
    assert!(built.expect("cargo runs").success());
    target.join("debug/libpreload.so")
}

/// Starts one test of this program again, on the library.
fn on_library(library: &Path, test: &str, settings: &[(&str, &str)]) -> Output {
    let mut this = Command::new(env::current_exe().expect("this program"));
    this.args(["--exact", test, "--nocapture"]).env(INSIDE, "1").env("LD_PRELOAD", library);
    this.envs(settings.iter().copied()).output().expect("a process")
}

/// A block, filled with a pattern of its own.
struct Block {
    start: *mut u8,
    size: usize,
    pattern: u8,
}

// SAFETY: the block is its owner's alone.
unsafe impl Send for Block {}

impl Block {
    fn filled(start: *mut c_void, size: usize, align: usize, pattern: u8) -> Self {
        let start: *mut u8 = start.cast();
        assert!(!start.is_null() && start.addr().is_multiple_of(align), "{start:?} {size} {align}");
        // SAFETY: the block was just allocated with this size.
        unsafe {
            assert!(libc::malloc_usable_size(start.cast()) >= size);
            start.write_bytes(pattern, size);
        }
        Self { start, size, pattern }
    }

    fn check(&self, bytes: usize) {
        // SAFETY: all of the block was written.
        let contents = unsafe { std::slice::from_raw_parts(self.start, bytes) };
        assert!(contents.iter().all(|&byte| byte == self.pattern), "{} bytes changed", self.size);
    }

    fn resize(mut self, size: usize) -> Self {
        // SAFETY: the block is this owner's, and its old address is not used again.
        self.start = unsafe { libc::realloc(self.start.cast(), size).cast() };
        self.check(self.size.min(size));
        Self::filled(self.start.cast(), size, 16, self.pattern.wrapping_add(1))
    }

    fn free(self) {
        self.check(self.size);
        // SAFETY: the block is this owner's, and consumed.
        unsafe { libc::free(self.start.cast()) }
    }
}

/// Sizes on both sides of every limit.
const SIZES: [usize; 12] = [0, 1, 16, 17, 100, 1000, 2048, 4000, 4096, 4097, 70_000, 140_000];

/// Allocates a block of each size in each way.
fn allocate_in_every_way(round: usize) -> Vec<Block> {
    let mut blocks = Vec::new();
    for (number, size) in SIZES.into_iter().enumerate() {
        let pattern = (round * 31 + number) as u8;
        // SAFETY: the functions may be called with these numbers; `place` can be written; the
        // bytes that are read were zeroed.
        unsafe {
            blocks.push(Block::filled(libc::malloc(size), size, 16, pattern));
            let zeroed: *mut u8 = libc::calloc(size.div_ceil(3), 3).cast();
            assert!((0..size).all(|at| zeroed.add(at).read() == 0), "{size} bytes not all zero");
            blocks.push(Block::filled(zeroed.cast(), size, 16, pattern));
            for align in [8, 64, 512, 4096, 65_536] {
                let mut place = ptr::null_mut();
                assert_eq!(libc::posix_memalign(&raw mut place, align, size), 0);
                blocks.push(Block::filled(place, size, align, pattern));
                blocks.push(Block::filled(libc::memalign(align, size), size, align, pattern));
                let block = libc::aligned_alloc(align, size);
                blocks.push(Block::filled(block, size, align, pattern));
            }
        }
    }
    blocks
}

/// Allocates, resizes and frees. Half of the blocks are freed by the thread behind `other`.
fn work(rounds: usize, other: &mpsc::Sender<Vec<Block>>) {
    for round in 0..rounds {
        let mut blocks = allocate_in_every_way(round);
        let mut half = blocks.split_off(blocks.len() / 2);
        half.extend(blocks.split_off(blocks.len() / 2).into_iter().enumerate().map(
            |(number, block)| {
                let size = SIZES[(number + round) % SIZES.len()].max(1);
                block.resize(size)
            },
        ));
        blocks.into_iter().for_each(Block::free);
        other.send(half).expect("the thread receives");
    }
}

/// Threads that allocate, free what others allocated and end, and forks while they do.
fn use_malloc() {
    // SAFETY: the symbol is resolved as for every caller; a size of 2049 fits a fine class, but
    // glibc would return a few bytes more only.
    let usable = unsafe {
        let block = black_box(libc::malloc(2049));
        let usable = libc::malloc_usable_size(block);
        libc::free(block);
        usable
    };
    assert_eq!(usable, 2304, "the library serves this program");
    // SAFETY: `posix_memalign` checks the number; the products overflow, and nothing is allocated.
    unsafe {
        let mut place = ptr::null_mut();
        assert_eq!(libc::posix_memalign(&raw mut place, 24, 100), libc::EINVAL);
        // The compiler removes an allocation whose result is unused.
        assert!(black_box(libc::calloc(black_box(usize::MAX / 2), 3)).is_null());
        assert!(libc::realloc(black_box(libc::malloc(10)), 0).is_null());
        libc::free(ptr::null_mut());
    }
    let (send, receive) = mpsc::channel::<Vec<Block>>();
    thread::scope(|scope| {
        scope.spawn(move || receive.into_iter().flatten().for_each(Block::free));
        for _ in 0..3 {
            let send = send.clone();
            scope.spawn(move || work(5, &send));
        }
        for round in 0..8 {
            // SAFETY: the child allocates, frees and exits.
            let child = unsafe { libc::fork() };
            if child == 0 {
                let done = std::panic::catch_unwind(|| {
                    allocate_in_every_way(round).into_iter().for_each(Block::free);
                });
                // SAFETY: ends the child without running any code of the parent.
                unsafe { libc::_exit(i32::from(done.is_err())) }
            }
            let mut status = 0;
            // SAFETY: `status` can be written.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0, "the child of fork {round}");
            let send = send.clone();
            scope.spawn(move || work(1, &send)).join().expect("a short thread");
        }
        drop(send);
    });
}

#[test]
fn a_program_runs_on_the_library_under_every_policy_and_cpu_mode() {
    if env::var_os(INSIDE).is_some() {
        // SAFETY: a plain system call; its signal ends this process.
        unsafe { libc::alarm(STUCK) };
        return use_malloc();
    }
    let library = build();
    for policy in PolicyKind::ALL.iter().map(PolicyKind::to_string) {
        for mode in CpuMode::ALL.iter().filter(|mode| mode.is_supported()) {
            let mode = mode.to_string();
            let report = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reported");
            _ = fs::remove_file(&report);
            let settings = [
                ("MEMALLOC_POLICY", &*policy),
                ("MEMALLOC_CPU_MODE", &*mode),
                ("MEMALLOC_REPORT", report.to_str().expect("UTF-8")),
            ];
            let test = "a_program_runs_on_the_library_under_every_policy_and_cpu_mode";
            let output = on_library(&library, test, &settings);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{policy}, {mode}: {}\n{errors}", output.status);
            let report = fs::read_to_string(&report).expect("a report");
            let rest = format!(" {policy} {mode}");
            let slabs = report.lines().find_map(|line| line.strip_suffix(&rest));
            assert!(
                slabs.is_some_and(|slabs| slabs.parse::<u32>().is_ok_and(|slabs| slabs > 10)),
                "{report}"
            );
        }
    }
}

#[test]
fn a_setting_that_means_nothing_ends_the_program_with_an_error() {
    let library = build();
    for name in ["MEMALLOC_POLICY", "MEMALLOC_CPU_MODE"] {
        let output = on_library(&library, "none", &[(name, "none")]);
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.starts_with("libpreload.so: ") && error.contains("allowed are"), "{error}");
    }
}
