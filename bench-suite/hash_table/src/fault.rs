//! Checks that a model can omit, to show that they are needed. In any other build, every question
//! below is answered "no" at compile time.

/// An omitted check.
#[cfg(loom)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A lookup does not check the bucket of the marker that it reached.
    MarkerUnchecked,
    /// A lookup does not read the head again.
    HeadNotReread,
    /// A lookup does not read the version again.
    VersionNotReread,
    /// A writer fills an element without a fence after its odd version.
    FenceMissing,
    /// A writer unlinks with a Relaxed store.
    RelaxedUnlink,
    /// The version is even before the element is linked.
    EvenTooSoon,
}

/// The checks that a table omits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    #[cfg(loom)]
    pub(crate) fault: Option<Fault>,
}

macro_rules! questions {
    ($($question:ident => $fault:ident;)*) => {
        impl Faults {
            $(
                #[inline(always)]
                pub(crate) fn $question(self) -> bool {
                    #[cfg(loom)]
                    return self.fault == Some(Fault::$fault);
                    #[cfg(not(loom))]
                    false
                }
            )*
        }
    };
}

questions! {
    marker_unchecked => MarkerUnchecked;
    head_not_reread => HeadNotReread;
    version_not_reread => VersionNotReread;
    fence_missing => FenceMissing;
    relaxed_unlink => RelaxedUnlink;
    even_too_soon => EvenTooSoon;
}
