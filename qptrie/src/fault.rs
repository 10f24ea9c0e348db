//! Faults: steps of the protocol that a model can omit, to show that they are needed.
//!
//! Only builds for the model checker have faults. In any other build every method below is the
//! constant `false`.

/// A protective step that is omitted, or the error that replaces it.
#[cfg(loom)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A reader follows a twig without rereading the count: the wild pointer (F1).
    UnvalidatedTwig,
    /// A reader trusts the absence of a twig without rereading the count: the false negative (F2).
    UnvalidatedAbsence,
    /// The count changes when a branch is reused, not when it is unlinked: the frozen parent (F3).
    CountsOnReuseOnly,
    /// The count never changes.
    WithoutCounts,
    /// A reader does not reread the slot after it read the count.
    SlotNotReread,
    /// A reader does not reread the parent's count.
    ParentNotReread,
    /// A scan trusts a twig although the count of its branch has changed.
    ScanUnconfirmed,
    /// A writer does not synchronise with the previous holder of a lock.
    RelaxedLocks,
    /// A writer does not check, under the lock, that the slot is as it was found.
    SlotNotCheckedUnderLock,
    /// Writers do not exclude each other.
    WithoutLocks,
    /// A writer does not hold the lock of a copy while the original still looks linked.
    CopyNotLocked,
    /// A writer that inserts above a branch does not check that the branch is in the same life.
    LifeNotCheckedUnderLock,
    /// A seek does not compare the first key with its bound.
    SeekUnchecked,
    /// A reader of a leaf that is reused at once does not reread its slot.
    LeafSlotNotReread,
    /// A reader of a leaf that is reused at once does not reread the count of the leaf's branch.
    LeafParentNotReread,
    /// A reader of a leaf that is reused at once does not reread the leaf's count.
    LeafUnconfirmed,
    /// A reader of a leaf that is reused at once does not synchronise with the thread that wrote
    /// it.
    LeafCountRelaxed,
    /// A thread that overwrites a leaf does not order the leaf's count before its words.
    LeafFenceMissing,
    /// A writer that inserts next to a leaf that is reused at once does not check that the leaf has
    /// the same key.
    LeafNotCheckedUnderLock,
    /// A reader that follows a hint does not check that the leaf is linked.
    HintedLeafUnlinked,
    /// A reader that follows a hint does not check which key the leaf has.
    HintedLeafUnread,
    /// A reader that follows a hint does not synchronise with the thread that linked the leaf.
    HintedLeafRelaxed,
    /// A leaf is marked as linked before its slot names it.
    MarkedEarly,
    /// A leaf is marked as linked after its slot no longer names it.
    UnmarkedLate,
    /// A writer that found a slot by the parent of a leaf stores into it without the lock of the
    /// parent.
    ParentUnlocked,
    /// A writer that found a slot by the parent of a leaf stores into it although the parent's life
    /// has ended.
    ParentLifeIgnored,
    /// A leaf that replaces another one gets the tag of another key.
    TagOfAnotherKey,
    /// A writer treats a trie as full while an entry is being inserted or removed.
    FullWhileUnderWay,
}

/// The steps that a trie omits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    #[cfg(loom)]
    fault: Option<Fault>,
}

#[cfg(loom)]
impl Faults {
    pub(crate) fn only(fault: Fault) -> Self {
        Self { fault: Some(fault) }
    }
}

/// Whether the fault that a build with the feature `broken` has chosen is the one that is asked
/// for.
#[cfg(all(not(loom), feature = "broken"))]
#[inline(always)]
fn is_left_out(question: &str) -> bool {
    use memalloc::broken::{Fault, leaves_out};
    match question {
        "slot_not_reread" => leaves_out(Fault::ParentSlot),
        "counts_on_reuse_only" => leaves_out(Fault::FrozenCount),
        "without_counts" => leaves_out(Fault::NoCount),
        "hinted_leaf_unlinked" => leaves_out(Fault::HintLiveness),
        _ => false,
    }
}

macro_rules! questions {
    ($($question:ident => $fault:ident;)*) => {
        impl Faults {
            /// Pauses where a fault of a build with the feature `broken` shows.
            #[inline(always)]
            pub(crate) fn linger(self) {
                #[cfg(feature = "broken")]
                memalloc::broken::lingers(&[
                    memalloc::broken::Fault::ParentSlot,
                    memalloc::broken::Fault::FrozenCount,
                    memalloc::broken::Fault::NoCount,
                    memalloc::broken::Fault::HintLiveness,
                ]);
            }

            $(
                #[inline(always)]
                pub(crate) fn $question(self) -> bool {
                    #[cfg(loom)]
                    return self.fault == Some(Fault::$fault);
                    #[cfg(all(not(loom), feature = "broken"))]
                    return is_left_out(stringify!($question));
                    #[cfg(not(any(loom, feature = "broken")))]
                    false
                }
            )*
        }
    };
}

questions! {
    unvalidated_twig => UnvalidatedTwig;
    unvalidated_absence => UnvalidatedAbsence;
    counts_on_reuse_only => CountsOnReuseOnly;
    without_counts => WithoutCounts;
    slot_not_reread => SlotNotReread;
    parent_not_reread => ParentNotReread;
    scan_unconfirmed => ScanUnconfirmed;
    relaxed_locks => RelaxedLocks;
    slot_not_checked_under_lock => SlotNotCheckedUnderLock;
    without_locks => WithoutLocks;
    copy_not_locked => CopyNotLocked;
    life_not_checked_under_lock => LifeNotCheckedUnderLock;
    seek_unchecked => SeekUnchecked;
    leaf_slot_not_reread => LeafSlotNotReread;
    leaf_parent_not_reread => LeafParentNotReread;
    leaf_unconfirmed => LeafUnconfirmed;
    leaf_count_relaxed => LeafCountRelaxed;
    leaf_fence_missing => LeafFenceMissing;
    leaf_not_checked_under_lock => LeafNotCheckedUnderLock;
    hinted_leaf_unlinked => HintedLeafUnlinked;
    hinted_leaf_unread => HintedLeafUnread;
    hinted_leaf_relaxed => HintedLeafRelaxed;
    marked_early => MarkedEarly;
    unmarked_late => UnmarkedLate;
    parent_unlocked => ParentUnlocked;
    parent_life_ignored => ParentLifeIgnored;
    tag_of_another_key => TagOfAnotherKey;
    full_while_under_way => FullWhileUnderWay;
}
