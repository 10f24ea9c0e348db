//! Events in the format of the file: four 64-bit words, little endian.

/// Words of an event.
pub(super) const WORDS: usize = 4;

/// Bytes of an event.
pub(super) const BYTES: usize = WORDS * 8;

/// The kind of an event. The numbers are those of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// An object was allocated whose free will be recorded too.
    Alloc = 1,
    /// An object was allocated whose free will not be recorded, because there was no room to
    /// remember it.
    AllocUntracked = 2,
    /// An object was allocated by a call that must not wait.
    AllocNowait = 3,
    /// An object was freed for immediate reuse.
    FreeNow = 4,
    /// An object was freed for reuse after a grace period.
    FreeDeferred = 5,
    /// An unshared object was freed.
    FreeUnshared = 6,
    /// An object is still allocated at the end.
    Live = 7,
    /// An RCU section ended.
    SectionRcu = 8,
    /// A section that may sleep ended.
    SectionTrace = 9,
    /// A long section ended that was not sampled.
    LongSectionRcu = 10,
    /// A long section that may sleep ended that was not sampled.
    LongSectionTrace = 11,
    /// The end of the recording.
    End = 12,
}

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) kind: Kind,
    /// The CPU of the event. For an object that is still allocated at the end: the CPU of its
    /// allocation.
    pub(super) cpu: u16,
    pub(super) thread: u32,
    /// Nanoseconds since the recording began.
    pub(super) time: u64,
    /// The requested bytes.
    pub(super) size: u32,
    /// The number of events of this kind that the event stands for.
    pub(super) weight: u32,
    /// Nanoseconds that an object lived or that a section lasted.
    pub(super) duration: u64,
    /// True if an object is freed on another CPU than it was allocated on.
    pub(super) elsewhere: bool,
}

impl Event {
    /// Returns the words of the file, which a reader treats as numbers only.
    pub(super) fn words(&self) -> [u64; WORDS] {
        let head = self.kind as u64
            | u64::from(self.elsewhere) << 8
            | u64::from(self.cpu) << 16
            | u64::from(self.thread) << 32;
        [head, self.time, u64::from(self.size) | u64::from(self.weight) << 32, self.duration]
    }
}
