//! Shared by the tests: every configuration that this system supports, the tree that a set of keys
//! must lead to, and keys that are close together.
#![allow(dead_code, unused_imports, unused_macros, reason = "each test file uses its part")]

pub(crate) mod keys;
pub(crate) mod reference;

use memalloc::rcu::{BarrierKind, Domain};
use memalloc::{CpuMode, ReusePolicy};
use qptrie::{Builder, QpTrie};

/// The CPU mode of an allocator and the barrier kind of a domain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) cpu_mode: CpuMode,
    pub(crate) barrier: BarrierKind,
}

impl Setup {
    /// Returns every combination that this system supports.
    pub(crate) fn every() -> impl Iterator<Item = Self> {
        let modes = CpuMode::ALL.iter().filter(|mode| mode.is_supported());
        modes.flat_map(|&cpu_mode| {
            let kinds = BarrierKind::ALL.iter().filter(|kind| kind.is_supported());
            kinds.map(move |&barrier| Self { cpu_mode, barrier })
        })
    }

    pub(crate) fn domain(self) -> Domain {
        Domain::builder()
            .barrier_kind(self.barrier)
            .build()
            .expect("only supported kinds are listed")
    }

    /// Returns the builder of a trie on a new domain.
    pub(crate) fn builder<V: Send + Sync + 'static, B: ReusePolicy>(self) -> Builder<V, B> {
        QpTrie::builder().cpu_mode(self.cpu_mode).domain(self.domain())
    }

    pub(crate) fn trie<V: Send + Sync + 'static, B: ReusePolicy>(self) -> QpTrie<V, B> {
        self.builder().build().expect("a trie")
    }
}

/// Keeps the calling thread on its current CPU. With a limit on memory, an allocation may fail
/// while free objects are in the cache of a CPU that the thread has left.
pub(crate) fn stay_on_this_cpu() {
    #[cfg(target_os = "linux")]
    // SAFETY: a set of CPUs is plain bits, and all zeros is the empty set; the calls read no more
    // than its size. If the call fails, the thread may still move.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if let Ok(cpu) = usize::try_from(libc::sched_getcpu()) {
            libc::CPU_SET(cpu, &mut set);
            libc::sched_setaffinity(0, size_of_val(&set), &raw const set);
        }
    }
}

/// Prints the configuration in which a test failed.
pub(crate) struct Announce(pub(crate) Setup, pub(crate) memalloc::PolicyKind);

impl Drop for Announce {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with branches {} and {:?}", self.1, self.0);
        }
    }
}

/// `in_every_setup![claim, …]`, where `claim` is `fn claim<B: ReusePolicy>(setup: Setup)`, makes
/// each claim a test that runs with every policy of branches, CPU mode and barrier kind.
macro_rules! in_every_setup {
    ($($claim:ident),+ $(,)?) => {
        mod in_every_setup {
            $(
                #[test]
                fn $claim() {
                    for setup in $crate::common::Setup::every() {
                        $crate::common::in_every_setup!(@ $claim setup Immediate AfterRcuGp);
                    }
                }
            )+
        }
    };
    (@ $claim:ident $setup:ident $($policy:ident)+) => {
        $({
            type Policy = memalloc::$policy;
            let kind = <Policy as memalloc::ReusePolicy>::KIND;
            let _announce = $crate::common::Announce($setup, kind);
            super::$claim::<Policy>($setup);
        })+
    };
}
pub(crate) use in_every_setup;
