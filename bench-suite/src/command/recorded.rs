//! The commands that read records: `cmp`, `export` and `report`.

use std::path::{Path, PathBuf};

use super::page::PagePath;
use super::{Failure, print};
use crate::cli::{CmpOptions, ExportOptions, Format, ReportOptions};
use crate::record::{Run, read};
use crate::report::{self, RunComparison};

/// Compares the records of two files.
pub(super) fn cmp(options: &CmpOptions) -> Result<(), Failure> {
    let [old, new] = [&options.old, &options.new].map(|path| read(path));
    let (old, new) = (old.map_err(Failure::Request)?, new.map_err(Failure::Request)?);
    let margin = 1.0 + options.threshold / 100.0;
    let comparison = RunComparison::of(&old, &new, margin).map_err(|error| {
        let [old, new] = [&options.old, &options.new].map(|path| path.display());
        Failure::Request(format!("records {old} and {new}: {error}"))
    })?;
    print(&comparison.text)?;
    match comparison.unjudged {
        _ if comparison.got_worse => Err(Failure::Worse),
        Some(reason) => Err(Failure::Request(reason)),
        None => Ok(()),
    }
}

/// Prints records in another format.
pub(super) fn export(options: &ExportOptions) -> Result<(), Failure> {
    let runs = read_all(&options.records)?;
    print(&match options.format {
        Format::Csv => report::csv(&runs).map_err(Failure::Run)?,
        Format::Md => report::markdown(&runs),
    })
}

/// Writes a page.
pub(super) fn report(options: &ReportOptions) -> Result<(), Failure> {
    let page = PagePath::checked(&options.html).map_err(Failure::Request)?;
    let runs = read_all(&options.records)?;
    print(&page.write(&runs).map_err(Failure::Run)?)
}

/// Reads the runs of all files.
fn read_all(paths: &[PathBuf]) -> Result<Vec<Run>, Failure> {
    let runs = paths.iter().map(|path: &PathBuf| read(Path::new(path)));
    let runs: Result<Vec<Vec<Run>>, String> = runs.collect();
    Ok(runs.map_err(Failure::Request)?.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use fastrand::Rng;
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::measure::{Curve, Look, Metric, Over};
    use crate::record::{Sink, specimen};

    /// The lines of a file with records of several kinds.
    fn lines(path: &Path) -> Vec<Json> {
        let samples = [1e6, 2e6, 1.5e6, 1.2e6, 1.3e6, 1.4e6, 1.7e6];
        let look = |at: u64| Look {
            at: Duration::from_secs(at),
            arithmetic_ns: 1.0,
            independent_ns: 1.5,
            round_trip_ns: Some(80.0),
        };
        let metrics = [Metric::OpsPerS, Metric::MemPeakBytes, Metric::UpdateGroupMaxNs];
        let places = ["immediate", "after-rcu-gp"].map(|policy| (policy, "update", "qp-trie"));
        let flood = places.map(|(policy, ..)| (policy, "overwrite", "flood"));
        let mut records = Vec::new();
        for ((policy, case, bench), metric) in
            places.into_iter().chain(flood).flat_map(|one| metrics.map(|metric| (one, metric)))
        {
            let mut record = specimen::of(case, policy, metric, &samples);
            record.bench = bench.into();
            record.params.insert("reader".into(), "stall-100ms".into());
            record.params.insert("size".into(), 64.into());
            record.looks = (0..7).map(look).collect();
            let points = vec![[0.0, 1e6], [0.1, 2e6]];
            record.curves = vec![Curve { over: Over::TimeS, points }; samples.len()];
            records.push(record);
        }
        let header = records[0].run.clone();
        records.iter_mut().for_each(|record| record.run = header.clone());
        let mut end = specimen::end(&samples);
        end.run = header.run.clone();
        let mut sink = Sink::open(Some(path)).unwrap();
        sink.begin(&header).unwrap();
        sink.append(&records).unwrap();
        sink.end(&end).unwrap();
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Changes a value somewhere below `value`, removes it or cuts it short.
    fn spoil(value: &mut Json, rng: &mut Rng) {
        let goes_deeper = rng.u8(..) < 200;
        match value {
            Json::Object(fields) if goes_deeper && !fields.is_empty() => {
                let key = fields.keys().nth(rng.usize(..fields.len())).cloned().unwrap();
                if rng.u8(..) < 20 {
                    fields.remove(&key);
                } else {
                    spoil(&mut fields[&key], rng);
                }
            }
            Json::Array(items) if goes_deeper && !items.is_empty() => {
                let place = rng.usize(..items.len());
                if rng.u8(..) < 60 {
                    items.truncate(place);
                } else {
                    spoil(&mut items[place], rng);
                }
            }
            _ => {
                let others = [
                    json!(0),
                    json!(-1),
                    json!(1e308),
                    json!(-1e308),
                    json!(1e-320),
                    json!(0.5),
                    json!(u64::MAX),
                    json!(null),
                    json!([]),
                    json!({}),
                    json!(true),
                    json!(""),
                    json!("immediate"),
                    json!("<script>"),
                    json!("\n"),
                    json!("stall-1ms"),
                ];
                // A value of another type is refused: most are of the same one.
                let kind = |value: &Json| std::mem::discriminant(value);
                let any_kind = rng.u8(..) < 20;
                let fitting: Vec<&Json> =
                    others.iter().filter(|&other| any_kind || kind(other) == kind(value)).collect();
                if let Some(&other) = rng.choice(&fitting) {
                    *value = other.clone();
                }
            }
        }
    }

    #[test]
    fn spoiled_records_are_refused_in_one_line_or_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        let good = lines(&path);
        let old = read(&path).unwrap();
        let mut rng = Rng::with_seed(5);
        let (mut refused, mut shown) = (0, 0);
        for _ in 0..400 {
            let mut lines = good.clone();
            for _ in 0..1 + rng.usize(..4) {
                let place = rng.usize(..lines.len());
                spoil(&mut lines[place], &mut rng);
            }
            let text: Vec<String> = lines.iter().map(Json::to_string).collect();
            fs::write(&path, text.join("\n")).unwrap();
            match read(&path) {
                Ok(runs) => {
                    shown += 1;
                    report::csv(&runs).unwrap();
                    report::markdown(&runs);
                    report::page(&runs);
                    if let Err(error) = RunComparison::of(&old, &runs, 1.1) {
                        assert_eq!(Failure::Request(error).to_string().lines().count(), 1);
                    }
                }
                Err(error) => {
                    refused += 1;
                    assert_eq!(Failure::Request(error).to_string().lines().count(), 1);
                }
            }
        }
        assert!(refused > 50 && shown > 50, "{refused} refused, {shown} shown");
    }
}
