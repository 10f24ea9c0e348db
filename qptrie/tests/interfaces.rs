//! Code that compiles with std's maps compiles with the trie, without annotations and for values of
//! every type.
#![cfg(not(loom))]

use memalloc::rcu::{Domain, Guard, TraceGuard};
use memalloc::{AfterTasksTraceGp, FreeAfterRcuGp, Immediate};
use qptrie::bytemuck::NoUninit;
use qptrie::{Computed, InsertErrorKind, KeyRange, Operation, PlainBits, QpTrie, TrieRef, Update};
use std::error::Error;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::ops::ControlFlow::{Break, Continue};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

type AnyError = Box<dyn Error + Send + Sync>;

#[test]
fn the_type_of_a_trie_is_inferred() -> Result<(), AnyError> {
    let trie = QpTrie::new()?;
    trie.pin().insert("abc", 1)?;
    assert_eq!(trie.pin().get("abc"), Some(&1));
    let copied = QpTrie::<_, Immediate, Immediate>::with_policies()?;
    copied.pin().insert_copied("abc", 1_u8)?;
    let kept = QpTrie::<_, Immediate, FreeAfterRcuGp>::with_policies()?;
    kept.pin().insert("abc", "value")?;
    Ok(())
}

#[test]
fn a_key_is_anything_that_has_bytes() -> Result<(), AnyError> {
    let trie = QpTrie::new()?;
    let view = trie.pin();
    let (text, bytes) = ("key".to_owned(), b"key".to_vec());
    view.insert("key", 1)?;
    assert_eq!(view.insert(&text, 2)?, Some(&1));
    assert_eq!(view.insert(&bytes, 3)?, Some(&2));
    assert_eq!(view.get(&text), Some(&3));
    assert_eq!(view.get(&bytes), view.get(b"key"));
    assert_eq!(view.get(&bytes[..]), view.get(text.as_bytes()));
    assert_eq!(view.get_with(&text, |value| value + 1), Some(4));
    assert_eq!(view.get_key_value(&text), Some((&b"key"[..], &3)));
    assert!(view.contains_key(&text));
    assert_eq!(view.get_many(["key", "keys"]), [Some(&3), None]);
    assert_eq!(view.get_many([&text, &"keys".to_owned()]), [Some(&3), None]);
    assert_eq!(view.get_many([&bytes[..], b"keys"]), [Some(&3), None]);
    assert_eq!(view.update(&text, 4, Update::Exist)?, Some(&3));
    assert_eq!(view.try_insert(&text, 5).unwrap_err().kind(), InsertErrorKind::Exists);
    assert_eq!(view.get_or_insert_with(&text, || 6)?, &4);
    assert_eq!(view.prefix("k").count(), 1);
    assert_eq!(view.longest_prefix("keys"), Some((&b"key"[..], &4)));
    assert_eq!(view.remove_if(&text, |_| false), None);
    assert_eq!(view.remove(&text), Some(&4));
    assert_eq!(view.remove(&7_u32.to_be_bytes()), None);
    Ok(())
}

#[test]
fn a_key_of_a_copied_value_is_anything_that_has_bytes() -> Result<(), AnyError> {
    let trie = QpTrie::<u32, Immediate, Immediate>::with_policies()?;
    let (view, text) = (trie.pin(), "key".to_owned());
    assert_eq!(view.insert_copied("key", 1)?, None);
    assert_eq!(view.update_copied(&text, 2, Update::Exist)?, Some(1));
    assert_eq!((view.get_copied(&text), view.get_copied("absent")), (Some(2), None));
    assert_eq!(view.get_many_copied([&text[..], "absent"]), [Some(2), None]);
    assert_eq!(view.get_or_insert_with_copied(&text, || 3)?, 2);
    assert_eq!(view.prefix_copied("k").count(), 1);
    assert_eq!(view.longest_prefix_copied("keys"), Some((&b"key"[..], 2)));
    let more = |value: Option<u32>| Operation::Insert(value.unwrap_or(0) + 1);
    assert_eq!(view.compute_copied(&text, more)?, Computed::Replaced { old: 2, new: 3 });
    assert_eq!(view.remove_if_copied(&text, |value| value > 3), None);
    assert_eq!(view.remove_copied(&text), Some(3));
    Ok(())
}

#[test]
fn a_key_of_a_sleeper_is_anything_that_has_bytes() -> Result<(), AnyError> {
    let trie = QpTrie::<u32, Immediate, AfterTasksTraceGp>::with_policies()?;
    let (view, text) = (trie.pin_trace(), "key".to_owned());
    assert_eq!(view.insert("key", 1)?, None);
    assert_eq!(view.update(&text, 2, Update::Exist)?, Some(&1));
    assert_eq!((view.get(&text), view.contains_key("absent")), (Some(&2), false));
    assert_eq!(view.get_with(&text, |value| value + 1), Some(3));
    assert_eq!(view.get_many([&text[..], "absent"]), [Some(&2), None]);
    assert_eq!(view.get_key_value(&text), Some((&b"key"[..], &2)));
    assert_eq!(view.try_insert(&text, 5).unwrap_err().into_value(), 5);
    assert_eq!(view.get_or_insert_with(&text, || 3)?, &2);
    assert_eq!(view.prefix("k").count() + view.range(..).count(), 2);
    assert_eq!(view.longest_prefix("keys"), Some((&b"key"[..], &2)));
    let more = |value: Option<&u32>| Operation::Insert(value.map_or(1, |value| value + 1));
    assert_eq!(view.compute(&text, more)?, Computed::Replaced { old: &2, new: &3 });
    assert_eq!(view.remove_if(&text, |value| *value > 3), None);
    assert_eq!(view.remove(&text), Some(&3));
    trie.try_extend([("a", 1), ("b", 2), ("c", 3)])?;
    let (first, last) = (view.pop_first(), view.pop_last());
    assert_eq!((first, last, trie.len()), (Some((&b"a"[..], &1)), Some((&b"c"[..], &3)), 1));
    Ok(())
}

/// `Unbounded` and `None` name no type of key, so bounds and cursors are bytes.
#[test]
fn types_of_bounds_and_cursors_are_inferred() -> Result<(), AnyError> {
    let trie: QpTrie<u32> = [("a", 1), ("b", 2)].into();
    let (view, mut key) = (trie.pin(), Vec::new());
    assert_eq!(view.lower_bound(Unbounded), Some((&b"a"[..], &1)));
    assert_eq!(view.lower_bound(Excluded(b"a")), view.upper_bound(Unbounded));
    assert!(view.next_key(None, &mut key));
    let first = key.clone();
    assert!(view.next_key(Some(&first), &mut key) && !view.next_key(Some(b"b"), &mut Vec::new()));
    assert!(view.prev_key(Some("b".as_bytes()), &mut key) && key == first);
    Ok(())
}

#[test]
fn types_of_ranges_are_inferred() -> Result<(), AnyError> {
    fn count(view: &TrieRef<u32>, range: impl KeyRange) -> usize {
        view.range(range).count()
    }

    let trie: QpTrie<u32> = [("a", 1), ("b", 2), ("c", 3)].into();
    let view = trie.pin();
    assert_eq!((count(&view, ..), view.range(..).count()), (3, 3));
    assert_eq!((count(&view, b"a"..b"c"), view.range(b"a"..b"c").count()), (2, 2));
    assert_eq!(count(&view, "b"..), 2);
    assert_eq!(count(&view, ..="b"), 2);
    assert_eq!(count(&view, .."b".to_owned()), 1);
    assert_eq!(count(&view, "a"..="b"), 2);
    assert_eq!(count(&view, (Excluded(&b"a"[..]), Unbounded)), 2);
    assert_eq!(count(&view, (Excluded([b'a']), Included([b'b']))), 1);
    assert_eq!(count(&view, "c".."a"), 0);
    let copied: QpTrie<u32, Immediate, Immediate> = [("a", 1), ("b", 2)].into();
    assert_eq!(copied.pin().range_copied(..).count(), 2);
    assert_eq!(copied.pin().range_copied(b"b"..).count(), 1);
    Ok(())
}

#[test]
fn types_of_compute_are_inferred() -> Result<(), AnyError> {
    let trie = QpTrie::new()?;
    let view = trie.pin();
    assert_eq!(view.compute("key", |_| Operation::Insert(1))?, Computed::Inserted(&1));
    let mut seen = None;
    let given_up = view.compute("key", |value| {
        seen = value.copied();
        Operation::Abort
    })?;
    assert_eq!((given_up, seen), (Computed::Aborted, Some(1)));
    assert_eq!(view.compute("key", |_| Operation::Remove)?, Computed::Removed(&1));
    Ok(())
}

/// Implements neither `Debug` nor `Clone`.
struct Node(u32);

fn insert_with_question_mark(trie: &QpTrie<Node>, key: &str) -> Result<(), Box<dyn Error>> {
    trie.pin().insert(key, Node(1))?;
    Ok(())
}

#[test]
fn an_insert_error_is_an_error_for_values_of_every_type() {
    let trie = QpTrie::<Node>::builder().max_entries(1).build().unwrap();
    insert_with_question_mark(&trie, "a").unwrap();
    trie.pin().insert("a", Node(2)).unwrap();
    let error = insert_with_question_mark(&trie, "b").unwrap_err();
    assert_eq!(error.to_string(), "the trie is full: it allows 1 entries");
    let Err(error) = trie.pin().insert("b", Node(3)).map(drop) else { panic!("there is no room") };
    let text = format!("{error:?}");
    assert!(text.contains("InsertError") && text.contains("Full"), "{text}");
    let kind: Box<dyn Error + Send + Sync> = error.kind().into();
    assert_eq!(kind.to_string(), error.to_string());
    assert_eq!(error.into_value().0, 3);
}

fn found<'g>(trie: &'g QpTrie<String>, guard: &'g Guard<'_>, key: &str) -> Option<&'g String> {
    trie.view(guard).get(key)
}

fn all<'g>(
    trie: &'g QpTrie<String>,
    guard: &'g Guard<'_>,
) -> impl DoubleEndedIterator<Item = (&'g [u8], &'g String)> {
    trie.view(guard).iter()
}

/// A reference borrows the guard, so a function can return it, and is valid as long as the guard.
#[test]
fn a_reference_lives_as_long_as_the_guard() -> Result<(), AnyError> {
    let domain = Domain::new();
    let trie = QpTrie::<String>::builder().domain(domain.clone()).build()?;
    trie.try_extend([("a", "1".to_owned()), ("b", "2".to_owned())])?;
    let guard = domain.pin();
    let first = found(&trie, &guard, "a");
    let entries = all(&trie, &guard);
    let old = trie.view(&guard).insert("a", "3".to_owned())?;
    let gone = trie.view(&guard).remove("b");
    let popped = trie.view(&guard).pop_first();
    thread::scope(|scope| scope.spawn(|| trie.pin().insert("a", "4".to_owned()).map(drop)).join())
        .expect("no panic")?;
    assert_eq!((first, old), (Some(&"1".to_owned()), Some(&"1".to_owned())));
    assert_eq!(
        (gone.map(|value| &value[..]), popped.map(|(key, _)| key)),
        (Some("2"), Some(&b"a"[..]))
    );
    assert_eq!(entries.map(|(_, value)| &value[..]).collect::<Vec<_>>(), ["4"]);
    drop(guard);
    Ok(())
}

type Kept = QpTrie<String, Immediate, AfterTasksTraceGp>;

fn found_asleep<'g>(trie: &'g Kept, guard: &'g TraceGuard<'_>, key: &str) -> Option<&'g String> {
    trie.view_trace(guard).get(key)
}

/// The same for sleepers: a task may own the guard, and references move to other threads.
#[test]
fn a_sleepers_reference_lives_as_long_as_the_guard() -> Result<(), AnyError> {
    let (domain, other) = (Domain::new(), Domain::new());
    let trie = Kept::builder().domain(domain.clone()).build()?;
    trie.try_extend([("a", "1".to_owned()), ("b", "2".to_owned())])?;
    let owned = domain.pin_trace_owned();
    let first = found_asleep(&trie, owned.guard(), "a");
    let view = trie.view_trace(owned.guard());
    view.remove("a");
    thread::scope(|scope| {
        scope.spawn(|| {
            trie.domain().synchronize().expect("outside of read sections");
            assert_eq!(first.map(String::as_str), Some("1"));
            assert_eq!(view.iter().count(), 1);
        });
    });
    let wrong = AssertUnwindSafe(|| trie.view_trace(&other.pin_trace()).contains_key("b"));
    catch_unwind(wrong).expect_err("the guard would protect nothing");
    Ok(())
}

#[test]
fn a_length_is_a_usize() {
    let trie: QpTrie<u32> = [("a", 1), ("b", 2)].into();
    let lengths: [usize; 2] = [trie.len(), ["a", "b"].len()];
    assert_eq!(lengths[0], lengths[1]);
}

#[test]
fn a_closure_sees_the_entries_of_an_iterator() {
    let trie: QpTrie<u32> = [("a", 1), ("b", 2), ("c", 3)].into();
    let view = trie.pin();
    let mut seen = Vec::new();
    view.for_each(.., |key, value| seen.push((key, value)));
    assert!(view.iter().eq(seen));
    let found =
        view.try_for_each("b".., |_, value| if *value > 2 { Break(value) } else { Continue(()) });
    assert_eq!(found, Break(&3));
}

/// A closure that sees the entries may sleep, and change the trie.
#[test]
fn a_sleepers_scan_has_every_form() -> Result<(), AnyError> {
    let trie = QpTrie::<u32, Immediate, AfterTasksTraceGp>::from([("a", 1), ("b", 2), ("c", 3)]);
    let (view, mut seen, mut key) = (trie.pin_trace(), Vec::new(), Vec::new());
    view.for_each(.., |key, value| {
        trie.domain().synchronize().expect("outside of RCU sections");
        seen.push((key, value));
    });
    assert!(view.iter().eq(seen));
    assert!(view.keys().eq([b"a", b"b", b"c"]) && view.values().rev().eq(&[3, 2, 1]));
    let found = view
        .try_for_each("a"..="b", |_, value| if *value > 2 { Break(value) } else { Continue(()) });
    assert_eq!(found, Continue(()), "the scan ends at its bound");
    let found = view.try_for_each("b".., |key, _| {
        view.remove(key);
        Break(key)
    });
    assert_eq!(found, Break(&b"b"[..]));
    assert!(view.next_key(Some(b"a"), &mut key) && key == b"c");
    assert!(view.prev_key(None, &mut key) && key == b"c");
    assert!(view.prev_key(Some(b"c"), &mut key) && key == b"a");
    assert!(!view.prev_key(Some(b"a"), &mut key) && key == b"a");
    Ok(())
}

#[test]
fn statistics_print_every_number() {
    let trie: QpTrie<u32> = [("a", 1), ("b", 2), ("ba", 3)].into();
    assert_eq!(trie.stats().to_string(), "3 entries, 0 retries, 0 insisted");
    let usage = trie.memory_usage();
    let text = usage.to_string();
    let (branches, leaves) = (usage.branches.to_string(), usage.leaves.to_string());
    let total = format!("total: {} bytes (slabs {}, ", usage.total_bytes(), usage.slab_bytes());
    assert!(
        text.starts_with(&format!("branches:\n{branches}\nleaves:\n{leaves}\n{total}")),
        "{text}"
    );
    assert!(text.ends_with(&format!("roots {}, hints 0)", usage.root_bytes)), "{text}");
}

/// A number and a mark, without padding. Some bit patterns are invalid. Its derive macro needs no
/// crate but the trie's.
#[derive(Clone, Copy, Debug, PartialEq, NoUninit)]
#[bytemuck(crate = "qptrie::bytemuck")]
#[repr(C)]
struct Marked {
    number: u32,
    mark: [bool; 4],
}

/// A copied value needs only to have all its bytes initialized.
#[test]
fn a_value_that_is_copied_may_have_invalid_bit_patterns() -> Result<(), AnyError> {
    fn is_plain<V: PlainBits>() {}

    is_plain::<bool>();
    is_plain::<char>();
    is_plain::<std::num::NonZeroU32>();
    is_plain::<[f64; 3]>();
    let trie = QpTrie::<Marked, Immediate, Immediate>::with_policies()?;
    let value = Marked { number: 7, mark: [true, false, true, true] };
    trie.pin().insert_copied("key", value)?;
    assert_eq!(trie.pin().get_copied("key"), Some(value));
    Ok(())
}
