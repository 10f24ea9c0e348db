//! How both libraries behave beyond the CPUs of this machine: the cache lines that move between CPUs,
//! counted on a simulated machine. `cargo scaling` builds it and writes `docs/scaling.md`.
//!
//! The sources are those that ship. Built with `--cfg counted`, the façade `memalloc::sync` tells a
//! simulated `machine` of every access; its caches are `coherence`, its threads go on one at a
//! time. `alloc`, `sections` and `trie` are the paths that are counted, `claims` what is
//! claimed of them, `report` the document.

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
                "scaling: unknown arguments \"{given}\": allowed are none (write docs/scaling.md), \
                 check (compare with it) and claims (the claims alone, on 2 and 16 CPUs)"
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
