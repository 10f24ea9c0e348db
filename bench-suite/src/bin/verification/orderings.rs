//! The orderings above Relaxed in the sources, and the tests that fail without them.

use super::comments::{NOTHING, comments, falls, files, named_tests, root};
use super::records::Record;
use std::collections::BTreeSet;

/// The sources whose orderings models hold up.
pub(crate) const SOURCES: [&str; 3] = ["memalloc/src", "qptrie/src", "bench-suite/hash_table/src"];

/// So many orderings are covered by no test. It is lowered when one of them gets a test, and not
/// raised.
const NOT_COVERED: usize = 21;

/// An `ORDERING` comment.
pub(crate) struct Ordering {
    /// The file, from the root of the workspace.
    pub(crate) file: String,
    /// What it says, up to the tests.
    pub(crate) text: String,
    pub(crate) falls_to: FallsTo,
    /// The file and the line.
    place: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FallsTo {
    Tests(Vec<String>),
    Nothing { reason: String },
    NotSaid,
}

/// The comments on orderings above Relaxed, file by file.
pub(crate) fn all() -> Vec<Ordering> {
    let root = root();
    let mut all = Vec::new();
    for (path, text) in SOURCES.iter().flat_map(|folder| files(&root.join(folder), "rs")) {
        // The orderings of a model are not those of the code.
        if path.ends_with("models.rs") {
            continue;
        }
        let path = path.strip_prefix(&root).expect("below the root");
        for comment in comments(path, &text) {
            let Some((_, said)) = comment.text.split_once("ORDERING: ") else { continue };
            if said.starts_with("Relaxed") {
                continue;
            }
            let falls_to = falls_to(said);
            let text = said.split("Falls to ").next().expect("a first part").trim().to_owned();
            all.push(Ordering {
                file: path.display().to_string(),
                text,
                falls_to,
                place: comment.place,
            });
        }
    }
    all
}

/// The tests that a comment names, or the reason that it gives for having none.
fn falls_to(said: &str) -> FallsTo {
    let tests: Vec<_> = named_tests(said).into_iter().map(str::to_owned).collect();
    match falls(said).find_map(|sentence| sentence.strip_prefix(NOTHING)) {
        Some(reason) => FallsTo::Nothing { reason: reason.to_owned() },
        None if tests.is_empty() => FallsTo::NotSaid,
        None => FallsTo::Tests(tests),
    }
}

/// Fails if a comment names something that is neither a claim of its crate nor a mutation that
/// fails there, or names no more than the test binary.
pub(crate) fn check_names(orderings: &[Ordering], records: &[Record]) -> Result<(), String> {
    let mut wrong = Vec::new();
    for ordering in orderings {
        let FallsTo::Tests(tests) = &ordering.falls_to else { continue };
        let of_crate =
            || records.iter().filter(|it| ordering.file.split('/').any(|room| room == it.package));
        let targets: BTreeSet<_> = of_crate().map(|it| it.target.as_str()).collect();
        let mut known: BTreeSet<_> = of_crate().map(|it| it.room_and_name().1).collect();
        known.extend(
            of_crate().filter(|it| it.violation.is_some()).filter_map(|it| it.mutation.as_deref()),
        );
        let mut others = tests.iter().filter(|test| !targets.contains(test.as_str())).peekable();
        if others.peek().is_none() {
            wrong.push(format!("{}: names no test, only {tests:?}", ordering.place));
        }
        let unknown = others.filter(|test| !known.contains(test.as_str()));
        wrong.extend(
            unknown.map(|test| format!("{}: no model fails as \"{test}\"", ordering.place)),
        );
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// Fails if a comment names neither a test nor the reason why there is none, or if more orderings
/// are covered by none than before.
pub(crate) fn check(orderings: &[Ordering]) -> Result<(), String> {
    let silent = orderings.iter().filter(|it| matches!(it.falls_to, FallsTo::NotSaid));
    let mut wrong: Vec<_> =
        silent.map(|it| format!("{}: no \"Falls to\": {}", it.place, it.text)).collect();
    let uncovered =
        orderings.iter().filter(|it| matches!(it.falls_to, FallsTo::Nothing { .. })).count();
    if uncovered != NOT_COVERED {
        wrong
            .push(format!("{uncovered} orderings fall to nothing: NOT_COVERED says {NOT_COVERED}"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ordering_above_relaxed_falls_to_a_test_or_says_why_it_does_not() {
        let all = all();
        assert!(all.len() > 90, "{} are not all", all.len());
        check(&all).unwrap();
    }

    #[test]
    fn a_comment_names_tests_and_mutations_or_gives_a_reason() {
        let named =
            falls_to("pairs with `other`. Falls to `loom` `a_claim` and \"a mutation\". More.");
        let names = ["loom", "a_claim", "a mutation"].map(str::to_owned);
        assert_eq!(named, FallsTo::Tests(names.to_vec()));
        let reason = "`covered` does the same".to_owned();
        let nothing = falls_to("Release. Falls to nothing: `covered` does the same. More.");
        assert_eq!(nothing, FallsTo::Nothing { reason });
        assert_eq!(falls_to("pairs with `other`."), FallsTo::NotSaid);
    }
}
