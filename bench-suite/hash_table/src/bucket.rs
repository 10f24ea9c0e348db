//! A bucket: the head of a chain, and the lock of its writers.

use memalloc::Handle;
use memalloc::sync::{AtomicU64, Lock, LockGuard, Ordering, fence};

use crate::element::Element;
use crate::fault::Faults;
use crate::link::{Head, Link};
use crate::memory::ElementMemory;

/// A chain and its lock.
#[derive(Debug)]
pub(crate) struct Bucket {
    head: AtomicU64,
    lock: Lock<()>,
}

impl Bucket {
    /// Creates an empty chain.
    pub(crate) fn new(number: u32) -> Self {
        Self { head: AtomicU64::new(Head::empty(number).word()), lock: Lock::new(()) }
    }

    /// Reads the head, to start a walk.
    #[inline]
    pub(crate) fn head(&self) -> Head {
        // ORDERING: pairs with the Release of `Chain::insert`: the element is seen as it was
        // filled. Falls to `a_lookup_gets_the_value_of_one_life`.
        Head::of(self.head.load(Ordering::Acquire))
    }

    /// Reads the head again, after all previous reads.
    #[inline]
    pub(crate) fn head_again(&self) -> Head {
        // ORDERING: pairs with the Release of `Element::set_link` and with the Release fence of
        // `Element::fill`: a reader that missed an element because it was unlinked, or reused, sees
        // the head that was stored before. Falls to `a_lookup_gets_the_value_of_one_life`.
        fence(Ordering::Acquire);
        Head::of(self.head.load(Ordering::Relaxed))
    }

    /// Acquires the lock.
    #[inline]
    pub(crate) fn lock<'t, M: ElementMemory>(
        &'t self,
        memory: &'t M,
        faults: Faults,
    ) -> Chain<'t, M> {
        Chain { bucket: self, memory, faults, _lock: self.lock.lock() }
    }
}

/// A chain whose lock is held: only the holder changes it (BEN-HT3).
pub(crate) struct Chain<'t, M> {
    bucket: &'t Bucket,
    memory: &'t M,
    faults: Faults,
    _lock: LockGuard<'t, ()>,
}

/// An element in its chain.
#[derive(Debug)]
pub(crate) struct Found<'t, M> {
    pub(crate) element: Element<'t, M>,
    /// The previous element; `None` if this is the first.
    before: Option<Element<'t, M>>,
}

impl<'t, M: ElementMemory> Chain<'t, M> {
    fn head(&self) -> Head {
        Head::of(self.bucket.head.load(Ordering::Relaxed))
    }

    fn element(&self, handle: Handle) -> Element<'t, M> {
        // SAFETY: BEN-HT1: a link of the chain names an element; BEN-HT3: the lock keeps it there,
        // and the result is used under the lock, or by the writer that unlinked the element.
        unsafe { Element::new(self.memory, handle) }
    }

    /// Returns all elements, first to last, each with the previous one.
    fn elements(&self) -> impl Iterator<Item = Found<'t, M>> {
        let (mut link, mut before) = (self.head().link(), None);
        std::iter::from_fn(move || {
            let Link::Element(handle) = link else { return None };
            let element = self.element(handle);
            link = element.link();
            let found = Found { element, before };
            before = Some(element);
            Some(found)
        })
    }

    /// Returns the element of a key.
    #[inline]
    pub(crate) fn find(&self, key: u32) -> Option<Found<'t, M>> {
        self.elements().find(|found| found.element.key() == key)
    }

    /// Returns the number of elements.
    pub(crate) fn len(&self) -> usize {
        self.elements().count()
    }

    /// Inserts an element at the head, and unlinks `old`, an older element of the same key.
    #[inline]
    pub(crate) fn insert(&self, element: Element<'t, M>, old: Option<&Found<'t, M>>) {
        let head = self.head();
        element.fill_link(head.link());
        // ORDERING: pairs with the Acquire in `Bucket::head`. Falls to
        // `a_key_that_is_replaced_is_never_missed` and `a_lookup_gets_the_value_of_one_life`.
        self.bucket.head.store(head.inserted(element.handle()).word(), Ordering::Release);
        if !self.faults.even_too_soon() {
            element.mark_linked();
        }
        if let Some(old) = old {
            let before = old.before.unwrap_or(element);
            before.set_link(old.element.link(), self.faults);
        }
    }

    /// Unlinks an element.
    #[inline]
    pub(crate) fn unlink(&self, found: &Found<'t, M>) {
        let next = found.element.link();
        match found.before {
            Some(before) => before.set_link(next, self.faults),
            None => {
                let head = self.head().unlinked(next);
                // ORDERING: as for the link of an element, see `Element::set_link`. Falls to
                // `an_element_is_seen_whole_after_the_one_before_it_was_unlinked`.
                self.bucket.head.store(head.word(), Ordering::Release);
            }
        }
    }

    /// Unlinks the first element, and returns it.
    pub(crate) fn pop(&self) -> Option<Element<'t, M>> {
        let first = self.elements().next()?;
        self.unlink(&first);
        Some(first.element)
    }
}
