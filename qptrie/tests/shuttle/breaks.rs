//! The same schedules find builds that are broken on purpose. (Without the second look at a
//! parent's slot they find nothing: its mutations fall to `loom`.)

use super::broken::fails_without;
use memalloc::broken::Fault;

const CLAIM: &str = "answers_are_right_with_leaves_that_are_kept_until_an_rcu_grace_period";

/// A wrong answer, or a wild pointer, which can fail anywhere.
const WRONG: &[&str] = &["missed", "assertion", "panicked at"];

#[test]
fn a_count_that_changes_at_reuse_only_is_noticed() {
    fails_without(Fault::FrozenCount, CLAIM, WRONG);
}

#[test]
fn a_count_that_never_changes_is_noticed() {
    fails_without(Fault::NoCount, CLAIM, WRONG);
}

#[test]
fn a_hint_for_an_unlinked_leaf_is_noticed() {
    fails_without(Fault::HintLiveness, CLAIM, WRONG);
}
