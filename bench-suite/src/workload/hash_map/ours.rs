//! This project's hash table, on any memory for its elements.

use std::sync::Arc;

use hash_table::{ElementMemory, HashTable, OneByOne, Shape};
use memalloc::rcu::{Domain, LocalReader};
use memalloc::{Immediate, MemAlloc, ReusePolicy};

use super::map::{Keys, MAX_ENTRIES, Map, Session, Task, compare, wrong_value};
use crate::measure::{CutOff, NoReadings, WrongAnswer};

/// The way elements are freed.
pub(super) trait Elements: Sized {
    /// The memory of the table's elements.
    type Memory: ElementMemory;

    /// Builds an allocator for the shape, on a separate domain, and memory on it.
    fn build(shape: Shape) -> Result<(Self, Self::Memory), NoReadings>;

    /// Checks that all elements are free, after the table was dropped.
    fn close(self) -> Result<(), WrongAnswer>;
}

/// Frees through the allocator, in batches.
pub(super) struct InBatches<P: ReusePolicy>(Arc<MemAlloc<P>>);

/// The table under a policy.
pub(super) type Batched<P> = Table<InBatches<P>>;

impl<P: ReusePolicy> Elements for InBatches<P> {
    type Memory = Arc<MemAlloc<P>>;

    fn build(shape: Shape) -> Result<(Self, Self::Memory), NoReadings> {
        let memory = allocator(shape)?;
        Ok((Self(Arc::clone(&memory)), memory))
    }

    fn close(self) -> Result<(), WrongAnswer> {
        destroy(self.0)
    }
}

/// Frees by one RCU callback per element, after a tasks-trace callback if readers may sleep.
pub(super) struct ByCallbacks<const SLEEPABLE: bool>(Arc<MemAlloc<Immediate>>);

/// The table with callbacks.
pub(super) type Callbacks<const SLEEPABLE: bool> = Table<ByCallbacks<SLEEPABLE>>;

impl<const SLEEPABLE: bool> Elements for ByCallbacks<SLEEPABLE> {
    type Memory = OneByOne;

    fn build(shape: Shape) -> Result<(Self, OneByOne), NoReadings> {
        let memory = allocator(shape)?;
        let one_by_one =
            if SLEEPABLE { OneByOne::after_tasks_trace_gp } else { OneByOne::after_rcu_gp };
        let elements = one_by_one(Arc::clone(&memory));
        Ok((Self(memory), elements))
    }

    fn close(self) -> Result<(), WrongAnswer> {
        let domain = self.0.domain();
        let waited = domain.trace().barrier().and_then(|()| domain.rcu().barrier());
        waited.map_err(|error| WrongAnswer(format!("waiting for callbacks failed: {error}")))?;
        destroy(self.0)
    }
}

/// Builds an allocator for a shape, on a separate domain: readers of other domains do not delay its
/// objects.
pub(super) fn allocator<P: ReusePolicy>(shape: Shape) -> Result<Arc<MemAlloc<P>>, NoReadings> {
    let builder = shape.configure(MemAlloc::builder().domain(Domain::new()));
    let built = builder.build();
    built.map(Arc::new).map_err(|error| CutOff::refused("building an allocator", error).into())
}

fn destroy<P: ReusePolicy>(memory: Arc<MemAlloc<P>>) -> Result<(), WrongAnswer> {
    let memory = Arc::into_inner(memory)
        .ok_or_else(|| WrongAnswer("a callback has not run after a barrier".into()))?;
    match memory.destroy() {
        Ok(_) => Ok(()),
        Err(leak) => Err(WrongAnswer(format!("after everything was freed: {leak}"))),
    }
}

/// The table.
pub(super) struct Table<E: Elements> {
    table: HashTable<E::Memory>,
    elements: E,
    tasks: Vec<Task>,
}

/// The per-thread handle.
pub(super) struct TableSession<'m, M: ElementMemory> {
    table: &'m HashTable<M>,
    task: Task,
    /// Set in the first section.
    reader: Option<LocalReader<'m>>,
    /// A value of the right length, to write from or to read into.
    value: Vec<u64>,
}

impl<E: Elements + Sync> Map for Table<E> {
    type Session<'m>
        = TableSession<'m, E::Memory>
    where
        Self: 'm;

    fn build(tasks: &[Task], value_size: usize) -> Result<Self, NoReadings> {
        let shape = Shape::new(MAX_ENTRIES as usize, value_size / 8)
            .map_err(|error| WrongAnswer(error.to_string()))?;
        let (elements, memory) = E::build(shape)?;
        Ok(Self { table: HashTable::new(shape, memory), elements, tasks: tasks.to_vec() })
    }

    fn session(&self, thread: usize) -> TableSession<'_, E::Memory> {
        let value = vec![0; self.table.shape().words()];
        TableSession { table: &self.table, task: self.tasks[thread], reader: None, value }
    }

    fn close(self, keys: &[u32]) -> Result<(), WrongAnswer> {
        let mut session = self.session(0);
        let found: Vec<u32> = (0..MAX_ENTRIES)
            .filter_map(|key| session.look(key).map(|there| there.then_some(key)).transpose())
            .collect::<Result<_, _>>()?;
        drop(session);
        compare(&found, keys)?;
        if self.table.len() != keys.len() {
            return Err(WrongAnswer("a key is in the table twice".into()));
        }
        drop(self.table);
        self.elements.close()
    }
}

impl<M: ElementMemory> TableSession<'_, M> {
    #[inline]
    fn update(&mut self, key: u32) -> Result<bool, WrongAnswer> {
        self.value[0] = key.into();
        let updated = self.table.update(key, &self.value);
        updated.map_err(|error| WrongAnswer(format!("an update failed: {error}")))
    }

    fn add(&mut self, keys: Keys) -> Result<(), WrongAnswer> {
        for key in keys.iter() {
            if self.update(key)? {
                return Err(WrongAnswer(format!("key {key} was added and was there")));
            }
        }
        Ok(())
    }

    #[inline]
    fn remove(&self, key: u32) -> Result<(), WrongAnswer> {
        match self.table.remove(key) {
            true => Ok(()),
            false => Err(WrongAnswer(format!("key {key} was deleted and was not there"))),
        }
    }

    fn delete(&self, keys: Keys) -> Result<(), WrongAnswer> {
        keys.iter().try_for_each(|key| self.remove(key))
    }

    /// Looks up a key, in a separate section, and checks its value.
    #[inline]
    fn look(&mut self, key: u32) -> Result<bool, WrongAnswer> {
        let table = self.table;
        let guard = self.reader.get_or_insert_with(|| table.domain().local()).pin();
        let is_there = table.get(&guard, key, &mut self.value);
        match self.value[0] == u64::from(key) || !is_there {
            true => Ok(is_there),
            false => Err(wrong_value(key, self.value[0])),
        }
    }

    fn run_loop(&mut self, keys: Keys) -> Result<(), WrongAnswer> {
        match self.task {
            Task::NoOp => _ = keys.iter().map(std::hint::black_box).last(),
            Task::Overwrite => {
                for key in keys.iter() {
                    self.update(key)?;
                }
            }
            Task::AddAndDelete => {
                self.add(keys)?;
                self.delete(keys)?;
            }
            Task::Add => self.add(keys)?,
            Task::Delete => self.delete(keys)?,
            Task::UpdateAndDelete => {
                for key in keys.iter() {
                    self.update(key)?;
                    if !self.look(key)? {
                        return Err(WrongAnswer(format!("key {key} was set and is not there")));
                    }
                    self.remove(key)?;
                }
            }
            Task::Read => {
                for key in keys.iter() {
                    self.look(key)?;
                }
            }
        }
        Ok(())
    }
}

impl<M: ElementMemory> Session for TableSession<'_, M> {
    #[inline]
    fn run(&mut self, keys: Keys) -> Result<(), WrongAnswer> {
        (0..self.task.loops()).try_for_each(|_| self.run_loop(keys))
    }

    fn sit(&mut self, key: u32, meanwhile: impl FnOnce()) -> Result<(), WrongAnswer> {
        let table = self.table;
        let section = table.domain().pin();
        let first = self.look(key);
        meanwhile();
        let second = self.look(key);
        drop(section);
        first.and(second).map(|_| ())
    }
}
