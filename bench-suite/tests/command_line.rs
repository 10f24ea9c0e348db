//! A request that can't be met gets one line on standard error and exit code 2, before anything
//! runs.

use std::process::{Command, Output};

fn bench_suite(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-suite"));
    command.args(arguments).output().expect("the program starts")
}

/// Runs the command and returns the line on standard error.
#[track_caller]
fn refused(arguments: &[&str]) -> String {
    let output = bench_suite(arguments);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {line}");
    assert_eq!(line.lines().count(), 1, "{arguments:?}: {line}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    line
}

#[track_caller]
fn refused_with(arguments: &[&str], parts: &[&str]) {
    let line = refused(arguments);
    for part in parts {
        assert!(line.contains(part), "{line:?} does not say {part:?}");
    }
}

#[test]
fn an_unknown_option_names_those_that_exist() {
    refused_with(&["--speed"], &["--speed", "--json", "--duration", "--threads", "--help"]);
    refused_with(&["compare", "--speed"], &["--speed", "--json"]);
    // The options of the command, and a suggestion.
    refused_with(&["--durations", "3"], &["did you mean --duration?"]);
    let line = refused(&["alloc", "--data", "random"]);
    assert!(line.contains("of alloc") && !line.contains("expected one of --data"), "{line}");
    assert!(line.matches("--data").count() == 1, "{line}");
}

#[test]
fn the_error_for_options_before_the_command_says_where_they_go() {
    refused_with(&["--quiet", "alloc"], &["after the command", "bench-suite alloc"]);
}

#[test]
fn an_unknown_command_names_those_that_exist() {
    refused_with(&["race"], &["race", "compare"]);
}

#[test]
fn an_unknown_data_set_names_those_that_exist() {
    refused_with(
        &["--data", "planets"],
        &["planets", "symbols, random, paths, domains, file:PATH"],
    );
    refused_with(&["--data", "random,file:"], &["file:PATH"]);
}

#[test]
fn an_unknown_case_or_policy_names_those_that_exist() {
    refused_with(
        &["--case", "lookup-hit,nap"],
        &["nap", "lookup-hit, update, insert", "overwrite"],
    );
    refused_with(&["--policy", "never"], &["never", "immediate", "after-rcu-gp"]);
}

#[test]
fn an_unknown_reader_or_cpu_mode_names_those_that_exist() {
    let readers = "validated, plain, batched, copied, subtree-lock";
    refused_with(&["qp-trie", "--reader", "nobody"], &["nobody", readers]);
    refused_with(&["qp-trie", "--hints", "off,maybe"], &["maybe", "--hints", "expected off or on"]);
    refused_with(&["flood", "--hints", "on"], &["--hints"]);
    for command in ["compare", "flood", "alloc", "htab-mem"] {
        for reader in ["nobody", "stall-0ms", "stall-99999ms"] {
            let allowed = "none, idle, busy, stall-1ms to stall-10000ms and, in flood, sleep-1ms";
            refused_with(&[command, "--reader", reader], &[reader, allowed]);
        }
    }
    for command in ["compare", "alloc", "htab-mem"] {
        refused_with(&[command, "--reader", "sleep-5ms"], &["sleep-5ms", "only flood"]);
    }
    refused_with(&["flood", "--case", "swap"], &["swap", "overwrite, batch-add-batch-del"]);
    if cfg!(target_os = "linux") {
        refused_with(&["signals", "--cpu-mode", "warp"], &["warp", "rseq, active-cpu and"]);
        refused_with(&["signals", "--case", "thunder"], &["thunder", "handler"]);
    }
}

#[test]
fn a_data_file_that_is_missing_empty_or_a_directory_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let missing = format!("file:{}/missing", directory.path().display());
    refused_with(&["--data", &missing], &["/missing", "No such file"]);
    let empty = directory.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    refused_with(&["--data", &format!("file:{}", empty.display())], &["/empty", "at least 64"]);
    refused_with(&["--data", &format!("file:{}", directory.path().display())], &["data file"]);
    if cfg!(target_os = "linux") {
        refused_with(&["--data", "file:/dev/zero"], &["data file /dev/zero", "regular file"]);
    }
    let comma = directory.path().join("a,b");
    std::fs::write(&comma, "").unwrap();
    refused_with(
        &["--data", &format!("random,file:{}", comma.display())],
        &["/a,b", "at least 64"],
    );
}

#[test]
fn the_error_for_an_invalid_value_of_a_map_option_says_what_is_expected() {
    let allowed = "a multiple of 8 from 8 to 4096";
    for size in ["0", "7", "12", "4104", "-8", "many"] {
        refused_with(&["htab-mem", "--value-size", size], &[size, "--value-size", allowed]);
    }
    for command in ["htab-mem", "map-perf"] {
        let parts = ["--threads 257", "expected 1 to 256"];
        refused_with(&[command, "--threads", "257"], &parts);
    }
    refused_with(&["map-perf", "--value-size", "8"], &["--value-size of map-perf"]);
    refused_with(&["map-perf", "--case", "overwrite"], &["overwrite", "update-delete"]);
    let needs_two = ["htab-mem", "--threads", "1", "--case", "add-del-on-diff-cpu"];
    refused_with(&needs_two, &["--threads 2 or more"]);
}

#[test]
fn a_number_outside_its_range_says_the_range() {
    refused_with(&["--threads", "0"], &["\"0\"", "--threads", "from 1 to 1024"]);
    refused_with(&["--threads", "-1"], &["\"-1\"", "--threads", "from 1 to 1024"]);
    refused_with(&["--duration", "-1"], &["\"-1\"", "--duration", "from 1 to 86400"]);
    refused_with(&["--threads", "1,many"], &["\"many\"", "--threads", "from 1 to 1024"]);
    refused_with(&["--duration", "0"], &["\"0\"", "--duration", "from 1 to 86400"]);
    refused_with(&["--rounds", "-3"], &["-3"]);
    refused_with(&["--rounds", "0"], &["\"0\"", "--rounds", "from 1 to 1000"]);
    refused_with(&["flood", "--size", "7"], &["\"7\"", "--size", "from 8 to 4096"]);
    if cfg!(target_os = "linux") {
        refused_with(&["signals", "--rate", "0"], &["\"0\"", "--rate", "from 1 to 50000"]);
    }
    refused_with(&["--seed", "x"], &["\"x\"", "--seed", "18446744073709551615"]);
}

#[test]
fn a_missing_value_and_a_repeated_option_are_named() {
    refused_with(&["--json"], &["--json", "value"]);
    refused_with(&["--seed", "1", "--seed", "2"], &["--seed"]);
}

#[test]
fn a_file_for_records_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("no/such/directory/records");
    let path = path.to_str().unwrap();
    refused_with(&["--data", "random", "--json", path], &["--json", path, "No such file"]);
    let path = directory.path().to_str().unwrap();
    refused_with(&["--data", "random", "--json", path], &["--json", path, "regular file"]);
}

#[test]
fn the_error_for_conflicting_options_says_what_would_work() {
    refused_with(&["--case", "mixed", "--threads", "1"], &["mixed", "--threads 2 or more"]);
    refused_with(
        &["--case", "overwrite", "--data", "random"],
        &["--data", "lookup-hit, update, insert"],
    );
    let readers = ["qp-trie", "--reader", "plain", "--policy", "immediate"];
    refused_with(&readers, &["--reader plain", "--policy immediate", "after-rcu-gp"]);
    let directory = tempfile::tempdir().unwrap();
    let few = directory.path().join("few");
    let keys: String = (0..100).map(|number| format!("key {number}\n")).collect();
    std::fs::write(&few, keys).unwrap();
    let few = format!("file:{}", few.display());
    refused_with(&["--data", &few, "--threads", "51"], &["--threads 51", "expected 1 to 50"]);
}

#[test]
fn commands_refuse_what_they_cannot_do() {
    refused_with(&["alloc", "--size", "8"], &["\"8\"", "--size", "from 16 to 4096"]);
    refused_with(&["qp-trie", "--case", "nap"], &["nap", "lookup-miss, lookup-half, update"]);
    refused_with(&["qp-trie", "--policy", "free-after-rcu-gp"], &["immediate, after-rcu-gp"]);
    refused_with(&["alloc", "--case", "nap"], &["nap", "hot-pair, batch-64, producer-consumer"]);
    let needy = ["alloc", "--case", "producer-consumer", "--threads", "1"];
    refused_with(&needy, &["producer-consumer", "--threads 2 or more"]);
    refused_with(&["read-side", "--case", "sit"], &["sit", "enter-leave, grace-period"]);
    refused_with(&["read-side", "--policy", "immediate"], &["immediate", "no reuse policies"]);
    refused_with(&["read-side", "--size", "64"], &["--size"]);
    refused_with(&["--warmup", "61"], &["\"61\"", "--warmup", "from 0 to 60"]);
}

#[cfg(not(feature = "rivals"))]
#[test]
fn the_error_for_rivals_without_the_feature_says_how_to_build_them() {
    for command in ["compare", "alloc", "read-side"] {
        refused_with(&[command, "--rivals"], &["--rivals", "--features rivals"]);
    }
}

/// The exit code still says what is wrong, or that nothing is.
#[test]
fn a_closed_standard_output_or_error_is_no_error() {
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("records");
    let json = json.to_str().unwrap();
    let short = ["alloc", "--case", "hot-pair", "--size", "64", "--threads", "1"];
    let short = [&short[..], &["--rounds", "1", "--duration", "1"]].concat();
    let to_file = [&short[..], &["--json", json]].concat();
    let page = directory.path().join("page.html");
    let page = page.to_str().unwrap();
    for (arguments, code) in [
        (&to_file[..], 0),
        (&[&short[..], &["--json", "-"]].concat(), 0),
        (&["advise", "--readers", "no"], 0),
        (&["advise", "--print-shape"], 0),
        (&["list"], 0),
        (&["--help"], 0),
        (&["export", "csv", json], 0),
        (&["report", "--html", page, json], 0),
        (&["cmp", json, json], 2),
        (&["--speed"], 2),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bench-suite"));
        let status = command.args(arguments).stdout(closed()).stderr(closed()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
    let records = std::fs::read_to_string(json).unwrap();
    assert!(records.lines().last().unwrap().contains("\"kind\":\"end\""), "{records}");
    assert!(std::fs::read_to_string(page).unwrap().ends_with("</html>"));
}

/// Nothing can be written to this device, as to a file on a full disk.
#[cfg(target_os = "linux")]
#[test]
fn a_standard_output_that_cannot_be_written_fails_before_anything_runs() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-suite"));
    let output = command.args(["alloc", "--quiet"]).stdout(full).output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert!(line.contains("standard output") && line.lines().count() == 1, "{line}");
}

#[test]
fn help_and_version_are_no_errors() {
    for argument in ["--help", "--version", "-h", "help"] {
        let output = bench_suite(&[argument]);
        assert_eq!(output.status.code(), Some(0), "{argument}");
        assert!(output.stderr.is_empty() && !output.stdout.is_empty(), "{argument}");
    }
}

#[test]
fn a_negative_value_of_a_list_is_named_with_its_option() {
    for command in ["advise", "alloc", "qp-trie"] {
        for value in ["-1", "-1:2", "-1,2"] {
            refused_with(&[command, "--threads", value], &["--threads", "-1", "expected"]);
        }
    }
    refused_with(&["advise", "--sizes", "-64"], &["--sizes", "-64", "expected"]);
    refused_with(&["htab-mem", "--value-size", "-8,8"], &["--value-size", "-8", "expected"]);
}

/// Each table of the page about scaling has a command above it that would run, if the records did
/// not go to a folder.
#[test]
fn every_table_of_docs_scaling_has_a_command_that_measures_it() {
    const START: &str = "cargo run --release -p bench-suite -- ";
    let page = include_str!("../../docs/scaling.md");
    let tables = page.split("## ").filter(|section| section.contains("| moves most |\n|---"));
    let mut benches = Vec::new();
    for section in tables {
        let commands = section.lines().filter_map(|line| line.strip_prefix(START));
        let commands: Vec<&str> = commands.collect();
        let [command] = commands[..] else { panic!("{commands:?} in {section}") };
        let arguments: Vec<&str> = command.split(' ').collect();
        benches.push(arguments[0]);
        refused_with(&[&arguments[..], &["--json", "/"]].concat(), &["--json /"]);
    }
    assert_eq!(benches, ["read-side", "alloc", "qp-trie"]);
}
