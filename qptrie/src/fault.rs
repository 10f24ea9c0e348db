//! Steps of the protocol that a model can leave out, to show that they are needed.
//!
//! Only a build for the model checker can; in any other, every question below is answered "no"
//! when the program is compiled.

/// A protective step that is left out.
#[cfg(loom)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A reader follows a twig without reading the count again: the wild pointer (F1).
    UnvalidatedTwig,
    /// A reader believes that there is no twig without reading the count again: the false
    /// negative (F2).
    UnvalidatedAbsence,
    /// The count changes when a branch is reused, not when it is unlinked: the frozen parent
    /// (F3).
    CountsOnReuseOnly,
    /// The count never changes.
    WithoutCounts,
    /// A reader does not read the slot again after it read the count.
    SlotNotReread,
    /// A reader does not read the parent's count again.
    ParentNotReread,
    /// A scan believes a twig although the count of its branch has changed.
    ScanUnconfirmed,
    /// A writer does not synchronise with the holder of a lock before it.
    RelaxedLocks,
    /// A writer does not look, under the lock, whether the slot is as it found it.
    SlotNotCheckedUnderLock,
    /// Writers do not wait for each other.
    WithoutLocks,
    /// A writer does not hold the lock of a copy while the original still looks alive.
    CopyNotLocked,
    /// A writer that inserts above a branch does not look whether it is in the same life.
    LifeNotCheckedUnderLock,
    /// A seek does not compare the first key with its bound.
    SeekUnchecked,
    /// A reader of a leaf that is reused at once does not read its slot again.
    LeafSlotNotReread,
    /// Such a reader does not read the count of the leaf's branch again.
    LeafParentNotReread,
    /// Such a reader does not read the leaf's count again.
    LeafUnconfirmed,
    /// Such a reader does not synchronise with whoever wrote the leaf.
    LeafCountRelaxed,
    /// Who overwrites a leaf does not order its count before its words.
    LeafFenceMissing,
    /// A writer that inserts beside such a leaf does not look whether it has the same key.
    LeafNotCheckedUnderLock,
    /// A reader that follows a hint does not look whether the leaf is linked.
    HintedLeafUnlinked,
    /// Such a reader does not look whose the leaf is.
    HintedLeafUnread,
    /// Such a reader does not synchronise with whoever linked the leaf.
    HintedLeafRelaxed,
    /// A leaf says that it is linked before its slot names it.
    MarkedEarly,
    /// A leaf says that it is linked after its slot names it no longer.
    UnmarkedLate,
    /// A writer takes a trie for full while an entry is about to come or to go.
    FullWhileUnderWay,
}

/// The steps that a trie leaves out.
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

/// Whether the fault that a build with the feature `broken` has chosen is the one that is asked for.
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
    full_while_under_way => FullWhileUnderWay;
}
