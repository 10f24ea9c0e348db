//! Runs a model to its end and reports the extent of the exploration.

#[path = "record.rs"]
pub(crate) mod record;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use record::Record;

/// The requirements on a model, so that it cannot pass by exploring nothing.
pub(crate) struct Model {
    /// The name of the test.
    pub(crate) name: &'static str,
    /// The maximum number of preemptions in one execution; `None` for any number. `LOOM_DEEPER=1`
    /// allows one more in every model.
    pub(crate) bound: Option<usize>,
    /// The minimum number of executions.
    pub(crate) least: usize,
    /// Each of these has to be seen in at least one execution.
    pub(crate) happens: &'static [&'static str],
}

/// Counts the executions in which each expected event happened.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<BTreeMap<&'static str, usize>>>);

impl Seen {
    /// Counts `what` once if `is_so`.
    pub(crate) fn note(&self, what: &'static str, is_so: bool) {
        if is_so {
            *self.0.lock().unwrap().entry(what).or_default() += 1;
        }
    }

    fn count(&self, what: &str) -> usize {
        self.0.lock().unwrap().get(what).copied().unwrap_or(0)
    }
}

impl Model {
    /// Explores every execution of `model` within the bound. There is no limit on executions or
    /// time, so that no run is cut short silently.
    pub(crate) fn explore(self, model: impl Fn(&Seen) + Send + Sync + 'static) {
        let mut loom = loom::model::Builder::new();
        let bound = self.bound.map(|most| most + deeper());
        loom.preemption_bound = bound;
        loom.max_branches = 20_000;
        loom.max_permutations = None;
        loom.max_duration = None;

        let (executions, seen) = (Arc::new(AtomicUsize::new(0)), Seen::default());
        let (counter, inside) = (executions.clone(), seen.clone());
        let start = Instant::now();
        loom.check(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            model(&inside);
        });

        let executions = executions.load(Ordering::Relaxed);
        let bounded = bound
            .map_or("no preemption bound".to_owned(), |most| format!("preemption bound {most}"));
        let happened: Vec<_> =
            self.happens.iter().map(|what| format!("{what}: {}", seen.count(what))).collect();
        println!(
            "loom {}: complete, {executions} executions, {:.1} s ({bounded}; {})",
            self.name,
            start.elapsed().as_secs_f64(),
            happened.join(", "),
        );
        assert!(executions >= self.least, "fewer than {} executions", self.least);
        for what in self.happens {
            assert!(seen.count(what) > 0, "no execution saw: {what}");
        }
        let model = Some(self.name);
        let (mutation, covered_by, violation) = (None, None, None);
        Record { model, mutation, covered_by, executions, bound, violation }.append();
    }
}

/// The number of preemptions that `LOOM_DEEPER` adds to every bound.
fn deeper() -> usize {
    match std::env::var("LOOM_DEEPER") {
        Ok(more) => more.parse().expect("LOOM_DEEPER is a number of preemptions"),
        Err(_) => 0,
    }
}
