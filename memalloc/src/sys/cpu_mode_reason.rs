//! The reason that an allocator has its CPU mode.

use std::fmt;

/// The reason that an allocator has its [`CpuMode`](crate::CpuMode).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CpuModeReason {
    /// [`Builder::cpu_mode`](crate::Builder::cpu_mode) asked for it.
    Requested,
    /// The environment variable `MEMALLOC_CPU_MODE` asks for it.
    Environment,
    /// It is the fastest of all modes.
    Fastest,
    /// There are no restartable sequences in a build for this system: they need Linux on x86_64.
    NotForThisSystem,
    /// The C library has registered no area for restartable sequences: it is not glibc 2.35 or
    /// newer, is linked statically, or was told not to (`GLIBC_TUNABLES=glibc.pthread.rseq=0`).
    NoRseqArea,
    /// The kernel refuses the `membarrier` that restarts the sequences of other threads. A filter
    /// of system calls, or an older kernel, does that.
    NoRseqBarrier,
    /// The kernel does not tell how many CPUs there can be (`sched_getaffinity`).
    UnknownCpus,
    /// The system does not tell a thread the number of its CPU.
    NoCpuNumber,
}

impl fmt::Display for CpuModeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Requested => "requested",
            Self::Environment => "MEMALLOC_CPU_MODE",
            Self::Fastest => "the fastest",
            Self::NotForThisSystem => "rseq: only on Linux on x86_64",
            Self::NoRseqArea => "rseq: not registered by the C library",
            Self::NoRseqBarrier => "rseq: membarrier refused",
            Self::UnknownCpus => "rseq: number of CPUs unknown",
            Self::NoCpuNumber => "no CPU numbers",
        })
    }
}
