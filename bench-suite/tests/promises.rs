//! The comments that the code's soundness rests on keep their form: invariants, SAFETY, ORDERING,
//! and the tests that these name.

#[path = "../src/bin/verification/comments.rs"]
mod comments;

use comments::{comments, files, named_tests, root};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A crate, and the prefix of its invariants.
const CRATES: [(&str, &str); 4] = [
    ("memalloc", "MEM-"),
    ("qptrie", "QPT-"),
    ("bench-suite/hash_table", "BEN-"),
    ("bench-suite", "BEN-"),
];

/// Memory orderings that need a reason.
const ORDERINGS: [&str; 4] =
    ["Ordering::Acquire", "Ordering::Release", "Ordering::AcqRel", "Ordering::SeqCst"];

/// The sources of a crate that are compiled into it.
fn sources(name: &str) -> Vec<(PathBuf, String)> {
    files(&root().join(name).join("src"), "rs")
}

/// The names of invariants in a text: a prefix, capitals, digits.
fn invariants(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, prefix) in CRATES {
        for (at, _) in text.match_indices(prefix) {
            let rest = &text[at + prefix.len()..];
            let letters = rest.bytes().take_while(u8::is_ascii_uppercase).count();
            let digits = rest[letters..].bytes().take_while(u8::is_ascii_digit).count();
            if letters > 0 && digits > 0 {
                found.insert(format!("{prefix}{}", &rest[..letters + digits]));
            }
        }
    }
    found
}

/// The invariant that a comment defines: a list item that begins with its name and a colon.
fn defined(text: &str) -> Option<String> {
    let (name, _) = text.strip_prefix("- ")?.split_once(':')?;
    invariants(name).into_iter().find(|found| found == name)
}

#[test]
fn every_invariant_is_defined_once_by_its_own_crate_and_cited() {
    let (mut definitions, mut citations) = (BTreeMap::<String, String>::new(), BTreeSet::new());
    for (name, prefix) in CRATES {
        for directory in ["src", "tests", "benches"] {
            for (path, text) in files(&root().join(name).join(directory), "rs") {
                for comment in comments(&path, &text) {
                    let Some(invariant) = defined(&comment.text) else {
                        citations.extend(invariants(&comment.text));
                        continue;
                    };
                    let place = &comment.place;
                    assert!(
                        invariant.starts_with(prefix),
                        "{place}: {invariant} is another crate's"
                    );
                    // Invariants may build on one another.
                    let mut cited = invariants(&comment.text);
                    cited.remove(&invariant);
                    citations.extend(cited);
                    if let Some(other) = definitions.insert(invariant.clone(), place.clone()) {
                        panic!("{invariant} is defined at {other} and at {place}");
                    }
                }
            }
        }
    }
    for (_, text) in files(&root().join("docs"), "md") {
        citations.extend(invariants(&text));
    }
    let defined: BTreeSet<_> = definitions.keys().cloned().collect();
    let unknown: Vec<_> = citations.difference(&defined).collect();
    assert!(unknown.is_empty(), "cited, but not defined: {unknown:?}");
    let unused: Vec<_> = defined.difference(&citations).collect();
    assert!(unused.is_empty(), "defined, but not cited: {unused:?}");
    assert!(defined.len() > 50, "{} are not all", defined.len());
}

#[test]
fn every_safety_comment_cites_an_invariant_or_gives_a_reason() {
    /// A reason that cites nothing has so many words at least.
    const WORDS: usize = 3;
    let mut seen = 0;
    for (name, _) in CRATES {
        for (path, text) in sources(name) {
            for comment in comments(&path, &text) {
                let Some(reason) = comment.text.strip_prefix("SAFETY:") else { continue };
                seen += 1;
                let words = reason.split_whitespace().count();
                // "as above", "as in `read`": the reason stands there.
                let refers = reason.trim_start().starts_with("as ");
                let enough = !invariants(reason).is_empty() || refers || words >= WORDS;
                assert!(enough, "{}: \"{}\"", comment.place, comment.text);
            }
        }
    }
    assert!(seen > 200, "{seen} are not all");
}

#[test]
fn every_test_and_mutation_that_a_comment_names_exists() {
    let tests: String = CRATES
        .iter()
        .flat_map(|(name, _)| {
            let directory = root().join(name);
            let mut all = files(&directory.join("tests"), "rs");
            all.extend(files(&directory.join("src"), "rs"));
            all
        })
        .map(|(path, text)| format!("\nfile {}\n{text}", path.display()))
        .collect();
    let exists = |name: &str| {
        let file = tests.contains(&format!("/tests/{name}.rs"))
            || tests.contains(&format!("/tests/{name}/"));
        file || tests.contains(&format!("fn {name}("))
            || {
                // A mutation is a string of a table. The comment that names it does not count.
                let quoted = format!("\"{name}\"");
                tests
                    .lines()
                    .any(|line| line.contains(&quoted) && !line.trim_start().starts_with("//"))
            }
            || tests.contains(&format!("fn {name}<"))
            // Of a macro that makes a test of each line.
            || tests.contains(&format!("\n    {name}: "))
    };
    let mut seen = 0;
    for (name, _) in CRATES {
        for (path, text) in sources(name) {
            for comment in comments(&path, &text) {
                for test in named_tests(&comment.text) {
                    seen += 1;
                    assert!(exists(test), "{}: there is no \"{test}\"", comment.place);
                }
            }
        }
    }
    assert!(seen > 40, "{seen} are not all");
}

/// The part of a source before its unit tests, which may order as they like.
fn without_unit_tests(text: &str) -> &str {
    text.split_once("mod tests {").map_or(text, |(code, _)| code)
}

#[test]
fn every_ordering_above_relaxed_has_its_reason() {
    /// A comment may stand so many lines above an ordering: on a call whose arguments are many.
    const LINES: usize = 14;
    let mut seen = 0;
    // The suite itself counts and stops threads, and has no protocol.
    for (name, _) in &CRATES[..3] {
        // Models order as they like, as unit tests do.
        let is_code =
            |path: &Path| !path.ends_with("models.rs") && !path.ends_with("models/mod.rs");
        for (path, text) in sources(name).into_iter().filter(|(path, _)| is_code(path)) {
            let lines: Vec<_> = without_unit_tests(&text).lines().collect();
            for (number, line) in lines.iter().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                // A comparison with an ordering orders nothing.
                if code.contains("== Ordering") || !ORDERINGS.iter().any(|one| code.contains(one)) {
                    continue;
                }
                seen += 1;
                let above = &lines[number.saturating_sub(LINES)..number];
                let has_reason = above.iter().any(|line| line.contains("ORDERING:"));
                assert!(has_reason, "{}:{}: {line}", path.display(), number + 1);
            }
        }
    }
    assert!(seen > 80, "{seen} are not all");
}

/// The pages that programs of the workspace write.
const GENERATED: [&str; 2] = ["docs/scaling.md", "docs/verification.md"];

/// The sources and the pages of the workspace.
fn prose() -> Vec<(PathBuf, String)> {
    let mut all = Vec::new();
    for folder in ["memalloc", "qptrie", "bench-suite", "docs"] {
        all.extend(["rs", "md"].into_iter().flat_map(|ending| files(&root().join(folder), ending)));
    }
    for page in ["README.md", "CHANGELOG.md"] {
        let path = root().join(page);
        let text = std::fs::read_to_string(&path).expect("a page");
        all.push((path, text));
    }
    all.retain(|(path, _)| !GENERATED.iter().any(|page| path.ends_with(page)));
    all
}

/// Tables, code and the places of links may be wider.
#[test]
fn no_line_of_prose_is_wider_than_100_columns() {
    const COLUMNS: usize = 100;
    let (mut seen, mut wide) = (0, Vec::new());
    for (path, text) in prose() {
        let is_page = path.extension().is_some_and(|ending| ending == "md");
        let mut is_code = false;
        for (number, line) in text.lines().enumerate() {
            let words = match line.trim_start().strip_prefix("//") {
                Some(comment) if !is_page => comment.trim_start_matches(['/', '!']).trim_start(),
                _ if is_page => line.trim_start(),
                _ => {
                    is_code = false;
                    continue;
                }
            };
            if words.starts_with("```") {
                is_code = !is_code;
            }
            if is_code || words.starts_with('|') || words.starts_with('[') && words.contains("]: ")
            {
                continue;
            }
            seen += 1;
            if line.chars().count() > COLUMNS {
                wide.push(format!("{}:{}", path.display(), number + 1));
            }
        }
    }
    assert!(wide.is_empty(), "{wide:#?}");
    assert!(seen > 10_000, "{seen} are not all");
}

/// "Not told apart" is the verdict on a comparison whose interval crosses a threshold, and "cannot
/// tell" the answer of `advise` that follows from it. Other words for them are not used.
#[test]
fn a_comparison_that_is_not_decided_has_one_name() {
    let others =
        [["in", "conclusive"], ["un", "decided"], ["un", "clear"]].map(|word| word.concat());
    for (path, text) in prose() {
        let found = text.lines().position(|line| {
            let line = line.to_lowercase();
            others.iter().any(|other| line.contains(other))
        });
        assert!(found.is_none(), "{}:{}", path.display(), found.unwrap_or(0) + 1);
    }
}

/// A thread scheduled by `SCHED_FIFO` that only yields keeps its processor from one of lower
/// priority, even if it waits for it. So each wait by yields ends in a sleep, which
/// `sys::thread::let_others_run` and `rcu::Backoff` see to.
#[test]
fn no_thread_waits_for_another_by_yields_alone() {
    let may = [
        "memalloc/src/sync.rs",
        "memalloc/src/sync/counted.rs",
        "memalloc/src/sys/thread.rs",
        "memalloc/src/rcu/backoff.rs",
    ];
    // Builds that leave steps out on purpose.
    let others = ["memalloc/src/broken.rs"];
    for (path, text) in ["memalloc", "qptrie"].into_iter().flat_map(sources) {
        if may.iter().chain(&others).any(|allowed| path.ends_with(allowed)) {
            continue;
        }
        let found = text.lines().position(|line| line.contains("yield_now("));
        assert!(found.is_none(), "{}:{}", path.display(), found.unwrap_or(0) + 1);
    }
}

/// A first use may interrupt another one in a signal handler, or find it half done in the child of
/// a fork, which does not have the other thread. `once_cell::race` waits for no thread. Locks
/// inside of an allocator or domain are not looked for: nobody else has it yet. The test
/// `first_use` of `memalloc` stops a thread in the middle.
#[test]
fn no_first_use_waits_for_one_that_has_begun() {
    const BLOCKING: [&str; 7] =
        ["OnceLock", "LazyLock", "Once::", "Mutex", "RwLock", "Condvar", "once_cell::sync"];
    let may = [
        ("memalloc/src/sync.rs", "defines `Lock`"),
        ("memalloc/src/sync/counted.rs", "as above, for the counting build"),
        ("memalloc/src/sync/machine.rs", "set before the counting build's threads begin"),
        ("memalloc/src/rcu/domain.rs", "set before another thread has the domain"),
        ("memalloc/src/slab/arena.rs", "of models"),
        ("memalloc/src/batch/pool.rs", "of models"),
        ("memalloc/src/alloc/bounded_work.rs", "of tests"),
        ("memalloc/src/sys/fork.rs", "held while one entry of a list is added or removed"),
        ("memalloc/src/recording/recorder.rs", "taken where a recording begins and ends"),
        ("memalloc/src/recording/hooks.rs", "set where a recording begins; hooks only look"),
    ];
    let mut seen = BTreeSet::new();
    for (path, text) in ["memalloc", "qptrie"].into_iter().flat_map(sources) {
        let is_code = |line: &&str| !line.trim_start().starts_with("//");
        let is_blocking = |line: &&str| {
            let is_static = line.contains("static ") && line.contains("Lock<");
            is_static || BLOCKING.iter().any(|word| line.contains(word))
        };
        let mut code = without_unit_tests(&text).lines().filter(is_code);
        let Some(line) = code.find(is_blocking) else { continue };
        let listed = may.iter().find(|(place, _)| path.ends_with(place));
        let Some((place, _)) = listed else { panic!("{}: {line}", path.display()) };
        seen.insert(place);
    }
    assert_eq!(seen.len(), may.len(), "one is listed in vain: {seen:?}");
}
