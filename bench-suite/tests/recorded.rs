//! The commands that read records, and `list`.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const DESCRIPTION: &str = include_str!("../../docs/records.md");

fn bench_suite(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench-suite")).args(arguments).output().unwrap()
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn refused(arguments: &[&str], parts: &[&str]) {
    let output = bench_suite(arguments);
    let (stdout, line) = text(&output);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {line}");
    assert!(stdout.is_empty() && line.lines().count() == 1, "{arguments:?}: {stdout}{line}");
    for part in parts {
        assert!(line.contains(part), "{line:?} does not say {part:?}");
    }
}

/// Writes records of schema 2 with one measurement, whose nine samples are around `speed`.
fn records(path: &Path, run: &str, speed: f64) -> String {
    let lines = DESCRIPTION.lines().filter(|line| line.starts_with("{\"schema\":2,"));
    let mut written = String::new();
    for line in lines {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line["run"] = run.into();
        if line["kind"] == "record" {
            let samples =
                [0.99, 1.0, 1.01, 1.0, 0.995, 1.005, 1.0, 1.0, 1.0].map(|one| one * speed);
            line["samples"] = samples.to_vec().into();
            line["value"] = speed.into();
            line["at_s"] = vec![0.5; 9].into();
            line["arithmetic_ns"] = vec![1.2; 9].into();
            line["round_trip_ns"] = vec![140.0; 9].into();
        }
        written += &format!("{line}\n");
    }
    std::fs::write(path, written).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn cmp_has_a_verdict_for_each_row_and_its_exit_code_is_for_ci() {
    let directory = tempfile::tempdir().unwrap();
    // Three runs in each file are enough for one row.
    let made = |name: &str, speed: f64| {
        let path = directory.path().join(name);
        let runs = [1.0, 0.999, 1.001].map(|one| {
            let file = records(&path, &format!("{name}{one}"), one * speed);
            std::fs::read_to_string(file).unwrap()
        });
        std::fs::write(&path, runs.concat()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (old, same, slow, fast) =
        (made("old", 1e6), made("same", 1e6), made("slow", 0.9e6), made("fast", 1.2e6));
    for (new, code, word) in
        [(&same, 0, "no difference"), (&slow, 1, "slower"), (&fast, 0, "faster")]
    {
        let output = bench_suite(&["cmp", &old, new]);
        let (stdout, stderr) = text(&output);
        assert_eq!(output.status.code(), Some(code), "{stdout}{stderr}");
        assert!(stdout.contains(word) && stdout.contains("1 row:"), "{stdout}");
    }
    let output = bench_suite(&["cmp", "--threshold", "15", &old, &slow]);
    assert_eq!(output.status.code(), Some(0), "{:?}", text(&output));
    let one = records(&directory.path().join("one"), "one", 0.5e6);
    let output = bench_suite(&["cmp", &old, &one]);
    let (stdout, _) = text(&output);
    assert!(output.status.code() == Some(2) && stdout.contains("too few runs"), "{stdout}");
}

#[test]
fn export_prints_a_line_for_each_sample_or_a_markdown_table() {
    let directory = tempfile::tempdir().unwrap();
    let file = records(&directory.path().join("records"), "run", 1e6);
    let (csv, _) = text(&bench_suite(&["export", "csv", &file]));
    assert_eq!(csv.lines().count(), 1 + 9, "{csv}");
    assert!(csv.starts_with("run,time,bench,case,subject,policy,threads,"), "{csv}");
    let (md, _) = text(&bench_suite(&["export", "md", &file, &file.clone()]));
    assert_eq!(md.lines().count(), 2 + 2, "{md}");
}

#[test]
fn records_of_schema_1_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let old = directory.path().join("old");
    let line = DESCRIPTION.lines().find(|line| line.starts_with("{\"schema\":1,")).unwrap();
    std::fs::write(&old, line).unwrap();
    let old = old.to_str().unwrap();
    let page = directory.path().join("page.html");
    let output = bench_suite(&["report", "--html", page.to_str().unwrap(), old]);
    assert!(output.status.success(), "{:?}", text(&output));
    assert!(std::fs::read_to_string(page).unwrap().contains("AMD EPYC"));
    assert!(text(&bench_suite(&["export", "md", old])).0.contains("hot-pair"));
}

#[test]
fn the_error_for_an_invalid_record_is_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let good = records(&directory.path().join("good"), "run", 1e6);
    std::fs::write(path("empty"), "").unwrap();
    std::fs::write(path("text"), "once upon a time\n").unwrap();
    std::fs::write(path("newer"), "{\"schema\":3,\"kind\":\"run\"}\n").unwrap();
    let other = std::fs::read_to_string(&good).unwrap().replace("overwrite", "another");
    std::fs::write(path("other"), other).unwrap();
    refused(&["cmp", &good, &path("missing")], &["/missing", "No such file"]);
    refused(&["cmp", &path("empty"), &good], &["/empty", "it is empty"]);
    refused(&["export", "csv", directory.path().to_str().unwrap()], &["a directory"]);
    refused(&["export", "md", &path("text")], &["/text", "line 1 is not a record"]);
    refused(&["report", "--html", &path("page"), &path("newer")], &["schema 3", "1 to 2"]);
    refused(&["cmp", &good, &path("other")], &["/good", "/other", "no row in common"]);
    #[cfg(unix)]
    {
        let made = Command::new("mkfifo").arg(path("pipe")).status().unwrap();
        assert!(made.success());
        refused(&["cmp", &good, &path("pipe")], &["/pipe", "not a regular file"]);
        refused(&["report", "--html", &path("pipe"), &good], &["/pipe", "regular file"]);
    }
    refused(&["report", "--html", &path("empty/page"), &good], &["--html", "empty/page"]);
    refused(&["report", "--html", &path("text"), &good], &["/text", "not a report"]);
    assert_eq!(std::fs::read_to_string(path("text")).unwrap(), "once upon a time\n");
}

#[test]
fn a_missing_or_wrong_argument_is_named() {
    refused(&["cmp"], &["cmp: missing", "<OLD>", "<NEW>"]);
    refused(&["cmp", "a", "b", "c"], &["cmp takes no more arguments", "c"]);
    refused(&["cmp", "--threshold", "-1", "a", "b"], &["\"-1\"", "from 0 to 1000"]);
    refused(&["export", "xml", "a"], &["\"xml\"", "csv, md"]);
    refused(&["report", "a"], &["report: missing", "--html"]);
    refused(&["compare", "--no-html", "--html", "page"], &["--no-html"]);
    refused(&["alloc", "--html", "no/such/page"], &["--html no/such/page", "No such file"]);
}

#[test]
fn list_shows_what_each_command_measures_and_how_long_it_takes() {
    let output = bench_suite(&["list"]);
    let (stdout, _) = text(&output);
    assert!(output.status.success(), "{stdout}");
    for part in
        ["compare: about 100 s", "flood: about 60 s", "stall-100ms", "hot-pair", "immediate"]
    {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
}

#[test]
fn the_values_of_all_commands_begin_in_one_column_of_the_list() {
    let (stdout, _) = text(&bench_suite(&["list"]));
    let options = stdout.lines().filter(|line| line.starts_with("  --"));
    let columns: Vec<usize> = options
        .map(|line| {
            let option = 2 + line[2..].find(' ').unwrap();
            option + line[option..].find(|letter| letter != ' ').unwrap()
        })
        .collect();
    assert!(columns.len() > 10, "{stdout}");
    assert!(columns.iter().all(|&column| column == columns[0]), "{stdout}");
}
