//! Speed against memory: points above and to the left are better.

use maud::{Markup, html};

use super::chart::{Axis, Chart, Point, Series};
use super::{Page, Section, colour_of, figure, subject_name};
use crate::measure::Metric;
use crate::report::labels::is_of;
use crate::report::rows::Row;

/// Returns the section if both were measured.
pub(super) fn section(page: &Page<'_>) -> Option<Section> {
    let speeds = page.rows.iter().filter(|row| row.common().metric == Metric::OpsPerS);
    let pairs: Vec<(&Row<'_>, &Row<'_>)> = speeds
        .filter_map(|speed| {
            let is_memory = |row: &&Row<'_>| {
                row.common().metric == Metric::MemPeakBytes
                    && row.is_of_the_same_task(speed.common())
            };
            Some((speed, page.rows.iter().find(is_memory)?))
        })
        .filter(|(speed, _)| speed.records().len() > 1)
        .collect();
    (!pairs.is_empty()).then(|| Section {
        id: "trade-off",
        title: "Speed against memory",
        body: html! {
            p { "Medians. Points above and to the left are better." }
            div.figures { @for (speed, memory) in pairs { (scatter(page, speed, memory)) } }
        },
    })
}

fn scatter(page: &Page<'_>, speed: &Row<'_>, memory: &Row<'_>) -> Markup {
    let mut others = Vec::new();
    let series: Vec<Series> = speed
        .records()
        .iter()
        .filter_map(|record| {
            let peak = memory.records().iter().find(|peak| is_of(peak, record))?;
            Some(Series {
                name: subject_name(record),
                colour: colour_of(record, &mut others),
                is_line: false,
                is_marked: true,
                points: vec![Point::new(peak.value, record.value)],
            })
        })
        .collect();
    let (name, about) = page.name_of(speed);
    let chart = Chart {
        alt: format!("speed against peak memory: {name}; {about}"),
        x: Axis { is_log: true, ..Axis::of("peak memory", Metric::MemPeakBytes) },
        y: Axis { is_log: true, ..Axis::of("speed", Metric::OpsPerS) },
        series,
    };
    figure(&name, &about, &chart, speed.common())
}
