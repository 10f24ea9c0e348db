//! Records: one measurement as one line of JSON, on its own and append-safe.
//!
//! The names and their meaning are fixed by the schema number. `value` is the median of
//! `samples`, which are in the order of the rounds: the samples of two records that were made
//! in turns can be compared pair by pair.

mod host;
mod sink;

use std::sync::Arc;

use serde::Serialize;

use crate::measure::{Metric, Outcome, Series, Summary, WrongAnswer, available_cpus};
use crate::workload::{OnWrong, Params, Selection, Subject, Workload};
pub(crate) use host::Host;
pub(crate) use sink::Sink;

/// The version of the names.
const SCHEMA: u32 = 1;

/// The parameter that names the exact version of what others have made.
const VERSION: &str = "version";

/// Benches and subjects that only show what can be had without what the others promise: without
/// protection of readers, and without an order of the keys.
const FOR_SCALE: [(&str, &str); 3] =
    [("flood", "malloc"), ("qp-trie", "papaya"), ("qp-trie", "dashmap")];

/// The parameter that says which answer of what others have made was wrong.
const WRONG_ANSWER: &str = "wrong_answer";

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Record {
    schema: u32,
    /// The bench.
    pub(crate) bench: &'static str,
    /// The case.
    pub(crate) case: &'static str,
    /// What was measured.
    pub(crate) subject: &'static str,
    /// Its reuse policy; null for what has none.
    pub(crate) policy: Option<String>,
    /// Threads at work.
    pub(crate) threads: usize,
    /// What else distinguishes it, and what the keys were. `oversubscribed` says whether there
    /// were more threads than CPUs.
    pub(crate) params: Params,
    /// The quantity.
    pub(crate) metric: Metric,
    /// The median of the samples.
    pub(crate) value: f64,
    /// One value for each round.
    pub(crate) samples: Vec<f64>,
    unit: &'static str,
    /// The machine, shared by all records of a run.
    pub(crate) host: Arc<Host>,
}

impl Record {
    /// The records of what a subject of a workload measured, of the cases that are wanted; or
    /// those of the wrong answer with which it left the field.
    pub(crate) fn of(
        workload: &Workload<'_>,
        subject: &Subject<'_>,
        outcome: Outcome,
        wanted: &Selection,
        host: &Arc<Host>,
    ) -> Vec<Self> {
        let mut params = subject.params.clone();
        let many = workload.threads > available_cpus();
        // Who has others at work beside the threads of the workload has counted them.
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
                    .map(|case| Series { case, metric: Metric::WrongAnswers, samples: vec![1.0] })
                    .collect()
            }
        };
        let wanted = series.into_iter().filter(|series| wanted.wants(series.case));
        let records = wanted.filter_map(|Series { case, metric, samples }| {
            Some(Self {
                schema: SCHEMA,
                bench: workload.bench,
                case,
                subject: subject.name,
                policy: subject.policy.map(|policy| policy.to_string()),
                threads: workload.threads,
                params: params.clone(),
                metric,
                value: Summary::of(&samples)?.median,
                samples,
                unit: metric.unit(),
                host: Arc::clone(host),
            })
        });
        records.collect()
    }

    /// A parameter in words, or nothing.
    pub(crate) fn param(&self, name: &str) -> String {
        match self.params.get(name) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        }
    }

    /// Whether a crate of this workspace was measured.
    pub(crate) fn is_ours(&self) -> bool {
        ["memalloc", "qptrie"].iter().any(|name| self.subject.starts_with(name))
    }

    /// Whether somebody else made what was measured, and it does the same. What is there for
    /// scale is nobody's rival.
    pub(crate) fn is_of_a_rival(&self) -> bool {
        !self.is_ours() && !FOR_SCALE.contains(&(self.bench, self.subject))
    }

    /// The parameters that say what was to be done.
    pub(crate) fn task(&self) -> Params {
        let mut params = self.params.clone();
        params.retain(|name, _| !self.is_own(name));
        params
    }

    /// The parameters that say how the one who was measured did it, in words.
    pub(crate) fn manner(&self) -> String {
        let told = [VERSION, WRONG_ANSWER];
        let own = self.params.iter();
        let own = own.filter(|(name, _)| self.is_own(name) && !told.contains(&name.as_str()));
        own.map(|(name, _)| self.param(name)).collect::<Vec<_>>().join(", ")
    }

    fn is_own(&self, param: &str) -> bool {
        [VERSION, WRONG_ANSWER, "barrier", "allocator", "header", "prealloc"].contains(&param)
            || (self.bench, param) == ("qp-trie", "reader")
    }

    /// Which of its answers was wrong, if it has no values because of that.
    pub(crate) fn wrong_answer(&self) -> Option<String> {
        (self.metric == Metric::WrongAnswers).then(|| self.param(WRONG_ANSWER))
    }

    /// Whether there were more threads than CPUs.
    pub(crate) fn is_oversubscribed(&self) -> bool {
        self.params.get("oversubscribed").and_then(serde_json::Value::as_bool) == Some(true)
    }
}

/// Records for the tests of the layers above.
#[cfg(test)]
pub(crate) mod specimen {
    use super::*;

    /// A record of the trie under a policy.
    pub(crate) fn of(case: &'static str, policy: &str, metric: Metric, samples: &[f64]) -> Record {
        let mut params = Params::new();
        params.insert("data".into(), "symbols".into());
        params.insert("entries".into(), 121_015.into());
        params.insert("source".into(), "/proc/kallsyms".into());
        params.insert("oversubscribed".into(), false.into());
        Record {
            schema: SCHEMA,
            bench: "qp-trie",
            case,
            subject: "qptrie",
            policy: Some(policy.into()),
            threads: 2,
            params,
            metric,
            value: Summary::of(samples).unwrap().median,
            samples: samples.to_vec(),
            unit: metric.unit(),
            host: Arc::new(Host::here()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_the_names_of_schema_1() {
        let record = specimen::of("mixed", "immediate", Metric::LookupsPerS, &[3.0, 1.0, 2.0]);
        let line = serde_json::to_string(&record).unwrap();
        let mut keys = Vec::new();
        let mut rest = line.as_str();
        for key in [
            "schema", "bench", "case", "subject", "policy", "threads", "params", "metric", "value",
            "samples", "unit", "host",
        ] {
            let (before, after) = rest.split_once(&format!("\"{key}\":")).unwrap();
            keys.push(before.len());
            rest = after;
        }
        let host = rest;
        for key in ["cpu", "cores", "kernel", "rustc", "git", "dirty", "cpu_mode", "barrier"] {
            assert!(host.contains(&format!("\"{key}\":")), "{key} in {host}");
        }
        let start = r#"{"schema":1,"bench":"qp-trie","case":"mixed","subject":"qptrie","policy":"immediate","threads":2,"#;
        assert!(line.starts_with(start), "{line}");
        let middle =
            r#""metric":"lookups_per_s","value":2.0,"samples":[3.0,1.0,2.0],"unit":"1/s","#;
        assert!(line.contains(middle), "{line}");
        assert!(!line.contains('\n'));
    }

    #[test]
    fn the_names_of_metrics_are_those_of_schema_1() {
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
