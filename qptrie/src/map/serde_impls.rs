//! A trie in the data formats of serde: a map whose keys are bytes, in ascending order.
//!
//! Human-readable formats have no bytes, and some of them allow only text as keys. For them a key
//! that is valid UTF-8 is written as text, and any other key as bytes, which the format may reject.
//! From a human-readable format this reads keys as bytes, text or a sequence of numbers; from any
//! other format, as bytes.

use crate::map::leaf_policy::LeafPolicy;
use crate::map::trie::QpTrie;
use memalloc::ReusePolicy;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;

/// A key that is serialized.
struct Written<'k>(&'k [u8]);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) if serializer.is_human_readable() => serializer.serialize_str(text),
            _ => serializer.serialize_bytes(self.0),
        }
    }
}

/// Writes the entries that a scan returns, all in one section, with their number first.
impl<V, B, L> Serialize for QpTrie<V, B, L>
where
    V: Serialize + Send + Sync + 'static,
    B: ReusePolicy,
    L: LeafPolicy<V>,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let view = self.pin();
        // While other threads write, the number of entries is not known in advance, and some
        // formats need it first.
        let entries: Vec<_> = L::entries(&view).collect();
        let mut map = serializer.serialize_map(Some(entries.len()))?;
        for (key, value) in entries {
            map.serialize_entry(&Written(key.as_ref()), Borrow::<V>::borrow(&value))?;
        }
        map.end()
    }
}

/// A key that was deserialized.
struct Read(Vec<u8>);

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Read;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key: bytes, text, or a sequence of numbers below 256")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Read, E> {
                Ok(Read(bytes.to_vec()))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Read, E> {
                Ok(Read(bytes))
            }

            fn visit_str<E>(self, text: &str) -> Result<Read, E> {
                Ok(Read(text.as_bytes().to_vec()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<Read, A::Error> {
                let mut key = Vec::new();
                while let Some(byte) = bytes.next_element()? {
                    key.push(byte);
                }
                Ok(Read(key))
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(KeyVisitor)
        } else {
            deserializer.deserialize_byte_buf(KeyVisitor)
        }
    }
}

/// Builds a trie with the settings of [`QpTrie::new`]. If a key occurs twice, the later value wins.
impl<'de, V, B, L> Deserialize<'de> for QpTrie<V, B, L>
where
    V: Deserialize<'de> + Send + Sync + 'static,
    B: ReusePolicy,
    L: LeafPolicy<V>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TrieVisitor<T>(PhantomData<T>);
        impl<'de, V, B, L> Visitor<'de> for TrieVisitor<QpTrie<V, B, L>>
        where
            V: Deserialize<'de> + Send + Sync + 'static,
            B: ReusePolicy,
            L: LeafPolicy<V>,
        {
            type Value = QpTrie<V, B, L>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map whose keys are bytes")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let trie = QpTrie::with_policies().map_err(A::Error::custom)?;
                while let Some((Read(key), value)) = map.next_entry()? {
                    L::insert(&trie.pin(), &key, value).map_err(|e| A::Error::custom(e.kind()))?;
                }
                Ok(trie)
            }
        }
        deserializer.deserialize_map(TrieVisitor(PhantomData))
    }
}
