//! Containers on an allocator against the standard ones, and the contract of the allocator trait
//! block by block, with a backing that refuses requests.

use crate::common::{Setup, layout};
use crate::script::Script;
use allocator_api2::alloc::{Allocator, Global};
use allocator_api2::vec::Vec as VecIn;
use hashbrown::{DefaultHashBuilder, HashMap as MapIn};
use memalloc::backing::FailOnDemand;
use memalloc::{AfterRcuGp, AfterTasksTraceGp, FreeAfterRcuGp, ProtectsIdentity};
use std::alloc::Layout;
use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::Arc;

#[cfg(all(target_os = "linux", not(miri)))]
type Behind = memalloc::backing::Mapped;
#[cfg(not(all(target_os = "linux", not(miri))))]
type Behind = memalloc::backing::System;

/// The most numbers, entries and blocks to hold.
const MOST: usize = 3_000;

/// A block and the byte that fills it.
struct Block {
    place: NonNull<[u8]>,
    layout: Layout,
    pattern: u8,
}

impl Block {
    /// Checks a new block, whose first bytes are `kept`, and fills it.
    fn new(place: NonNull<[u8]>, layout: Layout, kept: (usize, u8), pattern: u8) -> Self {
        assert!(place.len() >= layout.size());
        assert!(place.cast::<u8>().addr().get().is_multiple_of(layout.align()));
        let mut block = Self { place, layout, pattern };
        let (length, before) = kept;
        assert!(block.bytes()[..length].iter().all(|byte| *byte == before), "contents changed");
        block.bytes().fill(pattern);
        block
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the block is ours and as long as its slice says, and any byte is valid.
        unsafe { self.place.as_mut() }
    }

    fn check(&mut self) {
        let pattern = self.pattern;
        assert!(self.bytes().iter().all(|byte| *byte == pattern), "contents changed");
    }
}

/// The containers, and their models.
struct Held<A: Allocator + Clone> {
    place: A,
    vector: VecIn<u64, A>,
    model: Vec<u64>,
    map: MapIn<u16, u64, DefaultHashBuilder, A>,
    entries: HashMap<u16, u64>,
    blocks: Vec<Block>,
    last: u64,
}

impl<A: Allocator + Clone> Held<A> {
    fn new(place: A) -> Self {
        Self {
            vector: VecIn::new_in(place.clone()),
            model: Vec::new(),
            map: MapIn::with_hasher_in(DefaultHashBuilder::default(), place.clone()),
            entries: HashMap::new(),
            blocks: Vec::new(),
            last: 0,
            place,
        }
    }

    /// Runs one operation. Returns `None` at the end of the script.
    fn step(&mut self, script: &mut Script<'_>, backing: &FailOnDemand<Behind>) -> Option<()> {
        self.last += 1;
        match script.operation(16)? {
            how @ 0..=4 => self.of_vector(how, script.below(700)?),
            how @ 5..=8 => self.of_map(how - 5, script.below(700)? as u16),
            9..=11 => self.allocate(script)?,
            12 | 13 => self.resize(script)?,
            14 => {
                if !self.blocks.is_empty() {
                    let which = script.below(256)? % self.blocks.len();
                    let block = self.blocks.swap_remove(which);
                    self.free(block);
                }
            }
            _ => {
                let first = backing.requests() + script.below(3)? as u64;
                backing.fail(first..first + script.below(5)? as u64);
            }
        }
        Some(())
    }

    fn of_vector(&mut self, how: usize, count: usize) {
        let Self { vector, model, last, .. } = self;
        match how {
            0 | 1 if model.len() + count <= MOST => {
                // A failed reservation leaves the vector as it was.
                if vector.try_reserve(count).is_ok() {
                    vector.extend((0..count as u64).map(|number| number ^ *last));
                    model.extend((0..count as u64).map(|number| number ^ *last));
                }
            }
            2 => {
                vector.truncate(count);
                model.truncate(count);
            }
            3 => {
                let from = count.min(model.len());
                assert!(vector.drain(from..).eq(model.drain(from..)));
            }
            _ => assert_eq!(vector.pop(), model.pop()),
        }
        assert_eq!(vector.as_slice(), model.as_slice());
    }

    fn of_map(&mut self, how: usize, key: u16) {
        let Self { map, entries, last, .. } = self;
        match how {
            0 | 1 => {
                if map.try_reserve(1).is_ok() {
                    assert_eq!(map.insert(key, *last), entries.insert(key, *last));
                }
            }
            2 => assert_eq!(map.remove(&key), entries.remove(&key)),
            _ => {
                map.retain(|other, _| *other >= key);
                entries.retain(|other, _| *other >= key);
            }
        }
        assert_eq!(map.get(&key), entries.get(&key));
        assert_eq!(map.len(), entries.len());
    }

    fn allocate(&mut self, script: &mut Script<'_>) -> Option<()> {
        let layout = any_layout(script)?;
        let zeroed = script.byte()? % 2 == 1;
        let result =
            if zeroed { self.place.allocate_zeroed(layout) } else { self.place.allocate(layout) };
        if let Ok(place) = result {
            let kept = if zeroed { place.len() } else { 0 };
            self.blocks.push(Block::new(place, layout, (kept, 0), self.last as u8));
        }
        Some(())
    }

    /// Grows or shrinks a block, which is as it was if that fails.
    fn resize(&mut self, script: &mut Script<'_>) -> Option<()> {
        let new = any_layout(script)?;
        let (which, slack) = (script.below(256)?, script.below(256)?);
        if self.blocks.is_empty() {
            return Some(());
        }
        let which = which % self.blocks.len();
        let mut block = self.blocks.swap_remove(which);
        block.check();
        let start = block.place.cast();
        // Any layout between the requested size and the granted one fits the block.
        let size = block.layout.size();
        let old = layout(size + slack % (block.place.len() - size + 1), block.layout.align());
        let zeroed = slack % 2 == 1;
        // SAFETY: the block is ours, `old` fits it, and `new` is longer or shorter as required.
        let result = unsafe {
            if new.size() < old.size() {
                self.place.shrink(start, old, new)
            } else if zeroed {
                self.place.grow_zeroed(start, old, new)
            } else {
                self.place.grow(start, old, new)
            }
        };
        match result {
            Ok(place) => {
                let kept = old.size().min(new.size());
                if zeroed && new.size() >= old.size() {
                    // SAFETY: the block is ours.
                    let more = unsafe { &place.as_ref()[kept..] };
                    assert!(more.iter().all(|byte| *byte == 0), "not zero");
                }
                let kept = (kept, block.pattern);
                self.blocks.push(Block::new(place, new, kept, self.last as u8));
            }
            Err(_) => self.blocks.push(block),
        }
        Some(())
    }

    fn free(&self, mut block: Block) {
        block.check();
        // SAFETY: the block is ours, and its layout fits.
        unsafe { self.place.deallocate(block.place.cast(), block.layout) };
    }

    fn end(mut self) {
        for block in std::mem::take(&mut self.blocks) {
            self.free(block);
        }
        assert!(self.entries.iter().all(|(key, value)| self.map.get(key) == Some(value)));
    }
}

/// Returns a size on either side of every limit, and any alignment.
fn any_layout(script: &mut Script<'_>) -> Option<Layout> {
    let size = [64, 1_000, 4_200, 6_000][script.below(4)?];
    Some(layout(script.below(size)?, 1 << script.below(14)?))
}

fn run<P: ProtectsIdentity>(setup: Setup, script: &mut Script<'_>) -> Option<()> {
    let has_fallback = script.byte()? % 2 == 1;
    let backing = Arc::new(FailOnDemand::new(Behind::default()));
    let builder = setup.builder::<P>().backing(Arc::clone(&backing)).range_bytes(64 << 20);
    let alloc = builder.build().expect("an allocator");
    if has_fallback {
        let mut held = Held::new(alloc.with_fallback(Global));
        while held.step(script, &backing).is_some() {}
        held.end();
    } else {
        let mut held = Held::new(&alloc);
        while held.step(script, &backing).is_some() {}
        held.end();
    }
    assert_eq!(alloc.stats().live.objects, 0);
    backing.fail(0..0);
    alloc.destroy().expect("nothing leaked");
    Some(())
}

/// Reads the policy and the setup, and follows the rest of the script.
fn follow(input: &[u8]) -> Option<()> {
    let mut script = Script::new(input);
    let policy = script.below(3)?;
    let setups = Setup::every();
    let setup = setups[script.below(setups.len())?];
    match policy {
        0 => run::<AfterRcuGp>(setup, &mut script),
        1 => run::<FreeAfterRcuGp>(setup, &mut script),
        _ => run::<AfterTasksTraceGp>(setup, &mut script),
    }
}

#[test]
fn any_script_does_the_same_as_on_the_standard_containers() {
    bolero::check!(name = "containers")
        .with_iterations(300)
        .with_max_len(4096)
        .for_each(|input: &[u8]| _ = follow(input));
}
