//! Running a model to its end, or to its first failure, and saying so.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::Instant;

/// How often an execution may leave a thread that could go on; `None`: as often as there are
/// places for it, and so every schedule.
pub(crate) type Bound = Option<usize>;

/// Enough to find every fault that is known.
pub(crate) const THREE: Bound = Some(3);

/// What a reader says when it misses a key.
pub(crate) const WRONG_ANSWER: &str = "a key that was always there is reported absent";

/// What one execution of a scenario did.
pub(crate) struct Outcome {
    /// Whether the thing happened that the scenario is about.
    pub(crate) interesting: bool,
}

fn checker(bound: Bound) -> loom::model::Builder {
    let mut checker = loom::model::Builder::new();
    checker.preemption_bound = bound;
    checker.max_branches = 20_000;
    // No limits on time or permutations: they would end an exploration silently.
    checker.max_duration = None;
    checker.max_permutations = None;
    checker
}

/// Explores every execution. Fails unless there were at least `least`, and the interesting thing
/// happened in one of them.
pub(crate) fn explore(
    name: &str,
    bound: Bound,
    least: usize,
    scenario: impl Fn() -> Outcome + Send + Sync + 'static,
) {
    let (executions, interesting) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let counted = (Arc::clone(&executions), Arc::clone(&interesting));
    let start = Instant::now();
    checker(bound).check(move || {
        let outcome = scenario();
        counted.0.fetch_add(1, Ordering::Relaxed);
        counted.1.fetch_add(usize::from(outcome.interesting), Ordering::Relaxed);
    });
    let executions = executions.load(Ordering::Relaxed);
    let interesting = interesting.load(Ordering::Relaxed);
    let bound = bound.map_or("none".to_owned(), |bound| bound.to_string());
    println!(
        "loom qptrie/{name}: complete, {executions} executions ({interesting} interesting), \
         {:.1} s, preemption bound {bound}",
        start.elapsed().as_secs_f64()
    );
    assert!(executions >= least, "{executions} executions: the model explores too little");
    assert!(interesting > 0, "the thing that the scenario is about never happened");
}

/// Explores until a reader misses a key. Fails if none does.
pub(crate) fn breaks(name: &str, scenario: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&executions);
    let start = Instant::now();
    let result = silently(|| {
        catch_unwind(AssertUnwindSafe(|| {
            checker(THREE).check(move || {
                counted.fetch_add(1, Ordering::Relaxed);
                scenario();
            });
        }))
    });
    let executions = executions.load(Ordering::Relaxed);
    let Err(panic) = result else {
        panic!("{name}: nothing went wrong in {executions} executions");
    };
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message");
    assert!(message.contains(WRONG_ANSWER), "{name}: went wrong in another way: {message}");
    println!(
        "loom qptrie/{name}: broken as expected after {executions} executions, {:.1} s: {message}",
        start.elapsed().as_secs_f64()
    );
}

/// Runs `f` with the panics of this thread unreported: they are what it is about.
fn silently<R>(f: impl FnOnce() -> R) -> R {
    thread_local! { static SILENT: Cell<bool> = const { Cell::new(false) } }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !SILENT.get() {
                report(panic);
            }
        }));
    });
    SILENT.set(true);
    let result = f();
    SILENT.set(false);
    result
}
