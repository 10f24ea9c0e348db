//! The operations that return references, under the policies of leaves that allow them.

use crate::common::reference::Model;
use memalloc::{AfterRcuGp, AfterTasksTraceGp, FreeAfterRcuGp, Immediate, ReusePolicy};
use qptrie::{LeafPolicy, TrieRef};
use std::ops::Bound;

/// A policy of leaves, with the operations that it allows beyond copies.
pub(crate) trait Leaves: LeafPolicy<u64> {
    /// Returns a reference to the value of a key; `None` where references are not allowed.
    fn get<'g, B: ReusePolicy>(view: &'g TrieRef<u64, B, Self>, key: &[u8]) -> Option<&'g u64>;

    /// Compares one operation with the same on the model.
    fn compare<B: ReusePolicy>(
        view: &TrieRef<u64, B, Self>,
        model: &mut Model<u64>,
        operation: usize,
        keys: [Vec<u8>; 2],
    );
}

impl Leaves for Immediate {
    fn get<'g, B: ReusePolicy>(_: &'g TrieRef<u64, B, Self>, _: &[u8]) -> Option<&'g u64> {
        None
    }

    fn compare<B: ReusePolicy>(
        _: &TrieRef<u64, B, Self>,
        _: &mut Model<u64>,
        _: usize,
        _: [Vec<u8>; 2],
    ) {
    }
}

macro_rules! leaves {
    ($($policy:ident)+) => {$(
        impl Leaves for $policy {
            fn get<'g, B: ReusePolicy>(
                view: &'g TrieRef<u64, B, Self>,
                key: &[u8],
            ) -> Option<&'g u64> {
                view.get(key)
            }

            fn compare<B: ReusePolicy>(
                view: &TrieRef<u64, B, Self>,
                model: &mut Model<u64>,
                operation: usize,
                keys: [Vec<u8>; 2],
            ) {
                let slice = |(key, value)| (AsRef::<[u8]>::as_ref(key), value);
                let [one, two] = keys;
                match operation % 8 {
                    0 => {
                        let found = view.get_many([&one[..], &two, &one]);
                        assert_eq!(found, [&one, &two, &one].map(|key| model.get(key)));
                        assert_eq!(view.get_key_value(&one), model.get_key_value(&one).map(slice));
                    }
                    1 => assert_eq!(view.remove(&one).copied(), model.remove(&one)),
                    2 => {
                        let is_odd = |value: &u64| value % 2 == 1;
                        let removed = view.remove_if(&one, is_odd).copied();
                        let expected = model.get(&one).copied().filter(is_odd);
                        assert_eq!(removed, expected);
                        if expected.is_some() {
                            model.remove(&one);
                        }
                    }
                    3 => assert_eq!(
                        view.pop_first().map(|(key, value)| (key.to_vec(), *value)),
                        model.pop_first(),
                    ),
                    4 => assert_eq!(
                        view.pop_last().map(|(key, value)| (key.to_vec(), *value)),
                        model.pop_last(),
                    ),
                    5 => {
                        let bounds = (Bound::Excluded(&one), Bound::Unbounded);
                        let after = view.lower_bound(Bound::Excluded(&one));
                        assert_eq!(after, model.range::<Vec<u8>, _>(bounds).next().map(slice));
                        assert_eq!(view.first(), model.first_key_value().map(slice));
                        assert_eq!(view.last(), model.last_key_value().map(slice));
                    }
                    6 => {
                        let (from, to) = if one <= two { (&one, &two) } else { (&two, &one) };
                        let expected = model.range::<Vec<u8>, _>(from..to).map(slice);
                        assert!(view.range(from..to).eq(expected.clone()));
                        assert!(view.range(from..to).rev().eq(expected.rev()));
                        assert!(from == to || view.range(to..from).next().is_none());
                        let mut visited = Vec::new();
                        view.for_each(..=from, |key, value| visited.push((key, value)));
                        assert!(visited.into_iter().eq(model.range(..=from.clone()).map(slice)));
                    }
                    _ => {
                        let is_kept =
                            |key: &[u8], value: &u64| key > &one[..] || !value.is_multiple_of(3);
                        view.retain(is_kept);
                        model.retain(|key, value| is_kept(key, value));
                    }
                }
            }
        }
    )+};
}

leaves!(AfterRcuGp FreeAfterRcuGp AfterTasksTraceGp);
