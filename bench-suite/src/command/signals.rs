//! `signals`: allocating and freeing in a handler that interrupts allocating and freeing.

use memalloc::{CpuMode, PolicyKind};

use super::Failure;
use super::run::{Program, run as run_program};
use super::select::{Choices, distinct};
use crate::cli::SignalsOptions;
use crate::report::{self, Against, Listing};
use crate::workload::signals;

const CHOICES: Choices =
    Choices { cases: signals::CASES, two_threads: &[], policies: PolicyKind::ALL };

/// The default time under each CPU mode with each number of threads, in seconds.
const USUAL_SECONDS: u64 = 3;

/// The option that names CPU modes.
pub(super) const MODE_OPTION: &str = "--cpu-mode";

/// Returns the cases and the defaults.
pub(super) fn listing() -> Listing {
    let modes = modes_asked_for(&[]).unwrap_or_default();
    let modes: Vec<String> = modes.iter().map(ToString::to_string).collect();
    // With one thread and with two.
    let seconds = USUAL_SECONDS * 2 * modes.len() as u64;
    CHOICES.listing("signals", seconds, vec![(MODE_OPTION, modes)])
}

/// Checks the request, measures, and reports.
pub(super) fn run(options: &SignalsOptions) -> Result<(), Failure> {
    let selection = CHOICES.select(&options.common).map_err(Failure::Request)?;
    let modes = modes_asked_for(&options.modes).map_err(Failure::Request)?;
    // Each CPU mode with each number of threads has its own time.
    let times = modes.len() * selection.threads.len();
    run_program(Program {
        options: &options.common.run.times(times),
        selection: &selection,
        workloads: signals::workloads(&selection, &modes, options.rate),
        usual_seconds: USUAL_SECONDS * times as u64,
        title: "Allocating in signal handlers",
        remarks: String::new(),
        has_tables: true,
        has_control: false,
        show: &|records, _| report::tables(records, Against::TheFirst),
        closing: &|| signals::FOOTNOTE.into(),
    })
}

/// Returns the modes asked for, or all that this system supports.
pub(super) fn modes_asked_for(wanted: &[CpuMode]) -> Result<Vec<CpuMode>, String> {
    let here: Vec<CpuMode> =
        CpuMode::ALL.iter().copied().filter(|mode| mode.is_supported()).collect();
    if let Some(missing) = wanted.iter().find(|mode| !here.contains(mode)) {
        let names: Vec<String> = here.iter().map(ToString::to_string).collect();
        return Err(format!("{MODE_OPTION} {missing}: this system supports {}", names.join(", ")));
    }
    Ok(if wanted.is_empty() { here } else { distinct(wanted) })
}
