//! Running contests: rounds, records, and what is shown. A command is a list of contests and a
//! way to show their records.

use std::sync::Arc;

use super::{Failure, failed, print};
use crate::cli::CommonOptions;
use crate::measure::{Entrant, Errand, Pace, Reading, Slice, WrongAnswer, answer, play};
use crate::record::{Host, Record, Sink};
use crate::report::{self, Progress};
use crate::workload::{Competitor, Contest, OnWrong, Selection};

/// What a command runs and shows.
pub(super) struct Program<'c, 'd> {
    /// What all commands have.
    pub(super) options: &'c CommonOptions,
    /// What is wanted.
    pub(super) selection: &'c Selection,
    /// What runs, in this order.
    pub(super) contests: Vec<Contest<'d>>,
    /// The time for all samples together, in seconds, where nobody says.
    pub(super) usual_seconds: u64,
    /// What the tables are about, in a few words.
    pub(super) title: &'c str,
    /// Lines to be said before anything runs.
    pub(super) remarks: String,
    /// Makes the tables, and what else is said of the records.
    pub(super) show: fn(&[Record]) -> String,
}

/// Runs all contests, writes the records and shows them.
pub(super) fn run(mut program: Program<'_, '_>) -> Result<(), Failure> {
    if let Some(errand) = &program.options.errand {
        return sample(errand, &mut program.contests);
    }
    let Program { options, selection, mut contests, usual_seconds, title, remarks, show } = program;
    let mut sink = Sink::open(options.json.as_deref()).map_err(Failure::Request)?;
    let host = Arc::new(Host::here());
    print(&report::preamble(title, &host, options.rounds))?;
    print(&remarks)?;

    let rounds = options.rounds;
    let samples = |contest: &Contest<'_>| contest.competitors.len() * rounds;
    let progress = Progress::new(contests.iter().map(samples).sum(), options.quiet);
    let shares = contests.iter().map(|contest| contest.share * samples(contest) as f64).sum();
    let mut pace = Pace::new(options.budget(usual_seconds), shares, options.warmup);
    let (mut records, mut unwritten) = (Vec::new(), None);
    for (place, contest) in contests.iter_mut().enumerate() {
        progress.show(&contest.title);
        let made = measure(place, contest, rounds, &mut pace, &progress, selection, &host)?;
        if let Err(error) = sink.append(&made) {
            unwritten.get_or_insert(error);
        }
        records.extend(made);
    }
    drop(progress);
    print(&show(&records))?;
    unwritten.map_or(Ok(()), |error| {
        Err(Failure::Run(format!("--json: {error}; the records up to there are whole")))
    })
}

fn measure(
    place: usize,
    contest: &mut Contest<'_>,
    rounds: usize,
    pace: &mut Pace,
    progress: &Progress,
    selection: &Selection,
    host: &Arc<Host>,
) -> Result<Vec<Record>, Failure> {
    let each = contest.competitors.iter_mut().enumerate();
    let mut seats: Vec<Seat<'_, '_>> = each
        .map(|(competitor, taken)| Seat {
            apart: taken.apart.then_some((place, competitor)),
            competitor: taken,
            cases: &selection.cases,
        })
        .collect();
    let mut entrants: Vec<&mut dyn Entrant> =
        seats.iter_mut().map(|seat| seat as &mut dyn Entrant).collect();
    let outcomes = play(&mut entrants, rounds, pace, contest.share, || progress.step())
        .map_err(|wrong| failed(&contest.title, &wrong))?;
    let of_each = contest.competitors.iter().zip(outcomes);
    let records = of_each
        .map(|(competitor, outcome)| Record::of(contest, competitor, outcome, selection, host));
    Ok(records.flatten().collect())
}

/// A competitor in a contest, which takes its samples here or in processes of their own.
struct Seat<'c, 'd> {
    competitor: &'c mut Competitor<'d>,
    /// The places of the contest and of the competitor in it, if it has to be apart.
    apart: Option<(usize, usize)>,
    cases: &'c [&'static str],
}

impl Seat<'_, '_> {
    /// Says whose answer was wrong.
    fn named<T>(&self, result: Result<T, WrongAnswer>) -> Result<T, WrongAnswer> {
        result.map_err(|WrongAnswer(reason)| {
            let Competitor { subject, policy, .. } = &self.competitor;
            let policy = policy.map(|policy| format!(" {policy}")).unwrap_or_default();
            WrongAnswer(format!("{subject}{policy}: {reason}"))
        })
    }
}

impl Entrant for Seat<'_, '_> {
    fn ends_the_run(&self) -> bool {
        self.competitor.on_wrong == OnWrong::EndTheRun
    }

    fn rehearse(&mut self) -> Result<(), WrongAnswer> {
        let end = self.competitor.entrant.rehearse();
        self.named(end)
    }

    fn sample(&mut self, slice: Slice) -> Result<Vec<Reading>, WrongAnswer> {
        let readings = match self.apart {
            Some((contest, competitor)) => Errand { contest, competitor, slice }.send(self.cases),
            None => self.competitor.entrant.sample(slice),
        };
        self.named(readings)
    }
}

/// Takes the one sample that this process is there for.
fn sample(errand: &Errand, contests: &mut [Contest<'_>]) -> Result<(), Failure> {
    let contest = contests.get_mut(errand.contest);
    let competitor = contest.and_then(|contest| contest.competitors.get_mut(errand.competitor));
    let competitor = competitor
        .ok_or_else(|| Failure::Request("--sample-apart: there is no such competitor".into()))?;
    print(&answer(competitor.entrant.sample(errand.slice)))
}
