//! The kernel's implementations next to the ones modelled on them.

use maud::{Markup, html};

use super::heat_map::tint;
use super::{Page, Section, command, subject_name};
use crate::measure::Verdict;
use crate::record::Record;
use crate::report::labels::{heading, is_of, label, title};
use crate::report::rows::{Row, comparison};
use crate::report::{beside_htab_mem, beside_map_perf, beside_the_kernel, figures};
use crate::workload::threads_in_words;

/// The subject of the kernel's map in records.
const KERNEL: &str = "kernel";

/// Returns the section if the kernel was measured, or figures were published for what was measured.
pub(super) fn section(page: &Page<'_>) -> Option<Section> {
    let published = [beside_the_kernel, beside_htab_mem, beside_map_perf];
    let published = published.map(|beside| beside(page.records)).concat();
    let mut groups: Vec<(String, Vec<&Row<'_>>)> = Vec::new();
    for row in page.rows.iter().filter(|row| heading(row, &page.rows).is_some() && has_both(row)) {
        let name = title(row);
        match groups.iter_mut().find(|(other, _)| *other == name) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((name, vec![row])),
        }
    }
    if groups.is_empty() && published.is_empty() {
        return None;
    }
    Some(Section {
        id: "kernel",
        title: "Comparison with the kernel",
        body: html! {
            @if let Some((_, rows)) = groups.first() {
                p {
                    "The kernel's columns are first. The small figure is the ratio to the first \
                     of them, with its 95 % interval: green is better than the kernel, red is \
                     worse. A cell without a colour has no difference (within 3 %), or is not \
                     told apart."
                }
                @for (name, rows) in &groups {
                    h3 { (name) }
                    (table(page, name, rows))
                }
                details { summary { "Command" } (command(rows[0].common())) }
            }
            @if !published.is_empty() {
                h3 { "Published figures" }
                pre.aligned tabindex="0" { (published.trim()) }
            }
        },
    })
}

fn has_both(row: &Row<'_>) -> bool {
    let has = |wanted: fn(&Record) -> bool| row.records().iter().any(|record| wanted(record));
    has(|record| record.subject == KERNEL) && has(Record::is_ours)
}

/// Shows rows of one quantity, with a column for each subject.
fn table(page: &Page<'_>, name: &str, rows: &[&Row<'_>]) -> Markup {
    let mut columns: Vec<&Record> = Vec::new();
    for record in rows.iter().flat_map(|row| row.records()) {
        let is_shown = record.subject == KERNEL || record.is_ours();
        if is_shown && !columns.iter().any(|column| is_of(column, record)) {
            columns.push(record);
        }
    }
    // The kernel first.
    columns.sort_by_key(|column| column.subject != KERNEL);
    html! {
        div.map-box tabindex="0" role="region" aria-label=(name) {
            table.map.wide {
                thead { tr {
                    th {}
                    @for column in &columns { th.n scope="col" { (subject_name(column)) } }
                } }
                tbody {
                    @for row in rows {
                        tr {
                            th scope="row" {
                                (label(row, &page.rows))
                                span { (threads_in_words(row.common().threads)) }
                            }
                            @for column in &columns { (cell(row, columns[0], column)) }
                        }
                    }
                }
            }
        }
    }
}

/// Shows the value of a subject, and its ratio to the base if that is another subject.
fn cell(row: &Row<'_>, base: &Record, column: &Record) -> Markup {
    let of = |wanted: &Record| row.records().iter().copied().find(|one| is_of(one, wanted));
    let name = subject_name(column);
    let Some(record) = of(column) else { return html! { td data-of=(name) {} } };
    let ratio = of(base).filter(|_| !is_of(base, column)).and_then(|base| comparison(base, record));
    let clear = ratio.filter(|ratio| ratio.verdict == Verdict::Differ).map(|ratio| ratio.ratio);
    let style = clear.and_then(|ratio| match record.metric.is_speed() {
        true => tint(ratio),
        false => tint(ratio.recip()),
    });
    html! {
        td data-of=(name) style=[style] {
            b { (figures::value(record.metric, record.value)) }
            @if let Some(ratio) = &ratio { span { "× " (figures::ratio_and_interval(ratio)) } }
        }
    }
}
