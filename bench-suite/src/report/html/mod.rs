//! A report: one page that has all in itself, and needs no network and no script.
//!
//! Each section shows what records there are for it, and is left out where there are none. A figure
//! has its numbers and the command that made them below it.

mod answer;
mod chart;
mod distributions;
mod heat_map;
mod kernel;
mod machine;
mod samples;
mod scaling;
mod stall;
mod trade_off;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::labels::{label, short, title};
use super::rows::{Row, rows};
use crate::record::{Record, Run, latest};
use chart::Chart;

/// The name by which a page of this program is known.
pub(crate) const GENERATOR: &str = "bench-suite report";

const STYLE: &str = include_str!("style.css");

const BIAS: &str = include_str!("../../../../docs/BIAS.md");

/// All that sections are made of.
struct Page<'r> {
    runs: &'r [Run],
    records: &'r [Record],
    rows: Vec<Row<'r>>,
}

/// A part of the page.
struct Section {
    id: &'static str,
    title: &'static str,
    body: Markup,
}

/// The page.
pub(crate) fn page(runs: &[Run]) -> String {
    let records = latest(runs);
    let page = Page { runs, records: &records, rows: rows(&records) };
    let makers: [fn(&Page<'_>) -> Option<Section>; 11] = [
        answer::section,
        machine::section,
        heat_map::section,
        stall::section,
        distributions::section,
        scaling::section,
        trade_off::section,
        kernel::section,
        samples::section,
        bias,
        commands,
    ];
    let sections: Vec<Section> = makers.iter().filter_map(|make| make(&page)).collect();
    let title = page.title();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="generator" content=(GENERATOR);
                title { (title) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (title) }
                    p.soft { (page.subtitle()) }
                    nav aria-label="Sections" {
                        ul {
                            @for section in &sections {
                                li { a href={ "#" (section.id) } { (section.title) } }
                            }
                        }
                    }
                }
                main {
                    @for section in &sections {
                        section id=(section.id) {
                            h2 { (section.title) }
                            (section.body)
                        }
                    }
                }
                footer {
                    p {
                        "Each sample has a process of its own; subjects take turns; speeds are of all \
                         threads together. Ratios are taken round by round; intervals are 95 % bootstrap \
                         intervals. The rules are in docs/METHODOLOGY.md, the fields of the records in \
                         docs/records.md."
                    }
                }
            }
        }
    };
    page.into_string()
}

impl<'r> Page<'r> {
    fn title(&self) -> String {
        let mut commands: Vec<&str> = Vec::new();
        for run in self.runs {
            let command = run.header.command.as_str();
            if !command.is_empty() && !commands.contains(&command) {
                commands.push(command);
            }
        }
        match &commands[..] {
            ["compare"] => "Immediate against deferred reuse".into(),
            [] => "Measurements of bench-suite".into(),
            commands => format!("Measurements of bench-suite: {}", commands.join(", ")),
        }
    }

    fn subtitle(&self) -> String {
        let Some(run) = self.runs.last() else { return String::new() };
        let host = &run.header.host;
        let cpus = if host.cores == 1 { "1 CPU".into() } else { format!("{} CPUs", host.cores) };
        let time = match run.header.time.as_str() {
            "" => String::new(),
            time => {
                format!(", {}", time.replace('T', " ").trim_end_matches('Z').to_owned() + " UTC")
            }
        };
        format!("{}, {cpus}, {}{time}", host.cpu, host.kernel)
    }

    /// The rows with what they are called, and what they belong to.
    fn name_of(&self, row: &Row<'r>) -> (String, String) {
        let threads = crate::workload::threads_in_words(row.common().threads);
        let mark = if row.common().is_oversubscribed() { " (oversubscribed)" } else { "" };
        let group = title(row);
        (label(row, &self.rows), format!("{group}; {threads}{mark}"))
    }
}

/// A figure of a chart, with its numbers and the command behind it.
fn figure(name: &str, about: &str, chart: &Chart, record: &Record) -> Markup {
    html! {
        figure {
            figcaption { (name) span.soft { (about) } }
            (chart.svg())
            (chart.legend())
            details {
                summary { "Numbers and command" }
                (chart.table())
                (command(record))
            }
        }
    }
}

/// The command that a record comes from.
fn command(record: &Record) -> Markup {
    html! {
        @if record.run.command.is_empty() {
            p.soft { "A record of schema 1: its command is not known." }
        } @else {
            p { "Made by " code { (record.run.command_line()) } }
        }
    }
}

/// Colours: a policy has the same in every figure, and the others take what is left.
fn colour_of(record: &Record, others: &mut Vec<String>) -> usize {
    let policies = ["immediate", "after-rcu-gp", "free-after-rcu-gp", "after-tasks-trace-gp"];
    let manner = record.manner();
    let plain = ["", "validated", "plain"].contains(&manner.as_str());
    let place = policies.iter().position(|policy| *policy == short(record));
    if let Some(place) = place.filter(|_| plain && record.subject != "memalloc-trace") {
        return place;
    }
    let name = subject_name(record);
    let place = others.iter().position(|other| *other == name).unwrap_or_else(|| {
        others.push(name);
        others.len() - 1
    });
    policies.len() + place
}

/// The subject in one line.
fn subject_name(record: &Record) -> String {
    super::labels::name(record).replace('\n', " ")
}

/// The list of what is biased, each entry in one line.
fn bias(_page: &Page<'_>) -> Option<Section> {
    let entries = BIAS.split("\n- **").skip(1).filter_map(|entry| {
        let (head, text) = entry.split_once("**")?;
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let favour = words.rsplit_once('*').and_then(|(rest, _)| rest.rsplit_once('*'));
        Some((
            head.replace('\n', " "),
            favour.map(|(_, favour)| favour.to_owned()).unwrap_or_default(),
        ))
    });
    Some(Section {
        id: "bias",
        title: "Known bias",
        body: html! {
            p { "Not removed, and to be reckoned with. docs/BIAS.md has the details." }
            ul.bias {
                @for (head, favour) in entries {
                    li { (head.trim_end_matches('.')) @if !favour.is_empty() { ": " em { (favour.replace('`', "")) } } }
                }
            }
        },
    })
}

fn commands(page: &Page<'_>) -> Option<Section> {
    let known: Vec<&Run> = page.runs.iter().filter(|run| !run.header.command.is_empty()).collect();
    (!known.is_empty()).then(|| Section {
        id: "commands",
        title: "Commands",
        body: html! {
            p { "Each run can be repeated. Add " code { "--json FILE" } " to keep its records." }
            @for run in known {
                pre { (run.header.command_line()) }
                p.soft {
                    "Run " (run.header.run) ", commit " (run.header.build.git)
                    @if run.header.build.dirty == Some(true) { " with changes" }
                    ", " (run.header.build.rustc) ", profile " (run.header.build.profile)
                    @if let Some(end) = &run.end {
                        ", " (format!("{:.0}", end.seconds)) " s, " (end.workloads_done) " of "
                        (end.workloads) " workloads"
                    }
                    "."
                }
            }
        },
    })
}

#[cfg(test)]
mod tests;
