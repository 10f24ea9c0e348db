//! Threads that start and end, and guards that outlive the thread-local state of their thread.
#![cfg(not(loom))]

mod common;
#[path = "common/leak.rs"]
mod leak;

use common::{
    Object, Setup, adds_up, in_every_setup, layout, short_lived_threads_leave_nothing_behind,
};
use leak::leak;
use memalloc::rcu::{Domain, Guard};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

in_every_setup! {
    /// Slots and objects of ended threads are reused by later ones or go back.
    fn thousands_of_short_lived_threads_leave_nothing_behind<P>(setup) {
        short_lived_threads_leave_nothing_behind::<P>(setup);
    }
}

/// A thread that gets no CPU number from the kernel: its area for restartable sequences holds -1,
/// as before registration, or -2, if that failed.
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
mod without_a_cpu_number {
    use super::*;
    use memalloc::CpuMode;
    use std::ptr::without_provenance_mut;

    /// Unregisters the calling thread's area, and stores `number` in it. Returns false if there is
    /// no area.
    fn unregister(number: i32) -> bool {
        const UNREGISTER: libc::c_int = 1;
        const SIGNATURE: u32 = 0x5305_3053;
        let symbol = |name: &std::ffi::CStr| {
            // SAFETY: the name ends in NUL.
            unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }
        };
        let (offset, size) = (symbol(c"__rseq_offset"), symbol(c"__rseq_size"));
        if offset.is_null() || size.is_null() {
            return false;
        }
        // SAFETY: glibc's constants, of these types; the first word at the thread pointer is its
        // own address; the area belongs to this thread, which runs no sequence now.
        unsafe {
            let (offset, size) = (*offset.cast::<isize>(), *size.cast::<u32>());
            let thread: usize;
            std::arch::asm!("mov {}, qword ptr fs:[0]", out(reg) thread, options(nostack, readonly));
            let area = without_provenance_mut::<i32>(thread.wrapping_add_signed(offset));
            let lengths = [32, size, size.next_multiple_of(32)];
            let done = lengths.iter().any(|&length| {
                libc::syscall(libc::SYS_rseq, area, length, UNREGISTER, SIGNATURE) == 0
            });
            if done {
                std::arch::asm!(
                    "mov dword ptr [{area} + 4], {number:e}",
                    area = in(reg) area,
                    number = in(reg) number,
                    options(nostack),
                );
            }
            done
        }
    }

    in_every_setup! {
        fn a_thread_without_a_cpu_number_does_without_sequences<P>(setup) {
            for number in [-1, -2] {
                let alloc = &setup.allocator::<P>();
                let work = || {
                    let objects: Vec<_> =
                        (0..700).map(|_| Object::new(alloc, layout(200, 1), 3)).collect();
                    for (turn, object) in objects.into_iter().enumerate() {
                        match turn % 3 {
                            0 => object.free(alloc),
                            1 => object.free_rcu(alloc),
                            _ => object.free_unshared(alloc),
                        }
                    }
                };
                work();
                thread::scope(|scope| {
                    scope.spawn(|| {
                        let has_none = unregister(number);
                        assert!(has_none || setup.cpu_mode != CpuMode::Rseq);
                        work();
                        adds_up(&alloc.stats(), 0);
                    });
                });
                work();
                adds_up(&alloc.stats(), 0);
                alloc.quiesce().expect("no guard is held");
                assert_eq!(alloc.stats().taken.objects, 0);
            }
        }
    }
}

thread_local! {
    /// Filled before or after the thread's first section, and so dropped after or before the
    /// thread gives its slots back.
    static KEPT: RefCell<Option<Kept>> = const { RefCell::new(None) };
}

/// A guard in thread-local storage that begins another section when it is dropped.
struct Kept {
    domain: &'static Domain,
    guards: Vec<Guard<'static>>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        let another = self.domain.pin();
        let nested = self.domain.pin();
        self.guards.clear();
        drop(another);
        drop(nested);
    }
}

/// Ends a thread that has guards in its thread-local storage.
fn end_with_guards(domain: &'static Domain, storage_first: bool) {
    let thread = thread::spawn(move || {
        if storage_first {
            KEPT.with(|kept| *kept.borrow_mut() = Some(Kept { domain, guards: Vec::new() }));
        }
        let guards = vec![domain.pin(), domain.pin()];
        KEPT.with(|kept| match &mut *kept.borrow_mut() {
            Some(kept) => kept.guards = guards,
            empty => *empty = Some(Kept { domain, guards }),
        });
        let cookie = domain.start_poll();
        assert!(!domain.advance(cookie), "the guards are still there");
    });
    thread.join().expect("it does not panic");
}

#[test]
fn a_guard_in_thread_local_storage_ends_with_its_thread() {
    for setup in Setup::every() {
        let domain = leak(setup.domain());
        for storage_first in [true, false] {
            end_with_guards(domain, storage_first);
            assert_eq!(domain.stats().reading, 0);
            domain.synchronize().expect("every section has ended");
        }
    }
}

#[test]
fn the_slot_of_a_guard_that_outlives_its_thread_storage_is_used_again() {
    let domain = leak(Domain::new());
    for _ in 0..100 {
        end_with_guards(domain, true);
        end_with_guards(domain, false);
    }
    let threads = domain.stats().slots;
    assert!(threads <= 2, "{threads} slots of threads that have ended");
}

#[test]
fn a_panic_inside_sections_ends_them() {
    let domain = Domain::new();
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let _guard = domain.pin();
            let result = catch_unwind(AssertUnwindSafe(|| {
                let _inner = domain.pin();
                resume_unwind(Box::new("on purpose"));
            }));
            assert!(result.is_err());
        });
        reader.join().expect("the panic was caught");
    });
    domain.synchronize().expect("this thread does not read");
    let stats = domain.stats();
    assert_eq!((stats.reading, stats.slots), (0, 0));
}

/// A thread may outlive domains that it has read, and read many at a time.
#[test]
fn a_thread_forgets_domains_that_are_gone() {
    for round in 0..200 {
        let domains: Vec<_> = (0..5).map(|_| Domain::new()).collect();
        let guards: Vec<_> = domains.iter().chain(&domains).map(Domain::pin).collect();
        for domain in &domains {
            assert!(!domain.advance(domain.start_poll()), "round {round}");
        }
        drop(guards);
        for domain in domains {
            assert!(domain.advance(domain.start_poll()), "round {round}");
        }
    }
}

/// Threads end while the last clones of their domains are dropped elsewhere.
#[test]
fn a_thread_may_end_while_its_domain_does() {
    for _ in 0..500 {
        let domains: Vec<_> = (0..4).map(|_| Domain::new()).collect();
        let clones = domains.clone();
        let reader = thread::spawn(move || clones.iter().for_each(|domain| drop(domain.pin())));
        drop(domains);
        reader.join().expect("it does not panic");
    }
}

in_every_setup! {
    fn an_allocator_may_be_dropped_by_a_thread_that_never_used_it<P>(setup) {
        let alloc = setup.allocator::<P>();
        for pattern in 0..100 {
            Object::new(&alloc, layout(64, 1), pattern).free(&alloc);
        }
        thread::spawn(move || drop(alloc)).join().expect("it does not panic");
    }
}
