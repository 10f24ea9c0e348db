//! Tests the contents of a recording, and that one recording runs at a time.
//!
//! A process has one recording at a time, so these tests run one after the other.
#![cfg(all(feature = "recording", not(loom)))]

use memalloc::rcu::Domain;
use memalloc::recording::Recording;
use memalloc::{AfterRcuGp, Immediate, MemAlloc};
use std::alloc::Layout;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("memalloc-{}-{name}.rec", std::process::id()))
}

/// The words of an event.
type Event = [u64; 4];

fn kind(event: &Event) -> u64 {
    event[0] & 0xff
}

fn size(event: &Event) -> u64 {
    event[2] & 0xffff_ffff
}

fn weight(event: &Event) -> u64 {
    event[2] >> 32
}

/// Returns the events behind the header, and removes the file.
fn events(path: &PathBuf) -> Vec<Event> {
    let bytes = std::fs::read(path).unwrap();
    std::fs::remove_file(path).unwrap();
    assert!(bytes.starts_with(b"MEMALREC\x01\0\0\0") && (bytes.len() - 64).is_multiple_of(32));
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    let event = |bytes: &[u8]| std::array::from_fn(|n| word(&bytes[n * 8..][..8]));
    bytes[64..].chunks(32).map(event).collect()
}

const LAYOUT: Layout = Layout::new::<[u64; 5]>();

fn pairs<P: memalloc::ReusePolicy>(alloc: &MemAlloc<P>, count: usize) {
    for _ in 0..count {
        let object = alloc.alloc(LAYOUT).unwrap().cast();
        // SAFETY: allocated with this layout, freed once, and never used.
        unsafe { alloc.free(object, LAYOUT) };
    }
}

#[test]
fn with_a_period_of_one_everything_is_recorded() {
    let _turn = turn();
    let path = path("all");
    let alloc = MemAlloc::<Immediate>::builder().domain(Domain::new()).build().unwrap();
    pairs(&alloc, 10);
    let recording = Recording::with_period(&path, 1).unwrap();
    // The first event of a thread only starts the countdown.
    drop(alloc.domain().pin());
    pairs(&alloc, 1 + 100);
    for _ in 0..50 {
        let _outer = alloc.domain().pin();
        let _inner = alloc.domain().pin();
    }
    for _ in 0..20 {
        drop(alloc.domain().pin_trace());
    }
    let kept = alloc.alloc(LAYOUT).unwrap().cast::<u8>();
    let summary = recording.finish().unwrap();
    pairs(&alloc, 10);

    let events = events(&path);
    assert_eq!(summary.dropped, 0);
    assert_eq!(summary.events + 1, events.len() as u64, "and the end");
    let of = |wanted: u64| events.iter().filter(|event| kind(event) == wanted).count();
    assert_eq!((of(1), of(4), of(7)), (101, 100, 1));
    assert_eq!((of(8), of(9)), (50, 20), "sections inside others are none");
    assert!(events.iter().filter(|event| kind(event) < 8).all(|event| size(event) == 40));
    assert_eq!(kind(events.last().unwrap()), 12);
    // SAFETY: allocated above with this layout, and freed once.
    unsafe { alloc.free(kept, LAYOUT) };
}

#[test]
fn samples_stand_for_all_of_their_kind() {
    let _turn = turn();
    let path = path("samples");
    let alloc = MemAlloc::<AfterRcuGp>::builder().domain(Domain::new()).build().unwrap();
    let recording = Recording::with_period(&path, 64).unwrap();
    const EACH: usize = 200_000;
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| pairs(&alloc, EACH));
        }
    });
    let summary = recording.finish().unwrap();
    let events = events(&path);
    let sum = |kinds: std::ops::RangeInclusive<u64>| -> u64 {
        events.iter().filter(|event| kinds.contains(&kind(event))).map(weight).sum()
    };
    let (all, dropped) = (2 * EACH as u64, summary.dropped * 128);
    // A thread's last gap is not complete.
    assert!(sum(1..=2) <= all && sum(1..=2) + 2 * 128 + dropped >= all, "{} of {all}", sum(1..=2));
    assert_eq!(sum(4..=4), 0, "all are deferred");
    assert!(sum(5..=5) > 0);
    let gaps = events.iter().filter(|event| kind(event) == 1).map(weight);
    assert!(gaps.clone().any(|gap| gap != gaps.clone().next().unwrap()), "by chance");
}

#[test]
fn a_long_section_is_recorded_though_it_is_no_sample() {
    let _turn = turn();
    let path = path("long");
    let domain = Domain::new();
    let recording = Recording::with_period(&path, 1 << 20).unwrap();
    let section = domain.pin();
    thread::sleep(Duration::from_millis(60));
    drop(section);
    recording.finish().unwrap();
    let events = events(&path);
    let long = events.iter().find(|event| kind(event) == 10).expect("an event");
    assert!(long[3] >= 20_000_000, "{} ns", long[3]);
}

#[test]
fn one_recording_runs_at_a_time_and_another_may_follow() {
    let _turn = turn();
    let (one, two) = (path("one"), path("two"));
    let recording = Recording::start(&one).unwrap();
    let error = Recording::start(&two).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    assert!(!two.exists(), "nothing is created");
    drop(recording);
    Recording::start(&two).unwrap().finish().unwrap();
    assert_eq!((events(&one).len(), events(&two).len()), (1, 1));
    assert!(Recording::start("/nowhere/at/all").is_err());
    Recording::start(&one).unwrap().finish().unwrap();
    std::fs::remove_file(one).unwrap();
}
