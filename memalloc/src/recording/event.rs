//! Events as the file has them: four words of 64 bits, little endian.

/// Words of an event.
pub(super) const WORDS: usize = 4;

/// Bytes of an event.
pub(super) const BYTES: usize = WORDS * 8;

/// What happened. The numbers are the file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// An object was allocated whose free will be an event, too.
    Alloc = 1,
    /// One was allocated whose free will not: there was no room to remember it.
    AllocUntracked = 2,
    /// An object was allocated by a call that may not wait.
    AllocNowait = 3,
    /// An object was freed for reuse at once.
    FreeNow = 4,
    /// An object was freed for reuse after a grace period.
    FreeDeferred = 5,
    /// An object was freed that no other thread ever saw.
    FreeUnshared = 6,
    /// An object is still allocated at the end.
    Live = 7,
    /// A section of RCU ended.
    SectionRcu = 8,
    /// A section that may sleep ended.
    SectionTrace = 9,
    /// A section ended that was not sampled, but was long.
    LongSectionRcu = 10,
    /// The same of a section that may sleep.
    LongSectionTrace = 11,
    /// The end of the recording.
    End = 12,
}

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) kind: Kind,
    /// The CPU that it happened on; where an object was allocated, for its free.
    pub(super) cpu: u16,
    pub(super) thread: u32,
    /// Nanoseconds since the recording began.
    pub(super) time: u64,
    /// Bytes that were asked for.
    pub(super) size: u32,
    /// How many of its kind it stands for.
    pub(super) weight: u32,
    /// Nanoseconds that an object lived or that a section lasted.
    pub(super) duration: u64,
    /// Whether an object is freed on another CPU than it was allocated on.
    pub(super) elsewhere: bool,
}

impl Event {
    /// The words, of which no one is read as anything but a number.
    pub(super) fn words(&self) -> [u64; WORDS] {
        let head = self.kind as u64
            | u64::from(self.elsewhere) << 8
            | u64::from(self.cpu) << 16
            | u64::from(self.thread) << 32;
        [head, self.time, u64::from(self.size) | u64::from(self.weight) << 32, self.duration]
    }
}
