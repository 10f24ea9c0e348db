//! More slots than the first chunk has, claimed, scanned and given back by two threads at once.

use super::{FIRST_SLOTS, Slot, Slots};
use crate::explore::Model;
use crate::sync::{AtomicBool, Ordering, UnsafeCell, fence, thread};
use std::ptr::NonNull;
use std::rc::Rc;

/// Slots alone do not use the address of their domain.
fn claim(slots: &Slots) -> NonNull<Slot> {
    slots.claim(NonNull::dangling())
}

/// Slots whose first chunk is full.
fn full() -> Rc<Slots> {
    let slots = Slots::new();
    (0..FIRST_SLOTS).for_each(|_| _ = claim(&slots));
    // The threads of a model are coroutines of one thread.
    Rc::new(slots)
}

#[test]
fn two_threads_append_slots_at_once() {
    let happens = &["the other's was scanned", "the other's was not there yet"];
    let name = "two threads append slots at once";
    let model = Model { name, bound: None, least: 20, happens };
    model.explore(|seen| {
        let slots = full();
        let claimed = Rc::new(AtomicBool::new(false));
        let other = thread::spawn({
            let (slots, claimed) = (slots.clone(), claimed.clone());
            move || {
                let slot = claim(&slots);
                claimed.store(true, Ordering::Relaxed);
                slot
            }
        });
        // Loom does not see that a load may come after another thread's exchange of a word that the
        // thread has just loaded. It sees this.
        let _ = claimed.load(Ordering::Relaxed);
        let scanned = slots.iter().count();
        let ours = claim(&slots);
        let others = other.join().unwrap();
        assert_ne!(ours, others, "claim: a slot has one owner");
        assert!(slots.have(ours) && slots.have(others), "claim: a slot that is claimed is there");
        assert_eq!(slots.iter().count(), FIRST_SLOTS + 2, "claim: a scan finds every slot");
        seen.note(happens[0], scanned > FIRST_SLOTS);
        seen.note(happens[1], scanned == FIRST_SLOTS);
    });
}

/// The reader claims a slot of a chunk whose bits take several words, reads, and gives the slot
/// back. If a scan finds no slot of that chunk, the reads come before what the scan's thread does.
#[test]
fn a_scan_that_finds_no_slot_is_after_the_last_section() {
    let happens = &["read, and not found", "not read", "found"];
    let name = "a scan of several words beside a section";
    let model = Model { name, bound: Some(3), least: 20, happens };
    model.explore(|seen| {
        let slots = full();
        // SAFETY: MEM-R3: the slots are there.
        unsafe { claim(&slots).as_ref() }.give_back();
        let linked = Rc::new(AtomicBool::new(true));
        let memory = Rc::new(UnsafeCell::new(()));

        let reader = thread::spawn({
            let (slots, linked, memory) = (slots.clone(), linked.clone(), memory.clone());
            move || {
                let slot = claim(&slots);
                // ORDERING: of the model, as a structure would have it: pairs with the Release
                // below.
                let found = linked.load(Ordering::Acquire);
                if found {
                    memory.with(|_| ());
                }
                // SAFETY: MEM-R3: the slots are there.
                unsafe { slot.as_ref() }.give_back();
                found
            }
        });
        // ORDERING: of the model: the object is unlinked, then the fence, as before each scan of a
        // grace period.
        linked.store(false, Ordering::Release);
        fence(Ordering::SeqCst);
        let free = slots.iter().count() == FIRST_SLOTS;
        if free {
            memory.with_mut(|_| ());
        }
        let read = reader.join().unwrap();
        seen.note(happens[0], read && free);
        seen.note(happens[1], !read);
        seen.note(happens[2], !free);
    });
}
