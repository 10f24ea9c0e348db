//! Reports panics and fatal signals, with a text that says what was running.
#![allow(unsafe_code)]

use std::fmt::Display;
use std::panic;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

/// The longest text, in bytes.
const MAX_TEXT: usize = 512;

static TEXT: [AtomicU8; MAX_TEXT] = [const { AtomicU8::new(0) }; MAX_TEXT];
static LENGTH: AtomicUsize = AtomicUsize::new(0);
static PANICKED: AtomicBool = AtomicBool::new(false);

/// The signals that end the program.
const FATAL: [libc::c_int; 5] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// Watches for panics and fatal signals from now on.
pub(super) fn begin() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        usual(panic);
        PANICKED.store(true, Ordering::Relaxed);
    }));
    for signal in FATAL {
        // SAFETY: the structure consists of plain numbers, for which zero is valid, and outlives
        // the call. The handler makes only async-signal-safe calls.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let handler: extern "C" fn(libc::c_int) = on_fatal;
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_ONSTACK;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// Sets the text that is printed if a fatal signal arrives from now on.
pub(super) fn set_text(text: impl Display) {
    let text = text.to_string();
    LENGTH.store(0, Ordering::Relaxed);
    for (place, byte) in TEXT.iter().zip(text.bytes()) {
        place.store(byte, Ordering::Relaxed);
    }
    // ORDERING: Release pairs with the Acquire in the handler, which sees the text of this length.
    LENGTH.store(text.len().min(MAX_TEXT), Ordering::Release);
}

/// Returns true if a thread has panicked.
pub(super) fn has_panicked() -> bool {
    PANICKED.load(Ordering::Relaxed)
}

/// The handler: prints the signal and the text, and exits with 1.
extern "C" fn on_fatal(signal: libc::c_int) {
    let mut line = [0_u8; MAX_TEXT + 64];
    let mut length = 0;
    let number = [b'0' + (signal / 10 % 10) as u8, b'0' + (signal % 10) as u8];
    let before = b"bench-suite: torture: an error: signal ";
    // ORDERING: see `set_text`.
    let text =
        TEXT[..LENGTH.load(Ordering::Acquire)].iter().map(|byte| byte.load(Ordering::Relaxed));
    let all = before.iter().copied().chain(number).chain(*b" in ").chain(text).chain(*b"\n");
    for (place, byte) in line.iter_mut().zip(all) {
        *place = byte;
        length += 1;
    }
    // SAFETY: `line` has at least `length` bytes; both calls are async-signal-safe.
    unsafe {
        libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), length);
        libc::_exit(1);
    }
}
