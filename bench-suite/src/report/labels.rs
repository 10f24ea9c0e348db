//! The names of rows, columns and tables.

use super::figures;
use super::rows::Row;
use crate::measure::Metric;
use crate::record::Record;
use crate::workload::hash_map::htab_mem;
use crate::workload::reader::Reader;
use crate::workload::threads_in_words;
use crate::workload::trie::CONCURRENT_READER;

/// Returns the part of a row's name that states its quantity; `None` for a row that is not shown.
pub(super) fn heading(row: &Row<'_>, rows: &[Row<'_>]) -> Option<&'static str> {
    let common = row.common();
    match common.metric {
        Metric::OpsPerS => Some(""),
        Metric::LookupsPerS => Some("lookups"),
        Metric::UpdatesPerS => Some("updates"),
        Metric::SignalsPerS => Some("signals"),
        Metric::WouldBlockShare => Some("would block"),
        Metric::TableShare => Some("table"),
        Metric::AllocatorShare => Some("allocator"),
        Metric::GracePeriodShare => Some("grace periods"),
        // The reciprocal of the speed: no second row for it.
        Metric::NsPerOp if rows.iter().any(|other| is_speed_of(other.common(), common)) => None,
        Metric::NsPerOp => Some(""),
        Metric::GpLatencyNs => Some(""),
        Metric::AllocLatencyNs => Some("alloc"),
        Metric::FreeLatencyNs => Some("free"),
        Metric::UpdateLatencyNs => Some("update"),
        Metric::UpdateGroupP99Ns => Some("512 updates, 99 %"),
        Metric::UpdateGroupMaxNs => Some("longest 512 updates"),
        Metric::RefusedShare => Some("refused"),
        Metric::RetriesPerLookup => Some("retries per lookup"),
        Metric::MemPeakBytes => Some("peak"),
        Metric::MemAvgBytes if row.data().is_empty() && common.bench != htab_mem::BENCH => None,
        Metric::MemAvgBytes => Some("average"),
        Metric::BytesPerEntry => Some("per entry"),
        Metric::OverheadBytesPerEntry => Some("per entry beyond key and value"),
        // The median is the speed again; its distribution has a figure.
        Metric::UpdateGroupP50Ns
        | Metric::UpdateP50Ns
        | Metric::UpdateP99Ns
        | Metric::CpuShare
        | Metric::FalseNegatives
        | Metric::Lost
        | Metric::Duplicated
        | Metric::WrongAnswers => None,
    }
}

fn is_speed_of(speed: &Record, cost: &Record) -> bool {
    (&speed.bench, &speed.case, speed.metric) == (&cost.bench, &cost.case, Metric::OpsPerS)
}

/// Returns the title of a table or of a group of figures.
pub(super) fn title(row: &Row<'_>) -> String {
    let common = row.common();
    let what = match common.metric {
        metric if metric.is_speed() => "speed",
        Metric::NsPerOp
        | Metric::GpLatencyNs
        | Metric::AllocLatencyNs
        | Metric::FreeLatencyNs
        | Metric::UpdateLatencyNs
        | Metric::UpdateGroupP50Ns
        | Metric::UpdateGroupP99Ns
        | Metric::UpdateGroupMaxNs
        | Metric::UpdateP50Ns
        | Metric::UpdateP99Ns => "time",
        Metric::WouldBlockShare => "share of allocations in handlers",
        Metric::TableShare | Metric::AllocatorShare | Metric::GracePeriodShare => "share of time",
        Metric::RefusedShare => "share of updates",
        _ if row.data().is_empty() => "memory",
        _ => "memory and retries",
    };
    if row.data().is_empty() {
        return format!("{}, {what}", common.bench);
    }
    let (entries, source) = (figures::grouped(&common.param("entries")), common.param("source"));
    format!("{}, {what}: {} ({entries} keys, {source})", common.bench, row.data())
}

/// Returns whether two records are of the same subject, measured in the same manner.
pub(super) fn is_of(column: &Record, record: &Record) -> bool {
    (&column.subject, &column.policy, column.manner())
        == (&record.subject, &record.policy, record.manner())
}

/// Returns the policy, or the name of a subject that has none.
pub(super) fn short(record: &Record) -> &str {
    record.policy.as_deref().unwrap_or(&record.subject)
}

/// Returns the policy or subject, and the manner in which it was measured.
pub(super) fn name(record: &Record) -> String {
    match record.manner() {
        manner if manner.is_empty() => short(record).to_owned(),
        manner => format!("{}\n({manner})", short(record)),
    }
}

/// Returns the subject and the manner in which it was measured, in one line.
pub(super) fn subject_name(record: &Record) -> String {
    name(record).replace('\n', " ")
}

/// Returns the name of a row: the case, the parameters of its task, and the quantity.
pub(super) fn label(row: &Row<'_>, rows: &[Row<'_>]) -> String {
    let common = row.common();
    let mut parts = vec![common.case.clone()];
    for name in common.task().keys() {
        let value = common.param(name);
        parts.push(match name.as_str() {
            // Shown in the title of the table, or next to the threads.
            "data" | "source" | "entries" | "oversubscribed" => continue,
            CONCURRENT_READER if value == Reader::None.to_string() => continue,
            CONCURRENT_READER => format!("reader {value}"),
            "size" | "value_size" => format!("{value} B"),
            "rate_hz" => format!("{value} Hz"),
            _ => format!("{name} {value}"),
        });
    }
    parts.extend(heading(row, rows).filter(|heading| !heading.is_empty()).map(str::to_owned));
    parts.join(", ")
}

/// Formats the number of threads, as in "8 threads (oversubscribed)".
pub(super) fn threads_of(record: &Record) -> String {
    format!("{}{}", threads_in_words(record.threads), mark(record))
}

/// Formats the number of threads, as in "8 (oversubscribed)".
pub(super) fn threads(record: &Record) -> String {
    format!("{}{}", record.threads, mark(record))
}

fn mark(record: &Record) -> &'static str {
    if record.is_oversubscribed() { " (oversubscribed)" } else { "" }
}
