//! The sequences of the counting build. There a thread has its CPU to itself, and is preempted only
//! between two accesses that the façade reports. So a sequence runs in one piece, on the same
//! bytes.

use super::{CacheRow, OBJECTS_AT};
use crate::sync::machine::{self, Access, AccessKind};
use crate::sys::count_word::CountWord;
use crate::sys::cpu_mode_reason::CpuModeReason;
use std::panic::Location;
use std::ptr::{self, NonNull};

/// Stands for the area of a thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rseq;

/// A sequence on the cache of its CPU, which reports its accesses to the machine.
struct Sequence {
    cache: *mut u8,
    place: &'static Location<'static>,
}

impl Sequence {
    /// Begins a sequence. No other thread runs before it ends.
    fn begin(row: &CacheRow, place: &'static Location<'static>) -> Self {
        if let Some(machine) = machine::installed() {
            machine.preempt();
        }
        let offset = cpu() * CacheRow::CPU_BYTES;
        Self { cache: ptr::with_exposed_provenance_mut(row.first + offset), place }
    }

    fn tell<T>(&self, at: usize, kind: AccessKind) {
        if let Some(machine) = machine::installed() {
            let (address, bytes) = (self.cache.addr() + at, size_of::<T>());
            machine.access(Access { address, bytes, kind, place: self.place });
        }
    }

    /// # Safety
    ///
    /// The cache must have a `T` there, which no other thread changes during the sequence.
    unsafe fn load<T: Copy>(&self, at: usize) -> T {
        self.tell::<T>(at, AccessKind::Load);
        // SAFETY: the caller's promise.
        unsafe { self.cache.add(at).cast::<T>().read() }
    }

    /// # Safety
    ///
    /// As [`load`](Self::load).
    unsafe fn store<T: Copy>(&self, at: usize, value: T) {
        self.tell::<T>(at, AccessKind::Store);
        // SAFETY: the caller's promise.
        unsafe { self.cache.add(at).cast::<T>().write(value) };
    }
}

fn cpu() -> usize {
    machine::installed().map_or(0, |machine| machine.cpu())
}

fn is_busy(word: u64) -> bool {
    (word >> 32) as i32 >= CountWord::BUSY_ABOVE
}

impl Rseq {
    /// Returns the sequences of the machine, whatever the system has.
    pub(crate) fn find() -> Option<Self> {
        machine::installed().map(|_| Self)
    }

    pub(crate) fn missing() -> CpuModeReason {
        CpuModeReason::NotForThisSystem
    }

    /// Returns the CPU that this thread is on.
    pub(crate) fn cpu(self) -> Option<usize> {
        Some(cpu())
    }

    /// Does what the sequence of this name does.
    ///
    /// # Safety
    ///
    /// As for the sequence.
    #[track_caller]
    pub(crate) unsafe fn pop(self, row: &CacheRow) -> u32 {
        let sequence = Sequence::begin(row, Location::caller());
        // SAFETY: MEM-Q1: no other thread runs before the sequence ends; `count > low` objects are
        // there.
        unsafe {
            let word: u64 = sequence.load(0);
            let count = word as u16;
            if count <= row.low {
                return 0;
            }
            let object = sequence.load(usize::from(count) * 4 + OBJECTS_AT - 4);
            sequence.store(0, word.wrapping_sub(CountWord::ONE));
            object
        }
    }

    /// Does what the sequence of this name does.
    ///
    /// # Safety
    ///
    /// As for the sequence.
    #[track_caller]
    pub(crate) unsafe fn push<const AT: usize>(self, row: &CacheRow, object: u32) -> bool {
        let sequence = Sequence::begin(row, Location::caller());
        // SAFETY: MEM-Q1, as in `pop`.
        unsafe {
            if AT != 0 && is_busy(sequence.load(0)) {
                return false;
            }
            let word: u64 = sequence.load(AT);
            if word as i64 >= 0 {
                return false;
            }
            sequence.store(AT + OBJECTS_AT + usize::from(word as u16) * 4, object);
            sequence.store(AT, word.wrapping_add(CountWord::ONE));
        }
        true
    }

    /// Does what the sequence of this name does.
    ///
    /// # Safety
    ///
    /// As for the sequence.
    #[track_caller]
    pub(crate) unsafe fn enter(self, row: &CacheRow) -> Option<(NonNull<u8>, CountWord)> {
        let sequence = Sequence::begin(row, Location::caller());
        // SAFETY: MEM-Q2: no other thread runs before the sequence ends.
        let word = unsafe {
            let word: u64 = sequence.load(0);
            if is_busy(word) {
                return None;
            }
            sequence.store(0, CountWord::LOCAL.bits());
            word
        };
        Some((NonNull::new(sequence.cache)?, CountWord::from_bits(word)))
    }

    /// Only counts: no sequence is half done while another thread runs.
    pub(crate) fn restart_others(self) -> bool {
        if let Some(machine) = machine::installed() {
            machine.interrupt_others();
        }
        true
    }
}
