//! The lines of a file of records.
//!
//! - a line is one JSON object without a line break, and begins with `schema` and `kind`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Build, Host, Looks, Record, RunEnd, RunHeader};
use crate::measure::{Curve, Metric};
use crate::workload::Params;

/// The version of the format.
pub(crate) const SCHEMA: u32 = 2;

/// One line.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Line<'r> {
    /// The start of a run.
    Run(&'r RunHeader),
    /// A measurement.
    Record(Box<Measured>),
    /// The state of a torture run.
    #[cfg(target_os = "linux")]
    Torture(&'r TortureTally<'r>),
    /// The end of a run.
    End(&'r RunEnd),
}

/// The state of a torture run at one moment.
#[cfg(target_os = "linux")]
#[derive(Debug, Serialize)]
pub(crate) struct TortureTally<'r> {
    /// The run.
    pub(crate) run: &'r str,
    /// The amounts.
    #[serde(flatten)]
    pub(crate) tally: crate::torture::Tally,
    /// The error, if there was one.
    pub(crate) error: Option<&'r str>,
    /// The phase of the error.
    pub(crate) phase: Option<&'r str>,
    /// The command that repeats the phase.
    pub(crate) again: Option<&'r str>,
}

/// A line with the version of the format.
#[derive(Debug, Serialize)]
struct Versioned<'l, 'r> {
    schema: u32,
    #[serde(flatten)]
    line: &'l Line<'r>,
}

impl Line<'_> {
    /// Appends the line with a newline.
    pub(super) fn write(&self, lines: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        serde_json::to_writer(&mut *lines, &Versioned { schema: SCHEMA, line: self })?;
        lines.push(b'\n');
        Ok(())
    }
}

/// A record with the name of its run instead of the header.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) run: String,
    bench: String,
    case: String,
    subject: String,
    policy: Option<String>,
    threads: usize,
    params: Params,
    metric: Metric,
    unit: String,
    value: f64,
    samples: Vec<f64>,
    #[serde(flatten)]
    looks: Looks,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    curves: Vec<Curve>,
}

impl From<&Record> for Measured {
    fn from(record: &Record) -> Self {
        let Record { bench, case, subject, policy, threads, params, metric, .. } = record.clone();
        let Record { value, samples, looks, curves, run, .. } = record.clone();
        Self {
            run: run.run.clone(),
            bench,
            case,
            subject,
            policy,
            threads,
            params,
            metric,
            unit: metric.unit().into(),
            value,
            samples,
            looks,
            curves,
        }
    }
}

impl Measured {
    /// Returns the record, with the header of its run.
    pub(super) fn of(self, run: &Arc<RunHeader>) -> Record {
        Record {
            bench: self.bench,
            case: self.case,
            subject: self.subject,
            policy: self.policy,
            threads: self.threads,
            params: self.params,
            metric: self.metric,
            value: self.value,
            samples: self.samples,
            looks: self.looks,
            curves: self.curves,
            run: Arc::clone(run),
        }
        .completed()
    }
}

/// A record of schema 1, which contains all that is known of its run.
#[derive(Debug, Deserialize)]
pub(super) struct First {
    bench: String,
    case: String,
    subject: String,
    policy: Option<String>,
    threads: usize,
    params: Params,
    metric: Metric,
    value: f64,
    samples: Vec<f64>,
    host: HostAndBuild,
}

#[derive(Debug, Deserialize)]
struct HostAndBuild {
    #[serde(flatten)]
    host: Host,
    #[serde(flatten)]
    build: Build,
}

impl First {
    /// Returns the header that the record's run would have had, as far as it is known.
    pub(super) fn header(&self) -> RunHeader {
        let HostAndBuild { host, build } = &self.host;
        RunHeader { host: host.clone(), build: build.clone(), ..RunHeader::default() }
    }

    /// Returns the record, with this header.
    pub(super) fn of(self, run: &Arc<RunHeader>) -> Record {
        Record {
            bench: self.bench,
            case: self.case,
            subject: self.subject,
            policy: self.policy,
            threads: self.threads,
            params: self.params,
            metric: self.metric,
            value: self.value,
            samples: self.samples,
            looks: Looks::default(),
            curves: Vec::new(),
            run: Arc::clone(run),
        }
        .completed()
    }
}
