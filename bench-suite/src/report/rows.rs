//! Groups records that are compared with each other.

use crate::measure::Comparison;
use crate::record::Record;

/// Records that differ only in their subject.
#[derive(Debug)]
pub(super) struct Row<'r> {
    records: Vec<&'r Record>,
}

impl<'r> Row<'r> {
    /// Returns any record of the row, for the fields that all have in common.
    pub(super) fn common(&self) -> &'r Record {
        self.records[0]
    }

    /// Returns the records, one per subject, in their original order.
    pub(super) fn records(&self) -> &[&'r Record] {
        &self.records
    }

    /// Returns whether `other` is of the same task as this row, possibly with another metric.
    pub(super) fn is_of_the_same_task(&self, other: &Record) -> bool {
        self.common().is_same_task(other)
    }

    /// Returns the record of a policy.
    pub(super) fn under(&self, policy: &str) -> Option<&'r Record> {
        self.records.iter().copied().find(|record| record.policy.as_deref() == Some(policy))
    }

    /// Returns the record of the best rival.
    pub(super) fn best_rival(&self) -> Option<&'r Record> {
        let rivals = self.records.iter().copied().filter(|record| record.is_of_a_rival());
        rivals.min_by(|one, other| match one.metric.is_speed() {
            true => other.value.total_cmp(&one.value),
            false => one.value.total_cmp(&other.value),
        })
    }

    /// Returns the set of keys of the row; empty if it has none.
    pub(super) fn data(&self) -> String {
        self.common().param("data")
    }
}

/// Compares two records of a row.
pub(super) fn comparison(base: &Record, other: &Record) -> Option<Comparison> {
    Comparison::of(base.placed(), other.placed())
}

/// Groups records into rows, in the order in which their cases first occur.
pub(super) fn rows(records: &[Record]) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for record in records {
        match rows.iter_mut().find(|row| belong_together(row.common(), record)) {
            Some(row) => row.records.push(record),
            None => rows.push(Row { records: vec![record] }),
        }
    }
    rows
}

fn belong_together(one: &Record, other: &Record) -> bool {
    one.metric == other.metric && one.is_same_task(other)
}
