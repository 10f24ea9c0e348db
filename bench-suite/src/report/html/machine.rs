//! The machine, and whether its speed stayed the same.

use std::iter;

use maud::{Markup, html};

use super::chart::{Axis, Chart, Point, Series};
use super::{Page, Section, figure};
use crate::measure::Metric;
use crate::record::{Host, Run};
use crate::report::{figures, health};

/// Returns the section.
pub(super) fn section(page: &Page<'_>) -> Option<Section> {
    let host = &page.runs.last()?.header.host;
    let known: Vec<&Run> = page.runs.iter().filter(|run| !run.header.command.is_empty()).collect();
    Some(Section {
        id: "machine",
        title: "The machine and its health",
        body: html! {
            (described(host))
            @for run in &known {
                @if known.len() > 1 { h3 { "During " code { (run.header.command) } ", " (run.header.time) } }
                (health_of(run))
            }
        },
    })
}

/// Describes the health of one run, in sentences and in figures.
fn health_of(run: &Run) -> Markup {
    let cut_off = match &run.end {
        Some(end) => health::part_sentence(end),
        None => {
            Some(format!("The run {} has no end record: it was killed or failed.", run.header.run))
        }
    };
    html! {
        @if let Some(cut_off) = cut_off { p.warning { (cut_off) } }
        @let controls = run.end.iter().flat_map(health::controls);
        @for sentence in run.end.iter().flat_map(health::sentences).chain(controls) {
            @if is_warning(&sentence) { p.warning { (sentence) } } @else { p { (sentence) } }
        }
        div.figures { (probes(run)) }
    }
}

fn is_warning(sentence: &str) -> bool {
    ["speed changed", "ignore differences", "was busy"].iter().any(|part| sentence.contains(part))
}

fn described(host: &Host) -> Markup {
    let mut facts = vec![("Processor", host.cpu.clone())];
    let stepping = host.stepping.map(|stepping| format!("stepping {stepping}"));
    let microcode = host.microcode.as_ref().map(|version| format!("microcode {version}"));
    let details: Vec<String> = stepping.into_iter().chain(microcode).collect();
    if !details.is_empty() {
        facts[0].1 += &format!(" ({})", details.join(", "));
    }
    facts.push(("CPUs", host.cores.to_string()));
    facts.extend(
        host.memory_bytes
            .map(|bytes| ("Memory", figures::value(Metric::MemPeakBytes, bytes as f64))),
    );
    facts.push(("Hypervisor", host.hypervisor.clone().unwrap_or_else(|| "none or unknown".into())));
    facts.push(("Frequency governor", host.governor.clone().unwrap_or_else(|| "unknown".into())));
    facts.push(("System", host.kernel.clone()));
    facts.push(("Allocator's CPU mode", host.cpu_mode.clone()));
    facts.push(("Reader barrier", host.barrier.clone()));
    html! { dl { @for (name, value) in facts { dt { (name) } dd { (value) } } } }
}

/// Draws the machine probes, one before each sample.
fn probes(run: &Run) -> Markup {
    let Some(first) = run.records.iter().find(|record| !record.looks.at_s.is_empty()) else {
        return html! {};
    };
    let mut looks: Vec<(f64, f64, Option<f64>, Option<f64>)> = Vec::new();
    for record in &run.records {
        let of = &record.looks;
        let six = of.independent_ns.iter().copied().map(Some).chain(iter::repeat(None));
        let times = of.at_s.iter().zip(&of.arithmetic_ns).zip(six).zip(&of.round_trip_ns);
        looks.extend(times.map(|(((at, arithmetic), six), trip)| (*at, *arithmetic, six, *trip)));
    }
    looks.sort_by(|one, other| one.0.total_cmp(&other.0));
    // Several records share a sample.
    looks.dedup_by(|one, other| one.0 == other.0);
    let chart = |name: &str, colour, points: Vec<Point>| Chart {
        alt: format!("{name}, before each sample, over the time of the run"),
        x: Axis::new("seconds since the run began", |value| format!("{value:.0}")),
        y: Axis {
            // One slow step must not flatten all others.
            is_log: true,
            has_zero: true,
            ..Axis::new("time", |value| figures::value(Metric::NsPerOp, value))
        },
        series: vec![Series {
            name: name.to_owned(),
            colour,
            is_line: false,
            is_marked: true,
            points,
        }],
    };
    let arithmetic = looks.iter().map(|look| Point::new(look.0, look.1)).collect();
    let six: Vec<Point> =
        looks.iter().filter_map(|look| Some(Point::new(look.0, look.2?))).collect();
    let trips: Vec<Point> =
        looks.iter().filter_map(|look| Some(Point::new(look.0, look.3?))).collect();
    let about = "the probe before each sample; constant on a steady machine";
    html! {
        (figure("Arithmetic step", about, &chart("arithmetic step", 0, arithmetic), first))
        @if !six.is_empty() {
            @let chart = chart("six independent arithmetic steps", 1, six);
            @let about = "another thread on the same core doubles it; constant on a steady machine";
            (figure("Six independent arithmetic steps", about, &chart, first))
        }
        @if !trips.is_empty() {
            @let chart = chart("cache-line round trip to another CPU", 2, trips);
            (figure("Cache-line round trip to another CPU", about, &chart, first))
        }
    }
}
