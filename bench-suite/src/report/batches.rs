//! Reports lookups that were slower in batches than one by one.

use std::fmt::Write;

use super::figures;
use super::paragraph::paragraph;
use super::rows::comparison;
use crate::measure::{Comparison, Metric, Verdict};
use crate::record::Record;

/// Returns one line for each case, set of keys and number of threads in which the reader `batched`
/// was slower than `validated`; an empty text if there is none.
pub(crate) fn slower_in_batches(records: &[Record]) -> String {
    let mut lines = String::new();
    let by = |reader: &'static str| {
        let speeds = records.iter().filter(|record| record.metric == Metric::OpsPerS);
        speeds.filter(move |record| record.param("reader") == reader)
    };
    for one in by("validated") {
        let batched = by("batched").find(|batched| {
            (&batched.case, batched.threads) == (&one.case, one.threads)
                && batched.param("data") == one.param("data")
                && batched.has_hints() == one.has_hints()
        });
        let ratio = batched.and_then(|batched| comparison(one, batched));
        let Some(ratio) = ratio.filter(is_slower) else { continue };
        // Writing to a string can't fail.
        let _ = writeln!(
            lines,
            "  {} {}{}, threads {}: {}",
            one.param("data"),
            one.case,
            if one.has_hints() { ", hints on" } else { "" },
            one.threads,
            figures::ratio(&ratio)
        );
    }
    if lines.is_empty() {
        return lines;
    }
    let title = paragraph(
        "Batched lookups (get_many) were slower here than single lookups; ratios are batched / \
         validated. A batch hides cache misses. If the whole map fits in the caches, or the \
         processor overlaps single lookups anyway, the bookkeeping costs more than it saves.",
    );
    format!("\n{title}{lines}")
}

fn is_slower(ratio: &Comparison) -> bool {
    ratio.verdict == Verdict::Differ && ratio.ratio < 1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::specimen;

    fn read_by(reader: &str, speed: f64) -> Record {
        let mut record = specimen::of("lookup-hit", "immediate", Metric::OpsPerS, &[speed; 7]);
        record.params.insert("reader".into(), reader.into());
        record
    }

    #[test]
    fn batches_that_are_slower_are_named() {
        let text = slower_in_batches(&[read_by("validated", 5e6), read_by("batched", 4e6)]);
        assert!(text.ends_with("  symbols lookup-hit, threads 2: 0.80\n"), "{text}");
    }

    #[test]
    fn batches_are_compared_with_single_lookups_by_the_same_hints() {
        let by_hint = |mut record: Record| {
            record.params.insert("hints".into(), "on".into());
            record
        };
        let fast = [read_by("validated", 5e6), by_hint(read_by("batched", 4e6))];
        assert_eq!(slower_in_batches(&fast), "");
        let text = slower_in_batches(&fast.map(by_hint));
        assert!(text.ends_with("  symbols lookup-hit, hints on, threads 2: 0.80\n"), "{text}");
    }

    #[test]
    fn batches_that_are_faster_or_the_same_are_not() {
        for batched in [5e6, 5.1e6, 9e6] {
            let records = [read_by("validated", 5e6), read_by("batched", batched)];
            assert_eq!(slower_in_batches(&records), "");
        }
        assert_eq!(slower_in_batches(&[read_by("validated", 5e6)]), "");
    }
}
