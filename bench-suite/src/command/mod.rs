//! The commands: each turns its options into workloads, runs them, and shows the results.

mod advise;
mod alloc;
mod compare;
mod flood;
#[cfg(test)]
mod fuzz;
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

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::cli::Invocation;
use crate::measure::{CutOff, WrongAnswer};

/// The failure of a command.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The request can't be met. Nothing has run.
    Request(String),
    /// A workload got a wrong answer, or the results could not be written.
    Run(String),
    /// A comparison found something worse, and has printed it.
    Worse,
    /// This signal ended the run early. The results so far have been shown.
    Interrupted(i32),
}

impl Failure {
    /// Returns 2 for a request that can't be met, 1 for a run that failed or became worse, and 128
    /// and the number of the signal for an interrupted one, as a shell does.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Request(_) => ExitCode::from(2),
            Self::Run(_) | Self::Worse => ExitCode::from(1),
            Self::Interrupted(signal) => ExitCode::from(128 + *signal as u8),
        }
    }
}

/// Always one line: what a message quotes from a file may have control characters, which are
/// escaped.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(message) | Self::Run(message) => {
                message.chars().try_for_each(|character| match character.is_control() {
                    true => write!(f, "{}", character.escape_default()),
                    false => f.write_char(character),
                })
            }
            Self::Worse => f.write_str("some rows are worse"),
            Self::Interrupted(signal) => CutOff::Signal(*signal).fmt(f),
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

/// Returns the failure of the workload `title`.
fn failed(title: &str, WrongAnswer(reason): &WrongAnswer) -> Failure {
    Failure::Run(format!("{title}: {reason}"))
}

/// Prints to standard error, because standard output carries records.
fn print_aside(text: &str) -> Result<(), Failure> {
    // If standard error is closed, nothing is lost: the records have everything.
    let _ = io::stderr().lock().write_all(text.as_bytes());
    Ok(())
}

/// Prints to standard output. A closed pipe is not a failure.
fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Run(format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}
