//! Leaves a step of a protocol out: in this process, or in another run of one of its tests.

use memalloc::broken::Fault;
use std::env;
use std::process::Command;

/// The variable with the name of the step.
const BROKEN: &str = "BROKEN";

/// Leaves out the step whose name is in the variable, if it is set.
pub(crate) fn leave_out() {
    if let Ok(name) = env::var(BROKEN) {
        let fault = Fault::ALL.iter().find(|fault| fault.to_string() == name);
        fault.expect("BROKEN is the name of a fault").choose();
    }
}

/// Panics unless `claim`, a test of this program, fails without the step: in a check whose message
/// has one of these texts, or by a signal.
pub(crate) fn fails_without(fault: Fault, claim: &str, complaints: &[&str]) {
    let mut this = Command::new(env::current_exe().expect("this program"));
    this.args(["--exact", claim, "--nocapture"]).env(BROKEN, fault.to_string());
    // It ends at the first failure.
    this.env("SHUTTLE_LONGER", "25");
    let output = this.output().expect("this program runs");
    assert!(!output.status.success(), "{claim} passes without {fault}");
    let said = String::from_utf8_lossy(&output.stderr);
    let complaint = match output.status.code() {
        Some(_) => complaints.iter().copied().find(|complaint| said.contains(complaint)),
        None => Some("a signal"),
    };
    println!("{claim}, without {fault}: {}", complaint.unwrap_or_else(|| panic!("{said}")));
}
