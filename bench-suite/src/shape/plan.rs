//! The allocator for a workload: the code that a user pastes and the builder that is measured, from
//! the same numbers.

use std::fmt::Write as _;
use std::time::Duration;

use memalloc::rcu::Domain;
use memalloc::{BuildError, Builder, MemAlloc, PolicyKind, ReusePolicy};

use super::Shape;
use super::correct::{Shared, Signals};

/// The share of the budget beyond the live objects that may be pending: the rest is for caches, and
/// for slabs that are not full.
const PENDING_PART: f64 = 0.5;

/// The least value of `max_pending`.
const LEAST_PENDING: u64 = 128 << 10;

/// The library's default for `max_pending`.
const USUAL_PENDING: u64 = 4 << 20;

/// Objects that one call of `alloc_nowait` may take off a list for a moment.
const TAKEN_OFF: usize = 250;

/// An allocator for a workload, under one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) policy: PolicyKind,
    /// The limit of pending bytes, unless the default applies.
    max_pending: Option<u64>,
    /// The limit of slab memory.
    limit_bytes: Option<u64>,
    /// The sizes to prefill for handlers, and the number of objects of each.
    reserved: Option<(Vec<usize>, usize)>,
    /// True if frees never wait for readers.
    never_waits: bool,
    /// True if handlers may read.
    registers: bool,
}

impl Plan {
    /// Plans the allocator for a shape under a policy.
    pub(crate) fn new(policy: PolicyKind, shape: &Shape) -> Self {
        let (demands, numbers) = (&shape.demands, &shape.numbers);
        let is_deferring = policy != PolicyKind::Immediate;
        let budget = numbers.budget_bytes();
        let spare = budget.map(|budget| budget.saturating_sub(numbers.live_bytes()));
        let pending =
            spare.map(|spare| kibibytes((spare as f64 * PENDING_PART) as u64).max(LEAST_PENDING));
        let pending = pending.filter(|&pending| is_deferring && pending < USUAL_PENDING);
        let handlers = demands.signals != Signals::No;
        let reserved = handlers.then(|| {
            let sizes = numbers.sizes.iter().map(|(size, _)| size).collect();
            (sizes, TAKEN_OFF * (1 + numbers.threads.count()))
        });
        Self {
            policy,
            max_pending: pending,
            limit_bytes: budget.map(kibibytes),
            reserved,
            never_waits: is_deferring && demands.signals == Signals::AllocFree,
            registers: handlers && demands.readers && demands.shared != Shared::Processes,
        }
    }

    /// Returns the builder that the pasted code creates, with a domain of its own.
    pub(crate) fn builder<P: ReusePolicy>(&self) -> Builder<P> {
        let domain = match self.never_waits {
            // Only an explicitly chosen barrier can fail; the default always works.
            true => Domain::builder().stall_after(Duration::ZERO).build().unwrap_or_default(),
            false => Domain::new(),
        };
        let mut builder = MemAlloc::<P>::builder().domain(domain);
        if let Some(bytes) = self.max_pending {
            builder = builder.max_pending(bytes);
        }
        if let Some(bytes) = self.limit_bytes {
            builder = builder.limit_bytes(bytes);
        }
        builder
    }

    /// Builds the allocator.
    pub(crate) fn build<P: ReusePolicy>(&self) -> Result<MemAlloc<P>, BuildError> {
        self.builder().build()
    }

    /// Returns the code to paste.
    pub(crate) fn lines(&self) -> String {
        let policy = type_name(self.policy);
        let mut uses = vec![format!("use memalloc::{{{policy}, MemAlloc}};")];
        let mut text = String::new();
        // Writing to a string can't fail.
        if self.never_waits {
            uses.push("use std::time::Duration;".into());
            text += "// Signal handlers free: no free may wait for readers.\n\
                     let domain = Domain::builder().stall_after(Duration::ZERO).build()?;\n";
        } else {
            text += "// A separate domain: readers of other structures delay nothing here.\n\
                     let domain = Domain::new();\n";
        }
        uses.insert(1, "use memalloc::rcu::Domain;".into());
        let _ = writeln!(text, "let alloc = MemAlloc::<{policy}>::builder()");
        text += "    .domain(domain)\n";
        if let Some(bytes) = self.max_pending {
            let _ = writeln!(text, "    .max_pending({} << 10)", bytes >> 10);
        }
        if let Some(bytes) = self.limit_bytes {
            let _ = writeln!(text, "    .limit_bytes({} << 10)", bytes >> 10);
        }
        text += "    .build()?;\n";
        if let Some((sizes, count)) = &self.reserved {
            uses.push("use std::alloc::Layout;".into());
            text += "// Before the first signal. Handlers call `alloc_nowait`.\n";
            for size in sizes {
                let _ =
                    writeln!(text, "alloc.prefill(Layout::from_size_align({size}, 8)?, {count})?;");
            }
        }
        if self.registers {
            text += "// On each thread whose handlers read:\n\
                     alloc.domain().register();\n";
        }
        uses.sort();
        format!("{}\n\n{text}", uses.join("\n"))
    }
}

/// Rounds down to whole KiB, as in the pasted code.
fn kibibytes(bytes: u64) -> u64 {
    bytes >> 10 << 10
}

/// Returns the library's type of a policy.
fn type_name(policy: PolicyKind) -> &'static str {
    match policy {
        PolicyKind::Immediate => "Immediate",
        PolicyKind::FreeAfterRcuGp => "FreeAfterRcuGp",
        PolicyKind::AfterTasksTraceGp => "AfterTasksTraceGp",
        _ => "AfterRcuGp",
    }
}

#[cfg(test)]
mod tests {
    use super::super::PartialShape;
    use super::*;

    /// The pasted code, each sample in a function, where it has to compile.
    mod pasted {
        #![allow(unused_variables)]
        type Outcome = Result<(), Box<dyn std::error::Error>>;

        macro_rules! pasted {
            ($($name:ident = $file:literal),*) => {
                $(pub(super) fn $name() -> Outcome {
                    include!(concat!("pasted/", $file));
                    Ok(())
                })*
                pub(super) const TEXTS: &[(&str, &str)] =
                    &[$(($file, include_str!(concat!("pasted/", $file)))),*];
            };
        }
        pasted!(
            plain = "plain.in",
            limited = "limited.in",
            sleepers = "sleepers.in",
            handlers = "handlers.in"
        );
    }

    fn plan(policy: PolicyKind, toml: &str) -> Plan {
        Plan::new(policy, &PartialShape::from_toml(toml).unwrap().complete().unwrap())
    }

    const HANDLERS: &str =
        "[correct]\nvalidate = true\nsignals = \"alloc-free\"\n[shape]\nsizes = \"64,256\"";

    fn plans() -> [Plan; 4] {
        [
            plan(PolicyKind::Immediate, "[correct]\nvalidate = true"),
            plan(PolicyKind::FreeAfterRcuGp, "[shape]\nbudget_mib = 4"),
            plan(PolicyKind::AfterTasksTraceGp, "[correct]\nsleep = true"),
            plan(PolicyKind::AfterRcuGp, HANDLERS),
        ]
    }

    #[test]
    fn lines_to_paste_compile_and_run() {
        let runs = [pasted::plain, pasted::limited, pasted::sleepers, pasted::handlers];
        for (run, (plan, (file, text))) in runs.iter().zip(plans().iter().zip(pasted::TEXTS)) {
            // Braces turn the lines into one expression, for `include!`.
            let lines: String = plan.lines().lines().map(|line| format!("{line}\n")).collect();
            assert_eq!(*text, format!("{{\n{lines}}}\n"), "{file}");
            run().unwrap_or_else(|error| panic!("{file}: {error}"));
        }
    }

    #[test]
    fn the_allocator_that_is_measured_is_the_one_in_the_lines() {
        let [_, limited, _, handlers] = plans();
        let stats = limited.build::<memalloc::FreeAfterRcuGp>().unwrap().stats();
        let pending = format!(".max_pending({} << 10)", stats.max_pending >> 10);
        assert!(limited.lines().contains(&pending), "{pending}: {}", limited.lines());
        assert!(limited.lines().contains(".limit_bytes(4096 << 10)"));
        let alloc = handlers.build::<memalloc::AfterRcuGp>().unwrap();
        assert_eq!(alloc.stats().max_pending, USUAL_PENDING, "the library's default");
    }

    #[test]
    fn max_pending_is_bounded_by_the_rest_of_the_budget() {
        let of = |policy, budget: u32| {
            let toml = format!("[shape]\nlive_objects = 16384\nbudget_mib = {budget}");
            plan(policy, &toml).max_pending
        };
        assert_eq!(of(PolicyKind::AfterRcuGp, 3), Some(1 << 20));
        assert_eq!(of(PolicyKind::AfterRcuGp, 1), Some(LEAST_PENDING));
        assert_eq!(of(PolicyKind::AfterRcuGp, 100), None);
        assert_eq!(of(PolicyKind::Immediate, 3), None);
    }
}
