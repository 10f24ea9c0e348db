//! Values that do not fit a leaf together with their keys: the two ways out of `TooLarge`.

use memalloc::{Cache, SlabBox};
use qptrie::{InsertErrorKind, QpTrie};
use std::error::Error;
use std::sync::LazyLock;

fn main() -> Result<(), Box<dyn Error>> {
    // What can't be: a leaf has 4096 bytes for key and value.
    let direct: QpTrie<[u8; 5000]> = QpTrie::new()?;
    let refused = direct.pin().insert(b"key", [7; 5000]).expect_err("too large");
    assert!(matches!(refused.kind(), InsertErrorKind::TooLarge { value: 5000, .. }));
    println!("directly: {refused}");

    // One way: the value points to what the program keeps on the heap. It is dropped when nobody can
    // read it any more, and the block with it.
    let trie: QpTrie<Box<[u8]>> = QpTrie::new()?;
    trie.pin().insert(b"key", vec![7; 5000].into())?;
    let length = trie.pin().get(b"key").map(|value| value.len());
    assert_eq!(length, Some(5000));
    println!("by a box: {length:?} bytes");

    // The other: an allocator of its own for values of up to 4096 bytes, beside the trie's for leaves.
    // A long key does not compete with its value, and nothing comes from the heap.
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
