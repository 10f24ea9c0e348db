//! The same schedules find builds that are broken on purpose.

use super::broken::fails_without;
use memalloc::broken::Fault;

/// A test whose objects wait for both flavours of readers.
const CLAIM: &str = "objects_stay_whole_until_a_grace_period_of_either_flavour";

/// Checks that fail when an object is reused under its reader.
const REUSED: &[&str] = &["reused too early", "changed under its reader"];

#[test]
fn a_missing_grace_period_is_noticed() {
    fails_without(Fault::GracePeriod, CLAIM, REUSED);
}

#[test]
fn a_grace_period_that_looks_at_no_reader_is_noticed() {
    fails_without(Fault::LookAgain, CLAIM, REUSED);
}

#[test]
fn a_cache_that_two_threads_use_is_noticed() {
    // The cache's own index may fail first.
    let complaints = &["handed out twice", "slice index"];
    fails_without(Fault::Busy, "objects_stay_whole_under_immediate_reuse", complaints);
}
