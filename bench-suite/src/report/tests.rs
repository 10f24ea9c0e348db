//! Every table at several widths.

use super::run_comparison::RunComparison;
use super::tables::{Against, tables_within};
use crate::measure::Metric;
use crate::record::{Record, Run, specimen};
use crate::workload::Params;

const WIDTHS: [usize; 2] = [80, 120];

/// A subject: its name, its policy, and a parameter of its records.
type Subject = (&'static str, Option<&'static str>, Option<(&'static str, &'static str)>);

const OURS: [Subject; 4] = [
    ("memalloc", Some("immediate"), None),
    ("memalloc", Some("after-rcu-gp"), None),
    ("memalloc", Some("free-after-rcu-gp"), None),
    ("memalloc", Some("after-tasks-trace-gp"), None),
];

const OF_MAPS: [Subject; 4] = [
    ("memalloc-callbacks", None, None),
    ("memalloc-callbacks-trace", None, None),
    ("kernel", None, Some(("prealloc", "no prealloc"))),
    ("kernel", None, Some(("prealloc", "prealloc"))),
];

const RIVALS: [Subject; 6] = [
    ("crossbeam-epoch", None, Some(("allocator", "mimalloc"))),
    ("seize", None, Some(("allocator", "mimalloc"))),
    ("seize-4096", None, Some(("allocator", "mimalloc"))),
    ("haphazard", None, Some(("allocator", "mimalloc"))),
    ("kovan", None, Some(("allocator", "mimalloc"))),
    ("malloc", None, Some(("allocator", "glibc"))),
];

const TRIES: [Subject; 4] = [
    ("qptrie", Some("immediate"), Some(("reader", "subtree-lock"))),
    ("qptrie", Some("after-rcu-gp"), Some(("reader", "plain"))),
    ("crossbeam-skiplist", None, None),
    ("rwlock-btreemap", None, None),
];

/// Samples whose middle half and interval are wide.
const SAMPLES: [f64; 7] = [0.9, 1.3, 1.0, 1.2, 1.15, 0.95, 1.25];

fn records(bench: &str, case: &str, metric: Metric, subjects: &[Subject]) -> Vec<Record> {
    let of = |(place, &(name, policy, own)): (usize, &Subject)| {
        // No two subjects can be told apart.
        let mut samples = SAMPLES.map(|one| one * 1.1e6);
        samples.rotate_left(place % SAMPLES.len());
        let mut record = specimen::of(case, "none", metric, &samples);
        if bench != "qp-trie" {
            record.params = Params::new();
            record.params.insert("value_size".into(), 4096.into());
            record.params.insert("reader".into(), "stall-100ms".into());
        }
        record.params.insert("oversubscribed".into(), true.into());
        (record.bench, record.subject) = (bench.into(), name.into());
        record.policy = policy.map(str::to_owned);
        record.params.extend(own.map(|(name, value)| (name.to_owned(), value.into())));
        record
    };
    subjects.iter().enumerate().map(of).collect()
}

/// Records of every command that shows a table, with the most subjects that it has.
fn all() -> Vec<Record> {
    let maps = [&OURS[..], &OF_MAPS].concat();
    let rivals = [&OURS[..], &OF_MAPS[..1], &RIVALS].concat();
    [
        records("htab-mem", "add-del-on-diff-cpu", Metric::OpsPerS, &maps),
        records("htab-mem", "batch-add-batch-del", Metric::MemPeakBytes, &maps),
        records("map-perf", "update-delete", Metric::OpsPerS, &maps),
        records("map-perf", "update-delete", Metric::GracePeriodShare, &maps[..6]),
        records("flood", "add-del-on-diff-cpu", Metric::UpdateGroupP99Ns, &rivals),
        records("flood", "overwrite", Metric::MemPeakBytes, &rivals),
        records("alloc", "producer-consumer", Metric::OpsPerS, &rivals),
        records("read-side", "grace-period", Metric::GpLatencyNs, &rivals),
        records("signals", "handler", Metric::SignalsPerS, &OURS),
        records("qp-trie", "lookup-hit", Metric::OpsPerS, &TRIES),
        records("qp-trie", "memory", Metric::OverheadBytesPerEntry, &TRIES),
    ]
    .concat()
}

/// Fails if a line is wider than `width`, or if a word is missing.
#[track_caller]
fn check(text: &str, width: usize, words: &[&str]) {
    let wide = text.lines().find(|line| line.chars().count() > width);
    assert!(wide.is_none(), "{width}: {wide:?} in {text}");
    // A name may be broken at a hyphen, between the columns of a row.
    for word in words {
        let parts = |text: &str| word.split_inclusive('-').all(|part| text.contains(part));
        assert!(text.contains(word) || parts(text), "{word} is broken: {text}");
    }
}

#[test]
fn every_table_fits_its_width_without_breaking_a_word() {
    let all = all();
    let words = [
        "memalloc-callbacks-trace",
        "after-tasks-trace-gp",
        "crossbeam-epoch",
        "rwlock-btreemap",
        "(oversubscribed)",
        "stall-100ms",
        "add-del-on-diff-cpu",
        "apart",
    ];
    for width in WIDTHS {
        for against in [Against::TheFirst, Against::TheFastestRival] {
            check(&tables_within(&all, against, width), width, &words);
        }
    }
}

#[test]
fn the_table_of_two_files_fits_its_width_without_breaking_a_word() {
    let records = all();
    let run = Run { header: records[0].run.clone(), records, end: None };
    let runs = vec![run; 9];
    for width in WIDTHS {
        let compared = RunComparison::within(&runs, &runs, 1.03, width).unwrap();
        let words = ["memalloc-callbacks-trace", "no difference", "add-del-on-diff-cpu"];
        check(&compared.text, width, &words);
        let subjects = compared.text.matches("after-tasks-trace-gp").count();
        assert!(subjects >= 6 || width > 80, "{subjects}: {}", compared.text);
    }
}
