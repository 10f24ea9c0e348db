//! Takes a sample in a separate process, so that its side effects (full caches, reader slots, a
//! grown heap) do not affect the next sample.
//!
//! The process runs the same program with the same arguments, and an additional one that names the
//! sample. It asks for turns and returns its readings over the pipe of its standard output.
//!
//! - BEN-A1: a child that ends without readings or a wrong answer counts as a wrong answer, unless
//!   a signal from outside ended it.
//! - BEN-A2: no process of a sample survives its run, on Linux even if the run is killed.

use std::env;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{self, Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::sample_request::answered;
use super::turn::{GRANT, REQUEST};
use super::{CutOff, Interrupt, NoReadings, Reading, SampleRequest, WrongAnswer};

/// The interval between checks for an interruption: long enough not to disturb the sample.
const LOOK: Duration = Duration::from_millis(10);

/// The process of a sample, which is killed if this is dropped before its end.
pub(crate) struct SampleProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    /// The lines of its standard output.
    lines: Receiver<String>,
    /// All that it writes to standard error; `None` after its end.
    complaints: Option<JoinHandle<io::Result<String>>>,
    /// True if it has asked for a turn.
    waits: bool,
}

impl SampleProcess {
    /// Starts the process, which reads `input` from its standard input.
    pub(crate) fn start(request: &SampleRequest, input: &[u8]) -> Result<Self, CutOff> {
        let mut child = Command::new(program())
            // After a separate `--`, options would not be recognized.
            .args(env::args_os().skip(1).filter(|argument| argument != "--"))
            .arg(request.argument())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| refused("the process of a sample", &error))?;
        let (sender, lines) = channel();
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let mut this = Self { child, stdin, lines, complaints: None, waits: false };
        // A process may write more than fits into a pipe, to either.
        let speak = move || {
            let lines = stdout.map(BufReader::new).into_iter().flat_map(BufReader::lines);
            // The receiver is gone if the process is no longer wanted.
            let _ = lines.map_while(Result::ok).try_for_each(|line| sender.send(line));
        };
        let complain = move || stderr.map_or_else(|| Ok(String::new()), io::read_to_string);
        let started = thread::Builder::new().spawn(speak).and_then(|_| {
            this.complaints = Some(thread::Builder::new().spawn(complain)?);
            Ok(())
        });
        started.map_err(|error| refused("a thread for the process of a sample", &error))?;
        this.write(input);
        Ok(this)
    }

    /// Writes to the standard input of the process. If a process ended early, it reports the
    /// reason; that it did not read its input is a consequence.
    fn write(&mut self, bytes: &[u8]) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(bytes);
        }
    }

    /// Returns the id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns whether the process has asked for a turn.
    pub(crate) fn has_turns(&self) -> bool {
        self.waits
    }

    /// Waits until the process asks for its first turn; after that, gives it one turn. Returns the
    /// readings if the process has ended: each belongs to the one of `cases` that it names.
    pub(crate) fn turn(
        &mut self,
        cases: &[&'static str],
        interrupt: &Interrupt,
    ) -> Result<Option<Vec<Reading>>, NoReadings> {
        if self.waits {
            self.write(&[GRANT]);
        }
        let mut answer = None;
        loop {
            if let Some(signal) = interrupt.signal() {
                return Err(CutOff::Signal(signal).into());
            }
            match self.lines.recv_timeout(LOOK) {
                Ok(line) if line == REQUEST => {
                    self.waits = true;
                    return Ok(None);
                }
                Ok(line) => answer = answered(&line, cases),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // A process that is not heard any more may not wait for a turn.
        self.stdin = None;
        let status = self.child.wait().map_err(lost)?;
        let complaints = self.complaints.take().map(JoinHandle::join);
        let complaints = complaints.map(|end| end.unwrap_or_else(|panic| resume_unwind(panic)));
        match (answer, cut_off(status)) {
            (Some(Ok(readings)), _) if status.success() => Ok(Some(readings)),
            (Some(Err(none)), _) => Err(none),
            (_, Some(cut_off)) => {
                // The signal may be on its way to this process.
                if let CutOff::Signal(_) = cut_off {
                    interrupt.report();
                }
                Err(cut_off.into())
            }
            _ => {
                let complaints = complaints.and_then(Result::ok).unwrap_or_default();
                let last = complaints.lines().last().unwrap_or("no message");
                Err(failed(&format!("ended with {status}: {last}")).into())
            }
        }
    }
}

impl Drop for SampleProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns why a process with this status was ended from outside; `None` if it ended by itself. An
/// interruption reaches the processes of a terminal or of `timeout` all at once, and a sample's may
/// be the first. The system kills processes to get memory.
fn cut_off(status: ExitStatus) -> Option<CutOff> {
    #[cfg(unix)]
    {
        use std::os::unix::process::ExitStatusExt as _;

        use signal_hook::consts::{SIGINT, SIGKILL, SIGTERM};
        match status.signal() {
            Some(signal @ (SIGINT | SIGTERM)) => return Some(CutOff::Signal(signal)),
            Some(SIGKILL) => {
                return Some(CutOff::Refused("the process of a sample was killed".into()));
            }
            _ => {}
        }
    }
    let _ = status;
    None
}

/// Has this process, which takes a sample, killed when its run ends (BEN-A2): a run that is killed
/// can't do it. Where the system does not offer this, a process with turns ends after its turn, and
/// another one at the end of its sample.
pub(crate) fn end_with_the_run(request: &SampleRequest) {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, getppid, set_parent_process_death_signal};
        // Refused only for an invalid signal.
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
        let parent = getppid().map(|parent| parent.as_raw_nonzero().get());
        if parent.is_none_or(|parent| parent as u32 != request.run) {
            // The run had ended before.
            process::exit(1);
        }
    }
    let _ = request;
}

fn refused(what: &str, error: &io::Error) -> CutOff {
    CutOff::Refused(format!("the system did not start {what}: {error}"))
}

fn failed(what: &str) -> WrongAnswer {
    WrongAnswer(format!("the process of the sample {what}"))
}

fn lost(error: io::Error) -> WrongAnswer {
    failed(&format!("was lost: {error}"))
}

/// Returns the path of this program. On Linux with `/proc` it works even if the file was replaced.
fn program() -> PathBuf {
    let by_proc = Path::new("/proc/self/exe");
    if by_proc.exists() {
        return by_proc.into();
    }
    let by_name = || env::args_os().next().map(PathBuf::from);
    env::current_exe().ok().or_else(by_name).unwrap_or_else(|| "bench-suite".into())
}
