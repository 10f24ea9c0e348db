//! The document: the tables of counts, and the text around them.

use super::alloc::{self, Reader, Shape};
use super::measured::{Row, SIZES};
use super::sections;
use super::trie::{self, Work};
use memalloc::rcu::{BarrierKind, FlavourKind};
use memalloc::{AfterRcuGp, AfterTasksTraceGp, FreeAfterRcuGp, Immediate, ReusePolicy};
use std::fmt::Write;
use std::path::PathBuf;

const FRONT: &str = include_str!("report/front.md");
const SECTIONS: &str = include_str!("report/sections.md");
const ALLOC: &str = include_str!("report/alloc.md");
const TRIE: &str = include_str!("report/trie.md");
const BACK: &str = include_str!("report/back.md");

/// The start of the command that measures a table on a real machine.
const COMMAND: &str = "\ncargo run --release -p bench-suite -- ";

fn path() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "..", "docs", "scaling.md"].iter().collect()
}

/// Writes the document.
pub(crate) fn write() -> Result<(), String> {
    let (path, text) = (path(), document());
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("wrote docs/scaling.md");
    Ok(())
}

/// Compares the document with the counts of this build; an error shows the first different line.
pub(crate) fn compare() -> Result<(), String> {
    let (path, text) = (path(), document());
    let there =
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    if there == text {
        println!("docs/scaling.md agrees with the counts of this build");
        return Ok(());
    }
    let differs = there.lines().zip(text.lines()).find(|(there, now)| there != now);
    let (there, now) = differs.unwrap_or(("(another length)", ""));
    Err(format!(
        "docs/scaling.md differs from the counts of this build: run `cargo scaling`. First \
         difference:\n{there}\n{now}"
    ))
}

fn document() -> String {
    let mut text = FRONT.to_owned();
    for (prose, heads, rows) in [
        (SECTIONS, &["flavour", "barrier", "grace periods"][..], section_rows()),
        (ALLOC, &["work", "policy", "reader"][..], alloc_rows()),
        (TRIE, &["work", "leaves"][..], trie_rows()),
    ] {
        assert!(prose.contains(COMMAND), "no command measures this table: {prose}");
        text.push('\n');
        text.push_str(prose);
        text.push('\n');
        table(&mut text, heads, &rows);
    }
    text.push('\n');
    text.push_str(BACK);
    text
}

/// Measures a row, and prints it as progress.
fn measured<const N: usize>(
    name: [String; N],
    experiment: impl Fn(usize) -> super::measured::Measured,
) -> Row {
    let row = Row::measure(name, experiment);
    eprintln!("{}", cells(&row).join(" | "));
    row
}

fn section_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for flavour in [FlavourKind::Rcu, FlavourKind::TasksTrace] {
        for barrier in [BarrierKind::Membarrier, BarrierKind::Fence] {
            for (name, grace_periods) in [("none", false), ("all the time", true)] {
                let name = [flavour.to_string(), barrier.to_string(), name.to_owned()];
                rows.push(measured(name, |cpus| {
                    sections::measure(flavour, barrier, grace_periods, cpus)
                }));
            }
        }
    }
    rows
}

fn alloc_rows() -> Vec<Row> {
    fn under<P: ReusePolicy>(shape: Shape, rows: &mut Vec<Row>) {
        for reader in Reader::ALL {
            let name = [shape.to_string(), P::KIND.to_string(), reader.to_string()];
            rows.push(measured(name, |cpus| alloc::measure::<P>(shape, reader, cpus, || ())));
        }
    }
    let mut rows = Vec::new();
    for shape in Shape::ALL {
        under::<Immediate>(shape, &mut rows);
        under::<AfterRcuGp>(shape, &mut rows);
        under::<FreeAfterRcuGp>(shape, &mut rows);
        under::<AfterTasksTraceGp>(shape, &mut rows);
    }
    rows
}

fn trie_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for work in Work::ALL {
        let deferred = [work.to_string(), "after-rcu-gp".to_owned()];
        rows.push(measured(deferred, |cpus| trie::measure::<trie::Deferred>(work, cpus)));
        let at_once = [work.to_string(), "immediate".to_owned()];
        rows.push(measured(at_once, |cpus| trie::measure::<trie::AtOnce>(work, cpus)));
    }
    rows
}

/// The time to move a line, in nanoseconds: an estimated range.
const LEAST_NS: f64 = 50.0;
const MOST_NS: f64 = 200.0;

/// Appends a table.
fn table(text: &mut String, heads: &[&str], rows: &[Row]) {
    let cpus: Vec<_> = SIZES.iter().map(|cpus| format!("{cpus} CPUs")).collect();
    let counts = ["lines", "est. ns", "atomics", "fences", "interrupts", "moves most"];
    let columns = heads.iter().map(|head| head.to_string()).chain(cpus);
    let columns: Vec<_> = columns.chain(counts.map(str::to_owned)).collect();
    writeln!(text, "| {} |", columns.join(" | ")).expect("memory");
    let rule = |at| if at < heads.len() || at == columns.len() - 1 { "---" } else { "---:" };
    let rules: Vec<_> = (0..columns.len()).map(rule).collect();
    writeln!(text, "|{}|", rules.join("|")).expect("memory");
    for row in rows {
        writeln!(text, "| {} |", cells(row).join(" | ")).expect("memory");
    }
}

/// Returns the cells of a row. Counts other than moved lines are those of the largest machine.
fn cells(row: &Row) -> Vec<String> {
    let most = row.by_size.last().expect("machines of some size");
    let mut cells = row.name.clone();
    cells.extend(row.by_size.iter().map(|size| number(size.moved())));
    cells.push(verdict(row));
    let moved = most.moved();
    cells.push(match number(moved).as_str() {
        "0" => "0".to_owned(),
        _ => format!("{}–{}", number(moved * LEAST_NS), number(moved * MOST_NS)),
    });
    let counts = most.counts;
    cells.extend(
        [counts.atomics, counts.fences, counts.interrupts]
            .map(|all| number(most.per_operation(all))),
    );
    let place = most.places.first().filter(|_| moved >= 0.005);
    cells.push(place.map_or_else(String::new, |(place, count)| {
        format!("{} of {} {place}", number(most.per_operation(*count)), number(moved))
    }));
    cells
}

/// Returns the text for whether the number of lines grows with the number of CPUs.
fn verdict(row: &Row) -> String {
    let (few, many) = (row.by_size[0].moved(), row.by_size[row.by_size.len() - 1].moved());
    if row.is_constant() {
        "constant".to_owned()
    } else if few < 0.005 {
        "grows".to_owned()
    } else {
        format!("×{:.1}", many / few)
    }
}

/// Formats a number with about three significant digits; below 0.0005 as 0.
fn number(value: f64) -> String {
    match value {
        ..0.0005 => "0".to_owned(),
        ..0.1 => format!("{value:.3}"),
        ..10.0 => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}
