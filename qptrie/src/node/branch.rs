//! Branches: their words, their first and their last moment.

use super::shape::Header;
use super::{Count, Locked, Nodes, Shape, Symbol, Symbols, Twig};
use memalloc::sync::{AtomicU32, Ordering, fence};
use memalloc::{AllocError, Handle, ReusePolicy};
use std::alloc::Layout;
use std::ops::Range;

const WORD_BYTES: usize = size_of::<u32>();

/// The sizes that branches come in, in bytes.
#[cfg(not(loom))]
pub(super) const SIZES: [usize; 17] =
    [16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 288, 384, 512, 768, 1088];

/// As few as there can be: a pair, and four twigs.
#[cfg(loom)]
pub(super) const SIZES: [usize; 2] = [16, 32];

fn layout(words: usize) -> Layout {
    // SAFETY: the alignment is a power of two, and the size is far below the limit.
    unsafe { Layout::from_size_align_unchecked(words * WORD_BYTES, WORD_BYTES) }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> Nodes<V, B, L> {
    #[inline(always)]
    fn word(&self, branch: Handle, index: usize) -> &AtomicU32 {
        // SAFETY: handles of branches come from twigs of this trie (INV-N4) or from its
        // allocator; numbers of words from a shape or a header that this branch had in some
        // life, so they fit its class (INV-N7); and every access is atomic (INV-N1).
        unsafe { self.branches.word(branch, index) }
    }

    /// Its count: which life it is in, whether it is linked, who may change it.
    #[inline(always)]
    pub(crate) fn count(&self, branch: Handle) -> Count<'_> {
        Count::new(self.word(branch, 0), self.faults)
    }

    /// The shape at this moment: whoever does not hold the lock has to validate it.
    #[inline(always)]
    pub(crate) fn shape(&self, branch: Handle) -> Shape {
        Shape(self.word(branch, 1).load(Ordering::Relaxed))
    }

    /// The words of a header that has such a shape: it may be half another life's.
    #[inline(always)]
    fn header(&self, branch: Handle) -> impl Fn(usize) -> u32 {
        move |number| self.word(branch, number).load(Ordering::Relaxed)
    }

    /// The number of the slot of `symbol`, if it has a way. Whoever does not hold the lock has to
    /// validate it, before the slot is touched.
    #[inline(always)]
    pub(crate) fn way(&self, branch: Handle, shape: Shape, symbol: Symbol) -> Option<u16> {
        shape.way(symbol, self.header(branch))
    }

    /// The number of the slot that a twig of `symbol` has, or would have; to be validated as a way is.
    pub(crate) fn place(&self, branch: Handle, shape: Shape, symbol: Symbol) -> u16 {
        shape.place(symbol, self.header(branch))
    }

    /// The numbers of all slots; to be validated as a way is.
    #[inline(always)]
    pub(crate) fn slots(&self, branch: Handle, shape: Shape) -> Range<u16> {
        shape.slots(self.header(branch))
    }

    /// Which ways there are; to be validated as a way is.
    pub(crate) fn symbols(&self, branch: Handle, shape: Shape) -> Symbols {
        shape.symbols(self.header(branch))
    }

    /// How many twigs of a branch that the caller holds are no holes; none where that is quickly
    /// counted.
    pub(crate) fn twig_count(&self, branch: Handle) -> Option<usize> {
        let number = self.shape(branch).twigs_word()?;
        Some(self.word(branch, number).load(Ordering::Relaxed) as usize)
    }

    /// Whether as many twigs as are said to be there are there.
    pub(crate) fn twig_count_is_right(&self, branch: Handle) -> bool {
        let slots = self.slots(branch, self.shape(branch)).map(|slot| self.slot(branch, slot));
        let there = |slot: &&AtomicU32| Twig::load(slot, Ordering::Relaxed) != Twig::NOTHING;
        self.twig_count(branch).is_none_or(|count| count == slots.filter(there).count())
    }

    /// Puts a twig into a hole of a branch that the caller holds.
    pub(crate) fn fill_hole(&self, branch: Handle, slot: u16, twig: Twig) {
        self.add_to_twig_count(branch, 1);
        twig.publish(self.slot(branch, slot));
    }

    /// Makes a hole of a slot of a branch that the caller holds.
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

    /// Slot number `slot`, which a validated header has.
    #[inline(always)]
    pub(crate) fn slot(&self, branch: Handle, slot: u16) -> &AtomicU32 {
        self.word(branch, usize::from(slot))
    }

    /// A branch that tests symbol number `index`, with these twigs, one for each of `symbols`; not
    /// published yet, and its lock.
    pub(crate) fn new_branch(
        &self,
        index: u32,
        symbols: &Symbols,
        twigs: impl Iterator<Item = Twig>,
    ) -> Result<(Handle, Locked<'_>), AllocError> {
        let header = Header::new(index, symbols);
        let branch = self.branches.alloc_handle(layout(header.slots().end.into()))?;
        // ORDERING: pairs with the reader's Acquire fence before it reads its count again. If
        // the reader saw any of the stores below, it sees that the count had become odd before.
        // Needed here even when another thread made it odd: a fence orders the later stores of
        // its own thread only. Falls to `loom_protocol` "init fence removed".
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

    /// Frees a branch that no slot names any more, and whose life is over.
    pub(crate) fn free_branch(&self, branch: Handle) {
        let layout = layout(self.slots(branch, self.shape(branch)).end.into());
        // ORDERING: pairs with the load that takes the branch off its free list: the thread that
        // initialises it next sees the odd count, and so do, by its own fence, the readers that
        // see its stores. Needed where the free list hands over with a plain store. Falls to
        // `loom_protocol` "free fence removed".
        fence(Ordering::Release);
        // SAFETY: the layout gives the class that the branch was allocated in; it is unlinked,
        // and this is its only free. Readers validate, or are protected by the policy.
        unsafe { self.branches.free_handle(branch, layout) };
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::shape::MOST_WORDS;
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
