//! Programs that run the operations of the kernel's benchmarks on a map: loops of 64 operations.

use std::fs::File;

use super::Refused;
use super::assembler::{Assembler, Helper, R0, R1, R2, R3, R4, R6, R7, R8, R9, STACK};
use super::map::HashMap;
use super::syscall::{self, MapKind};

/// Operations in a loop.
pub(crate) const LOOP: i32 = 64;

/// One operation on the current key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Sets the value of a new or existing key.
    Update,
    /// Sets the value of a new key; fails if the key exists.
    Add,
    /// Looks up the key; fails if it does not exist.
    LookUp,
    /// Deletes the key; fails if it does not exist.
    Delete,
}

/// `BPF_ANY` and `BPF_NOEXIST`.
const ANY: i32 = 0;
const NO_EXIST: i32 = 1;

/// Places on the stack.
const KEY: i16 = -4;
const FROM: i16 = -16;
const TURN: i16 = -24;

/// A program for one thread, with an array that holds the value to copy.
#[derive(Debug)]
pub(crate) struct Loops {
    program: File,
    /// Keeps the array alive, whose one value is written to the map.
    _value: File,
}

impl Loops {
    /// Loads a program that iterates over 64 keys and does `steps` with each of them, and repeats
    /// that `times` times in one run.
    pub(crate) fn load(map: &HashMap, steps: &[Step], times: i32) -> Result<Self, Refused> {
        Self::load_loops(map, &[steps], times)
    }

    /// Loads a program with several loops, one after the other.
    pub(crate) fn load_loops(
        map: &HashMap,
        loops: &[&[Step]],
        times: i32,
    ) -> Result<Self, Refused> {
        let value = syscall::create_map(MapKind::Array, map.value_size() as u32, 1, 0)?;
        let value_descriptor = std::os::fd::AsRawFd::as_raw_fd(&value);
        let code = assemble(map.descriptor(), value_descriptor, loops, times);
        Ok(Self { program: syscall::load(&code)?, _value: value })
    }

    /// Runs the program on the keys `from`, `from + step`, and so on. Returns the number of failed
    /// operations.
    pub(crate) fn run(&self, from: u32, step: u32) -> Result<u32, Refused> {
        syscall::run(&self.program, [from.into(), step.into()])
    }
}

/// Assembles the program. `r6` is the key, `r7` counts the keys of a loop, `r8` is the distance of
/// two keys, `r9` counts failures.
fn assemble(map: i32, value: i32, loops: &[&[Step]], times: i32) -> Vec<[u8; 8]> {
    let mut code = Assembler::default();
    code.load(R6, R1, 0);
    code.load(R8, R1, 8);
    code.store(STACK, FROM, R6);
    code.set(R9, 0);
    code.set(R7, 0);
    code.store(STACK, TURN, R7);
    let turn = code.label();
    for steps in loops {
        code.load(R6, STACK, FROM);
        code.set(R7, 0);
        let next_key = code.label();
        code.store_u32(STACK, KEY, R6);
        for step in *steps {
            assemble_step(&mut code, *step, map, value);
        }
        code.add(R6, R8);
        code.add_constant(R7, 1);
        code.jump_below(R7, LOOP, next_key);
    }
    code.load(R7, STACK, TURN);
    code.add_constant(R7, 1);
    code.store(STACK, TURN, R7);
    code.jump_below(R7, times, turn);
    code.copy(R0, R9);
    code.finish()
}

fn assemble_step(code: &mut Assembler, step: Step, map: i32, value: i32) {
    code.set_map(R1, map);
    code.copy(R2, STACK);
    code.add_constant(R2, KEY.into());
    match step {
        Step::Update | Step::Add => {
            code.set_array(R3, value);
            code.store(R3, 0, R6);
            code.set(R4, if step == Step::Add { NO_EXIST } else { ANY });
            code.call(Helper::Update);
        }
        Step::Delete => code.call(Helper::Delete),
        Step::LookUp => {
            code.call(Helper::Lookup);
            code.skip_unless_zero(R0, 1);
            code.add_constant(R9, 1);
            return;
        }
    }
    // Zero or a negative number, without a branch, which would double the paths that the verifier
    // checks.
    code.shift_right(R0, 63);
    code.subtract(R9, R0);
}
