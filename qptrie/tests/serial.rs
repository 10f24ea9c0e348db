//! Tries in data formats: what was serialized is deserialized unchanged, including keys that are
//! not text.
#![cfg(not(loom))]

mod common;

use common::keys::any_key;
use common::reference::{Model, same_entries};
use common::{Setup, in_every_setup};
use memalloc::ReusePolicy;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use qptrie::QpTrie;

fn any_trie_is_deserialized_as_it_was_serialized<B: ReusePolicy>(setup: Setup) {
    let entries = prop::collection::btree_map(any_key(4086), any::<u64>(), 0..50);
    let config = Config { cases: 50, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&entries, |model: Model<u64>| {
        let trie = setup.trie::<u64, B>();
        trie.try_extend(model.iter().map(|(key, value)| (key, *value))).expect("memory");
        let mut bytes = Vec::new();
        ciborium::into_writer(&trie, &mut bytes).expect("a vector takes any number");
        let read: QpTrie<u64, B> = ciborium::from_reader(&bytes[..]).expect("as written");
        same_entries(&read, &model);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

in_every_setup![any_trie_is_deserialized_as_it_was_serialized];

#[test]
fn a_human_readable_format_has_text_keys_in_order() {
    let trie = QpTrie::<u32>::from([("b", 2), ("", 0), ("a\u{e4}", 1)]);
    let text = serde_json::to_string(&trie).expect("all keys are text");
    assert_eq!(text, r#"{"":0,"aä":1,"b":2}"#);
    let read: QpTrie<u32> = serde_json::from_str(&text).expect("as written");
    assert_eq!(read, trie);
    let binary = QpTrie::<u32>::from([([0xff], 1)]);
    serde_json::to_string(&binary).expect_err("no text, and the format has nothing else for keys");
}

#[test]
fn an_entry_that_does_not_fit_is_an_error_with_its_reason() {
    let read = |text: &str| serde_json::from_str::<QpTrie<u32>>(text).map(drop);
    let key = "k".repeat(5000);
    let error = read(&format!(r#"{{"{key}":1}}"#)).expect_err("too long").to_string();
    assert!(error.contains("a key of 5000 bytes"), "{error}");
    let error = read("[1]").expect_err("a sequence").to_string();
    assert!(error.contains("expected a map whose keys are bytes"), "{error}");
}
