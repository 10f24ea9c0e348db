//! A short run of every command from end to end. (`compare` has a separate file.)

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// Every policy.
const POLICIES: [&str; 4] =
    ["immediate", "after-rcu-gp", "free-after-rcu-gp", "after-tasks-trace-gp"];

/// Runs a command as briefly as possible, and returns its records and its output.
#[track_caller]
fn records(command: &str, arguments: &[&str]) -> (Vec<Value>, String) {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("records");
    let output = Command::new(env!("CARGO_BIN_EXE_bench-suite"))
        .args([command, "--duration", "1", "--quiet", "--rounds", "2", "--warmup", "0.001"])
        .args(arguments)
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && stderr.is_empty(), "{stderr}");
    let text = std::fs::read_to_string(&json).unwrap();
    let mut lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (header, end) = (lines.remove(0), lines.pop().unwrap());
    assert_eq!((&header["kind"], &end["kind"]), (&"run".into(), &"end".into()));
    assert_eq!(header["command"], command);
    assert_eq!(header["arguments"].as_array().unwrap().len(), 10 + arguments.len());
    assert_eq!(end["workloads_done"], end["workloads"]);
    let are_records = lines.iter().all(|line| line["kind"] == "record" && line["schema"] == 2);
    assert!(are_records && lines.iter().all(|line| line["run"] == header["run"]));
    (lines, String::from_utf8(output.stdout).unwrap())
}

/// Returns the distinct values of `keys`, joined by spaces; a key that is not a field of the record
/// is one of its parameters.
fn distinct(records: &[Value], keys: &[&str]) -> BTreeSet<String> {
    let words = |record: &Value| {
        let value = |key: &&str| {
            let value =
                if record[*key].is_null() { &record["params"][*key] } else { &record[*key] };
            value.as_str().map_or(value.to_string(), str::to_owned)
        };
        keys.iter().map(value).collect::<Vec<_>>().join(" ")
    };
    records.iter().map(words).collect()
}

#[track_caller]
fn has(found: &BTreeSet<String>, wanted: &[&str]) {
    for one in wanted {
        assert!(found.contains(*one), "{one:?} is not among {found:#?}");
    }
}

#[test]
fn alloc_measures_every_case_and_size_and_the_peak_memory_of_every_subject() {
    let (records, text) = records("alloc", &["--size", "16,4096"]);
    assert!(text.contains("alloc, speed") && text.contains("producer-consumer"), "{text}");
    assert!(records.iter().all(|record| record["bench"] == "alloc"));
    assert!(records.iter().all(|record| record["params"]["reader"] == "none"));
    let found = distinct(&records, &["case", "threads", "size", "metric"]);
    for case in ["hot-pair", "batch-64"] {
        for threads in [1, 2] {
            for size in [16, 4096] {
                has(&found, &[&format!("{case} {threads} {size} ops_per_s")]);
                has(&found, &[&format!("{case} {threads} {size} ns_per_op")]);
            }
        }
    }
    for size in [16, 4096] {
        has(&found, &[&format!("producer-consumer 2 {size} ops_per_s")]);
    }
    if cfg!(target_os = "linux") {
        let peaks: Vec<Value> = records
            .into_iter()
            .filter(|one| one["case"] == "producer-consumer" && one["metric"] == "mem_peak_bytes")
            .collect();
        let subjects = distinct(&peaks, &["subject", "policy"]);
        for policy in POLICIES {
            has(&subjects, &[&format!("memalloc {policy}")]);
        }
        assert!(subjects.iter().any(|subject| !subject.starts_with("memalloc")), "{subjects:?}");
        if cfg!(target_env = "gnu") {
            has(&subjects, &["glibc null", "glibc-no-trim null"]);
        }
        assert!(peaks.iter().all(|peak| peak["value"].as_f64().unwrap() > 0.0), "{peaks:#?}");
    }
}

#[test]
fn with_one_thread_a_case_that_needs_two_is_skipped_and_reported() {
    let (records, text) = records("alloc", &["--size", "64", "--threads", "1"]);
    assert!(text.contains("producer-consumer is skipped: it needs 2 threads"), "{text}");
    assert!(records.iter().all(|record| record["case"] != "producer-consumer"));
}

#[test]
fn a_rivals_version_is_in_its_records() {
    let (records, _) = records("alloc", &["--size", "64", "--threads", "1", "--case", "hot-pair"]);
    for record in &records {
        assert_eq!(record["policy"].is_null(), record["params"]["version"].is_string(), "{record}");
    }
}

#[test]
fn read_side_measures_every_kind_of_barrier_and_grace_periods_with_and_without_a_reader() {
    let (records, text) = records("read-side", &[]);
    assert!(text.contains("read-side, time"), "{text}");
    let found = distinct(&records, &["case", "subject", "barrier", "threads", "metric"]);
    for threads in [1, 2] {
        has(
            &found,
            &[
                &format!("enter-leave memalloc-rcu fence {threads} ns_per_op"),
                &format!("enter-leave memalloc-trace fence {threads} ns_per_op"),
                &format!("grace-period memalloc-trace fence {threads} gp_latency_ns"),
                &format!("grace-period memalloc-rcu fence {threads} gp_latency_ns"),
            ],
        );
    }
    let beside = ["grace-period memalloc-rcu fence 2 lookups_per_s"];
    has(&found, &beside);
    assert!(!found.contains("grace-period memalloc-rcu fence 1 lookups_per_s"), "{found:?}");
    let periods = records.iter().filter(|record| record["case"] == "grace-period").cloned();
    let found = distinct(&periods.collect::<Vec<_>>(), &["reader", "threads", "unit"]);
    has(&found, &["none 1 ns", "busy 2 ns"]);
    for record in records.iter().filter(|record| record["metric"] == "gp_latency_ns") {
        let curves = record["curves"].as_array().unwrap();
        assert!(curves.len() == 2 && curves.iter().all(|one| one["over"] == "quantile"));
        let samples = record["samples"].as_array().unwrap();
        for (curve, sample) in curves.iter().zip(samples) {
            let points = curve["points"].as_array().unwrap();
            let (least, most) = (&points[0][1], &points.last().unwrap()[1]);
            let [least, sample, most] = [least, sample, most].map(|value| value.as_f64().unwrap());
            assert!(least <= sample && sample <= most, "{record}");
        }
    }
}

#[test]
fn flood_measures_speed_and_memory_of_every_case_with_every_reader() {
    let (records, text) = records("flood", &["--size", "8", "--threads", "2"]);
    assert!(text.contains("flood, speed") && text.contains("flood, memory"), "{text}");
    assert!(text.contains("longest 512 updates") && text.contains("512 updates, 99 %"), "{text}");
    let found = distinct(&records, &["case", "reader", "policy", "size", "threads", "metric"]);
    for case in ["overwrite", "batch-add-batch-del", "add-del-on-diff-cpu"] {
        for reader in ["none", "idle", "busy", "stall-100ms"] {
            for policy in POLICIES {
                let what = format!("{case} {reader} {policy} 8 2");
                has(&found, &[&format!("{what} ops_per_s")]);
                for metric in ["group_p50", "group_p99", "group_max", "p50", "p99"] {
                    has(&found, &[&format!("{what} update_{metric}_ns")]);
                }
                if cfg!(target_os = "linux") {
                    has(&found, &[&format!("{what} mem_avg_bytes")]);
                    has(&found, &[&format!("{what} mem_peak_bytes")]);
                }
            }
        }
        has(&found, &[&format!("{case} busy immediate 8 2 lookups_per_s")]);
        has(&found, &[&format!("{case} idle null 8 2 ops_per_s")]);
    }
    assert!(distinct(&records, &["subject"]).contains("memalloc-callbacks"));
    for record in &records {
        let is_timed = record["params"]["reader"] == "stall-100ms"
            && ["ops_per_s", "mem_avg_bytes"].contains(&record["metric"].as_str().unwrap());
        // A sample of a few milliseconds may be too short for a second point.
        if record["metric"] == "update_group_p50_ns" {
            let curves = record["curves"].as_array().unwrap();
            assert!(curves.len() == 2 && curves.iter().all(|one| one["over"] == "quantile"));
        } else if let Some(curves) = record["curves"].as_array() {
            assert!(is_timed && curves.iter().all(|curve| curve["over"] == "time_s"), "{record}");
        }
    }
}

/// Returns whether the kernel's map was measured; if not, checks that a line says why.
#[track_caller]
fn kernel_is_measured_or_told(records: &[Value], text: &str) -> bool {
    let has_kernel = distinct(records, &["subject"]).contains("kernel");
    assert_eq!(text.contains("kernel is skipped: "), !has_kernel, "{text}");
    has_kernel
}

#[test]
fn htab_mem_measures_speed_and_memory_next_to_the_kernel_and_the_published_figures() {
    let (records, text) = records("htab-mem", &["--value-size", "8", "--threads", "2"]);
    assert!(text.contains("htab-mem, speed") && text.contains("htab-mem, memory"), "{text}");
    let keys = ["case", "subject", "policy", "value_size", "metric"];
    let found = distinct(&records, &keys);
    let mut subjects: Vec<String> =
        POLICIES.iter().map(|policy| format!("memalloc {policy}")).collect();
    subjects.push("memalloc-callbacks null".into());
    subjects.push("memalloc-callbacks-trace null".into());
    if kernel_is_measured_or_told(&records, &text) {
        subjects.push("kernel null".into());
        let elements = distinct(&records, &["subject", "prealloc"]);
        has(&elements, &["kernel prealloc", "kernel no prealloc"]);
    }
    for case in ["no-op", "overwrite", "batch-add-batch-del", "add-del-on-diff-cpu"] {
        for subject in &subjects {
            has(&found, &[&format!("{case} {subject} 8 ops_per_s")]);
            if cfg!(target_os = "linux") && subject != "kernel null" {
                has(&found, &[&format!("{case} {subject} 8 mem_avg_bytes")]);
                has(&found, &[&format!("{case} {subject} 8 mem_peak_bytes")]);
            }
        }
        assert!(text.contains(&format!("{case}, 2 producers")), "{text}");
    }
    assert!(text.contains("published: after an RCU GP") && text.contains("4109.00"), "{text}");
}

#[test]
fn htab_mem_measures_with_every_kind_of_reader() {
    let readers = "none,idle,busy,stall-5ms";
    let arguments =
        ["--value-size", "64", "--threads", "1", "--case", "overwrite", "--reader", readers];
    let (records, _) = records("htab-mem", &arguments);
    let found = distinct(&records, &["reader", "policy", "metric"]);
    for policy in POLICIES {
        for reader in readers.split(',') {
            has(&found, &[&format!("{reader} {policy} ops_per_s")]);
        }
        has(&found, &[&format!("busy {policy} lookups_per_s")]);
    }
    let sitting = records.iter().filter(|record| record["params"]["reader"] == "stall-5ms");
    assert!(sitting.clone().count() > 0);
    assert!(sitting.clone().all(|record| record["subject"] == "memalloc"), "nothing unbounded");
}

#[test]
fn flood_measures_memory_beside_a_sleeping_reader_under_every_policy() {
    let arguments =
        ["--size", "64", "--threads", "1", "--case", "overwrite", "--reader", "sleep-5ms"];
    let (records, _) = records("flood", &arguments);
    let found = distinct(&records, &["subject", "policy", "reader", "metric"]);
    for policy in POLICIES {
        has(&found, &[&format!("memalloc {policy} sleep-5ms ops_per_s")]);
        has(&found, &[&format!("memalloc {policy} sleep-5ms mem_peak_bytes")]);
    }
}

#[test]
fn map_perf_measures_where_the_time_goes() {
    let (records, text) = records("map-perf", &[]);
    assert!(text.contains("map-perf, speed") && text.contains("share of time"), "{text}");
    assert!(text.contains("k events/s") && text.contains("600.00       0.75"), "{text}");
    let found = distinct(&records, &["subject", "policy", "threads", "metric"]);
    for threads in [1, 2] {
        for policy in POLICIES {
            for metric in ["ops_per_s", "table_share", "allocator_share", "grace_period_share"] {
                has(&found, &[&format!("memalloc {policy} {threads} {metric}")]);
            }
        }
        has(&found, &[&format!("memalloc-callbacks null {threads} grace_period_share")]);
    }
    let share = |record: &&Value| record["metric"].as_str().unwrap().ends_with("share");
    let shares = records.iter().filter(share).map(|record| record["value"].as_f64().unwrap());
    assert!(shares.clone().count() > 0 && shares.clone().all(|share| (0.0..=1.0).contains(&share)));
    if kernel_is_measured_or_told(&records, &text) {
        has(&found, &["kernel null 1 ops_per_s", "kernel null 2 ops_per_s"]);
    }
}

#[test]
fn flood_skips_pairs_of_threads_if_there_is_only_one() {
    let arguments = ["--size", "4096", "--threads", "1", "--reader", "none,stall-100ms"];
    let (records, text) = records("flood", &arguments);
    assert!(text.contains("add-del-on-diff-cpu is skipped: it needs 2 threads"), "{text}");
    let found = distinct(&records, &["case", "reader"]);
    let left = ["overwrite none", "overwrite stall-100ms"];
    has(&found, &left);
    assert_eq!(found.len(), 2 * left.len(), "{found:?}");
}

#[test]
fn of_an_odd_number_of_threads_the_last_is_ignored_if_they_work_in_pairs() {
    for (command, case) in [("alloc", "producer-consumer"), ("flood", "add-del-on-diff-cpu")] {
        let arguments = ["--size", "64", "--threads", "3,2", "--case", case];
        let (records, _) = records(command, &arguments);
        let found = distinct(&records, &["case", "threads"]);
        assert_eq!(found, [format!("{case} 2")].into(), "{command}");
        let identity = ["subject", "policy", "reader", "metric"];
        assert_eq!(distinct(&records, &identity).len(), records.len(), "{command}: once each");
    }
}

/// Creates a file with 3000 keys; returns it, and the value of `--data` that names it.
fn some_keys(longest: usize) -> (tempfile::NamedTempFile, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let key = |number: usize| format!("{:x}/{}\n", number * 7919, "k".repeat(number % longest));
    std::fs::write(&file, (0..3000).map(key).collect::<String>()).unwrap();
    let name = format!("file:{}", file.path().display());
    (file, name)
}

#[test]
fn qp_trie_measures_every_case_with_every_reader_next_to_the_standard_map() {
    let (_file, data) = some_keys(50);
    let (records, text) = records("qp-trie", &["--data", &data]);
    assert!(text.contains("qp-trie, speed") && text.contains("rwlock-btreemap"), "{text}");
    let found = distinct(&records, &["case", "subject", "policy", "reader", "threads", "metric"]);
    let ours = ["qptrie immediate validated", "qptrie after-rcu-gp plain"];
    let locked = "qptrie immediate subtree-lock";
    let (batched, copied) = ("qptrie immediate batched", "qptrie immediate copied");
    let standard = "rwlock-btreemap null null";
    for threads in [1, 2] {
        let lookups = ["lookup-hit", "lookup-miss", "lookup-half"];
        for case in lookups.into_iter().chain(["update", "insert", "delete", "seek"]) {
            for subject in ours.iter().chain([&locked, &standard]) {
                has(&found, &[&format!("{case} {subject} {threads} ops_per_s")]);
            }
        }
        for case in lookups {
            for subject in [batched, copied] {
                has(&found, &[&format!("{case} {subject} {threads} ops_per_s")]);
            }
        }
        has(&found, &[&format!("seek {copied} {threads} ops_per_s")]);
        for subject in ours.iter().chain([&copied, &standard]) {
            has(&found, &[&format!("iterate {subject} {threads} ops_per_s")]);
        }
    }
    for subject in ours {
        for metric in ["lookups_per_s", "updates_per_s", "retries_per_lookup", "false_negatives"] {
            has(&found, &[&format!("mixed {subject} 2 {metric}")]);
        }
        for metric in ["bytes_per_entry", "overhead_bytes_per_entry"] {
            has(&found, &[&format!("memory {subject} 1 {metric}")]);
        }
    }
    assert!(records.iter().all(|record| record["params"]["concurrent_reader"] == "none"));
    if cfg!(all(target_os = "linux", target_env = "gnu")) {
        has(&found, &[&format!("memory {standard} 1 overhead_bytes_per_entry")]);
    }
}

#[cfg(feature = "rivals")]
#[test]
fn qp_trie_measures_rivals_in_every_case_they_support_and_skips_those_that_reject_the_keys() {
    let (_file, data) = some_keys(50);
    let (made, text) = records("qp-trie", &["--rivals", "--data", &data, "--threads", "2"]);
    assert!(!text.contains("masstree is skipped"), "{text}");
    let found = distinct(&made, &["case", "subject"]);
    for subject in ["masstree", "crossbeam-skiplist", "scc-treeindex", "papaya", "dashmap"] {
        for case in ["lookup-hit", "lookup-miss", "update", "insert", "delete", "mixed", "memory"] {
            has(&found, &[&format!("{case} {subject}")]);
        }
    }
    // Each has a record, even if only of a wrong answer.
    for subject in ["masstree", "crossbeam-skiplist", "scc-treeindex"] {
        has(&found, &[&format!("iterate {subject}"), &format!("seek {subject}")]);
    }
    assert!(!found.contains("seek dashmap"), "{found:?}");

    let (_file, data) = some_keys(300);
    let arguments = ["--rivals", "--data", &data, "--threads", "1", "--case", "lookup-hit"];
    let (made, text) = records("qp-trie", &arguments);
    assert!(text.contains("masstree is skipped") && text.contains("at most 256 bytes"), "{text}");
    assert!(!distinct(&made, &["subject"]).contains("masstree"));
}

#[cfg(target_os = "linux")]
#[test]
fn signals_loses_nothing_and_hands_nothing_out_twice_in_any_mode() {
    let (records, text) = records("signals", &["--threads", "2", "--rate", "5000"]);
    assert!(text.contains("Nothing was lost, nothing was handed out twice"), "{text}");
    let found = distinct(&records, &["case", "cpu_mode", "policy", "rate_hz", "threads", "metric"]);
    for policy in POLICIES {
        for metric in ["ops_per_s", "signals_per_s", "would_block_share", "lost", "duplicated"] {
            has(&found, &[&format!("handler active-thread {policy} 5000 2 {metric}")]);
        }
    }
    let counted = ["lost", "duplicated"];
    let mut counts =
        records.iter().filter(|one| counted.contains(&one["metric"].as_str().unwrap()));
    assert!(counts.all(|one| one["samples"].as_array().unwrap().iter().all(|count| *count == 0.0)));
}

#[cfg(feature = "rivals")]
#[test]
fn rivals_are_measured_on_request() {
    let (made, _) = records("alloc", &["--rivals", "--size", "64"]);
    let found = distinct(&made, &["case", "subject"]);
    for subject in ["mimalloc", "jemalloc", "snmalloc", "rpmalloc"] {
        for case in ["hot-pair", "batch-64", "producer-consumer"] {
            has(&found, &[&format!("{case} {subject}")]);
        }
    }
    let (made, text) = records("read-side", &["--rivals", "--case", "enter-leave"]);
    let found = distinct(&made, &["subject"]);
    has(&found, &["crossbeam-epoch", "seize", "haphazard", "sdd"]);
    assert!(text.lines().any(|line| line.trim_end().ends_with("best")), "{text}");
    let arguments = ["--rivals", "--case", "overwrite", "--size", "256", "--threads", "1"];
    let (made, _) = records("flood", &arguments);
    let found = distinct(&made, &["reader", "subject"]);
    for reader in ["none", "busy", "stall-100ms"] {
        for subject in ["crossbeam-epoch", "seize", "seize-4096", "haphazard", "kovan"] {
            has(&found, &[&format!("{reader} {subject}")]);
        }
    }
    assert!(found.contains("none malloc") && !found.contains("busy malloc"), "{found:?}");
}

/// A standard error without a reader costs only the progress lines.
#[cfg(unix)]
#[test]
fn a_run_whose_standard_error_is_gone_goes_on() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_bench-suite"))
        .args(["read-side", "--rounds", "1", "--threads", "1", "--duration", "1"])
        .stderr(writer)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("enter-leave"), "{text}");
}

#[test]
fn qp_trie_measures_each_reader_without_hints_and_with_them_in_turns() {
    let (_file, data) = some_keys(50);
    let arguments = ["--threads", "1", "--case", "lookup-half,memory", "--hints", "off,on"];
    let (records, text) = records("qp-trie", &[&arguments[..], &["--data", &data]].concat());
    assert!(text.contains("hints on"), "{text}");
    let found = distinct(&records, &["case", "subject", "policy", "reader", "hints", "metric"]);
    let memory = |hints: &str| {
        let is_it = |record: &&Value| {
            (&record["case"], &record["metric"], &record["params"]["hints"])
                == (&"memory".into(), &"bytes_per_entry".into(), &hints.into())
                && record["params"]["reader"] == "validated"
        };
        records.iter().find(is_it).unwrap()["value"].as_f64().unwrap()
    };
    for hints in ["off", "on"] {
        for subject in ["immediate validated", "after-rcu-gp plain", "immediate batched"] {
            has(&found, &[&format!("lookup-half qptrie {subject} {hints} ops_per_s")]);
        }
        let plain = format!("memory qptrie after-rcu-gp plain {hints} overhead_bytes_per_entry");
        has(&found, &[&plain]);
    }
    has(&found, &["lookup-half rwlock-btreemap null null null ops_per_s"]);
    assert!(memory("on") > memory("off"), "the table of hints takes memory");
}

/// A case that shares its samples with another can be selected alone.
#[test]
fn one_of_two_cases_that_share_samples_can_be_selected_alone() {
    let arguments = ["--data", "random", "--case", "insert", "--threads", "1"];
    let (records, _) = records("qp-trie", &[&arguments[..], &["--reader", "plain"]].concat());
    assert!(!records.is_empty() && records.iter().all(|record| record["case"] == "insert"));
}

#[test]
fn a_run_that_exceeds_its_time_says_so_in_advance() {
    let (_, text) = records("alloc", &["--size", "16,64,4096"]);
    assert!(
        text.contains("This run takes at least") && text.contains("the 1 s of --duration"),
        "{text}"
    );
}

/// Only records go to standard output, text to standard error; a missing newline is added to the
/// file.
#[test]
fn records_may_go_to_standard_output_and_behind_a_line_without_an_end() {
    let arguments = ["alloc", "--case", "hot-pair", "--size", "64", "--threads", "1", "--quiet"];
    let run = |json: &str| {
        Command::new(env!("CARGO_BIN_EXE_bench-suite"))
            .args(arguments)
            .args(["--duration", "1", "--rounds", "1", "--json", json])
            .output()
            .unwrap()
    };
    let output = run("-");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.lines().count() > 4, "{text}");
    assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{text}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("alloc, speed"));

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("records");
    std::fs::write(&path, "{\"a line\":\"without an end\"}").unwrap();
    assert!(run(path.to_str().unwrap()).status.success());
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{text}");
}

/// A run that can't write its records still shows them, and fails.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_fails_the_run_after_its_tables() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("records");
    std::fs::write(&path, "").unwrap();
    // No file of this process grows beyond 1 KiB, as if the disk were full.
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\"";
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_bench-suite"), "alloc", "--case", "hot-pair"])
        .args(["--size", "64", "--duration", "1", "--rounds", "1", "--quiet", "--json"])
        .arg(&path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("alloc, speed"), "{text}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("--json") && error.contains("complete"), "{error}");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{text}");
}
