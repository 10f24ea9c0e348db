//! Speed and memory over time while a reader stalls.

use maud::{Markup, html};

use super::chart::{Axis, Chart, Point, Series};
use super::{Page, Section, colour_of, figure, subject_name};
use crate::measure::{Curve, Metric, Over};
use crate::record::Record;
use crate::report::rows::Row;

/// Returns the section if samples were recorded over time.
pub(super) fn section(page: &Page<'_>) -> Option<Section> {
    let rows: Vec<&Row<'_>> = page.rows.iter().filter(|row| has_curves(row)).collect();
    (!rows.is_empty()).then(|| Section {
        id: "stall",
        title: "Effect of a stalled reader",
        body: html! {
            p {
                "One sample of each subject over time: the one nearest to the median. While the \
                 reader stays in its section, deferred objects can't be reused; when it leaves, \
                 all of them can."
            }
            div.figures { @for row in rows { (over_time(page, row)) } }
        },
    })
}

fn has_curves(row: &Row<'_>) -> bool {
    row.records().iter().any(|record| record.curves.iter().any(|curve| curve.over == Over::TimeS))
}

fn over_time(page: &Page<'_>, row: &Row<'_>) -> Markup {
    let common = row.common();
    let metric = common.metric;
    let mut others = Vec::new();
    let series: Vec<Series> = row
        .records()
        .iter()
        .filter_map(|record| {
            let points = middle(record)?.points.iter().map(|&[x, y]| Point::new(x, y)).collect();
            Some(Series {
                name: subject_name(record),
                colour: colour_of(record, &mut others),
                is_line: true,
                is_marked: false,
                points,
            })
        })
        .collect();
    let (name, about) = page.name_of(row);
    let what = if metric == Metric::MemAvgBytes { "memory" } else { "speed" };
    let chart = Chart {
        alt: format!("{what} over time: {name}; {about}"),
        x: Axis::new("seconds since the sample began", |value| format!("{value:.2}")),
        y: Axis { has_zero: true, ..Axis::of(what, metric) },
        series,
    };
    figure(&format!("{name}: {what}"), &about, &chart, common)
}

/// Returns the curve of the sample that is nearest to the median.
fn middle(record: &Record) -> Option<&Curve> {
    let distance = |sample: f64| (sample - record.value).abs();
    let pairs = record.samples.iter().zip(&record.curves);
    let nearest = pairs.min_by(|one, other| distance(*one.0).total_cmp(&distance(*other.0)));
    nearest.map(|(_, curve)| curve)
}
