//! A run that a signal ends, or that the system refuses a thread, shows and records what it has
//! measured, says that it is part of a run, and leaves no process.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A run that is killed if its test fails.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Run {
    /// Waits for the end. What the run says fits into its pipes.
    fn end(mut self) -> (ExitStatus, String, String) {
        let status = self.0.wait().unwrap();
        let text = |stream: &mut dyn Read| {
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        let stdout = text(self.0.stdout.as_mut().unwrap());
        (status, stdout, text(self.0.stderr.as_mut().unwrap()))
    }
}

/// Starts the program in a process group of its own.
fn start(arguments: &[&str], json: &Path) -> Run {
    let child = Command::new(env!("CARGO_BIN_EXE_bench-suite"))
        .args(arguments)
        .arg("--quiet")
        .arg("--json")
        .arg(json)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn();
    Run(child.unwrap())
}

/// Returns whether a process exists and takes a sample.
fn takes_a_sample(process: u32) -> bool {
    let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains("--sample=")
}

/// Waits until a run has had at least this many processes that take samples; returns those that
/// were seen.
fn processes_of(run: &mut Run, many: usize) -> BTreeSet<u32> {
    let children = format!("/proc/{0}/task/{0}/children", run.0.id());
    let (mut seen, begun) = (BTreeSet::new(), Instant::now());
    while seen.len() < many {
        assert!(run.0.try_wait().unwrap().is_none(), "the run has ended: {seen:?}");
        assert!(begun.elapsed() < Duration::from_secs(100), "{seen:?}");
        let now = fs::read_to_string(&children).unwrap();
        let now = now.split_whitespace().map(|process| process.parse().unwrap());
        seen.extend(now.filter(|&process| takes_a_sample(process)));
        thread::sleep(Duration::from_millis(1));
    }
    seen
}

fn lines(json: &Path) -> Vec<Value> {
    let text = fs::read_to_string(json).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Interrupts a run in its first workload, after a round and long before its last one.
#[track_caller]
fn ends_with_its_complete_rounds(command: &[&str], signal: &str, code: i32) -> String {
    let directory = tempfile::tempdir().unwrap();
    let (json, page) = (directory.path().join("records"), directory.path().join("page.html"));
    let long = ["--rounds", "1000", "--duration", "500", "--html", page.to_str().unwrap()];
    let mut run = start(&[command, &long].concat(), &json);
    // No round has more than eight processes.
    let processes = processes_of(&mut run, 9);
    // As `timeout` does: to the process, and to its group, without a pause.
    let id = run.0.id();
    let kill = ["-s", signal, "--", &id.to_string(), &format!("-{id}")];
    assert!(Command::new("kill").args(kill).status().unwrap().success());
    let (status, text, error) = run.end();
    assert_eq!(status.code(), Some(code), "{text}{error}");
    let reason = format!("interrupted by SIG{signal}");
    assert_eq!(error, format!("bench-suite: {reason}\n"));
    assert!(text.contains(&format!("Part of a run: {reason}.")), "{text}");
    assert!(!processes.into_iter().any(takes_a_sample), "a process is left");
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains(&format!("Part of a run: {reason}.")));

    let mut lines = lines(&json);
    let (header, end) = (lines.remove(0), lines.pop().unwrap());
    assert_eq!((&header["kind"], &end["kind"]), (&"run".into(), &"end".into()));
    let part = &end["part"];
    assert!(part["reason"] == reason[..] && part["rounds"] == 1000, "{end}");
    let rounds = part["rounds_done"].as_u64().unwrap() as usize;
    assert!((1..1000).contains(&rounds) && !lines.is_empty(), "{end}");
    for record in lines {
        assert_eq!(record["samples"].as_array().unwrap().len(), rounds, "{record}");
        assert_eq!(record["at_s"].as_array().unwrap().len(), rounds, "{record}");
    }
    text
}

const ALLOC: [&str; 9] =
    ["alloc", "--case", "hot-pair", "--size", "64", "--threads", "1", "--policy", "immediate"];

#[test]
fn a_run_that_is_interrupted_shows_its_complete_rounds() {
    let text = ends_with_its_complete_rounds(&ALLOC, "INT", 130);
    assert!(text.contains("alloc, speed") && text.contains("hot-pair"), "{text}");
}

#[test]
fn a_run_that_is_terminated_shows_its_complete_rounds() {
    ends_with_its_complete_rounds(&ALLOC, "TERM", 143);
}

#[test]
fn a_recommendation_from_part_of_a_run_says_so() {
    let compare = ["compare", "--case", "overwrite", "--threads", "1"];
    let text = ends_with_its_complete_rounds(&compare, "INT", 130);
    let recommendation = "Recommendation for code that mostly allocates and frees, from part of a";
    assert!(text.contains(recommendation), "{text}");
}

#[test]
fn advice_from_part_of_a_run_says_so() {
    let text = ends_with_its_complete_rounds(&["advise", "--threads", "1:0.5"], "TERM", 143);
    assert!(text.contains("Answer, from part of a run:"), "{text}");
}

/// The sample takes 20 seconds, and would go on without its run.
#[test]
fn no_process_survives_a_run_that_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("records");
    let arguments = ["flood", "--case", "overwrite", "--size", "64", "--threads", "1"];
    let mut run = start(&[&arguments[..], &["--reader", "stall-10000ms"]].concat(), &json);
    let processes = processes_of(&mut run, 1);
    // Kills it.
    drop(run);
    let begun = Instant::now();
    while processes.iter().any(|&process| takes_a_sample(process)) {
        assert!(begun.elapsed() < Duration::from_secs(10), "{processes:?} are left");
        thread::sleep(Duration::from_millis(10));
    }
    assert!(!json.exists(), "nothing was measured");
}

/// Runs the program with 1 GiB of addresses: too few for the stacks of 1000 threads.
fn with_few_addresses(threads: &str, json: &Path) -> (Option<i32>, String, String) {
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 1048576; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_bench-suite")])
        .args(["alloc", "--case", "hot-pair", "--size", "64", "--policy", "immediate"])
        .args(["--rounds", "2", "--duration", "1", "--quiet", "--threads", threads, "--html"])
        .arg(json.with_file_name("page.html"))
        .arg("--json")
        .arg(json)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_run_that_is_refused_threads_shows_what_it_measured_before() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("records");
    let (code, text, error) = with_few_addresses("1,1000", &json);
    assert_eq!(code, Some(1), "{text}{error}");
    assert!(error.lines().count() == 1, "{error}");
    let refused = ["the system started only", "of 1000 threads"];
    assert!(refused.iter().all(|part| error.contains(part)), "{error}");
    assert!(text.contains("alloc, speed") && text.contains("Part of a run: the system"), "{text}");
    let lines = lines(&json);
    let records = lines.iter().filter(|line| line["kind"] == "record");
    assert!(records.clone().count() > 0 && records.clone().all(|record| record["threads"] == 1));
    let end = lines.last().unwrap();
    assert!(end["workloads_done"] == 1 && end["part"]["rounds_done"] == 0, "{end}");
}

#[test]
fn a_run_that_measured_nothing_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("records");
    let (code, text, error) = with_few_addresses("1000", &json);
    assert_eq!(code, Some(1), "{text}{error}");
    assert!(error.contains("of 1000 threads"), "{error}");
    // Nor a report, which would replace the one of an earlier run.
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

/// No user can create a file in `/proc`, not even root.
#[test]
fn a_run_that_cannot_write_the_report_that_it_was_asked_for_does_not_begin() {
    let directory = tempfile::tempdir().unwrap();
    for page in ["/proc/page.html", "/nowhere/page.html"] {
        let json = directory.path().join("records");
        let (status, text, error) = start(&[&ALLOC[..], &["--html", page]].concat(), &json).end();
        assert_eq!(status.code(), Some(2), "{text}{error}");
        assert!(text.is_empty(), "{text}");
        assert!(error.contains(&format!("--html {page}: ")), "{error}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
