//! Two writers on the same branches.
//!
//! Some sequential order of the operations must explain their results, the entries after both
//! writers have finished, and `len`.

use crate::breaks::breaks;
use crate::explore::{Model, Seen};
use crate::scenarios::built;
use loom::thread;
use memalloc::rcu::Domain;
use memalloc::{AfterRcuGp, Immediate, ReusePolicy};
use qptrie::{Fault, QpTrie};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The panic message when no order of the operations explains a race.
const LOST_UPDATE: &str = "no order of the operations";

type Key = &'static [u8];
type Entries = BTreeMap<Vec<u8>, u64>;
type Told = Vec<Option<u64>>;

#[derive(Clone, Copy, Debug)]
enum Op {
    Put(Key, u64),
    Remove(Key),
}
use Op::{Put, Remove};

/// Two writers; `keys` are inserted before with value 1, and then `gone` are removed again.
#[derive(Clone, Copy, Debug)]
struct Race {
    keys: &'static [Key],
    gone: &'static [Key],
    one: &'static [Op],
    other: &'static [Op],
}

/// Both insert into an empty root.
const EMPTY_ROOT: Race =
    Race { keys: &[], gone: &[], one: &[Put(b"11", 2)], other: &[Put(b"12", 3)] };

/// Both add a twig to the branch.
const TWO_TWIGS: Race =
    Race { keys: &[b"11", b"12"], gone: &[], one: &[Put(b"13", 2)], other: &[Put(b"14", 3)] };

/// Both insert the same key.
const SAME_TWIG: Race =
    Race { keys: &[b"11", b"12"], gone: &[], one: &[Put(b"13", 2)], other: &[Put(b"13", 3)] };

/// One adds a twig to the branch, the other removes one.
const TWIG_COMES_AND_GOES: Race = Race {
    keys: &[b"11", b"12", b"13"],
    gone: &[],
    one: &[Put(b"14", 2)],
    other: &[Remove(b"12")],
};

/// One removes a twig, and the branch is copied without it and without a hole; the other replaces a
/// leaf. Explored with one preemption, because two take minutes.
const BRANCH_SHRINKS: Race = Race {
    keys: &[b"11", b"12", b"13", b"14"],
    gone: &[b"13"],
    one: &[Remove(b"14")],
    other: &[Put(b"11", 3)],
};

/// One adds a twig to a branch that the other merges away.
const MERGED_AND_GROWN: Race =
    Race { keys: &[b"11", b"12"], gone: &[], one: &[Put(b"13", 2)], other: &[Remove(b"12")] };

/// Each removes one of two twigs.
const BOTH_TWIGS_GO: Race =
    Race { keys: &[b"11", b"12"], gone: &[], one: &[Remove(b"11")], other: &[Remove(b"12")] };

/// Both replace the same leaf.
const SAME_LEAF: Race =
    Race { keys: &[b"11", b"12"], gone: &[], one: &[Put(b"11", 2)], other: &[Put(b"11", 3)] };

/// One replaces a leaf, the other copies its branch.
const LEAF_AND_BRANCH: Race =
    Race { keys: &[b"11", b"12"], gone: &[], one: &[Put(b"11", 2)], other: &[Put(b"13", 3)] };

/// One replaces a leaf, the other removes it.
const LEAF_GOES: Race =
    Race { keys: &[b"11", b"12"], gone: &[], one: &[Put(b"11", 2)], other: &[Remove(b"11")] };

/// One copies the parent, the other the child.
const PARENT_AND_CHILD: Race = Race {
    keys: &[b"11", b"12", b"21"],
    gone: &[],
    one: &[Put(b"31", 2)],
    other: &[Put(b"13", 3)],
};

/// One removes the sibling of a branch, which then moves up; the other adds a twig to that branch.
const SIBLING_MERGED: Race = Race {
    keys: &[b"11", b"12", b"21"],
    gone: &[],
    one: &[Remove(b"21")],
    other: &[Put(b"13", 3)],
};

/// One inserts a fork above the branch, the other adds a twig to the branch.
const FORKED_ABOVE: Race =
    Race { keys: &[b"11", b"12"], gone: &[], one: &[Put(b"21", 2)], other: &[Put(b"13", 3)] };

/// One inserts a fork above the branches that a walk keeps; the other merges the topmost branch
/// away.
const FORKED_FAR_ABOVE: Race = Race {
    keys: &[b"1111", b"1112", b"112", b"12"],
    gone: &[],
    one: &[Put(b"21", 2)],
    other: &[Remove(b"12")],
};

/// One inserts a fork above the branch. Meanwhile the other merges the branch away, and reuses its
/// memory in the same slot for a branch that tests a byte before the fork's.
const FORKED_ABOVE_ANOTHER_LIFE: Race = Race {
    keys: &[b"1111", b"1112"],
    gone: &[],
    one: &[Put(b"1121", 2)],
    other: &[Remove(b"1112"), Put(b"12", 3)],
};

impl Op {
    fn run<B: ReusePolicy>(self, trie: &QpTrie<u64, B>) -> Option<u64> {
        let view = trie.pin();
        match self {
            Put(key, value) => view.insert(key, value).expect("there is memory for it").copied(),
            Remove(key) => view.remove(key).copied(),
        }
    }

    fn run_alone(self, entries: &mut Entries) -> Option<u64> {
        match self {
            Put(key, value) => entries.insert(key.to_vec(), value),
            Remove(key) => entries.remove(key),
        }
    }
}

/// Returns true if some interleaving of the two writers' operations has these results and leaves
/// these entries.
fn is_some_order(
    before: &Entries,
    (one, told_one): (&[Op], &[Option<u64>]),
    (other, told_other): (&[Op], &[Option<u64>]),
    after: &Entries,
) -> bool {
    let first = |ops: &[Op], told: &[Option<u64>]| {
        let mut entries = before.clone();
        let is_told = ops.first()?.run_alone(&mut entries) == told[0];
        is_told.then_some(entries)
    };
    let one_first = first(one, told_one).is_some_and(|entries| {
        is_some_order(&entries, (&one[1..], &told_one[1..]), (other, told_other), after)
    });
    one_first
        || first(other, told_other).is_some_and(|entries| {
            is_some_order(&entries, (one, told_one), (&other[1..], &told_other[1..]), after)
        })
        || (one.is_empty() && other.is_empty() && before == after)
}

/// Runs one execution.
fn race<B: ReusePolicy>(race: Race, fault: Option<Fault>) {
    let trie = Arc::new(built::<B>(fault));
    let mut before = Entries::new();
    let puts = race.keys.iter().map(|key| Put(key, 1));
    for op in puts.chain(race.gone.iter().map(|key| Remove(key))) {
        assert_eq!(op.run(&trie), op.run_alone(&mut before));
    }
    let work = |ops: &'static [Op]| {
        let trie = Arc::clone(&trie);
        move || ops.iter().map(|op| op.run(&trie)).collect::<Told>()
    };
    let other = thread::spawn(work(race.other));
    let told_one = work(race.one)();
    let told_other = other.join().expect("a writer does not panic");

    let after: Entries = {
        let view = trie.pin();
        view.iter().map(|(key, value)| (key.to_vec(), *value)).collect()
    };
    let all_found = after.iter().all(|(key, value)| trie.pin().get(key) == Some(value));
    let is_right = all_found
        && trie.len() == after.len()
        && is_some_order(&before, (race.one, &told_one), (race.other, &told_other), &after);
    if !is_right {
        // Dropping the trie needs a running model, which a panic ends first.
        std::mem::forget(trie);
        panic!("{LOST_UPDATE}: {told_one:?} {told_other:?}, and then {after:?}");
    }
}

fn holds<B: ReusePolicy>(name: &'static str, bound: usize, least: usize, scenario: Race) {
    let model = Model { name, bound: Some(bound), least, happens: &[] };
    model.explore(move |_: &Seen| race::<B>(scenario, None));
}

fn loses(name: &'static str, scenario: Race, fault: Fault) {
    breaks(name, LOST_UPDATE, move || race::<Immediate>(scenario, Some(fault)));
}

macro_rules! races {
    ($($claim:ident: $race:ident, $policy:ident, $bound:literal, $least:literal;)*) => {$(
        #[test]
        fn $claim() {
            let name = concat!("writers, ", stringify!($race), ", ", stringify!($policy));
            holds::<$policy>(name, $bound, $least, $race);
        }
    )*};
}

races! {
    two_leaves_arrive_at_an_empty_root: EMPTY_ROOT, Immediate, 2, 800;
    two_leaves_arrive_at_an_empty_root_deferred: EMPTY_ROOT, AfterRcuGp, 2, 1000;
    two_twigs_arrive_at_one_branch: TWO_TWIGS, Immediate, 2, 3000;
    two_twigs_arrive_at_one_deferred_branch: TWO_TWIGS, AfterRcuGp, 2, 3000;
    one_key_from_two_writers_is_there_once: SAME_TWIG, Immediate, 2, 5000;
    one_key_from_two_writers_is_there_once_deferred: SAME_TWIG, AfterRcuGp, 2, 5000;
    a_twig_comes_while_another_goes: TWIG_COMES_AND_GOES, Immediate, 2, 3000;
    a_twig_comes_while_another_goes_deferred: TWIG_COMES_AND_GOES, AfterRcuGp, 2, 3000;
    a_replacement_is_in_the_smaller_copy: BRANCH_SHRINKS, Immediate, 1, 500;
    a_replacement_is_in_the_smaller_copy_deferred: BRANCH_SHRINKS, AfterRcuGp, 1, 300;
    a_branch_grows_while_it_is_merged: MERGED_AND_GROWN, Immediate, 2, 3000;
    a_branch_grows_while_it_is_merged_deferred: MERGED_AND_GROWN, AfterRcuGp, 2, 3000;
    both_twigs_of_a_branch_go: BOTH_TWIGS_GO, Immediate, 2, 4000;
    both_twigs_of_a_deferred_branch_go: BOTH_TWIGS_GO, AfterRcuGp, 2, 2000;
    two_replacements_of_one_leaf_follow_each_other: SAME_LEAF, Immediate, 2, 8000;
    two_replacements_of_one_leaf_follow_each_other_deferred: SAME_LEAF, AfterRcuGp, 2, 8000;
    a_replacement_is_in_the_copy_of_its_branch: LEAF_AND_BRANCH, Immediate, 2, 5000;
    a_replacement_is_in_the_copy_of_its_deferred_branch: LEAF_AND_BRANCH, AfterRcuGp, 2, 5000;
    a_leaf_is_replaced_or_removed_first: LEAF_GOES, Immediate, 2, 8000;
    a_leaf_is_replaced_or_removed_first_deferred: LEAF_GOES, AfterRcuGp, 2, 7000;
    parent_and_child_are_copied: PARENT_AND_CHILD, Immediate, 2, 10000;
    deferred_parent_and_child_are_copied: PARENT_AND_CHILD, AfterRcuGp, 2, 10000;
    a_branch_that_moves_up_grows: SIBLING_MERGED, Immediate, 2, 2500;
    a_deferred_branch_that_moves_up_grows: SIBLING_MERGED, AfterRcuGp, 2, 5000;
    a_branch_below_a_fork_grows: FORKED_ABOVE, Immediate, 2, 3000;
    a_deferred_branch_below_a_fork_grows: FORKED_ABOVE, AfterRcuGp, 2, 3000;
    a_fork_further_up_than_a_way_keeps: FORKED_FAR_ABOVE, Immediate, 2, 5000;
    a_fork_further_up_than_a_way_keeps_deferred: FORKED_FAR_ABOVE, AfterRcuGp, 2, 5000;
    a_fork_is_above_the_branch_that_it_was_made_for: FORKED_ABOVE_ANOTHER_LIFE, Immediate, 2, 15000;
    a_fork_is_above_the_branch_that_it_was_made_for_deferred:
        FORKED_ABOVE_ANOTHER_LIFE, AfterRcuGp, 2, 5000;
}

/// Races in which a branch stays linked although its life is over are not here: then no operation
/// ends, which a model can't report.
#[test]
fn updates_are_lost_without_locks() {
    for (name, scenario) in [
        ("no locks, an empty root", EMPTY_ROOT),
        ("no locks, two twigs", TWO_TWIGS),
        ("no locks, the same twig", SAME_TWIG),
        ("no locks, insert and remove", TWIG_COMES_AND_GOES),
        ("no locks, insert and merge", MERGED_AND_GROWN),
        ("no locks, both removed", BOTH_TWIGS_GO),
        ("no locks, the same leaf", SAME_LEAF),
        ("no locks, leaf and branch", LEAF_AND_BRANCH),
        ("no locks, leaf replaced and removed", LEAF_GOES),
    ] {
        loses(name, scenario, Fault::WithoutLocks);
    }
}

#[test]
fn an_update_is_lost_when_the_slot_is_not_checked_under_the_lock() {
    loses("slot not checked, an empty root", EMPTY_ROOT, Fault::SlotNotCheckedUnderLock);
    loses("slot not checked, the same leaf", SAME_LEAF, Fault::SlotNotCheckedUnderLock);
}

#[test]
fn a_replacement_is_lost_when_the_lock_is_taken_relaxed() {
    loses("lock taken relaxed", LEAF_AND_BRANCH, Fault::RelaxedLocks);
}

#[test]
fn a_key_is_lost_when_a_fork_does_not_look_at_the_life_below_it() {
    let name = "life not checked under the lock";
    loses(name, FORKED_ABOVE_ANOTHER_LIFE, Fault::LifeNotCheckedUnderLock);
}

/// A trie with room for one entry returned `Full`.
const FULL: &str = "said to be full";
/// A trie with room for one entry had room.
const ROOM: &str = "there was room";

fn with_room_for_one<B: ReusePolicy>(fault: Option<Fault>) -> Arc<QpTrie<u64, B>> {
    let builder = QpTrie::builder().domain(Domain::new()).reader_retries(0).max_entries(1);
    let builder = match fault {
        Some(fault) => builder.fault(fault),
        None => builder,
    };
    Arc::new(builder.build().expect("a model needs no system"))
}

/// One writer removes the only entry; if the other saw that it is gone, its insertion must succeed.
fn room_behind_a_removal<B: ReusePolicy>(fault: Option<Fault>, seen: &Seen) {
    let trie = with_room_for_one::<B>(fault);
    Put(b"11", 1).run(&trie);
    let other = {
        let trie = Arc::clone(&trie);
        thread::spawn(move || {
            let gone = !trie.pin().contains_key(b"11");
            // Below another root: the two threads share nothing but the count.
            (gone, trie.pin().insert(b"\xff1", 2).is_err())
        })
    };
    Remove(b"11").run(&*trie);
    let (gone, refused) = other.join().expect("the writer does not panic");
    if gone && refused {
        std::mem::forget(trie);
        panic!("{LOST_UPDATE}: full without an entry");
    }
    seen.note(FULL, refused);
    seen.note(ROOM, !refused);
}

/// Two entries are inserted into a trie with room for one; a writer that is rejected must find the
/// other entry.
fn room_for_one_of_two<B: ReusePolicy>(fault: Option<Fault>, seen: &Seen) {
    let trie = with_room_for_one::<B>(fault);
    let other = {
        let trie = Arc::clone(&trie);
        thread::spawn(move || trie.pin().insert(b"\xff1", 2).is_err())
    };
    // One section: the barrier of another would order the two.
    let view = trie.pin();
    let refused = view.insert(b"11", 1).is_err();
    let there = view.contains_key(b"\xff1");
    drop(view);
    let other_refused = other.join().expect("the writer does not panic");
    if (refused && !there) || refused == other_refused || trie.len() != 1 {
        std::mem::forget(trie);
        panic!("{LOST_UPDATE}: full without an entry");
    }
    seen.note(FULL, refused);
    seen.note(ROOM, !refused);
}

#[test]
fn full_is_said_when_it_is_so_only() {
    let happens = &[FULL, ROOM];
    let name = "an entry is removed from a full trie";
    let model = Model { name, bound: Some(2), least: 100, happens };
    model.explore(|seen| room_behind_a_removal::<Immediate>(None, seen));
    let name = "two entries come, with room for one";
    let model = Model { name, bound: Some(2), least: 100, happens };
    model.explore(|seen| room_for_one_of_two::<Immediate>(None, seen));
}

#[test]
fn full_is_said_too_early_when_changes_under_way_do_not_count() {
    let fault = Some(Fault::FullWhileUnderWay);
    breaks("a removal under way", LOST_UPDATE, move || {
        room_behind_a_removal::<Immediate>(fault, &Seen::default());
    });
    breaks("an insertion under way", LOST_UPDATE, move || {
        room_for_one_of_two::<Immediate>(fault, &Seen::default());
    });
}
