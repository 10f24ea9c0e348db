//! Two ways to store values that do not fit a leaf together with their keys (`TooLarge`).

use memalloc::{Cache, SlabBox};
use qptrie::{InsertErrorKind, QpTrie};
use std::error::Error;
use std::sync::LazyLock;

fn main() -> Result<(), Box<dyn Error>> {
    // This fails: a leaf has 4096 bytes for key and value.
    let direct: QpTrie<[u8; 5000]> = QpTrie::new()?;
    let refused = direct.pin().insert(b"key", [7; 5000]).expect_err("too large");
    assert!(matches!(refused.kind(), InsertErrorKind::TooLarge { value: 5000, .. }));
    println!("directly: {refused}");

    // First way: the value points to a block on the heap. When no reader can read the value any
    // more, it is dropped, and the block with it.
    let trie: QpTrie<Box<[u8]>> = QpTrie::new()?;
    trie.pin().insert(b"key", vec![7; 5000].into())?;
    let length = trie.pin().get(b"key").map(|value| value.len());
    assert_eq!(length, Some(5000));
    println!("by a box: {length:?} bytes");

    // Second way: a separate allocator for values of up to 4096 bytes, beside the trie's for
    // leaves. A long key does not compete with its value, and no memory comes from the heap.
    static PAGES: LazyLock<Cache<[u8; 4096]>> =
        LazyLock::new(|| Cache::new().expect("memory for an allocator"));
    let trie: QpTrie<SlabBox<'static, [u8; 4096]>> = QpTrie::new()?;
    let long = [b'k'; 4000];
    trie.pin().insert(&long, PAGES.alloc([7; 4096])?)?;
    let last = trie.pin().get(&long).map(|page| page[4095]);
    assert_eq!(last, Some(7));
    println!("by a second allocator: the last byte is {last:?}");
    Ok(())
}

#[test]
fn the_example_runs() {
    main().expect("memory");
}
