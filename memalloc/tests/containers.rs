//! Containers of other crates work on an allocator, and leave no objects behind.
#![cfg(all(feature = "allocator-api2", not(loom)))]

mod common;

use allocator_api2::alloc::{Allocator, Global};
use allocator_api2::boxed::Box as BoxIn;
use allocator_api2::vec::Vec as VecIn;
use bumpalo::Bump;
use common::{Dice, Setup, adds_up, in_every_setup, layout};
use hashbrown::{DefaultHashBuilder, HashMap as MapIn};
use memalloc::{AfterRcuGp, MemAlloc};
use std::alloc::Layout;
use std::collections::HashMap;
use std::ptr::NonNull;
use std::thread;

/// Checks that a map on `place` does the same as the standard one.
fn follow_a_map(place: impl Allocator + Clone, seed: u64) {
    let mut dice = Dice::new(seed);
    let mut map = MapIn::with_hasher_in(DefaultHashBuilder::default(), place);
    let mut model = HashMap::new();
    for step in 0..6_000 {
        let key = dice.roll(700);
        match dice.roll(10) {
            0..6 => assert_eq!(map.insert(key, step), model.insert(key, step)),
            6..9 => assert_eq!(map.remove(&key), model.remove(&key)),
            _ => assert_eq!(map.get(&key), model.get(&key)),
        }
        if dice.roll(1_000) == 0 {
            map.retain(|key, _| key % 16 == 0);
            model.retain(|key, _| key % 16 == 0);
            map.shrink_to_fit();
            map = map.clone();
        }
        assert_eq!(map.len(), model.len());
    }
    assert!(model.iter().all(|(key, value)| map.get(key) == Some(value)));
}

in_every_setup! {
    fn a_hash_map_does_what_the_standard_one_does<AfterRcuGp>(setup) {
        let alloc = setup.allocator::<P>();
        follow_a_map(alloc.with_fallback(Global), 1);
        let arena = Bump::new();
        follow_a_map(alloc.with_fallback(&arena), 2);
        adds_up(&alloc.stats(), 0);
        alloc.destroy().expect("nothing leaked");
    }
}

in_every_setup! {
    fn a_vector_does_what_the_standard_one_does<AfterRcuGp>(setup) {
        let alloc = setup.allocator::<P>();
        let place = alloc.with_fallback(Global);
        let mut dice = Dice::new(3);
        let (mut vector, mut model) = (VecIn::new_in(place), Vec::new());
        for step in 0..4_000_u64 {
            match dice.roll(8) {
                0..5 => {
                    let more = 1 + dice.roll(60);
                    vector.extend((0..more as u64).map(|n| n ^ step));
                    model.extend((0..more as u64).map(|n| n ^ step));
                }
                5 => {
                    let left = dice.roll(model.len() + 1);
                    vector.truncate(left);
                    model.truncate(left);
                }
                6 => vector.shrink_to_fit(),
                _ => assert_eq!(vector.pop(), model.pop()),
            }
            assert_eq!(vector.as_slice(), model.as_slice());
        }
        drop(vector);
        alloc.destroy().expect("nothing leaked");
    }
}

in_every_setup! {
    /// Without a fallback, a block that is too large is an error, and the container stays intact.
    fn a_container_that_outgrows_an_object_gets_an_error<AfterRcuGp>(setup) {
        let alloc = setup.allocator::<P>();
        let mut map = MapIn::with_hasher_in(DefaultHashBuilder::default(), &alloc);
        let mut count = 0_u64;
        while map.try_reserve(1).is_ok() {
            map.insert(count, count);
            count += 1;
        }
        assert!(count >= 100, "{count} entries of 16 bytes in 4096");
        assert!((0..count).all(|key| map.get(&key) == Some(&key)));
        drop(map);

        let mut vector = VecIn::new_in(&alloc);
        vector.try_reserve_exact(4096).expect("an object has as many bytes");
        vector.resize(4096, 7_u8);
        assert!(vector.try_reserve(1).is_err());
        assert!(vector.iter().all(|byte| *byte == 7));
        drop(vector);

        #[repr(align(8192))]
        struct Wide(u8);
        assert!(BoxIn::try_new_in(Wide(1), &alloc).is_err());
        let wide = BoxIn::new_in(Wide(1), alloc.with_fallback(Global));
        assert_eq!(wide.0, 1);
        assert!((&raw const *wide).addr().is_multiple_of(8192));
        drop(wide);
        alloc.destroy().expect("nothing leaked");
    }
}

/// A block and its expected contents.
struct Block {
    place: NonNull<[u8]>,
    layout: Layout,
    pattern: u8,
}

impl Block {
    fn filled(place: NonNull<[u8]>, layout: Layout, pattern: u8) -> Self {
        assert!(place.len() >= layout.size());
        assert!(place.cast::<u8>().addr().get().is_multiple_of(layout.align()));
        // SAFETY: the block is as long as its slice says, and ours.
        unsafe { place.cast::<u8>().write_bytes(pattern, place.len()) };
        Self { place, layout, pattern }
    }

    /// Returns a layout that fits the block: any size from the requested size to the granted size.
    fn fitting(&self, dice: &mut Dice) -> Layout {
        let size = self.layout.size();
        layout(size + dice.roll(self.place.len() - size + 1), self.layout.align())
    }

    fn check(place: NonNull<[u8]>, range: std::ops::Range<usize>, expected: u8) {
        // SAFETY: the block is as long as its slice says, and written.
        let bytes = unsafe { place.as_ref() };
        assert!(bytes[range].iter().all(|byte| *byte == expected));
    }
}

/// Returns a size around any class or beyond, including zero, and any alignment.
fn any_layout(dice: &mut Dice) -> Layout {
    let size = [0, dice.roll(64), dice.roll(1_000), dice.roll(6_000)][dice.roll(4)];
    layout(size, 1 << dice.roll(14))
}

/// Checks the contract of the trait, method by method, over sizes on both sides of every limit.
fn keeps_the_contract(allocator: &impl Allocator, seed: u64) -> usize {
    let mut dice = Dice::new(seed);
    let mut blocks: Vec<Block> = Vec::new();
    let mut refused = 0;
    for step in 0..8_000 {
        let pattern = step as u8;
        let next = any_layout(&mut dice);
        if blocks.is_empty() || dice.roll(4) == 0 {
            match allocator.allocate(next) {
                Ok(place) => blocks.push(Block::filled(place, next, pattern)),
                Err(_) => refused += 1,
            }
            if let Ok(place) = allocator.allocate_zeroed(next) {
                Block::check(place, 0..place.len(), 0);
                blocks.push(Block::filled(place, next, pattern));
            }
            continue;
        }
        let at = dice.roll(blocks.len());
        let block = blocks.swap_remove(at);
        let (place, old) = (block.place, block.fitting(&mut dice));
        Block::check(place, 0..place.len(), block.pattern);
        let place = place.cast::<u8>();
        // SAFETY: `place` is a block of this allocator that `old` fits, and the sizes are in the
        // order that each method requires.
        let (changed, kept) = unsafe {
            match dice.roll(4) {
                0 if next.size() >= old.size() => (allocator.grow(place, old, next), old.size()),
                1 if next.size() >= old.size() => {
                    let zeroed = allocator.grow_zeroed(place, old, next);
                    if let Ok(grown) = zeroed {
                        Block::check(grown, block.place.len().min(grown.len())..grown.len(), 0);
                    }
                    (zeroed, old.size())
                }
                0 | 1 => (allocator.shrink(place, old, next), next.size()),
                _ => {
                    allocator.deallocate(place, old);
                    continue;
                }
            }
        };
        match changed {
            Ok(changed) => {
                Block::check(changed, 0..kept, block.pattern);
                blocks.push(Block::filled(changed, next, pattern));
            }
            Err(_) => {
                Block::check(block.place, 0..block.place.len(), block.pattern);
                refused += 1;
                blocks.push(block);
            }
        }
    }
    for block in blocks {
        // SAFETY: a block of this allocator, with its own layout.
        unsafe { allocator.deallocate(block.place.cast(), block.layout) };
    }
    refused
}

in_every_setup! {
    fn the_contract_of_allocators_is_kept<ProtectsIdentity>(setup) {
        let alloc = setup.allocator::<P>();
        assert!(keeps_the_contract(&alloc, 4) > 0, "some layouts are not served");
        adds_up(&alloc.stats(), 0);
        assert_eq!(keeps_the_contract(&alloc.with_fallback(Global), 5), 0, "every layout is");
        let arena = Bump::new();
        assert_eq!(keeps_the_contract(&alloc.with_fallback(&arena), 6), 0, "every layout is");
        adds_up(&alloc.stats(), 0);
        alloc.destroy().expect("nothing leaked");
    }
}

#[test]
fn a_block_stays_in_place_within_its_class() {
    let alloc: MemAlloc = MemAlloc::new().expect("an allocator");
    let mut vector = VecIn::new_in(&alloc);
    vector.reserve_exact(513);
    vector.push(1_u8);
    let place = vector.as_ptr();
    vector.reserve_exact(1024 - vector.len());
    assert_eq!(vector.as_ptr(), place, "grown");
    vector.shrink_to(600);
    assert_eq!(vector.as_ptr(), place, "shrunk");
    vector.shrink_to_fit();
    assert_ne!(vector.as_ptr(), place, "a smaller class");
    assert_eq!(*vector, [1]);
}

#[test]
fn nothing_is_taken_for_a_size_of_zero() {
    let alloc: MemAlloc = MemAlloc::new().expect("an allocator");
    for align in [1, 4096, 1 << 20] {
        let layout = layout(0, align);
        let block = alloc.allocate(layout).expect("it needs no memory");
        assert_eq!(block.len(), 0);
        assert!(block.cast::<u8>().addr().get().is_multiple_of(align));
        // SAFETY: a block of this allocator, with its own layout.
        unsafe { alloc.deallocate(block.cast(), layout) };
    }
    let unit = BoxIn::new_in((), &alloc);
    assert_eq!(alloc.stats().taken.objects, 0);
    drop(unit);
    alloc.destroy().expect("nothing leaked");
}

/// A container may be the only owner of its allocator: the block is freed first.
#[test]
fn a_container_may_own_its_allocator() {
    let alloc: MemAlloc = MemAlloc::new().expect("an allocator");
    let mut vector = VecIn::new_in(alloc);
    vector.extend(0..100);
    let moved = vector;
    assert!((0..100).eq(moved.iter().copied()));
}

#[test]
fn a_container_may_be_dropped_by_another_thread() {
    for setup in Setup::every() {
        let alloc = setup.allocator::<AfterRcuGp>();
        thread::scope(|scope| {
            let (give, take) = std::sync::mpsc::channel();
            let alloc = &alloc;
            scope.spawn(move || {
                for number in 0..10_000_u64 {
                    let mut list = VecIn::new_in(alloc.with_fallback(Global));
                    list.extend(number..number + number % 40);
                    give.send(BoxIn::new_in((number, list), alloc)).expect("a receiver");
                }
            });
            scope.spawn(move || {
                for (expected, boxed) in take.into_iter().enumerate() {
                    let number = expected as u64;
                    assert_eq!(boxed.0, number);
                    assert!((number..number + number % 40).eq(boxed.1.iter().copied()));
                }
            });
        });
        adds_up(&alloc.stats(), 0);
        alloc.destroy().expect("nothing leaked");
    }
}
