//! Appends a line of JSON for each exploration to the file that the environment variable
//! `MODEL_RECORDS` names. `cargo verification` makes docs/verification.md from these lines.

use std::fs::OpenOptions;
use std::io::Write;

/// One exploration of a model.
pub(crate) struct Record<'a> {
    /// The model, if it has a name besides that of the mutation.
    pub(crate) model: Option<&'a str>,
    /// The step that was left out or weakened.
    pub(crate) mutation: Option<&'a str>,
    /// The step that does the work of the mutated one, so that no execution fails.
    pub(crate) covered_by: Option<&'a str>,
    pub(crate) executions: usize,
    /// The maximum number of preemptions in one execution; `None` for any number.
    pub(crate) bound: Option<usize>,
    /// The message of the execution that failed, the last one of the exploration.
    pub(crate) violation: Option<&'a str>,
}

impl Record<'_> {
    /// Appends the record. The claim is the name of the test, which its thread has too.
    pub(crate) fn append(&self) {
        let Some(path) = std::env::var_os("MODEL_RECORDS") else { return };
        let thread = std::thread::current();
        let claim = thread.name().filter(|name| *name != "main");
        let claim =
            claim.expect("tests have threads of their own: set --test-threads to 2 or more");
        let line = format!(
            "{{\"crate\":{},\"target\":{},\"claim\":{},\"model\":{},\"mutation\":{},\
             \"covered_by\":{},\"executions\":{},\"bound\":{},\"violation\":{}}}\n",
            quoted(Some(env!("CARGO_PKG_NAME"))),
            quoted(Some(env!("CARGO_CRATE_NAME"))),
            quoted(Some(claim)),
            quoted(self.model),
            quoted(self.mutation),
            quoted(self.covered_by),
            self.executions,
            self.bound.map_or("null".to_owned(), |most| most.to_string()),
            quoted(self.violation.and_then(|message| message.lines().next())),
        );
        // One write, so that the lines of concurrent tests do not mix.
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// Quotes a text without control characters for JSON.
fn quoted(text: Option<&str>) -> String {
    text.map_or("null".to_owned(), |text| format!("{text:?}"))
}
