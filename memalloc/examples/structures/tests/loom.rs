//! The structures under every schedule of two threads that loom can tell apart, with at most two
//! preemptions.
#![cfg(loom)]

use loom::thread;
use memalloc::rcu::Domain;
use std::sync::Arc;
use structures::{CountedStack, Queue, Stack, Table};

/// Explores a model. The number of preemptions bounds what is explored: without a bound a model of
/// two threads takes minutes, and all faults that are known show with two.
fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.max_branches = 20_000;
    builder.check(model);
}

/// Two threads pop, while one of them pushes.
fn two_threads_pop(stack: Stack<u64>) {
    let stack = Arc::new(stack);
    stack.push(1).expect("memory");
    let other = {
        let stack = stack.clone();
        thread::spawn(move || {
            let first = stack.pop();
            stack.push(2).expect("memory");
            first
        })
    };
    let popped = [stack.pop(), other.join().expect("no panic"), stack.pop()];
    let mut all: Vec<u64> = popped.into_iter().flatten().collect();
    all.sort_unstable();
    assert_eq!(all, [1, 2]);
}

#[test]
fn values_of_a_stack_come_out_once() {
    explore(|| two_threads_pop(Stack::new(&Domain::new()).expect("a stack")));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_a_grace_period_a_stack_reads_nodes_of_another_life() {
    explore(|| two_threads_pop(Stack::that_frees_at_once(&Domain::new()).expect("a stack")));
}

/// One thread pops, while another makes the first node come back above another one: it frees the
/// second on another CPU, so that the first is the next to be allocated.
fn the_first_node_comes_back(stack: CountedStack) {
    let stack = Arc::new(stack);
    (1..=3).for_each(|value| stack.push(value).expect("memory"));
    let other = {
        let stack = stack.clone();
        thread::spawn(move || {
            let first = stack.pop();
            memalloc::run_on(1);
            let second = stack.pop();
            memalloc::run_on(0);
            stack.push(4).expect("memory");
            [first, second]
        })
    };
    let mine = stack.pop();
    let theirs = other.join().expect("no panic");
    let mut all: Vec<u64> = theirs.into_iter().chain([mine]).flatten().collect();
    while let Some(left) = stack.pop() {
        all.push(left);
        assert!(all.len() <= 4, "claim: a value came out twice: {all:?}");
    }
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3, 4], "claim: a value is lost");
}

#[test]
fn values_of_a_counted_stack_come_out_once() {
    explore(|| the_first_node_comes_back(CountedStack::new(&Domain::new()).expect("a stack")));
}

#[test]
#[should_panic(expected = "claim")]
fn without_its_count_a_stack_loses_values() {
    explore(|| {
        the_first_node_comes_back(CountedStack::without_its_count(&Domain::new()).expect("a stack"))
    });
}

/// One thread pushes while the other pops.
fn a_push_beside_a_pop(queue: Queue<u64>) {
    let queue = Arc::new(queue);
    queue.push(1).expect("memory");
    let other = {
        let queue = queue.clone();
        thread::spawn(move || queue.push(2).expect("memory"))
    };
    let popped = [queue.pop(), queue.pop()];
    other.join().expect("no panic");
    let all: Vec<u64> = popped.into_iter().chain([queue.pop()]).flatten().collect();
    assert_eq!(all, [1, 2], "claim: in order, and once");
}

#[test]
fn values_of_a_queue_come_out_once_in_order() {
    explore(|| a_push_beside_a_pop(Queue::new(&Domain::new()).expect("a queue")));
}

/// Two threads pop, and one of them pushes.
fn two_threads_pop_from(queue: Queue<u64>) {
    let queue = Arc::new(queue);
    queue.push(1).expect("memory");
    let other = {
        let queue = queue.clone();
        thread::spawn(move || {
            let first = queue.pop();
            queue.push(2).expect("memory");
            first
        })
    };
    let popped = [queue.pop(), other.join().expect("no panic"), queue.pop()];
    let mut all: Vec<u64> = popped.into_iter().flatten().collect();
    all.sort_unstable();
    assert_eq!(all, [1, 2]);
}

#[test]
fn values_of_a_queue_come_out_once() {
    explore(|| two_threads_pop_from(Queue::new(&Domain::new()).expect("a queue")));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_a_grace_period_a_queue_reads_nodes_of_another_life() {
    explore(|| two_threads_pop_from(Queue::that_frees_at_once(&Domain::new()).expect("a queue")));
}

/// A reader looks up a key, while a writer replaces its value.
fn a_lookup_beside_an_update(table: Table<u64>) {
    let table = Arc::new(table);
    table.insert(1, 10).expect("memory");
    let other = {
        let table = table.clone();
        thread::spawn(move || table.insert(1, 11).expect("memory"))
    };
    {
        let guard = table.domain().pin();
        let value = table.get(1, &guard).copied();
        assert!(matches!(value, Some(10 | 11)), "{value:?}");
    }
    assert!(other.join().expect("no panic"), "the key was there");
}

#[test]
fn a_key_that_is_replaced_is_never_missed() {
    explore(|| a_lookup_beside_an_update(Table::new(1, &Domain::new()).expect("a table")));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_a_grace_period_a_lookup_reads_nodes_of_another_life() {
    explore(|| {
        let table = Table::that_frees_at_once(1, &Domain::new());
        a_lookup_beside_an_update(table.expect("a table"))
    });
}
