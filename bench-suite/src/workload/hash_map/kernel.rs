//! The kernel's hash map, driven by BPF programs.

use super::map::{Keys, MAX_ENTRIES, Map, Session, Task, compare, wrong_value};
use crate::bpf::{HashMap, Loops, MemoryGroup, Refused, Step};
use crate::measure::{NoReadings, WrongAnswer};

/// A map whose elements are preallocated (`PREALLOC`), or allocated one by one from the kernel's
/// allocator.
pub(super) struct Kernel<const PREALLOC: bool> {
    map: HashMap,
    /// One program per thread.
    programs: Vec<(Task, Loops)>,
    /// The memory controller group of the map; dropped after it.
    group: Option<MemoryGroup>,
}

fn failed(refused: Refused) -> WrongAnswer {
    WrongAnswer(refused.to_string())
}

fn program(map: &HashMap, task: Task) -> Result<(Task, Loops), WrongAnswer> {
    let loops: &[&[Step]] = match task {
        Task::NoOp => &[&[]],
        Task::Overwrite => &[&[Step::Update]],
        Task::AddAndDelete => &[&[Step::Add], &[Step::Delete]],
        Task::Add => &[&[Step::Add]],
        Task::Delete => &[&[Step::Delete]],
        Task::UpdateAndDelete => &[&[Step::Update, Step::LookUp, Step::Delete]],
        Task::Read => &[&[Step::LookUp]],
    };
    let program = Loops::load_loops(map, loops, task.loops() as i32).map_err(failed)?;
    Ok((task, program))
}

impl<const PREALLOC: bool> Map for Kernel<PREALLOC> {
    type Session<'m> = &'m (Task, Loops);

    const IS_INSIDE: bool = false;

    fn build(tasks: &[Task], value_size: usize) -> Result<Self, NoReadings> {
        let create = || HashMap::create(value_size, MAX_ENTRIES, PREALLOC);
        let (map, group) = MemoryGroup::around(create);
        let map = map.map_err(failed)?;
        let programs = tasks.iter().map(|&task| program(&map, task)).collect::<Result<_, _>>()?;
        Ok(Self { map, programs, group })
    }

    fn session(&self, thread: usize) -> &(Task, Loops) {
        &self.programs[thread]
    }

    fn held_outside(&self) -> Option<u64> {
        self.group.as_ref().and_then(MemoryGroup::bytes).or_else(|| self.map.live_bytes())
    }

    fn peak_outside(&self) -> Option<u64> {
        self.group.as_ref()?.peak()
    }

    fn close(self, keys: &[u32]) -> Result<(), WrongAnswer> {
        compare(&self.map.sorted_keys().map_err(failed)?, keys)?;
        for &key in keys {
            match self.map.stamp(key).map_err(failed)? {
                Some(stamp) if stamp == u64::from(key) => {}
                stamp => return Err(wrong_value(key, stamp.unwrap_or_default())),
            }
        }
        Ok(())
    }
}

impl Session for &(Task, Loops) {
    fn run(&mut self, keys: Keys) -> Result<(), WrongAnswer> {
        let (task, program) = self;
        match program.run(keys.from, keys.step).map_err(failed)? {
            failures if failures > 0 && *task != Task::Read => {
                Err(WrongAnswer(format!("{failures} operations of a run failed")))
            }
            _ => Ok(()),
        }
    }

    /// A program may not stall: this is never called with a stalled reader.
    fn sit(&mut self, _key: u32, meanwhile: impl FnOnce()) -> Result<(), WrongAnswer> {
        meanwhile();
        Ok(())
    }
}
