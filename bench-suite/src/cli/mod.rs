//! The command line: its options, and a one-line error for anything else.
//!
//! Knows no workload: the command that runs checks the names of cases.

mod advise;
mod common;
mod complaint;
mod recorded;
#[cfg(target_os = "linux")]
mod torture;
mod values;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
#[cfg(target_os = "linux")]
use memalloc::CpuMode;
use qptrie::Hints;

pub(crate) use advise::AdviseOptions;
pub(crate) use common::{CommonOptions, RunOptions};
pub(crate) use recorded::{CmpOptions, ExportOptions, Format, ReportOptions};
#[cfg(target_os = "linux")]
pub(crate) use torture::TortureOptions;

use crate::data::DataName;

/// The command to run, with its options.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// Compares immediate with deferred reuse.
    Compare(CompareOptions),
    /// Measures allocating and freeing.
    Alloc(AllocOptions),
    /// Measures the cost of read sections, and the latency of grace periods.
    ReadSide(CommonOptions),
    /// Measures memory under deferred freeing.
    Flood(FloodOptions),
    /// Measures the memory of a hash map while it is updated.
    HtabMem(HtabMemOptions),
    /// Measures the update speed of a hash map.
    MapPerf(CommonOptions),
    /// Measures the trie and other ordered maps.
    QpTrie(QpTrieOptions),
    /// Recommends a policy for a user's own workload.
    Advise(AdviseOptions),
    /// Measures allocating in signal handlers.
    #[cfg(target_os = "linux")]
    Signals(SignalsOptions),
    /// Checks the promises of the libraries under stress.
    #[cfg(target_os = "linux")]
    Torture(TortureOptions),
    /// Lists the commands with their cases and parameters.
    List,
    /// Compares two files of records.
    Cmp(CmpOptions),
    /// Prints records in another format.
    Export(ExportOptions),
    /// Writes a page with figures from records.
    Report(ReportOptions),
}

/// The reason why there is nothing to run: an error, or a request for help.
#[derive(Debug)]
pub(crate) struct Answer {
    error: clap::Error,
    /// The command in use, if its name is known.
    command: Option<String>,
}

/// Measures the cost of immediate and deferred reuse of freed objects on this machine.
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
    /// Compare immediate with deferred reuse in a short run (the default)
    Compare(CompareOptions),
    /// Allocate and free: pairs, batches, and from one thread to another
    Alloc(AllocOptions),
    /// Enter and leave read sections, and measure grace-period latency
    ReadSide(CommonOptions),
    /// Measure pending memory while writers free at full speed
    Flood(FloodOptions),
    /// Measure a hash map's memory and speed under updates, next to the kernel's own map
    HtabMem(HtabMemOptions),
    /// Update and delete in a hash map at full speed, and show where the time goes
    MapPerf(CommonOptions),
    /// Measure the trie and other ordered maps: lookups, changes, iteration, memory
    QpTrie(QpTrieOptions),
    /// Find the policy for your own workload: which are correct, which is fast, and the code to
    /// paste
    #[command(after_help = advise::EXAMPLES)]
    Advise(AdviseOptions),
    /// Allocate and free in a signal handler that interrupts allocating and freeing
    #[cfg(target_os = "linux")]
    Signals(SignalsOptions),
    /// Check both libraries while threads do everything at once; exits with 1 after an error
    #[cfg(target_os = "linux")]
    Torture(TortureOptions),
    /// List commands, their cases and parameters, and their duration
    List,
    /// Compare the records of two files row by row; exits with 1 if something became worse
    Cmp(CmpOptions),
    /// Print records as CSV or as a Markdown table
    Export(ExportOptions),
    /// Write a page with figures from records
    Report(ReportOptions),
}

/// The option for sets of keys.
#[derive(Clone, Debug, Args)]
pub(crate) struct DataOption {
    /// Sets of keys: symbols, random, paths, domains, file:PATH with one key per line. PATH extends
    /// to the end of the list, commas included: repeat --data to add more sets [default: symbols;
    /// for qp-trie symbols,random]
    #[arg(long, value_name = "SET,..")]
    data: Vec<values::DataNames>,
}

impl DataOption {
    /// Returns the sets in the order in which they were named; empty if none was.
    pub(crate) fn names(&self) -> Vec<DataName> {
        self.data.iter().flat_map(|names| names.0.clone()).collect()
    }
}

/// The options of `compare`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompareOptions {
    /// The options of every command with cases.
    #[command(flatten)]
    pub(crate) common: CommonOptions,

    /// Also print every measurement in tables
    #[arg(long)]
    pub(crate) tables: bool,

    /// Write no report [default: bench-suite-report.html, or the file of --html]
    #[arg(long, conflicts_with = "html")]
    pub(crate) no_html: bool,

    /// The sets of keys.
    #[command(flatten)]
    pub(crate) data: DataOption,

    /// Concurrent readers of every case: none, idle, busy, stall-MSms [default: none for the trie;
    /// none,idle,busy,stall-100ms for overwrite]
    #[arg(long = "reader", value_name = "READER,..", value_delimiter = ',')]
    pub(crate) readers: Vec<String>,
}

/// The options of `qp-trie`.
#[derive(Clone, Debug, Args)]
pub(crate) struct QpTrieOptions {
    /// The options of every command with cases.
    #[command(flatten)]
    pub(crate) common: CommonOptions,

    /// The sets of keys.
    #[command(flatten)]
    pub(crate) data: DataOption,

    /// Readers of the trie: validated, plain, batched, copied, subtree-lock [default: all]
    #[arg(long = "reader", value_name = "READER,..", value_delimiter = ',')]
    pub(crate) readers: Vec<String>,

    /// Whether the trie keeps hints from the hash of a key to its leaf: off, on [default: the
    /// default of the trie]
    #[arg(long, value_name = "HINTS,..", value_delimiter = ',', value_parser = values::hints)]
    pub(crate) hints: Vec<Hints>,
}

/// The options of `alloc`.
#[derive(Clone, Debug, Args)]
pub(crate) struct AllocOptions {
    /// The options of every command with cases.
    #[command(flatten)]
    pub(crate) common: CommonOptions,

    /// Object sizes, in bytes [default: 16,64,256,1024,4096]
    #[arg(long = "size", value_name = "BYTES,..", value_delimiter = ',')]
    #[arg(value_parser = values::size, allow_hyphen_values = true)]
    pub(crate) sizes: Vec<usize>,

    /// Concurrent readers: none, idle, busy, stall-MSms [default: none]
    #[arg(long = "reader", value_name = "READER,..", value_delimiter = ',')]
    pub(crate) readers: Vec<String>,
}

/// The options of `flood`.
#[derive(Clone, Debug, Args)]
pub(crate) struct FloodOptions {
    /// The options of every command with cases.
    #[command(flatten)]
    pub(crate) common: CommonOptions,

    /// Object sizes, in bytes [default: 256,4096]
    #[arg(long = "size", value_name = "BYTES,..", value_delimiter = ',')]
    #[arg(value_parser = values::stamped_size, allow_hyphen_values = true)]
    pub(crate) sizes: Vec<usize>,

    /// Concurrent readers: none, idle, busy, stall-MSms, sleep-MSms (in sections that may sleep)
    /// [default: none,idle,busy,stall-100ms]
    #[arg(long = "reader", value_name = "READER,..", value_delimiter = ',')]
    pub(crate) readers: Vec<String>,
}

/// The options of `htab-mem`.
#[derive(Clone, Debug, Args)]
pub(crate) struct HtabMemOptions {
    /// The options of every command with cases.
    #[command(flatten)]
    pub(crate) common: CommonOptions,

    /// Value sizes, in bytes [default: 8,64,256,1024,4096]
    #[arg(long = "value-size", value_name = "BYTES,..", value_delimiter = ',')]
    #[arg(value_parser = values::value_size, allow_hyphen_values = true)]
    pub(crate) value_sizes: Vec<usize>,

    /// Concurrent readers: none, idle, busy, stall-MSms [default: none]
    #[arg(long = "reader", value_name = "READER,..", value_delimiter = ',')]
    pub(crate) readers: Vec<String>,
}

/// The options of `signals`.
#[cfg(target_os = "linux")]
#[derive(Clone, Debug, Args)]
pub(crate) struct SignalsOptions {
    /// The options of every command with cases.
    #[command(flatten)]
    pub(crate) common: CommonOptions,

    /// Signals per second, for each thread
    #[arg(long, value_name = "HZ", default_value = "10000", value_parser = values::rate, allow_negative_numbers = true)]
    pub(crate) rate: u32,

    /// Only these CPU modes: rseq, active-cpu, active-thread [default: all that this system
    /// supports]
    #[arg(long = "cpu-mode", value_name = "MODE,..", value_delimiter = ',')]
    pub(crate) modes: Vec<CpuMode>,
}

/// Parses the command line.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, Answer> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = Cli::try_parse_from(&arguments).map_err(|error| {
        let first = arguments.get(1).and_then(|word| word.to_str());
        let command = first.filter(|word| Cli::command().find_subcommand(word).is_some());
        Answer { error, command: command.map(str::to_owned) }
    })?;
    Ok(match cli.command {
        None => Invocation::Compare(cli.compare),
        Some(Command::Compare(options)) => Invocation::Compare(options),
        Some(Command::Alloc(options)) => Invocation::Alloc(options),
        Some(Command::ReadSide(options)) => Invocation::ReadSide(options),
        Some(Command::Flood(options)) => Invocation::Flood(options),
        Some(Command::HtabMem(options)) => Invocation::HtabMem(options),
        Some(Command::MapPerf(options)) => Invocation::MapPerf(options),
        Some(Command::QpTrie(options)) => Invocation::QpTrie(options),
        Some(Command::Advise(options)) => Invocation::Advise(options),
        #[cfg(target_os = "linux")]
        Some(Command::Signals(options)) => Invocation::Signals(options),
        #[cfg(target_os = "linux")]
        Some(Command::Torture(options)) => Invocation::Torture(options),
        Some(Command::List) => Invocation::List,
        Some(Command::Cmp(options)) => Invocation::Cmp(options),
        Some(Command::Export(options)) => Invocation::Export(options),
        Some(Command::Report(options)) => Invocation::Report(options),
    })
}

/// Returns the names of the commands that have an option.
pub(crate) fn commands_with(option: &str) -> Vec<String> {
    let mut cli = Cli::command();
    cli.build();
    let has = |command: &&clap::Command| {
        command
            .get_arguments()
            .any(|one| one.get_long().is_some_and(|name| option == format!("--{name}")))
    };
    cli.get_subcommands().filter(has).map(|command| command.get_name().to_owned()).collect()
}

impl Answer {
    /// Prints help to standard output, or an error in one line to standard error.
    pub(crate) fn print(&self) -> ExitCode {
        if !self.error.use_stderr() {
            // A closed pipe is not an error.
            let _ = self.error.print();
            return ExitCode::SUCCESS;
        }
        let line = complaint::one_line(&self.error, self.command.as_deref());
        let _ = writeln!(io::stderr(), "bench-suite: {line}");
        ExitCode::from(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> CompareOptions {
        let all = ["bench-suite"].iter().chain(arguments).map(OsString::from);
        match parse(all) {
            Ok(Invocation::Compare(options)) => options,
            Ok(other) => panic!("{other:?}"),
            Err(answer) => panic!("{}", answer.error),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_a_command_compare_runs_and_options_work_with_and_without_it() {
        let bare = options(&[]).common;
        assert_eq!(
            (bare.run.budget(100).as_secs(), bare.run.rounds, bare.run.quiet),
            (100, 9, false)
        );
        assert_eq!(bare.threads, [1, 2]);
        for arguments in
            [&["--threads", "2,4", "--quiet"][..], &["compare", "--quiet", "--threads=2,4"]]
        {
            let options = options(arguments).common;
            assert_eq!((options.threads, options.run.quiet), (vec![2, 4], true));
        }
        let data = options(&["--data", "random,file:a,b c", "--data", "paths"]).data.names();
        assert_eq!(data, [DataName::Random, DataName::File("a,b c".into()), DataName::Paths]);
    }
}
