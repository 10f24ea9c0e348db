//! The parent of a plain leaf: the branch that the leaf was linked in. It leads a writer that came
//! by a hint from the leaf to its slot (`write::by_parent`).
//!
//! The parent takes no memory of its own. Leaves are allocated in units of 16 bytes, and few fill
//! their last one. The handle of the parent is in the bytes that are left there, and in three bits
//! beside the length of the key:
//!
//! ```text
//!  value | linked, handle's low bits, length | key …    | handle's other bits |
//!          1       3                  12                  0 to 4 bytes, the last of a unit
//! ```
//!
//! Where the handle does not fit, the leaf has no parent. If the lengths of keys are evenly
//! distributed, 14 of 16 leaves have room for it while there are at most 8 MiB of branches, and
//! 13 of 16 up to 2 GiB. A leaf below a root has no parent.
//!
//! - QPT-N9: a leaf gets its parent before it is published, and keeps it. When the leaf was
//!   published, the parent was about to be linked, or was linked, and named the leaf. It may have
//!   been replaced since, freed, and reused, more than once. With hints, slabs of branches keep
//!   their class, so the memory at its handle is a branch, was a branch, or is zeros.

use super::Nodes;
use super::leaf_plain::{LENGTH, PARENT_BITS, PARENT_SHIFT, plain_bytes};
use memalloc::{Handle, ReusePolicy, UNIT};

/// The size of a handle in bytes.
const HANDLE_BYTES: usize = size_of::<u32>();

/// The bits of a handle that are beside the length.
const LOW: u32 = (1 << PARENT_BITS) - 1;

/// Returns the number of bytes of a leaf's last unit that are available for its parent, and the
/// offset of the end of that unit.
#[inline(always)]
const fn room_and_end<V>(key_len: usize) -> (usize, usize) {
    let used = plain_bytes::<V>(key_len);
    let end = used.next_multiple_of(UNIT);
    let left = end - used;
    (if left < HANDLE_BYTES { left } else { HANDLE_BYTES }, end)
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> Nodes<V, B, L> {
    /// Stores the branch that a leaf is about to be linked in, if there are hints and the leaf has
    /// room; `None` for a leaf below a root.
    ///
    /// # Safety
    ///
    /// The leaf is not published, and the caller owns it.
    #[inline]
    pub(crate) unsafe fn put_parent(&self, leaf: Handle, parent: Option<Handle>) {
        if !L::PROTECTS_IDENTITY || !self.hints.are_kept() {
            return;
        }
        self.leaves.writes_plain(leaf);
        let length = self.leaf_header(leaf) & LENGTH;
        let (room, end) = room_and_end::<V>(length.into());
        let handle = parent.map_or(0, Handle::get);
        let high = handle >> PARENT_BITS;
        let fits = u64::from(high) >> (room * 8) == 0;
        let (high, low) = if fits { (high, handle & LOW) } else { (0, 0) };
        self.put_leaf_header(leaf, length | (low as u16) << PARENT_SHIFT);
        // SAFETY: the caller owns the leaf (QPT-N9). Its class has a whole number of units, so the
        // last bytes of the unit in which the key ends are inside it, and the key is before them.
        unsafe {
            let place = self.leaves.pointer(leaf).add(end - room);
            place.as_ptr().copy_from_nonoverlapping(high.to_le_bytes().as_ptr(), room);
        }
    }

    /// Returns the parent of a leaf, if it has one.
    ///
    /// # Safety
    ///
    /// Same as [`key`](Self::key), and the leaf was published.
    #[inline]
    pub(crate) unsafe fn parent(&self, leaf: Handle) -> Option<Handle> {
        self.leaves.reads_plain(leaf);
        let header = self.leaf_header(leaf);
        let (room, end) = room_and_end::<V>((header & LENGTH).into());
        // SAFETY: inside the leaf, as in `put_parent`, which has initialised these bytes (QPT-N9).
        let high = unsafe {
            let end = self.leaves.pointer(leaf).add(end).as_ptr();
            match room {
                0 => 0,
                1 => last::<1>(end),
                2 => last::<2>(end),
                3 => last::<3>(end),
                _ => last::<HANDLE_BYTES>(end),
            }
        };
        Handle::new(high << PARENT_BITS | u32::from(header >> PARENT_SHIFT) & LOW)
    }
}

/// Reads the number in the last `N` bytes before `end`.
///
/// # Safety
///
/// The bytes are initialised, and no thread writes them.
#[inline(always)]
unsafe fn last<const N: usize>(end: *const u8) -> u32 {
    let mut bytes = [0; HANDLE_BYTES];
    // SAFETY: QPT-N9, as the caller promises.
    bytes[..N].copy_from_slice(unsafe { &*end.sub(N).cast::<[u8; N]>() });
    u32::from_le_bytes(bytes)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::fault::Faults;
    use memalloc::{AfterRcuGp, Immediate, MemAlloc};

    fn nodes<V: Send + Sync + 'static>(hints: bool) -> Nodes<V, Immediate, AfterRcuGp> {
        let (branches, leaves) = (MemAlloc::builder(), MemAlloc::builder());
        Nodes::new(branches, leaves, u64::MAX, hints, Faults::default()).expect("two allocators")
    }

    /// Checks the parents of leaves with keys of many lengths.
    fn check<V: Copy + PartialEq + Send + Sync + 'static>(value: V) {
        let nodes = nodes::<V>(true);
        for length in (0..100).chain([4000]) {
            let key = vec![0xff; length];
            let leaf = nodes.new_leaf(&key, value).expect("memory");
            let (room, _) = room_and_end::<V>(length);
            for handle in [1, 7, 0x7ff, 0x800, 0x7_ffff, 0x8_0000, 0x7ff_ffff, 0x7fff_ffff] {
                let fits = handle < 1_u64 << (PARENT_BITS as usize + room * 8);
                let parent = Handle::new(handle as u32);
                for (put, expected) in [(parent, parent.filter(|_| fits)), (None, None)] {
                    // SAFETY: the leaf is not published; the test alone uses it.
                    let (found, own_key, own_value) = unsafe {
                        nodes.put_parent(leaf, put);
                        (nodes.parent(leaf), nodes.key(leaf), *nodes.value(leaf))
                    };
                    assert_eq!(found, expected, "{handle:#x}, key of {length} bytes");
                    assert!(own_key == key && own_value == value);
                }
            }
            // SAFETY: it was not published.
            unsafe { nodes.take_back(leaf) };
        }
    }

    #[test]
    fn a_parent_comes_back_where_it_fits_and_leaves_key_and_value_alone() {
        check(0x1122_3344_5566_7788_u64);
        check(());
        check([1_u8; 3]);
        check([2_u64; 5]);
    }

    #[test]
    fn the_mark_leaves_the_parent_alone() {
        let nodes = nodes::<u64>(true);
        let leaf = nodes.new_leaf(b"key", 1).expect("memory");
        let parent = Handle::new(0x12345);
        // SAFETY: the test alone uses the leaf, which is not published.
        unsafe { nodes.put_parent(leaf, parent) };
        for marked in [true, false] {
            if marked {
                nodes.mark_linked(leaf);
            } else {
                nodes.mark_unlinked(leaf);
            }
            assert_eq!(nodes.is_linked(leaf), marked);
            // SAFETY: as above.
            unsafe { assert_eq!((nodes.parent(leaf), nodes.key(leaf)), (parent, &b"key"[..])) };
        }
        // SAFETY: it was not published.
        unsafe { nodes.take_back(leaf) };
    }
}
