//! Configures a trie.

use super::trie::QpTrie;
#[cfg(loom)]
use crate::fault::Fault;
use crate::fault::Faults;
use crate::node::{LONGEST_KEY, MOST_RANGE_BYTES, Nodes};
use memalloc::backing::Backing;
use memalloc::rcu::Domain;
use memalloc::{AfterRcuGp, BuildError, CpuMode, Immediate, MemAlloc, ReusePolicy};
use std::marker::PhantomData;
use std::sync::Arc;

/// Configures a [`QpTrie`].
///
/// ```
/// use qptrie::QpTrie;
///
/// let trie: QpTrie<u64> = QpTrie::builder().max_entries(1000).max_key_len(64).build()?;
/// # Ok::<(), memalloc::BuildError>(())
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct Builder<
    V: Send + Sync + 'static,
    B: ReusePolicy = Immediate,
    L: ReusePolicy = AfterRcuGp,
> {
    domain: Option<Domain>,
    settings: Settings,
    faults: Faults,
    values: PhantomData<fn() -> V>,
    policies: PhantomData<(B, L)>,
}

/// Whether a trie keeps hints ([`Builder::hints`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hints {
    /// It does not: every lookup goes from the root to a leaf.
    #[default]
    Off,
    /// It does: a lookup of a key that is there goes to the leaf at once.
    On,
}

/// What a trie was built with, beside its domain.
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

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> Builder<V, B, L> {
    pub(super) fn new(domain: Option<Domain>, settings: Settings) -> Self {
        Self {
            domain,
            settings,
            faults: Faults::default(),
            values: PhantomData,
            policies: PhantomData,
        }
    }

    /// The domain whose readers the trie waits for; without it, the global one.
    pub fn domain(mut self, domain: Domain) -> Self {
        self.domain = Some(domain);
        self
    }

    /// How a thread finds its allocator cache; see [`memalloc::Builder::cpu_mode`].
    pub fn cpu_mode(mut self, mode: CpuMode) -> Self {
        self.settings.cpu_mode = Some(mode);
        self
    }

    /// The most entries; without it, as many as memory holds. Changes then share one count: insertions of
    /// absent keys and removals by several threads bounce its cache line, which they do not without it.
    pub fn max_entries(mut self, entries: u64) -> Self {
        self.settings.max_entries = entries;
        self
    }

    /// The longest key, in bytes; at most, and without it, what a leaf of 4096 bytes holds
    /// beside the value.
    pub fn max_key_len(mut self, bytes: usize) -> Self {
        self.settings.max_key_len = bytes.min(LONGEST_KEY);
        self
    }

    /// How often a lookup starts again because branches changed under it, before it
    /// insists: no change is begun below its first byte until it is done. Without it, 64 times.
    pub fn reader_retries(mut self, times: u32) -> Self {
        self.settings.reader_retries = times;
        self
    }

    /// The most memory for branches, and as much again for leaves, in bytes; see
    /// [`memalloc::Builder::limit_bytes`].
    pub fn limit_bytes(mut self, bytes: u64) -> Self {
        self.settings.limit_bytes = bytes;
        self
    }

    /// The most bytes of leaves that may wait for a grace period after they were replaced or removed,
    /// and as much again of branches where their policy defers; see [`memalloc::Builder::max_pending`].
    /// A change is made inside a section, so the thread waits when its outermost section has ended: at
    /// the drop of what [`QpTrie::pin`] gave.
    pub fn max_pending(mut self, bytes: u64) -> Self {
        self.settings.max_pending = Some(bytes);
        self
    }

    /// Where the memory of branches and leaves comes from; see [`memalloc::Builder::backing`].
    pub fn backing(mut self, backing: impl Backing + 'static) -> Self {
        self.settings.backing = Some(Arc::new(backing));
        self
    }

    /// How much address space to reserve for branches, and as much again for leaves, in bytes, at most the
    /// 32 GiB that a twig reaches; see [`memalloc::Builder::range_bytes`].
    pub fn range_bytes(mut self, bytes: u64) -> Self {
        self.settings.range_bytes = Some(bytes);
        self
    }

    /// Whether to ask for huge pages behind branches and leaves; see
    /// [`memalloc::Builder::huge_pages`]. Off by default: for large tries that are looked up at random.
    pub fn huge_pages(mut self, wanted: bool) -> Self {
        self.settings.huge_pages = wanted;
        self
    }

    /// Whether to keep *hints*: a table from the hash of a key to its leaf. Off by default.
    ///
    /// With it a lookup of a key that is there costs two lines of the cache beside the key, in place of one
    /// for each branch on the way, and nothing of what operations promise changes: the leaf says for itself
    /// whether it is in the trie, and what the table does not answer is looked up as without it. A key that is
    /// absent costs a line more. Where leaves are reused at once, a value is overwritten without a way from
    /// the root. The hash is keyed, by numbers that the system makes up for each trie.
    ///
    /// The table takes 5 to 8 bytes an entry, from the global heap; it grows while others read and write, and
    /// shrinks in [`QpTrie::quiesce`]. Where there is no memory for it, there are fewer hints. Leaves of
    /// one size never make room for those of another, though their memory goes back to the system
    /// ([`memalloc::Builder::keep_class`]).
    ///
    /// ```
    /// use qptrie::{Hints, QpTrie};
    ///
    /// let trie: QpTrie<u64> = QpTrie::builder().hints(Hints::On).build()?;
    /// trie.pin().insert(b"key", 1)?;
    /// assert_eq!(trie.pin().get(b"key"), Some(&1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn hints(mut self, hints: Hints) -> Self {
        self.settings.hints = hints;
        self
    }

    /// Leaves a step of the protocol out, to show that it is needed.
    #[cfg(loom)]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults = Faults::only(fault);
        self
    }

    /// The trie.
    ///
    /// # Errors
    ///
    /// See [`memalloc::Builder::build`].
    pub fn build(self) -> Result<QpTrie<V, B, L>, BuildError> {
        fn configured<P: ReusePolicy>(
            domain: &Domain,
            settings: &Settings,
        ) -> memalloc::Builder<P> {
            let mut builder = MemAlloc::builder().domain(domain.clone());
            builder = builder.limit_bytes(settings.limit_bytes).huge_pages(settings.huge_pages);
            if let Some(mode) = settings.cpu_mode {
                builder = builder.cpu_mode(mode);
            }
            if let Some(bytes) = settings.max_pending {
                builder = builder.max_pending(bytes);
            }
            if let Some(backing) = &settings.backing {
                builder = builder.backing(backing.clone());
            }
            builder
                .range_bytes(settings.range_bytes.unwrap_or(MOST_RANGE_BYTES).min(MOST_RANGE_BYTES))
        }
        let domain = self.domain.unwrap_or_else(default_domain);
        let nodes = Nodes::new(
            configured(&domain, &self.settings),
            configured(&domain, &self.settings),
            self.settings.max_entries,
            self.settings.hints == Hints::On,
            self.faults,
        )?;
        Ok(QpTrie::from_parts(nodes, domain, self.settings))
    }
}

fn default_domain() -> Domain {
    #[cfg(not(loom))]
    return Domain::global().clone();
    #[cfg(loom)]
    Domain::new()
}
