//! The tables that an allocator keeps for its slabs come from the global allocator, which may
//! refuse too. Then an allocation that needs a slab gets an error, and nothing else is affected.
#![cfg(not(loom))]

mod common;

use common::{Object, adds_up, held_bytes, in_every_setup, layout};
use memalloc::{AllocErrorKind, MemAlloc, ReusePolicy};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// The number of requests of this thread that the global allocator grants before it refuses
    /// them; `None` if it refuses none.
    static GRANTED: Cell<Option<usize>> = const { Cell::new(None) };
    static REFUSED: Cell<usize> = const { Cell::new(0) };
}

struct Refusing;

impl Refusing {
    fn grants() -> bool {
        match GRANTED.get() {
            None => true,
            Some(0) => {
                REFUSED.set(REFUSED.get() + 1);
                false
            }
            Some(left) => {
                GRANTED.set(Some(left - 1));
                true
            }
        }
    }
}

// SAFETY: every call is passed to the system's allocator unchanged, or refused.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        if Self::grants() { unsafe { System.alloc(layout) } } else { std::ptr::null_mut() }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static GLOBAL: Refusing = Refusing;

/// Fills several slabs of two classes into `held`, which has room. Returns how many allocations
/// failed.
fn fill<P: ReusePolicy>(alloc: &MemAlloc<P>, held: &mut Vec<Object>) -> usize {
    let mut failed = 0;
    for number in 0..200 {
        let layout = layout([4096, 1024][number % 2], 1);
        match alloc.alloc(layout) {
            Ok(memory) => held.push(Object::filled(memory.cast(), layout, number as u8)),
            Err(error) => {
                assert_eq!(error.kind(), AllocErrorKind::OutOfMemory);
                failed += 1;
            }
        }
    }
    failed
}

in_every_setup! {
    /// Repeats with one more request granted each time, until none is refused.
    fn an_allocator_without_memory_for_its_tables_returns_errors_and_stays_whole<P>(setup) {
        let mut runs_that_failed = 0;
        for granted in 0.. {
            let alloc = setup.allocator::<P>();
            let mut held = Vec::with_capacity(400);
            REFUSED.set(0);
            GRANTED.set(Some(granted));
            let failed = fill(&alloc, &mut held);
            GRANTED.set(None);

            adds_up(&alloc.stats(), held.len());
            assert_eq!(fill(&alloc, &mut held), 0, "there is memory again");
            adds_up(&alloc.stats(), held.len());
            held.into_iter().for_each(|object| object.free(&alloc));
            let stats = alloc.destroy().expect("nothing leaked");
            assert_eq!((stats.taken.objects, held_bytes(&stats)), (0, 0));

            runs_that_failed += usize::from(failed > 0);
            if REFUSED.get() == 0 {
                break;
            }
        }
        assert!(runs_that_failed > 4, "{runs_that_failed}: every list of the books was refused");
    }
}
