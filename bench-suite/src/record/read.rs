//! Reads records.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::line::{First, Measured, SCHEMA};
use super::{Record, RunEnd, RunHeader};
use crate::measure::{Metric, Summary};

/// The prefix of the name of a run of schema 1.
const FIRST: &str = "schema-1";

/// A recorded run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// The header.
    pub(crate) header: Arc<RunHeader>,
    /// The measurements, in order.
    pub(crate) records: Vec<Record>,
    /// The end; `None` if the run was killed or failed.
    pub(crate) end: Option<RunEnd>,
}

impl Run {
    fn add(&mut self, record: Record) -> Result<(), String> {
        if record.samples.is_empty() {
            return Err("is not a record: it has no samples".into());
        }
        self.records.push(record);
        Ok(())
    }

    /// Returns whether a record is of the workload that was cut off.
    fn lacks_rounds_of(&self, record: &Record) -> bool {
        let part = self.end.as_ref().and_then(|end| end.part.as_ref());
        let is_measured = record.metric != Metric::WrongAnswers;
        is_measured && part.is_some_and(|part| part.rounds_done == record.samples.len())
    }

    /// Returns the records of all workloads but the one that was cut off.
    pub(crate) fn whole(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| !self.lacks_rounds_of(record))
    }
}

/// Reads the runs in a file, in the order of their headers. Records of schema 1 are grouped into
/// one run for each machine and build.
///
/// # Errors
///
/// One line with the file's name: why it can't be read, or which line of it is not a record and
/// why.
pub(crate) fn read(path: &Path) -> Result<Vec<Run>, String> {
    let complain = |error: String| format!("records {}: {error}", path.display());
    let kind = fs::metadata(path).map_err(|error| complain(error.to_string()))?;
    if !kind.is_file() {
        // Opening a pipe would block until a writer appears.
        let what = if kind.is_dir() { "a directory" } else { "not a regular file" };
        return Err(complain(format!("it is {what}: expected a file that --json wrote")));
    }
    let text = fs::read(path).map_err(|error| complain(error.to_string()))?;
    let runs = parse(&String::from_utf8_lossy(&text)).map_err(complain)?;
    match runs.iter().any(|run| !run.records.is_empty()) {
        true => Ok(runs),
        false if text.is_empty() => Err(complain("it is empty".into())),
        false => Err(complain("it has no record".into())),
    }
}

/// Returns the records of all runs, in the order in which they first occur. The samples of several
/// runs are concatenated, without those of workloads that were cut off.
pub(crate) fn pooled(runs: &[Run]) -> Vec<Record> {
    let mut pooled: Vec<Record> = Vec::new();
    for record in runs.iter().flat_map(Run::whole) {
        match pooled.iter_mut().find(|other| other.is_same_row(record)) {
            Some(other) => {
                other.samples.extend(&record.samples);
                other.looks.extend(&record.looks);
                other.value = Summary::of(&other.samples).map_or(other.value, |all| all.median);
            }
            None => pooled.push(record.clone()),
        }
    }
    pooled
}

/// Returns the records of all runs; of a task that several runs measured, only those of the last of
/// these runs, or of the last that was not cut off in it: samples of different runs have no rounds
/// in common.
pub(crate) fn latest(runs: &[Run]) -> Vec<Record> {
    let mut latest: Vec<(&Record, bool)> = Vec::new();
    for run in runs {
        let all = run.records.iter().map(|record| (record, run.lacks_rounds_of(record)));
        let displaces = |record: &Record, lacks_rounds: bool| {
            let mut same = latest.iter().filter(|(old, _)| old.is_same_task(record));
            !lacks_rounds || same.all(|&(_, old_lacks)| old_lacks)
        };
        let new: Vec<_> = all.filter(|&(record, lacks)| displaces(record, lacks)).collect();
        latest.retain(|(old, _)| !new.iter().any(|(record, _)| record.is_same_task(old)));
        latest.extend(new);
    }
    latest.into_iter().map(|(record, _)| record.clone()).collect()
}

/// Parses the runs in some lines.
pub(crate) fn parse(text: &str) -> Result<Vec<Run>, String> {
    let mut runs = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if !line.trim().is_empty() {
            add(&mut runs, line).map_err(|error| format!("line {number} {error}"))?;
        }
    }
    Ok(runs)
}

fn add(runs: &mut Vec<Run>, line: &str) -> Result<(), String> {
    let line: Json = serde_json::from_str(line)
        .map_err(|error| format!("is not a record: it is not JSON ({error})"))?;
    let schema = line.get("schema").and_then(Json::as_u64);
    let schema = schema.ok_or("is not a record: it has no \"schema\"")?;
    let kind = line.get("kind").and_then(Json::as_str).unwrap_or_default().to_owned();
    match (schema, kind.as_str()) {
        (1, _) => {
            let first: First = typed(line)?;
            let run = like(runs, first.header());
            let record = first.of(&run.header);
            run.add(record)?;
        }
        (2, "run") => {
            let header: RunHeader = typed(line)?;
            if find(runs, &header.run).is_ok() {
                return Err(format!("begins the run {} again", header.run));
            }
            let (records, end) = (Vec::new(), None);
            runs.push(Run { header: Arc::new(header), records, end });
        }
        (2, "record") => {
            let measured: Measured = typed(line)?;
            let run = find(runs, &measured.run)?;
            let record = measured.of(&run.header);
            run.add(record)?;
        }
        // No measurement.
        (2, "torture") => {}
        (2, "end") => {
            let mut end: RunEnd = typed(line)?;
            end.controls.extend(end.control.take());
            let run = find(runs, &end.run)?;
            run.end = Some(end);
        }
        (2, kind) => {
            return Err(format!(
                "is not a record: unknown kind \"{kind}\", expected run, record, end"
            ));
        }
        _ => {
            return Err(format!(
                "has schema {schema}: this program reads 1 to {SCHEMA}, use a newer version"
            ));
        }
    }
    Ok(())
}

fn typed<T: DeserializeOwned>(line: Json) -> Result<T, String> {
    serde_json::from_value(line).map_err(|error| format!("is not a record: {error}"))
}

fn find<'r>(runs: &'r mut [Run], name: &str) -> Result<&'r mut Run, String> {
    let run = runs.iter_mut().find(|run| run.header.run == name);
    run.ok_or_else(|| format!("belongs to the run {name}, which has no header before it"))
}

/// Returns the run of schema 1 with this header, ignoring the name; adds it if there is none.
fn like(runs: &mut Vec<Run>, header: RunHeader) -> &mut Run {
    let is_first = |run: &Run| run.header.run.starts_with(FIRST);
    let same = |run: &Run| {
        is_first(run) && (&run.header.host, &run.header.build) == (&header.host, &header.build)
    };
    let place = runs.iter().position(same).unwrap_or_else(|| {
        let number = 1 + runs.iter().filter(|run| is_first(run)).count();
        let header = Arc::new(RunHeader { run: format!("{FIRST}-{number}"), ..header });
        runs.push(Run { header, records: Vec::new(), end: None });
        runs.len() - 1
    });
    &mut runs[place]
}

#[cfg(test)]
mod tests {
    use super::super::line::Line;
    use super::super::specimen;
    use super::*;
    use crate::workload::reader::Reader;
    use crate::workload::trie::CONCURRENT_READER;

    #[track_caller]
    fn refused(text: &str, parts: &[&str]) {
        let error = parse(text).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }

    fn header_and_record() -> (String, String) {
        let record = specimen::of("update", "immediate", Metric::OpsPerS, &[1.0, 2.0, 4.0]);
        let line = |line: Line<'_>| {
            let mut text = Vec::new();
            line.write(&mut text).unwrap();
            String::from_utf8(text).unwrap()
        };
        (line(Line::Run(&record.run)), line(Line::Record(Box::new((&record).into()))))
    }

    #[test]
    fn the_error_for_an_invalid_line_has_its_number_and_the_reason() {
        let (header, record) = header_and_record();
        refused(&format!("{header}\nnot JSON"), &["line 3 is not a record", "not JSON"]);
        refused("[]", &["line 1 is not a record", "schema"]);
        refused("{\"schema\":3,\"kind\":\"run\"}", &["line 1 has schema 3", "1 to 2"]);
        refused("{\"schema\":2,\"kind\":\"walk\"}", &["\"walk\"", "run, record, end"]);
        refused("{\"schema\":2,\"kind\":\"run\"}", &["missing field"]);
        refused("{\"schema\":1,\"bench\":\"alloc\"}", &["missing field"]);
        refused(&record, &["line 1 belongs to the run", "no header before it"]);
        refused(&format!("{header}{header}"), &["line 2 begins the run"]);
        let unknown = record.replace("ops_per_s", "smiles_per_s");
        refused(&format!("{header}{unknown}"), &["line 2", "smiles_per_s"]);
        let hollow = record.replace("[1.0,2.0,4.0]", "[]");
        refused(&format!("{header}{hollow}"), &["line 2", "no samples"]);
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let (header, record) = header_and_record();
        let runs = parse(&format!("{header}\n{record}")).unwrap();
        let read = &runs[0].records[0];
        assert_eq!((read.value, &read.samples[..]), (2.0, &[1.0, 2.0, 4.0][..]));
        assert_eq!((read.policy.as_deref(), read.threads), (Some("immediate"), 2));
        assert_eq!(read.run, runs[0].header);
    }

    /// It has 4 of 9 rounds of its last workload.
    #[test]
    fn a_workload_that_was_cut_off_counts_only_if_no_run_has_all_of_its_rounds() {
        let of = |cases: &[(&str, f64, usize)], end: Option<RunEnd>| {
            let of_case = |&(case, value, rounds): &(&str, f64, usize)| {
                specimen::of(case, "immediate", Metric::OpsPerS, &vec![value; rounds])
            };
            let records: Vec<Record> = cases.iter().map(of_case).collect();
            Run { header: Arc::clone(&records[0].run), records, end }
        };
        let whole = of(&[("update", 1.0, 9), ("seek", 1.0, 9)], None);
        let part = of(&[("seek", 2.0, 9), ("update", 2.0, 4)], Some(specimen::end(&[1.0; 7])));
        let values = |records: Vec<Record>| -> Vec<(String, f64, usize)> {
            let of = |one: Record| (one.case, one.value, one.samples.len());
            records.into_iter().map(of).collect()
        };
        let (seek, update) = ("seek".to_owned(), "update".to_owned());
        let one_after_the_other = values(latest(&[whole.clone(), part.clone()]));
        assert_eq!(one_after_the_other, [(update.clone(), 1.0, 9), (seek.clone(), 2.0, 9)]);
        assert_eq!(
            values(latest(&[part.clone(), part.clone()])),
            [(seek.clone(), 2.0, 9), (update.clone(), 2.0, 4)]
        );
        assert_eq!(values(pooled(&[part])), [(seek, 2.0, 9)]);
    }

    #[test]
    fn an_older_record_of_the_trie_is_read_as_one_without_a_concurrent_reader() {
        let (header, record) = header_and_record();
        assert!(!record.contains(CONCURRENT_READER));
        let newer = record.replace("\"data\":", "\"concurrent_reader\":\"none\",\"data\":");
        let runs = parse(&format!("{header}\n{record}\n{newer}")).unwrap();
        let [old, new] = &runs[0].records[..] else { panic!("{runs:?}") };
        assert_eq!(
            (old.concurrent_reader(), new.concurrent_reader()),
            (Some(Reader::None), Some(Reader::None))
        );
        assert!(old.is_same_row(new) && old.is_same_task(new));
    }

    #[test]
    fn the_error_for_a_file_without_records_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("empty"), "").unwrap();
        fs::write(path("header"), header_and_record().0).unwrap();
        let error = |name: &str| read(&path(name)).unwrap_err();
        assert!(error("missing").contains("No such file"), "{}", error("missing"));
        assert!(error("empty").ends_with("it is empty"), "{}", error("empty"));
        assert!(error("header").contains("no record"), "{}", error("header"));
        let error = read(directory.path()).unwrap_err();
        assert!(error.contains("a directory: expected"), "{error}");
    }
}
