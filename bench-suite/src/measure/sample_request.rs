//! The messages between a run and the process of one of its samples: the request, as an argument,
//! and the answer, as a line. Between the two, the process asks for [turns](super::turn).

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Curve, CutOff, Metric, NoReadings, Reading, Slice, WrongAnswer};

/// The option for one sample.
const OPTION: &str = "--sample";

/// One sample of one subject of one workload; passed as JSON on the command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SampleRequest {
    /// The id of the process of the run.
    pub(crate) run: u32,
    /// The title of the workload.
    pub(crate) workload: String,
    /// The set of keys, as on the command line.
    pub(crate) keys: Option<String>,
    /// The length of what comes over standard input before the first turn.
    pub(crate) input_bytes: usize,
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
    pub(super) fn argument(&self) -> OsString {
        // Serializing a request to JSON can't fail; without one the child refuses.
        let text = serde_json::to_string(self).unwrap_or_default();
        format!("{OPTION}={text}").into()
    }

    /// Reads the input of the sample from standard input.
    pub(crate) fn input(&self) -> io::Result<Vec<u8>> {
        let mut input = vec![0; self.input_bytes];
        io::stdin().lock().read_exact(&mut input)?;
        Ok(input)
    }
}

/// Formats the result of a sample as one line of JSON.
pub(crate) fn answer(sample: Result<Vec<Reading>, NoReadings>) -> String {
    let answer = match sample {
        Ok(readings) => Answer::Readings(readings.into_iter().map(Line::from).collect()),
        Err(NoReadings::Wrong(WrongAnswer(reason))) => Answer::Wrong(reason),
        Err(NoReadings::CutOff(cut_off)) => Answer::CutOff(cut_off),
    };
    // Serializing an answer to JSON can't fail; an empty line is no answer (BEN-A1).
    serde_json::to_string(&answer).unwrap_or_default()
}

/// Reads the line of a sample whose readings belong to `cases`. Returns `None` if it is not an
/// answer.
pub(super) fn answered(
    line: &str,
    cases: &[&'static str],
) -> Option<Result<Vec<Reading>, NoReadings>> {
    Some(match serde_json::from_str(line).ok()? {
        Answer::Readings(lines) => {
            let readings: Result<_, WrongAnswer> =
                lines.into_iter().map(|line| line.reading(cases)).collect();
            readings.map_err(NoReadings::from)
        }
        Answer::Wrong(reason) => Err(WrongAnswer(reason).into()),
        Answer::CutOff(cut_off) => Err(cut_off.into()),
    })
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Readings(Vec<Line>),
    Wrong(String),
    CutOff(CutOff),
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_request_is_parsed_from_its_argument() {
        let slice = Slice::new(Duration::from_millis(20), None);
        let (workload, keys) = ("update, file:a,b \"c\"".to_owned(), Some("file:a,b".to_owned()));
        let request = SampleRequest { run: 7, workload, keys, input_bytes: 9, subject: 1, slice };
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
        assert_eq!(answered(&text, &["case"]), Some(Ok(vec![reading])));
        assert!(answered(&text, &["other"]).unwrap().is_err());
        let lost = NoReadings::from(WrongAnswer("lost".into()));
        for none in [lost, CutOff::Refused("a thread".into()).into()] {
            assert_eq!(answered(&answer(Err(none.clone())), &[]), Some(Err(none)));
        }
        assert_eq!(answered("", &[]), None);
    }
}
