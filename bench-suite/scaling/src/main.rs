//! Counts the cache lines that move between CPUs on a simulated machine with more CPUs than this
//! one. `cargo scaling` builds this program and writes `docs/scaling.md`.
//!
//! The code is the shipped code of both libraries. Built with `--cfg counted`, the façade
//! `memalloc::sync` reports every access to a simulated `machine`, which runs one thread at a time.
//! `coherence` simulates its caches. `alloc`, `sections` and `trie` are the paths that are counted,
//! `claims` checks which of them scale, and `report` writes the document.

#[cfg(any(counted, test))]
#[cfg_attr(not(counted), allow(dead_code))]
mod coherence;
#[cfg(any(counted, test))]
#[cfg_attr(not(counted), allow(dead_code))]
mod names;

#[cfg(counted)]
mod aligned;
#[cfg(counted)]
mod alloc;
#[cfg(counted)]
mod claims;
#[cfg(counted)]
mod machine;
#[cfg(counted)]
mod measured;
#[cfg(counted)]
mod place;
#[cfg(counted)]
mod report;
#[cfg(counted)]
mod sections;
#[cfg(counted)]
mod trie;

use std::process::ExitCode;

#[cfg(not(counted))]
fn main() -> ExitCode {
    eprintln!("scaling: this build counts nothing: run `cargo scaling`, which sets compiler flags");
    ExitCode::from(2)
}

#[cfg(counted)]
fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => report::write(),
        ["check"] => claims::check().and_then(|()| report::compare()),
        ["claims"] => claims::check(),
        _ => {
            let given = arguments.join(" ");
            eprintln!(
                "scaling: unknown arguments \"{given}\": expected none (write docs/scaling.md), \
                 check (check the claims, compare with docs/scaling.md) or claims (check only the \
                 claims, on 2 and 16 CPUs)"
            );
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("scaling: {message}");
            ExitCode::FAILURE
        }
    }
}
