//! A sample in a process of its own, so that what it takes from the system is its own.
//!
//! The process runs the same program with the same arguments, and one more that says which
//! sample is wanted: both build the same contests, and the number of one is enough to name it.
//! What was read goes back over the pipe of its standard output.
//!
//! - INV-A1: a child that ends in any other way than by handing over its readings or a wrong
//!   answer is a wrong answer.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Metric, Reading, Slice, WrongAnswer};

/// The option that asks for one sample.
const OPTION: &str = "--sample-apart";

/// One sample of one competitor of one contest; written with commas on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errand {
    /// The place of the contest.
    pub(crate) contest: usize,
    /// The place of the competitor in it.
    pub(crate) competitor: usize,
    /// The time of the sample.
    pub(crate) slice: Slice,
}

impl FromStr for Errand {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Vec<u64> = text.split(',').map_while(|part| part.parse().ok()).collect();
        let [contest, competitor, measured, warm_up] = numbers[..] else {
            return Err("allowed are four whole numbers".into());
        };
        let slice = Slice {
            measured: Duration::from_nanos(measured),
            warm_up: Duration::from_nanos(warm_up),
        };
        Ok(Self { contest: contest as usize, competitor: competitor as usize, slice })
    }
}

impl Errand {
    fn argument(&self) -> OsString {
        let Self { contest, competitor, slice: Slice { measured, warm_up } } = self;
        let [measured, warm_up] = [measured, warm_up].map(Duration::as_nanos);
        format!("{OPTION}={contest},{competitor},{measured},{warm_up}").into()
    }

    /// Has a process of its own take the sample. A reading counts for the one of `cases` that it
    /// names.
    pub(crate) fn send(&self, cases: &[&'static str]) -> Result<Vec<Reading>, WrongAnswer> {
        let failed = |what: String| WrongAnswer(format!("the sample's own process {what}"));
        let output = Command::new(program())
            .args(env::args_os().skip(1))
            .arg(self.argument())
            .stdin(Stdio::null())
            .output()
            .map_err(|error| failed(format!("did not start: {error}")))?;
        let answer: Result<Answer, _> = serde_json::from_slice(&output.stdout);
        match answer {
            Ok(Answer::Readings(lines)) if output.status.success() => {
                lines.into_iter().map(|line| line.reading(cases)).collect()
            }
            Ok(Answer::Wrong(reason)) => Err(WrongAnswer(reason)),
            _ => {
                let said = String::from_utf8_lossy(&output.stderr);
                let last = said.lines().last().unwrap_or("no word");
                Err(failed(format!("ended with {}: {last}", output.status)))
            }
        }
    }
}

/// This program. On Linux also where its file was replaced meanwhile.
fn program() -> PathBuf {
    match cfg!(target_os = "linux") {
        true => "/proc/self/exe".into(),
        false => env::current_exe().unwrap_or_else(|_| "bench-suite".into()),
    }
}

/// What a process on an errand says, as one line of JSON.
pub(crate) fn answer(sample: Result<Vec<Reading>, WrongAnswer>) -> String {
    let answer = match sample {
        Ok(readings) => Answer::Readings(readings.into_iter().map(Line::from).collect()),
        Err(WrongAnswer(reason)) => Answer::Wrong(reason),
    };
    // Nothing in an answer can't be written as JSON; an empty line is no answer (INV-A1).
    serde_json::to_string(&answer).unwrap_or_default()
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Readings(Vec<Line>),
    Wrong(String),
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    case: String,
    metric: Metric,
    value: f64,
}

impl From<Reading> for Line {
    fn from(Reading { case, metric, value }: Reading) -> Self {
        Self { case: case.into(), metric, value }
    }
}

impl Line {
    fn reading(self, cases: &[&'static str]) -> Result<Reading, WrongAnswer> {
        let known = cases.iter().find(|case| **case == self.case);
        let case = known.ok_or_else(|| {
            WrongAnswer(format!("the sample's own process read the case \"{}\"", self.case))
        })?;
        Ok(Reading::new(case, self.metric, self.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errand_is_read_back_from_its_argument() {
        let slice = Slice::new(Duration::from_millis(20), None);
        let errand = Errand { contest: 3, competitor: 1, slice };
        let argument = errand.argument().into_string().unwrap();
        let value = argument.strip_prefix("--sample-apart=").unwrap();
        assert_eq!(value.parse(), Ok(errand));
        for wrong in ["", "1,2", "1,2,x,4", "1,2,3,4,5"] {
            assert!(wrong.parse::<Errand>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn readings_come_back_as_they_were_and_only_of_known_cases() {
        let reading = Reading::new("case", Metric::MemPeakBytes, 4096.0);
        let text = answer(Ok(vec![reading]));
        let Ok(Answer::Readings(mut lines)) = serde_json::from_str(&text) else {
            panic!("{text}");
        };
        let line = lines.pop().unwrap();
        assert!(Line { case: "other".into(), ..line }.reading(&["case"]).is_err());
        let line = Line::from(reading);
        assert_eq!(line.reading(&["case"]), Ok(reading));
        assert!(answer(Err(WrongAnswer("lost".into()))).contains("lost"));
    }
}
