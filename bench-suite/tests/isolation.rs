//! Samples do not affect each other: each is taken in a process of its own, which inherits what the
//! run was started with and nothing else.
//!
//! The process builds the allocator and the domain of its sample; the run passes it arguments, keys
//! and turns. So nothing that a sample leaves behind (full caches, a grown heap, a reader slot, a
//! pinned thread) reaches another one, unless it does through the system.
#![cfg(target_os = "linux")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Every command that measures, as briefly as possible.
const COMMANDS: [&[&str]; 9] = [
    &["compare", "--no-html", "--case", "insert,overwrite", "--data", "random", "--reader", "none"],
    &["alloc", "--size", "64", "--case", "hot-pair", "--policy", "immediate"],
    &["read-side", "--case", "enter-leave"],
    &["flood", "--size", "64", "--case", "overwrite", "--reader", "none,busy"],
    &["htab-mem", "--value-size", "8", "--case", "overwrite", "--policy", "immediate"],
    &["map-perf", "--policy", "immediate"],
    &["qp-trie", "--data", "random", "--case", "lookup-hit", "--policy", "immediate"],
    &["signals", "--cpu-mode", "active-thread", "--policy", "immediate,after-rcu-gp"],
    &["advise"],
];

/// The options of most of them.
const ONE_THREAD: [&str; 2] = ["--threads", "1"];

/// A run that is killed if its test fails.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &[&str], json: &Path) -> Run {
    let child = Command::new(env!("CARGO_BIN_EXE_bench-suite"))
        .args(command)
        .args(["--rounds", "2", "--duration", "1", "--warmup", "0.001", "--quiet", "--json"])
        .arg(json)
        .env("BESIDE", "every sample")
        .stdout(Stdio::null())
        .spawn();
    Run(child.unwrap())
}

/// Returns what a record was measured in: a sample has records for several metrics, and for several
/// cases if they share it.
fn sample_of(record: &Value) -> String {
    let mut params = record["params"].clone();
    // Of the values, not of the sample.
    params.as_object_mut().unwrap().remove("percentile");
    let case = match record["case"].as_str().unwrap() {
        "delete" => "insert",
        case => case,
    };
    let words = ["bench", "subject", "policy", "threads"].map(|name| record[name].to_string());
    format!("{case} {} {params}", words.join(" "))
}

#[test]
fn every_sample_of_every_command_is_taken_in_a_process_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    for command in COMMANDS {
        let json = directory.path().join(command[0]);
        let threads = if command[0] == "advise" { &[][..] } else { &ONE_THREAD };
        let mut run = start(&[command, threads].concat(), &json);
        assert!(run.0.wait().unwrap().success(), "{command:?}");
        let mut samples = BTreeMap::new();
        let lines = fs::read_to_string(&json).unwrap();
        for line in lines.lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            // The points of the search of `advise` differ in numbers that are no parameters.
            let at = record["at_s"].to_string();
            if record["kind"] == "record" && record["metric"] != "wrong_answers" {
                let processes = &record["process"];
                let known = samples.entry(sample_of(&record) + &at).or_insert(processes.clone());
                assert_eq!(known, processes, "{record}");
            }
        }
        let all = samples.values().flat_map(|one| one.as_array().unwrap());
        let all: Vec<u64> = all.map(|process| process.as_u64().unwrap()).collect();
        let mut distinct: BTreeSet<u64> = all.iter().copied().collect();
        assert!(all.len() >= 4 && distinct.len() == all.len(), "{command:?}: {all:?}");
        assert!(distinct.insert(run.0.id().into()), "{command:?}: the run took a sample");
    }
}

fn takes_part(environment: &[u8]) -> bool {
    String::from_utf8_lossy(environment).contains("BESIDE=every sample")
}

/// What a process inherits.
#[derive(Debug, PartialEq, Eq)]
struct Inherited {
    environment: Vec<u8>,
    status: Vec<String>,
}

/// Returns what the main thread of a process has inherited; `None` if it has ended.
fn inherited(process: u32) -> Option<Inherited> {
    let environment = fs::read(format!("/proc/{process}/environ")).ok()?;
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let wanted = ["Cpus_allowed:", "Mems_allowed:", "Groups:", "Uid:", "Seccomp:"];
    let lines = status.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
    let status: Vec<String> = lines.map(str::to_owned).collect();
    // A process that has ended has no command line, and an environment that was read meanwhile may
    // lack its end.
    let lives = !fs::read(format!("/proc/{process}/cmdline")).ok()?.is_empty();
    (lives && status.len() >= 5).then_some(Inherited { environment, status })
}

#[test]
fn a_sample_inherits_what_its_run_was_started_with_and_the_run_does_not_change() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("records");
    // Threads are pinned, in the probe of the run and in every sample.
    let mut run =
        start(&["flood", "--size", "64", "--case", "overwrite", "--reader", "busy"], &json);
    let begun = Instant::now();
    let at_first = loop {
        assert!(run.0.try_wait().unwrap().is_none(), "the run has ended");
        assert!(begun.elapsed() < Duration::from_secs(100));
        // Until it has replaced the program that started it.
        match inherited(run.0.id()) {
            Some(found) if takes_part(&found.environment) => break found,
            _ => thread::sleep(Duration::from_micros(100)),
        }
    };
    let children = format!("/proc/{0}/task/{0}/children", run.0.id());
    let mut seen = BTreeSet::new();
    while run.0.try_wait().unwrap().is_none() {
        let now = fs::read_to_string(&children).unwrap_or_default();
        for sample in now.split_whitespace().map(|process| process.parse().unwrap()) {
            let line = fs::read(format!("/proc/{sample}/cmdline")).unwrap_or_default();
            let is_sample = String::from_utf8_lossy(&line).contains("--sample=");
            if let Some(found) = inherited(sample).filter(|_| is_sample) {
                assert_eq!(found, at_first);
                seen.insert(sample);
            }
        }
        if let Some(now) = inherited(run.0.id()) {
            assert_eq!(now, at_first);
        }
    }
    assert!(run.0.wait().unwrap().success() && seen.len() > 4, "{seen:?}");
}
