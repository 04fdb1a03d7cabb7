//! Mixtures of normals with equal weights.

use std::f64::consts::{FRAC_1_SQRT_2, TAU};
use std::sync::OnceLock;

use rand::{Rng, RngExt};

use super::{SampleSet, blurred, log_normal, log_sum_exp};
use crate::targets::quadrature::{for_each_midpoint, mass_and_entropy};

/// Eight normals of standard deviation 0.5 at radius 4, every 45 degrees, all divided by 1.414
/// (FFJORD's toy data, arXiv:1810.01367).
#[derive(Debug, Clone, Copy)]
pub struct EightGaussians;

impl EightGaussians {
    /// Not the square root of 2: the number in the published code.
    const DIVISOR: f64 = 1.414;
    const STD: f64 = 0.5 / Self::DIVISOR;

    fn centre(k: u32) -> [f64; 2] {
        let (sin, cos) = (TAU * f64::from(k) / 8.0).sin_cos();
        [4.0 * cos / Self::DIVISOR, 4.0 * sin / Self::DIVISOR]
    }

    fn log_p(x: [f64; 2]) -> f64 {
        let terms = (0..8).map(|k| {
            let centre = Self::centre(k);
            log_normal(x[0], centre[0], Self::STD) + log_normal(x[1], centre[1], Self::STD)
        });
        log_sum_exp(terms) - 8f64.ln()
    }
}

impl SampleSet for EightGaussians {
    fn name(&self) -> &'static str {
        "8gaussians"
    }

    fn describe(&self) -> &'static str {
        "samples: eight normals on a circle (arXiv:1810.01367)"
    }

    fn plot_range(&self) -> [[f64; 2]; 2] {
        [[-4.5, 4.5]; 2]
    }

    fn sample(&self, n: usize, rng: &mut dyn Rng) -> Vec<[f64; 2]> {
        (0..n)
            .map(|_| {
                let k = rng.random_range(0..8);
                blurred(Self::centre(k), Self::STD, rng)
            })
            .collect()
    }

    fn log_density(&self, x: [f64; 2]) -> Option<f64> {
        Some(Self::log_p(x))
    }

    fn entropy(&self) -> Option<f64> {
        static ENTROPY: OnceLock<f64> = OnceLock::new();
        // By symmetry a quadrant, which cuts two of the normals, holds a quarter.
        Some(
            *ENTROPY
                .get_or_init(|| 4.0 * mass_and_entropy([[0.0, 6.5]; 2], [160; 2], Self::log_p).1),
        )
    }
}

/// Normals of standard deviation 0.04 on a grid of 20 by 20 over `[-2.5, 2.5]^2`, turned by 45 degrees
/// (arXiv:1906.04032; its code jitters the grid by up to 0.001 at every run, which is left out).
#[derive(Debug, Clone, Copy)]
pub struct Diamond;

impl Diamond {
    const WIDTH: u32 = 20;
    const BOUND: f64 = 2.5;
    const STD: f64 = 0.04;

    fn mean(i: u32) -> f64 {
        -Self::BOUND + 2.0 * Self::BOUND * f64::from(i) / f64::from(Self::WIDTH - 1)
    }

    /// One coordinate of the grid: both are independent before the turn.
    fn log_marginal(x: f64) -> f64 {
        let terms = (0..Self::WIDTH).map(|i| log_normal(x, Self::mean(i), Self::STD));
        log_sum_exp(terms) - f64::from(Self::WIDTH).ln()
    }
}

impl SampleSet for Diamond {
    fn name(&self) -> &'static str {
        "diamond"
    }

    fn describe(&self) -> &'static str {
        "samples: a grid of 400 small normals, turned by 45 degrees (arXiv:1906.04032)"
    }

    fn plot_range(&self) -> [[f64; 2]; 2] {
        [[-4.0, 4.0]; 2]
    }

    fn sample(&self, n: usize, rng: &mut dyn Rng) -> Vec<[f64; 2]> {
        (0..n)
            .map(|_| {
                let grid = [0, 1].map(|_| Self::mean(rng.random_range(0..Self::WIDTH)));
                let [a, b] = blurred(grid, Self::STD, rng);
                [FRAC_1_SQRT_2 * (a + b), FRAC_1_SQRT_2 * (b - a)]
            })
            .collect()
    }

    fn log_density(&self, [x, y]: [f64; 2]) -> Option<f64> {
        let (a, b) = (FRAC_1_SQRT_2 * (x - y), FRAC_1_SQRT_2 * (x + y));
        Some(Self::log_marginal(a) + Self::log_marginal(b))
    }

    /// Twice that of one coordinate of the grid, by the midpoint rule.
    fn entropy(&self) -> Option<f64> {
        static ENTROPY: OnceLock<f64> = OnceLock::new();
        Some(*ENTROPY.get_or_init(|| {
            let mut sum = 0.0;
            let cell = for_each_midpoint([[-3.0, 3.0], [0.0, 1.0]], [3_000, 1], |[x, _]| {
                let log_p = Self::log_marginal(x);
                if log_p > f64::NEG_INFINITY {
                    sum -= log_p.exp() * log_p;
                }
            });
            2.0 * sum * cell
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::sample_set::normal_entropy;

    #[test]
    fn separated_mixtures_have_the_sum_of_two_entropies() {
        // The components hardly overlap: ln K + the entropy of one, and never more.
        let gaussians = 8f64.ln() + 2.0 * normal_entropy(EightGaussians::STD);
        let found = EightGaussians.entropy().unwrap();
        assert!(
            found < gaussians && gaussians - found < 0.05,
            "{found} {gaussians}"
        );
        let grid = 400f64.ln() + 2.0 * normal_entropy(Diamond::STD);
        let found = Diamond.entropy().unwrap();
        assert!(found < grid && grid - found < 0.01, "{found} {grid}");
    }
}
