//! The command line: what may be said, and one line about what may not.
//!
//! Knows no workload: which cases there are is looked up by the command that runs them.

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

pub(crate) use advise::AdviseOptions;
pub(crate) use common::{CommonOptions, RunOptions};
pub(crate) use recorded::{CmpOptions, ExportOptions, Format, ReportOptions};
#[cfg(target_os = "linux")]
pub(crate) use torture::TortureOptions;

use crate::data::DataName;

/// What to run.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// Immediate against deferred reuse, all that decides between them.
    Compare(CompareOptions),
    /// Allocating and freeing.
    Alloc(AllocOptions),
    /// What readers pay, and how long a grace period takes.
    ReadSide(CommonOptions),
    /// Memory under deferred freeing.
    Flood(FloodOptions),
    /// The memory of a hash map that is updated.
    HtabMem(HtabMemOptions),
    /// How fast a hash map is updated.
    MapPerf(CommonOptions),
    /// The trie beside other ordered maps.
    QpTrie(QpTrieOptions),
    /// Which policy a workload of the user's own wants.
    Advise(AdviseOptions),
    /// Allocating in signal handlers.
    #[cfg(target_os = "linux")]
    Signals(SignalsOptions),
    /// What the libraries promise, checked under stress.
    #[cfg(target_os = "linux")]
    Torture(TortureOptions),
    /// What there is to be measured.
    List,
    /// Two files of records against each other.
    Cmp(CmpOptions),
    /// Records in another form.
    Export(ExportOptions),
    /// Records as a page with figures.
    Report(ReportOptions),
}

/// Why there is nothing to run: an error, or help that was asked for.
#[derive(Debug)]
pub(crate) struct Answer {
    error: clap::Error,
    /// The command that was asked for, if there is one of that name.
    command: Option<String>,
}

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
    /// Allocating and freeing: pairs, batches, and from one thread to another
    Alloc(AllocOptions),
    /// Entering and leaving read sections, and how long a grace period takes
    ReadSide(CommonOptions),
    /// Memory that waits for readers while writers free as fast as they can
    Flood(FloodOptions),
    /// A hash map's memory and speed while it is updated, beside the kernel's own map
    HtabMem(HtabMemOptions),
    /// A hash map that is updated and deleted from as fast as can be, and where the time goes
    MapPerf(CommonOptions),
    /// The trie beside other ordered maps: looking up, changing, going through, memory
    QpTrie(QpTrieOptions),
    /// Which policy your own workload wants: what is correct, what is fast, and the lines to paste
    #[command(after_help = advise::EXAMPLES)]
    Advise(AdviseOptions),
    /// Allocating and freeing in a signal handler that interrupts the same
    #[cfg(target_os = "linux")]
    Signals(SignalsOptions),
    /// Check both libraries while threads do everything at once; exits with 1 if something was wrong
    #[cfg(target_os = "linux")]
    Torture(TortureOptions),
    /// Commands, their cases and parameters, and how long they take
    List,
    /// Compare the records of two files row by row; exits with 1 if something became worse
    Cmp(CmpOptions),
    /// Print records as CSV or as a Markdown table
    Export(ExportOptions),
    /// Write a page with figures from records
    Report(ReportOptions),
}

/// Where keys come from.
#[derive(Clone, Debug, Args)]
pub(crate) struct DataOption {
    /// Sets of keys: symbols, random, paths, domains, file:PATH with one key a line. PATH is the rest of
    /// the list, commas and all: say --data again for more [default: symbols; for qp-trie
    /// symbols,random]
    #[arg(long, value_name = "SET,..")]
    data: Vec<values::DataNames>,
}

impl DataOption {
    /// The sets, in the order in which they were named; none if none was.
    pub(crate) fn names(&self) -> Vec<DataName> {
        self.data.iter().flat_map(|names| names.0.clone()).collect()
    }
}

/// The options of `compare`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompareOptions {
    /// Those of every command.
    #[command(flatten)]
    pub(crate) common: CommonOptions,

    /// Show all that was measured, row by row
    #[arg(long)]
    pub(crate) tables: bool,

    /// Write no report [default: bench-suite-report.html, or the file of --html]
    #[arg(long, conflicts_with = "html")]
    pub(crate) no_html: bool,

    /// Where keys come from.
    #[command(flatten)]
    pub(crate) data: DataOption,
}

/// The options of `qp-trie`.
#[derive(Clone, Debug, Args)]
pub(crate) struct QpTrieOptions {
    /// Those of every command.
    #[command(flatten)]
    pub(crate) common: CommonOptions,

    /// Where keys come from.
    #[command(flatten)]
    pub(crate) data: DataOption,

    /// How the trie is read: validated, plain, batched, copied, subtree-lock [default: each of them]
    #[arg(long = "reader", value_name = "READER,..", value_delimiter = ',')]
    pub(crate) readers: Vec<String>,
}

/// The options of `alloc`.
#[derive(Clone, Debug, Args)]
pub(crate) struct AllocOptions {
    /// Those of every command.
    #[command(flatten)]
    pub(crate) common: CommonOptions,

    /// Sizes of objects, in bytes [default: those that the command is about]
    #[arg(long = "size", value_name = "BYTES,..", value_delimiter = ',')]
    #[arg(value_parser = values::size, allow_negative_numbers = true)]
    pub(crate) sizes: Vec<usize>,

    /// What reads meanwhile: none, idle, busy, stall-MSms [default: none]
    #[arg(long = "reader", value_name = "READER,..", value_delimiter = ',')]
    pub(crate) readers: Vec<String>,
}

/// The options of `flood`.
#[derive(Clone, Debug, Args)]
pub(crate) struct FloodOptions {
    /// Those of every command.
    #[command(flatten)]
    pub(crate) common: CommonOptions,

    /// Sizes of objects, in bytes [default: 256,4096]
    #[arg(long = "size", value_name = "BYTES,..", value_delimiter = ',')]
    #[arg(value_parser = values::stamped_size, allow_negative_numbers = true)]
    pub(crate) sizes: Vec<usize>,

    /// What reads meanwhile: none, idle, busy, stall-MSms [default: none,idle,busy,stall-100ms]
    #[arg(long = "reader", value_name = "READER,..", value_delimiter = ',')]
    pub(crate) readers: Vec<String>,
}

/// The options of `htab-mem`.
#[derive(Clone, Debug, Args)]
pub(crate) struct HtabMemOptions {
    /// Those of every command.
    #[command(flatten)]
    pub(crate) common: CommonOptions,

    /// Sizes of values, in bytes [default: 8,64,256,1024,4096]
    #[arg(long = "value-size", value_name = "BYTES,..", value_delimiter = ',')]
    #[arg(value_parser = values::value_size, allow_negative_numbers = true)]
    pub(crate) value_sizes: Vec<usize>,

    /// What reads meanwhile: none, idle, busy, stall-MSms [default: none]
    #[arg(long = "reader", value_name = "READER,..", value_delimiter = ',')]
    pub(crate) readers: Vec<String>,
}

/// The options of `signals`.
#[cfg(target_os = "linux")]
#[derive(Clone, Debug, Args)]
pub(crate) struct SignalsOptions {
    /// Those of every command.
    #[command(flatten)]
    pub(crate) common: CommonOptions,

    /// Signals a second, for each thread
    #[arg(long, value_name = "HZ", default_value = "10000", value_parser = values::rate, allow_negative_numbers = true)]
    pub(crate) rate: u32,

    /// Only these CPU modes: rseq, active-cpu, active-thread [default: all that this system has]
    #[arg(long = "cpu-mode", value_name = "MODE,..", value_delimiter = ',')]
    pub(crate) modes: Vec<CpuMode>,
}

/// Reads the command line.
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

/// The commands that have an option.
#[cfg(test)]
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
            // A pipe that nobody reads any more is no failure of ours.
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
    fn no_command_is_compare_and_options_may_stand_with_or_without_it() {
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
