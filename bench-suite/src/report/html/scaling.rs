//! Speed by the number of threads.

use maud::{Markup, html};

use super::chart::{Axis, Chart, Point, Series};
use super::{Page, Section, colour_of, figure, subject_name};
use crate::record::Record;
use crate::report::labels::{is_of, label};
use crate::report::rows::Row;
use crate::workload::Params;

/// Returns the section if something was measured with several numbers of threads.
pub(super) fn section(page: &Page<'_>) -> Option<Section> {
    let mut groups: Vec<Vec<&Row<'_>>> = Vec::new();
    for row in page.rows.iter().filter(|row| row.common().metric.is_speed()) {
        match groups.iter_mut().find(|group| differ_in_threads(group[0], row)) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    groups.retain(|group| group.len() > 1);
    (!groups.is_empty()).then(|| Section {
        id: "scaling",
        title: "Scaling over threads",
        body: html! {
            p {
                "Speeds are totals over all threads. Hollow marks: more threads than CPUs. These \
                 figures say nothing about machines with more CPUs."
            }
            div.figures { @for group in &groups { (by_threads(page, group)) } }
        },
    })
}

fn task(record: &Record) -> Params {
    let mut task = record.task();
    task.retain(|name, _| name != "oversubscribed");
    task
}

fn differ_in_threads(one: &Row<'_>, other: &Row<'_>) -> bool {
    let (one, other) = (one.common(), other.common());
    (&one.bench, &one.case, one.metric) == (&other.bench, &other.case, other.metric)
        && task(one) == task(other)
}

fn by_threads(page: &Page<'_>, group: &[&Row<'_>]) -> Markup {
    let common = group[0].common();
    let metric = common.metric;
    let records = || group.iter().flat_map(|row| row.records().iter().copied());
    let mut subjects: Vec<&Record> = Vec::new();
    for record in records() {
        if !subjects.iter().any(|subject| is_of(subject, record)) {
            subjects.push(record);
        }
    }
    let mut others = Vec::new();
    let series: Vec<Series> = subjects
        .iter()
        .map(|subject| {
            let mut points: Vec<Point> = records()
                .filter(|record| is_of(record, subject))
                .map(|record| Point {
                    x: record.threads as f64,
                    y: record.value,
                    is_hollow: record.is_oversubscribed(),
                })
                .collect();
            points.sort_by(|one, other| one.x.total_cmp(&other.x));
            Series {
                name: subject_name(subject),
                colour: colour_of(subject, &mut others),
                is_line: true,
                is_marked: true,
                points,
            }
        })
        .collect();
    let name = label(group[0], &page.rows);
    let about = match common.param("data") {
        data if data.is_empty() => common.bench.clone(),
        data => format!("{}, {data}", common.bench),
    };
    let whole =
        |value: f64| if value.fract() == 0.0 { format!("{value:.0}") } else { String::new() };
    let chart = Chart {
        alt: format!("speed by threads: {name}; {about}"),
        x: Axis::new("threads", whole),
        y: Axis { has_zero: true, ..Axis::of("speed", metric) },
        series,
    };
    figure(&name, &about, &chart, common)
}
