//! A short run of `compare` from end to end.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const POLICIES: [&str; 2] = ["immediate", "after-rcu-gp"];

#[test]
fn a_short_run_records_every_case_under_both_policies_and_misses_no_key() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("records");
    let output = Command::new(env!("CARGO_BIN_EXE_bench-suite"))
        .args([
            "--duration",
            "2",
            "--quiet",
            "--data",
            "random",
            "--rounds",
            "2",
            "--tables",
            "--json",
        ])
        .arg(&json)
        .current_dir(directory.path())
        .output()
        .unwrap();
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.is_empty(), "{stderr}");
    assert!(
        stdout.contains("lookup-hit") && stdout.contains("Recommendation for a map"),
        "{stdout}"
    );

    let page = directory.path().join("bench-suite-report.html");
    assert!(stdout.contains("Report: ") && stdout.contains("bench-suite-report.html"), "{stdout}");
    assert!(std::fs::read_to_string(page).unwrap().ends_with("</html>"));

    let text = std::fs::read_to_string(&json).unwrap();
    let mut records: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a line is a record")).collect();
    let (header, end) = (records.remove(0), records.pop().unwrap());
    assert!(header["kind"] == "run" && header["command"] == "compare" && header["seed"] == 1);
    assert!(end["kind"] == "end" && end["run"] == header["run"], "{end}");
    let controls = end["controls"].as_array().unwrap();
    let cases: Vec<_> = controls.iter().map(|one| one["case"].as_str().unwrap()).collect();
    assert_eq!(cases, ["lookup-hit", "update", "overwrite"], "one of each kind");
    assert!(controls.iter().all(|one| one["again"].as_array().unwrap().len() == 2), "{end}");
    assert_eq!(stdout.matches("\nControl, ").count(), 3, "{stdout}");
    assert!(end["health"]["arithmetic_ns"]["median"].as_f64().unwrap() > 0.0, "{end}");
    let found: BTreeSet<String> = records.iter().map(identity).collect();
    let missing: Vec<String> = expected().filter(|identity| !found.contains(identity)).collect();
    assert!(missing.is_empty(), "missing: {missing:#?}\nfound: {found:#?}");
    assert_eq!(found.len(), records.len(), "a measurement was recorded twice");
    for record in &records {
        assert_eq!(record["run"], header["run"]);
        check(record, header["host"]["cores"].as_u64().unwrap());
    }
}

/// Runs `compare` in a directory in which it can't write its report, and checks that it says so in
/// one line and shows the results.
#[track_caller]
fn shows_its_results_without_a_report_in(directory: &Path) {
    let output = Command::new(env!("CARGO_BIN_EXE_bench-suite"))
        .args(["--duration", "1", "--rounds", "1", "--warmup", "0.001", "--quiet"])
        .args(["--data", "random", "--case", "update", "--threads", "1"])
        .current_dir(directory)
        .output()
        .unwrap();
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{stderr}");
    let begins = "No report: bench-suite-report.html: ";
    assert!(stderr.lines().count() == 1 && stderr.starts_with(begins), "{stderr}");
    assert!(stderr.contains("--html FILE names another place"), "{stderr}");
    assert!(stdout.contains("map changes") && stdout.contains("Recommendation: "), "{stdout}");
    assert!(!stdout.contains("Report: "), "{stdout}");
}

#[test]
fn a_directory_with_the_name_of_the_report_costs_only_the_report() {
    let directory = tempfile::tempdir().unwrap();
    let obstacle = directory.path().join("bench-suite-report.html");
    std::fs::create_dir(&obstacle).unwrap();
    shows_its_results_without_a_report_in(directory.path());
    assert!(obstacle.is_dir());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn somebody_elses_file_with_the_name_of_the_report_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bench-suite-report.html");
    std::fs::write(&file, "a letter").unwrap();
    shows_its_results_without_a_report_in(directory.path());
    assert_eq!(std::fs::read_to_string(file).unwrap(), "a letter");
}

/// No user can create a file in `/proc`, not even root.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_cannot_be_written_costs_only_the_report() {
    shows_its_results_without_a_report_in(Path::new("/proc"));
}

#[test]
fn every_case_is_measured_beside_the_readers_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("records");
    let output = Command::new(env!("CARGO_BIN_EXE_bench-suite"))
        .args(["compare", "--duration", "1", "--rounds", "1", "--warmup", "0.001", "--quiet"])
        .args(["--data", "random", "--threads", "2", "--reader", "busy,stall-5ms", "--no-html"])
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let lines = std::fs::read_to_string(&json).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut found = BTreeSet::new();
    for record in lines.iter().filter(|line| line["kind"] == "record") {
        let params = &record["params"];
        let is_trie = record["bench"] == "qp-trie";
        let reader = &params[if is_trie { "concurrent_reader" } else { "reader" }];
        found.insert((record["case"].as_str().unwrap(), reader.as_str().unwrap()));
    }
    let cases = ["lookup-hit", "update", "insert", "delete", "mixed", "overwrite"];
    let expected = cases.into_iter().flat_map(|case| [(case, "busy"), (case, "stall-5ms")]);
    assert_eq!(found, expected.collect());
    for line in ["map lookups, 5 ms stalls", "map changes, 5 ms stalls", "allocate, 5 ms stalls"] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

/// Returns the fields that identify a record.
fn identity(record: &Value) -> String {
    let params = &record["params"];
    let what = if params["data"].is_null() { &params["size"] } else { &params["data"] };
    let reader = if record["bench"] == "flood" { &params["reader"] } else { &Value::Null };
    let text = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
    let words =
        ["bench", "case", "subject", "policy", "threads", "metric"].map(|key| text(&record[key]));
    format!("{} {} {}", words.join(" "), text(what), text(reader)).replace(" null", "")
}

/// Returns the identities that the run must at least contain.
fn expected() -> impl Iterator<Item = String> {
    let mut all = Vec::new();
    for policy in POLICIES {
        let mut trie = |case: &str, threads: usize, metric: &str| {
            all.push(format!("qp-trie {case} qptrie {policy} {threads} {metric} random"));
        };
        for threads in [1, 2] {
            for case in ["lookup-hit", "update", "insert", "delete"] {
                trie(case, threads, "ops_per_s");
                trie(case, threads, "false_negatives");
            }
        }
        let mixed = [
            "lookups_per_s",
            "updates_per_s",
            "false_negatives",
            "retries_per_lookup",
            "mem_avg_bytes",
            "mem_peak_bytes",
        ];
        for metric in mixed {
            trie("mixed", 2, metric);
        }
    }
    for policy in POLICIES {
        for size in [256, 4096] {
            for reader in ["none", "idle", "busy", "stall-100ms"] {
                for metric in ["ops_per_s", "mem_peak_bytes", "update_group_max_ns"] {
                    all.push(format!(
                        "flood overwrite memalloc {policy} 2 {metric} {size} {reader}"
                    ));
                }
            }
        }
    }
    all.into_iter()
}

fn check(record: &Value, cores: u64) {
    let keys: Vec<&str> = record.as_object().unwrap().keys().map(String::as_str).collect();
    let schema = [
        "arithmetic_ns",
        "at_s",
        "bench",
        "case",
        "independent_ns",
        "kind",
        "metric",
        "params",
        "policy",
        "process",
        "round_trip_ns",
        "run",
        "samples",
        "schema",
        "subject",
        "threads",
        "unit",
        "value",
    ];
    assert_eq!(keys.into_iter().filter(|key| *key != "curves").collect::<Vec<_>>(), schema);
    assert_eq!((&record["schema"], &record["kind"]), (&2.into(), &"record".into()));
    for looks in ["at_s", "arithmetic_ns", "independent_ns", "round_trip_ns", "process"] {
        assert_eq!(record[looks].as_array().unwrap().len(), 2, "{record}");
    }

    let samples: Vec<f64> =
        record["samples"].as_array().unwrap().iter().map(|one| one.as_f64().unwrap()).collect();
    assert_eq!(samples.len(), 2, "{record}");
    assert!(samples.iter().all(|sample| sample.is_finite()), "{record}");
    let value = record["value"].as_f64().unwrap();
    let middle = (samples[0] + samples[1]) / 2.0;
    assert!((value - middle).abs() <= middle.abs() * 1e-9, "{record}");
    match record["metric"].as_str().unwrap() {
        "false_negatives" => assert_eq!(samples, [0.0, 0.0]),
        "ops_per_s" | "lookups_per_s" | "updates_per_s" => assert!(value > 0.0, "{record}"),
        _ => {}
    }
    if record["bench"] == "qp-trie" {
        assert_eq!(record["params"]["entries"], 16_376);
        let reader = if record["policy"] == "immediate" { "validated" } else { "plain" };
        assert_eq!(record["params"]["reader"], reader);
        assert_eq!(record["params"]["concurrent_reader"], "none");
    }
    // A busy reader is one more thread.
    let reads = record["bench"] == "flood" && record["params"]["reader"] == "busy";
    let oversubscribed = record["threads"].as_u64().unwrap() + u64::from(reads) > cores;
    assert_eq!(record["params"]["oversubscribed"], oversubscribed);
}
