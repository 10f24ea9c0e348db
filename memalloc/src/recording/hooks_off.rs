//! Empty hooks, for a build without the feature.

use super::{Flavour, Way};
use std::ptr::NonNull;

/// Takes no bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section;

const _: () = assert!(size_of::<Section>() == 0);

#[inline(always)]
pub(crate) fn allocated(_size: usize, _place: impl FnOnce() -> NonNull<u8>) {}

#[inline(always)]
pub(crate) fn allocated_nowait(_size: usize, _place: impl FnOnce() -> NonNull<u8>) {}

#[inline(always)]
pub(crate) fn freed(way: Way, _place: impl FnOnce() -> NonNull<u8>) {
    _ = way;
}

impl Section {
    #[inline(always)]
    pub(crate) fn inner() -> Self {
        Self
    }

    #[inline(always)]
    pub(crate) fn begin() -> Self {
        Self
    }

    #[inline(always)]
    pub(crate) fn end(self, flavour: Flavour) {
        _ = flavour;
    }
}
