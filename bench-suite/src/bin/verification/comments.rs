//! The sources of the workspace and their comments, and the tests that these name.

use std::fs;
use std::path::{Path, PathBuf};

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

/// Every file below `directory` whose name ends in `extension`, with its text.
pub(crate) fn files(directory: &Path, extension: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.map(|entry| entry.expect("a directory entry")) {
            let (path, kind) = (entry.path(), entry.file_type().expect("a file type"));
            if kind.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                let text = fs::read_to_string(&path).expect("a text file");
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

/// A comment of several lines as one line of text, and where it begins.
pub(crate) struct Comment {
    pub(crate) place: String,
    pub(crate) text: String,
    /// The number of the line behind it.
    next: usize,
    /// Documents an item.
    is_doc: bool,
}

/// The comments of a file that stand on lines of their own, doc comments included. An item of a
/// list is a comment of its own, and so is what begins with "SAFETY:".
pub(crate) fn comments(path: &Path, text: &str) -> Vec<Comment> {
    let mut all: Vec<Comment> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let Some(words) = line.trim_start().strip_prefix("//") else { continue };
        let is_doc = words.starts_with(['/', '!']);
        let words = words.trim_start_matches(['/', '!']).trim();
        let begins = words.is_empty() || words.starts_with("- ") || words.starts_with("SAFETY:");
        let goes_on = |last: &Comment| last.next == number && last.is_doc == is_doc && !begins;
        match all.last_mut().filter(|last| goes_on(last)) {
            Some(last) => {
                last.text.push(' ');
                last.text.push_str(words);
                last.next = number + 1;
            }
            None => all.push(Comment {
                place: format!("{}:{}", path.display(), number + 1),
                text: words.to_owned(),
                next: number + 1,
                is_doc,
            }),
        }
    }
    all
}

/// The begin of a sentence that says why no test fails.
pub(crate) const NOTHING: &str = "nothing: ";

/// The sentences that begin with "Falls to", from the words behind it.
pub(crate) fn falls(text: &str) -> impl Iterator<Item = &str> {
    const BEGIN: &str = "Falls to ";
    text.match_indices(BEGIN).map(move |(at, _)| {
        let sentence = &text[at + BEGIN.len()..];
        sentence.split_once(". ").map_or(sentence.trim_end_matches('.'), |(sentence, _)| sentence)
    })
}

/// The names in back quotes and in quotation marks that follow "Falls to" in a comment, in order.
pub(crate) fn named_tests(text: &str) -> Vec<&str> {
    let named = falls(text).filter(|sentence| !sentence.starts_with(NOTHING));
    named.flat_map(|sentence| sentence.split(['`', '"']).skip(1).step_by(2)).collect()
}
