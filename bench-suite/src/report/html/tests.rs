use super::*;
use crate::measure::{Curve, Look, Metric, Over};
use crate::record::specimen;
use std::time::Duration;

const POLICIES: [(&str, f64); 2] = [("immediate", 2e6), ("after-rcu-gp", 1e6)];

fn flood(reader: &str, policy: &str, metric: Metric, value: f64, threads: usize) -> Record {
    let mut record = specimen::of("overwrite", policy, metric, &[value, value * 1.1]);
    (record.bench, record.subject, record.threads) = ("flood".into(), "memalloc".into(), threads);
    record.params.retain(|name, _| name == "oversubscribed");
    record.params.insert("reader".into(), reader.into());
    record.params.insert("size".into(), 256.into());
    let look = |at| Look {
        at: Duration::from_secs(at),
        arithmetic_ns: 1.2,
        independent_ns: 1.1,
        round_trip_ns: Some(140.0),
    };
    record.looks = [look(1), look(2)].into_iter().collect();
    record
}

/// Returns a run with records for every section.
fn run() -> Run {
    let mut records = Vec::new();
    for (policy, speed) in POLICIES {
        for threads in [1, 2] {
            for reader in ["none", "stall-100ms"] {
                let mut record = flood(reader, policy, Metric::OpsPerS, speed, threads);
                if reader == "stall-100ms" {
                    let points = vec![[0.1, speed], [0.2, 0.0]];
                    record.curves = vec![Curve { over: Over::TimeS, points }; 2];
                }
                records.push(record);
                records.push(flood(reader, policy, Metric::MemPeakBytes, 1e12 / speed, threads));
                let mut times = flood(reader, policy, Metric::UpdateGroupP50Ns, 5e3, threads);
                let groups = Curve::distribution(&[4e3, 5e3, 1e8]);
                times.curves = groups.into_iter().cycle().take(2).collect();
                records.push(times);
            }
        }
        let mut period = specimen::of("grace-period", policy, Metric::GpLatencyNs, &[5e3; 2]);
        period.bench = "read-side".into();
        period.curves = Curve::distribution(&[1e3, 5e3, 9e6]).into_iter().cycle().take(2).collect();
        records.push(period);
        records.push(specimen::of("lookup-hit", policy, Metric::OpsPerS, &[speed; 7]));
    }
    let mut kernel = records[0].clone();
    (kernel.subject, kernel.policy) = ("kernel".into(), None);
    records.push(kernel);
    let mut header = RunHeader::begin(1);
    header.arguments = vec!["compare".into(), "--data".into(), "file:<&\"'>".into()];
    let header = std::sync::Arc::new(header);
    records.iter_mut().for_each(|record| record.run = header.clone());
    Run { header, records, end: Some(specimen::end(&[1.0; 7])) }
}

use crate::record::RunHeader;

fn ids(page: &str) -> Vec<&str> {
    page.split("<section id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

#[test]
fn a_page_has_every_section_that_has_records() {
    let all = [
        "answer",
        "machine",
        "readers",
        "stall",
        "latency",
        "scaling",
        "trade-off",
        "kernel",
        "samples",
        "bias",
        "commands",
    ];
    assert_eq!(ids(&page(&[run()])), all);
}

#[test]
fn a_section_without_records_is_omitted() {
    let mut run = run();
    run.records = vec![specimen::of("update", "immediate", Metric::OpsPerS, &[1.0])];
    assert_eq!(ids(&page(&[run])), ["machine", "bias", "commands"]);
}

/// Nothing is loaded from elsewhere, and no text from records becomes markup.
#[test]
fn a_page_is_self_contained_and_has_no_markup_from_records() {
    let mut run = run();
    run.records[0].params.insert("note".into(), "<script>alert(1)</script>".into());
    let page = page(&[run]);
    assert!(!page.contains("<script"), "a script");
    for part in ["src=", "url(", "@import", "<link rel=\"stylesheet"] {
        assert!(!page.contains(part), "{part}");
    }
    let addresses = page.matches("http").count();
    assert_eq!(addresses, page.matches("http://www.w3.org/2000/svg").count());
    assert!(page.contains("file:&lt;&amp;"), "the command of a figure");
}

#[test]
fn every_figure_has_a_title_its_numbers_and_the_command_that_made_it() {
    let page = page(&[run()]);
    let figures: Vec<&str> = page.split("<figure>").skip(1).collect();
    assert!(figures.len() > 10);
    for figure in figures {
        let figure = figure.split("</figure>").next().unwrap();
        assert!(figure.contains("<figcaption>") && figure.contains("<table"), "{figure}");
        assert!(figure.contains("cargo run"), "{figure}");
        let drawings = figure.matches("<svg role=\"img\" aria-label=\"").count();
        assert_eq!(drawings, figure.matches("<title>").count(), "{figure}");
    }
}

/// Colours come from the style sheet, which has them for light and dark.
#[test]
fn drawings_take_all_colours_from_the_style_sheet() {
    let page = page(&[run()]);
    let drawings = page.split("<svg role").skip(1).map(|rest| rest.split("</svg>").next().unwrap());
    for drawing in drawings {
        assert!(!drawing.contains("=\"#"), "{drawing}");
        assert!(drawing.contains("var(--"), "{drawing}");
    }
}

/// Returns a section of the page.
fn section<'p>(page: &'p str, id: &str) -> &'p str {
    let rest = page.split(&format!("<section id=\"{id}\">")).nth(1).unwrap();
    rest.split("</section>").next().unwrap()
}

#[test]
fn latency_has_a_distribution_of_updates_beside_those_of_grace_periods() {
    let page = page(&[run()]);
    let latency = section(&page, "latency");
    assert!(latency.contains("<figcaption>grace-period"), "{latency}");
    for reader in ["none", "stall-100ms"] {
        let name = format!("<figcaption>overwrite, reader {reader}, 256 B: 512 updates");
        assert_eq!(latency.matches(&name).count(), 2, "one for each number of threads: {latency}");
    }
    assert!(latency.contains("share of all groups"), "{latency}");
}

/// A row for each task, a column for each subject, and no ratio of the kernel to itself.
#[test]
fn the_kernel_has_the_first_column_and_ours_a_ratio_to_it() {
    let page = page(&[run()]);
    let kernel = section(&page, "kernel");
    let table = kernel.split("</table>").next().unwrap();
    let cells: Vec<&str> = table.split("<td data-of=\"").skip(1).collect();
    let names: Vec<&str> = cells.iter().map(|cell| cell.split('"').next().unwrap()).collect();
    assert_eq!(names, ["kernel", "immediate", "after-rcu-gp"]);
    let ratios: Vec<bool> = cells.iter().map(|cell| cell.contains("<span>×")).collect();
    assert_eq!(ratios, [false, true, true], "{kernel}");
    assert!(table.contains("<span>1 thread</span>"), "{table}");
}
