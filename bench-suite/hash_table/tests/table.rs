//! The hash table against a model, and under concurrent threads, under every policy and with a
//! callback for each element.
#![cfg(not(loom))]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hash_table::{ElementMemory, HashTable, OneByOne, Shape};
use memalloc::rcu::Domain;
use memalloc::{AfterRcuGp, AfterTasksTraceGp, FreeAfterRcuGp, Immediate, MemAlloc, ReusePolicy};
use proptest::prelude::*;

/// A test that runs with every kind of memory.
trait Test {
    fn run<M: ElementMemory>(&self, table: HashTable<M>);
}

/// Runs a test under each policy and with callbacks, and checks that nothing leaked.
fn under_every_policy(shape: Shape, test: &impl Test) {
    fn batched<P: ReusePolicy>(shape: Shape, test: &impl Test) {
        let memory = memory::<P>(shape);
        test.run(HashTable::new(shape, &memory));
        memory.destroy().unwrap();
    }
    batched::<Immediate>(shape, test);
    batched::<AfterRcuGp>(shape, test);
    batched::<FreeAfterRcuGp>(shape, test);
    batched::<AfterTasksTraceGp>(shape, test);
    for one_by_one in [OneByOne::after_rcu_gp, OneByOne::after_tasks_trace_gp] {
        let memory = Arc::new(memory::<Immediate>(shape));
        test.run(HashTable::new(shape, one_by_one(Arc::clone(&memory))));
        memory.domain().trace().barrier().unwrap();
        memory.domain().rcu().barrier().unwrap();
        Arc::into_inner(memory).expect("all callbacks have run").destroy().unwrap();
    }
}

fn memory<P: ReusePolicy>(shape: Shape) -> MemAlloc<P> {
    shape.configure(MemAlloc::builder().domain(Domain::new())).build().unwrap()
}

/// Returns a value whose words all depend on the key and the number.
fn value(words: usize, key: u32, number: u32) -> Vec<u64> {
    let first = u64::from(key) << 32 | u64::from(number);
    (0..words as u64).map(|word| first.wrapping_add(word << 20)).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Update(u32, u32),
    Remove(u32),
    Get(u32),
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..40_u32;
    let step = prop_oneof![
        8 => (key.clone(), any::<u32>()).prop_map(|(key, number)| Step::Update(key, number)),
        4 => key.clone().prop_map(Step::Remove),
        4 => key.prop_map(Step::Get),
        1 => Just(Step::Clear),
    ];
    prop::collection::vec(step, 1..200)
}

struct AgainstAModel(Vec<Step>);

impl Test for AgainstAModel {
    fn run<M: ElementMemory>(&self, table: HashTable<M>) {
        let words = table.shape().words();
        let mut model = HashMap::new();
        let get = |key| {
            let mut found = vec![0; words];
            let guard = table.domain().pin();
            table.get(&guard, key, &mut found).then_some(found)
        };
        for step in &self.0 {
            match *step {
                Step::Update(key, number) => {
                    let value = value(words, key, number);
                    let was_there = model.insert(key, value.clone()).is_some();
                    assert_eq!(table.update(key, &value).unwrap(), was_there);
                }
                Step::Remove(key) => {
                    assert_eq!(table.remove(key), model.remove(&key).is_some());
                }
                Step::Get(key) => assert_eq!(get(key).as_ref(), model.get(&key)),
                Step::Clear => {
                    table.clear();
                    model.clear();
                }
            }
            assert_eq!(table.len(), model.len());
        }
        assert!((0..40).all(|key| get(key).as_ref() == model.get(&key)));
        assert_eq!(table.restarts(), 0, "there were no other threads");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_table_is_a_map(steps in steps(), buckets in 1..20_usize) {
        under_every_policy(Shape::new(buckets, 1).unwrap(), &AgainstAModel(steps));
    }
}

#[test]
fn values_of_every_size_class_are_read_back() {
    let all = (0..40).flat_map(|key| [Step::Update(key, key), Step::Get(key)]);
    let again = (0..40).flat_map(|key| [Step::Update(key, 1), Step::Get(key), Step::Remove(key)]);
    let steps = AgainstAModel(all.chain(again).collect());
    for words in [1, 2, 3, 8, 128, 509, 510, 511, 512] {
        under_every_policy(Shape::new(16, words).unwrap(), &steps);
    }
}

/// Writers change their own keys, in few buckets; readers look up keys that are always present.
struct KeysThatAreAlwaysThere;

impl Test for KeysThatAreAlwaysThere {
    fn run<M: ElementMemory>(&self, table: HashTable<M>) {
        const ROUNDS: u32 = 3000;
        const STABLE: u32 = 16;
        let (table, words) = (&table, table.shape().words());
        for key in 0..STABLE {
            table.update(key, &value(words, key, 0)).unwrap();
        }
        let done = &AtomicBool::new(false);
        thread::scope(|scope| {
            let writers: Vec<_> = (0..2_u32)
                .map(|writer| {
                    scope.spawn(move || {
                        for round in 1..ROUNDS {
                            // A key that is always present is replaced; others are inserted and
                            // removed.
                            let key = (round * 2 + writer) % STABLE;
                            assert!(table.update(key, &value(words, key, round)).unwrap());
                            let own = STABLE + (round % 20) * 2 + writer;
                            assert!(!table.update(own, &value(words, own, round)).unwrap());
                            assert!(table.remove(own));
                        }
                    })
                })
                .collect();
            for reader in 0..2_u32 {
                scope.spawn(move || {
                    let (domain, mut found) = (table.domain(), vec![0; words]);
                    let mut key = reader;
                    while !done.load(Ordering::Relaxed) {
                        key = (key + 1) % STABLE;
                        let guard = domain.pin();
                        assert!(table.get(&guard, key, &mut found), "{key} was always there");
                        assert_eq!(found, value(words, key, found[0] as u32), "one life");
                        let passing = STABLE + key;
                        if table.get(&guard, passing, &mut found) {
                            assert_eq!(found, value(words, passing, found[0] as u32), "one life");
                        }
                    }
                });
            }
            let ends: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
            done.store(true, Ordering::Relaxed);
            assert!(ends.iter().all(Result::is_ok), "a writer got a wrong answer");
        });
        assert_eq!(table.len(), STABLE as usize);
    }
}

#[test]
fn a_reader_never_misses_a_key_that_is_always_there() {
    for (buckets, words) in [(1, 1), (4, 4), (4, 512)] {
        under_every_policy(Shape::new(buckets, words).unwrap(), &KeysThatAreAlwaysThere);
    }
}

/// All threads update and remove the same few keys: no element is lost, and none is freed twice.
struct TheSameKeys;

impl Test for TheSameKeys {
    fn run<M: ElementMemory>(&self, table: HashTable<M>) {
        let (table, words) = (&table, table.shape().words());
        let added: i64 = thread::scope(|scope| {
            let threads: Vec<_> = (0..3_u32)
                .map(|thread| {
                    scope.spawn(move || {
                        let mut balance = 0;
                        for round in 0..4000 {
                            let key = (round * 7 + thread) % 5;
                            balance += match (round + thread) % 3 {
                                0 => -i64::from(table.remove(key)),
                                _ => {
                                    let value = value(words, key, round);
                                    i64::from(!table.update(key, &value).unwrap())
                                }
                            };
                        }
                        balance
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(table.len() as i64, added, "the entries added and not removed");
    }
}

#[test]
fn writers_of_the_same_keys_lose_no_element_and_free_each_once() {
    for words in [1, 512] {
        under_every_policy(Shape::new(2, words).unwrap(), &TheSameKeys);
    }
}

#[test]
#[should_panic(expected = "a guard of this table's domain")]
fn a_guard_of_another_domain_is_refused() {
    let shape = Shape::new(1, 1).unwrap();
    let memory = memory::<Immediate>(shape);
    let (table, other) = (HashTable::new(shape, &memory), Domain::new());
    table.get(&other.pin(), 1, &mut [0]);
}

#[test]
fn an_update_without_memory_changes_nothing() {
    for words in [1, 512] {
        let shape = Shape::new(1, words).unwrap();
        let builder = MemAlloc::<Immediate>::builder().domain(Domain::new());
        let memory = shape.configure(builder).limit_bytes(128 << 10).build().unwrap();
        let table = HashTable::new(shape, &memory);
        let fits =
            (0..).take_while(|&key| table.update(key, &value(words, key, 0)).is_ok()).count();
        assert!(fits > 0 && table.len() == fits);
        assert!(
            table.update(0, &value(words, 0, 1)).is_err(),
            "an update allocates an element first"
        );
        let (guard, mut found) = (memory.domain().pin(), vec![0; words]);
        assert!(table.get(&guard, 0, &mut found) && found == value(words, 0, 0));
        drop(guard);
        drop(table);
        memory.destroy().unwrap();
    }
}
