//! The structures under real threads.
#![cfg(not(loom))]

use memalloc::rcu::Domain;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use structures::{CountedStack, Queue, Stack, Table};

const VALUES: u64 = 20_000;

/// Pushes and pops values on four threads; returns the sum of what was popped.
fn sum_of_popped(push: impl Fn(u64) + Sync, pop: impl Fn() -> Option<u64> + Sync) -> u64 {
    let sum = AtomicU64::new(0);
    thread::scope(|scope| {
        for first in 0..4 {
            let (push, pop, sum) = (&push, &pop, &sum);
            scope.spawn(move || {
                for value in (first..VALUES).step_by(4) {
                    push(value);
                    sum.fetch_add(pop().expect("there are as many values"), Ordering::Relaxed);
                }
            });
        }
    });
    sum.into_inner()
}

#[test]
fn a_stack_loses_nothing_and_gives_nothing_twice() {
    let stack = Stack::new(&Domain::new()).expect("a stack");
    let sum = sum_of_popped(|value| stack.push(value).expect("memory"), || stack.pop());
    assert_eq!((sum, stack.pop()), ((0..VALUES).sum(), None));
}

#[test]
fn a_counted_stack_loses_nothing_and_gives_nothing_twice() {
    let stack = CountedStack::new(&Domain::new()).expect("a stack");
    let sum = sum_of_popped(|value| stack.push(value).expect("memory"), || stack.pop());
    assert_eq!((sum, stack.pop()), ((0..VALUES).sum(), None));
}

#[test]
fn a_queue_loses_nothing_and_gives_nothing_twice() {
    let queue = Queue::new(&Domain::new()).expect("a queue");
    let sum = sum_of_popped(|value| queue.push(value).expect("memory"), || queue.pop());
    assert_eq!((sum, queue.pop()), ((0..VALUES).sum(), None));
}

/// The values of each producer come out in the order in which it pushed them.
#[test]
fn a_queue_keeps_the_order_of_each_producer() {
    let queue = Queue::new(&Domain::new()).expect("a queue");
    thread::scope(|scope| {
        for producer in 0..2 {
            let queue = &queue;
            scope.spawn(move || {
                (0..VALUES).for_each(|number| queue.push((producer, number)).expect("memory"));
            });
        }
        for _ in 0..2 {
            let queue = &queue;
            scope.spawn(move || {
                let mut next = [0; 2];
                for _ in 0..VALUES {
                    let (producer, number) = loop {
                        match queue.pop() {
                            Some(popped) => break popped,
                            None => thread::yield_now(),
                        }
                    };
                    assert!(number >= next[producer], "{number} came after {}", next[producer]);
                    next[producer] = number + 1;
                }
            });
        }
    });
    assert_eq!(queue.pop(), None);
}

#[test]
fn a_queue_drops_each_value_once() {
    let value = std::sync::Arc::new(());
    let queue = Queue::new(&Domain::new()).expect("a queue");
    (0..100).for_each(|_| queue.push(value.clone()).expect("memory"));
    (0..50).for_each(|_| drop(queue.pop()));
    assert_eq!(std::sync::Arc::strong_count(&value), 51);
    drop(queue);
    assert_eq!(std::sync::Arc::strong_count(&value), 1);
}

#[test]
fn a_stack_drops_each_value_once() {
    let value = std::sync::Arc::new(());
    let stack = Stack::new(&Domain::new()).expect("a stack");
    (0..100).for_each(|_| stack.push(value.clone()).expect("memory"));
    (0..50).for_each(|_| drop(stack.pop()));
    assert_eq!(std::sync::Arc::strong_count(&value), 51);
    drop(stack);
    assert_eq!(std::sync::Arc::strong_count(&value), 1);
}

#[test]
fn a_key_that_is_replaced_is_never_missed() {
    let table = Table::new(4, &Domain::new()).expect("a table");
    (0..32).for_each(|key| assert!(!table.insert(key, key).expect("memory")));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (table, over) = (&table, &over);
        scope.spawn(move || {
            for round in 1..2_000 {
                (0..32).step_by(2).for_each(|key| _ = table.insert(key, key + 32 * round));
                let other = 1 + 2 * (round % 16);
                assert!(table.remove(other));
                assert!(!table.insert(other, other).expect("memory"));
            }
            over.store(true, Ordering::Relaxed);
        });
        while !over.load(Ordering::Relaxed) {
            let guard = table.domain().pin();
            for key in 0..32 {
                match table.get(key, &guard) {
                    Some(value) => assert_eq!(value % 32, key),
                    None => assert_eq!(key % 2, 1, "{key} is always there"),
                }
            }
        }
    });
}
