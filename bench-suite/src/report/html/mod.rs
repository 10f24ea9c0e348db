//! A report: one self-contained page that needs no network and no script.
//!
//! Each section shows the records that there are for it; a section without records is omitted.
//! Below each figure are its numbers and the command that made it.

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

use super::labels::{label, short, subject_name, threads_of, title};
use super::rows::{Row, rows};
use crate::record::{Record, Run, latest};
use chart::Chart;

/// Identifies a page as made by this program.
pub(crate) const GENERATOR: &str = "bench-suite report";

const STYLE: &str = include_str!("style.css");

const BIAS: &str = include_str!("../../../../docs/BIAS.md");

/// The input of all sections.
struct Page<'r> {
    runs: &'r [Run],
    records: &'r [Record],
    rows: Vec<Row<'r>>,
}

/// A section of the page.
struct Section {
    id: &'static str,
    title: &'static str,
    body: Markup,
}

/// Formats the page.
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
                        "Each sample runs in a separate process; subjects alternate; speeds are \
                         totals over all threads. Ratios are computed round by round; intervals \
                         are 95 % bootstrap intervals. The rules are in docs/METHODOLOGY.md, the \
                         fields of the records in docs/records.md."
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

    /// Returns the name of a row, and the group that it belongs to.
    fn name_of(&self, row: &Row<'r>) -> (String, String) {
        let (group, threads) = (title(row), threads_of(row.common()));
        (label(row, &self.rows), format!("{group}; {threads}"))
    }
}

/// Shows a chart with its numbers and the command that made it.
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

/// Shows the command that made a record.
fn command(record: &Record) -> Markup {
    html! {
        @if record.run.command.is_empty() {
            p.soft { "A record of schema 1: its command is not known." }
        } @else {
            p { "Made by " code { (record.run.command_line()) } }
        }
    }
}

/// Returns the colour of a subject: a policy has the same colour in every figure, and the others
/// get the remaining colours.
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

/// Lists the known biases, one line each.
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
            p { "These biases remain in the results. docs/BIAS.md has the details." }
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
            p { "These commands repeat the runs. Add " code { "--json FILE" } " to keep the records." }
            @for run in known {
                pre { (run.header.command_line()) }
                p.soft {
                    "Run " (run.header.run) ", commit " (run.header.build.git)
                    @if run.header.build.dirty == Some(true) { " with uncommitted changes" }
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
