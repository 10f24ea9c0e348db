//! Every sample in the order in which it was taken.

use maud::{Markup, html};

use super::chart::{Axis, Chart, Point, Series};
use super::{Page, Section, colour_of, figure, subject_name};
use crate::measure::Summary;
use crate::record::Record;
use crate::report::labels::{heading, title};
use crate::report::rows::Row;

/// A sample is marked if arithmetic before it took longer than the median of its run by this
/// factor.
const SLOW: f64 = 1.1;

/// Returns the section if there is more than one sample.
pub(super) fn section(page: &Page<'_>) -> Option<Section> {
    let mut groups: Vec<(String, Vec<&Row<'_>>)> = Vec::new();
    for row in page.rows.iter().filter(|row| is_shown(page, row)) {
        let name = title(row);
        match groups.iter_mut().find(|(other, _)| *other == name) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((name, vec![row])),
        }
    }
    (!groups.is_empty()).then(|| Section {
        id: "samples",
        title: "Every sample, in order",
        body: html! {
            p {
                "Each mark is one process. Scatter is noise; a common drift of all marks comes \
                 from the machine. Hollow marks: the machine was more than 10 % slower than usual \
                 just before the sample."
            }
            @for (place, (name, rows)) in groups.iter().enumerate() {
                details open[place == 0] {
                    summary { (name) ": " (rows.len()) " figures" }
                    div.figures { @for row in rows { (strip(page, row)) } }
                }
            }
        },
    })
}

fn is_shown(page: &Page<'_>, row: &Row<'_>) -> bool {
    let has_several = row.records().iter().any(|record| record.samples.len() > 1);
    has_several && heading(row, &page.rows).is_some()
}

fn strip(page: &Page<'_>, row: &Row<'_>) -> Markup {
    let common = row.common();
    let metric = common.metric;
    let has_times =
        row.records().iter().all(|record| record.looks.at_s.len() == record.samples.len());
    let mut others = Vec::new();
    let series: Vec<Series> = row
        .records()
        .iter()
        .map(|record| Series {
            name: subject_name(record),
            colour: colour_of(record, &mut others),
            is_line: false,
            is_marked: true,
            points: points(record, has_times),
        })
        .collect();
    let (name, about) = page.name_of(row);
    let x = match has_times {
        true => Axis::new("seconds since the run began", |value| format!("{value:.0}")),
        false => Axis::new("round", |value| format!("{value:.0}")),
    };
    let chart = Chart {
        alt: format!("every sample: {name}; {about}"),
        x,
        y: Axis { is_log: true, ..Axis::of("value", metric) },
        series,
    };
    figure(&name, &about, &chart, common)
}

fn points(record: &Record, has_times: bool) -> Vec<Point> {
    let usual = Summary::of(&record.looks.arithmetic_ns).map(|summary| summary.median);
    let places = (0..record.samples.len()).map(|round| {
        let x = if has_times { record.looks.at_s[round] } else { (round + 1) as f64 };
        let before = record.looks.arithmetic_ns.get(round);
        let is_slow = before.zip(usual).is_some_and(|(before, usual)| *before > usual * SLOW);
        Point { x, y: record.samples[round], is_hollow: is_slow }
    });
    places.collect()
}
