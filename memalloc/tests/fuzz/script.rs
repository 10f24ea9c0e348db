//! Numbers, read from the bytes of an input.

use std::sync::atomic::{AtomicU64, Ordering};

/// The rest of an input. Every number is `None` behind the end.
#[derive(Debug)]
pub(crate) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// Returns a number below `sides`, which is at most 65,536.
    pub(crate) fn below(&mut self, sides: usize) -> Option<usize> {
        let low = usize::from(self.byte()?);
        let number = if sides > 256 { low | usize::from(self.byte()?) << 8 } else { low };
        Some(number % sides)
    }

    /// As `below`, for the number of an operation. Reports every millionth operation.
    pub(crate) fn operation(&mut self, sides: usize) -> Option<usize> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = self.below(sides)?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_multiple_of(1_000_000) {
            eprintln!("{count} operations");
        }
        Some(number)
    }
}
