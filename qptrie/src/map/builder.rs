//! Makes tries.

#[cfg(loom)]
use crate::fault::Fault;
use crate::fault::Faults;
use crate::map::settings::{Hints, Settings};
use crate::map::trie::QpTrie;
use crate::node::{LONGEST_KEY, MOST_BRANCH_BYTES, MOST_LEAF_BYTES, Nodes};
use memalloc::backing::Backing;
use memalloc::rcu::Domain;
use memalloc::{AfterRcuGp, BuildError, CpuMode, Immediate, MAX_SIZE, MemAlloc, ReusePolicy};
use std::marker::PhantomData;
use std::sync::Arc;

impl<V: Send + Sync + 'static> QpTrie<V> {
    /// Creates an empty trie on the global domain.
    ///
    /// It has the default policies, so that the compiler infers the type of the values from the
    /// first insertion. For other policies use [`with_policies`](Self::with_policies).
    ///
    /// ```
    /// use qptrie::QpTrie;
    ///
    /// let trie = QpTrie::new()?;
    /// trie.pin().insert("key", 1)?;
    /// assert_eq!(trie.pin().get("key"), Some(&1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`memalloc::Builder::build`].
    pub fn new() -> Result<Self, BuildError> {
        Self::with_policies()
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> QpTrie<V, B, L> {
    /// Creates an empty trie on the global domain, with the policies in its type.
    ///
    /// ```
    /// use memalloc::Immediate;
    /// use qptrie::QpTrie;
    ///
    /// let trie = QpTrie::<u64, Immediate, Immediate>::with_policies()?;
    /// trie.pin().insert_copied("key", 1)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`memalloc::Builder::build`].
    pub fn with_policies() -> Result<Self, BuildError> {
        Self::builder().build()
    }

    /// Returns a builder to configure a trie.
    pub fn builder() -> Builder<V, B, L> {
        Builder::new(None, Settings::default())
    }
}

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

    /// Sets the domain whose readers the trie waits for. Default: the global domain.
    pub fn domain(mut self, domain: Domain) -> Self {
        self.domain = Some(domain);
        self
    }

    /// Sets how a thread finds its allocator cache; see [`memalloc::Builder::cpu_mode`].
    pub fn cpu_mode(mut self, mode: CpuMode) -> Self {
        self.settings.cpu_mode = Some(mode);
        self
    }

    /// Sets the maximum number of entries. Default: unlimited. With a limit all threads share one
    /// entry count, so insertions of absent keys and removals by several threads bounce its cache
    /// line.
    pub fn max_entries(mut self, entries: u64) -> Self {
        self.settings.max_entries = entries;
        self
    }

    /// Sets the maximum key length, in bytes. Default and upper bound: what fits a leaf of 4096
    /// bytes beside the value.
    pub fn max_key_len(mut self, bytes: usize) -> Self {
        self.settings.max_key_len = bytes.min(LONGEST_KEY);
        self
    }

    /// Sets how often a lookup retries because branches changed under it before it *insists*: it
    /// then blocks changes to all keys with the same first byte until it is done. Default: 64.
    pub fn reader_retries(mut self, times: u32) -> Self {
        self.settings.reader_retries = times;
        self
    }

    /// Sets the maximum memory for branches, and the same maximum again for leaves, in bytes; see
    /// [`memalloc::Builder::limit_bytes`].
    ///
    /// Memory is taken in slabs of 64 KiB, each for nodes of one size. There are 17 sizes of
    /// branches, and more of leaves if keys have many lengths: with a limit below 2 MiB a few
    /// entries may be too many.
    pub fn limit_bytes(mut self, bytes: u64) -> Self {
        self.settings.limit_bytes = bytes;
        self
    }

    /// Sets how many bytes of replaced or removed leaves may be pending, that is, waiting for a
    /// grace period, and the same limit again for branches where their policy defers; see
    /// [`memalloc::Builder::max_pending`]. A change runs inside a read section, so above the limit
    /// the thread blocks only when its outermost section ends: when the view from [`QpTrie::pin`]
    /// is dropped.
    pub fn max_pending(mut self, bytes: u64) -> Self {
        self.settings.max_pending = Some(bytes);
        self
    }

    /// Sets the source of memory for branches and leaves; see [`memalloc::Builder::backing`].
    pub fn backing(mut self, backing: impl Backing + 'static) -> Self {
        self.settings.backing = Some(Arc::new(backing));
        self
    }

    /// Sets how much address space to reserve for branches, and the same amount again for leaves,
    /// in bytes. At most 16 GiB for branches and 32 GiB for leaves, the ranges that a twig can
    /// address; see [`memalloc::Builder::range_bytes`].
    pub fn range_bytes(mut self, bytes: u64) -> Self {
        self.settings.range_bytes = Some(bytes);
        self
    }

    /// Sets whether to request huge pages for branches and leaves; see
    /// [`memalloc::Builder::huge_pages`]. Default: off. Useful for large tries with random lookups.
    pub fn huge_pages(mut self, wanted: bool) -> Self {
        self.settings.huge_pages = wanted;
        self
    }

    /// Sets whether to keep *hints*: a table from the hash of a key to its leaf. Default: off.
    ///
    /// The promises of all operations stay the same: the leaf itself tells whether it is linked,
    /// and a lookup that the table does not answer walks the trie. The hash is keyed with random
    /// numbers, drawn for each trie.
    ///
    /// Costs:
    ///
    /// - The lookup of a present key reads two cache lines beside the key, instead of one for each
    ///   branch on the path. While most keys that are looked up are absent, lookups leave the hints
    ///   alone, and so do insertions while they insert absent keys.
    /// - A value is replaced without a walk from the root. If leaves are reused at once, it is
    ///   overwritten in place. Otherwise the new leaf goes into the slot of the branch that the old
    ///   leaf names as its parent: for about 13 of 16 key lengths, unless that branch was copied
    ///   since.
    /// - The table takes 5 to 11 bytes per entry, and 5 to 8 after [`QpTrie::quiesce`]. Its memory
    ///   comes from the global heap; from 2 MiB on from the system, with huge pages if it has any.
    ///   The table grows and shrinks while other threads read and write. While hints move to a
    ///   larger table (up to 16 of them for each key looked up, 32 for each change), the two take
    ///   up to 16 bytes per entry. If an allocation fails, there are fewer hints.
    /// - Memory of leaves and branches of one size class is never reused for another class, though
    ///   it is still returned to the system ([`memalloc::Builder::keep_class`]).
    ///
    /// Turn it on if most operations look up keys that are present, or replace their values. Leave
    /// it off if most operations insert or remove keys. The speed with hints divided by that
    /// without, one thread on a virtual machine, medians of 3 to 5 rounds; right after a million
    /// domains were inserted, most leaves name a branch that was copied since, so an update
    /// descends from the root:
    ///
    /// | operation | 121,000 symbols | 80,000 paths | 1,000,000 domains |
    /// |---|---|---|---|
    /// | lookup of a present key | 3.3 | 4.4 | 3.2 |
    /// | lookup, half of the keys absent | 1.3 | 1.35 | 1.1 |
    /// | lookup of an absent key | 0.96 | 0.99 | 0.99 |
    /// | update | 1.4 | 1.85 | 0.93 |
    /// | insertion | 0.89 | 0.89 | 0.83 |
    /// | removal | 0.86 | 0.89 | 0.89 |
    ///
    /// `bench-suite qp-trie --hints off,on --data file:PATH` measures your keys.
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

    /// Omits one step of the protocol, to show that the step is needed.
    #[cfg(loom)]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults = Faults::only(fault);
        self
    }

    /// Builds the trie.
    ///
    /// Values that are aligned to 4096 bytes or more fit no leaf. They are refused when the program
    /// is compiled:
    ///
    /// ```compile_fail,E0080
    /// #[repr(align(4096))]
    /// struct Page([u8; 4096]);
    /// let trie = qptrie::QpTrie::<Page>::builder().build();
    /// ```
    ///
    /// # Errors
    ///
    /// See [`memalloc::Builder::build`].
    pub fn build(self) -> Result<QpTrie<V, B, L>, BuildError> {
        const {
            assert!(align_of::<V>() < MAX_SIZE, "no leaf has room for a value with this alignment");
        }
        fn configured<P: ReusePolicy>(
            domain: &Domain,
            settings: &Settings,
            most_bytes: u64,
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
            builder.range_bytes(settings.range_bytes.unwrap_or(most_bytes).min(most_bytes))
        }
        let domain = self.domain.unwrap_or_else(default_domain);
        let nodes = Nodes::new(
            configured(&domain, &self.settings, MOST_BRANCH_BYTES),
            configured(&domain, &self.settings, MOST_LEAF_BYTES),
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
