//! The first and the last line of a run: the data common to all its records.

use std::env;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Build, Host, Record};
use crate::measure::{Comparison, Look, Metric, Probe, Series, Summary, Verdict};
use crate::workload::{Params, Subject};

/// The first line of a run. Its records refer to it by `run`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunHeader {
    /// A unique name of the run.
    pub(crate) run: String,
    /// The start of the run, in UTC (RFC 3339); empty if unknown.
    pub(crate) time: String,
    /// The command.
    pub(crate) command: String,
    /// The arguments, including the command if it was given.
    pub(crate) arguments: Vec<String>,
    /// The seed of random keys and random orders.
    pub(crate) seed: u64,
    /// The build of the program.
    pub(crate) build: Build,
    /// The machine.
    pub(crate) host: Host,
}

impl RunHeader {
    /// Creates the header of this process's run, which begins now.
    pub(crate) fn begin(seed: u64) -> Self {
        let arguments: Vec<String> =
            env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        let time = now();
        let stamp: String = time.chars().filter(|char| !"-:".contains(*char)).collect();
        Self {
            run: format!("{stamp}-{:08x}", fastrand::u32(..)),
            time,
            command: command(&arguments),
            arguments,
            seed,
            build: Build::this(),
            host: Host::here(),
        }
    }

    /// Returns the command that repeats the run.
    pub(crate) fn command_line(&self) -> String {
        let features = self.build.features.iter().map(|name| format!("--features {name}"));
        let profile = (self.build.profile != "debug").then(|| "--release".to_owned());
        let cargo = ["cargo", "run"].map(str::to_owned).into_iter().chain(profile);
        let cargo = cargo.chain(["-p bench-suite".to_owned()]).chain(features);
        let arguments = self.arguments.iter().map(|word| quoted(word));
        let arguments =
            (!self.arguments.is_empty()).then(|| "--".to_owned()).into_iter().chain(arguments);
        cargo.chain(arguments).collect::<Vec<_>>().join(" ")
    }
}

/// Returns the command in the arguments.
fn command(arguments: &[String]) -> String {
    let named = arguments.first().filter(|word| !word.starts_with('-'));
    named.map_or("compare", String::as_str).to_owned()
}

/// Quotes a word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=./:,+@%".contains(&byte);
    match !word.is_empty() && word.bytes().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// The last line of a run. A run without one was killed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunEnd {
    /// The name of the run.
    pub(crate) run: String,
    /// The end of the run, in the format of the header.
    pub(crate) time: String,
    /// The duration of the run, in seconds.
    pub(crate) seconds: f64,
    /// The number of workloads that were measured.
    pub(crate) workloads_done: usize,
    /// The number of workloads planned: larger, if the run was interrupted.
    pub(crate) workloads: usize,
    /// The A/A controls.
    #[serde(default)]
    pub(crate) controls: Vec<Control>,
    /// The only one of an older record; moved to the others when it is read.
    #[serde(default, skip_serializing)]
    pub(super) control: Option<Control>,
    /// The health of the machine during the run.
    pub(crate) health: Health,
    /// The reason why the run ended early, if it did; `None` in older records.
    #[serde(default)]
    pub(crate) part: Option<Part>,
}

/// The end of a run that ended early.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// The reason, as text.
    pub(crate) reason: String,
    /// The workload that lacks rounds.
    pub(crate) workload: String,
    /// The number of its rounds that were measured.
    pub(crate) rounds_done: usize,
    /// The number of its rounds planned.
    pub(crate) rounds: usize,
}

impl RunEnd {
    /// Creates the end of a run that ends now.
    pub(crate) fn now(
        header: &RunHeader,
        took: Duration,
        (workloads_done, workloads): (usize, usize),
        controls: Vec<Control>,
        health: Health,
        part: Option<Part>,
    ) -> Self {
        Self {
            run: header.run.clone(),
            time: now(),
            seconds: rounded(took.as_secs_f64()),
            workloads_done,
            workloads,
            controls,
            control: None,
            health,
            part,
        }
    }
}

/// The A/A control: one subject measured twice, like two subjects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Control {
    /// The bench.
    pub(crate) bench: String,
    /// The case.
    pub(crate) case: String,
    /// The subject that was measured twice.
    pub(crate) subject: String,
    /// The reuse policy.
    pub(crate) policy: Option<String>,
    /// The number of working threads.
    pub(crate) threads: usize,
    /// The parameters.
    pub(crate) params: Params,
    /// The quantity.
    pub(crate) metric: Metric,
    /// The first samples of the rounds, which are in its record, too.
    pub(crate) samples: Vec<f64>,
    /// Its second samples in the same rounds.
    pub(crate) again: Vec<f64>,
    /// The ratio of the second to the first.
    #[serde(flatten)]
    pub(crate) comparison: Comparison,
}

/// The state of the machine during a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Health {
    /// The time of an arithmetic step that depends on the previous one, in nanoseconds.
    pub(crate) arithmetic_ns: Option<Summary>,
    /// The time of six that do not depend on each other, in nanoseconds; `None` in older records.
    #[serde(default)]
    pub(crate) independent_ns: Option<Summary>,
    /// The time of a cache line's round trip to another CPU, in nanoseconds.
    pub(crate) round_trip_ns: Option<Summary>,
    /// True if one of the three changed by more than a quarter.
    pub(crate) is_unsteady: bool,
    /// The median CPU share of the threads in all samples that were not oversubscribed.
    pub(crate) cpu_share: Option<f64>,
}

impl Health {
    /// Summarizes the probes of the machine, and the CPU shares in some records.
    pub(crate) fn of(probe: &Probe, records: &[Record]) -> Self {
        let alone = records.iter().filter(|record| !record.is_oversubscribed());
        let shares = alone.filter(|record| record.metric == Metric::CpuShare);
        let shares: Vec<f64> = shares.flat_map(|record| record.samples.iter().copied()).collect();
        Self {
            arithmetic_ns: probe.arithmetic(),
            independent_ns: probe.independent(),
            round_trip_ns: probe.round_trip(),
            is_unsteady: probe.is_unsteady(),
            cpu_share: Summary::of(&shares).map(|summary| summary.median),
        }
    }
}

impl Control {
    /// Compares two series of one subject, given the probes before their samples; `None` if a
    /// sample is zero.
    pub(crate) fn of(
        bench: &str,
        subject: &Subject<'_>,
        threads: usize,
        (first, looks): (&Series, &[Look]),
        (again, looks_again): (&Series, &[Look]),
    ) -> Option<Self> {
        let trips =
            |looks: &[Look]| looks.iter().map(|look| look.round_trip_ns).collect::<Vec<_>>();
        let (trips, trips_again) = (trips(looks), trips(looks_again));
        let placed = |series, trips| super::placed(threads, &subject.params, series, trips);
        let (base, other) = (placed(&first.samples, &trips), placed(&again.samples, &trips_again));
        let comparison = Comparison::of(base, other)?;
        Some(Self {
            bench: bench.into(),
            case: first.case.into(),
            subject: subject.name.into(),
            policy: subject.policy.map(|policy| policy.to_string()),
            threads,
            params: subject.params.clone(),
            metric: first.metric,
            samples: first.samples.clone(),
            again: again.samples.clone(),
            comparison,
        })
    }

    /// Returns whether the two series, which are of the same subject, differ.
    pub(crate) fn differs(&self) -> bool {
        self.comparison.verdict == Verdict::Differ
    }
}

/// Rounds to three decimal places: further digits are noise.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(arguments: &[&str], features: &[&str]) -> RunHeader {
        let arguments: Vec<String> = arguments.iter().map(|&word| word.into()).collect();
        let features = features.iter().map(|&name| name.into()).collect();
        let build = Build { profile: "release".into(), features, ..Build::default() };
        RunHeader { arguments, build, ..RunHeader::default() }
    }

    #[test]
    fn the_command_line_of_a_run_repeats_it() {
        let line =
            |arguments: &[&str], features: &[&str]| header(arguments, features).command_line();
        assert_eq!(line(&[], &[]), "cargo run --release -p bench-suite");
        assert_eq!(
            line(&["qp-trie", "--data", "file:a b's"], &["rivals"]),
            r"cargo run --release -p bench-suite --features rivals -- qp-trie --data 'file:a b'\''s'"
        );
    }

    #[test]
    fn the_default_command_is_compare() {
        let of = |arguments: &[&str]| command(&header(arguments, &[]).arguments);
        assert_eq!(
            [of(&[]), of(&["--quiet"]), of(&["alloc", "--quiet"])],
            ["compare", "compare", "alloc"]
        );
    }

    #[test]
    fn no_two_runs_have_the_same_name() {
        assert_ne!(RunHeader::begin(1).run, RunHeader::begin(1).run);
    }
}
