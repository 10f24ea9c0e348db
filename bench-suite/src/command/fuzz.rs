//! Fuzz targets: records, recordings and shapes that nothing of ours has written. Byte strings are
//! such files, or scripts that spoil a valid one. Each is refused in one line, or can be shown.
//! `cargo test` tries random ones; see docs/CONTRIBUTING.md for the coverage-guided form.

#[path = "../../../memalloc/tests/fuzz/script.rs"]
mod script;

use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::Failure;
use crate::measure::{Curve, Look, Metric, Over};
use crate::record::{Run, Sink, parse, specimen};
use crate::report::{self, RunComparison};
use crate::shape::{PartialShape, Recorded, derive_recording};
use script::Script;

/// The lines of a file with records of several kinds.
fn lines() -> &'static [Json] {
    static LINES: OnceLock<Vec<Json>> = OnceLock::new();
    LINES.get_or_init(|| {
        let samples = [1e6, 2e6, 1.5e6, 1.2e6, 1.3e6, 1.4e6, 1.7e6];
        let look = |at: u64| Look {
            at: Duration::from_secs(at),
            arithmetic_ns: 1.0,
            independent_ns: 1.5,
            round_trip_ns: Some(80.0),
        };
        let metrics = [Metric::OpsPerS, Metric::MemPeakBytes, Metric::UpdateGroupMaxNs];
        let places = ["immediate", "after-rcu-gp"].map(|policy| (policy, "update", "qp-trie"));
        let flood = places.map(|(policy, ..)| (policy, "overwrite", "flood"));
        let mut records = Vec::new();
        for ((policy, case, bench), metric) in
            places.into_iter().chain(flood).flat_map(|one| metrics.map(|metric| (one, metric)))
        {
            let mut record = specimen::of(case, policy, metric, &samples);
            record.bench = bench.into();
            record.params.insert("reader".into(), "stall-100ms".into());
            record.params.insert("size".into(), 64.into());
            record.looks = (0..7).map(look).collect();
            let points = vec![[0.0, 1e6], [0.1, 2e6]];
            record.curves = vec![Curve { over: Over::TimeS, points }; samples.len()];
            records.push(record);
        }
        let header = records[0].run.clone();
        records.iter_mut().for_each(|record| record.run = header.clone());
        let mut end = specimen::end(&samples);
        end.run = header.run.clone();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        let mut sink = Sink::open(Some(&path)).unwrap();
        sink.begin(&header).unwrap();
        sink.append(&records).unwrap();
        sink.end(&end).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    })
}

fn file(lines: &[Json]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Changes a value somewhere below `value`, removes it or cuts it short.
fn spoil(value: &mut Json, script: &mut Script<'_>) -> Option<()> {
    let goes_deeper = script.below(256)? < 200;
    match value {
        Json::Object(fields) if goes_deeper && !fields.is_empty() => {
            let key = fields.keys().nth(script.below(fields.len())?).cloned().unwrap();
            if script.below(256)? < 20 {
                fields.remove(&key);
            } else {
                spoil(&mut fields[&key], script)?;
            }
        }
        Json::Array(items) if goes_deeper && !items.is_empty() => {
            let place = script.below(items.len())?;
            if script.below(256)? < 60 {
                items.truncate(place);
            } else {
                spoil(&mut items[place], script)?;
            }
        }
        _ => {
            let others = [
                json!(0),
                json!(-1),
                json!(1e308),
                json!(-1e308),
                json!(1e-320),
                json!(0.5),
                json!(u64::MAX),
                json!(null),
                json!([]),
                json!({}),
                json!(true),
                json!(""),
                json!("immediate"),
                json!("<script>"),
                json!("\n"),
                json!("stall-1ms"),
            ];
            // A value of another type is refused: most are of the same one.
            let kind = |value: &Json| std::mem::discriminant(value);
            let any_kind = script.below(256)? < 20;
            let fitting: Vec<&Json> =
                others.iter().filter(|&other| any_kind || kind(other) == kind(value)).collect();
            if !fitting.is_empty() {
                *value = fitting[script.below(fitting.len())?].clone();
            }
        }
    }
    Some(())
}

/// Panics if the message of a command that fails with this error has several lines.
fn assert_is_one_line(error: String) {
    let message = Failure::Request(error).to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
}

/// Shows the runs in every form. Pages take the most time, so few inputs have one.
fn show(old: &[Run], runs: &[Run], with_page: bool) {
    report::csv(runs).unwrap();
    report::markdown(runs);
    if with_page {
        report::page(runs);
    }
    if let Err(error) = RunComparison::of(old, runs, 1.1) {
        assert_is_one_line(error);
    }
}

/// Reads records: the input itself, or valid ones that the script spoils.
fn records(input: &[u8]) -> Option<()> {
    let mut script = Script::new(input);
    let form = script.below(256)?;
    let text = if form < 64 {
        String::from_utf8_lossy(&input[1..]).into_owned()
    } else {
        let mut lines = lines().to_vec();
        while let Some(place) = script.operation(lines.len()) {
            if spoil(&mut lines[place], &mut script).is_none() {
                break;
            }
        }
        file(&lines)
    };
    static GOOD: OnceLock<Vec<Run>> = OnceLock::new();
    let good = GOOD.get_or_init(|| parse(&file(lines())).unwrap());
    match parse(&text) {
        Ok(runs) => show(good, &runs, form % 64 == 0),
        Err(error) => assert_is_one_line(error),
    }
    Some(())
}

/// Returns the recording of a program that the script writes: times, sizes and durations are
/// mostly possible ones.
fn recording(script: &mut Script<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..8].copy_from_slice(b"MEMALREC");
    (bytes[8], bytes[12], bytes[28]) = (1, 100, 32);
    let mut now = 0;
    while let Some(event) = event(script, &mut now) {
        bytes.extend(event.iter().flat_map(|word: &u64| word.to_le_bytes()));
    }
    bytes
}

/// Returns the four words of an event. `now` is its time in nanoseconds.
fn event(script: &mut Script<'_>, now: &mut u64) -> Option<[u64; 4]> {
    let kind = script.operation(14)? as u64;
    let [thread, flags, size, weight] =
        [script.byte()?, script.byte()?, script.byte()?, script.byte()?].map(u64::from);
    let lasted = u64::from(script.byte()?);
    *now += 1 << script.below(40)?;
    let lasted = if flags & 2 == 0 { lasted << 10 } else { 1 << (lasted % 64) };
    let size = if flags & 4 == 0 { size * 16 } else { 1 << (size % 32) };
    let elsewhere = flags & 1;
    Some([kind | elsewhere << 8 | thread << 32, *now, size | weight << 32, lasted])
}

/// Reads a recording or a shape, and checks that a shape is read as it is printed.
fn recordings(input: &[u8]) -> Option<()> {
    let mut script = Script::new(input);
    let partial = match script.below(256)? {
        0..32 => derive_recording(&input[1..]).map(|recorded| recorded.partial),
        32..64 => PartialShape::from_toml(&String::from_utf8_lossy(&input[1..])),
        _ => derive_recording(&recording(&mut script)[..]).map(|Recorded { partial, remark }| {
            assert_eq!(remark.lines().count(), 1, "{remark}");
            partial
        }),
    };
    match partial.and_then(PartialShape::complete) {
        Ok(shape) => {
            let text = shape.to_toml();
            let again = PartialShape::from_toml(&text).and_then(PartialShape::complete);
            assert_eq!(again.map(|shape| shape.to_toml()), Ok(text));
        }
        Err(error) => assert_is_one_line(error),
    }
    Some(())
}

#[test]
fn any_records_are_refused_in_one_line_or_shown() {
    bolero::check!(name = "records")
        .with_iterations(300)
        .with_max_len(512)
        .for_each(|input: &[u8]| _ = records(input));
}

#[test]
fn any_recording_is_refused_in_one_line_or_has_a_shape_that_is_read_as_printed() {
    bolero::check!(name = "recordings")
        .with_iterations(2_000)
        .with_max_len(4096)
        .for_each(|input: &[u8]| _ = recordings(input));
}
