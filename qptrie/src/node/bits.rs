//! Population count with the processor's instruction.

/// Returns the number of bits that are set.
///
/// The oldest x86-64 processors lack the instruction, so the compiler may not use it by default,
/// and its replacement costs more than the rest of a step down the trie. The check for the
/// instruction is a branch that is always predicted.
#[inline(always)]
pub(super) fn ones(bits: u64) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(target_feature = "popcnt"), not(miri)))]
    if std::arch::is_x86_feature_detected!("popcnt") {
        let count: u64;
        // SAFETY: the processor has the instruction, which changes nothing but its output and
        // flags.
        unsafe {
            std::arch::asm!(
                "popcnt {count}, {bits}",
                bits = in(reg) bits,
                count = lateout(reg) count,
                options(pure, nomem, nostack),
            );
        }
        return count as u32;
    }
    without_instruction(bits)
}

/// Out of line, because nearly every processor has the instruction.
#[cfg_attr(
    all(target_arch = "x86_64", not(target_feature = "popcnt"), not(miri)),
    cold,
    inline(never)
)]
fn without_instruction(bits: u64) -> u32 {
    bits.count_ones()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::ones;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_are_counted_as_the_compiler_counts_them(bits: u64) {
            prop_assert_eq!(ones(bits), bits.count_ones());
        }
    }
}
