//! Running workloads: rounds, records and output. A command is a list of workloads and a function
//! that shows their records.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::page::PagePath;
use super::{Failure, failed, print, print_aside};
use crate::cli::RunOptions;
use crate::data::DataSet;
use crate::measure::{
    Budget, Contestant, Interrupt, Look, Outcome, Probe, Reading, SampleProcess, SampleRequest,
    Slice, WrongAnswer, answer, run_rounds,
};
use crate::record::{self, Control, Health, Record, RunEnd, RunHeader, Sink};
use crate::report::{self, Progress};
use crate::workload::{OnWrong, Selection, Subject, Workload};

/// A command: its workloads, and how to show their records.
pub(super) struct Program<'c, 'd> {
    /// The options of every command.
    pub(super) options: &'c RunOptions,
    /// The selected cases, policies and threads.
    pub(super) selection: &'c Selection,
    /// The workloads, in the order in which they run.
    pub(super) workloads: Vec<Workload<'d>>,
    /// The default time for all samples together, in seconds.
    pub(super) usual_seconds: u64,
    /// The subject of the tables, in a few words.
    pub(super) title: &'c str,
    /// Lines to print before anything runs.
    pub(super) remarks: String,
    /// True if tables follow: the preamble then explains their cells.
    pub(super) has_tables: bool,
    /// True if the first subject takes part twice in the first workload, as a control.
    pub(super) has_control: bool,
    /// Formats the tables and the remarks on the records.
    pub(super) show: &'c dyn Fn(&[Record]) -> String,
    /// The text to print after a complete run.
    pub(super) closing: String,
}

/// Runs all workloads, writes the records and shows them.
pub(super) fn run(mut program: Program<'_, '_>) -> Result<(), Failure> {
    if let Some(request) = &program.options.sample {
        return take_sample(request, &mut program.workloads, program.selection);
    }
    let Program { options, selection, mut workloads, usual_seconds, title, remarks, .. } = program;
    let Program { has_tables, has_control, show, closing, .. } = program;
    let mut sink = Sink::open(options.json.as_deref()).map_err(Failure::Request)?;
    let page = PagePath::wanted(options).map_err(Failure::Request)?;
    // Records and text do not share a stream.
    let say = if sink.is_standard_output() { print_aside } else { print };
    let header = Arc::new(RunHeader::begin(options.seed));
    say(&report::preamble(title, &header.host, options.rounds, has_tables))?;
    say(&remarks)?;

    let rounds = options.rounds;
    let is_controlled = |place: usize| has_control && place == CONTROLLED;
    let turns: Vec<usize> = (0..)
        .zip(&workloads)
        .map(|(place, one)| (one.subjects.len() + usize::from(is_controlled(place))) * rounds)
        .collect();
    let progress = Progress::new(turns.iter().sum(), options.quiet);
    let shares = workloads.iter().zip(&turns).map(|(one, &turns)| one.share * turns as f64);
    let budget = options.budget(usual_seconds);
    let warm_up = options.warmup.unwrap_or_default();
    let least: Duration = workloads
        .iter()
        .zip(&turns)
        .map(|(one, &turns)| (least(one) + warm_up) * turns as u32)
        .sum();
    if least > budget {
        say(&report::takes_longer(least, budget, SHORTER))?;
    }
    let budget = Budget::new(budget, shares.sum(), options.warmup);
    let mut run = Run::new(rounds, budget, progress);
    let (mut records, all) = (Vec::new(), workloads.len());
    let mut unwritten = sink.begin(&header).err();
    let mut cut_off = None;
    for (place, workload) in workloads.iter_mut().enumerate() {
        run.progress.show(&workload.title);
        let input = workload.keys.map_or(&[][..], DataSet::packed);
        let outcomes = match run.measure(workload, input, &selection.cases, is_controlled(place)) {
            Err(wrong) if wrong.is_interruption() => {
                // The interrupted workload lacks rounds: its samples are dropped.
                cut_off = Some(place);
                break;
            }
            Err(wrong) => return Err(failed(&workload.title, &wrong)),
            Ok(outcomes) => outcomes,
        };
        let of_each = workload.subjects.iter().zip(outcomes);
        let made: Vec<Record> = of_each
            .flat_map(|(one, (outcome, looks))| {
                Record::of(workload, one, outcome, &looks, selection, &header)
            })
            .collect();
        if let Err(error) = sink.append(&made) {
            unwritten.get_or_insert(error);
        }
        records.extend(made);
    }
    let Run { probe, control, progress, .. } = run;
    drop(progress);
    let health = Health::of(&probe, &records);
    let done = cut_off.unwrap_or(all);
    let end = RunEnd::now(&header, probe.elapsed(), (done, all), control, health);
    if let Err(error) = sink.end(&end) {
        unwritten.get_or_insert(error);
    }
    if let Some(done) = cut_off {
        say(&format!("\nInterrupted after {done} of {all} workloads.\n"))?;
    }
    say(&show(&records))?;
    if cut_off.is_none() {
        say(&closing)?;
    }
    say(&report::health(&end))?;
    if let Some(page) = page {
        page.show(record::Run { header, records, end: Some(end) }, say)?;
    }
    ended(unwritten, cut_off.is_some())
}

/// Returns the outcome of a run that may have failed to write records or have been interrupted.
pub(super) fn ended(unwritten: Option<io::Error>, is_cut_off: bool) -> Result<(), Failure> {
    match (unwritten, is_cut_off) {
        (Some(error), _) => {
            Err(Failure::Run(format!("--json: {error}; the records before it are complete")))
        }
        (None, true) => Err(Failure::Interrupted),
        (None, false) => Ok(()),
    }
}

/// Estimates the least time of a sample, with starting a process and filling a map.
fn least(workload: &Workload<'_>) -> Duration {
    const START: Duration = Duration::from_millis(20);
    const KEY: Duration = Duration::from_micros(1);
    let keys = workload.keys.map_or(0, |set| set.keys.len());
    START + KEY * keys as u32 + workload.shortest
}

/// The advice for a run that does not fit into its time.
const SHORTER: &str = "Fewer --rounds, --case or --threads shorten it.";

/// The workload in which the first subject takes part twice, to compare two identical subjects.
const CONTROLLED: usize = 0;

/// A run in progress.
pub(super) struct Run {
    pub(super) rounds: usize,
    pub(super) budget: Budget,
    pub(super) probe: Probe,
    /// The result of the control.
    pub(super) control: Option<Control>,
    pub(super) progress: Progress,
    interrupt: Interrupt,
}

impl Run {
    /// Starts a run, which can be interrupted from now on.
    pub(super) fn new(rounds: usize, budget: Budget, progress: Progress) -> Self {
        let (probe, interrupt) = (Probe::default(), Interrupt::listen());
        Self { rounds, budget, probe, control: None, progress, interrupt }
    }

    /// Measures each subject of a workload. Returns its outcome and the machine probes taken before
    /// its samples. Each sample's process reads `input` from its standard input.
    pub(super) fn measure(
        &mut self,
        workload: &mut Workload<'_>,
        input: &[u8],
        cases: &[&'static str],
        has_control: bool,
    ) -> Result<Vec<(Outcome, Vec<Look>)>, WrongAnswer> {
        let Workload { bench, title, keys, threads, share, shortest, subjects } = workload;
        let probe = RefCell::new(&mut self.probe);
        let request = |subject| SampleRequest {
            workload: title.clone(),
            keys: keys.map(|keys| keys.name.to_string()),
            input_bytes: input.len(),
            subject,
            slice: Slice::default(),
        };
        let subprocess = |subject| Subprocess {
            request: request(subject),
            input,
            cases,
            probe: &probe,
            interrupt: &self.interrupt,
            sample: None,
            looks: Vec::new(),
        };
        let mut named: Vec<NamedSubject<'_, '_>> = (0..)
            .zip(subjects)
            .map(|(place, subject)| NamedSubject { subject, subprocess: subprocess(place) })
            .collect();
        let mut control = subprocess(0);
        let mut contestants: Vec<&mut dyn Contestant> =
            named.iter_mut().map(|one| one as &mut dyn Contestant).collect();
        if has_control {
            contestants.push(&mut control);
        }
        let after_each = || self.progress.step();
        let mut outcomes = run_rounds(
            &mut contestants,
            self.rounds,
            &mut self.budget,
            (*share, *shortest),
            after_each,
        )?;
        if has_control
            && let (Some(Ok(again)), Some(Ok(first))) = (outcomes.pop(), outcomes.first())
        {
            // The first reading is the main quantity of a workload.
            let main = first.first().zip(again.first());
            self.control = main.zip(named.first()).and_then(|((first, again), named)| {
                let first = (first, &named.subprocess.looks[..]);
                Control::of(bench, named.subject, *threads, first, (again, &control.looks[..]))
            });
        }
        Ok(outcomes.into_iter().zip(named.into_iter().map(|one| one.subprocess.looks)).collect())
    }
}

/// A sample without turns during which the placement of the CPUs changed is of neither placement.
/// It is taken again, this many times at most.
const MOST_RETAKES: u32 = 2;

/// Takes each sample in a separate process, between two probes of the machine.
struct Subprocess<'r> {
    request: SampleRequest,
    input: &'r [u8],
    cases: &'r [&'static str],
    probe: &'r RefCell<&'r mut Probe>,
    interrupt: &'r Interrupt,
    /// The sample that is being taken.
    sample: Option<Sample>,
    /// The probe before each sample.
    looks: Vec<Look>,
}

/// A sample that is being taken.
struct Sample {
    process: SampleProcess,
    /// The probe before it.
    before: Look,
}

impl Subprocess<'_> {
    fn begin(&self, before: Look) -> Result<Sample, WrongAnswer> {
        Ok(Sample { process: SampleProcess::start(&self.request, self.input)?, before })
    }
}

impl Contestant for Subprocess<'_> {
    fn rehearse(&mut self) -> Result<(), WrongAnswer> {
        Ok(())
    }

    fn turn(&mut self, slice: Slice) -> Result<Option<Vec<Reading>>, WrongAnswer> {
        if self.interrupt.is_asked() {
            return Err(WrongAnswer::interrupted());
        }
        let mut sample = match self.sample.take() {
            Some(sample) => sample,
            None => {
                self.request.slice = slice;
                let before = self.probe.borrow_mut().look();
                self.begin(before)?
            }
        };
        for retakes in 0.. {
            let Some(readings) = sample.process.turn(self.cases, self.interrupt)? else {
                self.sample = Some(sample);
                return Ok(None);
            };
            let after = self.probe.borrow_mut().look();
            let Sample { process, before } = sample;
            let is_of_one = before.is_of_the_same_placement(&after);
            if is_of_one || process.has_turns() || retakes == MOST_RETAKES {
                // The other samples with turns have met the same change in this round.
                let is_mixed = !is_of_one && process.has_turns();
                let round_trip_ns = before.round_trip_ns.filter(|_| !is_mixed);
                self.looks.push(Look { round_trip_ns, ..before });
                return Ok(Some(readings));
            }
            sample = self.begin(after)?;
        }
        unreachable!("the loop returns")
    }
}

/// A subject of a workload: rehearsed in this process, measured in another.
struct NamedSubject<'r, 'd> {
    subject: &'r mut Subject<'d>,
    subprocess: Subprocess<'r>,
}

impl NamedSubject<'_, '_> {
    /// Adds the subject's name to a wrong answer.
    fn named<T>(&self, result: Result<T, WrongAnswer>) -> Result<T, WrongAnswer> {
        result.map_err(|wrong| {
            if wrong.is_interruption() {
                return wrong;
            }
            let WrongAnswer(reason) = wrong;
            let Subject { name, policy, .. } = &self.subject;
            let policy = policy.map(|policy| format!(" {policy}")).unwrap_or_default();
            WrongAnswer(format!("{name}{policy}: {reason}"))
        })
    }
}

impl Contestant for NamedSubject<'_, '_> {
    fn ends_the_run(&self) -> bool {
        self.subject.on_wrong == OnWrong::EndTheRun || self.subprocess.interrupt.is_asked()
    }

    fn rehearse(&mut self) -> Result<(), WrongAnswer> {
        let end = self.subject.sampler.rehearse();
        self.named(end)
    }

    fn turn(&mut self, slice: Slice) -> Result<Option<Vec<Reading>>, WrongAnswer> {
        let readings = self.subprocess.turn(slice);
        self.named(readings)
    }
}

/// Takes the one sample for which this process was started.
pub(super) fn take_sample(
    request: &SampleRequest,
    workloads: &mut [Workload<'_>],
    selection: &Selection,
) -> Result<(), Failure> {
    let workload = workloads.iter_mut().find(|workload| workload.title == request.workload);
    let subject = workload.and_then(|workload| workload.subjects.get_mut(request.subject));
    let subject =
        subject.ok_or_else(|| Failure::Request("--sample: there is no such subject".into()))?;
    let mut readings = subject.sampler.sample(request.slice);
    if let Ok(readings) = &mut readings {
        // A workload may read cases that were not selected.
        readings.retain(|reading| selection.wants(reading.case));
    }
    print(&answer(readings))
}
