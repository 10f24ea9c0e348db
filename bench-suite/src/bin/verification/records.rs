//! The records that the models append: one for each exploration.

use std::fs;
use std::path::Path;

use serde::Deserialize;

/// A line of the file: see `memalloc/tests/loom/record.rs`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    #[serde(rename = "crate")]
    pub(crate) package: String,
    /// The test binary.
    pub(crate) target: String,
    /// The path of the test in it.
    pub(crate) claim: String,
    pub(crate) model: Option<String>,
    pub(crate) mutation: Option<String>,
    pub(crate) covered_by: Option<String>,
    pub(crate) executions: usize,
    pub(crate) bound: Option<usize>,
    pub(crate) violation: Option<String>,
}

impl Record {
    /// The module of the test, and its name in it.
    pub(crate) fn room_and_name(&self) -> (String, &str) {
        match self.claim.rsplit_once("::") {
            Some((module, name)) => (format!("{}::{module}", self.target), name),
            None => (self.target.clone(), &self.claim),
        }
    }

    /// Whether the exploration ended as it has to.
    fn is_expected(&self) -> bool {
        let must_fail = self.mutation.is_some() && self.covered_by.is_none();
        must_fail == self.violation.is_some()
    }
}

/// Reads the records, in the order of crates, binaries and tests. Tests run at the same time, so
/// the file has them in any order; those of one test keep theirs.
pub(crate) fn read(path: &Path) -> Result<Vec<Record>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str::<Record>(line)
            .map_err(|error| format!("{}:{}: {error}", path.display(), number + 1))
    };
    let mut records = text.lines().enumerate().map(parse).collect::<Result<Vec<_>, _>>()?;
    records.sort_by_cached_key(|it| (it.package.clone(), it.room_and_name().0, it.claim.clone()));
    Ok(records)
}

/// Fails if a mutation survived, or a model failed.
pub(crate) fn check(records: &[Record]) -> Result<(), String> {
    let wrong = records.iter().filter(|record| !record.is_expected());
    let wrong: Vec<_> = wrong.map(|record| format!("not as expected: {record:?}")).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explored(mutation: bool, covered: bool, fails: bool) -> Result<(), String> {
        let text = |is_there: bool| is_there.then(|| "a text".to_owned());
        check(&[Record {
            package: "memalloc".to_owned(),
            target: "loom".to_owned(),
            claim: "room::a_claim".to_owned(),
            model: None,
            mutation: text(mutation),
            covered_by: text(covered),
            executions: 1,
            bound: None,
            violation: text(fails),
        }])
    }

    #[test]
    fn a_model_holds_and_a_mutation_fails_unless_another_step_covers_it() {
        assert!(explored(false, false, false).is_ok());
        assert!(explored(true, false, true).is_ok());
        assert!(explored(true, true, false).is_ok());
        assert!(explored(false, false, true).is_err(), "a model failed");
        assert!(explored(true, false, false).is_err(), "a mutation survived");
        assert!(explored(true, true, true).is_err(), "a mutation is not covered");
    }
}
