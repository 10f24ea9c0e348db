//! The kernel's implementations next to the ones modelled on them.

use maud::html;

use super::{Page, Section, command, subject_name};
use crate::record::Record;
use crate::report::labels::heading;
use crate::report::rows::comparison;
use crate::report::{beside_htab_mem, beside_the_kernel, figures};

/// The subject of the kernel's map in records.
const KERNEL: &str = "kernel";

/// Returns the section if the kernel was measured, or figures were published for what was measured.
pub(super) fn section(page: &Page<'_>) -> Option<Section> {
    let published = beside_the_kernel(page.records) + &beside_htab_mem(page.records);
    let shown = page.rows.iter().filter(|row| heading(row, &page.rows).is_some());
    let pairs: Vec<(&Record, &Record, String)> = shown
        .flat_map(|row| {
            let kernels = row.records().iter().copied().filter(|one| one.subject == KERNEL);
            let kernels: Vec<&Record> = kernels.collect();
            let ours = row.records().iter().copied().filter(|one| one.is_ours());
            let name = page.name_of(row).0;
            let pairs = ours.flat_map(move |one| {
                let name = name.clone();
                kernels.clone().into_iter().map(move |kernel| (kernel, one, name.clone()))
            });
            pairs.collect::<Vec<_>>()
        })
        .collect();
    if pairs.is_empty() && published.is_empty() {
        return None;
    }
    Some(Section {
        id: "kernel",
        title: "Comparison with the kernel",
        body: html! {
            @if !pairs.is_empty() {
                div.scroll tabindex="0" role="region" aria-label="comparison with the kernel" {
                    table {
                        thead { tr {
                            th { "case" } th.n { "threads" } th { "model" } th.n { "model's value" }
                            th { "kernel" } th.n { "kernel's value" } th.n { "model / kernel" }
                        } }
                        tbody {
                            @for (kernel, ours, name) in &pairs {
                                tr {
                                    td { (name) }
                                    td.n { (ours.threads) }
                                    td { (subject_name(ours)) }
                                    td.n { (figures::value(ours.metric, ours.value)) }
                                    td { (subject_name(kernel)) }
                                    td.n { (figures::value(kernel.metric, kernel.value)) }
                                    td.n {
                                        @if let Some(ratio) = comparison(kernel, ours) {
                                            (figures::ratio_and_interval(&ratio))
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
                @if let Some((kernel, _, _)) = pairs.first() { (command(kernel)) }
            }
            @if !published.is_empty() { pre { (published.trim()) } }
        },
    })
}
