//! `advise` from end to end: checks which policies are correct, and the form of the measurements.

#[cfg(unix)]
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

const POLICIES: [&str; 4] =
    ["immediate", "after-rcu-gp", "free-after-rcu-gp", "after-tasks-trace-gp"];

fn advise(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-suite"));
    command.arg("advise").args(arguments).stdin(Stdio::null()).output().expect("it starts")
}

/// Returns what the command printed, in one line.
#[track_caller]
fn said(arguments: &[&str]) -> String {
    let output = advise(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && stderr.is_empty(), "{arguments:?}: {stderr}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Runs too briefly for a result, to check the form of the output.
#[track_caller]
fn briefly(arguments: &[&str]) -> String {
    let short = ["--duration", "1", "--rounds", "2", "--warmup", "0.001", "--quiet"];
    said(&[arguments, &short].concat())
}

/// Returns the verdict on each policy's correctness.
fn verdicts(text: &str) -> Vec<bool> {
    let of = |policy: &str| {
        let yes = text.contains(&format!(" {policy} yes"));
        assert!(yes != text.contains(&format!(" {policy} no: ")), "{policy} in {text}");
        yes
    };
    POLICIES.map(of).to_vec()
}

#[test]
fn a_shape_is_measured_under_the_correct_policies_and_answered() {
    let text = briefly(&["--validate", "yes", "--live-objects", "1000", "--threads", "2:0.5"]);
    assert_eq!(verdicts(&text), [true; 4], "{text}");
    assert!(
        text.contains("cannot tell: at least 7 rounds") && text.contains("Run for about"),
        "{text}"
    );
    for part in ["p99 of an update", "peak memory", "Between samples"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

/// The options that shorten a run of other commands do not exist here.
#[test]
fn a_run_that_exceeds_its_time_names_options_that_advise_has() {
    let text = briefly(&["--validate", "yes", "--stall-ms", "50"]);
    assert!(text.contains("This run takes at least"), "{text}");
    let remedy = text.split("of --duration.").nth(1).unwrap().split("shorten it").next().unwrap();
    for option in remedy.split_whitespace().filter(|word| word.starts_with("--")) {
        let help = said(&["--help"]);
        assert!(help.contains(option), "{option} is not in {help}");
    }
    assert!(remedy.contains("--rounds") && !remedy.contains("--case"), "{remedy}");
}

#[test]
fn readers_that_sleep_with_references_leave_one_policy_and_its_lines() {
    let text = briefly(&["--references", "yes", "--sleep", "yes", "--percentile", "99.9"]);
    assert_eq!(verdicts(&text), [false, false, false, true], "{text}");
    assert!(text.contains("Answer: after-tasks-trace-gp: no other policy is correct"), "{text}");
    assert!(text.contains("MemAlloc::<AfterTasksTraceGp>::builder()"), "{text}");
    assert!(text.contains("p99.9 of an update"), "{text}");
}

#[test]
fn handlers_get_a_reserve() {
    let text = briefly(&["--signals", "alloc", "--sleep", "yes", "--sizes", "64,256"]);
    assert_eq!(verdicts(&text), [false, false, false, true], "{text}");
    assert!(text.contains("alloc.prefill(Layout::from_size_align(256, 8)?, 750)?;"), "{text}");
    assert!(text.contains("alloc.domain().register();"), "{text}");
}

#[test]
fn nothing_is_measured_if_correctness_decides() {
    let text = said(&["--readers", "no"]);
    assert!(text.contains("Answer: any.") && text.contains("free_unshared"), "{text}");
    let text = said(&["--shared", "processes"]);
    assert_eq!(verdicts(&text), [false; 4], "{text}");
    assert!(text.contains("Answer: none."), "{text}");
}

#[test]
fn a_file_describes_the_shape_and_options_override_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shape.toml");
    std::fs::write(&path, "[correct]\nreaders = false\n[shape]\nstall_ms = 7.0\n").unwrap();
    let path = path.to_str().unwrap();
    assert!(said(&["--shape", path]).contains("Answer: any."));
    let text = said(&["--shape", path, "--section-us", "40", "--print-shape"]);
    assert!(text.contains("stall_ms = 7.0") && text.contains("section_us = 40.0"), "{text}");
    assert!(
        said(&["--shape", path, "--readers", "yes", "--shared", "processes"]).contains("none.")
    );
}

/// Returns the path of a recording of an example: see tests/recordings/README.md.
fn recording(name: &str) -> String {
    format!("{}/tests/recordings/{name}.rec", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn recordings_of_the_examples_give_their_shapes() {
    let text = said(&["--recording", &recording("sessions"), "--print-shape"]);
    for part in [
        "readers = true",
        "sleep = false",
        "signals = \"no\"",
        "sizes = \"96:100\"",
        "live_objects = 1344",
        "threads = \"2:0,1:1\"",
        "frees_per_s = 30400.0",
        "section_us = 0.288",
        "stall_ms = 320.0",
        "other_cpu_frees = 0.0",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let text = said(&["--recording", &recording("routes"), "--print-shape"]);
    for part in ["36:58.05", "live_objects = 5800", "threads = \"2:0,1:1\"", "section_us = 2.99"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_recording_is_shown_as_a_shape_and_answered() {
    let options = ["--stall-ms", "0", "--sleep", "yes", "--references", "yes"];
    let text = briefly(&[&["--recording", &recording("sessions")], &options[..]].concat());
    assert!(
        text.contains("sampled allocations in") && text.contains("sizes = \"96:100\""),
        "{text}"
    );
    assert_eq!(verdicts(&text), [false, false, false, true], "{text}");
    // A run this short may or may not keep up with the frees.
    assert!(text.contains("Answer: "), "{text}");
}

#[test]
fn records_and_a_page_are_written_under_every_policy() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("records");
    let page = directory.path().join("page.html");
    let (json, page) = (json.to_str().unwrap(), page.to_str().unwrap());
    briefly(&["--validate", "yes", "--json", json, "--html", page]);
    let text = std::fs::read_to_string(json).unwrap();
    let (first, last) = (text.lines().next().unwrap(), text.lines().last().unwrap());
    let begins = |line: &str, kind: &str| {
        let head = format!("{{\"schema\":2,\"kind\":\"{kind}\"");
        assert!(line.starts_with(&head), "{line}");
    };
    begins(first, "run");
    assert!(first.contains("\"command\":\"advise\""), "{first}");
    begins(last, "end");
    assert!(last.contains("\"controls\":[{\"bench\":\"advise\""), "{last}");
    assert!(std::fs::read_to_string(page).unwrap().contains("bench-suite: advise"));
    for policy in POLICIES {
        for metric in ["ops_per_s", "update_latency_ns", "alloc_latency_ns", "free_latency_ns"] {
            let found = text.lines().any(|line| {
                line.contains(&format!("\"policy\":\"{policy}\""))
                    && line.contains(&format!("\"metric\":\"{metric}\""))
            });
            assert!(found, "{policy} {metric}");
        }
    }
}

/// The exit code is that of an interrupted program.
#[cfg(unix)]
#[test]
fn a_run_that_is_interrupted_in_its_first_round_has_no_answer_and_no_records() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("records");
    let mut child = Command::new(env!("CARGO_BIN_EXE_bench-suite"))
        .args(["advise", "--validate", "yes", "--rounds", "2", "--duration", "60", "--json"])
        .arg(&json)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().contains("the shape")).unwrap().unwrap();
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(text.contains("There is no answer yet"), "{text}");
    assert!(!json.exists());
}

#[test]
fn the_error_for_an_invalid_request_is_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let wrong = file("wrong.toml", "[shape]\nsize = 3\n");
    let binary = directory.path().join("binary");
    std::fs::write(&binary, [0xff, 0xfe]).unwrap();
    let bytes = std::fs::read(recording("routes")).unwrap();
    let recorded = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (empty, early) = (recorded("empty", b""), recorded("early", &bytes[..200]));
    let (noise, wrong_kind) = (recorded("noise", &[9; 4096]), {
        let mut bytes = bytes.clone();
        bytes[64] = 99;
        recorded("kind", &bytes)
    });
    let cases: &[(&[&str], &str)] = &[
        (&["--recording", "/nowhere"], "--recording /nowhere: No such file"),
        (&["--recording", "/dev/null"], "regular file"),
        (&["--recording", &empty], "it is empty"),
        (&["--recording", &early], "record for longer"),
        (&["--recording", &noise], "not a memalloc recording"),
        (&["--recording", &wrong_kind], "event 1 is of kind 99"),
        (&["--shape", "/nowhere"], "--shape /nowhere: No such file"),
        (&["--shape", directory.path().to_str().unwrap()], "regular file"),
        (&["--shape", &wrong], "line 2: unknown field `size`"),
        (&["--shape", binary.to_str().unwrap()], "UTF-8"),
        (&["--sizes", "5000"], "64:3,256"),
        (&["--threads", "2:3"], "6:0,2:0.5"),
        (&["--validate", "maybe"], "expected yes or no"),
        (&["--signals", "often"], "no, alloc, alloc-free"),
        (&["--stall-ms", "-1"], "stall-ms -1: expected 0 to 10000"),
        (&["--section-us", "nan"], "expected a number"),
        (&["--budget-mib", "1", "--live-objects", "1000000"], "the live objects alone are"),
        (&["--threads", "1:1", "--other-cpu-frees", "0.5"], "2 threads"),
        (&["--case", "shape"], "unknown option --case of advise (an option of compare, alloc, "),
    ];
    for (arguments, part) in cases {
        let output = advise(arguments);
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {line}");
        assert!(line.lines().count() == 1 && line.contains(part), "{arguments:?}: {line}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}
