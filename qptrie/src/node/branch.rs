//! Branches: access to their words, allocation and freeing.

use super::header::Header;
use super::{Count, Locked, Nodes, Shape, Symbol, Symbols, Twig};
use memalloc::sync::{AtomicU32, Ordering, fence};
use memalloc::{AllocError, Handle, ReusePolicy};
use std::alloc::Layout;
use std::ops::Range;

const WORD_BYTES: usize = size_of::<u32>();

/// The sizes of branches, in bytes.
#[cfg(not(loom))]
pub(super) const SIZES: [usize; 17] =
    [16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 288, 384, 512, 768, 1088];

/// The minimum for models: a pair, and four twigs.
#[cfg(loom)]
pub(super) const SIZES: [usize; 2] = [16, 32];

fn layout(words: usize) -> Layout {
    // SAFETY: the alignment is a power of two, and the size is far below the limit.
    unsafe { Layout::from_size_align_unchecked(words * WORD_BYTES, WORD_BYTES) }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> Nodes<V, B, L> {
    #[inline(always)]
    fn word(&self, branch: Handle, index: usize) -> &AtomicU32 {
        // SAFETY: handles of branches come from twigs of this trie (QPT-N4) or from its allocator;
        // word numbers come from a shape or a header that this branch had in some life, so they are
        // inside its class (QPT-N7); and every access is atomic (QPT-N1).
        unsafe { self.branches.word(branch, index) }
    }

    /// Returns the count of a branch: its life, whether it is linked, and its lock.
    #[inline(always)]
    pub(crate) fn count(&self, branch: Handle) -> Count<'_> {
        Count::new(self.word(branch, 0), self.faults)
    }

    /// Returns the current shape. A caller without the lock has to validate it.
    #[inline(always)]
    pub(crate) fn shape(&self, branch: Handle) -> Shape {
        Shape(self.word(branch, 1).load(Ordering::Relaxed))
    }

    /// Returns a function that reads the words of the header. They may be half from another life.
    #[inline(always)]
    fn header(&self, branch: Handle) -> impl Fn(usize) -> u32 {
        move |number| self.word(branch, number).load(Ordering::Relaxed)
    }

    /// Returns the number of the slot of `symbol`, if it has a way. A caller without the lock has
    /// to validate it before it uses the slot.
    #[inline(always)]
    pub(crate) fn way(&self, branch: Handle, shape: Shape, symbol: Symbol) -> Option<u16> {
        shape.way(symbol, self.header(branch))
    }

    /// Returns the number of the slot that a twig of `symbol` has, or would have; to be validated
    /// like a way.
    pub(crate) fn place(&self, branch: Handle, shape: Shape, symbol: Symbol) -> u16 {
        shape.place(symbol, self.header(branch))
    }

    /// Returns the numbers of all slots; to be validated like a way.
    #[inline(always)]
    pub(crate) fn slots(&self, branch: Handle, shape: Shape) -> Range<u16> {
        shape.slots(self.header(branch))
    }

    /// Returns the symbols that have ways; to be validated like a way.
    pub(crate) fn symbols(&self, branch: Handle, shape: Shape) -> Symbols {
        shape.symbols(self.header(branch))
    }

    /// Returns the number of twigs, without holes, of a branch that the caller has locked; `None`
    /// if the branch is small and does not store this number.
    pub(crate) fn twig_count(&self, branch: Handle) -> Option<usize> {
        let number = self.shape(branch).twigs_word()?;
        Some(self.word(branch, number).load(Ordering::Relaxed) as usize)
    }

    /// Returns true if the stored number of twigs is correct.
    pub(crate) fn twig_count_is_right(&self, branch: Handle) -> bool {
        let slots = self.slots(branch, self.shape(branch)).map(|slot| self.slot(branch, slot));
        let there = |slot: &&AtomicU32| Twig::load(slot, Ordering::Relaxed) != Twig::NOTHING;
        self.twig_count(branch).is_none_or(|count| count == slots.filter(there).count())
    }

    /// Publishes a twig in a hole of a branch that the caller has locked.
    pub(crate) fn fill_hole(&self, branch: Handle, slot: u16, twig: Twig) {
        self.add_to_twig_count(branch, 1);
        twig.publish(self.slot(branch, slot));
    }

    /// Empties a slot of a branch that the caller has locked.
    pub(crate) fn make_hole(&self, branch: Handle, slot: u16) {
        self.add_to_twig_count(branch, -1);
        Twig::NOTHING.publish(self.slot(branch, slot));
    }

    #[inline(always)]
    fn add_to_twig_count(&self, branch: Handle, change: i32) {
        if let Some(number) = self.shape(branch).twigs_word() {
            let count = self.word(branch, number);
            count.store(
                count.load(Ordering::Relaxed).wrapping_add_signed(change),
                Ordering::Relaxed,
            );
        }
    }

    /// Returns slot number `slot`, which is in a validated header.
    #[inline(always)]
    pub(crate) fn slot(&self, branch: Handle, slot: u16) -> &AtomicU32 {
        self.word(branch, usize::from(slot))
    }

    /// Allocates a branch that tests symbol number `index` and has these twigs, one for each of
    /// `symbols`. Returns it unpublished, with its lock.
    pub(crate) fn new_branch(
        &self,
        index: u32,
        symbols: &Symbols,
        twigs: impl Iterator<Item = Twig>,
    ) -> Result<(Handle, Locked<'_>), AllocError> {
        let header = Header::new(index, symbols);
        let branch = self.branches.alloc_handle(layout(header.slots().end.into()))?;
        // ORDERING: pairs with the reader's Acquire fence before it reads its count again. If the
        // reader saw any of the stores below, it sees that the count had become odd before. Needed
        // even if another thread made the count odd: a fence orders only the later stores of its
        // own thread. Falls to `loom_protocol` "init fence removed".
        fence(Ordering::Release);
        for (number, word) in header.words() {
            self.word(branch, number).store(word, Ordering::Relaxed);
        }
        let mut there = 0;
        for (slot, twig) in header.slots().zip(twigs) {
            twig.place(self.slot(branch, slot));
            there += u32::from(twig != Twig::NOTHING);
        }
        if let Some(number) = header.shape().twigs_word() {
            self.word(branch, number).store(there, Ordering::Relaxed);
        }
        let held = self.count(branch).begin();
        Ok((branch, held))
    }

    /// Frees a branch that no slot names any more and whose life has ended.
    pub(crate) fn free_branch(&self, branch: Handle) {
        let layout = layout(self.slots(branch, self.shape(branch)).end.into());
        // ORDERING: pairs with the load that takes the branch off its free list: the thread that
        // initialises it next sees the odd count, and so do, by that thread's fence, the readers
        // that see its stores. Needed if the free list hands over with a plain store. Falls to
        // `loom_protocol` "free fence removed".
        fence(Ordering::Release);
        // SAFETY: the layout gives the class that the branch was allocated in; the branch is
        // unlinked, and this is its only free. Readers validate, or are protected by the policy.
        unsafe { self.branches.free_handle(branch, layout) };
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::header::MOST_WORDS;
    use super::*;

    #[test]
    fn every_branch_has_a_class_and_little_waste() {
        let table = memalloc::ClassTable::new(&SIZES).unwrap();
        for words in 4..=MOST_WORDS {
            let size = layout(words).size();
            let class = table.class_for(layout(words)).unwrap();
            let waste = table.classes()[class].size - size;
            assert!(waste < 16 || waste * 2 < size, "{waste} bytes of {size}");
        }
    }
}
