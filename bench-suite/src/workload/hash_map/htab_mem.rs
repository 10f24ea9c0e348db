//! The bench `htab-mem`: the memory of a hash map while producers update it, modelled on the
//! kernel's bench of this name. `ops_per_s` counts operations; a loop of the kernel's bench is 64
//! of them.
//!
//! | case | a producer |
//! |---|---|
//! | `no-op` | iterates over its keys and does nothing: the cost of the loop |
//! | `overwrite` | sets the values of its keys |
//! | `batch-add-batch-del` | adds its keys, then deletes them |
//! | `add-del-on-diff-cpu` | adds its keys, which another thread deletes: two threads make a pair |

use super::map::{Map, Task};
use super::threads::{Plan, run};
use super::{Bench, ForMap, oversubscribed, subjects};
use crate::measure::{NoReadings, Reading, Sampler, Slice};
use crate::workload::reader::Reader;
use crate::workload::{Params, Selection, Workload, threads_in_words};

/// The name of the bench.
pub(crate) const BENCH: &str = "htab-mem";

/// The cases, in the order in which they run.
pub(crate) const CASES: &[&str] = &[NO_OP, OVERWRITE, BATCH, NEEDS_PAIRS];

const NO_OP: &str = "no-op";
const OVERWRITE: &str = "overwrite";
const BATCH: &str = "batch-add-batch-del";

/// The case with pairs of threads.
pub(crate) const NEEDS_PAIRS: &str = "add-del-on-diff-cpu";

/// The default sizes of values, in bytes.
pub(crate) const VALUE_SIZES: [usize; 5] = [8, 64, 256, 1024, 4096];

/// Explains how memory is counted.
pub(crate) const FOOTNOTE: &str = "\
Memory: for memalloc the growth of each sample's process, its threads' stacks
included; for the kernel the count of the memory controller for the map, or
without one only its live elements. The kernel's programs run inside read
sections, and may not stall in one.
";

/// Returns the workloads of the bench.
pub(crate) fn workloads<'d>(
    selection: &Selection,
    value_sizes: &[usize],
    readers: &[Reader],
    has_kernel: bool,
) -> Vec<Workload<'d>> {
    let make = |case, value_size, reader: Reader, threads| Workload {
        bench: BENCH,
        title: format!(
            "{case}, values of {value_size} bytes, {}, reader {reader}",
            threads_in_words(threads)
        ),
        keys: None,
        threads,
        share: reader.share(),
        looks_up_only: false,
        shortest: reader.shortest_sample(),
        subjects: subjects(Setting { case, value_size, reader, threads }, selection, has_kernel),
    };
    selection.workloads(CASES, NEEDS_PAIRS, value_sizes, readers, make)
}

/// One case with its parameters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) case: &'static str,
    pub(super) value_size: usize,
    pub(super) reader: Reader,
    pub(super) threads: usize,
}

impl Setting {
    pub(super) fn plan(self) -> Plan {
        let task = match self.case {
            NO_OP => Task::NoOp,
            OVERWRITE => Task::Overwrite,
            BATCH => Task::AddAndDelete,
            _ => Task::Add,
        };
        let Self { value_size, reader, threads, .. } = self;
        Plan { task, threads, value_size, reader }
    }
}

impl Bench for Setting {
    fn sampler<'d, M: Map + 'd>(self) -> Box<dyn Sampler + 'd> {
        Box::new(ForMap::<_, M>::new(self))
    }

    fn params(self) -> Params {
        let mut params = Params::new();
        params.insert("value_size".into(), self.value_size.into());
        params.insert("reader".into(), self.reader.to_string().into());
        let many = oversubscribed(self.threads, self.reader);
        params.insert("oversubscribed".into(), many.into());
        params
    }

    fn reader(self) -> Reader {
        self.reader
    }
}

impl<M: Map> Sampler for ForMap<Setting, M> {
    /// All checks are part of the samples.
    fn rehearse(&mut self) -> Result<(), NoReadings> {
        Ok(())
    }

    fn sample(&mut self, slice: Slice) -> Result<Vec<Reading>, NoReadings> {
        let Setting { case, reader, .. } = self.setting;
        Ok(run::<M>(self.setting.plan(), slice)?.readings(case, reader))
    }
}
