//! Thousands of allocators in one process, and processes with limited address space: an allocator
//! costs almost nothing until it is used, and takes addresses as it needs them.
#![cfg(all(target_os = "linux", target_pointer_width = "64", not(loom)))]

mod common;

use common::{in_child, layout};
use memalloc::{AfterRcuGp, AllocErrorKind, Cache, Immediate, MemAlloc, ReusePolicy};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The number of allocators of each kind that live at once.
const MANY: usize = 10_000;

/// The number of seconds after which a child is killed.
const SECONDS: u32 = 120;

/// Returns a value of this process's status, in bytes.
fn status_of(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("so does this");
    let kib: u64 = line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().expect("a number");
    kib * KIB
}

/// Returns the bytes that the system counts against its memory if it does not overcommit: private
/// memory of this process that can be written, touched or not.
fn writable_bytes() -> u64 {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux has it");
    let private = maps.lines().filter(|line| line.split(' ').nth(1) == Some("rw-p"));
    let ends = private.filter_map(|line| line.split(' ').next()?.split_once('-'));
    let number = |digits| u64::from_str_radix(digits, 16).expect("an address");
    ends.map(|(start, end)| number(end) - number(start)).sum()
}

/// Builds [`MANY`] values, and checks the cost of each.
fn build_many<T>(mut build: impl FnMut() -> T) -> Vec<T> {
    drop(build());
    let mut all = Vec::with_capacity(MANY);
    let (before, begun) = (status_of("RssAnon"), Instant::now());
    all.extend((0..MANY).map(|_| build()));
    let took = begun.elapsed() / MANY as u32;
    let each = (status_of("RssAnon") - before) / MANY as u64;
    println!("{each} bytes and {took:?} each");
    assert!(each < 8 * KIB, "{each} bytes each");
    // Thirty times the usual time, since other processes may run.
    assert!(took < Duration::from_millis(1), "{took:?}");
    all
}

/// Allocates objects of 4096 bytes until an allocation fails, `most` at most, and returns the
/// error. The objects are not touched.
fn fill<P: ReusePolicy>(
    alloc: &MemAlloc<P>,
    most: usize,
) -> (Vec<NonNull<u8>>, Option<AllocErrorKind>) {
    let mut held = Vec::with_capacity(1 << 21);
    while held.len() < most {
        match alloc.alloc(layout(4096, 1)) {
            Ok(object) => held.push(object.cast()),
            Err(error) => return (held, Some(error.kind())),
        }
    }
    (held, None)
}

#[test]
fn ten_thousand_allocators_and_caches_cost_little_until_they_are_used() {
    let status = in_child(SECONDS, || {
        let caches = build_many(|| Cache::<u64>::new().expect("a cache"));
        let allocators = build_many(|| MemAlloc::<AfterRcuGp>::new().expect("an allocator"));
        for cache in caches.iter().rev().step_by(97) {
            assert_eq!(*cache.alloc(7).expect("memory"), 7);
        }
        // The last ones have no less room than the first.
        for alloc in [&allocators[0], &allocators[MANY / 2], &allocators[MANY - 1]] {
            let (held, error) = fill(alloc, (512 * MIB / 4096) as usize);
            assert_eq!(error, None);
            assert!(held.iter().collect::<std::collections::BTreeSet<_>>().len() == held.len());
        }
        let begun = Instant::now();
        drop((caches, allocators));
        let took = begun.elapsed() / (2 * MANY as u32);
        println!("ended in {took:?} each");
        assert!(took < Duration::from_millis(1), "{took:?}");
    });
    assert_eq!(status, 0);
}

/// Under `ulimit -v`, an allocator takes only the addresses that it uses, with 7/12 as many again
/// for links and batches; the rest stays available.
#[test]
#[cfg_attr(poison, ignore = "AddressSanitizer reserves terabytes of addresses")]
fn an_allocator_leaves_the_addresses_that_it_does_not_use_to_others() {
    for limit in [300 * MIB, GIB, 27 * GIB / 10, 54 * GIB / 10] {
        let status = in_child(SECONDS, || {
            let size = status_of("VmSize") + limit;
            let limits = libc::rlimit { rlim_cur: size, rlim_max: size };
            // SAFETY: affects only this process.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limits) }, 0);
            let alloc = MemAlloc::<Immediate>::with_policy().expect("an allocator");
            let first = alloc.alloc(layout(4096, 1)).expect("memory").cast::<u8>();
            let beside = vec![7_u8; 100 << 20];
            let (mut held, error) = fill(&alloc, usize::MAX);
            assert_eq!(error, Some(AllocErrorKind::OutOfMemory));
            let fits = (limit - 100 * MIB) * 6 / 10 - 24 * MIB;
            assert!(held.len() as u64 * 4096 > fits, "{} of {limit}", held.len() * 4096);
            let again = held.len();
            held.push(first);
            for object in held.drain(..) {
                // SAFETY: allocated in this function with this layout, and freed once.
                unsafe { alloc.free(object, layout(4096, 1)) };
            }
            drop(held);
            assert!(fill(&alloc, again).1.is_none(), "objects are used again");
            assert!(beside.iter().all(|&byte| byte == 7));
        });
        assert_eq!(status, 0, "{limit} bytes");
    }
}

/// For systems that do not overcommit memory.
#[test]
fn memory_is_asked_for_in_proportion_to_what_is_used() {
    let status = in_child(SECONDS, || {
        let alloc = MemAlloc::<Immediate>::with_policy().expect("an allocator");
        let before = writable_bytes();
        assert!(alloc.stats().table_bytes < KIB, "nothing was allocated");
        let (held, _) = fill(&alloc, (64 * MIB / 4096) as usize);
        let more = writable_bytes() - before;
        assert!(more < 64 * MIB * 3 / 2 + 24 * MIB, "{more} bytes for 64 MiB of {}", held.len());
    });
    assert_eq!(status, 0);
}
