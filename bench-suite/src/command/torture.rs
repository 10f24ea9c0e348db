//! `torture`: checks the promises of both libraries while threads do everything at once.

use std::time::Instant;

use memalloc::PolicyKind;

use super::run::ended;
use super::select::distinct;
use super::signals::{MODE_OPTION, modes_asked_for};
use super::{Failure, print, print_aside};
use crate::cli::TortureOptions;
use crate::measure::CutOff;
use crate::record::{Health, RunEnd, RunHeader, Sink, TortureTally};
use crate::report::Listing;
use crate::torture::{self, Choices, Event, Request};

/// The default duration, in seconds.
const DEFAULT_SECONDS: u64 = 60;

/// Describes the command for `list`.
pub(super) fn listing() -> Listing {
    let modes = modes_asked_for(&[]).unwrap_or_default();
    Listing {
        command: "torture",
        seconds: DEFAULT_SECONDS,
        choices: vec![
            (MODE_OPTION, modes.iter().map(ToString::to_string).collect()),
            ("--policy", PolicyKind::ALL.iter().map(ToString::to_string).collect()),
        ],
    }
}

/// Checks the options, and runs torture.
pub(super) fn run(options: &TortureOptions) -> Result<(), Failure> {
    let modes = modes_asked_for(&options.modes).map_err(Failure::Request)?;
    let policies = match options.policies.is_empty() {
        true => PolicyKind::ALL.to_vec(),
        false => distinct(&options.policies),
    };
    let mut sink = Sink::open(options.json.as_deref()).map_err(Failure::Request)?;
    let say = if sink.is_standard_output() { print_aside } else { print };
    let mut choices = Choices::new(options.seed, options.first, modes, policies);
    let fault = choose_fault(options, &mut choices)?;
    let request = Request {
        choices,
        threads: options.threads,
        duration: options.duration(),
        broken: fault.is_some(),
    };
    let (header, begun) = (RunHeader::begin(options.seed), Instant::now());
    let mut unwritten = sink.begin(&header).err();
    let end = torture::run(&request, |event| {
        let (tally, error, phase, again) = match event {
            Event::Minute(tally) => (tally, None, None, None),
            Event::Failed(tally, error, phase, number) => {
                (tally, Some(error), Some(phase), Some(again(options, number, fault.as_deref())))
            }
        };
        let _ = say(&format!("{tally}\n"));
        if let (Some(error), Some(phase), Some(again)) = (error, &phase, &again) {
            let _ = print_aside(&format!(
                "bench-suite: torture: an error: {error}\n  in {phase}\n  again: {again}\n"
            ));
        }
        let (run, phase, again) = (&header.run[..], phase.as_deref(), again.as_deref());
        let written = sink.torture(&TortureTally { run, tally, error, phase, again });
        if let Err(error) = written {
            unwritten.get_or_insert(error);
        }
    });
    let tally =
        TortureTally { run: &header.run, tally: end.tally, error: None, phase: None, again: None };
    let phases = end.tally.phases as usize;
    let end_line = RunEnd::now(
        &header,
        begun.elapsed(),
        (phases, phases),
        Vec::new(),
        Health::default(),
        None,
    );
    for written in [sink.torture(&tally), sink.end(&end_line)] {
        if let Err(error) = written {
            unwritten.get_or_insert(error);
        }
    }
    say(&format!("{}\n{}", end.tally, closing(end.interrupted.is_some())))?;
    ended(unwritten, end.interrupted.map(CutOff::Signal))
}

/// Returns the last line of a run without errors.
fn closing(is_cut_off: bool) -> String {
    let text = if is_cut_off { "Interrupted. No errors until then.\n" } else { "No errors.\n" };
    text.to_owned()
}

/// Returns the command that repeats a phase.
fn again(options: &TortureOptions, phase: u64, fault: Option<&str>) -> String {
    let list = |option: &str, values: Vec<String>| match values.is_empty() {
        true => String::new(),
        false => format!(" {option} {}", values.join(",")),
    };
    let fault = fault.map(|name| format!(" --broken {name}")).unwrap_or_default();
    format!(
        "bench-suite torture --seed {} --phase {phase} --threads {}{}{}{fault}",
        options.seed,
        options.threads,
        list(MODE_OPTION, options.modes.iter().map(ToString::to_string).collect()),
        list("--policy", options.policies.iter().map(ToString::to_string).collect()),
    )
}

/// Chooses the fault of `--broken`, if any, and returns its name.
#[cfg(feature = "broken")]
fn choose_fault(
    options: &TortureOptions,
    choices: &mut Choices,
) -> Result<Option<String>, Failure> {
    let Some(fault) = options.broken else { return Ok(None) };
    choices.focus_on(fault);
    if choices.modes.is_empty() || choices.policies.is_empty() {
        let message =
            format!("--broken {fault}: it cannot show under the given modes and policies");
        return Err(Failure::Request(message));
    }
    fault.choose();
    Ok(Some(fault.to_string()))
}

/// Chooses no fault: this build lacks the feature `broken`.
#[cfg(not(feature = "broken"))]
fn choose_fault(
    _options: &TortureOptions,
    _choices: &mut Choices,
) -> Result<Option<String>, Failure> {
    Ok(None)
}
