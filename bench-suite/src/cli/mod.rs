//! The command line: what may be said, and one line about what may not.
//!
//! Knows no workload: which cases there are is looked up by the command that runs them.

mod complaint;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use memalloc::PolicyKind;

use crate::data::DataName;

/// What to run.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// Immediate against deferred reuse, all that decides between them.
    Compare(CompareOptions),
}

/// Why there is nothing to run: an error, or help that was asked for.
#[derive(Debug)]
pub(crate) struct Answer(clap::Error);

/// Measures what immediate and deferred reuse of freed objects cost on this machine.
///
/// Without a command it runs `compare`.
#[derive(Debug, Parser)]
#[command(name = "bench-suite", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    compare: CompareOptions,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A short run of all that decides between immediate and deferred reuse (the default)
    Compare(CompareOptions),
}

/// The options of `compare`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompareOptions {
    /// Append one JSON object per measurement to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Show no progress bar
    #[arg(long)]
    pub(crate) quiet: bool,

    /// Time for all measurements together; what can't be done in it takes longer
    #[arg(long, value_name = "SECONDS", default_value = "75", value_parser = values::seconds)]
    pub(crate) duration: u64,

    /// Numbers of threads
    #[arg(long, value_name = "N,..", default_value = "1,2", value_delimiter = ',')]
    #[arg(value_parser = values::threads)]
    pub(crate) threads: Vec<usize>,

    /// Sets of keys: symbols, random, file:PATH with one key a line [default: symbols,random]
    #[arg(long, value_name = "SET,..", value_delimiter = ',')]
    pub(crate) data: Vec<DataName>,

    /// Rounds, in which all that is compared takes its turn; at least 5 to see a difference
    #[arg(long, value_name = "N", default_value = "7", value_parser = values::rounds)]
    pub(crate) rounds: usize,

    /// Where random keys and random orders begin
    #[arg(long, value_name = "N", default_value = "1", value_parser = values::seed)]
    pub(crate) seed: u64,

    /// Only these cases [default: all]
    #[arg(long = "case", value_name = "CASE,..", value_delimiter = ',')]
    pub(crate) cases: Vec<String>,

    /// Only these reuse policies: immediate, after-rcu-gp [default: both]
    #[arg(long = "policy", value_name = "POLICY,..", value_delimiter = ',')]
    pub(crate) policies: Vec<PolicyKind>,
}

/// Reads the command line.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, Answer> {
    let cli = Cli::try_parse_from(arguments).map_err(Answer)?;
    Ok(match cli.command {
        None => Invocation::Compare(cli.compare),
        Some(Command::Compare(options)) => Invocation::Compare(options),
    })
}

impl Answer {
    /// Prints help to standard output, or an error in one line to standard error.
    pub(crate) fn print(&self) -> ExitCode {
        if !self.0.use_stderr() {
            // A pipe that nobody reads any more is no failure of ours.
            let _ = self.0.print();
            return ExitCode::SUCCESS;
        }
        eprintln!("bench-suite: {}", complaint::one_line(&self.0));
        ExitCode::from(2)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn options(arguments: &[&str]) -> CompareOptions {
        let all = ["bench-suite"].iter().chain(arguments).map(OsString::from);
        match parse(all) {
            Ok(Invocation::Compare(options)) => options,
            Err(answer) => panic!("{}", answer.0),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_is_compare_and_options_may_stand_with_or_without_it() {
        let bare = options(&[]);
        assert_eq!((bare.duration, bare.rounds, bare.quiet), (75, 7, false));
        assert_eq!(bare.threads, [1, 2]);
        for arguments in
            [&["--threads", "2,4", "--quiet"][..], &["compare", "--quiet", "--threads=2,4"]]
        {
            let options = options(arguments);
            assert_eq!((options.threads, options.quiet), (vec![2, 4], true));
        }
        let data = options(&["--data", "random,file:a b"]).data;
        assert_eq!(data, [DataName::Random, DataName::File("a b".into())]);
    }
}
