//! Running workloads: rounds, records and output. A command is a list of workloads and a function
//! that shows their records.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::page::PagePath;
use super::{Failure, failed, print, print_aside};
use crate::cli::RunOptions;
use crate::data::DataSet;
use crate::measure::{
    Budget, Contestant, CutOff, Interrupt, Look, NoReadings, Probe, Reading, Rounds, SampleProcess,
    SampleRequest, Slice, WrongAnswer, answer, end_with_the_run, run_rounds,
};
use crate::record::{self, Control, Health, Looks, Part, Record, RunEnd, RunHeader, Sink};
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
    /// True if the first subject takes part twice in the first workload of each kind, as a control.
    pub(super) has_control: bool,
    /// Formats the tables and the remarks on the records, which may be those of part of a run.
    pub(super) show: &'c dyn Fn(&[Record], Option<&Part>) -> String,
    /// Returns the text to print after a complete run.
    pub(super) closing: &'c dyn Fn() -> String,
}

/// Runs all workloads, writes the records and shows them.
pub(super) fn run(mut program: Program<'_, '_>) -> Result<(), Failure> {
    if let Some(request) = &program.options.sample {
        return take_sample(request, &mut program.workloads, program.selection);
    }
    let Program { options, selection, mut workloads, usual_seconds, title, remarks, .. } = program;
    let Program { has_tables, has_control, show, closing, .. } = program;
    let sink = Sink::open(options.json.as_deref()).map_err(Failure::Request)?;
    let page = PagePath::wanted(options).map_err(Failure::Request)?;
    // Records and text do not share a stream.
    let say = if sink.is_standard_output() { print_aside } else { print };
    let header = RunHeader::begin(options.seed);
    say(&report::preamble(title, &header.host, options.rounds, has_tables))?;
    say(&remarks)?;

    let rounds = options.rounds;
    let mut kinds = BTreeSet::new();
    let controlled: Vec<bool> =
        workloads.iter().map(|one| has_control && kinds.insert(one.kind())).collect();
    let turns: Vec<usize> = workloads
        .iter()
        .zip(&controlled)
        .map(|(one, &control)| (one.subjects.len() + usize::from(control)) * rounds)
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
    let mut run = Run::new(header, sink, rounds, budget, progress);
    let all = workloads.len();
    for (workload, has_control) in workloads.iter_mut().zip(controlled) {
        let input = workload.keys.map_or(&[][..], DataSet::packed);
        run.measure(workload, input, selection, has_control)?;
        if run.is_cut_off() {
            break;
        }
    }
    let closing = if run.is_cut_off() { String::new() } else { closing() };
    run.end(all, page, say, |records, part| show(records, part) + &closing)
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

/// A run in progress.
pub(super) struct Run {
    pub(super) header: Arc<RunHeader>,
    sink: Sink,
    /// The first error in writing records.
    unwritten: Option<io::Error>,
    pub(super) rounds: usize,
    pub(super) budget: Budget,
    probe: Probe,
    /// The results of the controls.
    controls: Vec<Control>,
    progress: Progress,
    interrupt: Interrupt,
    /// The records so far.
    records: Vec<Record>,
    /// The number of workloads that were measured.
    done: usize,
    /// The reason why another workload lacks rounds, if one does.
    cut_off: Option<(CutOff, Part)>,
}

impl Run {
    /// Starts a run, which can be interrupted from now on.
    pub(super) fn new(
        header: RunHeader,
        mut sink: Sink,
        rounds: usize,
        budget: Budget,
        progress: Progress,
    ) -> Self {
        Self {
            unwritten: sink.begin(&header).err(),
            header: Arc::new(header),
            sink,
            rounds,
            budget,
            probe: Probe::default(),
            controls: Vec::new(),
            progress,
            interrupt: Interrupt::listen(),
            records: Vec::new(),
            done: 0,
            cut_off: None,
        }
    }

    /// Returns whether the run has to end early.
    pub(super) fn is_cut_off(&self) -> bool {
        self.cut_off.is_some()
    }

    /// Measures each subject of a workload, and writes and returns the records of its complete
    /// rounds. Each sample's process reads `input` from its standard input.
    ///
    /// # Errors
    ///
    /// The wrong answer of a subject that ends the run with it.
    pub(super) fn measure(
        &mut self,
        workload: &mut Workload<'_>,
        input: &[u8],
        selection: &Selection,
        has_control: bool,
    ) -> Result<&[Record], Failure> {
        self.progress.show(&workload.title);
        let rounds = self.take_rounds(workload, input, &selection.cases, has_control);
        let (rounds, looks) = rounds.map_err(|wrong| failed(&workload.title, &wrong))?;
        let known = self.records.len();
        if rounds.complete > 0 {
            let of_each = workload.subjects.iter().zip(rounds.outcomes).zip(looks);
            self.records.extend(of_each.flat_map(|((one, outcome), looks)| {
                Record::of(workload, one, outcome, &looks, selection, &self.header)
            }));
            if let Err(error) = self.sink.append(&self.records[known..]) {
                self.unwritten.get_or_insert(error);
            }
        }
        match rounds.cut_off {
            None => self.done += 1,
            Some(cut_off) => {
                let part = Part {
                    reason: cut_off.to_string(),
                    workload: workload.title.clone(),
                    rounds_done: rounds.complete,
                    rounds: self.rounds,
                };
                self.cut_off = Some((cut_off, part));
            }
        }
        Ok(&self.records[known..])
    }

    /// Takes the samples of a workload. Returns them, and for each subject the machine probes
    /// before its samples and their processes.
    fn take_rounds(
        &mut self,
        workload: &mut Workload<'_>,
        input: &[u8],
        cases: &[&'static str],
        has_control: bool,
    ) -> Result<(Rounds, Vec<Looks>), WrongAnswer> {
        let Workload { bench, title, keys, threads, share, shortest, subjects, .. } = workload;
        let probe = RefCell::new(&mut self.probe);
        let request = |subject| SampleRequest {
            run: std::process::id(),
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
            processes: Vec::new(),
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
        let mut rounds = run_rounds(
            &mut contestants,
            self.rounds,
            &mut self.budget,
            (*share, *shortest),
            after_each,
        )?;
        for one in named.iter_mut().map(|one| &mut one.subprocess).chain([&mut control]) {
            one.looks.truncate(rounds.complete);
            one.processes.truncate(rounds.complete);
        }
        let again = if has_control { rounds.outcomes.pop() } else { None };
        if let (Some(Ok(again)), Some(Ok(first))) = (again, rounds.outcomes.first()) {
            // The first reading is the main quantity of a workload.
            let main = first.first().zip(again.first());
            self.controls.extend(main.zip(named.first()).and_then(|((first, again), named)| {
                let first = (first, &named.subprocess.looks[..]);
                Control::of(bench, named.subject, *threads, first, (again, &control.looks[..]))
            }));
        }
        let looks = named.iter().map(|NamedSubject { subprocess, .. }| {
            let Subprocess { looks, processes, .. } = subprocess;
            Looks::of(looks, processes)
        });
        Ok((rounds, looks.collect()))
    }

    /// Writes the end of the records and shows everything: `results` formats the records. At least
    /// `workloads` workloads were planned.
    pub(super) fn end(
        self,
        workloads: usize,
        page: Option<PagePath>,
        say: fn(&str) -> Result<(), Failure>,
        results: impl FnOnce(&[Record], Option<&Part>) -> String,
    ) -> Result<(), Failure> {
        let Self { header, mut sink, mut unwritten, records, cut_off, .. } = self;
        drop(self.progress);
        let health = Health::of(&self.probe, &records);
        let (cut_off, part) = cut_off.unzip();
        let (done, took) = (self.done, self.probe.elapsed());
        let workloads = workloads.max(done + usize::from(part.is_some()));
        let end = RunEnd::now(&header, took, (done, workloads), self.controls, health, part);
        if let Err(error) = sink.end(&end) {
            unwritten.get_or_insert(error);
        }
        self.interrupt.end_at_once();
        let part = report::part(&end).map(|part| format!("\n{part}")).unwrap_or_default();
        let said = say(&(part + &results(&records, end.part.as_ref()) + &report::health(&end)));
        let run = record::Run { header, records, end: Some(end) };
        // A run that measured nothing does not replace the report of one that did.
        let page = page.filter(|_| !run.records.is_empty());
        let shown = page.map_or(Ok(()), |page| page.show(run, say));
        // The first failure decides the exit status.
        let failures = [ended(unwritten, cut_off), said, shown].into_iter().filter_map(Result::err);
        let mut failures = failures.collect::<Vec<_>>().into_iter();
        let first = failures.next();
        for other in failures {
            print_aside(&format!("bench-suite: {other}\n"))?;
        }
        first.map_or(Ok(()), Err)
    }
}

/// Returns the outcome of a run that may have failed to write records or have been cut off.
pub(super) fn ended(unwritten: Option<io::Error>, cut_off: Option<CutOff>) -> Result<(), Failure> {
    match (unwritten, cut_off) {
        (Some(error), _) => {
            Err(Failure::Run(format!("--json: {error}; the records before it are complete")))
        }
        (None, Some(CutOff::Signal(signal))) => Err(Failure::Interrupted(signal)),
        (None, Some(CutOff::Refused(reason))) => Err(Failure::Run(reason)),
        (None, None) => Ok(()),
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
    /// The process of each sample.
    processes: Vec<u32>,
}

/// A sample that is being taken.
struct Sample {
    process: SampleProcess,
    /// The probe before it.
    before: Look,
}

impl Subprocess<'_> {
    fn begin(&self, before: Look) -> Result<Sample, CutOff> {
        Ok(Sample { process: SampleProcess::start(&self.request, self.input)?, before })
    }
}

impl Contestant for Subprocess<'_> {
    fn rehearse(&mut self) -> Result<(), NoReadings> {
        match self.interrupt.signal() {
            Some(signal) => Err(CutOff::Signal(signal).into()),
            None => Ok(()),
        }
    }

    fn turn(&mut self, slice: Slice) -> Result<Option<Vec<Reading>>, NoReadings> {
        if let Some(signal) = self.interrupt.signal() {
            return Err(CutOff::Signal(signal).into());
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
                self.processes.push(process.id());
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
    fn named<T>(&self, result: Result<T, NoReadings>) -> Result<T, NoReadings> {
        result.map_err(|none| match none {
            NoReadings::Wrong(WrongAnswer(reason)) => {
                let Subject { name, policy, .. } = &self.subject;
                let policy = policy.map(|policy| format!(" {policy}")).unwrap_or_default();
                WrongAnswer(format!("{name}{policy}: {reason}")).into()
            }
            cut_off @ NoReadings::CutOff(_) => cut_off,
        })
    }
}

impl Contestant for NamedSubject<'_, '_> {
    fn ends_the_run(&self) -> bool {
        self.subject.on_wrong == OnWrong::EndTheRun
    }

    fn rehearse(&mut self) -> Result<(), NoReadings> {
        self.subprocess.rehearse()?;
        let end = self.subject.sampler.rehearse();
        self.named(end)
    }

    fn turn(&mut self, slice: Slice) -> Result<Option<Vec<Reading>>, NoReadings> {
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
    end_with_the_run(request);
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
