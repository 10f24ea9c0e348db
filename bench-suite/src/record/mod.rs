//! Records: the measurements of a run as lines of JSON, which several programs can append to one
//! file.
//!
//! A run is a header, a record for each measurement, and an end. The names and their meaning are
//! fixed by the schema number and described in `docs/records.md`. `value` is the median of
//! `samples`, which are in the order of the rounds: the samples of two records of the same rounds
//! can be compared pair by pair.

mod build;
mod host;
mod line;
mod read;
mod run;
mod sink;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::measure::{
    Curve, Look, Metric, Outcome, Placed, Series, Summary, WrongAnswer, available_cpus,
};
use crate::workload::reader::Reader;
use crate::workload::trie::{self, CONCURRENT_READER};
use crate::workload::{OnWrong, Params, Selection, Subject, Workload};
pub(crate) use build::Build;
pub(crate) use host::Host;
#[cfg(target_os = "linux")]
pub(crate) use line::TortureTally;
#[cfg(test)]
pub(crate) use read::parse;
pub(crate) use read::{Run, latest, pooled, read};
pub(crate) use run::{Control, Health, Part, RunEnd, RunHeader};
pub(crate) use sink::Sink;

/// The parameter with the exact version of a rival.
const VERSION: &str = "version";

/// Benches and subjects that lack a guarantee of the others and are shown only for comparison:
/// without protection of readers, or without an order of the keys.
const FOR_SCALE: [(&str, &str); 3] =
    [("flood", "malloc"), ("qp-trie", "papaya"), ("qp-trie", "dashmap")];

/// The parameter with the setting of a trie's hints. Records made before there were hints lack it.
const HINTS: &str = "hints";

/// The setting of a trie without hints.
const NO_HINTS: &str = "off";

/// The parameter with the wrong answer of a rival.
const WRONG_ANSWER: &str = "wrong_answer";

/// One measurement.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// The bench.
    pub(crate) bench: String,
    /// The case.
    pub(crate) case: String,
    /// The name of the subject.
    pub(crate) subject: String,
    /// The reuse policy; null for a subject without one.
    pub(crate) policy: Option<String>,
    /// The number of working threads.
    pub(crate) threads: usize,
    /// All other parameters, and the source of the keys. `oversubscribed` says whether there were
    /// more threads than CPUs.
    pub(crate) params: Params,
    /// The quantity.
    pub(crate) metric: Metric,
    /// The median of the samples.
    pub(crate) value: f64,
    /// One value for each round.
    pub(crate) samples: Vec<f64>,
    /// The time of each sample, and the machine probe before it; empty in records of schema 1.
    pub(crate) looks: Looks,
    /// The curve of each sample; empty if they have none.
    pub(crate) curves: Vec<Curve>,
    /// The run, shared by all its records.
    pub(crate) run: Arc<RunHeader>,
}

/// The times of samples, the machine probe before each, and their processes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Looks {
    /// Seconds since the beginning of the run.
    pub(crate) at_s: Vec<f64>,
    /// The time of an arithmetic step that depends on the previous one, in nanoseconds.
    pub(crate) arithmetic_ns: Vec<f64>,
    /// The time of six that do not depend on each other, in nanoseconds; empty in older records.
    #[serde(default)]
    pub(crate) independent_ns: Vec<f64>,
    /// The time of a cache line's round trip to another CPU, in nanoseconds; null with one CPU.
    pub(crate) round_trip_ns: Vec<Option<f64>>,
    /// The id of the process of each sample; empty in older records.
    #[serde(default)]
    pub(crate) process: Vec<u32>,
}

impl Looks {
    /// Returns those of some samples, given the probe before each and its process.
    pub(crate) fn of(looks: &[Look], processes: &[u32]) -> Self {
        Self { process: processes.to_vec(), ..looks.iter().copied().collect() }
    }

    /// Returns those of the first samples.
    fn first(&self, samples: usize) -> Self {
        let mut first = self.clone();
        first.at_s.truncate(samples);
        first.arithmetic_ns.truncate(samples);
        first.independent_ns.truncate(samples);
        first.round_trip_ns.truncate(samples);
        first.process.truncate(samples);
        first
    }

    /// Appends those of another run of the same row.
    pub(super) fn extend(&mut self, other: &Self) {
        self.at_s.extend(&other.at_s);
        self.arithmetic_ns.extend(&other.arithmetic_ns);
        self.independent_ns.extend(&other.independent_ns);
        self.round_trip_ns.extend(&other.round_trip_ns);
        self.process.extend(&other.process);
    }
}

impl FromIterator<Look> for Looks {
    fn from_iter<I: IntoIterator<Item = Look>>(looks: I) -> Self {
        let mut all = Self::default();
        for Look { at, arithmetic_ns, independent_ns, round_trip_ns } in looks {
            all.at_s.push(run::rounded(at.as_secs_f64()));
            all.arithmetic_ns.push(run::rounded(arithmetic_ns));
            all.independent_ns.push(run::rounded(independent_ns));
            all.round_trip_ns.push(round_trip_ns.map(run::rounded));
        }
        all
    }
}

impl Record {
    /// Returns the records of a subject of a workload, for the selected cases; or records of the
    /// wrong answer for which it was withdrawn.
    pub(crate) fn of(
        workload: &Workload<'_>,
        subject: &Subject<'_>,
        outcome: Outcome,
        looks: &Looks,
        wanted: &Selection,
        run: &Arc<RunHeader>,
    ) -> Vec<Self> {
        let mut params = subject.params.clone();
        let many = workload.threads > available_cpus();
        // A subject with additional threads has already counted them.
        params.entry("oversubscribed").or_insert_with(|| many.into());
        let series = match outcome {
            Ok(series) => series,
            Err(WrongAnswer(reason)) => {
                params.insert(WRONG_ANSWER.into(), reason.into());
                let cases = match subject.on_wrong {
                    OnWrong::Withdraw(cases) => cases,
                    OnWrong::EndTheRun => &[],
                };
                cases
                    .iter()
                    .map(|case| Series {
                        case,
                        metric: Metric::WrongAnswers,
                        samples: vec![1.0],
                        curves: Vec::new(),
                    })
                    .collect()
            }
        };
        let wanted = series.into_iter().filter(|series| wanted.wants(series.case));
        let records = wanted.filter_map(|Series { case, metric, samples, curves }| {
            let looks = looks.first(samples.len());
            Some(Self {
                bench: workload.bench.into(),
                case: case.into(),
                subject: subject.name.into(),
                policy: subject.policy.map(|policy| policy.to_string()),
                threads: workload.threads,
                params: params.clone(),
                metric,
                value: Summary::of(&samples)?.median,
                samples,
                looks,
                curves,
                run: Arc::clone(run),
            })
        });
        records.collect()
    }

    /// Returns whether another record, possibly of another run, is of the same row: details of the
    /// machine's keys and of a rival's version may differ.
    pub(crate) fn is_same_row(&self, other: &Self) -> bool {
        let found_out = [VERSION, WRONG_ANSWER, "source", "entries", "oversubscribed"];
        let told = |record: &Self| {
            let mut params = record.params.clone();
            params.retain(|name, _| !found_out.contains(&name.as_str()));
            if record.is_trie() {
                params.entry(HINTS).or_insert_with(|| NO_HINTS.into());
            }
            params
        };
        (&self.bench, &self.case, self.threads, self.metric)
            == (&other.bench, &other.case, other.threads, other.metric)
            && (&self.subject, &self.policy) == (&other.subject, &other.policy)
            && told(self) == told(other)
    }

    /// Returns a parameter as text; empty if it is missing.
    pub(crate) fn param(&self, name: &str) -> String {
        match self.params.get(name) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        }
    }

    /// Returns whether the subject is a crate of this workspace.
    pub(crate) fn is_ours(&self) -> bool {
        ["memalloc", "qptrie"].iter().any(|name| self.subject.starts_with(name))
    }

    fn is_trie(&self) -> bool {
        (self.bench.as_str(), self.subject.as_str()) == ("qp-trie", "qptrie")
    }

    /// Returns whether the subject is a trie with hints.
    pub(crate) fn has_hints(&self) -> bool {
        self.is_trie() && ![NO_HINTS, ""].contains(&self.param(HINTS).as_str())
    }

    /// Returns whether the subject is a rival: made by others, with the same guarantees. Subjects
    /// shown only for comparison are not rivals.
    pub(crate) fn is_of_a_rival(&self) -> bool {
        !self.is_ours() && !FOR_SCALE.contains(&(self.bench.as_str(), self.subject.as_str()))
    }

    /// Returns the parameters that describe the task.
    pub(crate) fn task(&self) -> Params {
        let mut params = self.params.clone();
        params.retain(|name, _| !self.is_own(name));
        params
    }

    /// Returns whether both are of the same task, possibly with another subject and metric.
    pub(crate) fn is_same_task(&self, other: &Self) -> bool {
        (&self.bench, &self.case, self.threads) == (&other.bench, &other.case, other.threads)
            && self.task() == other.task()
    }

    /// Returns the parameters that distinguish variants of one subject, as text.
    pub(crate) fn manner(&self) -> String {
        let told = [VERSION, WRONG_ANSWER];
        let own = self.params.iter();
        let own = own.filter(|(name, _)| self.is_own(name) && !told.contains(&name.as_str()));
        let words = own.filter_map(|(name, _)| match (name.as_str(), self.param(name)) {
            // Not shown: a trie keeps hints only if that is said.
            (HINTS, setting) if setting == NO_HINTS => None,
            (HINTS, setting) => Some(format!("{HINTS} {setting}")),
            (_, word) => Some(word),
        });
        words.collect::<Vec<_>>().join(", ")
    }

    fn is_own(&self, param: &str) -> bool {
        [VERSION, WRONG_ANSWER, "barrier", "allocator", "header", "prealloc"].contains(&param)
            || self.bench == "qp-trie" && ["reader", HINTS].contains(&param)
    }

    /// Returns the wrong answer, if there are no values because of it.
    pub(crate) fn wrong_answer(&self) -> Option<String> {
        (self.metric == Metric::WrongAnswers).then(|| self.param(WRONG_ANSWER))
    }

    /// Returns the reader beside the threads that were measured, if it is known.
    pub(crate) fn concurrent_reader(&self) -> Option<Reader> {
        concurrent_reader(&self.params)
    }

    /// Adds the parameter that older records of ordered maps lack.
    fn completed(mut self) -> Self {
        if self.bench == trie::BENCH {
            self.params.entry(CONCURRENT_READER).or_insert_with(|| Reader::None.to_string().into());
        }
        self
    }

    /// Returns the samples for a comparison.
    pub(crate) fn placed(&self) -> Placed<'_> {
        placed(self.threads, &self.params, &self.samples, &self.looks.round_trip_ns)
    }

    /// Returns whether there were more threads than CPUs.
    pub(crate) fn is_oversubscribed(&self) -> bool {
        self.params.get("oversubscribed").and_then(serde_json::Value::as_bool) == Some(true)
    }
}

/// Returns the reader beside the threads that were measured.
fn concurrent_reader(params: &Params) -> Option<Reader> {
    let name = params.get(CONCURRENT_READER).or_else(|| params.get("reader"))?;
    name.as_str()?.parse().ok()
}

/// Returns samples for a comparison. The placement of the CPUs matters if several threads ran,
/// including one that only reads.
fn placed<'s>(
    threads: usize,
    params: &Params,
    samples: &'s [f64],
    round_trips: &'s [Option<f64>],
) -> Placed<'s> {
    match threads > 1 || concurrent_reader(params).is_some_and(Reader::has_thread) {
        true => Placed::of(samples, round_trips),
        false => Placed::anywhere(samples),
    }
}

/// Records for the tests of the layers above.
#[cfg(test)]
pub(crate) mod specimen {
    use super::*;
    use crate::measure::Comparison;

    /// Returns the end of a run whose control measured ones, and then these samples.
    pub(crate) fn end(again: &[f64]) -> RunEnd {
        let first = vec![1.0; again.len()];
        let control = Control {
            bench: "qp-trie".into(),
            case: "lookup-hit".into(),
            subject: "qptrie".into(),
            policy: Some("immediate".into()),
            threads: 1,
            params: Params::new(),
            metric: Metric::OpsPerS,
            comparison: Comparison::of(Placed::anywhere(&first), Placed::anywhere(again)).unwrap(),
            samples: first,
            again: again.to_vec(),
        };
        let summary = Summary::of(&[1.0, 1.5, 2.0]);
        let health = Health {
            arithmetic_ns: summary,
            independent_ns: summary,
            round_trip_ns: summary,
            is_unsteady: true,
            cpu_share: Some(0.5),
        };
        RunEnd {
            run: "specimen".into(),
            time: "2026-01-02T03:04:05Z".into(),
            seconds: 100.5,
            workloads_done: 12,
            workloads: 13,
            controls: vec![control],
            control: None,
            health,
            part: Some(Part {
                reason: "interrupted by SIGINT".into(),
                workload: "update".into(),
                rounds_done: 4,
                rounds: 9,
            }),
        }
    }

    /// Returns a record of the trie under a policy.
    pub(crate) fn of(case: &str, policy: &str, metric: Metric, samples: &[f64]) -> Record {
        let mut params = Params::new();
        params.insert("data".into(), "symbols".into());
        params.insert("entries".into(), 121_015.into());
        params.insert("source".into(), "/proc/kallsyms".into());
        params.insert("oversubscribed".into(), false.into());
        Record {
            bench: "qp-trie".into(),
            case: case.into(),
            subject: "qptrie".into(),
            policy: Some(policy.into()),
            threads: 2,
            params,
            metric,
            value: Summary::of(samples).unwrap().median,
            samples: samples.to_vec(),
            looks: Looks::default(),
            curves: Vec::new(),
            run: Arc::new(RunHeader::begin(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value as Json;

    use super::*;

    const DESCRIPTION: &str = include_str!("../../../docs/records.md");

    /// Returns the lines of the page's code blocks that show records.
    fn examples(schema: &str) -> Vec<&'static str> {
        let blocks = DESCRIPTION.split("```json\n").skip(1);
        let blocks = blocks.map(|block| block.split("```").next().unwrap());
        let lines = blocks.flat_map(str::lines);
        lines.filter(|line| line.starts_with(&format!("{{\"schema\":{schema},"))).collect()
    }

    #[test]
    fn the_examples_of_the_description_are_read() {
        let runs = parse(&examples("2").join("\n")).unwrap();
        let [run] = &runs[..] else { panic!("{runs:?}") };
        assert_eq!((run.header.command.as_str(), run.header.host.stepping), ("flood", Some(1)));
        let record = &run.records[0];
        assert_eq!(record.samples.len(), record.looks.at_s.len());
        assert_eq!(record.curves.len(), record.samples.len());
        assert_eq!(record.value, Summary::of(&record.samples).unwrap().median);
        let end = run.end.as_ref().unwrap();
        assert!(end.controls.len() == 1 && !end.controls[0].differs(), "{end:?}");

        let runs = parse(&examples("1").join("\n")).unwrap();
        assert_eq!((runs.len(), runs[0].records[0].metric), (1, Metric::OpsPerS));
        assert_eq!(runs[0].header.host.cores, 2);
    }

    /// Collects the names of all fields of an object and of nested objects, without the names of
    /// parameters.
    fn names(value: &Json, all: &mut BTreeSet<String>) {
        match value {
            Json::Object(fields) => {
                for (name, value) in fields {
                    all.insert(name.clone());
                    if name != "params" {
                        names(value, all);
                    }
                }
            }
            Json::Array(values) => values.iter().for_each(|value| names(value, all)),
            _ => {}
        }
    }

    #[test]
    fn every_field_is_described_and_shown_and_nothing_else_is_shown() {
        let mut written = Vec::new();
        let mut record = specimen::of("update", "immediate", Metric::OpsPerS, &[1.0]);
        let (at, arithmetic_ns) = (std::time::Duration::from_secs(1), 1.0);
        let look = Look { at, arithmetic_ns, independent_ns: 1.0, round_trip_ns: None };
        record.looks = Looks::of(&[look], &[7]);
        record.curves = Curve::distribution(&[1.0]).into_iter().collect();
        let end = specimen::end(&[1.0; 7]);
        line::Line::Run(&record.run).write(&mut written).unwrap();
        line::Line::Record(Box::new((&record).into())).write(&mut written).unwrap();
        line::Line::End(&end).write(&mut written).unwrap();
        let written = String::from_utf8(written).unwrap();
        assert!(written.lines().all(|line| line.starts_with("{\"schema\":2,\"kind\":\"")));

        let fields = |lines: &mut dyn Iterator<Item = &str>| {
            let mut all = BTreeSet::new();
            lines.for_each(|line| names(&serde_json::from_str(line).unwrap(), &mut all));
            all
        };
        let known = fields(&mut written.lines());
        assert_eq!(known, fields(&mut examples("2").into_iter()));
        for name in known {
            assert!(DESCRIPTION.contains(&format!("| `{name}` |")), "{name} is not described");
        }
    }

    #[test]
    fn a_trie_with_hints_is_another_subject_and_one_of_an_old_record_has_none() {
        let old = specimen::of("update", "immediate", Metric::OpsPerS, &[1.0]);
        let with = |setting: &str| {
            let mut record = old.clone();
            record.params.insert(HINTS.into(), setting.into());
            record
        };
        let (off, on) = (with("off"), with("on"));
        assert!(old.is_same_row(&off) && off.is_same_row(&old) && !on.is_same_row(&off));
        assert_eq!([&old, &off, &on].map(Record::manner), ["", "", "hints on"]);
        assert_eq!([&old, &off, &on].map(Record::has_hints), [false, false, true]);
        assert!(on.is_same_task(&off) && on.is_same_task(&old));
    }

    #[test]
    fn every_metric_is_described() {
        let all = [
            Metric::OpsPerS,
            Metric::LookupsPerS,
            Metric::UpdatesPerS,
            Metric::SignalsPerS,
            Metric::NsPerOp,
            Metric::CpuShare,
            Metric::FalseNegatives,
            Metric::Lost,
            Metric::WouldBlockShare,
            Metric::TableShare,
            Metric::AllocatorShare,
            Metric::GracePeriodShare,
            Metric::Duplicated,
            Metric::WrongAnswers,
            Metric::RetriesPerLookup,
            Metric::GpLatencyNs,
            Metric::AllocLatencyNs,
            Metric::FreeLatencyNs,
            Metric::UpdateLatencyNs,
            Metric::UpdateGroupP50Ns,
            Metric::UpdateGroupP99Ns,
            Metric::UpdateGroupMaxNs,
            Metric::UpdateP50Ns,
            Metric::UpdateP99Ns,
            Metric::RefusedShare,
            Metric::MemAvgBytes,
            Metric::MemPeakBytes,
            Metric::BytesPerEntry,
            Metric::OverheadBytesPerEntry,
        ];
        let methodology = include_str!("../../../docs/METHODOLOGY.md");
        for metric in all {
            let name = serde_json::to_value(metric).unwrap();
            assert!(methodology.contains(&format!("`{}`", name.as_str().unwrap())), "{name}");
        }
    }

    #[test]
    fn the_names_of_metrics_are_fixed() {
        let names = [
            (Metric::OpsPerS, "ops_per_s"),
            (Metric::LookupsPerS, "lookups_per_s"),
            (Metric::UpdatesPerS, "updates_per_s"),
            (Metric::NsPerOp, "ns_per_op"),
            (Metric::CpuShare, "cpu_share"),
            (Metric::FalseNegatives, "false_negatives"),
            (Metric::Lost, "lost"),
            (Metric::Duplicated, "duplicated"),
            (Metric::SignalsPerS, "signals_per_s"),
            (Metric::WouldBlockShare, "would_block_share"),
            (Metric::WrongAnswers, "wrong_answers"),
            (Metric::TableShare, "table_share"),
            (Metric::AllocatorShare, "allocator_share"),
            (Metric::GracePeriodShare, "grace_period_share"),
            (Metric::RetriesPerLookup, "retries_per_lookup"),
            (Metric::GpLatencyNs, "gp_latency_ns"),
            (Metric::AllocLatencyNs, "alloc_latency_ns"),
            (Metric::FreeLatencyNs, "free_latency_ns"),
            (Metric::UpdateLatencyNs, "update_latency_ns"),
            (Metric::UpdateGroupP50Ns, "update_group_p50_ns"),
            (Metric::UpdateGroupP99Ns, "update_group_p99_ns"),
            (Metric::UpdateGroupMaxNs, "update_group_max_ns"),
            (Metric::UpdateP50Ns, "update_p50_ns"),
            (Metric::UpdateP99Ns, "update_p99_ns"),
            (Metric::RefusedShare, "refused_share"),
            (Metric::MemAvgBytes, "mem_avg_bytes"),
            (Metric::MemPeakBytes, "mem_peak_bytes"),
            (Metric::BytesPerEntry, "bytes_per_entry"),
            (Metric::OverheadBytesPerEntry, "overhead_bytes_per_entry"),
        ];
        for (metric, name) in names {
            assert_eq!(serde_json::to_value(metric).unwrap(), name);
        }
    }
}
