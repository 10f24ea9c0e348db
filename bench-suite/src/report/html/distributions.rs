//! Distributions of latency.

use maud::{Markup, html};

use super::chart::{Axis, Chart, Point, Series};
use super::{Page, Section, colour_of, figure, subject_name};
use crate::measure::{Metric, Over, Summary};
use crate::record::Record;
use crate::report::rows::Row;

/// Returns the section if distributions were recorded.
pub(super) fn section(page: &Page<'_>) -> Option<Section> {
    let rows: Vec<&Row<'_>> = page.rows.iter().filter(|row| is_distributed(row)).collect();
    (!rows.is_empty()).then(|| Section {
        id: "latency",
        title: "Latency",
        body: html! {
            p {
                "The value above a share of all calls is the time within which that share \
                 finished. Each point is the median over all samples. A call is one that waits for \
                 a grace period, or in " code { "flood" } " a group of 512 updates of one thread: \
                 the slowest groups contain an update that waited."
            }
            div.figures { @for row in rows { (distribution(page, row)) } }
        },
    })
}

fn is_distributed(row: &Row<'_>) -> bool {
    row.records()
        .iter()
        .any(|record| record.curves.iter().any(|curve| curve.over == Over::Quantile))
}

fn distribution(page: &Page<'_>, row: &Row<'_>) -> Markup {
    let common = row.common();
    let metric = common.metric;
    let mut others = Vec::new();
    let series: Vec<Series> = row
        .records()
        .iter()
        .map(|record| Series {
            name: subject_name(record),
            colour: colour_of(record, &mut others),
            is_line: true,
            is_marked: true,
            points: middle(record),
        })
        .collect();
    let is_group = metric == Metric::UpdateGroupP50Ns;
    let (mut name, about) = page.name_of(row);
    if is_group {
        name.push_str(": 512 updates");
    }
    let chart = Chart {
        alt: format!("distribution of times: {name}; {about}"),
        x: Axis::new(if is_group { "share of all groups" } else { "share of all calls" }, share),
        y: Axis { is_log: true, ..Axis::of("time", metric) },
        series,
    };
    figure(&name, &about, &chart, common)
}

/// Formats a place on the axis, which is in nines: 0 is the fastest call, 1 is 90 %, 2 is 99 %.
fn share(nines: f64) -> String {
    let percent = 100.0 * (1.0 - 10_f64.powf(-nines));
    match nines {
        nines if nines < 0.0 => String::new(),
        nines if nines <= 2.0 => format!("{percent:.0} %"),
        _ => format!("{}", (percent * 1000.0).round() / 1000.0) + " %",
    }
}

/// Returns the medians over the curves of all samples, without the slowest call, whose place is
/// infinite.
fn middle(record: &Record) -> Vec<Point> {
    let Some(first) = record.curves.first() else { return Vec::new() };
    let parts = first.points.iter().map(|point| point[0]).filter(|&part| part < 1.0);
    let points = parts.filter_map(|part| {
        let all = record.curves.iter().flat_map(|curve| &curve.points);
        let values: Vec<f64> = all.filter(|point| point[0] == part).map(|point| point[1]).collect();
        Some(Point::new(-(1.0 - part).log10(), Summary::of(&values)?.median))
    });
    points.collect()
}
