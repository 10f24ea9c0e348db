//! The table under the model checker: a lookup concurrent with a writer. Each scenario is explored
//! completely with every check in place and, with one check omitted, until the answer is wrong.

#[path = "../../../../memalloc/tests/loom/breaks.rs"]
mod breaks;
#[path = "../../../../memalloc/tests/loom/explore.rs"]
mod explore;

use std::sync::Arc;

use breaks::breaks;
use explore::{Model, Seen};
use memalloc::rcu::Domain;
use memalloc::sync::thread;
use memalloc::{AfterRcuGp, Immediate, MemAlloc, ReusePolicy, run_on};

use crate::{Fault, HashTable, Shape};

type Table<P> = HashTable<Arc<MemAlloc<P>>>;

/// An event: a lookup restarted.
const RESTARTED: &str = "a lookup started again";

/// A failure: the reader missed a key.
const WRONG_ANSWER: &str = "a key that was always there is reported absent";

/// A failure: the reader found a value that the key never had.
const TORN: &str = "half of one value and half of another";

/// Returns the value with this number: two halves that belong together.
fn value(number: u32) -> [u64; 1] {
    [u64::from(number) << 32 | u64::from(number)]
}

/// The action of the writer while the reader looks up a key that is always present.
#[derive(Clone, Copy, Debug)]
enum Scenario {
    /// The previous element is removed, and its object becomes one of the other bucket.
    Astray,
    /// The element is replaced.
    Replaced,
    /// The element is replaced, and the old object becomes another key of the same bucket.
    ReplacedAndReused,
}

/// Two buckets, and three keys of the first one, in the order `front`, `middle`, `wanted`. `fresh`
/// and `first` are further keys of that bucket, and `other` is one of the other.
struct Scene<P: ReusePolicy> {
    table: Table<P>,
    domain: Domain,
    middle: u32,
    wanted: u32,
    other: u32,
    fresh: u32,
    first: u32,
}

impl<P: ReusePolicy> Scene<P> {
    fn new(fault: Option<Fault>) -> Self {
        let domain = Domain::new();
        let shape = Shape::new(2, 1).expect("a shape");
        let builder = shape.configure(MemAlloc::<P>::builder().domain(domain.clone()));
        let memory = builder.build().expect("loom's twins always have memory");
        let memory = Arc::new(memory.ends_at_once());
        let table = HashTable::new(shape, memory).with_fault(fault);
        let table_here = &table;
        let of = |bucket| (1..).filter(move |key| table_here.bucket(*key).0 == bucket);
        let [wanted, middle, front, fresh, first] = lowest(of(0));
        let [other] = lowest(of(1));
        for key in [wanted, middle, front] {
            assert!(!table.update(key, &value(key)).expect("memory"));
        }
        Self { table, domain, middle, wanted, other, fresh, first }
    }

    fn write(&self, scenario: Scenario) {
        let update = |key, number| {
            self.table.update(key, &value(number)).expect("memory");
        };
        match scenario {
            Scenario::Astray => {
                assert!(self.table.remove(self.middle));
                update(self.other, self.other);
            }
            Scenario::Replaced => update(self.wanted, NEWER),
            Scenario::ReplacedAndReused => {
                update(self.wanted, NEWER);
                update(self.fresh, self.fresh);
            }
        }
    }

    fn read(&self) -> u64 {
        let guard = self.domain.pin();
        let mut found = [0];
        assert!(self.table.get(&guard, self.wanted, &mut found), "{WRONG_ANSWER}");
        found[0]
    }
}

fn lowest<const N: usize>(mut keys: impl Iterator<Item = u32>) -> [u32; N] {
    std::array::from_fn(|_| keys.next().expect("there is no end of keys"))
}

/// The number of the second value; not a key.
const NEWER: u32 = 1000;

fn lookup_beside_a_writer<P: ReusePolicy>(scenario: Scenario, fault: Option<Fault>, seen: &Seen) {
    let scene = Arc::new(Scene::<P>::new(fault));
    let reader = thread::spawn({
        let scene = Arc::clone(&scene);
        move || {
            run_on(1);
            scene.read()
        }
    });
    scene.write(scenario);
    let found = reader.join().expect("the reader does not panic");
    let [old, new] = [value(scene.wanted), value(NEWER)].map(|[word]| word);
    assert!(found == old || found == new, "{TORN}");
    seen.note("the older value", found == old);
    seen.note("the newer value", found == new);
    seen.note(RESTARTED, scene.table.restarts() > 0);
}

fn holds<P: ReusePolicy>(name: &'static str, scenario: Scenario, happens: &'static [&'static str]) {
    let model = Model { name, bound: Some(3), least: 100, happens };
    model.explore(move |seen| lookup_beside_a_writer::<P>(scenario, None, seen));
}

fn breaks_without<P: ReusePolicy>(step: &str, what: &str, scenario: Scenario, fault: Fault) {
    breaks(step, what, move || {
        lookup_beside_a_writer::<P>(scenario, Some(fault), &Seen::default());
    });
}

#[test]
fn a_lookup_that_is_led_into_another_bucket_starts_again() {
    holds::<Immediate>("hash table: led astray", Scenario::Astray, &[RESTARTED]);
}

#[test]
fn a_key_is_missed_when_the_marker_is_not_checked() {
    let step = "hash table: marker not checked";
    breaks_without::<Immediate>(step, WRONG_ANSWER, Scenario::Astray, Fault::MarkerUnchecked);
}

#[test]
fn a_key_that_is_replaced_is_never_missed() {
    let happens = &["the older value", "the newer value"];
    holds::<Immediate>("hash table: replaced, immediate", Scenario::Replaced, happens);
    holds::<AfterRcuGp>("hash table: replaced, deferred", Scenario::Replaced, happens);
}

#[test]
fn a_lookup_gets_the_value_of_one_life() {
    let happens = &["the older value", "the newer value", RESTARTED];
    holds::<Immediate>("hash table: replaced and reused", Scenario::ReplacedAndReused, happens);
}

/// An event: the second writer found the element.
const UNLINKED: &str = "unlinked";

/// One writer inserts an element, and another one before it, which the other writer unlinks: the
/// head, stored by the other, leads to the first of them. (A single writer has the fence with which
/// it filled the second element before that store.)
fn lookup_beside_two_writers(seen: &Seen) {
    let scene = Arc::new(Scene::<AfterRcuGp>::new(None));
    let elsewhere = |run: fn(&Scene<AfterRcuGp>) -> bool| {
        let scene = Arc::clone(&scene);
        thread::spawn(move || {
            run_on(1);
            run(&scene)
        })
    };
    let reader = elsewhere(|scene| scene.read() == value(scene.wanted)[0]);
    let other = elsewhere(|scene| scene.table.remove(scene.first));
    for key in [scene.fresh, scene.first] {
        assert!(!scene.table.update(key, &value(key)).expect("memory"));
    }
    assert!(reader.join().expect("the reader does not panic"), "{TORN}");
    seen.note(UNLINKED, other.join().expect("the writer does not panic"));
}

#[test]
fn an_element_is_seen_whole_after_the_one_before_it_was_unlinked() {
    let model = Model {
        name: "hash table: the first element unlinked",
        bound: Some(2),
        least: 100,
        happens: &[UNLINKED],
    };
    model.explore(lookup_beside_two_writers);
}

#[test]
fn a_replaced_key_is_missed_when_the_head_is_not_read_again() {
    let step = "hash table: head not read again";
    let fault = Fault::HeadNotReread;
    breaks_without::<Immediate>(step, WRONG_ANSWER, Scenario::Replaced, fault);
    breaks_without::<AfterRcuGp>(step, WRONG_ANSWER, Scenario::Replaced, fault);
}

#[test]
fn a_replaced_key_is_missed_when_it_is_unlinked_by_a_relaxed_store() {
    let step = "hash table: unlinked by a Relaxed store";
    let fault = Fault::RelaxedUnlink;
    breaks_without::<AfterRcuGp>(step, WRONG_ANSWER, Scenario::Replaced, fault);
}

#[test]
fn a_value_is_torn_when_the_version_is_not_read_again() {
    let step = "hash table: version not read again";
    let fault = Fault::VersionNotReread;
    breaks_without::<Immediate>(step, TORN, Scenario::ReplacedAndReused, fault);
}

#[test]
fn a_replaced_key_is_missed_without_the_fence_of_a_writer() {
    let step = "hash table: no fence behind the odd version";
    let fault = Fault::FenceMissing;
    breaks_without::<Immediate>(step, WRONG_ANSWER, Scenario::ReplacedAndReused, fault);
}

/// Two lookups, one after the other, while the object that the first one reads becomes the element
/// of the newer value.
fn two_lookups_in_a_row(fault: Option<Fault>, seen: &Seen) {
    let scene = Arc::new(Scene::<Immediate>::new(fault));
    let reader = thread::spawn({
        let scene = Arc::clone(&scene);
        move || {
            run_on(1);
            [scene.read(), scene.read()]
        }
    });
    assert!(scene.table.remove(scene.middle));
    scene.write(Scenario::Replaced);
    let found = reader.join().expect("the reader does not panic");
    assert!(found[0] <= found[1], "{BACK}: {found:?}");
    seen.note("the older value, then the newer", found[0] < found[1]);
}

/// A failure: a value was visible too soon.
const BACK: &str = "the value went back";

#[test]
fn a_value_that_was_seen_stays() {
    let model = Model {
        name: "hash table: no way back",
        bound: Some(2),
        least: 100,
        happens: &["the older value, then the newer"],
    };
    model.explore(|seen| two_lookups_in_a_row(None, seen));
}

#[test]
fn a_value_goes_back_when_its_version_is_even_too_soon() {
    breaks("hash table: version even too soon", BACK, || {
        two_lookups_in_a_row(Some(Fault::EvenTooSoon), &Seen::default());
    });
}
