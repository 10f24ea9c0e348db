//! A workload of which only some facts are known: from options, from a TOML file, from a recording;
//! and the assumptions for the rest.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::correct::{Demands, Shared, Signals};
use super::notation::{SizeWeights, ThreadGroups};
use super::{MIB, Numbers, Shape};

/// A workload with unknown fields, as in a TOML file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PartialShape {
    pub(crate) correct: PartialDemands,
    pub(crate) shape: PartialNumbers,
}

/// See [`Demands`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PartialDemands {
    pub(crate) readers: Option<bool>,
    pub(crate) validate: Option<bool>,
    pub(crate) references: Option<bool>,
    pub(crate) sleep: Option<bool>,
    pub(crate) signals: Option<Signals>,
    pub(crate) shared: Option<Shared>,
}

/// See [`Numbers`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PartialNumbers {
    pub(crate) sizes: Option<SizeWeights>,
    pub(crate) live_objects: Option<u64>,
    pub(crate) threads: Option<ThreadGroups>,
    pub(crate) frees_per_s: Option<f64>,
    pub(crate) section_us: Option<f64>,
    pub(crate) stall_ms: Option<f64>,
    pub(crate) other_cpu_frees: Option<f64>,
    pub(crate) budget_mib: Option<f64>,
    pub(crate) percentile: Option<f64>,
    pub(crate) latency_limit_us: Option<f64>,
}

/// The longest section, and the longest stall.
const LONGEST_SECTION_US: f64 = 1e6;
pub(crate) const LONGEST_STALL_MS: f64 = 10_000.0;

/// The most live objects: an object's number has 26 bits in its stamp.
const MOST_OBJECTS: u64 = 1 << 26;

/// The most frees per second.
const MOST_FREES: f64 = 1e9;

impl PartialShape {
    /// Parses the text of a TOML file.
    ///
    /// # Errors
    ///
    /// One line that says what is wrong, and where.
    pub(crate) fn from_toml(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            let place = error.span().map(|span| {
                let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
                format!("line {line}: ")
            });
            let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
            format!("{}{message}", place.unwrap_or_default())
        })
    }

    /// Returns these fields, with unknown ones taken from `other`.
    pub(crate) fn or(self, other: Self) -> Self {
        let (a, b) = (self.correct, other.correct);
        let correct = PartialDemands {
            readers: a.readers.or(b.readers),
            validate: a.validate.or(b.validate),
            references: a.references.or(b.references),
            sleep: a.sleep.or(b.sleep),
            signals: a.signals.or(b.signals),
            shared: a.shared.or(b.shared),
        };
        let (a, b) = (self.shape, other.shape);
        let shape = PartialNumbers {
            sizes: a.sizes.or(b.sizes),
            live_objects: a.live_objects.or(b.live_objects),
            threads: a.threads.or(b.threads),
            frees_per_s: a.frees_per_s.or(b.frees_per_s),
            section_us: a.section_us.or(b.section_us),
            stall_ms: a.stall_ms.or(b.stall_ms),
            other_cpu_frees: a.other_cpu_frees.or(b.other_cpu_frees),
            budget_mib: a.budget_mib.or(b.budget_mib),
            percentile: a.percentile.or(b.percentile),
            latency_limit_us: a.latency_limit_us.or(b.latency_limit_us),
        };
        Self { correct, shape }
    }

    /// Returns the workload, with assumptions for unknown fields.
    ///
    /// # Errors
    ///
    /// One line about a number that is out of range, or two numbers that contradict each other.
    pub(crate) fn complete(self) -> Result<Shape, String> {
        let (correct, shape) = (self.correct, self.shape);
        let demands = Demands {
            readers: correct.readers.unwrap_or(true),
            validate: correct.validate.unwrap_or(false),
            references: correct.references.unwrap_or(false),
            sleep: correct.sleep.unwrap_or(false),
            signals: correct.signals.unwrap_or(Signals::No),
            shared: correct.shared.unwrap_or(Shared::Nothing),
        };
        let usual = "1:1,1:0.1";
        let threads = shape.threads.map_or_else(|| usual.parse(), Ok)?;
        let sizes = shape.sizes.map_or_else(|| "64".parse(), Ok)?;
        let live_objects = shape.live_objects.unwrap_or(10_000);
        let count = threads.count() as u64;
        if !(count..=MOST_OBJECTS).contains(&live_objects) {
            return Err(format!(
                "live-objects {live_objects}: expected {count} to {MOST_OBJECTS}, at least one for \
                 each thread"
            ));
        }
        let within = |name: &str, value: f64, low: f64, high: f64| match value {
            value if value >= low && value <= high => Ok(value),
            value => Err(format!("{name} {value}: expected {low} to {high}")),
        };
        let optional = |name: &str, value: Option<f64>, low: f64, high: f64| {
            value.map(|value| within(name, value, low, high)).transpose()
        };
        let numbers = Numbers {
            sizes,
            live_objects: live_objects as usize,
            threads,
            frees_per_s: optional("frees-per-s", shape.frees_per_s, 1.0, MOST_FREES)?,
            section_us: within(
                "section-us",
                shape.section_us.unwrap_or(1.0),
                0.0,
                LONGEST_SECTION_US,
            )?,
            stall_ms: within("stall-ms", shape.stall_ms.unwrap_or(0.0), 0.0, LONGEST_STALL_MS)?,
            other_cpu_frees: within(
                "other-cpu-frees",
                shape.other_cpu_frees.unwrap_or(0.0),
                0.0,
                1.0,
            )?,
            budget_mib: optional("budget-mib", shape.budget_mib, 1.0, 65_536.0)?,
            percentile: within("percentile", shape.percentile.unwrap_or(99.0), 50.0, 99.999)?,
            latency_limit_us: optional("latency-limit-us", shape.latency_limit_us, 0.01, 1e7)?,
        };
        if numbers.other_cpu_frees > 0.0 && count < 2 {
            return Err("other-cpu-frees above 0 needs 2 threads or more".into());
        }
        let live = numbers.live_bytes();
        match numbers.budget_bytes() {
            Some(budget) if budget < live => Err(format!(
                "budget-mib {}: the live objects alone are {:.1} MiB",
                budget as f64 / MIB,
                live as f64 / MIB
            )),
            None if live > 16 << 30 => Err(format!(
                "live-objects {live_objects}: {:.0} GiB of objects exceed \
                 the limit of 16 GiB",
                live as f64 / MIB / 1024.0
            )),
            _ => Ok(Shape { demands, numbers }),
        }
    }

    /// Returns the assumptions of `complete` about correctness, in words.
    pub(crate) fn assumptions(&self) -> Vec<&'static str> {
        let PartialDemands { readers, validate, references, sleep, signals, shared } = self.correct;
        if readers == Some(false) {
            return Vec::new();
        }
        let assumed = [
            (validate.is_none(), "readers can't validate (--validate yes if they can)"),
            (references.is_none(), "they keep no references (--references yes if they do)"),
            (sleep.is_none(), "they don't sleep in sections (--sleep yes if they do)"),
            (signals.is_none(), "signal handlers don't allocate (--signals alloc if they do)"),
            (shared.is_none(), "nothing else uses the allocator (--shared other-types if it does)"),
        ];
        assumed.into_iter().filter(|(is_assumed, _)| *is_assumed).map(|(_, what)| what).collect()
    }
}

impl Shape {
    /// Returns the workload as TOML, for editing: a field without a value is commented out.
    pub(crate) fn to_toml(&self) -> String {
        let Self { demands, numbers } = self;
        let Demands { readers, validate, references, sleep, signals, shared } = demands;
        let mut text = format!(
            "[correct]\n\
             readers = {readers}            # can a thread read an object while another frees it?\n\
             validate = {validate}          # can every reader validate what it reads?\n\
             references = {references}        # do readers keep references until their section ends?\n\
             sleep = {sleep}             # do they block or await inside a section?\n\
             signals = \"{signals}\"            # handlers: \"no\", \"alloc\", \"alloc-free\"\n\
             shared = \"{shared}\"        # \"nothing\", \"other-types\", \"processes\"\n\n\
             [shape]\n"
        );
        let n = numbers;
        let mut line = |name: &str, value: Option<String>, comment: &str| {
            let hash = if value.is_none() { "# " } else { "" };
            let setting = format!("{hash}{name} = {}", value.as_deref().unwrap_or("0"));
            // Writing to a string can't fail.
            let _ = writeln!(text, "{setting:<31}  # {comment}");
        };
        line("sizes", Some(format!("\"{}\"", n.sizes)), "bytes:weight");
        line("live_objects", Some(n.live_objects.to_string()), "number of live objects");
        line("threads", Some(format!("\"{}\"", n.threads)), "threads:share of updates");
        line("frees_per_s", n.frees_per_s.map(number), "unset: as many as possible");
        line("section_us", Some(number(n.section_us)), "length of a read section");
        line("stall_ms", Some(number(n.stall_ms)), "length of the longest section");
        line("other_cpu_frees", Some(number(n.other_cpu_frees)), "share of frees on another CPU");
        line("budget_mib", n.budget_mib.map(number), "memory budget; unset: no limit");
        line("percentile", Some(number(n.percentile)), "latency percentile to judge by");
        line(
            "latency_limit_us",
            n.latency_limit_us.map(number),
            "at that percentile; unset: no limit",
        );
        text
    }
}

/// Formats a number so that TOML reads it as a float.
fn number(value: f64) -> String {
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let line = match PartialShape::from_toml(text) {
            Ok(partial) => partial.complete().unwrap_err(),
            Err(line) => line,
        };
        assert_eq!(line.lines().count(), 1, "{line}");
        line
    }

    #[test]
    fn a_shape_is_read_as_it_is_written() {
        let partial = "[correct]\nvalidate = true\nsignals = \"alloc-free\"\n\
                       [shape]\nsizes = \"64:3,256\"\nbudget_mib = 12\nthreads = \"6:0,2:1\"\n";
        let shape = PartialShape::from_toml(partial).unwrap().complete().unwrap();
        assert_eq!(shape.demands.signals, Signals::AllocFree);
        let again = PartialShape::from_toml(&shape.to_toml()).unwrap();
        assert!(again.assumptions().is_empty(), "every field is known");
        assert_eq!(again.complete().unwrap(), shape);
    }

    #[test]
    fn options_override_a_file_and_a_file_overrides_assumptions() {
        let options = PartialShape::from_toml("[shape]\nstall_ms = 5.0").unwrap();
        let file = PartialShape::from_toml("[shape]\nstall_ms = 7.0\nsection_us = 40").unwrap();
        let numbers = options.or(file).complete().unwrap().numbers;
        assert_eq!((numbers.stall_ms, numbers.section_us), (5.0, 40.0));
        assert_eq!(numbers.percentile, 99.0);
    }

    #[test]
    fn the_error_for_an_invalid_file_is_one_line_that_names_the_place() {
        assert!(refused("[shape]\nsize = \"64\"").contains("line 2: unknown field `size`"));
        assert!(refused("[shape]\nsizes = \"0\"").contains("64:3,256"));
        assert!(refused("[shape").contains("line 1"));
        assert!(refused("[correct]\nsignals = \"maybe\"").contains("alloc-free"));
        assert!(refused("[shape]\nstall_ms = -1.0").contains("stall-ms -1: expected 0 to 10000"));
        assert!(refused("[shape]\nsection_us = nan").contains("expected"));
        assert!(refused("[shape]\nthreads=\"1:1\"\nother_cpu_frees=0.5").contains("2 threads"));
        let few = "[shape]\nlive_objects = 1000000\nbudget_mib = 16";
        assert!(refused(few).contains("live objects alone are 61.0 MiB"), "{}", refused(few));
        assert!(refused("[shape]\nlive_objects = 1").contains("expected 2 to"));
    }

    #[test]
    fn assumptions_are_listed() {
        let partial = PartialShape::from_toml("[correct]\nvalidate = true").unwrap();
        assert!(partial.assumptions().iter().all(|line| !line.contains("validate")));
        assert_eq!(partial.assumptions().len(), 4);
        let alone = PartialShape::from_toml("[correct]\nreaders = false").unwrap();
        assert!(alone.assumptions().is_empty());
    }
}
