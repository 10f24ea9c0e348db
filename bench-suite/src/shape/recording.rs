//! Derives the shape of a workload from a recording of a program. The format is described in
//! docs/recording.md.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::partial::{PartialDemands, PartialNumbers, PartialShape};
use super::{Signals, SizeWeights, ThreadGroups};

const MAGIC: &[u8; 8] = b"MEMALREC";
const VERSION: u32 = 1;
const HEADER: usize = 64;
const EVENT: usize = 32;

/// The size limit of a file: a little more than the library writes.
const MOST_BYTES: u64 = 272 << 20;

/// The most threads that are counted separately.
const MOST_THREADS: usize = 65_536;

/// The largest object.
const LARGEST: u64 = 4096;

/// The least recording from which a shape is derived: this many sampled allocations, and this many
/// seconds.
const LEAST_SAMPLES: u64 = 16;
const LEAST_TIME_S: f64 = 0.01;

/// The most sizes in a shape; rarer sizes count as the next larger one.
const SIZES: usize = 12;

/// A thread with a smaller share of all work is ignored.
const LEAST_PART: f64 = 0.002;

/// A section longer than the usual one by this factor is a stall, if it takes a millisecond.
const STALLS: f64 = 20.0;

/// The content of a recording.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// The shape, with the fields that a recording determines.
    pub(crate) partial: PartialShape,
    /// A remark on the file: its length, and what is missing from it.
    pub(crate) remark: String,
}

/// Reads a recording.
///
/// # Errors
///
/// One line that says why the file is not a recording, or is too short.
pub(crate) fn read(path: &Path) -> Result<Recorded, String> {
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        // Opening a pipe would block until a writer appears.
        return Err("expected a regular file".into());
    }
    if metadata.len() > MOST_BYTES {
        return Err(format!("expected at most {MOST_BYTES} bytes"));
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    derive(BufReader::new(file).take(MOST_BYTES))
}

/// One event.
#[derive(Clone, Copy, Debug)]
struct Event {
    kind: u8,
    elsewhere: bool,
    thread: u32,
    time_s: f64,
    size: u64,
    weight: f64,
    duration_s: f64,
}

impl Event {
    fn of(bytes: &[u8; EVENT]) -> Self {
        let word = |place: usize| {
            let bytes = bytes[place * 8..].first_chunk().copied().unwrap_or_default();
            u64::from_le_bytes(bytes)
        };
        let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
        Self {
            kind: word(0) as u8,
            elsewhere: word(0) >> 8 & 1 == 1,
            thread: (word(0) >> 32) as u32,
            time_s: seconds(word(1)),
            size: word(2) & 0xffff_ffff,
            weight: (word(2) >> 32) as f64,
            duration_s: seconds(word(3)),
        }
    }
}

/// The totals of all events.
#[derive(Debug, Default)]
struct Sums {
    samples: u64,
    end_s: f64,
    sizes: HashMap<u64, f64>,
    tracked: f64,
    untracked: f64,
    nowait: bool,
    /// The objects: weight, time of the free or of the end, and lifetime, in seconds.
    lives: Vec<(f64, f64, f64)>,
    freed: f64,
    freed_elsewhere: f64,
    /// The sections: weight and length in seconds.
    sections: Vec<(f64, f64)>,
    longest_s: f64,
    sleeps: bool,
    /// Frees and sections of each thread.
    threads: HashMap<u32, (f64, f64)>,
    dropped: Option<u64>,
}

/// Derives the shape from the bytes of a recording.
pub(crate) fn derive(mut file: impl Read) -> Result<Recorded, String> {
    let mut header = [0; HEADER];
    let read = read_whole(&mut file, &mut header)?;
    if read == 0 {
        return Err("it is empty".into());
    }
    let word = |place: usize| {
        u32::from_le_bytes(header[place..].first_chunk().copied().unwrap_or_default())
    };
    if read < HEADER || header[..8] != *MAGIC {
        return Err("it is not a memalloc recording".into());
    }
    if (word(8), word(28)) != (VERSION, EVENT as u32) {
        return Err(format!("it has version {}: expected {VERSION}", word(8)));
    }
    let (mut sums, mut number) = (Sums::default(), 0_u64);
    let is_cut = loop {
        let mut bytes = [0; EVENT];
        match read_whole(&mut file, &mut bytes)? {
            EVENT => {}
            rest => break rest > 0 || sums.dropped.is_none(),
        }
        number += 1;
        let event = Event::of(&bytes);
        sums.add(event).map_err(|what| format!("event {number} {what}"))?;
    };
    sums.shape(is_cut)
}

/// Fills a buffer as far as the file goes; returns the number of bytes read.
fn read_whole(file: &mut impl Read, buffer: &mut [u8]) -> Result<usize, String> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(filled)
}

impl Sums {
    fn add(&mut self, event: Event) -> Result<(), String> {
        let Event { kind, elsewhere, thread, time_s, size, weight, duration_s } = event;
        if self.dropped.is_some() {
            return Err("comes after the end".into());
        }
        if size > LARGEST {
            return Err(format!("is of {size} bytes: expected at most {LARGEST}"));
        }
        // Ten years: no real recording is longer, and sums of such times keep their precision.
        if time_s > 3.2e8 || duration_s > 3.2e8 && kind != 12 {
            return Err("has an impossible time".into());
        }
        if self.threads.len() >= MOST_THREADS && !self.threads.contains_key(&thread) {
            return Err(format!("exceeds the limit of {MOST_THREADS} threads"));
        }
        self.end_s = self.end_s.max(time_s);
        match kind {
            1..=3 => {
                self.samples += 1;
                *self.sizes.entry(size.max(8)).or_default() += weight;
                *(if kind == 2 { &mut self.untracked } else { &mut self.tracked }) += weight;
                self.nowait |= kind == 3;
            }
            4..=6 => {
                self.lives.push((weight, time_s, duration_s));
                self.freed += weight;
                self.freed_elsewhere += if elsewhere { weight } else { 0.0 };
                self.threads.entry(thread).or_default().0 += weight;
            }
            7 => self.lives.push((weight, time_s, duration_s)),
            8 | 9 => {
                self.sections.push((weight, duration_s));
                self.longest_s = self.longest_s.max(duration_s);
                self.sleeps |= kind == 9;
                self.threads.entry(thread).or_default().1 += weight;
            }
            10 | 11 => {
                self.longest_s = self.longest_s.max(duration_s);
                self.sleeps |= kind == 11;
            }
            12 => self.dropped = Some((duration_s * 1e9) as u64),
            _ => return Err(format!("is of kind {kind}: expected 1 to 12")),
        }
        Ok(())
    }

    fn shape(mut self, is_cut: bool) -> Result<Recorded, String> {
        if self.samples < LEAST_SAMPLES || self.end_s < LEAST_TIME_S {
            return Err(format!(
                "it has {} sampled allocations in {:.3} s: at least {LEAST_SAMPLES} in \
                 {LEAST_TIME_S} s are needed; record for longer, or with a shorter period",
                self.samples, self.end_s
            ));
        }
        let untold = (self.tracked + self.untracked) / self.tracked.max(1.0);
        let live = self.live() * untold;
        let frees = self.freed * untold / self.end_s;
        let section_s = self.usual_section();
        let has_readers = !self.sections.is_empty() || self.longest_s > 0.0;
        let is_stalled = self.longest_s > 1e-3 && self.longest_s > STALLS * section_s;
        let threads = self.thread_groups();
        let count = threads.as_ref().map_or(1, ThreadGroups::count);
        let elsewhere = self.freed_elsewhere / self.freed.max(1.0);
        let digits = |value: f64| format!("{value:.2e}").parse().unwrap_or(value);
        let shape = PartialNumbers {
            sizes: Some(self.size_weights()?),
            live_objects: Some((live.round() as u64).clamp(count as u64, 1 << 26)),
            frees_per_s: (frees >= 1.0).then(|| digits(frees.min(1e9))),
            section_us: has_readers.then(|| digits(section_s * 1e6).min(1e6)),
            stall_ms: is_stalled.then(|| digits(self.longest_s * 1e3).min(10_000.0)),
            other_cpu_frees: (count > 1).then(|| digits(elsewhere).clamp(0.0, 1.0)),
            threads,
            ..PartialNumbers::default()
        };
        let correct = PartialDemands {
            readers: Some(has_readers),
            sleep: Some(self.sleeps),
            signals: self.nowait.then_some(Signals::Alloc),
            ..PartialDemands::default()
        };
        let cut = if is_cut { " It has no end: events not yet written are missing." } else { "" };
        let dropped = match self.dropped {
            Some(dropped) if dropped > 0 => format!(" {dropped} events were dropped."),
            _ => String::new(),
        };
        let remark = format!(
            "The recording has {} sampled allocations in {:.2} s.{cut}{dropped}",
            self.samples, self.end_s
        );
        Ok(Recorded { partial: PartialShape { correct, shape }, remark })
    }

    /// Returns the average number of live objects in the second half: by then a program is warmed
    /// up.
    fn live(&self) -> f64 {
        let half = self.end_s / 2.0;
        let seconds = |&(weight, end, lived): &(f64, f64, f64)| {
            weight * (end - (end - lived).max(half)).max(0.0)
        };
        self.lives.iter().map(seconds).sum::<f64>() / (self.end_s - half)
    }

    /// Returns the mean length of all sections except the longest hundredth.
    fn usual_section(&mut self) -> f64 {
        self.sections.sort_by(|one, two| one.1.total_cmp(&two.1));
        let all: f64 = self.sections.iter().map(|(weight, _)| weight).sum();
        let (mut counted, mut sum) = (0.0, 0.0);
        for (weight, lasted) in &self.sections {
            if counted > 0.99 * all {
                break;
            }
            counted += weight;
            sum += weight * lasted;
        }
        sum / f64::max(counted, 1.0)
    }

    fn size_weights(&self) -> Result<SizeWeights, String> {
        let mut sizes: Vec<(u64, f64)> =
            self.sizes.iter().map(|(size, weight)| (*size, *weight)).collect();
        sizes.sort_by_key(|(size, _)| *size);
        while sizes.len() > SIZES {
            let last = sizes.len() - 1;
            let rarest = (0..last).min_by(|&a, &b| sizes[a].1.total_cmp(&sizes[b].1)).unwrap_or(0);
            sizes[rarest + 1].1 += sizes[rarest].1;
            sizes.remove(rarest);
        }
        let all: f64 = sizes.iter().map(|(_, weight)| weight).sum();
        let part = |weight: f64| (weight / all * 100.0).max(0.01);
        let words: Vec<String> =
            sizes.iter().map(|&(size, weight)| format!("{size}:{:.2}", part(weight))).collect();
        words.join(",").parse()
    }

    /// Groups threads with the same share of updates. An update happens in a section of its own.
    fn thread_groups(&self) -> Option<ThreadGroups> {
        let all: f64 = self.threads.values().map(|(freed, read)| freed.max(*read)).sum();
        let mut groups: Vec<(String, usize)> = Vec::new();
        for (freed, read) in self.threads.values() {
            let did = freed.max(*read);
            if did >= LEAST_PART * all && did > 0.0 {
                let share = format!("{:.3}", freed / did);
                match groups.iter_mut().find(|(known, _)| *known == share) {
                    Some((_, count)) => *count += 1,
                    None => groups.push((share, 1)),
                }
            }
        }
        groups.sort();
        let words: Vec<String> =
            groups.iter().map(|(share, count)| format!("{count}:{share}")).collect();
        words.join(",").parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Vec<u8> {
        let mut header = vec![0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8] = 1;
        header[12] = 100;
        header[28] = EVENT as u8;
        header
    }

    fn event(
        kind: u64,
        thread: u64,
        time_us: u64,
        size: u64,
        weight: u64,
        lasted_us: u64,
    ) -> Vec<u8> {
        let words = [kind | thread << 32, time_us * 1000, size | weight << 32, lasted_us * 1000];
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// A second of a program: 100 objects per sample, each alive for 10 ms, half of them freed
    /// elsewhere, on thread 7; 1000 sections of 2 µs per sample on thread 8, and one of 50 ms.
    fn program() -> Vec<u8> {
        let mut bytes = header();
        for n in 0..100 {
            let time = n * 10_000;
            bytes.extend(event(1, 7, time, 100, 100, 0));
            bytes.extend(event(5 | (n % 2) << 8, 7, time + 9_999, 100, 100, 10_000));
            bytes.extend(event(8, 8, time, 0, 1000, 2));
        }
        bytes.extend(event(10, 8, 900_000, 0, 1, 50_000));
        bytes.extend(event(12, 0, 1_000_000, 0, 0, 0));
        bytes
    }

    fn refused(bytes: &[u8]) -> String {
        let line = derive(bytes).unwrap_err();
        assert_eq!(line.lines().count(), 1, "{line}");
        line
    }

    #[test]
    fn the_shape_of_a_program_is_derived_from_its_recording() {
        let Recorded { partial, remark } = derive(&program()[..]).unwrap();
        assert_eq!(remark, "The recording has 100 sampled allocations in 1.00 s.");
        assert_eq!(partial.correct.readers, Some(true));
        assert_eq!((partial.correct.sleep, partial.correct.signals), (Some(false), None));
        let shape = partial.complete().unwrap().numbers;
        assert_eq!(shape.sizes.to_string(), "100:100");
        assert!((95..=105).contains(&shape.live_objects), "{}", shape.live_objects);
        assert_eq!(shape.frees_per_s, Some(10_000.0));
        assert_eq!((shape.section_us, shape.stall_ms), (2.0, 50.0));
        assert_eq!(shape.other_cpu_frees, 0.5);
        assert_eq!(shape.threads.to_string(), "1:0,1:1");
    }

    #[test]
    fn sleeping_sections_and_nowait_allocations_are_detected() {
        let mut bytes = header();
        for n in 0..20 {
            bytes.extend(event(3, 1, n * 1000, 64, 10, 0));
            bytes.extend(event(9, 1, n * 1000, 0, 10, 100));
        }
        let Recorded { partial, remark } = derive(&bytes[..]).unwrap();
        assert_eq!(
            (partial.correct.sleep, partial.correct.signals),
            (Some(true), Some(Signals::Alloc))
        );
        assert!(remark.contains("no end"), "{remark}");
    }

    #[test]
    fn a_file_that_ends_early_is_used_as_far_as_it_goes() {
        let program = program();
        let whole = derive(&program[..]).unwrap().partial;
        for cut in [1, 31, 32, 40] {
            let Recorded { partial, remark } = derive(&program[..program.len() - cut]).unwrap();
            assert_eq!(partial.shape.sizes, whole.shape.sizes);
            assert!(remark.contains("It has no end"), "{remark}");
        }
        assert!(refused(&program[..HEADER + 5 * EVENT]).contains("record for longer"));
    }

    #[test]
    fn the_error_for_an_invalid_recording_is_one_line() {
        assert_eq!(refused(b""), "it is empty");
        assert!(refused(b"MEMALREC").contains("not a memalloc recording"));
        assert!(refused(&[7; 5000]).contains("not a memalloc recording"));
        let changed = |place: usize, value: u8| {
            let mut bytes = program();
            bytes[place] = value;
            bytes
        };
        assert!(refused(&changed(8, 9)).contains("version 9"));
        assert!(refused(&changed(HEADER, 77)).contains("event 1 is of kind 77"));
        assert!(refused(&changed(HEADER + 19, 255)).contains("bytes: expected at most 4096"));
        assert!(refused(&changed(HEADER + 15, 255)).contains("an impossible time"));
        let mut after = program();
        after.extend(event(1, 1, 1, 1, 1, 1));
        assert!(refused(&after).contains("after the end"));
    }
}
