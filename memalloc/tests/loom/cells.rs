//! A value that is replaced while others load it.

use crate::explore::Model;
use crate::pair::{Plain, beside};
use memalloc::rcu::Domain;
use memalloc::{AfterRcuGp, AfterTasksTraceGp, Cache, ProtectsIdentity, RcuCell};
use std::sync::Arc;

/// A value whose memory is plain, and whose drop writes to it.
struct Value {
    number: u32,
    memory: Plain,
}

impl Value {
    fn new(number: u32) -> Self {
        let memory = Plain::default();
        memory.increment();
        Self { number, memory }
    }

    /// Reads the memory, which must be written, and not dropped.
    fn read(&self) -> u32 {
        assert_eq!(self.memory.read(), 1, "of another life");
        self.number
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.memory.increment();
    }
}

fn cell<P: ProtectsIdentity>() -> Arc<RcuCell<Value, P>> {
    let cache = Cache::<Value, P>::builder().domain(Domain::new()).build().expect("a cache");
    Arc::new(RcuCell::new_in(Value::new(1), Arc::new(cache)).expect("an object"))
}

/// A reader loads twice in one section while the value is replaced, and the object of the first
/// would be used again: what it found stays whole, and does not go back.
#[test]
fn a_loaded_value_stays_beside_a_store() {
    let model = Model {
        name: "a_loaded_value_stays_beside_a_store",
        bound: Some(2),
        least: 100,
        happens: &["the first", "the second", "both", "dropped beside the reader"],
    };
    model.explore(|seen| {
        let cell = cell::<AfterRcuGp>();
        let there = cell.clone();
        let read = move || {
            let guard = there.domain().pin();
            let values = [there.load(&guard), there.load(&guard)];
            values.map(Value::read)
        };
        let write = || {
            (2..=3).for_each(|number| cell.store(Value::new(number)).expect("an object"));
            cell.cache().stats().pending.objects
        };
        let (found, pending) = beside(1, read, write);
        assert!(found[0] <= found[1], "it went back: {found:?}");
        seen.note("the first", found[1] == 1);
        seen.note("the second", found[0] == 2);
        seen.note("both", found[0] != found[1]);
        seen.note("dropped beside the reader", pending < 2);
        cell.cache().quiesce().expect("no guard is left");
    });
}

/// Two writers: one is given the value that the other has just stored.
#[test]
fn a_swap_gives_what_another_writer_has_just_stored() {
    let model = Model {
        name: "a_swap_gives_what_another_writer_has_just_stored",
        bound: Some(2),
        least: 10,
        happens: &["the first is given", "theirs is given"],
    };
    model.explore(|seen| {
        let cell = cell::<AfterRcuGp>();
        let there = cell.clone();
        let store = move || {
            there.store(Value::new(2)).expect("an object");
        };
        let ((), given) = beside(1, store, || {
            let guard = cell.domain().pin();
            let given = cell.swap(Value::new(3), &guard);
            given.map(Value::read).expect("an object")
        });
        seen.note("the first is given", given == 1);
        seen.note("theirs is given", given == 2);
        let guard = cell.domain().pin();
        assert_eq!(cell.load(&guard).read(), if given == 2 { 3 } else { 2 });
        drop(guard);
        cell.cache().quiesce().expect("no guard is left");
    });
}

/// Two threads change the value from what they found; one of them begins again.
#[test]
fn an_update_beside_another_is_not_lost() {
    let model = Model {
        name: "an_update_beside_another_is_not_lost",
        bound: Some(1),
        least: 10,
        happens: &["begun again", "at once"],
    };
    model.explore(|seen| {
        let cell = cell::<AfterRcuGp>();
        let add = |cell: Arc<RcuCell<Value, AfterRcuGp>>| {
            move || {
                let mut runs = 0;
                let outcome = cell.update(|value| {
                    runs += 1;
                    Value::new(value.read() + 1)
                });
                outcome.expect("an object");
                runs
            }
        };
        let (theirs, ours) = beside(1, add(cell.clone()), add(cell.clone()));
        seen.note("begun again", theirs + ours > 2);
        seen.note("at once", theirs + ours == 2);
        let guard = cell.domain().pin();
        assert_eq!(cell.load(&guard).read(), 3);
        drop(guard);
        cell.cache().quiesce().expect("no guard is left");
    });
}

/// The cell is dropped while a sleeper keeps a value of it, and the value is dropped behind both.
#[test]
fn an_owned_value_outlives_the_cell() {
    let model = Model {
        name: "an_owned_value_outlives_the_cell",
        bound: Some(2),
        least: 10,
        happens: &["explored"],
    };
    model.explore(|seen| {
        let cell = cell::<AfterTasksTraceGp>();
        let domain = cell.domain().clone();
        let owned = cell.load_owned();
        let memory = owned.memory.clone();
        let end = move || {
            owned.read();
            drop(owned);
        };
        beside(1, end, || drop(cell));
        domain.trace().barrier().expect("no guard is left");
        domain.barrier().expect("no guard is left");
        assert_eq!(memory.read(), 2, "dropped once");
        seen.note("explored", true);
    });
}
