//! The document: a table of each room of models, and the orderings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

use super::comments::root;
use super::orderings::{self, FallsTo, Ordering};
use super::records::Record;

const FRONT: &str = include_str!("report/front.md");
const ORDERINGS: &str = include_str!("report/orderings.md");
const NOT_COVERED: &str = include_str!("report/not_covered.md");

/// The crates in the order of the document, and what their tables are about.
const CRATES: [(&str, &str); 3] = [
    ("memalloc", "memalloc"),
    ("qptrie", "qptrie"),
    ("hash_table", "The hash table of bench-suite"),
];

fn path() -> PathBuf {
    root().join("docs/verification.md")
}

/// Writes the document.
pub(crate) fn write(records: &[Record], orderings: &[Ordering]) -> Result<(), String> {
    let (path, text) = (path(), document(records, orderings));
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("wrote docs/verification.md");
    Ok(())
}

/// Whether the document has the results of these records.
pub(crate) fn compare(records: &[Record], orderings: &[Ordering]) -> Result<(), String> {
    let (path, text) = (path(), document(records, orderings));
    let there =
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    if there == text {
        println!("docs/verification.md has the results of these models");
        return Ok(());
    }
    let differs = there.lines().zip(text.lines()).find(|(there, now)| there != now);
    let (there, now) = differs.unwrap_or(("(another length)", ""));
    Err(format!(
        "docs/verification.md is out of date: run `cargo verification run`. First:\n{there}\n{now}"
    ))
}

fn document(records: &[Record], orderings: &[Ordering]) -> String {
    let mut text = FRONT.to_owned();
    summary(&mut text, records, orderings);
    for (package, title) in CRATES {
        line(&mut text, format_args!("\n## {title}"));
        let mut rooms = BTreeMap::<String, Vec<&Record>>::new();
        for record in records.iter().filter(|record| record.package == package) {
            rooms.entry(record.room_and_name().0).or_default().push(record);
        }
        for (room, records) in rooms {
            line(&mut text, format_args!("\n### `{room}`"));
            claims(&mut text, &records, orderings);
            mutations(&mut text, &records);
        }
    }
    text.push('\n');
    text.push_str(ORDERINGS);
    for source in orderings::SOURCES {
        line(&mut text, format_args!("\n### `{source}`"));
        ordering_table(&mut text, orderings.iter().filter(|it| it.file.starts_with(source)));
    }
    text.push('\n');
    text.push_str(NOT_COVERED);
    uncovered_table(&mut text, orderings);
    text
}

/// Adds a line.
fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("memory");
}

/// Adds the head of a table.
fn head(text: &mut String, columns: &[&str], rule: &str) {
    line(text, format_args!("\n| {} |\n{rule}", columns.join(" | ")));
}

fn summary(text: &mut String, records: &[Record], orderings: &[Ordering]) {
    head(text, &["", "claims", "models", "complete", "executions", "mutations"], SUMMARY_RULE);
    for (package, title) in CRATES {
        let of_crate = || records.iter().filter(|record| record.package == package);
        let models = || of_crate().filter(|record| record.mutation.is_none());
        let claims: BTreeSet<_> = models().map(|it| (&it.target, &it.claim)).collect();
        let complete = models().filter(|it| it.bound.is_none()).count();
        let executions: usize = models().map(|it| it.executions).sum();
        let mutations = of_crate().filter(|it| it.mutation.is_some()).count();
        line(
            text,
            format_args!(
                "| {title} | {} | {} | {complete} | {executions} | {mutations} |",
                claims.len(),
                models().count(),
            ),
        );
    }
    let covered = orderings.iter().filter(|it| matches!(it.falls_to, FallsTo::Tests(_))).count();
    let all = orderings.len();
    line(
        text,
        format_args!("\nOf {all} comments on an ordering above Relaxed, {covered} name a test."),
    );
}

const SUMMARY_RULE: &str = "|---|---:|---:|---:|---:|---:|";

fn bound(record: &Record) -> String {
    match record.bound {
        None => "complete".to_owned(),
        Some(1) => "1 preemption".to_owned(),
        Some(most) => format!("{most} preemptions"),
    }
}

fn claims(text: &mut String, records: &[&Record], orderings: &[Ordering]) {
    let held: Vec<_> = records.iter().filter(|record| record.mutation.is_none()).collect();
    if held.is_empty() {
        return;
    }
    head(text, &["claim", "model", "executions", "bound", "broken by"], "|---|---|---:|---|---|");
    for record in held {
        let (_, claim) = record.room_and_name();
        // A model that is its test's only one has its name.
        let model = record.model.as_deref().filter(|model| *model != claim).unwrap_or_default();
        let (executions, bound) = (record.executions, bound(record));
        let broken_by = broken_by(record, records, orderings);
        line(
            text,
            format_args!("| `{claim}` | {} | {executions} | {bound} | {broken_by} |", cell(model)),
        );
    }
}

/// The mutations that show in the same model, and the files with orderings that fall to the claim.
fn broken_by(held: &Record, records: &[&Record], orderings: &[Ordering]) -> String {
    let mutations =
        records.iter().filter(|record| record.violation.is_some() && record.model == held.model);
    let mut all = match mutations.count() {
        0 => Vec::new(),
        1 => vec!["1 mutation".to_owned()],
        many => vec![format!("{many} mutations")],
    };
    let mut files = BTreeMap::<&str, usize>::new();
    for ordering in orderings {
        let FallsTo::Tests(tests) = &ordering.falls_to else { continue };
        if tests.iter().any(|test| test == held.room_and_name().1) {
            *files.entry(&ordering.file).or_default() += 1;
        }
    }
    all.extend(files.iter().map(|(file, count)| match count {
        1 => format!("`{}`", within_crate(file)),
        _ => format!("`{}` ({count})", within_crate(file)),
    }));
    all.join(", ")
}

/// A file without the path to its crate's sources.
fn within_crate(file: &str) -> &str {
    file.split_once("/src/").map_or(file, |(_, file)| file)
}

fn mutations(text: &mut String, records: &[&Record]) {
    let mutated: Vec<_> = records.iter().filter(|record| record.mutation.is_some()).collect();
    if mutated.is_empty() {
        return;
    }
    let columns = ["left out or weakened", "shown by", "in", "execution", "how it fails"];
    head(text, &columns, "|---|---|---|---:|---|");
    // A mutation that does not fail may have been explored in several scenarios.
    let same = |one: &&&Record, other: &&&Record| {
        let covered = one.covered_by.is_some() && other.covered_by.is_some();
        covered && one.mutation == other.mutation
    };
    for explored in mutated.chunk_by(same) {
        let record = explored[0];
        let (_, claim) = record.room_and_name();
        let mutation = cell(record.mutation.as_deref().expect("it has one"));
        let model = match explored {
            [_] => cell(record.model.as_deref().unwrap_or_default()),
            all => format!("{} scenarios", all.len()),
        };
        let end = match (&record.violation, &record.covered_by) {
            (Some(violation), _) => cell(first_clause(violation)),
            (None, Some(step)) => format!("*it does not: covered by {}*", cell(step)),
            (None, None) => "**it does not**".to_owned(),
        };
        let executions: usize = explored.iter().map(|record| record.executions).sum();
        line(text, format_args!("| {mutation} | `{claim}` | {model} | {executions} | {end} |"));
    }
}

/// A message without the values that follow its first clause.
fn first_clause(violation: &str) -> &str {
    let begin =
        ["claim: ", "Causality violation: "].into_iter().find(|it| violation.starts_with(it));
    let kept = begin.map_or(0, str::len);
    let clause = violation[kept..].split(": ").next().expect("a first part");
    &violation[..kept + clause.len()]
}

fn ordering_table<'a>(text: &mut String, orderings: impl Iterator<Item = &'a Ordering>) {
    head(text, &["file", "ordering", "falls to"], "|---|---|---|");
    for ordering in orderings {
        let FallsTo::Tests(tests) = &ordering.falls_to else { continue };
        let tests: Vec<_> = tests.iter().map(|test| format!("`{test}`")).collect();
        let (file, said) = (within_crate(&ordering.file), cell(&ordering.text));
        line(text, format_args!("| `{file}` | {said} | {} |", tests.join(" ")));
    }
}

fn uncovered_table(text: &mut String, orderings: &[Ordering]) {
    head(text, &["file", "ordering", "reason"], "|---|---|---|");
    for ordering in orderings {
        let reason = match &ordering.falls_to {
            FallsTo::Tests(_) => continue,
            FallsTo::Nothing { reason } => cell(reason),
            FallsTo::NotSaid => "**not said**".to_owned(),
        };
        let (file, said) = (&ordering.file, cell(&ordering.text));
        line(text, format_args!("| `{file}` | {said} | {reason} |"));
    }
}

/// The text as one cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
