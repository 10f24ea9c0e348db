//! Validation of a branch: the steps of the protocol (see `read`), in one place.

use crate::node::{Life, Nodes, Retry, Twig};
use memalloc::sync::{AtomicU32, Ordering, fence};
use memalloc::{Handle, ReusePolicy};

/// The branch that a thread stands on, and the life in which it was linked. Under a policy that
/// protects identity there is nothing to validate, and every check below compiles to nothing. But
/// if leaves are reused at once, the reader needs the life under every policy of branches, since
/// only a linked branch vouches for its leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkedBranch {
    pub(crate) branch: Handle,
    pub(crate) life: Life,
}

impl LinkedBranch {
    /// Steps 1 to 3: enters `branch`, which `slot` of `parent` named. With `TO_CHANGE` the life is
    /// read under every policy, so that the branch can be locked.
    #[inline(always)]
    pub(crate) fn enter<const TO_CHANGE: bool, V, B, L>(
        nodes: &Nodes<V, B, L>,
        branch: Handle,
        (slot, twig): (&AtomicU32, Twig),
        parent: Option<Self>,
    ) -> Result<Self, Retry>
    where
        V: Send + Sync + 'static,
        B: ReusePolicy,
        L: ReusePolicy,
    {
        if B::PROTECTS_IDENTITY && L::PROTECTS_IDENTITY && !TO_CHANGE {
            return Ok(Self { branch, life: Life::ONLY });
        }
        nodes.faults.linger();
        let life = nodes.count(branch).life().ok_or(Retry)?;
        if B::PROTECTS_IDENTITY {
            return Ok(Self { branch, life });
        }
        if !nodes.faults.slot_not_reread() && Twig::load(slot, Ordering::Relaxed) != twig {
            return Err(Retry);
        }
        if let Some(parent) = parent
            && !nodes.faults.parent_not_reread()
        {
            parent.confirm(nodes)?;
        }
        Ok(Self { branch, life })
    }

    /// Steps 5 and 7, and step 3 of the next branch: checks that everything read from the branch so
    /// far belongs to this life.
    #[inline(always)]
    pub(crate) fn confirm<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        self,
        nodes: &Nodes<V, B, L>,
    ) -> Result<(), Retry> {
        if B::PROTECTS_IDENTITY { Ok(()) } else { self.is_linked(nodes) }
    }

    /// Like `confirm`, but checks under every policy; the life must be known.
    #[inline(always)]
    pub(crate) fn is_linked<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        self,
        nodes: &Nodes<V, B, L>,
    ) -> Result<(), Retry> {
        // ORDERING: pairs with the Release fences in `new_branch` and `free_branch`. If a load
        // before the fence read from a later life, the load below sees a later count; if the load
        // below sees the same life, all of them read from this life. Also makes the leaf that a
        // twig named visible (see `Twig::publish`). Falls to `loom_protocol` "fence before the last
        // count removed".
        fence(Ordering::Acquire);
        if nodes.count(self.branch).is_in(self.life) { Ok(()) } else { Err(Retry) }
    }
}

/// Loads a slot of a branch that the reader stands on.
#[inline(always)]
pub(crate) fn follow<B: ReusePolicy>(slot: &AtomicU32) -> Twig {
    // ORDERING: pairs with `Twig::publish`. A validating reader gets its ordering from the fence of
    // its next check; a plain reader has only this load. Falls to `loom`
    // `a_plain_reader_finds_a_key_that_is_always_there`.
    // ThreadSanitizer would not see that the fence orders the leaf that the twig names.
    let ordering =
        if B::PROTECTS_IDENTITY || cfg!(tsan) { Ordering::Acquire } else { Ordering::Relaxed };
    Twig::load(slot, ordering)
}
