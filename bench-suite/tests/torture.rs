//! Torture finds nothing where nothing is wrong; and, in a build with the feature `broken`, each step that
//! is left out.
#![cfg(target_os = "linux")]

use std::process::{Command, Output};

use serde_json::Value;

fn torture(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-suite"));
    command.arg("torture").args(arguments).output().expect("the program starts")
}

#[test]
fn nothing_is_wrong_and_every_kind_of_work_was_done() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("records");
    let output = torture(&["--duration", "4", "--json", json.to_str().unwrap()]);
    let (text, error) = (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success() && error.is_empty(), "{error}");
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("Nothing was wrong."), "{text}");
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
fn a_bad_option_is_one_line() {
    for (arguments, said) in [
        (&["--mode", "warp"][..], "rseq, active-cpu and"),
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
fn no_step_can_be_left_out_without_the_feature() {
    let output = torture(&["--broken", "busy"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("unknown option --broken"));
}

/// The limit is generous, since nothing rests on how fast a fault shows: `docs/CONTRIBUTING.md` has the
/// command that tells.
#[cfg(feature = "broken")]
mod broken {
    use super::*;

    #[track_caller]
    fn is_noticed(fault: &str) {
        let output = torture(&["--broken", fault, "--duration", "60"]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{fault} was not noticed: {error}");
        assert!(error.contains("torture: an error: ") && error.contains("phase "), "{error}");
    }

    macro_rules! each_is_noticed {
        ($($test:ident: $fault:literal;)+) => {
            $(
                #[test]
                fn $test() {
                    is_noticed($fault);
                }
            )+
        };
    }

    each_is_noticed! {
        reuse_without_a_grace_period_is_noticed: "grace-period";
        a_parent_slot_that_is_not_read_again_is_noticed: "parent-slot";
        a_count_that_changes_at_reuse_only_is_noticed: "frozen-count";
        a_count_that_never_changes_is_noticed: "no-count";
        two_threads_in_one_cache_are_noticed: "busy";
        sequences_that_are_not_restarted_are_noticed: "restart";
        a_grace_period_without_a_look_is_noticed: "look-again";
        a_switch_without_a_barrier_is_noticed: "switch-barrier";
        a_hint_at_an_unlinked_leaf_is_noticed: "hint-liveness";
        a_child_without_repair_is_noticed: "fork-repair";
    }

    #[test]
    fn an_unknown_fault_names_those_that_exist() {
        let output = torture(&["--broken", "all"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("grace-period, parent-slot"));
    }
}
