//! Grace periods as a model with switches.
//!
//! A reader announces the epoch that it saw. An updater unlinks an object, takes a cookie, and
//! takes the object back once the grace period of the cookie has passed. A protocol of a few loads,
//! stores and barriers makes this correct. Here it stands alone, and each step can be switched off.
//! Loom explores small scenarios to the end: with every step in force no scenario fails, and
//! `every_step_is_needed` shows for each step a scenario that fails without it.
//!
//! - [`protocol`]: readers, updaters, drivers, and the switches.
//! - [`scenarios`]: small worlds in which each thread follows a script.
//! - [`mutations`]: each step that is switched off, and the scenario that has to fail.
//! - [`events`] and [`explore`]: the events seen, and the extent of the exploration.
//! - [`table`]: what became of each mutation.
//! - [`elision`]: grace periods that need no membarrier.
//! - [`adaptive`]: readers that execute fences only while a word says so.
//! - [`tickets`]: another protocol, in which a thread takes a cache beside restartable sequences.
//!
//! Claims: no reader reads an object that was taken back, or that is being taken back, and no
//! reader reads an object before its updater's plain stores to it are visible.
//!
//! Both kinds of barrier are explored. Fences are loom's own. With membarrier, the system executes
//! the readers' half for them. In the model, a reader checks before each of its steps whether a
//! barrier was asked for, and executes it there; the driver goes on when each reader has done so,
//! or has ended. Loom decides when the reader notices, so the barrier may fall between any two
//! steps.
//!
//! The model works around these limits of loom (0.7), so that "complete" means something:
//!
//! - Loom has no sequentially consistent loads and stores, only fences.
//! - A fence is not a step: no other thread runs between a fence and the step before it, and the
//!   order of two fences is not explored. Here each fence begins with a step on a common counter.
//! - A SeqCst fence orders like a release and an acquire with every other one, which is more than
//!   the language promises: it can hide a weak ordering near it. The scenarios differ in the steps
//!   near a fence.
//! - Loom keeps the last seven stores of an atomic: no scenario makes more than six. (The common
//!   counter sees only read-modify-writes, which always read the last store.)
//! - A thread's own load right before its own store hides earlier loads by other threads. Readers
//!   and drivers keep their own numbers in memory that loom does not see.
//!
//! Loom cannot show load buffering, or more preemptions than the bound.

#![cfg(loom)]

mod adaptive;
mod elision;
mod events;
mod explore;
mod mutations;
mod protocol;
mod scenarios;
mod table;
mod tickets;

/// Makes a test of each scenario.
macro_rules! claims {
    ($($claim:ident: $scenario:ident,)*) => {$(
        #[test]
        fn $claim() {
            scenarios::$scenario.holds();
        }
    )*};
}

claims! {
    an_object_outlives_the_section_that_found_it: ONE_SECTION,
    an_object_outlives_the_earlier_of_two_sections: TWO_SECTIONS,
    an_object_outlives_the_outermost_section: NESTED,
    a_reader_may_announce_an_epoch_that_is_over: STALE_EPOCH,
    an_object_outlives_the_sections_of_two_readers: TWO_READERS,
    an_object_outlives_the_section_when_another_thread_drives: OTHER_DRIVER,
    one_driver_may_scan_for_another: RELAY,
    with_membarrier_an_object_outlives_the_section_that_found_it: MEMBARRIER_ONE_SECTION,
    with_membarrier_an_object_outlives_the_earlier_of_two_sections: MEMBARRIER_TWO_SECTIONS,
    with_membarrier_an_object_outlives_the_outermost_section: MEMBARRIER_NESTED,
    with_membarrier_a_reader_may_announce_an_epoch_that_is_over: MEMBARRIER_STALE_EPOCH,
    with_membarrier_an_object_outlives_the_section_when_another_thread_drives:
        MEMBARRIER_OTHER_DRIVER,
    with_membarrier_one_driver_may_scan_for_another: MEMBARRIER_RELAY,
}

#[test]
fn every_step_is_needed() {
    mutations::check();
}
