//! Branches: their words, their first and their last moment.

use super::{Count, Locked, Nodes, Twig};
use memalloc::sync::{AtomicU32, Ordering, fence};
use memalloc::{AllocError, Handle, ReusePolicy};
use std::alloc::Layout;

const HEADER_WORDS: usize = 2;
const WORD_BYTES: usize = size_of::<u32>();

/// The sizes that branches come in, in bytes: 2, 6, 10, 14 and 18 twigs.
#[cfg(not(loom))]
pub(super) const SIZES: [usize; 5] = [16, 32, 48, 64, 80];

/// As few as there can be: 2 and 6 twigs.
#[cfg(loom)]
pub(super) const SIZES: [usize; 2] = [16, 32];

const INDEX_SHIFT: u32 = 17;
const BITMAP: u32 = (1 << INDEX_SHIFT) - 1;

/// Which nibble a branch tests and which twigs it has, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape(u32);

impl Shape {
    /// A branch that tests nibble number `index` and has the twigs of `bitmap`.
    pub(crate) fn new(index: u32, bitmap: u32) -> Self {
        debug_assert!(index < 1 << 13 && bitmap & !BITMAP == 0);
        Self(index << INDEX_SHIFT | bitmap)
    }

    #[inline(always)]
    pub(crate) fn index(self) -> u32 {
        self.0 >> INDEX_SHIFT & 0x1fff
    }

    #[inline(always)]
    pub(crate) fn bitmap(self) -> u32 {
        self.0 & BITMAP
    }

    #[inline(always)]
    pub(crate) fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }

    /// Where the twig of `bit` is, or would be.
    #[inline(always)]
    pub(crate) fn position(self, bit: u32) -> usize {
        (self.0 & (bit - 1)).count_ones() as usize
    }

    /// How many twigs there are.
    #[inline(always)]
    pub(crate) fn len(self) -> usize {
        self.bitmap().count_ones() as usize
    }

    /// The bits of the twigs, in their order.
    pub(crate) fn bits(self) -> impl Iterator<Item = u32> + Clone {
        let mut left = self.bitmap();
        std::iter::from_fn(move || {
            let bit = left & left.wrapping_neg();
            left &= left.wrapping_sub(1);
            (bit != 0).then_some(bit)
        })
    }

    fn layout(self) -> Layout {
        let bytes = (HEADER_WORDS + self.len()) * WORD_BYTES;
        // SAFETY: the alignment is a power of two, and the size is far below the limit.
        unsafe { Layout::from_size_align_unchecked(bytes, WORD_BYTES) }
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> Nodes<V, B, L> {
    #[inline(always)]
    fn word(&self, branch: Handle, index: usize) -> &AtomicU32 {
        // SAFETY: handles of branches come from twigs of this trie (INV-N4) or from its
        // allocator; twig numbers from a shape that this branch had in some life, so they fit
        // its class (module front); and every access is atomic (INV-N1).
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

    /// The slot of twig number `position`.
    #[inline(always)]
    pub(crate) fn slot(&self, branch: Handle, position: usize) -> &AtomicU32 {
        self.word(branch, HEADER_WORDS + position)
    }

    /// A branch of this shape with these twigs, one for each bit, not published yet, and its lock.
    pub(crate) fn new_branch(
        &self,
        shape: Shape,
        twigs: impl Iterator<Item = Twig>,
    ) -> Result<(Handle, Locked<'_>), AllocError> {
        let branch = self.branches.alloc_handle(shape.layout())?;
        // ORDERING: pairs with the reader's Acquire fence before it reads its count again. If
        // the reader saw any of the stores below, it sees that the count had become odd before.
        // Needed here even when another thread made it odd: a fence orders the later stores of
        // its own thread only. Falls to `loom_protocol` "init fence removed".
        fence(Ordering::Release);
        self.word(branch, 1).store(shape.0, Ordering::Relaxed);
        for (position, twig) in twigs.enumerate() {
            twig.place(self.slot(branch, position));
        }
        let held = self.count(branch).begin();
        Ok((branch, held))
    }

    /// Frees a branch that no slot names any more, and whose life is over.
    pub(crate) fn free_branch(&self, branch: Handle) {
        let layout = self.shape(branch).layout();
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
    use super::*;

    #[test]
    fn a_shape_keeps_index_and_bitmap_apart() {
        let shape = Shape::new(8191, 0b1_0000_0000_0000_0101);
        assert_eq!((shape.index(), shape.bitmap()), (8191, 0b1_0000_0000_0000_0101));
        assert_eq!(shape.bits().collect::<Vec<_>>(), [1, 4, 1 << 16]);
        assert_eq!(shape.bits().map(|bit| shape.position(bit)).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(shape.has(4) && !shape.has(2));
        assert_eq!(shape.position(2), 1);
    }

    #[test]
    fn every_number_of_twigs_has_a_class_and_the_common_ones_little_waste() {
        let table = memalloc::ClassTable::new(&SIZES).unwrap();
        for twigs in 2..=17 {
            let shape = Shape::new(0, (1 << twigs) - 1);
            let class = table.class_for(shape.layout()).unwrap();
            assert!(table.classes()[class].size - shape.layout().size() < 16);
        }
    }
}
