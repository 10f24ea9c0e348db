//! Torture finds no errors in correct code. In a build with the feature `broken` it detects each
//! step that is left out.
#![cfg(target_os = "linux")]

use std::process::{Command, Output};

use serde_json::Value;

fn torture(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-suite"));
    command.arg("torture").args(arguments).output().expect("the program starts")
}

#[test]
fn correct_code_has_no_errors_and_every_kind_of_work_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("records");
    let output = torture(&["--duration", "4", "--json", json.to_str().unwrap()]);
    let (text, error) = (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success() && error.is_empty(), "{error}");
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("No errors."), "{text}");
    let lines = std::fs::read_to_string(&json).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["run", "torture", "end"]);
    let tally = &lines[1];
    assert_eq!(tally["errors"], 0);
    for what in ["phases", "reads", "updates", "pairs", "lookups", "scanned", "changes"] {
        assert!(tally[what].as_u64() > Some(0), "{what}: {text}");
    }
    let ages: Vec<_> = tally["ages"].as_array().unwrap().iter().map(Value::as_u64).collect();
    assert!(ages[0] > Some(0) && ages[1..].iter().all(|age| *age == Some(0)), "{ages:?}");
}

#[test]
fn a_bad_option_is_reported_in_one_line() {
    for (arguments, said) in [
        (&["--cpu-mode", "warp"][..], "rseq, active-cpu and"),
        (&["--mode", "rseq"], "unknown option --mode"),
        (&["--policy", "never"], "immediate, after-rcu-gp"),
        (&["--threads", "0"], "from 1 to 1024"),
        (&["--duration", "0"], "from 1 to 86400"),
        (&["--seed", "-1"], "from 0 to"),
        (&["--phase", "x"], "from 0 to"),
        (&["--rounds", "3"], "--rounds"),
        (&["--json", "/nowhere/at/all"], "/nowhere/at/all"),
    ] {
        let output = torture(arguments);
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {line}");
        assert!(line.lines().count() == 1 && line.contains(said), "{arguments:?}: {line}");
    }
}

#[cfg(not(feature = "broken"))]
#[test]
fn without_the_feature_no_step_can_be_left_out() {
    let output = torture(&["--broken", "busy"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("unknown option --broken"));
}

/// Each fault has a generous minute to show, since the time until then depends on the machine.
#[cfg(feature = "broken")]
mod broken {
    use super::*;

    #[track_caller]
    fn is_detected(fault: &str) {
        let output = torture(&["--broken", fault, "--duration", "60"]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{fault} was not detected: {error}");
        assert!(error.contains("torture: an error: ") && error.contains("phase "), "{error}");
    }

    macro_rules! each_is_detected {
        ($($(#[$attribute:meta])* $test:ident: $fault:literal;)+) => {
            $(
                $(#[$attribute])*
                #[test]
                fn $test() {
                    is_detected($fault);
                }
            )+
        };
    }

    each_is_detected! {
        reuse_without_a_grace_period_is_detected: "grace-period";
        a_parent_slot_that_is_not_read_again_is_detected: "parent-slot";
        a_count_that_only_changes_at_reuse_is_detected: "frozen-count";
        a_count_that_never_changes_is_detected: "no-count";
        two_threads_in_one_cache_are_detected: "busy";
        sequences_that_are_not_restarted_are_detected: "restart";
        a_grace_period_that_does_not_check_readers_is_detected: "look-again";
        // Elsewhere nothing keeps a store in its buffer for long.
        #[cfg(target_arch = "x86_64")]
        a_switch_without_a_barrier_is_detected: "switch-barrier";
        a_hint_to_an_unlinked_leaf_is_detected: "hint-liveness";
        a_child_without_repair_is_detected: "fork-repair";
        a_cpu_that_is_not_recorded_as_used_is_detected: "note-use";
    }

    #[test]
    fn the_error_for_an_unknown_fault_lists_all_faults() {
        let output = torture(&["--broken", "all"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("grace-period, parent-slot"));
    }
}
