//! Laws on the plane given by their samples, the trait they fulfil, and the list of them.
//!
//! To add one, implement [`SampleSet`] and add a line to [`ALL`]; the tests here then hold its samples
//! against its density and entropy.

mod checkerboard;
mod circles;
mod conditional;
mod curves;
mod mixtures;
mod pinwheel;

use std::fmt::Debug;

use rand::{Rng, RngExt};
use rand_distr::{Distribution, StandardNormal};

pub use checkerboard::Checkerboard;
pub use circles::{Circles, FourCircles, Rings};
pub use conditional::{Abs, Crescent, CrescentCubed, Sign, SineWave, TwoSines};
pub use curves::{Moons, SwissRoll, TwoSpirals};
pub use mixtures::{Diamond, EightGaussians};
pub use pinwheel::Pinwheel;

/// A probability law on the plane that can be sampled.
pub trait SampleSet: Debug + Sync {
    /// Name on the command line, in files and in tables.
    fn name(&self) -> &'static str;

    /// One line: what it looks like, and where it comes from.
    fn describe(&self) -> &'static str;

    /// `[[low, high]; 2]`, the square that pictures show. It holds nearly all of the mass.
    fn plot_range(&self) -> [[f64; 2]; 2];

    /// `n` draws, a function of the state of `rng` alone.
    fn sample(&self, n: usize, rng: &mut dyn Rng) -> Vec<[f64; 2]>;

    /// `log p(x)` in nats, minus infinity off the support; `None` where the density is not known.
    fn log_density(&self, _x: [f64; 2]) -> Option<f64> {
        None
    }

    /// `-E[log p]` in nats, the least mean negative log-likelihood a model can reach; `None` where the
    /// density is not known.
    fn entropy(&self) -> Option<f64> {
        None
    }
}

/// Every sample set, in the order of the tables.
pub const ALL: [&dyn SampleSet; 16] = [
    &SwissRoll,
    &Circles,
    &Rings,
    &Moons,
    &EightGaussians,
    &Pinwheel,
    &TwoSpirals,
    &Checkerboard,
    &TwoSines,
    &Crescent,
    &CrescentCubed,
    &SineWave,
    &Abs,
    &Sign,
    &FourCircles,
    &Diamond,
];

/// A draw from `N(0, 1)`.
fn normal(rng: &mut dyn Rng) -> f64 {
    StandardNormal.sample(rng)
}

/// `x` plus independent `N(0, std^2)` noise on both coordinates.
fn blurred(x: [f64; 2], std: f64, rng: &mut dyn Rng) -> [f64; 2] {
    x.map(|c| c + std * normal(rng))
}

/// A draw, uniform on `[0, 1)`.
fn uniform(rng: &mut dyn Rng) -> f64 {
    rng.random()
}

/// `log N(x; mean, std^2)`.
fn log_normal(x: f64, mean: f64, std: f64) -> f64 {
    -0.5 * ((x - mean) / std).powi(2) - std.ln() - HALF_LOG_TWO_PI
}

/// Entropy of `N(0, std^2)` in nats.
fn normal_entropy(std: f64) -> f64 {
    0.5 + HALF_LOG_TWO_PI + std.ln()
}

/// `ln sum exp` over a list, minus infinity for an empty one.
fn log_sum_exp(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        return largest;
    }
    largest + terms.map(|t| (t - largest).exp()).sum::<f64>().ln()
}

/// `log(2 pi) / 2`.
const HALF_LOG_TWO_PI: f64 = 0.918_938_533_204_672_8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::quadrature::mass_and_entropy;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    /// Mean and standard error of `-log p` over fresh draws.
    fn monte_carlo_entropy(set: &dyn SampleSet, n: usize) -> (f64, f64) {
        let mut rng = StdRng::seed_from_u64(7);
        let values: Vec<f64> = set
            .sample(n, &mut rng)
            .into_iter()
            .map(|x| -set.log_density(x).expect("a density"))
            .collect();
        let n = n as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, (variance / n).sqrt())
    }

    #[test]
    fn entropies_match_the_samples() {
        for set in ALL {
            let Some(entropy) = set.entropy() else {
                assert!(set.log_density([0.1, 0.2]).is_none(), "{}", set.name());
                continue;
            };
            let (mean, stderr) = monte_carlo_entropy(set, 20_000);
            // The checkerboard's density is flat: its error is rounding, not sampling.
            let error = (mean - entropy).abs();
            assert!(
                error < 4.0 * stderr + 1e-12,
                "{}: {mean} +- {stderr}, not {entropy}",
                set.name()
            );
            assert!(
                stderr < 0.02,
                "{}: the test has no power, {stderr}",
                set.name()
            );
        }
    }

    #[test]
    fn densities_integrate_to_one_and_to_the_entropy() {
        for set in ALL {
            let Some(entropy) = set.entropy() else {
                continue;
            };
            // Wide enough for the tails, with cell borders on the checkerboard's and on 0.
            let (range, cells) = match set.name() {
                "crescent" | "crescent-cubed" => ([[-12.0, 24.0], [-8.0, 8.0]], [450, 200]),
                "diamond" => ([[-4.5, 4.5]; 2], [300; 2]),
                "2sines" => (
                    [[-std::f64::consts::PI, std::f64::consts::PI], [-3.0, 3.0]],
                    [200, 200],
                ),
                _ => ([[-8.0, 8.0]; 2], [200; 2]),
            };
            let (mass, found) =
                mass_and_entropy(range, cells, |x| set.log_density(x).expect("a density"));
            assert!((mass - 1.0).abs() < 1e-4, "{}: mass {mass}", set.name());
            assert!(
                (found - entropy).abs() < 1e-3,
                "{}: {found} for {entropy}",
                set.name()
            );
        }
    }

    #[test]
    fn samples_are_a_function_of_the_seed() {
        for set in ALL {
            let draw = |seed| set.sample(101, &mut StdRng::seed_from_u64(seed));
            assert_eq!(draw(3).len(), 101);
            assert_eq!(draw(3), draw(3), "{}", set.name());
            assert_ne!(draw(3), draw(4), "{}", set.name());
            assert!(set.sample(0, &mut StdRng::seed_from_u64(0)).is_empty());
            assert_eq!(set.sample(1, &mut StdRng::seed_from_u64(0)).len(), 1);
        }
    }

    #[test]
    fn the_plot_range_holds_the_samples() {
        for set in ALL {
            let [x, y] = set.plot_range();
            let inside = |p: &[f64; 2]| p[0] > x[0] && p[0] < x[1] && p[1] > y[0] && p[1] < y[1];
            let samples = set.sample(20_000, &mut StdRng::seed_from_u64(5));
            let share = samples.iter().filter(|p| inside(p)).count() as f64 / 20_000.0;
            assert!(share > 0.985, "{}: {share}", set.name());
        }
    }

    #[test]
    fn densities_match_histograms() {
        // Beside the entropy, which a mirrored density would have too: counts in coarse cells.
        for set in ALL {
            if set.entropy().is_none() {
                continue;
            }
            let n = 40_000;
            let samples = set.sample(n, &mut StdRng::seed_from_u64(11));
            let [x, y] = set.plot_range();
            let (width, height) = ((x[1] - x[0]) / 8.0, (y[1] - y[0]) / 8.0);
            for cell in 0..64 {
                let (i, j) = ((cell % 8) as f64, (cell / 8) as f64);
                let range = [
                    [x[0] + i * width, x[0] + (i + 1.0) * width],
                    [y[0] + j * height, y[0] + (j + 1.0) * height],
                ];
                let inside =
                    |p: &&[f64; 2]| (0..2).all(|a| p[a] >= range[a][0] && p[a] < range[a][1]);
                let found = samples.iter().filter(inside).count() as f64 / n as f64;
                let (mass, _) = mass_and_entropy(range, [30; 2], |p| set.log_density(p).unwrap());
                // Rings draw their angles stratified, which only lessens the spread.
                let stderr = (mass.clamp(1e-4, 1.0) / n as f64).sqrt();
                assert!(
                    (found - mass).abs() < 5.0 * stderr + 2e-3 * mass,
                    "{} in {range:?}: {found} for {mass}",
                    set.name()
                );
            }
        }
    }
}
