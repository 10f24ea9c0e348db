//! A library that contains this crate is loaded, used and unloaded.
#![cfg(all(target_os = "linux", target_env = "gnu", not(any(loom, miri))))]

mod common;

use common::in_child;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The number of times that it is loaded.
const LOADS: usize = 100;

const SECONDS: u32 = 120;

/// Builds the plug-in, and returns its path.
fn build() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is inside of another");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--example", "plugin", "--target-dir"]);
    let built = cargo.arg(target).current_dir(env!("CARGO_MANIFEST_DIR")).status();
    assert!(built.expect("cargo runs").success());
    target.join("debug/examples/libplugin.so")
}

extern "C" fn nothing(_signal: libc::c_int) {}

/// Whenever the kernel interrupts a thread, it reads the descriptor of that thread's last
/// restartable sequence, even after the library that contained the descriptor was unloaded.
#[test]
#[cfg_attr(poison, ignore = "cargo builds the macros of its packages with AddressSanitizer too")]
fn a_plug_in_is_loaded_used_and_unloaded_again_and_again() {
    let library = CString::new(build().as_os_str().as_bytes()).expect("no NUL");
    let status = in_child(SECONDS, || {
        let nothing: extern "C" fn(libc::c_int) = nothing;
        // SAFETY: the handler does nothing; the function has the type in the example.
        unsafe {
            libc::signal(libc::SIGUSR1, nothing as libc::sighandler_t);
            for _ in 0..LOADS {
                let handle = libc::dlopen(library.as_ptr(), libc::RTLD_NOW);
                assert!(!handle.is_null());
                let run = libc::dlsym(handle, c"plugin_run".as_ptr());
                assert!(!run.is_null());
                let run: extern "C" fn(u32) -> u32 = std::mem::transmute(run);
                assert_eq!(run(1000), 0);
                assert_eq!(libc::dlclose(handle), 0);
                assert_eq!(libc::raise(libc::SIGUSR1), 0);
            }
        }
    });
    assert_eq!(status, 0);
}
