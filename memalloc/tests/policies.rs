//! Tests when a freed object may be allocated again, and what it contains until then.
#![cfg(not(loom))]

mod common;

use common::{Object, Setup, adds_up, in_every_setup, layout};
use memalloc::{AfterRcuGp, Immediate, TypeStable};
use std::sync::atomic::{AtomicU64, Ordering};

in_every_setup! {
    /// The CPU may change between two calls, and then the object is in another cache. So the
    /// address has to match in most rounds, not in each.
    fn freed_at_once_is_reused_at_once<Immediate>(setup) {
        let alloc = setup.allocator::<P>();
        for class in alloc.classes().classes().to_vec() {
            let same = (0..100).filter(|_| {
                let object = Object::new(&alloc, layout(class.size, 1), 1);
                let address = object.address();
                object.free(&alloc);
                let again = Object::new(&alloc, layout(class.size, 1), 2);
                let same = again.address() == address;
                again.free(&alloc);
                same
            });
            assert!(same.count() > 50, "not last in, first out: {class:?}");
        }
        adds_up(&alloc.stats(), 0);
    }
}

in_every_setup! {
    fn an_unshared_object_is_reused_at_once_under_every_policy<P>(setup) {
        let alloc = setup.allocator::<P>();
        let same = (0..100).filter(|_| {
            let object = Object::new(&alloc, layout(64, 64), 1);
            let address = object.address();
            object.free_unshared(&alloc);
            let again = Object::new(&alloc, layout(64, 64), 2);
            let same = again.address() == address;
            again.free_unshared(&alloc);
            same
        });
        assert!(same.count() > 50);
    }
}

in_every_setup! {
    fn nothing_is_written_into_a_freed_object<P>(setup) {
        let alloc = setup.allocator::<P>();
        let guard = alloc.domain().pin();
        for class in alloc.classes().classes() {
            let layout = layout(class.size, 1);
            let objects: Vec<_> = (0..300).map(|_| Object::new(&alloc, layout, 0xa5)).collect();
            let places: Vec<_> = objects.iter().map(|object| object.place).collect();
            objects.into_iter().for_each(|object| object.free(&alloc));
            alloc.trim();
            for place in places {
                // SAFETY: the guard keeps the memory mapped and of its type, and nothing is
                // allocated meanwhile.
                let bytes = unsafe { std::slice::from_raw_parts(place.as_ptr(), class.size) };
                assert!(bytes.iter().all(|byte| *byte == 0xa5), "{class:?}");
            }
        }
        drop(guard);
    }
}

in_every_setup! {
    /// Inside a section, every object that the section could have found stays unchanged, however
    /// much is allocated, freed, trimmed and advanced meanwhile.
    fn a_deferred_object_keeps_its_contents_inside_a_section<P>(setup) {
        let alloc = setup.allocator::<P>();
        let layout = layout(96, 8);
        let guard = alloc.domain().pin();
        let freed: Vec<_> = (0..500).map(|_| Object::new(&alloc, layout, 7)).collect();
        let places: Vec<_> = freed.iter().map(|object| object.place).collect();
        freed.into_iter().for_each(|object| object.free_rcu(&alloc));
        for round in 0..20_u8 {
            let taken: Vec<_> = (0..400).map(|_| Object::new(&alloc, layout, round)).collect();
            assert!(taken.iter().all(|object| !places.contains(&object.place)), "reused");
            taken.into_iter().for_each(|object| object.free_rcu(&alloc));
            alloc.domain().advance(alloc.domain().start_poll());
            alloc.trim();
        }
        for place in places {
            Object::seen_before(place, layout, 7).check();
        }
        drop(guard);
        alloc.quiesce().expect("no guard is left");
        adds_up(&alloc.stats(), 0);
    }
}

in_every_setup! {
    fn a_deferred_object_is_reused_after_its_grace_period<P>(setup) {
        let alloc = setup.allocator::<P>();
        let layout = layout(4096, 1);
        let mut addresses = std::collections::HashSet::new();
        for _ in 0..20_000 {
            let object = Object::new(&alloc, layout, 1);
            addresses.insert(object.address());
            object.free_rcu(&alloc);
        }
        assert!(addresses.len() < 2_000, "{} places for one object", addresses.len());
    }
}

in_every_setup! {
    fn an_object_is_aligned_and_as_long_as_its_class<P>(setup) {
        let alloc = setup.allocator::<P>();
        for size in [0, 1, 15, 16, 17, 64, 65, 129, 1000, 2049, 4096] {
            for align in [1, 8, 16, 64, 256, 4096] {
                let memory = alloc.alloc(layout(size, align)).expect("memory");
                assert!(memory.len() >= size && memory.len() <= 4096);
                assert!(memory.cast::<u8>().addr().get().is_multiple_of(align));
                let class = alloc.classes().class_for(layout(size, align)).expect("a class");
                assert_eq!(memory.len(), alloc.classes().classes()[class].size);
                Object::filled(memory.cast(), layout(size, align), 3).free(&alloc);
            }
        }
    }
}

in_every_setup! {
    fn zeroed_memory_is_zero_also_when_it_is_reused<P>(setup) {
        let alloc = setup.allocator::<P>();
        for _ in 0..200 {
            let memory = alloc.alloc_zeroed(layout(128, 1)).expect("memory");
            // SAFETY: the object is ours.
            assert!(unsafe { memory.as_ref() }.iter().all(|byte| *byte == 0));
            Object::filled(memory.cast(), layout(128, 1), 0xff).free_unshared(&alloc);
        }
    }
}

in_every_setup! {
    fn handles_and_pointers_name_the_same_object<P>(setup) {
        let alloc = setup.allocator::<P>();
        let layout = layout(48, 16);
        let handle = alloc.alloc_handle(layout).expect("memory");
        let place = alloc.pointer(handle);
        assert_eq!(alloc.handle(place), handle);
        assert_eq!(memalloc::Handle::new(handle.get()), Some(handle));
        // SAFETY: the object is ours, and words are its only use.
        let word = unsafe { alloc.word(handle, 2) };
        word.store(17, Ordering::Relaxed);
        // SAFETY: inside the object, aligned to 4, written in the line before.
        assert_eq!(unsafe { place.cast::<u32>().add(2).read() }, 17);
        // SAFETY: allocated above with this layout, and not used any more.
        unsafe { alloc.free_handle(handle, layout) };
        adds_up(&alloc.stats(), 0);
    }
}

#[derive(Debug, Default)]
struct Counted {
    lives: AtomicU64,
}

// SAFETY: all that a reader can reach is an atomic, any value of it is valid, and it needs no drop.
unsafe impl TypeStable for Counted {}

in_every_setup! {
    fn a_type_stable_object_keeps_what_its_earlier_life_left<Immediate>(setup) {
        let cache = setup.cache_builder::<Counted, Immediate>().build();
        let cache = cache.expect("a cache");
        let guard = cache.domain().pin();
        let mut most = 0;
        for _ in 0..1_000 {
            let slot = cache.alloc_slot().expect("memory");
            // SAFETY: the slot was allocated from this cache and is not freed yet.
            let object = unsafe { cache.slot(slot, &guard) };
            most = most.max(object.lives.fetch_add(1, Ordering::Relaxed) + 1);
            // SAFETY: allocated above, freed once.
            unsafe { cache.free_slot(slot) };
            // Readers of the earlier life may still look.
            assert!(object.lives.load(Ordering::Relaxed) > 0);
        }
        assert!(most > 100, "constructed once, not for every life: {most}");
        drop(guard);
        cache.destroy().expect("every slot was freed");
    }
}

in_every_setup! {
    fn a_typed_cache_moves_values_in_and_drops_them<ProtectsIdentity>(setup) {
        let cache = setup.cache_builder::<Vec<u8>, P>().build().expect("a cache");
        let boxes: Vec<_> = (0..100).map(|n| cache.alloc(vec![n; 100]).expect("memory")).collect();
        for (n, value) in boxes.iter().enumerate() {
            assert_eq!(**value, vec![n as u8; 100]);
        }
        drop(boxes);
        let stats = cache.destroy().expect("every box was dropped");
        assert_eq!(stats.taken.objects, 0);
    }
}

/// Every setup in the list works.
#[test]
fn there_is_at_least_one_setup_and_each_works() {
    assert!(!Setup::every().is_empty());
    for setup in Setup::every() {
        let alloc = setup.allocator::<AfterRcuGp>();
        assert_eq!(alloc.stats().cpu_mode, setup.cpu_mode);
        assert_eq!(alloc.domain().barrier_kind(), setup.barrier);
    }
}
