//! Caches that keep what they have: one for each CPU, as large as memory, kept coherent line by line
//! as real ones are (MESI). A line that is missing here because another CPU wrote it, or that has to
//! be taken away from others to be written, *moves*: that is communication, and all that is counted.
//! A line that nobody else ever wrote is not.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Bytes of a line.
pub(crate) const LINE: usize = 64;

/// The most CPUs there can be.
pub(crate) const MOST_CPUS: usize = 192;

/// Some CPUs.
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

    fn have(&self, cpu: usize) -> bool {
        self.0[cpu / 64] & 1 << (cpu % 64) != 0
    }

    fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

/// A line, wherever it is.
#[derive(Default)]
struct Line {
    /// The CPUs that have the newest contents.
    holders: Cpus,
    /// The CPU that wrote last, if any did.
    writer: Option<usize>,
    /// The bytes that it wrote since it took the line from others, a bit for each.
    written: u64,
}

/// What an access to a line did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    /// The line came from another CPU, or was taken away from one.
    pub(crate) moved: bool,
    /// The bytes that the access is about are none of those that the other CPU wrote.
    pub(crate) for_nothing: bool,
    /// So many CPUs lost it.
    pub(crate) lost_by: u32,
}

impl Line {
    fn access(&mut self, cpu: usize, writes: bool, bytes: u64) -> Effect {
        let had = self.holders.have(cpu);
        if had && !writes {
            return Effect::default();
        }
        let other_wrote = self.writer.is_some_and(|writer| writer != cpu);
        let for_nothing = !had && other_wrote && self.written & bytes == 0;
        if !writes {
            self.holders.add(cpu);
            return Effect { moved: other_wrote, for_nothing, lost_by: 0 };
        }
        let others = self.holders.without(cpu);
        let lost_by = others.count();
        if lost_by == 0 && self.writer == Some(cpu) {
            self.written |= bytes;
        } else {
            self.written = bytes;
        }
        (self.holders, self.writer) = (Cpus::only(cpu), Some(cpu));
        Effect { moved: lost_by > 0, for_nothing, lost_by }
    }
}

/// Spreads the numbers of lines, which are even enough for a multiplication.
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

/// Every line that was ever touched.
#[derive(Default)]
pub(crate) struct Caches {
    lines: HashMap<usize, Line, BuildHasherDefault<LineNumber>>,
}

impl Caches {
    /// What an access does, line by line.
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
    fn what_one_cpu_has_for_itself_never_moves() {
        let own = effects(&[(0, 0, LOAD), (0, 0, STORE), (0, 8, STORE), (1, 64, STORE)]);
        assert_eq!(own, [Effect::default(); 4]);
    }

    #[test]
    fn what_nobody_writes_is_had_by_all() {
        assert_eq!(effects(&[(0, 0, LOAD), (1, 0, LOAD), (2, 8, LOAD)]), [Effect::default(); 3]);
    }

    #[test]
    fn what_another_cpu_wrote_moves_once_for_each_that_reads_it() {
        let moved = Effect { moved: true, ..Effect::default() };
        let all = effects(&[(0, 0, STORE), (1, 0, LOAD), (1, 0, LOAD), (2, 0, LOAD)]);
        assert_eq!(all, [Effect::default(), moved, Effect::default(), moved]);
    }

    #[test]
    fn a_write_takes_the_line_from_every_other_cpu() {
        let all = effects(&[(0, 0, STORE), (1, 0, LOAD), (2, 0, LOAD), (0, 0, STORE)]);
        assert_eq!(all[3], Effect { moved: true, for_nothing: false, lost_by: 2 });
    }

    #[test]
    fn neighbours_in_a_line_that_do_not_use_the_same_bytes_are_told_apart() {
        let all = effects(&[(0, 0, STORE), (1, 8, STORE), (0, 0, LOAD)]);
        let neighbour = Effect { moved: true, for_nothing: true, lost_by: 1 };
        assert_eq!(all[1..], [neighbour, Effect { lost_by: 0, ..neighbour }]);
    }

    #[test]
    fn an_access_across_two_lines_touches_both() {
        assert_eq!(
            effects(&[(0, 60, STORE), (1, 60, LOAD)]).iter().filter(|it| it.moved).count(),
            2
        );
    }
}
