//! Five curved arms, as in FFJORD's toy data (arXiv:1810.01367).

use std::f64::consts::TAU;

use rand::{Rng, RngExt};

use super::{SampleSet, normal};

/// `f = (1 + 0.3 n1, 0.1 n2)`, turned clockwise by `2 pi k / 5 + 0.25 exp(f1)` for `k` uniform on 0
/// to 4, times 2.
///
/// The map from `f` folds far out, so that its density has no closed form.
#[derive(Debug, Clone, Copy)]
pub struct Pinwheel;

impl SampleSet for Pinwheel {
    fn name(&self) -> &'static str {
        "pinwheel"
    }

    fn describe(&self) -> &'static str {
        "samples: five curved arms, density not known (arXiv:1810.01367)"
    }

    fn plot_range(&self) -> [[f64; 2]; 2] {
        [[-4.0, 4.0]; 2]
    }

    fn sample(&self, n: usize, rng: &mut dyn Rng) -> Vec<[f64; 2]> {
        (0..n)
            .map(|_| {
                let arm: u32 = rng.random_range(0..5);
                let f = [1.0 + 0.3 * normal(rng), 0.1 * normal(rng)];
                let (sin, cos) = (TAU * f64::from(arm) / 5.0 + 0.25 * f[0].exp()).sin_cos();
                [
                    2.0 * (cos * f[0] + sin * f[1]),
                    2.0 * (cos * f[1] - sin * f[0]),
                ]
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn radius_and_symmetry_are_those_of_the_definition() {
        let samples = Pinwheel.sample(40_000, &mut StdRng::seed_from_u64(2));
        let n = samples.len() as f64;
        // |x|^2 = 4 |f|^2 has mean 4 (1 + 0.09 + 0.01) and five equal arms have mean 0.
        let squared: f64 = samples
            .iter()
            .map(|x| x[0] * x[0] + x[1] * x[1])
            .sum::<f64>()
            / n;
        assert!((squared - 4.4).abs() < 0.06, "{squared}");
        for axis in 0..2 {
            let mean = samples.iter().map(|x| x[axis]).sum::<f64>() / n;
            assert!(mean.abs() < 4.0 * (2.2 / n).sqrt(), "{mean}");
        }
        // In the middle of an arm, |f| = 1, points stand near -0.25 e modulo a fifth of a turn.
        let off = samples
            .iter()
            .filter(|x| (x[0].hypot(x[1]) - 2.0).abs() < 0.05)
            .map(|x| (x[1].atan2(x[0]) + 0.25 * 1f64.exp() + 0.5 * TAU / 5.0).rem_euclid(TAU / 5.0))
            .map(|angle| angle - 0.5 * TAU / 5.0);
        let angles: Vec<f64> = off.collect();
        let mean = angles.iter().sum::<f64>() / angles.len() as f64;
        assert!(
            angles.len() > 500 && mean.abs() < 0.02,
            "{mean} of {}",
            angles.len()
        );
    }
}
