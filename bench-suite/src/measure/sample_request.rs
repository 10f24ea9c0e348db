//! Takes a sample in a separate process, so that its side effects (full caches, reader slots, a
//! grown heap) do not affect the next sample.
//!
//! The process runs the same program with the same arguments, and an additional one that names the
//! sample. Its readings come back over the pipe of its standard output.
//!
//! - BEN-A1: a child that ends without readings or a wrong answer counts as a wrong answer.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Curve, Interrupt, Metric, Reading, Slice, WrongAnswer};

/// The option for one sample.
const OPTION: &str = "--sample";

/// The interval between checks whether the process has ended: long enough not to disturb it.
const LOOK: Duration = Duration::from_millis(10);

/// One sample of one subject of one workload; passed as JSON on the command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SampleRequest {
    /// The title of the workload.
    pub(crate) workload: String,
    /// The set of keys, as on the command line. The keys come over standard input.
    pub(crate) keys: Option<String>,
    /// The index of the subject in the workload.
    pub(crate) subject: usize,
    /// The time of the sample.
    pub(crate) slice: Slice,
}

impl FromStr for SampleRequest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| format!("not a request for a sample: {error}"))
    }
}

impl SampleRequest {
    fn argument(&self) -> OsString {
        // Serializing a request to JSON can't fail; without one the child refuses.
        let text = serde_json::to_string(self).unwrap_or_default();
        format!("{OPTION}={text}").into()
    }

    /// Takes the sample in a separate process, which reads `input` from its standard input. Each
    /// reading belongs to the one of `cases` that it names.
    pub(crate) fn send(
        &self,
        cases: &[&'static str],
        input: &[u8],
        interrupt: &Interrupt,
    ) -> Result<Vec<Reading>, WrongAnswer> {
        let failed = |what: String| WrongAnswer(format!("the process of the sample {what}"));
        let mut child = Command::new(program())
            // After a separate `--`, options would not be recognized.
            .args(env::args_os().skip(1).filter(|argument| argument != "--"))
            .arg(self.argument())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed(format!("did not start: {error}")))?;
        if let Some(mut stdin) = child.stdin.take() {
            // If a child ended early, it reports the reason; that it did not read its input is a
            // consequence.
            let _ = stdin.write_all(input);
        }
        let lost = |error: io::Error| failed(format!("was lost: {error}"));
        // Many panicking threads can write more than fits into a pipe.
        let (status, complaints) = thread::scope(|scope| {
            let stderr = child.stderr.take();
            let read = move || stderr.map_or_else(|| Ok(String::new()), io::read_to_string);
            let complaints = thread::Builder::new().spawn_scoped(scope, read).map_err(lost);
            let status = loop {
                if complaints.is_err() || interrupt.is_asked() {
                    // The child may have ended already.
                    let _ = child.kill();
                }
                match child.try_wait().map_err(lost)? {
                    Some(status) => break status,
                    None => thread::sleep(LOOK),
                }
            };
            let complaints = complaints?.join().unwrap_or_else(|panic| resume_unwind(panic));
            Ok((status, complaints.unwrap_or_default()))
        })?;
        if interrupt.is_asked() && status.code().is_none() {
            return Err(WrongAnswer::interrupted());
        }
        // One line, which fits into a pipe.
        let said = child.stdout.take().map_or_else(|| Ok(String::new()), io::read_to_string);
        match serde_json::from_str(&said.map_err(lost)?) {
            Ok(Answer::Readings(lines)) if status.success() => {
                lines.into_iter().map(|line| line.reading(cases)).collect()
            }
            Ok(Answer::Wrong(reason)) => Err(WrongAnswer(reason)),
            _ => {
                let last = complaints.lines().last().unwrap_or("no message");
                Err(failed(format!("ended with {status}: {last}")))
            }
        }
    }
}

/// Returns the path of this program. On Linux it works even if the file was replaced.
fn program() -> PathBuf {
    match cfg!(target_os = "linux") {
        true => "/proc/self/exe".into(),
        false => env::current_exe().unwrap_or_else(|_| "bench-suite".into()),
    }
}

/// Formats the result of a sample as one line of JSON.
pub(crate) fn answer(sample: Result<Vec<Reading>, WrongAnswer>) -> String {
    let answer = match sample {
        Ok(readings) => Answer::Readings(readings.into_iter().map(Line::from).collect()),
        Err(WrongAnswer(reason)) => Answer::Wrong(reason),
    };
    // Serializing an answer to JSON can't fail; an empty line is no answer (BEN-A1).
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    curve: Option<Curve>,
}

impl From<Reading> for Line {
    fn from(Reading { case, metric, value, curve }: Reading) -> Self {
        Self { case: case.into(), metric, value, curve }
    }
}

impl Line {
    fn reading(self, cases: &[&'static str]) -> Result<Reading, WrongAnswer> {
        let known = cases.iter().find(|case| **case == self.case);
        let case = known.ok_or_else(|| {
            WrongAnswer(format!("the process of the sample reported the case \"{}\"", self.case))
        })?;
        Ok(Reading::new(case, self.metric, self.value).with_curve(self.curve))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_parsed_from_its_argument() {
        let slice = Slice::new(Duration::from_millis(20), None);
        let (workload, keys) = ("update, file:a,b \"c\"".to_owned(), Some("file:a,b".to_owned()));
        let request = SampleRequest { workload, keys, subject: 1, slice };
        let argument = request.argument().into_string().unwrap();
        let value = argument.strip_prefix("--sample=").unwrap();
        assert_eq!(value.parse(), Ok(request));
        for wrong in ["", "1,2", "{}"] {
            assert!(wrong.parse::<SampleRequest>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn readings_come_back_unchanged_and_only_of_known_cases() {
        let reading = Reading::new("case", Metric::MemPeakBytes, 4096.0);
        let text = answer(Ok(vec![reading.clone()]));
        let Ok(Answer::Readings(mut lines)) = serde_json::from_str(&text) else {
            panic!("{text}");
        };
        let line = lines.pop().unwrap();
        assert!(Line { case: "other".into(), ..line }.reading(&["case"]).is_err());
        let line = Line::from(reading.clone());
        assert_eq!(line.reading(&["case"]), Ok(reading));
        assert!(answer(Err(WrongAnswer("lost".into()))).contains("lost"));
    }
}
