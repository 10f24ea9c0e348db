//! Size classes and watermarks: the class that serves a request, and the times at which its caches
//! refill and flush.
//!
//! The module knows numbers only. Sizes are multiples of [`UNIT`] bytes, in ascending order, and a
//! class never changes once its table is built.

use once_cell::race::OnceBox;
use std::alloc::Layout;
use std::fmt;
use std::sync::Arc;

/// The granularity of sizes and handles, in bytes.
pub const UNIT: usize = 16;

/// The largest object, in bytes, as in the kernel's allocator.
pub const MAX_SIZE: usize = 4096;

/// The maximum number of classes in a table.
pub const MAX_CLASSES: usize = 64;

/// The maximum number of objects in a CPU's cache of one class.
pub(crate) const CACHE_CAPACITY: usize = if cfg!(loom) { 4 } else { 350 };

/// The maximum number of objects that move at once.
pub(crate) const BATCH_CAPACITY: usize = if cfg!(loom) { 2 } else { 250 };

/// The reserve of a CPU's cache of one class is a full batch ([`BATCH_CAPACITY`]) of at most this
/// many bytes, or the large reserve if that is more.
const RESERVE_BYTES: usize = 64 << 10;

/// The large reserve is this many objects, of at most [`LARGE_RESERVE_BYTES`] together. A burst of
/// as many allocations and then as many frees stays on its CPU: the cache has room for all of them
/// beside what the last refill left over. With fewer, a full cache gives a batch away in each
/// burst, and takes it back in the next one.
const RESERVE_OBJECTS: usize = 64;

/// The maximum size of the large reserve, in bytes.
const LARGE_RESERVE_BYTES: usize = 256 << 10;

/// A batch of deferred frees has at most this many bytes, unless [`Watermarks::batch`] is more.
const DEFERRED_BYTES: usize = 64 << 10;

/// The kernel's eleven sizes, in bytes.
#[doc(alias = "sizes")]
pub const KERNEL_SIZES: [usize; 11] = [16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096];

/// The numbers of objects at which the caches of one class refill and flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// A cache that holds this many objects or fewer takes a batch. The objects below the mark
    /// serve calls that may not refill (`alloc_nowait`, or any call when memory has run out).
    #[doc(alias = "low_watermark")]
    pub low: usize,
    /// A cache that holds more than this plus the reserve gives a batch away.
    #[doc(alias = "high_watermark")]
    pub high: usize,
    /// The number of objects that move at once; see also [`deferred`](Self::deferred).
    pub batch: usize,
    /// The number of objects above `high` that a cache keeps for the CPU that freed them, so that
    /// bursts of that length stay on their CPU. If it is more than a batch, a full cache gives this
    /// many away at once. 0 is the kernel's behaviour.
    pub reserve: usize,
}

impl Watermarks {
    /// Returns the kernel's watermarks for objects of `size` bytes: up to 256 bytes 32 and 96;
    /// above, `max(32 * 256 / size, 1)` and `max(96 * 256 / size, 3)`; a batch is three quarters of
    /// the difference. The kernel has no reserve. Here it is the larger of 250 objects, limited to
    /// 64 KiB, and 64 objects, limited to 256 KiB, so that bursts of 64 objects of any size stay on
    /// their CPU. A size of 0 counts as 1.
    ///
    /// A CPU whose caches of the kernel's eleven classes are all full holds 873 KiB; without a
    /// reserve 170 KiB. An unused allocator holds no objects.
    #[doc(alias = "init_refill_work")]
    #[must_use]
    pub const fn for_size(size: usize) -> Self {
        if cfg!(loom) {
            return Self { low: 0, high: 2, batch: 1, reserve: 0 };
        }
        let size = at_least(size, 1);
        let (low, high) = if size <= 256 {
            (32, 96)
        } else {
            (at_least(32 * 256 / size, 1), at_least(96 * 256 / size, 3))
        };
        let reserve = at_least(
            at_most(RESERVE_BYTES / size, BATCH_CAPACITY),
            at_most(LARGE_RESERVE_BYTES / size, RESERVE_OBJECTS),
        );
        Self { low, high, batch: at_least((high - low) / 4 * 3, 1), reserve }
    }

    /// The maximum number of objects in a cache.
    pub(crate) const fn full(&self) -> usize {
        self.high.saturating_add(self.reserve)
    }

    /// The maximum number of objects in a cache whose objects each may keep a slab of their own.
    pub(crate) const fn full_if_sparse(&self) -> usize {
        at_most(self.full(), self.low + at_least(self.batch / 2, 1))
    }

    /// The number of objects that a full cache gives away at once.
    pub(crate) const fn surplus(&self) -> usize {
        at_least(at_most(self.reserve, BATCH_CAPACITY), self.batch)
    }

    /// Returns the number of deferred frees of objects of `size` bytes that make a batch and share
    /// one grace-period cookie: [`batch`](Self::batch), or, if the reserve of a cache is larger, up
    /// to 250 objects of 64 KiB together. A size of 0 counts as 1.
    #[must_use]
    pub const fn deferred(&self, size: usize) -> usize {
        let fitting = DEFERRED_BYTES / at_least(size, 1);
        at_least(at_most(fitting, at_most(self.reserve, BATCH_CAPACITY)), self.batch)
    }

    fn check(self) -> Result<(), ClassError> {
        let fits = self.low < self.high
            && self.full() < CACHE_CAPACITY
            && (1..=BATCH_CAPACITY).contains(&self.batch)
            && self.batch <= self.high;
        if fits { Ok(()) } else { Err(ClassError::Watermarks(self)) }
    }
}

const fn at_least(value: usize, least: usize) -> usize {
    if value > least { value } else { least }
}

const fn at_most(value: usize, most: usize) -> usize {
    if value < most { value } else { most }
}

/// One size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// Size of an object, in bytes.
    pub size: usize,
    /// The watermarks of its caches.
    pub watermarks: Watermarks,
}

impl Class {
    /// Returns the alignment of every object of the class: the largest power of two that divides
    /// the size; 1 for a size of 0, which no table has.
    #[must_use]
    pub const fn align(&self) -> usize {
        if self.size == 0 { 1 } else { 1 << self.size.trailing_zeros() }
    }

    /// The number of deferred frees that make a batch.
    pub(crate) const fn deferred_batch(&self) -> usize {
        self.watermarks.deferred(self.size)
    }

    /// The maximum number of objects in a batch.
    pub(crate) const fn most_at_once(&self) -> usize {
        at_least(self.watermarks.surplus(), self.deferred_batch())
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::from_size_align(self.size, 1).unwrap_or(Layout::new::<u8>())
    }

    pub(crate) const fn units(&self) -> u32 {
        (self.size / UNIT) as u32
    }
}

/// The classes of an allocator, in ascending order of size.
///
/// Copies share one table. So do all tables from [`default`](Self::default), and all from
/// [`fine`](Self::fine) with [`MAX_SIZE`].
#[derive(Clone)]
pub struct ClassTable {
    table: Arc<Classes>,
}

struct Classes {
    classes: Vec<Class>,
    /// The class for a size, by units (rounded up).
    by_units: [u8; MAX_SIZE / UNIT + 1],
}

impl Default for ClassTable {
    /// Returns the kernel's classes and watermarks.
    fn default() -> Self {
        static SHARED: OnceBox<ClassTable> = OnceBox::new();
        let new = || Self::new(&KERNEL_SIZES).map(Box::new);
        match SHARED.get_or_try_init(new) {
            Ok(table) => table.clone(),
            Err(error) => unreachable!("the kernel's sizes are a valid table: {error}"),
        }
    }
}

impl fmt::Debug for ClassTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.table.classes).finish()
    }
}

impl ClassTable {
    /// Creates a table of these sizes, with the kernel's watermarks for each.
    ///
    /// # Errors
    ///
    /// If the sizes are not ascending multiples of [`UNIT`], at least one and at most
    /// [`MAX_CLASSES`], none above [`MAX_SIZE`].
    pub fn new(sizes: &[usize]) -> Result<Self, ClassError> {
        let classes: Vec<Class> = sizes
            .iter()
            .map(|&size| Class { size, watermarks: Watermarks::for_size(size.max(1)) })
            .collect();
        Self::with_watermarks(&classes)
    }

    /// Creates a table of these classes, with their own watermarks.
    ///
    /// # Errors
    ///
    /// As [`ClassTable::new`]. Watermarks must also have `low < high`, `high` and the reserve
    /// together below 350, and a batch of 1 to 250 objects that is not above `high`.
    pub fn with_watermarks(classes: &[Class]) -> Result<Self, ClassError> {
        if classes.is_empty() || classes.len() > MAX_CLASSES {
            return Err(ClassError::Count(classes.len()));
        }
        let mut previous = 0;
        for class in classes {
            if !class.size.is_multiple_of(UNIT) || class.size <= previous || class.size > MAX_SIZE {
                return Err(ClassError::Size { size: class.size, previous });
            }
            previous = class.size;
            class.watermarks.check()?;
        }
        let mut by_units = [0; MAX_SIZE / UNIT + 1];
        for (units, slot) in by_units.iter_mut().enumerate() {
            *slot = classes.partition_point(|class| class.size < units * UNIT) as u8;
        }
        Ok(Self { table: Arc::new(Classes { classes: classes.to_vec(), by_units }) })
    }

    /// Creates a table with fine steps: an allocation wastes at most 16 bytes, or an eighth of the
    /// object. For structures that hold millions of objects of many sizes.
    ///
    /// # Errors
    ///
    /// As [`ClassTable::new`], if `max_size` is zero or above [`MAX_SIZE`].
    pub fn fine(max_size: usize) -> Result<Self, ClassError> {
        static SHARED: OnceBox<ClassTable> = OnceBox::new();
        if max_size == MAX_SIZE {
            let new = || Self::in_fine_steps(MAX_SIZE).map(Box::new);
            return SHARED.get_or_try_init(new).cloned();
        }
        Self::in_fine_steps(max_size)
    }

    fn in_fine_steps(max_size: usize) -> Result<Self, ClassError> {
        if !(1..=MAX_SIZE).contains(&max_size) {
            return Err(ClassError::Size { size: max_size, previous: 0 });
        }
        let mut sizes = Vec::new();
        let mut size = UNIT;
        while size < max_size {
            sizes.push(size);
            size += ((1 << size.ilog2()) / 8).max(UNIT);
        }
        sizes.push(max_size.next_multiple_of(UNIT));
        Self::new(&sizes)
    }

    /// Returns the classes, in ascending order of size.
    #[must_use]
    pub fn classes(&self) -> &[Class] {
        &self.table.classes
    }

    /// Returns the largest size served, in bytes.
    #[must_use]
    pub fn max_size(&self) -> usize {
        self.table.classes[self.table.classes.len() - 1].size
    }

    /// Returns the strictest alignment served, in bytes.
    #[must_use]
    pub fn max_align(&self) -> usize {
        self.table.classes.iter().map(Class::align).max().unwrap_or(UNIT)
    }

    /// Returns the strictest alignment of an object that has room for `size` bytes.
    pub(crate) fn max_align_for(&self, size: usize) -> usize {
        let fitting = self.table.classes.iter().filter(|class| class.size >= size);
        fitting.map(Class::align).max().unwrap_or(UNIT)
    }

    /// Returns the number of the smallest class that serves `layout`, or `None`. A size of zero is
    /// served by the smallest class.
    #[must_use]
    #[inline]
    pub fn class_for(&self, layout: Layout) -> Option<usize> {
        if layout.size() > MAX_SIZE {
            return None;
        }
        let class = self.table.by_units[layout.size().div_ceil(UNIT)] as usize;
        let fits =
            self.table.classes.iter().skip(class).position(|class| class.align() >= layout.align());
        Some(class + fits?)
    }

    #[inline(always)]
    pub(crate) fn class(&self, class: usize) -> &Class {
        &self.table.classes[class]
    }

    pub(crate) fn len(&self) -> usize {
        self.table.classes.len()
    }
}

/// The reason why a [`ClassTable`] cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClassError {
    /// No class at all, or more than [`MAX_CLASSES`].
    Count(usize),
    /// A size that is not a multiple of [`UNIT`], is above [`MAX_SIZE`], or is not above the one
    /// before.
    Size {
        /// The size, in bytes.
        size: usize,
        /// The size of the class before it, or 0.
        previous: usize,
    },
    /// Watermarks that contradict each other or exceed what a cache can hold.
    Watermarks(Watermarks),
}

impl fmt::Display for ClassError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => {
                write!(f, "{count} size classes: allowed are 1 to {MAX_CLASSES}")
            }
            Self::Size { size, previous } => write!(
                f,
                "a size class of {size} bytes after one of {previous}: sizes are ascending \
                 multiples of {UNIT}, up to {MAX_SIZE}"
            ),
            Self::Watermarks(Watermarks { low, high, batch, reserve }) => write!(
                f,
                "watermarks low {low}, high {high}, batch {batch}, reserve {reserve}: allowed are \
                 low < high, high and reserve together below {CACHE_CAPACITY}, and a batch of 1 \
                 to {BATCH_CAPACITY}, not above high"
            ),
        }
    }
}

impl std::error::Error for ClassError {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn a_class_of_size_zero_has_an_alignment_and_watermarks() {
        let watermarks = Watermarks::for_size(0);
        assert_eq!(watermarks, Watermarks::for_size(1));
        assert_eq!(Class { size: 0, watermarks }.align(), 1);
    }

    #[test]
    fn the_default_watermarks_are_the_kernels() {
        let marks: Vec<_> = KERNEL_SIZES
            .iter()
            .map(|&size| Watermarks::for_size(size))
            .map(|w| (w.low, w.high, w.batch))
            .collect();
        assert_eq!(marks[..7], [(32, 96, 48); 7]);
        assert_eq!(marks[7..], [(16, 48, 24), (8, 24, 12), (4, 12, 6), (2, 6, 3)]);
        for size in KERNEL_SIZES {
            assert!(Watermarks::for_size(size).reserve * size <= LARGE_RESERVE_BYTES);
        }
    }

    /// The last refill leaves at most a batch more than the low watermark.
    #[test]
    fn a_burst_of_64_objects_of_any_size_fits_in_a_cache_beside_the_rest_of_a_refill() {
        for size in KERNEL_SIZES {
            let marks = Watermarks::for_size(size);
            assert!(marks.low + marks.batch + 64 <= marks.full(), "{size} bytes: {marks:?}");
        }
    }

    #[test]
    fn a_request_gets_the_smallest_class_that_fits_and_is_aligned() {
        let table = ClassTable::default();
        let served = |size, align| {
            table.class_for(layout(size, align)).map(|class| table.classes()[class].size)
        };
        assert_eq!(served(0, 1), Some(16));
        assert_eq!(served(16, 16), Some(16));
        assert_eq!(served(17, 1), Some(32));
        assert_eq!(served(65, 1), Some(96));
        assert_eq!(served(65, 64), Some(128));
        assert_eq!(served(1, 4096), Some(4096));
        assert_eq!(served(4096, 1), Some(4096));
        assert_eq!(served(4097, 1), None);
        assert_eq!(served(1, 8192), None);
    }

    #[test]
    fn every_size_fits_its_class_in_every_table() {
        for table in [ClassTable::default(), ClassTable::fine(4096).unwrap()] {
            for size in 0..=MAX_SIZE {
                let class = table.class_for(layout(size, 1)).unwrap();
                assert!(table.classes()[class].size >= size);
                assert!(class == 0 || table.classes()[class - 1].size < size);
            }
        }
    }

    #[test]
    fn fine_classes_waste_at_most_16_bytes_or_an_eighth() {
        let table = ClassTable::fine(4096).unwrap();
        for pair in table.classes().windows(2) {
            let step = pair[1].size - pair[0].size;
            assert!(step <= UNIT || step * 8 <= pair[0].size, "{pair:?}");
        }
        assert_eq!(table.max_size(), 4096);
        for wrong in [0, 4097, usize::MAX] {
            assert!(ClassTable::fine(wrong).is_err());
        }
    }

    #[test]
    fn watermarks_reach_as_far_as_is_documented_and_no_further() {
        let fits = |high, batch, reserve| {
            let watermarks = Watermarks { low: 0, high, batch, reserve };
            ClassTable::with_watermarks(&[Class { size: 64, watermarks }]).is_ok()
        };
        assert!(fits(349, 250, 0) && fits(1, 1, 348));
        assert!(!fits(350, 250, 0) && !fits(1, 1, 349), "together below 350");
        assert!(!fits(349, 251, 0) && !fits(349, 0, 0), "a batch of 1 to 250");
    }

    #[test]
    fn a_bad_table_says_what_is_allowed() {
        let error = |sizes: &[usize]| ClassTable::new(sizes).unwrap_err().to_string();
        assert!(error(&[]).contains("1 to 64"));
        assert!(error(&[24]).contains("multiples of 16"));
        assert!(error(&[64, 32]).contains("ascending"));
        assert!(error(&[8192]).contains("up to 4096"));
        let marks = Watermarks { low: 8, high: 4, batch: 1, reserve: 0 };
        let class = Class { size: 64, watermarks: marks };
        let error = ClassTable::with_watermarks(&[class]).unwrap_err().to_string();
        assert!(error.contains("low 8, high 4"), "{error}");
    }
}
