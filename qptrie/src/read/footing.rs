//! What a reader may believe of a branch: the steps of the protocol (module front), once.

use crate::node::{Life, Nodes, Retry, Twig};
use memalloc::sync::{AtomicU32, Ordering, fence};
use memalloc::{Handle, ReusePolicy};

/// A branch that somebody stands on: where it is, and the life that it was in when it was linked.
/// Under a policy that protects identity a reader has nothing to validate, and every check below is
/// compiled to nothing; but where leaves are reused at once it wants to know the life all the same,
/// since only a branch that is linked vouches for its leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Footing {
    pub(crate) branch: Handle,
    pub(crate) life: Life,
}

impl Footing {
    /// Steps 1 to 3: stands on `branch`, which `slot` of `parent` named. With `TO_CHANGE` the life
    /// is known under every policy, so that the branch can be locked.
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

    /// Steps 5 and 7, and step 3 of the next branch: everything read from the branch so far was its
    /// own.
    #[inline(always)]
    pub(crate) fn confirm<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        self,
        nodes: &Nodes<V, B, L>,
    ) -> Result<(), Retry> {
        if B::PROTECTS_IDENTITY { Ok(()) } else { self.is_linked(nodes) }
    }

    /// The same under every policy, for whoever knows the life.
    #[inline(always)]
    pub(super) fn is_linked<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        self,
        nodes: &Nodes<V, B, L>,
    ) -> Result<(), Retry> {
        // ORDERING: pairs with the Release fences in `new_branch` and `free_branch`. If what
        // this thread read before the fence came from a later life, the load below sees a later
        // count; if it sees the same life, all of it was read from this one. Also hands over
        // the leaf that a twig named (see `Twig::publish`). Falls to `loom_protocol` "fence
        // before the last count removed".
        fence(Ordering::Acquire);
        if nodes.count(self.branch).is_in(self.life) { Ok(()) } else { Err(Retry) }
    }
}

/// Loads a slot of a branch that the reader stands on.
#[inline(always)]
pub(crate) fn follow<B: ReusePolicy>(slot: &AtomicU32) -> Twig {
    // ORDERING: pairs with `Twig::publish`. A validating reader leaves the ordering to the fence
    // of its next check; a plain one has no other. Falls to `loom`
    // `a_plain_reader_finds_a_key_that_is_always_there`.
    let ordering = if B::PROTECTS_IDENTITY { Ordering::Acquire } else { Ordering::Relaxed };
    Twig::load(slot, ordering)
}
