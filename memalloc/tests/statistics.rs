//! The numbers add up, and match what the test knows.
#![cfg(not(loom))]

mod common;

use common::{Dice, Object, adds_up, held_bytes, in_every_setup, layout};
use memalloc::rcu::{BarrierKind, Domain};
use memalloc::{AfterRcuGp, Immediate, MemAlloc};
use std::thread;

in_every_setup! {
    fn live_is_what_users_hold_in_every_phase<P>(setup) {
        let alloc = setup.allocator::<P>();
        let mut dice = Dice::new(1);
        let mut held: Vec<Object> = Vec::new();
        for phase in 0..40 {
            for pattern in 0..200 {
                let layout = layout(1 + dice.roll(4096), 1 << dice.roll(8));
                held.push(Object::new(&alloc, layout, pattern));
            }
            adds_up(&alloc.stats(), held.len());
            let guard = (phase % 3 == 0).then(|| alloc.domain().pin());
            while held.len() > phase * 5 {
                let object = held.swap_remove(dice.roll(held.len()));
                match dice.roll(3) {
                    0 => object.free(&alloc),
                    1 => object.free_rcu(&alloc),
                    _ => object.free_unshared(&alloc),
                }
            }
            adds_up(&alloc.stats(), held.len());
            match phase % 4 {
                0 => drop(alloc.trim()),
                1 => _ = alloc.domain().advance(alloc.domain().start_poll()),
                _ => (),
            }
            adds_up(&alloc.stats(), held.len());
            drop(guard);
        }
        let bytes: u64 = held
            .iter()
            .filter_map(|object| alloc.classes().class_for(object.layout))
            .map(|class| alloc.classes().classes()[class].size as u64)
            .sum();
        assert_eq!(alloc.stats().live.bytes, bytes);
        held.into_iter().for_each(|object| object.free(&alloc));
        adds_up(&alloc.stats(), 0);
    }
}

in_every_setup! {
    fn quiesce_returns_everything_in_one_call_and_says_how_much<P>(setup) {
        let alloc = setup.allocator::<P>();
        let mut held = Vec::new();
        for class in alloc.classes().classes() {
            held.extend((0..700).map(|_| Object::new(&alloc, layout(class.size, 1), 1)));
        }
        let kept = held.split_off(held.len() - 10);
        thread::scope(|scope| {
            let alloc = &alloc;
            for part in 0..4 {
                let part: Vec<_> = held.drain(..held.len() / (4 - part)).collect();
                let free = move || {
                    for (n, object) in part.into_iter().enumerate() {
                        if n % 2 == 0 { object.free(alloc) } else { object.free_rcu(alloc) }
                    }
                };
                scope.spawn(free);
            }
        });
        let before = alloc.stats();
        adds_up(&before, 10);
        let reclaimed = alloc.quiesce().expect("no guard is left");
        let after = alloc.stats();
        adds_up(&after, 10);
        assert_eq!((after.cached.objects, after.pending.objects), (0, 0), "{after:?}");
        assert_eq!(reclaimed.objects, before.taken.objects - 10);
        assert_eq!(reclaimed.bytes, before.taken.bytes - after.taken.bytes);
        assert_eq!(
            reclaimed.released_bytes,
            before.backing_bytes - after.backing_bytes,
            "every slab that went back counts",
        );
        assert!(after.slabs <= 10 && held_bytes(&after) <= 10 * (64 << 10));

        let again = alloc.quiesce().expect("no guard is left");
        assert_eq!(again, Default::default(), "one call was enough");
        kept.into_iter().for_each(|object| object.free(&alloc));
    }
}

in_every_setup! {
    /// There are no readers, so nothing has to wait: surplus batches go back by themselves, and
    /// everything that CPUs do not hold goes back with one `trim`.
    fn trim_returns_objects_that_no_reader_holds_up<P>(setup) {
        let alloc = setup.allocator::<P>();
        let layout = layout(1024, 1);
        let held: Vec<_> = (0..4_000).map(|_| Object::new(&alloc, layout, 1)).collect();
        held.into_iter().for_each(|object| object.free(&alloc));
        alloc.trim();
        let stats = alloc.stats();
        adds_up(&stats, 0);
        assert!(stats.taken.objects < 500, "{stats:?}");
    }
}

in_every_setup! {
    /// A program that first needed much memory and then little does not keep it all, without any
    /// call of `trim`: its further frees drive the grace periods.
    fn a_surplus_goes_back_to_the_slabs_over_time<P>(setup) {
        let alloc = setup.allocator::<P>();
        let layout = layout(512, 1);
        let mut held: Vec<_> = (0..100_000).map(|_| Object::new(&alloc, layout, 1)).collect();
        let most = alloc.stats().backing_bytes;
        held.drain(..).for_each(|object| object.free(&alloc));
        for _ in 0..2_000 {
            held.extend((0..100).map(|_| Object::new(&alloc, layout, 1)));
            held.drain(..).for_each(|object| object.free(&alloc));
        }
        let left = held_bytes(&alloc.stats());
        assert!(left < most / 4, "{left} of {most} bytes are still there");
    }
}

#[test]
fn small_statistics_print_every_number_on_one_line() {
    let domain = Domain::builder().barrier_kind(BarrierKind::Fence).build().expect("fences");
    let (pinned, layout) = (domain.pin(), layout(64, 1));
    domain.call(|| ());
    assert_eq!(
        domain.stats().to_string(),
        "barrier fence (0 switches), 0 grace periods passed, 1 slots (1 in a section), 1 callbacks \
         pending"
    );
    drop(pinned);
    let alloc = MemAlloc::<AfterRcuGp>::builder().domain(domain).build().expect("an allocator");
    let object = alloc.alloc(layout).expect("memory").cast();
    // SAFETY: allocated with this layout and freed once.
    unsafe { alloc.free_unshared(object, layout) };
    let reclaimed = alloc.quiesce().expect("outside of read sections");
    let numbers = [reclaimed.objects, reclaimed.bytes, reclaimed.released_bytes];
    assert!(numbers[0] > 0);
    let [objects, bytes, released] = numbers;
    assert_eq!(
        reclaimed.to_string(),
        format!(
            "{objects} objects ({bytes} bytes) returned to slabs, {released} bytes to the system"
        )
    );
}

#[test]
fn the_policy_and_the_classes_are_named() {
    let alloc = MemAlloc::<Immediate>::with_policy().expect("an allocator");
    let stats = alloc.stats();
    assert_eq!(stats.policy, memalloc::PolicyKind::Immediate);
    let sizes: Vec<_> = stats.classes.iter().map(|class| class.size).collect();
    assert_eq!(sizes, memalloc::KERNEL_SIZES);
}

in_every_setup! {
    /// `Display` prints the modes, a line for each class in use, and the totals.
    fn statistics_print_the_modes_a_line_a_class_and_the_totals<P>(setup) {
        common::stay_on_this_cpu();
        let alloc = setup.allocator::<P>();
        assert_eq!(alloc.stats().to_string().lines().count(), 6, "no class is in use yet");
        let held = [16, 1000, 1000].map(|size| Object::new(&alloc, layout(size, 1), 1));
        let stats = alloc.stats();
        let text = stats.to_string();
        let lines: Vec<&str> = text.lines().collect();
        let [modes, head, small, large, objects, bytes, slabs, grace_periods] = lines[..] else {
            panic!("{text}");
        };
        let modes_in_force = format!("policy {}, CPU mode {} (requested), barrier ", P::KIND, setup.cpu_mode);
        assert!(modes.starts_with(&modes_in_force), "{text}");
        assert!(modes.contains(&stats.barrier.to_string()), "{text}");
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(head), ["size", "live", "cached", "pending", "taken"]);
        let row = |name: &str, numbers: [u64; 4]| {
            [&[name.to_owned()][..], &numbers.map(|number| number.to_string())].concat()
        };
        for (line, size) in [(small, 16), (large, 1024)] {
            let class = stats.classes.iter().find(|class| class.size == size).expect("a class");
            let numbers = [class.live, class.cached, class.pending, class.taken];
            assert_eq!(words(line), row(&size.to_string(), numbers));
        }
        let amounts = [stats.live, stats.cached, stats.pending, stats.taken];
        assert_eq!(amounts[0].objects, 3);
        assert_eq!(words(objects), row("objects", amounts.map(|amount| amount.objects)));
        assert_eq!(words(bytes), row("bytes", amounts.map(|amount| amount.bytes)));
        assert!(slabs.starts_with("2 slabs (2 opened, 0 released): "), "{text}");
        assert!(slabs.contains(&format!("pending at most {} bytes", stats.max_pending)), "{text}");
        assert!(grace_periods.starts_with("grace periods passed: "), "{text}");
        let columns = [head, small, large, objects, bytes].map(str::len);
        assert!(columns.iter().all(|&length| length == columns[0]), "in columns: {text}");
        held.into_iter().for_each(|object| object.free(&alloc));
    }
}

in_every_setup! {
    /// Beside the slabs there is a bit for each object, and room for batches and caches. It is
    /// counted, and small.
    fn tables_beside_the_slabs_are_counted<P>(setup) {
        const OBJECTS: u64 = 200_000;
        let alloc = setup.allocator::<P>();
        Object::new(&alloc, layout(16, 1), 1).free(&alloc);
        let fresh = alloc.stats().table_bytes;
        assert!(fresh >= 1024 * alloc.classes().classes().len() as u64, "{fresh} bytes for the caches");
        let held: Vec<_> = (0..OBJECTS).map(|_| Object::new(&alloc, layout(16, 1), 1)).collect();
        let stats = alloc.stats();
        let grown = stats.table_bytes - fresh;
        assert!(grown >= OBJECTS / 8 && grown < stats.backing_bytes / 20, "{grown} of {stats:?}");
        held.into_iter().for_each(|object| object.free(&alloc));
    }
}
