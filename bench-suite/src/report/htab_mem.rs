//! Shows the published figures of the kernel's bench `htab-mem` next to those measured here, in the
//! columns of that bench: thousands of loops of 64 operations per second of one producer, average
//! and peak MiB.
//!
//! The published figures are of `bench htab-mem -a -p 8` from the patches of 2023, on a machine
//! with 8 or more CPUs: compare ratios, not values.

use std::fmt::Write;

use super::paragraph::paragraph;
use crate::measure::Metric;
use crate::record::Record;
use crate::workload::hash_map::htab_mem;

/// Thousands of loops per second of a producer, average and peak MiB.
type Figures = (f64, f64, f64);

/// A case, immediate reuse, and reuse after an RCU grace period.
const PUBLISHED: [(&str, Figures, Figures); 4] = [
    ("no-op", (1160.66, 0.99, 1.00), (1159.18, 0.99, 0.99)),
    ("overwrite", (28.52, 2.46, 2.73), (11.00, 2288.0, 4109.0)),
    ("batch-add-batch-del", (11.50, 2.69, 2.95), (8.86, 1558.0, 2763.0)),
    ("add-del-on-diff-cpu", (3.75, 15.85, 24.24), (4.74, 11.39, 14.77)),
];

/// Operations in a loop of the kernel's bench.
const LOOP: f64 = 64.0;

const MIB: f64 = 1_048_576.0;

/// The subjects shown for each case: label, subject, policy, and the value of `prealloc`.
const SHOWN: [(&str, &str, Option<&str>, &str); 4] = [
    ("memalloc immediate", "memalloc", Some("immediate"), ""),
    ("memalloc after-rcu-gp", "memalloc", Some("after-rcu-gp"), ""),
    ("kernel here, no prealloc", "kernel", None, "no prealloc"),
    ("kernel here, prealloc", "kernel", None, "prealloc"),
];

/// Returns the measured lines of each case above its published figures, for values of 8 bytes,
/// without a reader, and with the most threads measured; an empty text if there are none.
pub(crate) fn beside_htab_mem(records: &[Record]) -> String {
    let comparable = records.iter().filter(|record| {
        record.bench == htab_mem::BENCH
            && (record.param("value_size"), record.param("reader")) == ("8".into(), "none".into())
    });
    let mut lines = String::new();
    for (case, immediate, deferred) in PUBLISHED {
        let of_case = comparable.clone().filter(|record| record.case == case);
        let Some(threads) = of_case.clone().map(|record| record.threads).max() else { continue };
        let here: Vec<&Record> = of_case.filter(|record| record.threads == threads).collect();
        let producers =
            if threads == 1 { "1 producer".into() } else { format!("{threads} producers") };
        // Writing to a string can't fail.
        let _ = writeln!(lines, "  {case}, {producers}");
        let shown =
            SHOWN.iter().filter_map(|shown| Some((shown.0, measured(shown, &here, threads)?)));
        let published =
            [("published, immediate", immediate), ("published, after an RCU GP", deferred)];
        for (name, (loops, average, peak)) in shown.chain(published) {
            let _ = writeln!(lines, "    {name:<28}{loops:>9.2} k/s{average:>9.2}{peak:>9.2} MiB");
        }
    }
    if lines.is_empty() {
        return lines;
    }
    let title = paragraph(
        "The columns of the kernel's htab-mem: loops of 64 operations per second of one producer, \
         average and peak memory, values of 8 bytes; measured here, and published for 8 producers \
         on another machine.",
    );
    format!("\n{title}{lines}")
}

/// Returns the figures of one of the subjects shown, if it was measured.
fn measured(
    (_, subject, policy, prealloc): &(&str, &str, Option<&str>, &str),
    records: &[&Record],
    threads: usize,
) -> Option<Figures> {
    let value = |metric| {
        let found = records.iter().find(|record| {
            (record.subject.as_str(), record.policy.as_deref()) == (*subject, *policy)
                && record.param("prealloc") == *prealloc
                && record.metric == metric
        });
        found.map(|record| record.value)
    };
    let memory = |metric| value(metric).map_or(f64::NAN, |bytes| bytes / MIB);
    let loops = value(Metric::OpsPerS)? / LOOP / threads as f64 / 1000.0;
    Some((loops, memory(Metric::MemAvgBytes), memory(Metric::MemPeakBytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::specimen;

    #[test]
    fn measured_figures_are_converted_and_stand_above_the_published_ones() {
        let record = |metric, value| {
            let mut record = specimen::of("overwrite", "immediate", metric, &[value; 7]);
            (record.bench, record.subject) = (htab_mem::BENCH.into(), "memalloc".into());
            record.params.insert("value_size".into(), 8.into());
            record.params.insert("reader".into(), "none".into());
            record
        };
        let mut records = [
            record(Metric::OpsPerS, 128e6),
            record(Metric::MemAvgBytes, MIB),
            record(Metric::MemPeakBytes, 2.0 * MIB),
        ];
        let text = beside_htab_mem(&records);
        let line = |name: &str| -> Vec<String> {
            let line = text.lines().find(|line| line.contains(name)).unwrap();
            line.replace(name, "").split_whitespace().map(str::to_owned).collect()
        };
        assert!(text.contains("overwrite, 2 producers"), "{text}");
        assert_eq!(line("memalloc immediate"), ["1000.00", "k/s", "1.00", "2.00", "MiB"]);
        let published = line("published, after an RCU GP");
        assert_eq!(published, ["11.00", "k/s", "2288.00", "4109.00", "MiB"]);
        for record in &mut records {
            record.params.insert("reader".into(), "busy".into());
        }
        assert_eq!(beside_htab_mem(&records), "");
    }
}
