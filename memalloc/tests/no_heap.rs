//! The books that an allocator keeps on its slabs come from the global allocator, which may refuse
//! too: whoever needs a slab then gets an error, and nobody else notices.
#![cfg(not(loom))]

mod common;

use common::{Object, adds_up, held_bytes, in_every_setup, layout};
use memalloc::{AllocErrorKind, MemAlloc, ReusePolicy};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// How many requests of this thread the global allocator grants before it refuses them;
    /// none refused where it is `None`.
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

// SAFETY: every call goes to the system's allocator as it is, or is refused.
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

/// Fills several slabs of two classes, in a table that has room. Returns how many allocations
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
    /// The sweep ends with the first run to which nothing was refused.
    fn an_allocator_whose_books_get_no_memory_says_so_and_stays_whole<P>(setup) {
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
