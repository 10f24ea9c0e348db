//! Measures the cost of immediate and deferred reuse of freed objects, on this machine and on real
//! data, and recommends one of the two for a map, and for code that mostly allocates and frees.
//!
//! The layers, lowest first; a file imports only from the layers below its own:
//!
//! | layer | knows |
//! |---|---|
//! | `data` | sets of keys and the order of lookups |
//! | `measure` | time, threads, rounds, statistics; not the workloads |
//! | `bpf` | the kernel's own hash map, by `bpf(2)` |
//! | `shape` | a user's workload in numbers, and the policies that are correct for it |
//! | `workload` | the workloads and the checks of their answers; not the presentation |
//! | `torture` | checks of the promises of both libraries, while threads do everything at once |
//! | `record` | the measurements of a run as lines of JSON, and the machine |
//! | `report` | tables, the recommendation, the page with figures, the progress bar; made from records |
//! | `cli` | options and their errors |
//! | `command` | the commands: workloads, their order, exit codes |
//!
//! The hash table that two of the benches run on is a package of its own, `hash_table`.
//!
//! To add a bench, add a module of `workload` that lists its workloads; to add a command, add a
//! module of `command`. The layers in between do not know the names of either.

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
// Allocating and freeing by pointer is unsafe: the files of this layer that do it allow it.
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
            // If standard error is closed, the exit code still reports the failure.
            let _ = writeln!(io::stderr(), "bench-suite: {failure}");
            failure.exit_code()
        }
    }
}
