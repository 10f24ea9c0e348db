//! What the tests share: every configuration that this system has, the tree that a set of keys
//! must lead to, and keys that lie close together.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod keys;
pub(crate) mod reference;

use memalloc::rcu::{BarrierKind, Domain};
use memalloc::{CpuMode, ReusePolicy};
use qptrie::{Builder, QpTrie};

/// How an allocator finds its caches, and how a domain orders readers and writers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) cpu_mode: CpuMode,
    pub(crate) barrier: BarrierKind,
}

impl Setup {
    /// Every combination that this system supports.
    pub(crate) fn every() -> impl Iterator<Item = Self> {
        let modes = CpuMode::ALL.iter().filter(|mode| mode.is_supported());
        modes.flat_map(|&cpu_mode| {
            let kinds = BarrierKind::ALL.iter().filter(|kind| kind.is_supported());
            kinds.map(move |&barrier| Self { cpu_mode, barrier })
        })
    }

    pub(crate) fn domain(self) -> Domain {
        Domain::builder().barrier(self.barrier).build().expect("only supported kinds are listed")
    }

    /// The builder of a trie on a domain of its own.
    pub(crate) fn builder<V: Send + Sync + 'static, B: ReusePolicy>(self) -> Builder<V, B> {
        QpTrie::builder().cpu_mode(self.cpu_mode).domain(self.domain())
    }

    pub(crate) fn trie<V: Send + Sync + 'static, B: ReusePolicy>(self) -> QpTrie<V, B> {
        self.builder().build().expect("a trie")
    }
}

/// Keeps the calling thread on its present CPU. With a limit on memory, an allocation may fail
/// while free objects lie in the cache of a CPU that the thread has left.
pub(crate) fn stay_on_this_cpu() {
    #[cfg(target_os = "linux")]
    // SAFETY: a set of CPUs is plain bits, and all zero is the empty one; the calls read it
    // within its size. A refusal leaves the thread where it may run.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if let Ok(cpu) = usize::try_from(libc::sched_getcpu()) {
            libc::CPU_SET(cpu, &mut set);
            libc::sched_setaffinity(0, size_of_val(&set), &raw const set);
        }
    }
}

/// Says which configuration a test was in when it failed.
pub(crate) struct Announce(pub(crate) Setup, pub(crate) memalloc::PolicyKind);

impl Drop for Announce {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with branches {} and {:?}", self.1, self.0);
        }
    }
}

/// `in_every_setup![claim, …]`, where `claim` is `fn claim<B: ReusePolicy>(setup: Setup)`, makes
/// each a test that runs over every policy of branches, CPU mode and barrier kind.
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
