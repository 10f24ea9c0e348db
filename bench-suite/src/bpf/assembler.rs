//! An assembler for the few BPF instructions that are needed.

/// A register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Register(u8);

/// The return value of a helper.
pub(super) const R0: Register = Register(0);
/// The first argument; at the start, the program's context.
pub(super) const R1: Register = Register(1);
/// The second argument.
pub(super) const R2: Register = Register(2);
/// The third argument.
pub(super) const R3: Register = Register(3);
/// The fourth argument.
pub(super) const R4: Register = Register(4);
/// Preserved by helpers.
pub(super) const R6: Register = Register(6);
/// Preserved by helpers.
pub(super) const R7: Register = Register(7);
/// Preserved by helpers.
pub(super) const R8: Register = Register(8);
/// Preserved by helpers.
pub(super) const R9: Register = Register(9);
/// The end of the stack, which grows down.
pub(super) const STACK: Register = Register(10);

/// A kernel function on maps that programs may call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Helper {
    /// `bpf_map_lookup_elem(map, key)`
    Lookup = 1,
    /// `bpf_map_update_elem(map, key, value, flags)`
    Update = 2,
    /// `bpf_map_delete_elem(map, key)`
    Delete = 3,
}

/// The meaning of a 64-bit constant.
const MAP: u8 = 1;
const MAP_VALUE: u8 = 2;

/// A target of a backward jump.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label(usize);

/// A program under construction: one method per instruction.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    code: Vec<[u8; 8]>,
}

impl Assembler {
    fn push(&mut self, opcode: u8, to: Register, from: Register, offset: i16, constant: i32) {
        let [offset_low, offset_high] = offset.to_le_bytes();
        let [a, b, c, d] = constant.to_le_bytes();
        self.code.push([opcode, from.0 << 4 | to.0, offset_low, offset_high, a, b, c, d]);
    }

    /// `to = constant`
    pub(super) fn set(&mut self, to: Register, constant: i32) {
        self.push(0xb7, to, R0, 0, constant);
    }

    /// `to = from`
    pub(super) fn copy(&mut self, to: Register, from: Register) {
        self.push(0xbf, to, from, 0, 0);
    }

    /// `to += constant`
    pub(super) fn add_constant(&mut self, to: Register, constant: i32) {
        self.push(0x07, to, R0, 0, constant);
    }

    /// `to += from`
    pub(super) fn add(&mut self, to: Register, from: Register) {
        self.push(0x0f, to, from, 0, 0);
    }

    /// `to -= from`
    pub(super) fn subtract(&mut self, to: Register, from: Register) {
        self.push(0x1f, to, from, 0, 0);
    }

    /// `to >>= bits`, signed
    pub(super) fn shift_right(&mut self, to: Register, bits: i32) {
        self.push(0xc7, to, R0, 0, bits);
    }

    /// `to = *(u64 *)(from + offset)`
    pub(super) fn load(&mut self, to: Register, from: Register, offset: i16) {
        self.push(0x79, to, from, offset, 0);
    }

    /// `*(u64 *)(to + offset) = from`
    pub(super) fn store(&mut self, to: Register, offset: i16, from: Register) {
        self.push(0x7b, to, from, offset, 0);
    }

    /// `*(u32 *)(to + offset) = from`
    pub(super) fn store_u32(&mut self, to: Register, offset: i16, from: Register) {
        self.push(0x63, to, from, offset, 0);
    }

    /// `to = the map with this descriptor`
    pub(super) fn set_map(&mut self, to: Register, map: i32) {
        self.push(0x18, to, Register(MAP), 0, map);
        self.push(0, R0, R0, 0, 0);
    }

    /// `to = the first byte of the one value of the array with this descriptor`
    pub(super) fn set_array(&mut self, to: Register, array: i32) {
        self.push(0x18, to, Register(MAP_VALUE), 0, array);
        self.push(0, R0, R0, 0, 0);
    }

    /// `r0 = helper(r1, …)`
    pub(super) fn call(&mut self, helper: Helper) {
        self.push(0x85, R0, R0, 0, helper as i32);
    }

    /// `if left != 0, skip this many instructions`
    pub(super) fn skip_unless_zero(&mut self, left: Register, instructions: i16) {
        self.push(0x55, left, R0, instructions, 0);
    }

    /// Returns the position of the next instruction.
    pub(super) fn label(&self) -> Label {
        Label(self.code.len())
    }

    /// `if left < constant goto label`, unsigned; the label is before this instruction.
    pub(super) fn jump_below(&mut self, left: Register, constant: i32, label: Label) {
        // The distance from the end of this instruction.
        let back = self.code.len() + 1 - label.0;
        self.push(0xa5, left, R0, -(back as i16), constant);
    }

    /// Appends `return r0`, and returns the program.
    pub(super) fn finish(mut self) -> Vec<[u8; 8]> {
        self.push(0x95, R0, R0, 0, 0);
        self.code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_encoded_as_the_kernel_expects() {
        let mut code = Assembler::default();
        code.set(R7, -2);
        let top = code.label();
        code.load(R6, R1, 8);
        code.store_u32(STACK, -4, R6);
        code.set_map(R1, 5);
        code.call(Helper::Delete);
        code.jump_below(R7, 64, top);
        assert_eq!(
            code.finish(),
            [
                [0xb7, 0x07, 0, 0, 0xfe, 0xff, 0xff, 0xff],
                [0x79, 0x16, 8, 0, 0, 0, 0, 0],
                [0x63, 0x6a, 0xfc, 0xff, 0, 0, 0, 0],
                [0x18, 0x11, 0, 0, 5, 0, 0, 0],
                [0; 8],
                [0x85, 0, 0, 0, 3, 0, 0, 0],
                [0xa5, 0x07, 0xfa, 0xff, 64, 0, 0, 0],
                [0x95, 0, 0, 0, 0, 0, 0, 0],
            ]
        );
    }
}
