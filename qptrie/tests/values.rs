//! Values: dropped exactly once and not before their readers have left, of any size and alignment,
//! and with destructors that use the trie.
#![cfg(not(loom))]

mod common;

use common::keys::Dice;
use common::reference::{Model, same_entries, same_memory};
use common::{Setup, in_every_setup};
use memalloc::rcu::Domain;
use memalloc::{Immediate, ReusePolicy};
use qptrie::{Iter, QpTrie, TrieGuard, TrieRef, Update};
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::thread;

/// Counts how often each value was dropped.
#[derive(Debug, Default)]
struct Ledger {
    drops: Vec<AtomicU32>,
    made: AtomicUsize,
}

impl Ledger {
    fn new(values: usize) -> Arc<Self> {
        let drops = (0..values).map(|_| AtomicU32::new(0)).collect();
        Arc::new(Self { drops, made: AtomicUsize::new(0) })
    }

    fn value(self: &Arc<Self>) -> Counted {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        Counted { number, ledger: Arc::clone(self), echo: Box::new(number) }
    }

    fn drops_of(&self, number: usize) -> u32 {
        self.drops[number].load(Ordering::Relaxed)
    }

    /// Returns the number of values that were dropped, and checks that none was dropped twice.
    fn dropped(&self) -> usize {
        let made = self.made.load(Ordering::Relaxed);
        let drops: Vec<_> = (0..made).map(|number| self.drops_of(number)).collect();
        assert!(drops.iter().all(|drops| *drops <= 1), "dropped twice: {drops:?}");
        drops.into_iter().filter(|drops| *drops == 1).count()
    }

    fn alive(&self) -> usize {
        self.made.load(Ordering::Relaxed) - self.dropped()
    }
}

/// A value that counts its drop in a ledger, and detects corruption of itself.
#[derive(Debug)]
struct Counted {
    number: usize,
    ledger: Arc<Ledger>,
    echo: Box<usize>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        assert_eq!(*self.echo, self.number);
        self.ledger.drops[self.number].fetch_add(1, Ordering::Relaxed);
    }
}

fn every_value_is_dropped_exactly_once<B: ReusePolicy>(setup: Setup) {
    const STEPS: usize = 20_000;
    let (ledger, mut dice) = (Ledger::new(STEPS), Dice::new(1));
    let trie = setup.builder::<Counted, B>().max_entries(300).build().expect("a trie");
    for step in 0..STEPS {
        let (view, key) = (trie.pin(), dice.key());
        match dice.roll(5) {
            0 | 1 => drop(view.insert(&key, ledger.value())),
            2 => drop(view.update(&key, ledger.value(), Update::NoExist)),
            3 => drop(view.update(&key, ledger.value(), Update::Exist)),
            _ => _ = view.remove(&key),
        }
        drop(view);
        if step % 5000 == 0 {
            trie.quiesce().expect("outside of read sections");
            assert_eq!(ledger.alive(), trie.len(), "only the entries of the trie are left");
        }
    }
    assert!(trie.len() > 100, "there is something to drop");
    drop(trie);
    assert_eq!(ledger.alive(), 0);
}

fn a_rejected_value_is_returned_undropped<B: ReusePolicy>(setup: Setup) {
    let ledger = Ledger::new(10);
    let trie = setup.builder::<Counted, B>().max_entries(1).max_key_len(9).build().expect("a trie");
    let view = trie.pin();
    view.insert(b"key", ledger.value()).expect("room");
    let refused = [
        view.update(b"key", ledger.value(), Update::NoExist),
        view.update(b"other", ledger.value(), Update::Exist),
        view.insert(b"other", ledger.value()),
        view.insert(b"a long key", ledger.value()),
        view.insert(&[0; 5000], ledger.value()),
    ];
    for (number, result) in refused.into_iter().enumerate() {
        let value = result.expect_err("refused").into_value();
        assert_eq!((value.number, ledger.drops_of(value.number)), (number + 1, 0));
    }
    assert_eq!((ledger.dropped(), ledger.alive()), (5, 1));
    drop(view);
    drop(trie);
    assert_eq!(ledger.alive(), 0);
}

/// References returned by any operation are valid until their section ends, whatever another thread
/// does meanwhile.
fn a_reference_holds_until_its_section_ends<B: ReusePolicy>(setup: Setup) {
    const ROUNDS: usize = 30_000;
    let ledger = Ledger::new(ROUNDS + 4);
    let trie = setup.trie::<Counted, B>();
    {
        let view = trie.pin();
        for key in [b"got", b"old", b"out", b"run"] {
            view.insert(key, ledger.value()).expect("memory");
        }
        let mut held = vec![view.get(b"got").expect("there")];
        held.extend(view.iter().map(|(_, value)| value));
        held.extend(view.insert(b"old", ledger.value()).expect("memory"));
        held.extend(view.remove(b"out"));
        thread::scope(|scope| {
            scope.spawn(|| {
                for key in [b"got", b"old", b"out", b"run"] {
                    let _ = trie.pin().remove(key);
                }
                // Enough for several grace periods, if one could end.
                while ledger.made.load(Ordering::Relaxed) < ROUNDS {
                    trie.pin().insert(b"busy", ledger.value()).expect("memory");
                }
            });
        });
        for value in held {
            assert_eq!((*value.echo, ledger.drops_of(value.number)), (value.number, 0));
        }
        assert_eq!(ledger.dropped(), 0, "no value that was freed inside the section");
    }
    trie.quiesce().expect("outside of read sections");
    assert_eq!(ledger.alive(), 1);
}

/// The thread that drops the trie is inside a section of the domain: pending values are dropped
/// when the section has ended.
fn a_trie_can_be_dropped_inside_a_section_of_its_domain<B: ReusePolicy>(setup: Setup) {
    let (domain, ledger) = (setup.domain(), Ledger::new(100));
    let other = setup.builder::<u64, B>().domain(domain.clone()).build().expect("a trie");
    let trie = setup.builder::<Counted, B>().domain(domain.clone()).build().expect("a trie");
    let view = other.pin();
    for step in 0..100_u8 {
        let _ = trie.pin().insert(&[step % 7, step % 5], ledger.value()).expect("memory");
    }
    assert_eq!(ledger.dropped(), 0, "all that was replaced is pending");
    drop(trie);
    assert_eq!(ledger.alive(), 100 - 35, "pending while the section lasts");
    drop(view);
    domain.barrier().expect("outside of read sections");
    assert_eq!(ledger.alive(), 0);
}

/// Dropping a trie waits for no section: values that a section keeps pending are dropped when that
/// section has ended.
fn a_dropped_trie_leaves_what_is_pending_to_its_domain<B: ReusePolicy>(setup: Setup) {
    let (domain, ledger) = (setup.domain(), Ledger::new(2));
    let trie = setup.builder::<Counted, B>().domain(domain.clone()).build().expect("a trie");
    trie.pin().insert(b"key", ledger.value()).expect("memory");
    let (entered, inside) = mpsc::channel();
    let (leave, left) = mpsc::channel();
    thread::scope(|scope| {
        let (domain, ledger) = (&domain, &ledger);
        scope.spawn(move || {
            let guard = domain.pin();
            entered.send(()).expect("the main thread waits");
            left.recv().expect("the main thread sends");
            // The value that was replaced after the section began is still pending.
            assert_eq!(ledger.drops_of(0), 0);
            drop(guard);
        });
        inside.recv().expect("the reader enters");
        let _ = trie.pin().insert(b"key", ledger.value()).expect("memory");
        let dropper = scope.spawn(move || drop(trie));
        // The value that is in the trie is dropped at once: no reference to it can exist.
        while ledger.drops_of(1) == 0 {
            thread::yield_now();
        }
        dropper.join().expect("dropping ends while the reader is inside");
        assert_eq!(ledger.drops_of(0), 0, "the reader may hold a reference to it");
        leave.send(()).expect("the reader waits");
    });
    domain.synchronize().expect("outside of read sections");
    assert_eq!(ledger.alive(), 0);
}

/// A value whose destructor reads and changes the trie that it was in.
struct Busybody<B: ReusePolicy> {
    trie: Weak<QpTrie<Self, B>>,
    ledger: Counted,
}

impl<B: ReusePolicy> Drop for Busybody<B> {
    fn drop(&mut self) {
        let Some(trie) = self.trie.upgrade() else {
            return;
        };
        let view = trie.pin();
        let key = [b's', self.ledger.number as u8 % 50];
        let _ = view.get(&key);
        if view.remove(&key).is_none() {
            let quiet = Self { trie: Weak::new(), ledger: self.ledger.ledger.value() };
            let _ = view.insert(&key, quiet);
        }
        assert!(view.iter().take(3).count() <= 3);
    }
}

fn a_destructor_may_use_the_trie<B: ReusePolicy>(setup: Setup) {
    const STEPS: usize = 30_000;
    let ledger = Ledger::new(3 * STEPS);
    let trie = Arc::new(setup.trie::<Busybody<B>, B>());
    for step in 0..STEPS {
        let value = Busybody { trie: Arc::downgrade(&trie), ledger: ledger.value() };
        let _ = trie.pin().insert(&[b's', step as u8 % 20], value);
    }
    // Destructors run without locks, so this terminates; those that run here free more values.
    for _ in 0..3 {
        trie.quiesce().expect("outside of read sections");
    }
    assert!(ledger.made.load(Ordering::Relaxed) > STEPS, "destructors have inserted");
    assert_eq!(trie.pin().iter().count(), trie.len());
    let trie = Arc::into_inner(trie).expect("destructors have given their references back");
    drop(trie);
    assert_eq!(ledger.alive(), 0);
}

/// A value whose destructor panics if `breaks` is set.
struct Fragile {
    breaks: bool,
    _counted: Counted,
}

impl Drop for Fragile {
    fn drop(&mut self) {
        assert!(!self.breaks, "a destructor that panics");
    }
}

/// The panic may keep other values from being dropped, but none is dropped twice, no lock stays
/// locked, and the trie remains usable.
fn a_destructor_that_panics_breaks_nothing<B: ReusePolicy>(setup: Setup) {
    const STEPS: usize = 30_000;
    let ledger = Ledger::new(2 * STEPS);
    let trie = setup.trie::<Fragile, B>();
    let mut panics = 0;
    for step in 0..STEPS {
        let (key, fragile) = ([b's', step as u8 % 20], step % 5000 == 0);
        let insert =
            || drop(trie.pin().insert(&key, Fragile { breaks: fragile, _counted: ledger.value() }));
        panics += usize::from(catch_unwind(AssertUnwindSafe(insert)).is_err());
    }
    assert!(panics > 0, "no destructor ran inside an insertion");
    for step in 0..20 {
        let view = trie.pin();
        let fine = Fragile { breaks: false, _counted: ledger.value() };
        let old = view.insert(&[b's', step], fine);
        assert!(old.is_ok_and(|old| old.is_some()));
    }
    assert_eq!(trie.len(), 20);
    let _ = catch_unwind(AssertUnwindSafe(|| drop(trie)));
    ledger.dropped();
}

/// Stores values of one type in a trie, and checks each of them in place.
fn keeps<V, B>(setup: Setup, value: impl Fn(u8) -> V)
where
    V: Clone + Debug + PartialEq + Send + Sync + 'static,
    B: ReusePolicy,
{
    let trie = setup.trie::<V, B>();
    // The word with the key's length follows the value and is aligned to two bytes.
    let room = 4096 - size_of::<V>().next_multiple_of(2) - 2;
    let longest = vec![b'l'; room.min(4095)];
    let mut model = Model::new();
    for number in 0..=255_u8 {
        let key = [&longest[..number as usize % 40], &[number]].concat();
        trie.pin().insert(&key, value(number)).expect("memory");
        model.insert(key, value(number));
    }
    trie.pin().insert(&longest, value(1)).expect("the longest key");
    model.insert(longest.clone(), value(1));
    let too_long = [&longest[..], b"l"].concat();
    assert_eq!(trie.pin().insert(&too_long, value(2)).unwrap_err().into_value(), value(2));
    for (number, key) in model.keys().cloned().collect::<Vec<_>>().into_iter().enumerate() {
        let (view, new) = (trie.pin(), value(number as u8 ^ 0x55));
        let old = view.insert(&key, new.clone()).expect("memory");
        assert_eq!(old, model.insert(key, new).as_ref());
    }
    for (key, value) in trie.pin().iter() {
        let address = std::ptr::from_ref(value).addr();
        assert!(address.is_multiple_of(align_of::<V>()), "{key:?} is at {address:#x}");
    }
    same_entries(&trie, &model);
    same_memory(&trie, &model);
}

/// A value of the size and alignment of a cache line.
#[derive(Clone, Debug, PartialEq)]
#[repr(align(64))]
struct Line([u8; 64]);

/// A value of size zero with an alignment.
#[derive(Clone, Debug, PartialEq)]
#[repr(align(256))]
struct Nowhere;

fn values_of_any_size_and_alignment_are_kept<B: ReusePolicy>(setup: Setup) {
    keeps::<(), B>(setup, |_| ());
    keeps::<u8, B>(setup, |n| n);
    keeps::<[u8; 3], B>(setup, |n| [n, !n, 7]);
    keeps::<u128, B>(setup, |n| !u128::from(n));
    keeps::<Line, B>(setup, |n| Line([n; 64]));
    keeps::<Nowhere, B>(setup, |_| Nowhere);
    keeps::<[u8; 3000], B>(setup, |n| [n; 3000]);
    keeps::<String, B>(setup, |n| n.to_string());
}

in_every_setup![
    every_value_is_dropped_exactly_once,
    a_rejected_value_is_returned_undropped,
    a_reference_holds_until_its_section_ends,
    a_trie_can_be_dropped_inside_a_section_of_its_domain,
    a_dropped_trie_leaves_what_is_pending_to_its_domain,
    a_destructor_may_use_the_trie,
    a_destructor_that_panics_breaks_nothing,
    values_of_any_size_and_alignment_are_kept,
];

/// A read section is bound to its thread, and so are the iterators inside it: if one of these types
/// were `Send`, the call would be ambiguous and this would not compile.
#[test]
fn a_section_stays_on_its_thread() {
    trait AmbiguousIfSend<A> {
        fn check() {}
    }
    struct Sendable;
    impl<T: ?Sized> AmbiguousIfSend<()> for T {}
    impl<T: ?Sized + Send> AmbiguousIfSend<Sendable> for T {}
    <TrieGuard<'_, u64> as AmbiguousIfSend<_>>::check();
    <&TrieGuard<'_, u64> as AmbiguousIfSend<_>>::check();
    <&TrieRef<u64> as AmbiguousIfSend<_>>::check();
    <Iter<'_, u64> as AmbiguousIfSend<_>>::check();
}

/// A view under a guard of the caller works like one with a section of its own; the section lasts
/// as long as the guard, not as long as the view.
#[test]
fn a_view_lives_in_the_section_of_its_guard() {
    let (domain, ledger) = (Domain::new(), Ledger::new(3));
    let trie: QpTrie<Counted> = QpTrie::builder().domain(domain.clone()).build().expect("a trie");
    let guard = domain.pin();
    let old = {
        let view = trie.view(&guard);
        view.insert(b"key", ledger.value()).expect("memory");
        view.insert(b"key", ledger.value()).expect("memory").expect("there").number
    };
    assert!(trie.quiesce().is_err(), "the section goes on");
    assert_eq!(
        (ledger.drops_of(old), trie.view(&guard).get(b"key").map(|new| new.number)),
        (0, Some(1))
    );
    drop(guard);
    trie.quiesce().expect("outside of read sections");
    assert_eq!(ledger.drops_of(old), 1);
}

#[test]
fn dropping_a_trie_drops_every_value_even_if_one_panics() {
    for breaks in 0..40 {
        let ledger = Ledger::new(40);
        let trie: QpTrie<Fragile> = QpTrie::new().expect("a trie");
        for number in 0..40_u8 {
            let value = Fragile { breaks: number == breaks, _counted: ledger.value() };
            assert!(trie.pin().insert(&[b'k', number], value).is_ok());
        }
        assert!(catch_unwind(AssertUnwindSafe(|| drop(trie))).is_err());
        assert_eq!(ledger.alive(), 0);
    }
}

#[test]
#[should_panic(expected = "the guard belongs to another domain than this trie")]
fn a_guard_of_another_domain_is_refused() {
    let (trie, domain) = (Setup::every().map(Setup::trie::<u64, Immediate>).next(), Domain::new());
    _ = trie.expect("a setup").view(&domain.pin()).get("key");
}
