//! Quick logarithms and powers for scores. Not for what replicas keep.

/// The logarithm to base 2 of a positive number, to about 1/1000.
#[inline]
pub(super) fn log2(value: f32) -> f32 {
    let bits = value.to_bits();
    let exponent = (bits >> 23) as i32 - 127;
    let rest = f32::from_bits(bits & 0x007f_ffff | 0x3f80_0000) - 1.0;
    // log2(1 + x) is x at both ends; what is between is close to a cubic.
    exponent as f32 + rest + rest * (1.0 - rest) * (0.417_5 - 0.145_5 * rest)
}

/// The logarithm to base 2 of one more than a number that is not negative.
#[inline]
pub(super) fn log2p(value: f32) -> f32 {
    log2(1.0 + value)
}

/// 2 to the power of a number that is not positive, to about 1/1000.
#[inline]
pub(super) fn exp2(power: f32) -> f32 {
    let power = power.max(-126.0);
    // The whole number below it: a conversion cuts towards 0, and is one instruction.
    let cut = power as i32;
    let floor = cut - i32::from(power < cut as f32);
    let rest = power - floor as f32;
    let scale = f32::from_bits(((floor + 127) as u32) << 23);
    scale * (1.0 + rest - rest * (1.0 - rest) * (0.304 + 0.079_9 * rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_ones_are_near_the_exact_ones() {
        for n in 1..100_000_u32 {
            let value = n as f32 * 0.037;
            assert!((log2(value) - value.log2()).abs() < 3e-3, "log2({value})");
            let power = -value / 30.0;
            assert!((exp2(power) / power.max(-126.0).exp2() - 1.0).abs() < 2e-3, "exp2({power})");
        }
        assert_eq!((log2(1.0), log2p(0.0), exp2(0.0)), (0.0, 0.0, 1.0));
    }
}
