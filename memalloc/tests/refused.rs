//! A filter of system calls that comes into force while allocators and domains are in use, and
//! refuses what they are built on.
#![cfg(all(target_os = "linux", not(loom)))]

mod common;
#[path = "common/machine.rs"]
mod machine;

use common::{Object, Setup, adds_up, behind, layout, run_on};
use machine::{on_machine, refuse};
use memalloc::rcu::BarrierKind;
use memalloc::{AfterRcuGp, FreeAfterRcuGp};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Uses every setup before and after `membarrier` is refused.
fn use_allocators_while_membarrier_is_refused() {
    let setups = Setup::every();
    let allocs: Vec<_> = setups
        .iter()
        .map(|setup| (setup.allocator::<AfterRcuGp>(), setup.allocator::<FreeAfterRcuGp>()))
        .collect();
    let layout = layout(64, 8);
    let work = || {
        for (deferred, returned) in &allocs {
            for _ in 0..500 {
                Object::new(deferred, layout, 1).free(deferred);
                Object::new(returned, layout, 2).free(returned);
            }
        }
    };
    // Another thread has read, and there are objects in the cache of each CPU.
    let (tell, is_there) = mpsc::channel();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            run_on(Some(1));
            allocs.iter().for_each(|(alloc, other)| {
                drop((alloc.domain().pin(), other.domain().pin()));
            });
            work();
            tell.send(()).expect("the other thread waits");
            while !over.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
        });
        is_there.recv().expect("the thread reads");
        run_on(Some(0));
        work();
        let every_thread = libc::SECCOMP_FILTER_FLAG_TSYNC;
        let refused = refuse(&[libc::SYS_membarrier], libc::EPERM, every_thread);
        // Some systems have no filters.
        let setups = if refused.is_ok() { &setups[..] } else { &[] };
        for ((deferred, returned), setup) in allocs.iter().zip(setups) {
            behind(
                || deferred.domain().pin(),
                || {
                    let limit = Duration::from_millis(1);
                    let ended = deferred.domain().rcu().synchronize_timeout(limit);
                    assert!(ended.is_err(), "{setup:?}: a reader is inside");
                },
            );
            for domain in [deferred.domain(), returned.domain()] {
                domain.rcu().synchronize().expect("no section is open");
                domain.trace().synchronize().expect("no section is open");
                assert_eq!(domain.rcu().stats().barrier, BarrierKind::Fence, "{setup:?}");
            }
            work();
            adds_up(&deferred.stats(), 0);
            deferred.quiesce().expect("no section is open");
            returned.quiesce().expect("no section is open");
            assert_eq!(deferred.stats().taken.objects, 0, "{setup:?}");
            assert_eq!(returned.stats().taken.objects, 0, "{setup:?}");
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn everything_goes_on_when_membarrier_is_refused_later() {
    let claim = "everything_goes_on_when_membarrier_is_refused_later";
    on_machine(claim, "any", || Ok(()), use_allocators_while_membarrier_is_refused);
}
