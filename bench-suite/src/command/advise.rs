//! `advise`: recommends a policy for a user's own workload.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use memalloc::PolicyKind;
use serde::{Deserialize, Serialize};

use super::page::PagePath;
use super::run::{Run, take_sample};
use super::{Failure, print, print_aside};
use crate::cli::AdviseOptions;
use crate::measure::{Budget, FEWEST_ROUNDS};
use crate::record::{RunHeader, Sink};
use crate::report::{
    self, Advice, Axis, Choice, Flip, Judgement, Limits, Listing, Measured, Opinion, Progress,
};
use crate::shape::{self, LONGEST_STALL_MS, PartialShape, Recorded, Shape, standings};
use crate::workload::{Selection, shaped};

/// The default time for all measurements, in seconds.
const USUAL_SECONDS: u64 = 120;

/// The share of the time for the shape itself; the search for flip points gets the rest.
const MAIN_PART: f64 = 0.45;

/// The most measurements along one number of the shape.
const POINTS: usize = 5;

/// The shortest useful sample of the search: a shorter one is not worth its process.
const LEAST_POINT_SAMPLE: Duration = Duration::from_millis(20);

/// The overhead of a sample: its process starts, fills the table, and ends.
const BESIDE_A_SAMPLE: Duration = Duration::from_millis(30);

/// The advice for a run that does not fit into its time.
const SHORTER: &str = "Fewer --rounds or a smaller --stall-ms shorten it.";

/// The size limit of a shape file, in bytes.
const MOST_BYTES: u64 = 1 << 20;

/// The message to a sample's process, on its standard input.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    /// The shape, as TOML.
    shape: String,
    /// The policies, in the order of the subjects.
    policies: Vec<String>,
}

/// Returns the defaults of the workload.
pub(super) fn listing() -> Listing {
    let usual = PartialShape::default().complete();
    let choices = usual.map_or_else(
        |_| Vec::new(),
        |Shape { numbers, .. }| {
            let all = [
                ("--sizes", numbers.sizes.to_string()),
                ("--live-objects", numbers.live_objects.to_string()),
                ("--threads", numbers.threads.to_string()),
                ("--section-us", numbers.section_us.to_string()),
                ("--stall-ms", numbers.stall_ms.to_string()),
                ("--other-cpu-frees", numbers.other_cpu_frees.to_string()),
                ("--percentile", numbers.percentile.to_string()),
            ];
            all.into_iter().map(|(option, value)| (option, vec![value])).collect()
        },
    );
    Listing { command: "advise", seconds: USUAL_SECONDS, choices }
}

/// Checks the request, measures, and answers.
pub(super) fn run(options: &AdviseOptions) -> Result<(), Failure> {
    if options.run.sample.is_some() {
        return sample(options);
    }
    let (partial, remark) = known(options).map_err(Failure::Request)?;
    let assumptions = partial.assumptions();
    let shape = partial.complete().map_err(Failure::Request)?;
    if options.print_shape {
        return print(&shape.to_toml());
    }
    let sink = Sink::open(options.run.json.as_deref()).map_err(Failure::Request)?;
    let page = PagePath::wanted(&options.run).map_err(Failure::Request)?;
    let say = if sink.is_standard_output() { print_aside } else { print };
    if !remark.is_empty() {
        say(&report::derived(&remark, &shape))?;
    }
    let standings = standings(&shape.demands);
    say(&report::correctness(&standings, &assumptions))?;
    let policies: Vec<PolicyKind> =
        standings.iter().filter(|one| one.out.is_none()).map(|one| one.policy).collect();
    if let Some(answer) = report::without_measuring(&shape, &policies) {
        return say(&answer);
    }
    let header = RunHeader::begin(options.run.seed);
    say("\n")?;
    say(&report::preamble("The shape", &header.host, options.run.rounds, false))?;
    let mut search = Search::new(options, policies, header, sink);
    if let Some(least) = search.takes_longer(&shape) {
        say(&report::takes_longer(least, search.time, SHORTER))?;
    }
    let answer = search.answer(&shape)?;
    search.run.end(0, page, say, |_, _| answer + "\n")
}

/// Collects what options and files say about the workload; returns it with a remark on the
/// recording.
fn known(options: &AdviseOptions) -> Result<(PartialShape, String), String> {
    let mut partial = options.partial();
    if let Some(path) = &options.shape {
        let complain = |error: String| format!("--shape {}: {error}", path.display());
        let text = read_text(path).map_err(complain)?;
        partial = partial.or(PartialShape::from_toml(&text).map_err(complain)?);
    }
    let Some(path) = &options.recording else { return Ok((partial, String::new())) };
    let recorded = shape::read_recording(path);
    let Recorded { partial: found, remark } =
        recorded.map_err(|error| format!("--recording {}: {error}", path.display()))?;
    Ok((partial.or(found), remark))
}

/// Reads a regular file of at most [`MOST_BYTES`] bytes.
fn read_text(path: &Path) -> Result<String, String> {
    let kind = fs::metadata(path).map_err(|error| error.to_string())?;
    if !kind.is_file() {
        // Opening a pipe would block until a writer appears.
        return Err("expected a regular file".into());
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("expected at most {MOST_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "it is not text in UTF-8".into())
}

/// Takes the one sample for which this process was started.
fn sample(options: &AdviseOptions) -> Result<(), Failure> {
    let Some(request) = &options.run.sample else { return Ok(()) };
    let refuse = |error: String| Failure::Request(format!("--sample: {error}"));
    let order = request.input().map_err(|error| refuse(error.to_string()))?;
    let Order { shape, policies } =
        serde_json::from_slice(&order).map_err(|error| refuse(error.to_string()))?;
    let shape = PartialShape::from_toml(&shape).and_then(PartialShape::complete).map_err(refuse)?;
    let policies: Result<Vec<PolicyKind>, _> = policies.iter().map(|name| name.parse()).collect();
    let policies = policies.map_err(|error| refuse(error.to_string()))?;
    let seed = options.run.seed;
    let workload = shaped::workload(&shape, request.workload.clone(), &policies, seed);
    take_sample(request, &mut [workload], &selection(policies, seed))
}

fn selection(policies: Vec<PolicyKind>, seed: u64) -> Selection {
    Selection { cases: vec![shaped::CASE], threads: Vec::new(), policies, rivals: false, seed }
}

/// The measurements that lead to an answer.
struct Search {
    run: Run,
    policies: Vec<PolicyKind>,
    seed: u64,
    warm_up: Option<Duration>,
    rounds: usize,
    time: Duration,
    begun: Instant,
}

impl Search {
    fn new(
        options: &AdviseOptions,
        policies: Vec<PolicyKind>,
        header: RunHeader,
        sink: Sink,
    ) -> Self {
        let rounds = options.run.rounds;
        let samples = (policies.len() + 1) * rounds + 2 * FEWEST_ROUNDS * POINTS * MOST_AXES;
        let progress = Progress::new(samples, options.run.quiet);
        // Each measurement gets a budget of its own.
        let budget = Budget::new(Duration::ZERO, 1.0, None);
        Self {
            run: Run::new(header, sink, rounds, budget, progress),
            policies,
            seed: options.run.seed,
            warm_up: options.run.warmup,
            rounds,
            time: options.run.budget(USUAL_SECONDS),
            begun: Instant::now(),
        }
    }

    /// Returns the least time for the shape itself, if it exceeds the time available.
    fn takes_longer(&self, shape: &Shape) -> Option<Duration> {
        let one = shaped::least_sample(shape) + BESIDE_A_SAMPLE;
        let least = one * ((self.policies.len() + 1) * self.rounds) as u32;
        (least > self.time).then_some(least)
    }

    /// Measures `policies` within `time`; only some rounds, or none, if the run is cut off.
    fn measure(
        &mut self,
        shape: &Shape,
        title: String,
        policies: &[PolicyKind],
        time: Duration,
        has_control: bool,
    ) -> Result<Vec<Measured>, Failure> {
        let order = Order {
            shape: shape.to_toml(),
            policies: policies.iter().map(ToString::to_string).collect(),
        };
        // Serializing an order to JSON can't fail.
        let input = serde_json::to_vec(&order).unwrap_or_default();
        let selection = selection(policies.to_vec(), self.seed);
        let mut workload = shaped::workload(shape, title, policies, self.seed);
        let turns = (policies.len() + usize::from(has_control)) * self.run.rounds;
        self.run.budget = Budget::new(time, turns as f64, self.warm_up);
        let records = self.run.measure(&mut workload, &input, &selection, has_control)?;
        Ok(policies.iter().filter_map(|&policy| Measured::of(records, policy)).collect())
    }

    fn left(&self) -> Duration {
        self.time.saturating_sub(self.begun.elapsed())
    }

    fn answer(&mut self, shape: &Shape) -> Result<String, Failure> {
        let policies = self.policies.clone();
        let main = self.time.mul_f64(if policies.len() > 1 { MAIN_PART } else { 0.9 });
        let measured = self.measure(shape, "the shape".into(), &policies, main, true)?;
        if measured.is_empty() {
            return Ok("\nThere is no answer yet.\n".into());
        }
        let minutes = self.begun.elapsed().as_secs_f64() / 60.0;
        let judgement = report::judge(&measured, &Limits::of(&shape.numbers), minutes);
        let mut found = Flips::default();
        self.flips(shape, &measured, &judgement, &mut found)?;
        Ok(report::advice(&Advice {
            shape,
            measured: &measured,
            judgement: &judgement,
            flips: &found.flips,
            unasked: &found.unasked,
            is_part: self.run.is_cut_off(),
            rounds_a_point: FEWEST_ROUNDS,
        }))
    }

    /// Searches for the points at which the answer flips between the first two policies.
    fn flips(
        &mut self,
        shape: &Shape,
        measured: &[Measured],
        judgement: &Judgement,
        found: &mut Flips,
    ) -> Result<(), Failure> {
        let base = Opinion::of(judgement);
        let Some(pair) = pair(judgement) else { return Ok(()) };
        self.run.rounds = FEWEST_ROUNDS;
        let axes = axes(shape, measured, pair[0]);
        for (place, &Span { axis, from, end, weight }) in axes.iter().enumerate() {
            if self.run.is_cut_off() {
                found.unasked.push(axis);
                continue;
            }
            let weights: u32 = axes[place..].iter().map(|span| span.weight).sum();
            let whole = self.left() * weight / weights;
            let deadline = Instant::now() + whole;
            let flip = report::search(axis, base, from, end, POINTS, |value| {
                let point = at(shape, axis, value);
                // An impossible point, such as a budget below the live objects, ends the axis.
                let Ok(point) =
                    PartialShape::from_toml(&point.to_toml()).and_then(PartialShape::complete)
                else {
                    return Ok(None);
                };
                let least = least_time(&point);
                let left = deadline.saturating_duration_since(Instant::now());
                if least > left {
                    return Ok(None);
                }
                // A third of the remaining time each: the first points are the farthest.
                let time = least.max(left / 3);
                let title = format!("{axis:?} {value:.3}");
                let measured = self.measure(&point, title, &pair, time, false)?;
                if self.run.is_cut_off() {
                    return Ok(None);
                }
                let judgement = report::judge(&measured, &Limits::of(&point.numbers), 1.0);
                Ok(Some(Opinion::of(&judgement)))
            })?;
            match flip {
                Some(flip) => found.flips.push(flip),
                None => found.unasked.push(axis),
            }
        }
        Ok(())
    }
}

/// The results of the searches.
#[derive(Debug, Default)]
struct Flips {
    flips: Vec<Flip>,
    unasked: Vec<Axis>,
}

/// Returns the least time of a point of the search, which measures two policies.
fn least_time(point: &Shape) -> Duration {
    let sample = shaped::least_sample(point).max(LEAST_POINT_SAMPLE) + BESIDE_A_SAMPLE;
    sample * (2 * FEWEST_ROUNDS) as u32
}

/// Returns the two policies between which the answer may flip: the recommended one and the next.
fn pair(judgement: &Judgement) -> Option<[PolicyKind; 2]> {
    let Judgement { choice, runner_up, misfits } = judgement;
    let next = runner_up.or(misfits.first().map(|(policy, _)| *policy));
    match choice {
        Choice::Take { policy, .. } => Some([*policy, next?]),
        Choice::Either(policies) => Some([policies[0], *policies.get(1)?]),
        Choice::CannotTell { .. } | Choice::NoneFits => None,
    }
}

/// The most axes to search: both directions of a section's length, a stall, the budget and the
/// share of updates.
const MOST_AXES: usize = 8;

/// The weight of an axis in the time for the search: the direction of a number in which a flip is
/// more likely, and the other one.
const FIRST: u32 = 3;
const SECOND: u32 = 1;

/// The search for fewer updates ends here.
const FEWEST_UPDATES_PERCENT: f64 = 0.1;

/// A number of the shape to vary, from its value to an end.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    axis: Axis,
    from: f64,
    end: f64,
    /// The share of the time, relative to the other axes.
    weight: u32,
}

/// Returns the axes of a shape. Those with more time come first: what they leave is for the others.
fn axes(shape: &Shape, measured: &[Measured], taken: PolicyKind) -> Vec<Span> {
    const MIB: f64 = crate::shape::MIB;
    let numbers = &shape.numbers;
    let mut axes = Vec::new();
    let mut add = |axis, from, end, weight| axes.push(Span { axis, from, end, weight });
    let section = numbers.section_us.max(0.1);
    add(Axis::LongerSections, section, (section * 100.0).clamp(100.0, 10_000.0), FIRST);
    add(Axis::ShorterSections, section, (section / 100.0).max(0.1), SECOND);
    match numbers.stall_ms {
        stall if stall > 0.0 => {
            add(Axis::ShorterStalls, stall, stall / 1000.0, FIRST);
            add(Axis::LongerStalls, stall, (stall * 10.0).min(LONGEST_STALL_MS), SECOND);
        }
        _ => add(Axis::LongerStalls, section / 1000.0, 100.0, FIRST),
    }
    let least = (numbers.live_bytes() as f64 / MIB * 1.1).max(1.0);
    match numbers.budget_mib {
        Some(budget) => {
            add(Axis::LargerBudget, budget, budget * 16.0, FIRST);
            add(Axis::SmallerBudget, budget, least, SECOND);
        }
        None => {
            let peaks = measured.iter().find(|one| one.policy == taken);
            let peak = peaks.and_then(|one| crate::measure::Summary::of(&one.peak_bytes));
            let peak = peak.map_or(0.0, |peak| peak.high / MIB) + 1.0;
            add(Axis::SmallerBudget, peak, least, FIRST);
        }
    }
    let shares = numbers.threads.shares();
    let most = shares.iter().copied().fold(0.0, f64::max) * 100.0;
    add(Axis::MoreUpdates, most, 100.0, FIRST);
    let fewer = if most < 100.0 { SECOND } else { FIRST };
    add(Axis::FewerUpdates, most, (most / 100.0).max(FEWEST_UPDATES_PERCENT), fewer);
    axes.retain(|span| match span.axis.goes_down() {
        true => span.end < span.from,
        false => span.end > span.from,
    });
    // The order of axes with the same weight stays.
    axes.sort_by_key(|span| std::cmp::Reverse(span.weight));
    axes
}

/// Returns the shape with one number changed.
fn at(shape: &Shape, axis: Axis, value: f64) -> Shape {
    let mut changed = shape.clone();
    let numbers = &mut changed.numbers;
    match axis {
        Axis::LongerSections | Axis::ShorterSections => numbers.section_us = value,
        Axis::LongerStalls | Axis::ShorterStalls => numbers.stall_ms = value,
        Axis::SmallerBudget | Axis::LargerBudget => numbers.budget_mib = Some(value),
        Axis::MoreUpdates | Axis::FewerUpdates => {
            let shares = numbers.threads.shares();
            let most = shares.iter().copied().fold(0.0, f64::max);
            numbers.threads = numbers.threads.with_shares(|share| share / most * value / 100.0);
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(toml: &str) -> Shape {
        PartialShape::from_toml(toml).unwrap().complete().unwrap()
    }

    #[test]
    fn every_axis_changes_its_number_and_no_other() {
        let shape = shape("[shape]\nthreads = \"1:0.2,1:0.1\"\nstall_ms = 8.0\nbudget_mib = 20");
        let changed = at(&shape, Axis::MoreUpdates, 100.0);
        assert_eq!(changed.numbers.threads.shares(), [1.0, 0.5]);
        let back = at(&changed, Axis::MoreUpdates, 20.0);
        assert_eq!(back.numbers.threads.shares(), [0.2, 0.1]);
        use Axis::{
            FewerUpdates, LargerBudget, LongerSections, LongerStalls, MoreUpdates, ShorterSections,
            ShorterStalls, SmallerBudget,
        };
        let axes = axes(&shape, &[], PolicyKind::Immediate);
        assert!(axes.len() <= MOST_AXES);
        assert_eq!(
            axes.iter().map(|span| span.axis).collect::<Vec<_>>(),
            [
                LongerSections,
                ShorterStalls,
                LargerBudget,
                MoreUpdates,
                ShorterSections,
                LongerStalls,
                SmallerBudget,
                FewerUpdates,
            ]
        );
        for Span { axis, from, end, .. } in axes {
            assert_ne!(at(&shape, axis, end), shape, "{axis:?}");
            if ![MoreUpdates, FewerUpdates].contains(&axis) {
                assert_eq!(at(&shape, axis, from), shape, "{axis:?}");
            }
        }
    }

    /// A search towards a number that the shape has already, or beyond it, would find nothing.
    #[test]
    fn every_axis_leads_away_from_the_shape() {
        for toml in [
            "",
            "[shape]\nthreads = \"2:1\"\nsection_us = 0.05",
            "[shape]\nthreads = \"2:0.0001\"\nsection_us = 20000\nstall_ms = 10000",
            "[shape]\nlive_objects = 100\nbudget_mib = 1.0",
        ] {
            let shape = shape(toml);
            for Span { axis, from, end, .. } in axes(&shape, &[], PolicyKind::Immediate) {
                assert!(from > 0.0 && end > 0.0, "{axis:?} of {toml}");
                assert_eq!(end < from, axis.goes_down(), "{axis:?} of {toml}");
            }
        }
    }

    /// The longest stall that is searched by default takes most of a sample's time: it must fit.
    #[test]
    fn the_first_point_of_every_main_axis_fits_into_the_usual_time() {
        let shape = shape("[shape]\nthreads = \"1:0.5,1:0.1\"");
        let axes = axes(&shape, &[], PolicyKind::Immediate);
        // With a smaller budget, which needs measurements.
        let weights = axes.iter().map(|span| span.weight).sum::<u32>() + FIRST;
        let time = Duration::from_secs(USUAL_SECONDS).mul_f64(1.0 - MAIN_PART);
        for span in axes.iter().filter(|span| span.weight == FIRST) {
            let least = least_time(&at(&shape, span.axis, span.end));
            assert!(least <= time * span.weight / weights, "{:?}: {least:?}", span.axis);
        }
    }

    #[test]
    fn a_missing_or_irregular_shape_file_is_reported() {
        assert!(read_text(Path::new("/nowhere")).unwrap_err().contains("No such file"));
        assert!(read_text(Path::new("/")).unwrap_err().contains("regular file"));
    }
}
