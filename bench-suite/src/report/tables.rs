//! Tables: one for the speeds and one for the memory of each bench and set of keys.

use std::fmt::Write;

use comfy_table::{Cell, CellAlignment, ContentLineStyle, LineStyle, Table, TableStyle};

use super::figures;
use super::rows::{Row, contrast, rows};
use crate::measure::{Metric, Summary};
use crate::record::{Host, Record};

/// With less of its CPUs a run is called disturbed.
const UNDISTURBED: f64 = 0.97;

/// Columns apart, and a line below their names.
const STYLE: TableStyle = TableStyle::new()
    .header_lines(ContentLineStyle::none().junction(' '))
    .header_separator(LineStyle::none().fill('─').junction('─'))
    .content_lines(ContentLineStyle::none().junction(' '));

/// What the tables are about, before there is one.
pub(crate) fn preamble(host: &Host, rounds: usize) -> String {
    let cpus = if host.cores == 1 { "1 CPU".into() } else { format!("{} CPUs", host.cores) };
    format!(
        "Immediate against deferred reuse: {}, {cpus}, {}; caches {}, barrier {}.\n\
         Median of {rounds} interleaved rounds and, in brackets, the middle half of them; \
         operations of all threads.\n\
         Ratios are taken round by round: median and extremes. No difference: the spreads \
         overlap, rounds\ncontradict each other, or it is less than 2 %.\n",
        host.cpu, host.kernel, host.cpu_mode, host.barrier
    )
}

/// All tables, each after its title.
pub(crate) fn tables(records: &[Record]) -> String {
    let rows = rows(records);
    let mut groups: Vec<Vec<&Row<'_>>> = Vec::new();
    for row in rows.iter().filter(|row| heading(row).is_some()) {
        match groups.iter_mut().find(|group| title(group[0]) == title(row)) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    let mut text = String::new();
    for group in groups {
        // Writing to a string can't fail.
        let _ = writeln!(text, "\n{}\n{}", title(group[0]), table(&group));
    }
    let remarks = [false_negatives(&rows), disturbance(&rows)];
    text.extend(std::iter::once("\n".to_owned()).chain(remarks.into_iter().flatten()));
    text
}

/// What a row is headed by, beside its case; `None` for what is not shown.
fn heading(row: &Row<'_>) -> Option<&'static str> {
    match row.common().metric {
        Metric::OpsPerS => Some(""),
        Metric::LookupsPerS => Some("lookups"),
        Metric::UpdatesPerS => Some("updates"),
        Metric::RetriesPerLookup => Some("retries per lookup"),
        Metric::MemPeakBytes => Some("peak"),
        Metric::MemAvgBytes if row.data().is_empty() => None,
        Metric::MemAvgBytes => Some("average"),
        Metric::BytesPerEntry => Some("per entry"),
        Metric::OverheadBytesPerEntry => Some("per entry beyond key and value"),
        Metric::NsPerOp | Metric::CpuShare | Metric::FalseNegatives => None,
    }
}

fn title(row: &Row<'_>) -> String {
    let common = row.common();
    let what = if common.metric.is_speed() { "speed" } else { "memory and retries" };
    if row.data().is_empty() {
        return format!("{}, {what}", common.bench);
    }
    let (entries, source) = (figures::grouped(&common.param("entries")), common.param("source"));
    format!("{}, {what}: {} ({entries} keys, {source})", common.bench, row.data())
}

fn table(group: &[&Row<'_>]) -> Table {
    let mut columns: Vec<&Record> = Vec::new();
    for record in group.iter().flat_map(|row| row.records()) {
        if !columns.iter().any(|column| is_of(column, record)) {
            columns.push(record);
        }
    }
    let mut table = Table::new();
    table.load_style(STYLE);
    let Some((base, others)) = columns.split_first() else { return table };

    let mut header = vec!["case".to_owned(), "threads".to_owned()];
    header.extend(columns.iter().map(|column| name(column)));
    header.extend(others.iter().map(|other| format!("{}\n/ {}", short(other), short(base))));
    table.set_header(header);
    for row in group {
        let of = |column: &Record| row.records().iter().copied().find(|one| is_of(column, one));
        let mut cells = vec![label(row), threads(row.common())];
        cells.extend(columns.iter().map(|column| of(column).map_or_else(String::new, shown)));
        cells.extend(others.iter().map(|other| {
            let contrast = of(base).zip(of(other)).and_then(|(base, other)| contrast(base, other));
            let compared = contrast.filter(|_| row.common().metric != Metric::RetriesPerLookup);
            compared.as_ref().map_or_else(String::new, figures::ratio)
        }));
        let mut aligned = cells.into_iter().map(Cell::new);
        let first = aligned.next();
        let rest = aligned.map(|cell| cell.set_alignment(CellAlignment::Right));
        table.add_row(first.into_iter().chain(rest));
    }
    table
}

fn is_of(column: &Record, record: &Record) -> bool {
    (column.subject, &column.policy) == (record.subject, &record.policy)
}

/// A policy, or the name of what has none.
fn short(record: &Record) -> &str {
    record.policy.as_deref().unwrap_or(record.subject)
}

fn name(record: &Record) -> String {
    match record.param("reader") {
        reader if reader.is_empty() => short(record).to_owned(),
        reader => format!("{}\n({reader})", short(record)),
    }
}

fn label(row: &Row<'_>) -> String {
    let common = row.common();
    let size = common.param("size");
    let size = if size.is_empty() { size } else { format!("{size} B") };
    let parts = [common.case, &size, heading(row).unwrap_or_default()];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

fn threads(record: &Record) -> String {
    let mark = if record.is_oversubscribed() { " (oversubscribed)" } else { "" };
    format!("{}{mark}", record.threads)
}

fn shown(record: &Record) -> String {
    Summary::of(&record.samples)
        .map_or_else(String::new, |summary| figures::spread(record.metric, &summary))
}

/// One sentence for all of them: any that is not zero has failed the run.
fn false_negatives(rows: &[Row<'_>]) -> Option<String> {
    let (count, total) = samples(rows, Metric::FalseNegatives)
        .fold((0, 0.0), |(count, total), sample| (count + 1, total + sample));
    (count > 0)
        .then(|| format!("Keys that were there and were not found: {total}, in {count} samples.\n"))
}

/// Says so if something else was running.
fn disturbance(rows: &[Row<'_>]) -> Option<String> {
    let rows = rows.iter().filter(|row| !row.common().is_oversubscribed());
    let shares: Vec<f64> = samples(rows, Metric::CpuShare).collect();
    let Summary { median, .. } = Summary::of(&shares)?;
    (median < UNDISTURBED).then(|| {
        format!(
            "The machine was busy: in half of the samples the threads got less than {:.0} % of \
             their CPUs.\nSpreads are wide then. Run it again when nothing else does.\n",
            median * 100.0
        )
    })
}

/// All samples of a quantity.
fn samples<'r>(
    rows: impl IntoIterator<Item = &'r Row<'r>>,
    metric: Metric,
) -> impl Iterator<Item = f64> {
    let rows = rows.into_iter().filter(move |row| row.common().metric == metric);
    let records = rows.flat_map(|row| row.records());
    records.flat_map(|record| record.samples.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::specimen;

    #[test]
    fn a_table_has_policies_side_by_side_and_their_ratio() {
        let records = [
            specimen::of("lookup-hit", "immediate", Metric::OpsPerS, &[2e6; 5]),
            specimen::of("lookup-hit", "after-rcu-gp", Metric::OpsPerS, &[3e6; 5]),
            specimen::of("lookup-hit", "immediate", Metric::FalseNegatives, &[0.0; 5]),
        ];
        let text = tables(&records);
        assert!(text.contains("qp-trie, speed: symbols (121,015 keys, /proc/kallsyms)"), "{text}");
        assert!(text.contains("/ immediate"), "{text}");
        let line = text.lines().find(|line| line.contains("lookup-hit")).unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words, ["lookup-hit", "2", "2.00", "M/s", "3.00", "M/s", "1.50"]);
        assert!(text.contains("not found: 0, in 5 samples"), "{text}");
    }

    #[test]
    fn more_threads_than_cpus_are_marked() {
        let mut record = specimen::of("update", "immediate", Metric::OpsPerS, &[2e6; 5]);
        assert!(!tables(std::slice::from_ref(&record)).contains("oversubscribed"));
        record.params.insert("oversubscribed".into(), true.into());
        assert!(tables(&[record]).contains("2 (oversubscribed)"));
    }
}
