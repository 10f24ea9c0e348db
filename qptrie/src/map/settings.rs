//! The settings of a trie.

use crate::node::LONGEST_KEY;
use memalloc::CpuMode;
use memalloc::backing::Backing;
use std::sync::Arc;

/// Selects whether a trie keeps hints: a table from the hash of a key to its leaf
/// ([`Builder::hints`](crate::Builder::hints)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hints {
    /// No hints: every lookup walks from the root to a leaf.
    #[default]
    Off,
    /// Hints: the lookup of a present key usually goes directly to its leaf.
    On,
}

/// The settings of a trie, without its domain.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) cpu_mode: Option<CpuMode>,
    pub(super) max_entries: u64,
    pub(super) max_key_len: usize,
    pub(super) reader_retries: u32,
    pub(super) limit_bytes: u64,
    pub(super) max_pending: Option<u64>,
    pub(super) backing: Option<Arc<dyn Backing>>,
    pub(super) range_bytes: Option<u64>,
    pub(super) huge_pages: bool,
    pub(super) hints: Hints,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cpu_mode: None,
            max_entries: u64::MAX,
            max_key_len: LONGEST_KEY,
            reader_retries: if cfg!(loom) { 2 } else { 64 },
            limit_bytes: u64::MAX,
            max_pending: None,
            backing: None,
            range_bytes: None,
            huge_pages: false,
            hints: Hints::Off,
        }
    }
}
