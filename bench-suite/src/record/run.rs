//! The first and the last line of a run: all that its records have in common.

use std::env;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Build, Host, Record};
use crate::measure::{Comparison, Metric, Probe, Series, Summary, Verdict};
use crate::workload::{Params, Subject};

/// The first line of a run. Its records point to it by `run`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunHeader {
    /// A name that no other run has.
    pub(crate) run: String,
    /// The moment of its beginning, in UTC by RFC 3339; empty in records that do not tell.
    pub(crate) time: String,
    /// The command.
    pub(crate) command: String,
    /// The arguments, the command included where it was named.
    pub(crate) arguments: Vec<String>,
    /// Where random keys and random orders began.
    pub(crate) seed: u64,
    /// The program.
    pub(crate) build: Build,
    /// The machine.
    pub(crate) host: Host,
}

impl RunHeader {
    /// The run of this process, beginning now.
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

    /// The command that repeats the run.
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

/// The command that arguments ask for.
fn command(arguments: &[String]) -> String {
    let named = arguments.first().filter(|word| !word.starts_with('-'));
    named.map_or("compare", String::as_str).to_owned()
}

/// A word as a shell takes it.
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
    /// The run that ended.
    pub(crate) run: String,
    /// The moment, as in the header.
    pub(crate) time: String,
    /// The duration of the run, in seconds.
    pub(crate) seconds: f64,
    /// The workloads that were measured.
    pub(crate) workloads_done: usize,
    /// The workloads that were to be measured: more, if the run was interrupted.
    pub(crate) workloads: usize,
    /// One subject beside itself.
    pub(crate) control: Option<Control>,
    /// The machine while it ran.
    pub(crate) health: Health,
}

impl RunEnd {
    /// The end of a run, now.
    pub(crate) fn now(
        header: &RunHeader,
        took: Duration,
        (workloads_done, workloads): (usize, usize),
        control: Option<Control>,
        health: Health,
    ) -> Self {
        Self {
            run: header.run.clone(),
            time: now(),
            seconds: rounded(took.as_secs_f64()),
            workloads_done,
            workloads,
            control,
            health,
        }
    }
}

/// The A/A control: two that are the same, measured like any two.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Control {
    /// The bench.
    pub(crate) bench: String,
    /// The case.
    pub(crate) case: String,
    /// The subject that was measured twice.
    pub(crate) subject: String,
    /// Its policy.
    pub(crate) policy: Option<String>,
    /// Threads at work.
    pub(crate) threads: usize,
    /// Its parameters.
    pub(crate) params: Params,
    /// The quantity.
    pub(crate) metric: Metric,
    /// The samples that are in its record, too.
    pub(crate) samples: Vec<f64>,
    /// Those of its second place in the same rounds.
    pub(crate) again: Vec<f64>,
    /// The second over the first.
    #[serde(flatten)]
    pub(crate) comparison: Comparison,
}

/// The state of the machine during a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Health {
    /// A step of arithmetic, in nanoseconds.
    pub(crate) arithmetic_ns: Option<Summary>,
    /// A cache line to another CPU and back, in nanoseconds.
    pub(crate) round_trip_ns: Option<Summary>,
    /// Whether one of the two changed by more than a quarter.
    pub(crate) is_unsteady: bool,
    /// The part of their CPUs that threads got where there were enough of them: the median of all
    /// samples.
    pub(crate) cpu_share: Option<f64>,
}

impl Health {
    /// Summarizes the looks of a probe, and the shares of the CPUs in some records.
    pub(crate) fn of(probe: &Probe, records: &[Record]) -> Self {
        let alone = records.iter().filter(|record| !record.is_oversubscribed());
        let shares = alone.filter(|record| record.metric == Metric::CpuShare);
        let shares: Vec<f64> = shares.flat_map(|record| record.samples.iter().copied()).collect();
        Self {
            arithmetic_ns: probe.arithmetic(),
            round_trip_ns: probe.round_trip(),
            is_unsteady: probe.is_unsteady(),
            cpu_share: Summary::of(&shares).map(|summary| summary.median),
        }
    }
}

impl Control {
    /// The control of a workload: two series of one subject. `None` where a zero is among them.
    pub(crate) fn of(
        bench: &str,
        subject: &Subject<'_>,
        threads: usize,
        first: &Series,
        again: &Series,
    ) -> Option<Self> {
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
            comparison: Comparison::of(&first.samples, &again.samples)?,
        })
    }

    /// Whether the two differ, which are the same.
    pub(crate) fn differs(&self) -> bool {
        self.comparison.verdict == Verdict::Differ
    }
}

/// With three digits behind the point: what is behind them is noise.
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
    fn a_run_can_be_typed_again() {
        let line =
            |arguments: &[&str], features: &[&str]| header(arguments, features).command_line();
        assert_eq!(line(&[], &[]), "cargo run --release -p bench-suite");
        assert_eq!(
            line(&["qp-trie", "--data", "file:a b's"], &["rivals"]),
            r"cargo run --release -p bench-suite --features rivals -- qp-trie --data 'file:a b'\''s'"
        );
    }

    #[test]
    fn without_a_command_it_is_compare() {
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
