//! Read sections and the threads that wait for them: what a section protects, from several threads.
#![cfg(not(loom))]

mod common;

use common::{Dice, adds_up, in_every_setup, layout};
use memalloc::MemAlloc;
use memalloc::rcu::{BarrierKind, Domain, SynchronizeError};
use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

/// An object that carries its number, to be found by readers.
#[repr(C)]
struct Numbered {
    number: AtomicU64,
    check: AtomicU64,
}

const NUMBERED: Layout = Layout::new::<Numbered>();

/// Returns the check word of a number.
fn check_word(number: u64) -> u64 {
    !number.rotate_left(17)
}

fn numbered<P: memalloc::ReusePolicy>(alloc: &MemAlloc<P>, number: u64) -> *mut Numbered {
    let place = alloc.alloc(NUMBERED).expect("memory").cast::<Numbered>();
    // SAFETY: both words are atomics, and every bit pattern is valid.
    let object = unsafe { place.as_ref() };
    object.number.store(number, Ordering::Relaxed);
    object.check.store(check_word(number), Ordering::Relaxed);
    place.as_ptr()
}

in_every_setup! {
    /// Writers replace numbered objects and free the old ones deferred, readers check an object
    /// several times, and another thread only drives grace periods.
    fn free_rcu_is_not_reused_inside_a_read_section<P>(setup) {
        const SECTIONS: usize = 150;
        let alloc = setup.allocator::<P>();
        let links: Vec<_> = (0..8).map(|n| AtomicPtr::new(numbered(&alloc, n))).collect();
        let numbers = AtomicU64::new(links.len() as u64);
        let (readers_left, replaced) = (AtomicUsize::new(2), AtomicUsize::new(0));
        thread::scope(|scope| {
            for reader in 0..2 {
                let (alloc, links, readers_left) = (&alloc, &links, &readers_left);
                let replaced = &replaced;
                scope.spawn(move || {
                    let mut dice = Dice::new(reader);
                    for _ in 0..SECTIONS {
                        let guard = alloc.domain().pin();
                        let link = &links[dice.roll(links.len())];
                        // SAFETY: found inside the section, freed deferred.
                        let object = unsafe { &*link.load(Ordering::Acquire) };
                        let number = object.number.load(Ordering::Relaxed);
                        let until = replaced.load(Ordering::Relaxed) + dice.roll(30);
                        for look in 0..24 {
                            assert_eq!(object.number.load(Ordering::Relaxed), number, "reused");
                            assert_eq!(object.check.load(Ordering::Relaxed), check_word(number));
                            if replaced.load(Ordering::Relaxed) >= until {
                                break;
                            }
                            if look % 4 == 0 {
                                thread::yield_now();
                            }
                        }
                        drop(guard);
                    }
                    readers_left.fetch_sub(1, Ordering::Relaxed);
                });
            }
            for writer in 0..2 {
                let (alloc, links, numbers) = (&alloc, &links, &numbers);
                let (readers_left, replaced) = (&readers_left, &replaced);
                scope.spawn(move || {
                    let mut dice = Dice::new(100 + writer);
                    while readers_left.load(Ordering::Relaxed) > 0 {
                        let number = numbers.fetch_add(1, Ordering::Relaxed);
                        let new = numbered(alloc, number);
                        let old = links[dice.roll(links.len())].swap(new, Ordering::AcqRel);
                        let old = NonNull::new(old).expect("a link is never empty").cast();
                        // SAFETY: unlinked by the swap, which gave it to this thread alone.
                        unsafe { alloc.free_rcu(old, NUMBERED) };
                        replaced.fetch_add(1, Ordering::Relaxed);
                        if dice.roll(64) == 0 {
                            alloc.trim();
                        }
                    }
                });
            }
            let (domain, readers_left) = (alloc.domain(), &readers_left);
            scope.spawn(move || {
                while readers_left.load(Ordering::Relaxed) > 0 {
                    domain.advance(domain.start_poll());
                    thread::yield_now();
                }
            });
        });
        adds_up(&alloc.stats(), links.len());
        for link in links {
            let object = NonNull::new(link.into_inner()).expect("a link is never empty").cast();
            // SAFETY: all threads are done.
            unsafe { alloc.free_unshared(object, NUMBERED) };
        }
        alloc.quiesce().expect("no guard is left");
        adds_up(&alloc.stats(), 0);
        assert_eq!(alloc.stats().taken.objects, 0);
    }
}

in_every_setup! {
    /// While one thread is inside a section, no grace period ends; once it has left, all do.
    fn a_section_holds_up_every_later_cookie<P>(setup) {
        let alloc = setup.allocator::<P>();
        let domain = alloc.domain();
        let (inside, leave) = (Barrier::new(2), Barrier::new(2));
        thread::scope(|scope| {
            scope.spawn(|| {
                let guard = domain.pin();
                inside.wait();
                leave.wait();
                drop(guard);
            });
            inside.wait();
            let cookies: Vec<_> = (0..10).map(|_| domain.start_poll()).collect();
            for &cookie in &cookies {
                assert!(!domain.poll(cookie) && !domain.advance(cookie));
            }
            assert_eq!(domain.stats().reading, 1);
            leave.wait();
            domain.synchronize().expect("this thread does not read");
            assert!(cookies.iter().all(|&cookie| domain.poll(cookie)));
        });
        assert_eq!(domain.stats().reading, 0);
    }
}

in_every_setup! {
    /// A cookie that has passed stays so, and a later one never passes before an earlier one.
    fn cookies_pass_in_the_order_in_which_they_were_taken(setup) {
        let domain = setup.domain();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    drop(domain.pin());
                    domain.advance(domain.start_poll());
                }
            });
            let mut cookies = Vec::new();
            let mut passed = 0;
            for _ in 0..2_000 {
                let cookie = domain.start_poll();
                assert!(cookies.last().is_none_or(|last| *last <= cookie));
                cookies.push(cookie);
                let now = cookies.iter().take_while(|cookie| domain.poll(**cookie)).count();
                assert!(now >= passed, "a cookie was taken back");
                passed = now;
                let newest_first = cookies.iter().rev().find(|cookie| domain.poll(**cookie));
                if let Some(&newest) = newest_first {
                    assert!(cookies.iter().filter(|c| **c <= newest).all(|c| domain.poll(*c)));
                }
                if cookies.len() == 64 {
                    cookies.clear();
                    passed = 0;
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}

in_every_setup! {
    fn waiting_inside_a_section_is_an_error_and_loses_nothing<P>(setup) {
        let alloc = setup.allocator::<P>();
        let domain = alloc.domain();
        let layout = layout(64, 1);
        let kept = common::Object::new(&alloc, layout, 1);
        for pattern in 0..100 {
            common::Object::new(&alloc, layout, pattern).free(&alloc);
            common::Object::new(&alloc, layout, pattern).free_rcu(&alloc);
        }
        let guard = domain.pin();
        let inner = domain.pin();
        assert_eq!(domain.synchronize(), Err(SynchronizeError::InsideReadSection));
        assert_eq!(domain.barrier(), Err(SynchronizeError::InsideReadSection));
        assert_eq!(alloc.quiesce().unwrap_err(), SynchronizeError::InsideReadSection);
        adds_up(&alloc.stats(), 1);
        drop(guard);
        assert_eq!(alloc.quiesce().unwrap_err(), SynchronizeError::InsideReadSection);
        drop(inner);
        // A section of another domain does not matter.
        let elsewhere = setup.domain();
        let other = elsewhere.pin();
        assert_eq!(domain.synchronize(), Ok(()));
        drop(other);
        kept.free(&alloc);
        alloc.quiesce().expect("no guard is left");
        adds_up(&alloc.stats(), 0);
        let text = SynchronizeError::InsideReadSection.to_string();
        assert!(text.contains("read section") && !text.contains('\n'), "{text}");
    }
}

in_every_setup! {
    /// A grace period is held up until the last guard is gone, in whatever order they end.
    fn guards_nest_and_end_in_any_order(setup) {
        let domain = setup.domain();
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut guards: Vec<_> = (0..3).map(|_| Some(domain.pin())).collect();
            let cookie = domain.start_poll();
            for which in order {
                assert!(!domain.advance(cookie), "ended too early: {order:?}");
                assert_eq!(domain.stats().reading, 1);
                guards[which] = None;
            }
            assert!(domain.advance(cookie), "never ended: {order:?}");
        }
    }
}

in_every_setup! {
    /// Callbacks run once each, and not before the end of the sections that were open when they
    /// were queued.
    fn callbacks_run_once_after_the_section(setup) {
        let domain = setup.domain();
        let ran = Arc::new(AtomicUsize::new(0));
        let guard = domain.pin();
        for _ in 0..50 {
            let ran = ran.clone();
            domain.call(move || {
                ran.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert_eq!(domain.run_callbacks(), 0);
        assert_eq!(domain.stats().callbacks, 50);
        drop(guard);
        domain.barrier().expect("no guard is left");
        assert_eq!(ran.load(Ordering::Relaxed), 50);
        assert_eq!(domain.stats().callbacks, 0);

        let late = ran.clone();
        domain.call(move || {
            late.fetch_add(1, Ordering::Relaxed);
        });
        drop(domain);
        assert_eq!(ran.load(Ordering::Relaxed), 51, "the last clone runs the rest");
    }
}

#[test]
fn barrier_kinds_are_read_back_from_what_they_print() {
    for kind in BarrierKind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(*kind));
    }
    let error = "mfence".parse::<BarrierKind>().unwrap_err().to_string();
    assert!(error.contains("\"mfence\"") && error.contains("membarrier and fence"), "{error}");
    for kind in BarrierKind::ALL.iter().filter(|kind| !kind.is_supported()) {
        let error = Domain::builder().barrier_kind(*kind).build().unwrap_err().to_string();
        assert!(error.contains(&kind.to_string()), "{error}");
    }
}

/// The barrier changes to fences while grace periods follow one another, and back when they are
/// rare. The test waits for each change, however long it takes.
#[test]
fn an_adaptive_barrier_takes_fences_while_barriers_cost_much_and_gives_them_up() {
    let Ok(domain) = Domain::builder().barrier_kind(BarrierKind::Adaptive).build() else {
        return;
    };
    let (done, leave) = std::sync::mpsc::channel::<()>();
    thread::scope(|scope| {
        let (registered, is_registered) = std::sync::mpsc::channel();
        scope.spawn(|| {
            let (domain, registered, leave) = (&domain, registered, leave);
            domain.register();
            registered.send(()).expect("a receiver");
            let _ = leave.recv();
        });
        is_registered.recv().expect("the reader is there");
        assert_eq!(domain.stats().barrier, BarrierKind::Membarrier);
        while domain.stats().barrier_switches == 0 {
            domain.synchronize().expect("this thread does not read");
        }
        assert_eq!(domain.stats().barrier, BarrierKind::Fence);
        while domain.stats().barrier_switches == 1 {
            thread::sleep(std::time::Duration::from_millis(20));
            domain.synchronize().expect("this thread does not read");
        }
        assert_eq!(domain.stats().barrier, BarrierKind::Membarrier);
        drop(done);
    });
}

#[test]
fn a_guard_knows_its_domain_wherever_its_slot_comes_from() {
    let (domain, other) = (Domain::new(), Domain::new());
    let (guard, others) = (domain.pin(), other.pin());
    let (reader, inner) = (domain.local(), domain.pin());
    let local = reader.pin();
    for guard in [&guard, &inner, &local] {
        assert!(guard.is_of(&domain) && !guard.is_of(&other));
    }
    assert!(others.is_of(&other) && !others.is_of(&domain));
}
