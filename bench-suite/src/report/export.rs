//! Exports records for other programs, and for documents.

use super::figures;
use crate::measure::Summary;
use crate::record::{Record, Run};

/// Formats records as comma-separated values (RFC 4180): the names of the fields, then one line per
/// sample.
///
/// # Errors
///
/// One line, if a value can't be written.
pub(crate) fn csv(runs: &[Run]) -> Result<String, String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let write = |writer: &mut csv::Writer<Vec<u8>>, line: &[String]| {
        writer.write_record(line).map_err(|error| error.to_string())
    };
    write(&mut writer, &COLUMNS.map(String::from))?;
    for record in runs.iter().flat_map(|run| &run.records) {
        for round in 0..record.samples.len() {
            write(&mut writer, &sample(record, round))?;
        }
    }
    let bytes = writer.into_inner().map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

const COLUMNS: [&str; 17] = [
    "run",
    "time",
    "bench",
    "case",
    "subject",
    "policy",
    "threads",
    "params",
    "metric",
    "unit",
    "round",
    "value",
    "at_s",
    "arithmetic_ns",
    "independent_ns",
    "round_trip_ns",
    "git",
];

fn sample(record: &Record, round: usize) -> [String; 17] {
    let number = |numbers: &[f64]| numbers.get(round).map_or_else(String::new, f64::to_string);
    let trip = record.looks.round_trip_ns.get(round).copied().flatten();
    [
        record.run.run.clone(),
        record.run.time.clone(),
        record.bench.clone(),
        record.case.clone(),
        record.subject.clone(),
        record.policy.clone().unwrap_or_default(),
        record.threads.to_string(),
        params(record),
        record.metric.to_string(),
        record.metric.unit().into(),
        (round + 1).to_string(),
        number(&record.samples),
        number(&record.looks.at_s),
        number(&record.looks.arithmetic_ns),
        number(&record.looks.independent_ns),
        trip.map_or_else(String::new, |trip| trip.to_string()),
        record.run.build.git.clone(),
    ]
}

/// Formats parameters, as in "reader=busy;size=256".
fn params(record: &Record) -> String {
    let names = record.params.keys();
    names.map(|name| format!("{name}={}", record.param(name))).collect::<Vec<_>>().join(";")
}

/// Formats records as a Markdown table with one line per record: its median and its middle half.
pub(crate) fn markdown(runs: &[Run]) -> String {
    let header = ["bench", "case", "subject", "policy", "threads", "parameters", "metric", "value"];
    let mut text = line(&header.map(String::from)) + &line(&header.map(|_| "---".to_owned()));
    for record in runs.iter().flat_map(|run| &run.records) {
        let value = Summary::of(&record.samples)
            .map_or_else(String::new, |all| figures::spread(record.metric, &all));
        text += &line(&[
            record.bench.clone(),
            record.case.clone(),
            record.subject.clone(),
            record.policy.clone().unwrap_or_default(),
            record.threads.to_string(),
            params(record).replace(';', ", "),
            record.metric.to_string(),
            value,
        ]);
    }
    text
}

fn line(cells: &[String]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Metric;
    use crate::record::specimen;

    fn runs() -> Vec<Run> {
        let mut record = specimen::of("update", "immediate", Metric::OpsPerS, &[1e6, 3e6, 2e6]);
        record.params.insert("data".into(), "file:a,b|\"c\"".into());
        vec![Run { header: record.run.clone(), records: vec![record], end: None }]
    }

    #[test]
    fn csv_has_a_line_for_each_sample_whatever_is_in_a_name() {
        let text = csv(&runs()).unwrap();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(reader.headers().unwrap(), COLUMNS.to_vec());
        let lines: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!((&lines[1][8], &lines[1][10], &lines[1][11]), ("ops_per_s", "2", "3000000"));
        assert!(lines[1][7].contains("data=file:a,b|\"c\""), "{text}");
    }

    #[test]
    fn markdown_has_a_line_for_each_record_with_as_many_cells() {
        let text = markdown(&runs());
        let cells = |line: &str| line.replace("\\|", "").matches('|').count();
        assert!(text.lines().count() == 3 && text.lines().all(|line| cells(line) == 9), "{text}");
        assert!(text.contains("2.00 (1.50..2.50) M/s"), "{text}");
    }
}
