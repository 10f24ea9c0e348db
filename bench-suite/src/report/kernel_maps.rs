//! Shows the published figures of the kernel's two benchmarks of its hash map beside those measured
//! here, in the units of those benchmarks.
//!
//! The published figures of `bench htab-mem -a -p 8` are from the patches of 2023, and all are from
//! other machines, with 8 or more CPUs: compare ratios, not values. So each line has its ratio to
//! immediate reuse on the same machine.

use std::fmt::Write;

use super::labels::threads_of;
use super::paragraph::paragraph;
use crate::measure::Metric;
use crate::record::Record;
use crate::workload::hash_map::{htab_mem, map_perf};

/// Thousands of loops per second of a producer, average and peak MiB.
type Figures = (f64, f64, f64);

/// A case, immediate reuse, and reuse after an RCU grace period.
const HTAB_MEM: [(&str, Figures, Figures); 4] = [
    ("no-op", (1160.66, 0.99, 1.00), (1159.18, 0.99, 0.99)),
    ("overwrite", (28.52, 2.46, 2.73), (11.00, 2288.0, 4109.0)),
    ("batch-add-batch-del", (11.50, 2.69, 2.95), (8.86, 1558.0, 2763.0)),
    ("add-del-on-diff-cpu", (3.75, 15.85, 24.24), (4.74, 11.39, 14.77)),
];

/// Thousands of events per second and CPU: immediate reuse, and reuse after an RCU grace period.
const MAP_PERF: (f64, f64) = (800.0, 600.0);

/// Operations in a loop of the kernel's htab-mem.
const LOOP: f64 = 64.0;

/// Operations in an event of the kernel's map_perf_test.
const EVENT: f64 = 10.0;

const MIB: f64 = 1_048_576.0;

/// The width of the names of subjects.
const NAME: usize = 32;

/// A subject that is shown: its label, its name in records, its policy, and its `prealloc`.
type Shown = (&'static str, &'static str, Option<&'static str>, &'static str);

const IMMEDIATE: Shown = ("immediate", "memalloc", Some("immediate"), "");

/// Shown with the kernel's reuse after a grace period: all that waits for one, in batches and one
/// by one.
const DEFERRED: [Shown; 5] = [
    ("after-rcu-gp", "memalloc", Some("after-rcu-gp"), ""),
    ("free-after-rcu-gp", "memalloc", Some("free-after-rcu-gp"), ""),
    ("after-tasks-trace-gp", "memalloc", Some("after-tasks-trace-gp"), ""),
    ("after-rcu-gp, one by one", "memalloc-callbacks", None, ""),
    ("after-tasks-trace-gp, one by one", "memalloc-callbacks-trace", None, ""),
];

/// The kernel of this machine. Its map reuses elements at once.
const KERNEL: [Shown; 2] = [
    ("kernel here, no prealloc", "kernel", None, "no prealloc"),
    ("kernel here, prealloc", "kernel", None, "prealloc"),
];

/// Returns the lines of each case of `htab-mem`, measured and published, for values of 8 bytes,
/// without a reader, and with the most threads measured; an empty text if there are none.
pub(crate) fn beside_htab_mem(records: &[Record]) -> String {
    let comparable = records.iter().filter(|record| {
        record.bench == htab_mem::BENCH
            && (record.param("value_size"), record.param("reader")) == ("8".into(), "none".into())
    });
    let mut text = String::new();
    for (case, immediate, deferred) in HTAB_MEM {
        let here: Vec<&Record> = comparable.clone().filter(|record| record.case == case).collect();
        let Some(threads) = here.iter().map(|record| record.threads).max() else { continue };
        let producers =
            if threads == 1 { "1 producer".into() } else { format!("{threads} producers") };
        let names = ["k loops/s", "ratio", "mean MiB", "peak MiB"];
        text += &head(&format!("{case}, {producers}"), &names);
        let memory = |record: Option<&Record>| record.map_or(f64::NAN, |one| one.value / MIB);
        let cells = |(loops, average, peak): Figures, base: Option<Figures>| {
            let ratio = base.map_or(f64::NAN, |(base, ..)| loops / base);
            [loops, ratio, average, peak]
        };
        let measured = |shown: &Shown| {
            let of = |metric| found(shown, metric, threads, &here);
            let loops = of(Metric::OpsPerS)?.value / LOOP / threads as f64 / 1e3;
            let [average, peak] = [Metric::MemAvgBytes, Metric::MemPeakBytes].map(of).map(memory);
            Some((loops, average, peak))
        };
        text += &lines(measured, cells, [immediate, deferred]);
    }
    if text.is_empty() {
        return text;
    }
    let title = paragraph(
        "In the units of the kernel's htab-mem: loops of 64 operations per second of one producer, \
         their ratio to immediate reuse on the same machine, and memory, for values of 8 bytes; \
         measured here, and published for 8 producers on another machine. (A later version of the \
         kernel's after an RCU GP, bpf_mem_free_rcu, was published as 0.80 of the speed and 50 MiB \
         instead of 3.)",
    );
    format!("\n{title}{text}")
}

/// Returns the lines of `map-perf`, measured and published, for each number of threads; an empty
/// text if there are none.
pub(crate) fn beside_map_perf(records: &[Record]) -> String {
    let here: Vec<&Record> =
        records.iter().filter(|record| record.bench == map_perf::BENCH).collect();
    let mut all = here.clone();
    all.sort_by_key(|record| record.threads);
    all.dedup_by_key(|record| record.threads);
    let mut text = String::new();
    for one in all {
        text += &head(&threads_of(one), &["k events/s", "ratio"]);
        let measured = |shown: &Shown| {
            let record = found(shown, Metric::OpsPerS, one.threads, &here)?;
            // More threads share the CPUs.
            let cpus = record.threads.min(record.run.host.cores);
            Some(record.value / EVENT / cpus as f64 / 1e3)
        };
        let cells =
            |events: f64, base: Option<f64>| [events, base.map_or(f64::NAN, |base| events / base)];
        let (immediate, deferred) = MAP_PERF;
        text += &lines(measured, cells, [immediate, deferred]);
    }
    if text.is_empty() {
        return text;
    }
    let title = paragraph(
        "In the units of the kernel's map_perf_test: events of ten operations per second and CPU, \
         and their ratio to immediate reuse on the same machine; measured here, and published for \
         another machine.",
    );
    format!("\n{title}{text}")
}

/// Returns the names of the columns.
fn head(what: &str, names: &[&str]) -> String {
    let names: String = names.iter().map(|name| format!("{name:>11}")).collect();
    format!("  {what:<width$}{names}\n", width = NAME + 2)
}

/// Returns the lines of all subjects that were measured, each with those that were published.
/// `measured` returns the figures of a subject, and `cells` what is shown of some figures and of
/// those that their ratio is to.
fn lines<F: Copy, const N: usize>(
    measured: impl Fn(&Shown) -> Option<F>,
    cells: impl Fn(F, Option<F>) -> [f64; N],
    [immediate, deferred]: [F; 2],
) -> String {
    let beside = |shown: &Shown, base| Some((shown.0, cells(measured(shown)?, measured(base))));
    let ours = |shown: &Shown| beside(shown, &IMMEDIATE);
    let all = ours(&IMMEDIATE)
        .into_iter()
        .chain([("published: immediate", cells(immediate, Some(immediate)))])
        .chain(DEFERRED.iter().filter_map(ours))
        .chain([("published: after an RCU GP", cells(deferred, Some(immediate)))])
        .chain(KERNEL.iter().filter_map(|shown| beside(shown, &KERNEL[0])));
    let mut text = String::new();
    for (name, cells) in all {
        let cells = cells.map(|cell| if cell.is_nan() { "-".into() } else { format!("{cell:.2}") });
        let cells: String = cells.iter().map(|cell| format!("{cell:>11}")).collect();
        // Writing to a string can't fail.
        let _ = writeln!(text, "    {name:<NAME$}{cells}");
    }
    text
}

/// Returns the record of a subject.
fn found<'r>(
    (_, subject, policy, prealloc): &Shown,
    metric: Metric,
    threads: usize,
    records: &[&'r Record],
) -> Option<&'r Record> {
    records.iter().copied().find(|record| {
        (record.subject.as_str(), record.policy.as_deref()) == (*subject, *policy)
            && (record.metric, record.threads) == (metric, threads)
            && record.param("prealloc") == *prealloc
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::specimen;

    fn of(bench: &str, subject: &str, policy: Option<&str>, metric: Metric, value: f64) -> Record {
        let mut record = specimen::of("overwrite", "none", metric, &[value; 7]);
        (record.bench, record.subject) = (bench.into(), subject.into());
        record.policy = policy.map(str::to_owned);
        record.params.insert("value_size".into(), 8.into());
        record.params.insert("reader".into(), "none".into());
        record
    }

    /// Returns the cells of the line of a subject.
    fn line(text: &str, name: &str) -> Vec<String> {
        let mut lines = text.lines().filter_map(|line| line.trim().strip_prefix(name));
        let cells = lines.find(|cells| cells.starts_with("  ")).expect(name);
        cells.split_whitespace().map(str::to_owned).collect()
    }

    /// Every policy in batches, and one by one.
    fn ours() -> impl Iterator<Item = (&'static str, Option<&'static str>, f64)> {
        [(IMMEDIATE, 1.0)]
            .into_iter()
            .chain(DEFERRED.into_iter().zip([0.5, 0.4, 0.3, 0.2, 0.1]))
            .map(|((_, subject, policy, _), ratio)| (subject, policy, ratio))
    }

    #[test]
    fn every_policy_stands_beside_the_published_figures_in_the_columns_of_htab_mem() {
        let mut records: Vec<Record> = ours()
            .flat_map(|(subject, policy, ratio)| {
                [
                    (Metric::OpsPerS, ratio * 128e6),
                    (Metric::MemAvgBytes, MIB),
                    (Metric::MemPeakBytes, 2.0 * MIB),
                ]
                .map(|(metric, value)| of(htab_mem::BENCH, subject, policy, metric, value))
            })
            .collect();
        let text = beside_htab_mem(&records);
        assert!(text.contains("overwrite, 2 producers"), "{text}");
        assert_eq!(line(&text, "immediate"), ["1000.00", "1.00", "1.00", "2.00"]);
        assert_eq!(line(&text, "published: immediate"), ["28.52", "1.00", "2.46", "2.73"]);
        for ((name, ..), loops) in DEFERRED.iter().zip(["500", "400", "300", "200", "100"]) {
            assert_eq!(line(&text, name)[0], format!("{loops}.00"), "{text}");
        }
        let deferred = ["11.00", "0.39", "2288.00", "4109.00"];
        assert_eq!(line(&text, "published: after an RCU GP"), deferred);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        for record in &mut records {
            record.params.insert("reader".into(), "busy".into());
        }
        assert_eq!(beside_htab_mem(&records), "");
    }

    #[test]
    fn every_policy_stands_beside_the_published_figures_in_events_of_map_perf_test() {
        let mut records: Vec<Record> = ours()
            .map(|(subject, policy, ratio)| {
                of(map_perf::BENCH, subject, policy, Metric::OpsPerS, ratio * 40e6)
            })
            .collect();
        let mut kernel = of(map_perf::BENCH, "kernel", None, Metric::OpsPerS, 16e6);
        kernel.params.insert("prealloc".into(), "no prealloc".into());
        records.push(kernel);
        let text = beside_map_perf(&records);
        assert!(text.contains("2 threads"), "{text}");
        // 40 M/s of 2 threads are 20 M/s of a CPU, and 2 M events.
        assert_eq!(line(&text, "immediate"), ["2000.00", "1.00"]);
        assert_eq!(line(&text, "after-rcu-gp"), ["1000.00", "0.50"]);
        assert_eq!(line(&text, "after-tasks-trace-gp, one by one"), ["200.00", "0.10"]);
        assert_eq!(line(&text, "published: after an RCU GP"), ["600.00", "0.75"]);
        assert_eq!(line(&text, "kernel here, no prealloc"), ["800.00", "1.00"]);
        assert_eq!(beside_map_perf(&[]), "");

        for record in &mut records {
            record.threads = 2 * record.run.host.cores;
            record.value = 20e6 * record.run.host.cores as f64;
            record.params.insert("oversubscribed".into(), true.into());
        }
        let text = beside_map_perf(&records);
        assert!(text.contains(" threads (oversubscribed) "), "{text}");
        assert_eq!(line(&text, "immediate"), ["2000.00", "1.00"], "they share the CPUs");
    }
}
