//! Measures what immediate and deferred reuse of freed objects cost, on this machine and on real
//! data, and says which of the two to take.
//!
//! The layers, lowest first; a file imports only from the layers below its own:
//!
//! | layer | knows |
//! |---|---|
//! | `data` | keys: where they come from, and in which order they are asked for |
//! | `measure` | time, threads, rounds, statistics; not what is measured |
//! | `bpf` | the kernel's own hash map, by `bpf(2)` |
//! | `shape` | a user's workload in numbers, and which policies are correct for it |
//! | `workload` | what is measured and how its answers are checked; not how it is shown |
//! | `torture` | what the libraries promise, checked while threads do everything at once |
//! | `record` | the measurements of a run as lines of JSON, and the machine that they were made on |
//! | `report` | tables, the recommendation, the page with figures, the progress bar: all made from records |
//! | `cli` | options and their errors |
//! | `command` | what each command runs, in which order, and how it ends |
//!
//! The hash table that two of the benches run on is a crate of its own, `hash_table`, beside this one.
//!
//! A bench joins as a module of `workload` that lists its workloads, a command as a module of
//! `command`. Nothing between the two knows the names of either.

#![deny(unsafe_code)]

#[cfg(target_os = "linux")]
mod bpf;
#[forbid(unsafe_code)]
mod cli;
#[forbid(unsafe_code)]
mod command;
#[forbid(unsafe_code)]
mod data;
#[forbid(unsafe_code)]
mod measure;
#[forbid(unsafe_code)]
mod record;
#[forbid(unsafe_code)]
mod report;
#[forbid(unsafe_code)]
mod shape;
#[cfg(target_os = "linux")]
mod torture;
// Allocating and freeing by pointer is unsafe: the files of this layer that do so allow it.
mod workload;

use std::io::{self, Write as _};
use std::process::ExitCode;

fn main() -> ExitCode {
    let invocation = match cli::parse(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(answer) => return answer.print(),
    };
    match command::run(&invocation) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Where nobody listens, the exit code says it.
            let _ = writeln!(io::stderr(), "bench-suite: {failure}");
            failure.exit_code()
        }
    }
}
