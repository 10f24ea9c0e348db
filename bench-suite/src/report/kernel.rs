//! Shows the published figures of the kernel's trie next to those measured here.
//!
//! The figures are those of the patch series that proposed the trie for BPF, from a machine with 16
//! threads: compare ratios, not values.

use std::fmt::Write;

use crate::measure::{Comparison, Metric};
use crate::record::Record;
use crate::workload::threads_in_words;

use super::figures;
use super::paragraph::paragraph;

/// A number of threads, and million lookups per second: without a lock, and with the subtree lock.
type Published = (usize, f64, f64);

const RANDOM: [Published; 5] =
    [(1, 10.25, 8.99), (2, 20.47, 15.9), (4, 41.21, 27.6), (8, 82.93, 42.0), (16, 162.6, 50.9)];

const SYMBOLS: [Published; 5] =
    [(1, 4.10, 4.45), (2, 8.23, 4.88), (4, 15.4, 5.77), (8, 30.0, 5.93), (16, 62.6, 5.95)];

/// Returns two lines for each number of threads that was measured here with both readers, without
/// hints, on a set of keys with published figures; an empty text if there is none.
pub(crate) fn beside_the_kernel(records: &[Record]) -> String {
    let mut lines = String::new();
    for (data, published) in [("random", RANDOM), ("symbols", SYMBOLS)] {
        for (threads, free, locked) in published {
            let here = |reader| speed(records, data, threads, reader);
            let Some((own_free, own_locked)) = here("validated").zip(here("subtree-lock")) else {
                continue;
            };
            let ratio = Comparison::of(own_locked.placed(), own_free.placed());
            let [own_free, own_locked] =
                [own_free, own_locked].map(|record| figures::value(Metric::OpsPerS, record.value));
            let ratio = ratio.as_ref().map_or_else(String::new, figures::ratio);
            let times = free / locked;
            // Writing to a string can't fail.
            let _ = writeln!(
                lines,
                "  {data}, {}\n    here       {own_free} and {own_locked}, {ratio}\n    published  \
                 {free} M/s and {locked} M/s, {times:.2}",
                threads_in_words(threads)
            );
        }
    }
    if lines.is_empty() {
        return lines;
    }
    let title = paragraph(
        "Lookups without a lock and with the subtree lock, and their ratio: measured here, and \
         published for the kernel's trie on a machine with 16 threads, with other keys of the same \
         kind.",
    );
    format!("\n{title}{lines}")
}

fn speed<'r>(
    records: &'r [Record],
    data: &str,
    threads: usize,
    reader: &str,
) -> Option<&'r Record> {
    records.iter().find(|record| {
        (record.case.as_str(), record.metric, record.threads)
            == ("lookup-hit", Metric::OpsPerS, threads)
            && record.param("data") == data
            && record.param("reader") == reader
            && !record.has_hints()
    })
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
    fn published_figures_stand_beside_ours_where_both_readers_were_measured() {
        let both = [read_by("validated", 6e6), read_by("subtree-lock", 3e6)];
        let text = beside_the_kernel(&both);
        let lines = "  symbols, 2 threads\n    here       6.00 M/s and 3.00 M/s, 2.00\n    \
                     published  8.23 M/s and 4.88 M/s, 1.69\n";
        assert!(text.ends_with(lines), "{text}");
        assert_eq!(beside_the_kernel(&both[..1]), "");
        let by_hint = both.map(|mut record| {
            record.params.insert("hints".into(), "on".into());
            record
        });
        assert_eq!(beside_the_kernel(&by_hint), "", "the kernel's trie has no hints");
    }
}
