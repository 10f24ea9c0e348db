//! Runs a model until it fails, and reports the failure.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::Instant;

use super::explore::record::Record;

/// Explores until a failure, whose message must contain `what`.
pub(crate) fn breaks(name: &str, what: &str, scenario: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&executions);
    let start = Instant::now();
    let mut loom = loom::model::Builder::new();
    let bound = Some(2);
    loom.preemption_bound = bound;
    loom.max_branches = 20_000;
    let result = silently(|| {
        catch_unwind(AssertUnwindSafe(|| {
            loom.check(move || {
                counted.fetch_add(1, Ordering::Relaxed);
                scenario();
            });
        }))
    });
    let executions = executions.load(Ordering::Relaxed);
    let violation = result.as_ref().err().map(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("a panic without a message")
    });
    let (model, covered_by) = (None, None);
    let mutation = Some(name);
    Record { model, mutation, covered_by, executions, bound, violation }.append();
    let Some(message) = violation else {
        panic!("{name}: nothing went wrong in {executions} executions");
    };
    assert!(message.contains(what), "{name}: went wrong in another way: {message}");
    println!(
        "loom {name}: broken as expected after {executions} executions, {:.1} s: {message}",
        start.elapsed().as_secs_f64()
    );
}

/// Runs `f` without reporting panics of this thread, which are expected.
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
