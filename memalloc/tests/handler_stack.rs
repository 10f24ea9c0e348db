//! A signal handler on an alternate stack of the standard size may allocate and free.
#![cfg(all(target_os = "linux", not(loom), not(miri)))]

mod common;

use common::{behind, in_every_setup, layout};
use memalloc::rcu::Domain;
use memalloc::{MemAlloc, ReusePolicy};
use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::ffi::c_int;
use std::ptr::{self, NonNull};
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

/// The most bytes that a call may take: half of the standard stack (`SIGSTKSZ`). The frame of a
/// signal takes 3 KiB of the other half, where the processor has AVX-512.
const MOST: usize = 4 << 10;

/// Enough for a handler that needs more than that, so that the test sees how much.
const PROVIDED: usize = 256 << 10;

/// A byte of the stack that was not written.
const UNTOUCHED: u8 = 0xa5;

/// The call that the handler of the next signal makes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Allocate,
    Free,
    FreeRcu,
    FreeUnshared,
}

struct Handler<'a, P: ReusePolicy> {
    alloc: &'a MemAlloc<P>,
    call: UnsafeCell<Call>,
    layout: UnsafeCell<Layout>,
    held: UnsafeCell<Vec<(NonNull<u8>, Layout)>>,
}

/// The handler of the thread that raises signals.
static HANDLER: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// The signal and the handler are global to the process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

extern "C" fn on_signal<P: ReusePolicy>(_signal: c_int) {
    // SAFETY: set by the thread that raises the signal, and waits for the handler's end.
    let handler = unsafe { HANDLER.load(Ordering::Relaxed).cast::<Handler<'_, P>>().as_ref() };
    let Some(handler) = handler else { return };
    // SAFETY: as above; only the handler touches them during a signal.
    let (held, layout) = unsafe { (&mut *handler.held.get(), *handler.layout.get()) };
    // SAFETY: as above.
    match unsafe { *handler.call.get() } {
        Call::Allocate if held.len() < held.capacity() => {
            let new = handler.alloc.alloc_nowait(layout).ok();
            held.extend(new.map(|object| (object.cast(), layout)));
        }
        Call::Allocate => (),
        free => {
            if let Some((object, layout)) = held.pop() {
                // SAFETY: the handler's own object, given up here.
                unsafe {
                    match free {
                        Call::FreeRcu => handler.alloc.free_rcu(object, layout),
                        Call::FreeUnshared => handler.alloc.free_unshared(object, layout),
                        _ => handler.alloc.free(object, layout),
                    }
                }
            }
        }
    }
}

/// Raises `count` signals on an alternate stack, and returns how many bytes of it they used.
fn used_by(count: usize, stack: &mut [u8]) -> usize {
    stack.fill(UNTOUCHED);
    let place = stack.as_mut_ptr();
    // SAFETY: the stack outlives its use, which ends with the second call; no signal is pending.
    unsafe {
        let mut alternate: libc::stack_t = std::mem::zeroed();
        (alternate.ss_sp, alternate.ss_size) = (place.cast(), stack.len());
        assert_eq!(libc::sigaltstack(&raw const alternate, ptr::null_mut()), 0);
        (0..count).for_each(|_| _ = libc::raise(libc::SIGUSR1));
        alternate.ss_flags = libc::SS_DISABLE;
        assert_eq!(libc::sigaltstack(&raw const alternate, ptr::null_mut()), 0);
    }
    stack.len() - stack.iter().position(|&byte| byte != UNTOUCHED).unwrap_or(stack.len())
}

/// Returns the most bytes that a call in a handler took, beside the frame of the signal.
fn most_used<P: ReusePolicy>(alloc: &MemAlloc<P>, stack: &mut [u8]) -> usize {
    let handler = Handler {
        alloc,
        call: UnsafeCell::new(Call::Allocate),
        layout: UnsafeCell::new(layout(64, 8)),
        held: UnsafeCell::new(Vec::with_capacity(1_000)),
    };
    HANDLER.store((&raw const handler).cast_mut().cast(), Ordering::Relaxed);
    let mut most = 0;
    for free in [Call::Free, Call::FreeRcu, Call::FreeUnshared, Call::FreeRcu] {
        for (call, count) in [(Call::Allocate, 1_500), (free, 700)] {
            for size in [64, 4096] {
                // SAFETY: no signal comes meanwhile.
                unsafe { (*handler.call.get(), *handler.layout.get()) = (call, layout(size, 8)) };
                most = most.max(used_by(count, stack));
            }
        }
    }
    HANDLER.store(ptr::null_mut(), Ordering::Relaxed);
    let frame = used_by(1, stack);
    for (object, layout) in handler.held.into_inner() {
        // SAFETY: the handler's object; no signal comes any more.
        unsafe { alloc.free(object, layout) };
    }
    most - frame
}

in_every_setup! {
    /// With and without a reader in the way, and with more pending than may be. In a build without
    /// optimisation the calls need three times the stack: see the guide.
    fn allocations_and_frees_fit_a_handler_on_the_standard_alternate_stack<P>(setup) {
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // SAFETY: the structure is plain numbers for which zero is valid; the handler calls
        // async-signal-safe functions only.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal::<P> as *const () as usize;
            action.sa_flags = libc::SA_ONSTACK | libc::SA_RESTART;
            assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, ptr::null_mut()), 0);
        }
        let domain = Domain::builder().barrier_kind(setup.barrier).stall_after(Duration::from_millis(1));
        let domain = domain.build().expect("a supported kind");
        let builder = setup.builder::<P>().domain(domain).max_pending(64 << 10);
        let alloc = &builder.build().expect("an allocator");
        for size in [64, 4096] {
            alloc.prefill(layout(size, 8), 300).expect("memory");
        }
        let mut stack = vec![0; PROVIDED];
        let alone = most_used(alloc, &mut stack);
        let beside = behind(|| alloc.domain().pin(), || most_used(alloc, &mut stack));
        let most = alone.max(beside);
        assert!(most <= MOST, "{most} bytes of the stack are used");
    }
}
