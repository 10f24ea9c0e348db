//! Policies and rivals by kinds of readers: each cell shows a value, and its colour the ratio to
//! the first subject in the same column.

use maud::{Markup, html};

use super::{Page, Section, command, subject_name};
use crate::measure::Metric;
use crate::record::Record;
use crate::report::figures;
use crate::report::labels::is_of;
use crate::report::rows::Row;
use crate::workload::{Params, threads_in_words};

/// A ratio of this has the full colour.
const FULL: f64 = 16.0;

/// The largest share of the colour in a cell, in percent: text stays readable.
const DEEPEST: f64 = 55.0;

/// The parameter whose values are the columns.
const READER: &str = "reader";

/// Returns the section if a case was measured with several kinds of readers.
pub(super) fn section(page: &Page<'_>) -> Option<Section> {
    let mut maps: Vec<Vec<&Row<'_>>> = Vec::new();
    for row in page.rows.iter().filter(|row| is_shown(row)) {
        match maps.iter_mut().find(|map| differ_in_the_reader(map[0], row)) {
            Some(map) => map.push(row),
            None => maps.push(vec![row]),
        }
    }
    maps.retain(|map| map.len() > 1);
    (!maps.is_empty()).then(|| Section {
        id: "readers",
        title: "Policies under concurrent readers",
        body: html! {
            p {
                "Each column has its kind of concurrent readers. The small figure is the ratio to \
                 the first line in the same column: green is better, red is worse; a deeper colour \
                 means a larger difference."
            }
            div.figures.maps { @for map in &maps { (table(map)) } }
        },
    })
}

fn is_shown(row: &Row<'_>) -> bool {
    let common = row.common();
    let metrics = [Metric::OpsPerS, Metric::MemPeakBytes, Metric::GpLatencyNs];
    metrics.contains(&common.metric) && common.task().contains_key(READER)
}

fn without_reader(record: &Record) -> Params {
    let mut task = record.task();
    // A busy reader is one more thread.
    task.retain(|name, _| name != READER && name != "oversubscribed");
    task
}

fn differ_in_the_reader(one: &Row<'_>, other: &Row<'_>) -> bool {
    let (one, other) = (one.common(), other.common());
    (&one.bench, &one.case, one.threads, one.metric)
        == (&other.bench, &other.case, other.threads, other.metric)
        && without_reader(one) == without_reader(other)
}

fn table(map: &[&Row<'_>]) -> Markup {
    let common = map[0].common();
    let mut subjects: Vec<&Record> = Vec::new();
    for record in map.iter().flat_map(|row| row.records()) {
        if !subjects.iter().any(|subject| is_of(subject, record)) {
            subjects.push(record);
        }
    }
    let what = match common.metric {
        Metric::MemPeakBytes => "peak memory",
        Metric::GpLatencyNs => "time",
        _ => "speed",
    };
    let mut parts = vec![common.case.clone()];
    parts.extend(without_reader(common).keys().map(|name| match name.as_str() {
        "size" | "value_size" => format!("{} B", common.param(name)),
        _ => format!("{name} {}", common.param(name)),
    }));
    parts.push(what.into());
    html! {
        figure {
            figcaption {
                (parts.join(", "))
                span.soft { (common.bench) ", " (threads_in_words(common.threads)) }
            }
            div.map-box tabindex="0" role="region" aria-label=(parts.join(", ")) {
                table.map {
                    thead { tr {
                        th {}
                        @for row in map { th.n scope="col" { (row.common().param(READER)) } }
                    } }
                    tbody {
                        @for subject in &subjects {
                            tr {
                                th scope="row" { (subject_name(subject)) }
                                @for row in map { (cell(row, subject)) }
                            }
                        }
                    }
                }
            }
            details { summary { "Command" } (command(common)) }
        }
    }
}

fn cell(row: &Row<'_>, subject: &Record) -> Markup {
    let of = |wanted: &Record| row.records().iter().copied().find(|record| is_of(record, wanted));
    let Some(record) = of(subject) else { return html! { td {} } };
    let base = row.records()[0];
    let factor = (base.value > 0.0 && record.value > 0.0).then(|| record.value / base.value);
    let better = match record.metric.is_speed() {
        true => factor.unwrap_or(1.0),
        false => factor.unwrap_or(1.0).recip(),
    };
    html! {
        td style=[tint(better)] {
            b { (figures::value(record.metric, record.value)) }
            @if let Some(factor) = factor.filter(|_| !is_of(record, base)) {
                span { (figures::factor(factor)) }
            }
        }
    }
}

/// Returns the style of a cell that is better than the base by this ratio, or worse if the ratio is
/// below 1; `None` if it is the same.
pub(super) fn tint(better: f64) -> Option<String> {
    let depth = (better.ln().abs() / FULL.ln()).min(1.0) * DEEPEST;
    let colour = if better >= 1.0 { "--good" } else { "--bad" };
    let mix = format!("background:color-mix(in srgb,var({colour}) {depth:.0}%,var(--card))");
    (depth >= 1.0).then_some(mix)
}
