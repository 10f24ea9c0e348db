//! `bpf(2)`: its commands and their attributes.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, FromRawFd as _};

use super::Refused;

/// A command, identified by the type of its attributes.
trait Attributes {
    const COMMAND: libc::c_long;
    /// The name of the operation, for errors.
    const WHAT: &'static str;
}

/// `BPF_MAP_CREATE`
#[derive(Debug, Default)]
#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

impl Attributes for MapCreate {
    const COMMAND: libc::c_long = 0;
    const WHAT: &'static str = "bpf(2), creating a map";
}

/// `BPF_MAP_LOOKUP_ELEM`
#[derive(Debug)]
#[repr(C)]
struct MapLookup {
    map: i32,
    unused: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Attributes for MapLookup {
    const COMMAND: libc::c_long = 1;
    const WHAT: &'static str = "bpf(2), looking up a key";
}

/// `BPF_MAP_GET_NEXT_KEY`
#[derive(Debug)]
#[repr(C)]
struct MapNextKey {
    map: i32,
    unused: u32,
    key: u64,
    next: u64,
}

impl Attributes for MapNextKey {
    const COMMAND: libc::c_long = 4;
    const WHAT: &'static str = "bpf(2), getting the next key";
}

/// `BPF_PROG_LOAD`
#[derive(Debug, Default)]
#[repr(C)]
struct ProgramLoad {
    kind: u32,
    instructions: u32,
    code: u64,
    licence: u64,
}

impl Attributes for ProgramLoad {
    const COMMAND: libc::c_long = 5;
    const WHAT: &'static str = "bpf(2), loading a program";
}

/// `BPF_PROG_TEST_RUN`
#[derive(Debug, Default)]
#[repr(C)]
struct ProgramRun {
    program: i32,
    returned: u32,
    data_size: [u32; 2],
    data: [u64; 2],
    repeat: u32,
    duration: u32,
    context_size: [u32; 2],
    context: [u64; 2],
    flags: u32,
    cpu: u32,
}

impl Attributes for ProgramRun {
    const COMMAND: libc::c_long = 10;
    const WHAT: &'static str = "bpf(2), running a program";
}

/// Makes the system call. Pointers in the attributes must satisfy BEN-K1.
fn call<A: Attributes>(attributes: &mut A) -> Result<i32, Refused> {
    let (pointer, size): (*mut A, _) = (attributes, size_of::<A>());
    // SAFETY: the attributes have the given size and the layout of their command, and their
    // pointers satisfy BEN-K1.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, A::COMMAND, pointer, size) };
    match answer {
        0.. => Ok(answer as i32),
        _ => Err(Refused { what: A::WHAT, error: io::Error::last_os_error() }),
    }
}

/// Makes a system call that returns a new descriptor.
fn open<A: Attributes>(attributes: &mut A) -> Result<File, Refused> {
    let descriptor = call(attributes)?;
    // SAFETY: the kernel has just created it for this process.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}

/// The kinds of maps.
#[derive(Clone, Copy, Debug)]
pub(super) enum MapKind {
    Hash = 1,
    Array = 2,
}

/// Creates a map with keys of 4 bytes.
pub(super) fn create_map(
    kind: MapKind,
    value_size: u32,
    max_entries: u32,
    flags: u32,
) -> Result<File, Refused> {
    open(&mut MapCreate { kind: kind as u32, key_size: 4, value_size, max_entries, flags })
}

/// Copies a value, whose length is that of the map's creation. Returns whether the key exists.
pub(super) fn look_up(map: &File, key: u32, value: &mut [u8]) -> Result<bool, Refused> {
    let (key, value) = (&raw const key as u64, value.as_mut_ptr() as u64);
    let found = call(&mut MapLookup { map: map.as_raw_fd(), unused: 0, key, value, flags: 0 });
    found.map(|_| true).or_else(absent)
}

/// Returns the key after another one, or the first one; `None` after the last.
pub(super) fn next_key(map: &File, key: Option<u32>) -> Result<Option<u32>, Refused> {
    let mut next = 0_u32;
    let before = key.as_ref().map_or(0, |key| key as *const u32 as u64);
    let (map, next_place) = (map.as_raw_fd(), &raw mut next as u64);
    let found = call(&mut MapNextKey { map, unused: 0, key: before, next: next_place });
    Ok(found.map(|_| true).or_else(absent)?.then_some(next))
}

fn absent(refused: Refused) -> Result<bool, Refused> {
    match refused.error.raw_os_error() {
        Some(libc::ENOENT) => Ok(false),
        _ => Err(refused),
    }
}

/// A program that gets numbers as its arguments and is attached to nothing.
const RAW_TRACEPOINT: u32 = 17;

/// Loads a program, which the kernel verifies.
pub(super) fn load(code: &[[u8; 8]]) -> Result<File, Refused> {
    open(&mut ProgramLoad {
        kind: RAW_TRACEPOINT,
        instructions: code.len() as u32,
        code: code.as_ptr() as u64,
        licence: c"MIT".as_ptr() as u64,
    })
}

/// Runs a program once on this CPU, and returns its result.
pub(super) fn run(program: &File, arguments: [u64; 2]) -> Result<u32, Refused> {
    let mut run = ProgramRun {
        program: program.as_raw_fd(),
        context_size: [size_of_val(&arguments) as u32, 0],
        context: [arguments.as_ptr() as u64, 0],
        ..ProgramRun::default()
    };
    call(&mut run).map(|_| run.returned)
}
