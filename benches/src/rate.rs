//! How fast the processor multiplies and adds: what counted operations are divided by for a floor.

use std::time::{Duration, Instant};

use flows_experiments::backend::Dtype;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Sums that are independent of each other: enough to keep every unit busy, few enough for the registers.
const SUMS: usize = 12;

/// Steps of one run: well below a millisecond.
const STEPS: usize = 20_000;

/// Floating-point operations a second of fused multiply-adds on registers, over all threads of the pool: the
/// best of a fifth of a second. Nothing that multiplies matrices is faster.
pub fn multiply_add_rate(dtype: Dtype) -> f64 {
    let begun = Instant::now();
    let mut best = 0.0_f64;
    while begun.elapsed() < Duration::from_millis(200) {
        let run = Instant::now();
        let operations: f64 = (0..rayon::current_num_threads())
            .into_par_iter()
            .map(|_| Arch::new().dispatch(MultiplyAdd))
            .sum();
        best = best.max(operations / run.elapsed().as_secs_f64());
    }
    match dtype {
        Dtype::F32 => best,
        // Half as many numbers in a vector.
        Dtype::F64 => best / 2.0,
    }
}

struct MultiplyAdd;

impl WithSimd for MultiplyAdd {
    /// Operations done.
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let (a, b) = (simd.splat_f32s(0.999), simd.splat_f32s(0.001));
        let (a, b) = (std::hint::black_box(a), std::hint::black_box(b));
        let mut sums = [simd.splat_f32s(1.0); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(*sum, a, b);
            }
        }
        std::hint::black_box(sums);
        (2 * SUMS * STEPS * S::F32_LANES) as f64
    }
}
