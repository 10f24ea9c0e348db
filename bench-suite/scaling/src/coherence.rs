//! Simulated caches: one of unlimited size for each CPU, kept coherent line by line (MESI).
//!
//! A line *moves* when a CPU reads it after another CPU wrote it, or when a write invalidates
//! copies in other caches. This is communication, and only this is counted. Reading a line that no
//! other CPU ever wrote is not counted.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// The size of a cache line, in bytes.
pub(crate) const LINE: usize = 64;

/// The largest number of CPUs of a machine.
pub(crate) const MOST_CPUS: usize = 192;

/// A set of CPUs.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Cpus([u64; MOST_CPUS / 64]);

impl Cpus {
    fn only(cpu: usize) -> Self {
        let mut cpus = Self::default();
        cpus.add(cpu);
        cpus
    }

    fn add(&mut self, cpu: usize) {
        self.0[cpu / 64] |= 1 << (cpu % 64);
    }

    fn without(mut self, cpu: usize) -> Self {
        self.0[cpu / 64] &= !(1 << (cpu % 64));
        self
    }

    fn contains(&self, cpu: usize) -> bool {
        self.0[cpu / 64] & 1 << (cpu % 64) != 0
    }

    fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

/// The state of one cache line in all caches.
#[derive(Default)]
struct Line {
    /// The CPUs whose copy is valid.
    holders: Cpus,
    /// The CPU that wrote last, if any.
    writer: Option<usize>,
    /// The bytes that it has written since it became the only holder, one bit for each.
    written: u64,
}

/// The effect of one access on one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    /// The line came from another CPU, or copies in other caches were invalidated.
    pub(crate) moved: bool,
    /// The line moved although the access touches none of the bytes that the other CPU wrote.
    pub(crate) false_sharing: bool,
    /// The number of other CPUs whose copies were invalidated.
    pub(crate) invalidated: u32,
}

impl Line {
    /// Applies an access of `cpu` to the bytes of the mask `bytes`.
    fn access(&mut self, cpu: usize, writes: bool, bytes: u64) -> Effect {
        let had = self.holders.contains(cpu);
        if had && !writes {
            return Effect::default();
        }
        let other_wrote = self.writer.is_some_and(|writer| writer != cpu);
        let false_sharing = !had && other_wrote && self.written & bytes == 0;
        if !writes {
            self.holders.add(cpu);
            return Effect { moved: other_wrote, false_sharing, invalidated: 0 };
        }
        let others = self.holders.without(cpu);
        let invalidated = others.count();
        if invalidated == 0 && self.writer == Some(cpu) {
            self.written |= bytes;
        } else {
            self.written = bytes;
        }
        (self.holders, self.writer) = (Cpus::only(cpu), Some(cpu));
        Effect { moved: invalidated > 0, false_sharing, invalidated }
    }
}

/// Hashes line numbers with one multiplication, which spreads them well enough.
#[derive(Default)]
struct LineNumber(u64);

impl Hasher for LineNumber {
    fn write(&mut self, _: &[u8]) {
        unreachable!("lines are numbers");
    }

    fn write_usize(&mut self, number: usize) {
        self.0 = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The caches of all CPUs: the state of every line accessed so far.
#[derive(Default)]
pub(crate) struct Caches {
    lines: HashMap<usize, Line, BuildHasherDefault<LineNumber>>,
}

impl Caches {
    /// Applies an access and passes its effect on each of its lines to `effect`.
    pub(crate) fn access(
        &mut self,
        cpu: usize,
        address: usize,
        bytes: usize,
        writes: bool,
        mut effect: impl FnMut(Effect),
    ) {
        let (mut at, end) = (address, address + bytes);
        while at < end {
            let (first, next) = (at % LINE, (at / LINE + 1) * LINE);
            let count = next.min(end) - at;
            let mask = if count == LINE { !0 } else { ((1 << count) - 1) << first };
            let line = self.lines.entry(at / LINE).or_default();
            effect(line.access(cpu, writes, mask));
            at = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: bool = false;
    const STORE: bool = true;

    fn effects(accesses: &[(usize, usize, bool)]) -> Vec<Effect> {
        let mut caches = Caches::default();
        let mut effects = Vec::new();
        for &(cpu, address, writes) in accesses {
            caches.access(cpu, address, 8, writes, |effect| effects.push(effect));
        }
        effects
    }

    #[test]
    fn a_line_of_one_cpu_never_moves() {
        let own = effects(&[(0, 0, LOAD), (0, 0, STORE), (0, 8, STORE), (1, 64, STORE)]);
        assert_eq!(own, [Effect::default(); 4]);
    }

    #[test]
    fn a_line_that_is_only_read_never_moves() {
        assert_eq!(effects(&[(0, 0, LOAD), (1, 0, LOAD), (2, 8, LOAD)]), [Effect::default(); 3]);
    }

    #[test]
    fn a_written_line_moves_once_to_each_reader() {
        let moved = Effect { moved: true, ..Effect::default() };
        let all = effects(&[(0, 0, STORE), (1, 0, LOAD), (1, 0, LOAD), (2, 0, LOAD)]);
        assert_eq!(all, [Effect::default(), moved, Effect::default(), moved]);
    }

    #[test]
    fn a_write_invalidates_every_other_copy() {
        let all = effects(&[(0, 0, STORE), (1, 0, LOAD), (2, 0, LOAD), (0, 0, STORE)]);
        assert_eq!(all[3], Effect { moved: true, false_sharing: false, invalidated: 2 });
    }

    #[test]
    fn accesses_to_other_bytes_of_a_line_are_false_sharing() {
        let all = effects(&[(0, 0, STORE), (1, 8, STORE), (0, 0, LOAD)]);
        let neighbour = Effect { moved: true, false_sharing: true, invalidated: 1 };
        assert_eq!(all[1..], [neighbour, Effect { invalidated: 0, ..neighbour }]);
    }

    #[test]
    fn an_access_across_two_lines_touches_both() {
        assert_eq!(
            effects(&[(0, 60, STORE), (1, 60, LOAD)]).iter().filter(|it| it.moved).count(),
            2
        );
    }
}
