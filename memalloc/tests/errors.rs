//! A request that cannot be served is a clear error with its numbers, and loses nothing.
#![cfg(not(loom))]

mod common;

use common::{Object, adds_up, in_every_setup, layout};
use memalloc::{
    AfterRcuGp, AllocErrorKind, BuildError, Cache, Class, ClassTable, CpuMode, MAX_SIZE, MemAlloc,
    Watermarks,
};

const SLAB: u64 = 64 << 10;

in_every_setup! {
    fn a_request_that_no_class_serves_names_both_numbers<P>(setup) {
        let alloc = setup.allocator::<P>();
        let kind = |size, align| alloc.alloc(layout(size, align)).unwrap_err().kind();
        assert_eq!(kind(4097, 1), AllocErrorKind::TooLarge { requested: 4097, limit: 4096 });
        assert_eq!(kind(1, 8192), AllocErrorKind::OverAligned { requested: 8192, limit: 4096 });
        assert_eq!(kind(8192, 8192), AllocErrorKind::TooLarge { requested: 8192, limit: 4096 });
        let error = alloc.alloc(layout(4097, 1)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("4097") && text.contains("4096") && !text.contains('\n'), "{text}");
        for layout in [layout(4097, 1), layout(1, 8192)] {
            let expected = alloc.alloc(layout).unwrap_err();
            assert_eq!(alloc.alloc_nowait(layout).unwrap_err(), expected);
            assert_eq!(alloc.alloc_zeroed(layout).unwrap_err(), expected);
            assert_eq!(alloc.alloc_handle(layout).unwrap_err(), expected);
        }
        adds_up(&alloc.stats(), 0);
    }
}

in_every_setup! {
    fn a_size_of_zero_takes_an_object_of_the_smallest_class<P>(setup) {
        let alloc = setup.allocator::<P>();
        let objects: Vec<_> = (0..10).map(|_| Object::new(&alloc, layout(0, 1), 0)).collect();
        adds_up(&alloc.stats(), 10);
        assert_eq!(alloc.stats().live.bytes, 160);
        objects.into_iter().for_each(|object| object.free(&alloc));
        adds_up(&alloc.stats(), 0);
    }
}

/// The error gives the strictest alignment of an object of *this* size, not of smaller classes.
#[test]
fn an_alignment_error_gives_the_limit_for_the_requested_size() {
    let table = ClassTable::new(&[1024, 1040]).expect("a table");
    let alloc = MemAlloc::<AfterRcuGp>::builder().classes(table).build().expect("an allocator");
    assert_eq!(
        alloc.alloc(layout(1030, 64)).unwrap_err().kind(),
        AllocErrorKind::OverAligned { requested: 64, limit: 16 },
    );
}

in_every_setup! {
    /// The limit holds while everything is taken. Freed objects can be taken again, after either
    /// kind of free, at the latest after one wait for the readers.
    fn at_the_limit_what_is_freed_can_be_allocated_again<P>(setup) {
        let alloc = setup.builder::<P>().limit_bytes(3 * SLAB).build().expect("an allocator");
        for class in [64, 1024, 4096] {
            let layout = layout(class, 1);
            let mut held = Vec::new();
            let error = loop {
                match alloc.alloc(layout) {
                    Ok(memory) => held.push(Object::filled(memory.cast(), layout, 5)),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), AllocErrorKind::LimitReached { limit: 3 * SLAB });
            assert!(error.to_string().contains(&(3 * SLAB).to_string()), "{error}");
            assert_eq!(held.len() as u64, 3 * SLAB / class as u64, "every object can be had");
            assert!(alloc.stats().backing_bytes <= 3 * SLAB);
            adds_up(&alloc.stats(), held.len());

            held.pop().expect("some").free_unshared(&alloc);
            held.push(Object::new(&alloc, layout, 6));
            held.pop().expect("some").free_rcu(&alloc);
            alloc.domain().synchronize().expect("no guard is left");
            held.push(Object::new(&alloc, layout, 7));

            held.into_iter().for_each(|object| object.free(&alloc));
            alloc.quiesce().expect("no guard is left");
            adds_up(&alloc.stats(), 0);
        }
    }
}

in_every_setup! {
    /// Memory that one class has cached serves another before an allocation fails.
    fn at_the_limit_free_objects_of_one_class_make_room_for_another<P>(setup) {
        let alloc = setup.builder::<P>().limit_bytes(2 * SLAB).build().expect("an allocator");
        let small = layout(64, 1);
        let held: Vec<_> = (0..2 * SLAB / 64).map(|_| Object::new(&alloc, small, 1)).collect();
        held.into_iter().for_each(|object| object.free_unshared(&alloc));
        adds_up(&alloc.stats(), 0);
        Object::new(&alloc, layout(2048, 1), 2).free(&alloc);
    }
}

in_every_setup! {
    fn an_allocator_without_memory_returns_an_error_and_stays_whole<P>(setup) {
        let alloc = setup.builder::<P>().limit_bytes(SLAB - 1).build().expect("an allocator");
        let error = alloc.alloc(layout(16, 1)).unwrap_err();
        assert_eq!(error.kind(), AllocErrorKind::LimitReached { limit: 0 });
        adds_up(&alloc.stats(), 0);
        alloc.destroy().expect("nothing leaked");
    }
}

in_every_setup! {
    fn the_range_can_be_used_up<P>(setup) {
        let alloc = setup.builder::<P>().range_bytes(1).build().expect("an allocator");
        let layout = layout(4096, 1);
        let mut held = Vec::new();
        let error = loop {
            match alloc.alloc(layout) {
                Ok(memory) => held.push(Object::filled(memory.cast(), layout, 5)),
                Err(error) => break error.kind(),
            }
        };
        let AllocErrorKind::RangeExhausted { range } = error else { panic!("{error:?}") };
        // The first slab is never used.
        assert_eq!(held.len() as u64, range / 4096 - 16);
        adds_up(&alloc.stats(), held.len());
        held.into_iter().for_each(|object| object.free(&alloc));
        alloc.destroy().expect("nothing leaked");
    }
}

in_every_setup! {
    fn alloc_nowait_returns_ready_objects_or_an_error<P>(setup) {
        common::stay_on_this_cpu();
        let alloc = setup.allocator::<P>();
        for class in alloc.classes().classes().to_vec() {
            let layout = layout(class.size, 1);
            let before = alloc.stats();
            let error = alloc.alloc_nowait(layout).unwrap_err();
            assert_eq!(error.kind(), AllocErrorKind::WouldBlock);
            // A call in vain may begin a grace period.
            let mut after = alloc.stats();
            after.grace_periods = before.grace_periods;
            after.trace_grace_periods = before.trace_grace_periods;
            after.barrier_switches = before.barrier_switches;
            assert_eq!(after, before, "nothing was mapped or taken");

            // One allocation brings a batch, all of which can be allocated, whatever the watermark.
            let mut held = vec![Object::new(&alloc, layout, 1)];
            let taken = alloc.stats().taken;
            while let Ok(memory) = alloc.alloc_nowait(layout) {
                held.push(Object::filled(memory.cast(), layout, 2));
            }
            assert!(held.len() >= class.watermarks.batch);
            let now = alloc.stats();
            assert_eq!(held.len() as u64, now.taken.objects, "all of it can be allocated");
            assert_eq!(now.slabs_opened, before.slabs_opened + 1, "the slab of the first one");
            if P::KIND != memalloc::PolicyKind::FreeAfterRcuGp {
                assert_eq!(now.taken, taken, "nothing was carved");
            }
            adds_up(&alloc.stats(), held.len());
            held.into_iter().for_each(|object| object.free(&alloc));
            alloc.quiesce().expect("no guard is left");
        }
    }
}

#[test]
fn a_cpu_mode_is_read_back_from_what_it_prints() {
    for mode in CpuMode::ALL {
        assert_eq!(mode.to_string().parse(), Ok(*mode));
    }
    let error = "percpu".parse::<CpuMode>().unwrap_err().to_string();
    assert!(error.contains("\"percpu\"") && error.contains("active-thread"), "{error}");
}

#[test]
fn a_cache_of_a_type_that_does_not_fit_an_object_cannot_be_built() {
    #[repr(align(8192))]
    struct Wide(#[allow(dead_code, reason = "only its size matters")] u8);
    let error = Cache::<[u8; 4097]>::new().unwrap_err();
    assert!(matches!(error, BuildError::Type { size: 4097, align: 1, limit: 4096 }), "{error}");
    let text = error.to_string();
    assert!(text.contains("4097") && text.contains("4096"), "{text}");
    assert!(matches!(
        Cache::<Wide>::new().unwrap_err(),
        BuildError::Type { size: 8192, align: 8192, limit: MAX_SIZE }
    ));
    let zero_sized = Cache::<()>::new().expect("a cache");
    drop(zero_sized.alloc(()).expect("memory"));
    zero_sized.destroy().expect("nothing leaked");
}

#[test]
fn a_build_that_fails_for_its_classes_names_the_class_and_has_the_reason() {
    let watermarks = Watermarks::for_size(16);
    let error = ClassTable::with_watermarks(&[Class { size: 8, watermarks }]).unwrap_err();
    let error = BuildError::from(error);
    assert!(error.to_string().contains("8 bytes"), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

/// Any number is a handle and any address a pointer. The result may be meaningless, but the
/// conversion itself does no harm.
#[test]
fn a_foreign_pointer_or_handle_does_no_harm_by_itself() {
    let alloc = MemAlloc::<AfterRcuGp>::builder().range_bytes(1).build().expect("an allocator");
    let object = alloc.alloc_handle(layout(16, 1)).expect("memory");
    let place = alloc.pointer(object);
    let start = place.addr().get() - object.get() as usize * 16;
    for address in [start, start + 8, start + (64 << 30), 1, 16, usize::MAX] {
        let address = std::num::NonZeroUsize::new(address).expect("not null");
        let handle = alloc.handle(std::ptr::NonNull::without_provenance(address));
        assert_ne!(handle.get(), 0, "{address:#x}");
    }
    for number in [1, 0x7fff_ffff, u32::MAX] {
        let handle = memalloc::Handle::new(number).expect("not zero");
        assert_eq!(alloc.pointer(handle).addr().get(), start + number as usize * 16);
    }
    // SAFETY: allocated above with this layout.
    unsafe { alloc.free_handle(object, layout(16, 1)) };
}
