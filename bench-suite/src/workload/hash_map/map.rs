//! The interface of the subjects: maps with keys of 4 bytes, each thread of which has one task.

use crate::measure::{NoReadings, WrongAnswer};

/// The number of keys of a thread.
pub(super) const LOOP: u32 = 64;

/// The most keys of a map, and the number of its buckets.
pub(super) const MAX_ENTRIES: u32 = 16_384;

/// The most threads, each with its own keys.
pub(crate) const MOST_THREADS: usize = (MAX_ENTRIES / LOOP) as usize;

/// The task that a thread repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Nothing, 64 times: the cost of a loop.
    NoOp,
    /// Sets the values of its keys.
    Overwrite,
    /// Adds its keys, then deletes them.
    AddAndDelete,
    /// Adds keys that another thread deletes.
    Add,
    /// Deletes keys that another thread adds.
    Delete,
    /// Sets the value of a key, looks it up, and deletes it: one key after the other.
    UpdateAndDelete,
    /// Looks up keys, which may or may not exist.
    Read,
}

impl Task {
    /// Returns the loops in one run: enough to make the cost of the system call negligible.
    pub(super) fn loops(self) -> u32 {
        match self {
            // The two threads of a pair alternate after each loop.
            Self::Add | Self::Delete => 1,
            Self::AddAndDelete | Self::UpdateAndDelete => 2,
            Self::NoOp | Self::Overwrite | Self::Read => 4,
        }
    }

    /// Returns the operations in one run.
    pub(super) fn operations(self) -> u64 {
        let of_each_key = if self == Self::AddAndDelete { 2 } else { 1 };
        u64::from(self.loops() * LOOP * of_each_key)
    }
}

/// The keys of a thread: `from`, `from + step`, and so on, 64 in total.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    pub(super) from: u32,
    pub(super) step: u32,
}

impl Keys {
    #[inline]
    pub(super) fn iter(self) -> impl Iterator<Item = u32> {
        (0..LOOP).map(move |place| self.from + place * self.step)
    }
}

/// A map to measure.
pub(super) trait Map: Sync + Sized {
    /// The per-thread handle.
    type Session<'m>: Session
    where
        Self: 'm;

    /// Builds an empty map for threads with these tasks, and values of `value_size` bytes, a
    /// multiple of 8.
    fn build(tasks: &[Task], value_size: usize) -> Result<Self, NoReadings>;

    /// Returns a handle for the calling thread, whose task has the number `thread`.
    fn session(&self, thread: usize) -> Self::Session<'_>;

    /// Returns the bytes held now, if they are outside this process.
    fn held_outside(&self) -> Option<u64> {
        None
    }

    /// Returns the peak of the bytes held, if they are outside this process.
    fn peak_outside(&self) -> Option<u64> {
        None
    }

    /// True if the map's memory belongs to this process.
    const IS_INSIDE: bool = true;

    /// Checks that the map has exactly these sorted keys, with their values; and that nothing was
    /// lost.
    fn close(self, keys: &[u32]) -> Result<(), WrongAnswer>;
}

/// The per-thread handle of a map.
pub(super) trait Session {
    /// Runs the loops of the task once.
    ///
    /// # Errors
    ///
    /// The fault.
    fn run(&mut self, keys: Keys) -> Result<(), WrongAnswer>;

    /// Enters a read section, looks up a key, calls `meanwhile` in the section, and looks up the
    /// key again.
    ///
    /// # Errors
    ///
    /// A lookup found a wrong value.
    fn sit(&mut self, key: u32, meanwhile: impl FnOnce()) -> Result<(), WrongAnswer>;
}

/// Returns the fault of a wrong value.
pub(super) fn wrong_value(key: u32, stamp: u64) -> WrongAnswer {
    WrongAnswer(format!("the value of key {key} is that of {stamp}"))
}

/// Compares the keys of a map with the expected ones.
pub(super) fn compare(found: &[u32], wanted: &[u32]) -> Result<(), WrongAnswer> {
    match found == wanted {
        true => Ok(()),
        false => Err(WrongAnswer(format!(
            "at the end the map has {} keys, and should have {}{}",
            found.len(),
            wanted.len(),
            if found.len() == wanted.len() { " others" } else { "" }
        ))),
    }
}
