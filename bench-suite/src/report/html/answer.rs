//! The answer first: the recommendation, and the ratios behind it.

use maud::{Markup, html};

use super::{Page, Section};
use crate::measure::{Comparison, MARGIN, Side, Verdict};
use crate::report::verdict::{DEMANDS, Judgement, Line, Quantity};
use crate::report::{figures, health};

/// The bars show ratios from 1 / this to this.
const WIDEST: f64 = 8.0;

/// Returns the section if something was measured under both policies.
pub(super) fn section(page: &Page<'_>) -> Option<Section> {
    // The rule applies to the rows of one run.
    let compared = page.runs.iter().rev().find(|run| run.header.command == "compare");
    let records = compared.map_or(page.records, |run| &run.records);
    let end = compared.and_then(|run| run.end.as_ref());
    let part = end.and_then(|end| end.part.as_ref());
    let Judgement { scope, lines, recommendations } = Judgement::of(records, part);
    if lines.is_empty() {
        return None;
    }
    Some(Section {
        id: "answer",
        title: "Which policy",
        body: html! {
            div.answer { @for text in &recommendations { p { (text) } } }
            @if let Some(part) = end.and_then(health::part_sentence) { p.warning { (part) } }
            @for (policy, demand) in DEMANDS { p { code { (policy) } ": " (demand) } }
            p { (scope) }
            h3 { "Ratio of " code { "after-rcu-gp" } " to " code { "immediate" } }
            table.lines {
                thead { tr {
                    th { "quantity" } th.n { "immediate" } th.n { "after-rcu-gp" }
                    th.n { "ratio" } th { "verdict" }
                    th.track { "95 % interval, 1/8 to 8 times" } th.n { "rows" }
                } }
                tbody { @for line in &lines { (row(line)) } }
            }
            p.soft {
                "Green favours " code { "after-rcu-gp" } ", red favours " code { "immediate" }
                "; grey is no difference (within 3 %) or not told apart. The middle is 1; a bar that \
                 touches an end extends beyond it."
            }
        },
    })
}

fn row(line: &Line) -> Markup {
    let Line { what, values: [immediate, deferred], comparison, rows, quantity } = line;
    html! {
        tr {
            th scope="row" { (what) }
            td.n { (immediate) }
            td.n { (deferred) }
            @match comparison {
                Some(comparison) => {
                    td.n { (figures::ratio_and_interval(comparison)) }
                    td { (line.word()) }
                    td.track { (bar(comparison, *quantity)) }
                }
                None => { td.n {} td { (line.word()) } td.track {} }
            }
            td.n { (rows) @if *rows == 1 { " row" } @else { " rows" } }
        }
    }
}

/// Draws the interval on a logarithmic scale with 1 in the middle.
fn bar(comparison: &Comparison, quantity: Quantity) -> Markup {
    let place = |ratio: f64| (50.0 + 50.0 * ratio.max(1e-9).ln() / WIDEST.ln()).clamp(0.0, 100.0);
    let (low, high) = (place(comparison.interval.low), place(comparison.interval.high));
    let left = low.min(99.0);
    let class = match (comparison.verdict, comparison.interval.side(MARGIN)) {
        (Verdict::Differ, Side::Above) if quantity == Quantity::Speed => "good",
        (Verdict::Differ, Side::Below) if quantity == Quantity::Speed => "bad",
        (Verdict::Differ, Side::Above) => "bad",
        (Verdict::Differ, Side::Below) => "good",
        _ => "",
    };
    let style = format!("left:{left:.1}%;width:{:.1}%", (high - left).max(1.0));
    html! { span.bar aria-hidden="true" { i class=(class) style=(style) {} } }
}
