//! A table of mutations: each leaves out or weakens a step of a protocol, and the table shows the
//! result.

use std::fmt::Write;

use crate::explore::Exploration;

/// The result that a mutation must have.
#[derive(Clone, Copy)]
pub(crate) enum Expected {
    /// The model fails, with a message that contains this.
    Fails(&'static str),
    /// The model holds: another step does the same work.
    CoveredBy(&'static str),
}

impl Expected {
    /// The model fails, whichever claim it violates.
    pub(crate) const FAILS: Self = Self::Fails("");
}

pub(crate) struct Table {
    text: String,
    surprises: Vec<&'static str>,
}

impl Table {
    pub(crate) fn new(protocol: &str) -> Self {
        let text = format!("loom {protocol}: each step left out, and where it shows\n");
        Self { text, surprises: Vec::new() }
    }

    /// Adds and records the exploration of a scenario with a mutation.
    pub(crate) fn add(
        &mut self,
        mutation: &'static str,
        expected: Expected,
        scenario: &str,
        exploration: &Exploration,
    ) {
        let violation = exploration.violation.as_deref();
        // Any other panic is an error in the model.
        let is_claim =
            |it: &str| ["claim: ", "Causality violation: "].iter().any(|c| it.starts_with(c));
        let (covered_by, is_expected) = match expected {
            Expected::Fails(what) => {
                (None, violation.is_some_and(|it| is_claim(it) && it.contains(what)))
            }
            Expected::CoveredBy(step) => (Some(step), violation.is_none()),
        };
        let end = match (violation, covered_by) {
            (Some(violation), _) => violation.to_owned(),
            (None, Some(step)) => format!("not caught: covered by {step}"),
            (None, None) => "NOT CAUGHT".to_owned(),
        };
        let executions = exploration.executions;
        writeln!(self.text, "  {mutation:46} {scenario:24} execution {executions:>6}  {end}")
            .expect("a String takes everything");
        exploration.record(scenario, Some(mutation), covered_by);
        if !is_expected {
            self.surprises.push(mutation);
        }
    }

    /// Prints the table, and fails if a result is not the expected one.
    pub(crate) fn finish(self) {
        print!("{}", self.text);
        assert!(self.surprises.is_empty(), "not as expected: {:?}", self.surprises);
    }
}
