//! Describes the place in the source that a cache line moved for: the field that was accessed and
//! the functions around the access. Unlike line numbers, these do not change with every edit.

use super::names::{last_name, last_segment, library_file};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::panic::Location;
use std::path::Path;

/// The number of calls by which accesses are told apart.
const DEPTH: usize = 24;

/// The largest number of functions in a description.
const NAMED: usize = 3;

/// An access, and the return addresses of the calls that led to it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Chain {
    place: (&'static str, u32, u32),
    calls: Vec<usize>,
}

impl Chain {
    /// Returns the current calls, with an access at `place`.
    pub(crate) fn here(place: &'static Location<'static>) -> Self {
        let mut calls = Vec::with_capacity(DEPTH);
        backtrace::trace(|frame| {
            calls.push(frame.ip() as usize);
            calls.len() < DEPTH
        });
        Self { place: (place.file(), place.line(), place.column()), calls }
    }

    fn describe(&self) -> Place {
        let (file, line, column) = self.place;
        let mut functions: Vec<Function> = Vec::new();
        for &call in &self.calls {
            for function in functions_at(call) {
                if functions.len() < NAMED && functions.last() != Some(&function) {
                    functions.push(function);
                }
            }
        }
        // A tail call removes its caller from the stack: the file comes from the access itself.
        let own_file = library_file(file).unwrap_or_default();
        Place { field: field_at(file, line, column), own_file, functions }
    }
}

/// The name of a function of the libraries, and its file.
type Function = (String, String);

/// A place in the sources of the libraries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    field: String,
    own_file: String,
    /// The functions around the access, the innermost first.
    functions: Vec<Function>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.field)?;
        let names: Vec<_> = self.functions.iter().map(|(name, _)| name.as_str()).collect();
        match self.functions.first() {
            Some((_, file)) => write!(f, " ({file}: {})", names.join(" < ")),
            None => write!(f, " ({})", self.own_file),
        }
    }
}

/// The numbers of lines that moved, by place; the largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places(pub(crate) Vec<(Place, u64)>);

impl Places {
    /// Sums up chains by place.
    pub(crate) fn of(chains: &HashMap<Chain, u64>) -> Self {
        let mut moved = HashMap::<Place, u64>::new();
        for (chain, moves) in chains {
            *moved.entry(chain.describe()).or_default() += moves;
        }
        let mut places: Vec<_> = moved.into_iter().collect();
        places.sort_by(|(a, more), (b, less)| less.cmp(more).then_with(|| a.cmp(b)));
        Self(places)
    }
}

thread_local! {
    static FUNCTIONS: RefCell<HashMap<usize, Vec<Function>>> = RefCell::default();
    static SOURCES: RefCell<HashMap<String, String>> = RefCell::default();
}

/// Returns the functions of the libraries that contain an address, the innermost first: inlined
/// functions are included.
fn functions_at(call: usize) -> Vec<Function> {
    FUNCTIONS.with_borrow_mut(|known| {
        let names = known.entry(call).or_insert_with(|| {
            let mut names = Vec::new();
            // A return address follows the call, which may be the last instruction of its function.
            backtrace::resolve(call.wrapping_sub(1) as *mut _, |symbol| {
                let file = symbol.filename().and_then(|file| library_file(&file.to_string_lossy()));
                let name = symbol.name().and_then(|name| last_segment(&format!("{name:#}")));
                names.extend(name.zip(file));
            });
            names
        });
        names.clone()
    })
}

/// Returns the name of the receiver, or else of the first argument, of the call at a place in the
/// sources.
fn field_at(file: &str, line: u32, column: u32) -> String {
    SOURCES.with_borrow_mut(|sources| {
        let source = sources.entry(file.to_owned()).or_insert_with(|| {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
            fs::read_to_string(root.join(file)).unwrap_or_default()
        });
        let before_line: usize =
            source.split_inclusive('\n').take(line as usize - 1).map(str::len).sum();
        let at = before_line + column as usize - 1;
        let (Some(before), Some(after)) = (source.get(..at), source.get(at..)) else {
            return "?".to_owned();
        };
        match before.trim_end().strip_suffix('.') {
            Some(receiver) => last_name(receiver),
            None => last_name(after.split(')').next().unwrap_or_default()),
        }
    })
}
