//! What is compared: maps of keys of four bytes, each thread of which has one thing to do.

use crate::measure::WrongAnswer;

/// Keys of a thread.
pub(super) const LOOP: u32 = 64;

/// The most keys of a map, and the buckets of it.
pub(super) const MAX_ENTRIES: u32 = 16_384;

/// As many threads have keys in it.
pub(crate) const MOST_THREADS: usize = (MAX_ENTRIES / LOOP) as usize;

/// What a thread does, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Nothing, 64 times: what a loop costs.
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
    /// Looks keys up, which may be there or not.
    Read,
}

impl Task {
    /// Loops in one run: as many as it takes for the call of the kernel to cost next to nothing.
    pub(super) fn loops(self) -> u32 {
        match self {
            // One at a time is handed over.
            Self::Add | Self::Delete => 1,
            Self::AddAndDelete | Self::UpdateAndDelete => 2,
            Self::NoOp | Self::Overwrite | Self::Read => 4,
        }
    }

    /// Operations in one run.
    pub(super) fn operations(self) -> u64 {
        let of_each_key = if self == Self::AddAndDelete { 2 } else { 1 };
        u64::from(self.loops() * LOOP * of_each_key)
    }
}

/// The keys of a thread: `from`, `from + step`, and so on, 64 of them.
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

/// A map that is compared.
pub(super) trait Map: Sync + Sized {
    /// What one thread works with.
    type Session<'m>: Session
    where
        Self: 'm;

    /// An empty map for threads that have these tasks, with values of so many bytes, a multiple of eight.
    fn build(tasks: &[Task], value_size: usize) -> Result<Self, WrongAnswer>;

    /// For the calling thread, which has the task of this number, and keeps it.
    fn session(&self, thread: usize) -> Self::Session<'_>;

    /// Bytes held now, if they are not this process's.
    fn held_outside(&self) -> Option<u64> {
        None
    }

    /// The most bytes held, if they are not this process's.
    fn peak_outside(&self) -> Option<u64> {
        None
    }

    /// Whether its memory is this process's.
    const IS_INSIDE: bool = true;

    /// Checks that it has these keys, which are sorted, with their values and no others; and that nothing
    /// was lost.
    fn close(self, keys: &[u32]) -> Result<(), WrongAnswer>;
}

/// What one thread works with.
pub(super) trait Session {
    /// Runs the loops of the task once.
    ///
    /// # Errors
    ///
    /// What was wrong.
    fn run(&mut self, keys: Keys) -> Result<(), WrongAnswer>;

    /// Enters a read section, looks a key up, has `meanwhile` pass the time in the section, and looks again.
    ///
    /// # Errors
    ///
    /// What was found is wrong.
    fn sit(&mut self, key: u32, meanwhile: impl FnOnce()) -> Result<(), WrongAnswer>;
}

/// A wrong value.
pub(super) fn wrong_value(key: u32, stamp: u64) -> WrongAnswer {
    WrongAnswer(format!("the value of key {key} is that of {stamp}"))
}

/// Compares the keys that a map has with those that it should have.
pub(super) fn compare(found: &[u32], wanted: &[u32]) -> Result<(), WrongAnswer> {
    match found == wanted {
        true => Ok(()),
        false => Err(WrongAnswer(format!(
            "in the end the map has {} keys, and should have {}{}",
            found.len(),
            wanted.len(),
            if found.len() == wanted.len() { " others" } else { "" }
        ))),
    }
}
