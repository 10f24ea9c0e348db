//! The commands: each turns its options into workloads, runs them, and shows what came out.

mod advise;
mod alloc;
mod compare;
mod flood;
mod hash_map;
mod list;
mod page;
mod qp_trie;
mod read_side;
mod recorded;
mod run;
mod select;
mod sets;
#[cfg(target_os = "linux")]
mod signals;
#[cfg(target_os = "linux")]
mod torture;

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::cli::Invocation;
use crate::measure::WrongAnswer;

/// How a command fails.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was asked for something that can't be done. Nothing has run.
    Request(String),
    /// A workload got a wrong answer, or the results could not be written.
    Run(String),
    /// A comparison found something worse, and has said so.
    Worse,
    /// Somebody asked for the end. What there was until then has been shown.
    Interrupted,
}

impl Failure {
    /// 2 for a request that can't be met, 1 for a run that failed or became worse, 130 for one that was interrupted.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Request(_) => ExitCode::from(2),
            Self::Run(_) | Self::Worse => ExitCode::from(1),
            Self::Interrupted => ExitCode::from(130),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(message) | Self::Run(message) => f.write_str(message),
            Self::Worse => f.write_str("some rows are worse"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

/// Runs a command.
pub(crate) fn run(invocation: &Invocation) -> Result<(), Failure> {
    match invocation {
        Invocation::Compare(options) => compare::run(options),
        Invocation::Alloc(options) => alloc::run(options),
        Invocation::ReadSide(options) => read_side::run(options),
        Invocation::Flood(options) => flood::run(options),
        Invocation::HtabMem(options) => hash_map::htab_mem(options),
        Invocation::MapPerf(options) => hash_map::map_perf(options),
        Invocation::QpTrie(options) => qp_trie::run(options),
        Invocation::Advise(options) => advise::run(options),
        #[cfg(target_os = "linux")]
        Invocation::Signals(options) => signals::run(options),
        #[cfg(target_os = "linux")]
        Invocation::Torture(options) => torture::run(options),
        Invocation::List => list::run(),
        Invocation::Cmp(options) => recorded::cmp(options),
        Invocation::Export(options) => recorded::export(options),
        Invocation::Report(options) => recorded::report(options),
    }
}

/// Says what failed, and in which workload.
fn failed(title: &str, WrongAnswer(reason): &WrongAnswer) -> Failure {
    Failure::Run(format!("{title}: {reason}"))
}

/// Prints beside standard output, which has records.
fn print_aside(text: &str) -> Result<(), Failure> {
    // Where nobody listens nothing is lost: the records have all of it.
    let _ = io::stderr().lock().write_all(text.as_bytes());
    Ok(())
}

/// Prints to standard output. A reader that went away is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Run(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}
