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

/// A distribution on the plane that can be sampled.
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
    use std::f64::consts::PI;

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
            let (mean, stderr) = monte_carlo_entropy(set, 10_000);
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

    /// Mean, mean squares and mean product of the coordinates, worked out by hand from the definitions: the
    /// samples and the densities share code, and the other tests would not see it wrong in both.
    fn moments(name: &str) -> [f64; 5] {
        let mean_abs = (2.0 / PI).sqrt();
        match name {
            "swissroll" => {
                // t ~ U(1.5 pi, 4.5 pi), E t^2 = 9.75 pi^2, by parts for the others.
                let t2 = 9.75 * PI * PI;
                let squares = [(t2 - 0.5) / 50.0 + 0.04, (t2 + 0.5) / 50.0 + 0.04];
                // E t^2 sin t cos t = 1.5 pi.
                let product = 1.5 * PI / 25.0;
                [0.4, 2.0 / (15.0 * PI), squares[0], squares[1], product]
            }
            "circles" => [0.0, 0.0, 2.8125 + 0.0576, 2.8125 + 0.0576, 0.0],
            "rings" => [0.0, 0.0, 2.109_375 + 0.0064, 2.109_375 + 0.0064, 0.0],
            "moons" => {
                // x: 2 cos a - 1 or 1 - 2 cos a; y: 2 sin a - 0.2 or 0.8 - 2 sin a.
                let sin = 2.0 / PI;
                let y2 = (2.04 - 0.8 * sin + 2.64 - 3.2 * sin) / 2.0;
                let product = (-(2.0 * sin - 0.2) + 0.8 - 2.0 * sin) / 2.0;
                [0.0, 0.3, 3.04, y2 + 0.04, product]
            }
            "8gaussians" => {
                let square = 8.25 / (1.414 * 1.414);
                [0.0, 0.0, square, square, 0.0]
            }
            "pinwheel" => [0.0, 0.0, 2.2, 2.2, 0.0],
            "2spirals" => {
                // n has density 2 n / (9 pi^2) on [0, 3 pi].
                let n2 = 4.5 * PI * PI;
                let (cos, sin) = (-4.0 / (3.0 * PI), 2.0 - 8.0 / (9.0 * PI * PI));
                let x2 = 0.5 * n2 + 0.75 - 0.5 * cos + 1.0 / 12.0;
                let y2 = 0.5 * n2 - 0.75 + 0.5 * sin + 1.0 / 12.0;
                // -E n^2 sin n cos n = 1.5 pi - 1 / (4 pi); the uniform noise has mean 1/4.
                let turns = 1.5 * PI - 0.25 / PI;
                let product = turns + 0.25 * (sin - cos) + 0.0625;
                [0.0, 0.0, x2 / 9.0 + 0.01, y2 / 9.0 + 0.01, product / 9.0]
            }
            // Each is uniform on [-4, 4]; the centres of the squares have mean product 1.
            "checkerboard" => [0.0, 0.0, 16.0 / 3.0, 16.0 / 3.0, 1.0],
            "2sines" => [0.0, 0.0, PI * PI / 3.0, 3.125 + 0.0025, 0.0],
            "crescent" => [-0.5, 0.0, 0.75 + (-2f64).exp(), 1.0, 0.0],
            "crescent-cubed" => [0.0, 0.0, 1.6, 1.0, 0.6],
            "sine-wave" => {
                let square = 0.5 * (1.0 - (-50f64).exp()) + (-2f64).exp();
                [0.0, 0.0, 1.0, square, 5.0 * (-12.5f64).exp()]
            }
            "abs" => [
                0.0,
                mean_abs - 1.0,
                1.0,
                2.0 - 2.0 * mean_abs + (-3f64).exp(),
                0.0,
            ],
            "sign" => {
                let square = 2.0 + 2.0 * mean_abs + (-3f64).exp();
                [0.0, 0.0, 1.0, square, 1.0 + mean_abs]
            }
            "four-circles" => [0.0, 0.0, 3.01, 3.01, 0.0],
            "diamond" => {
                // A uniform grid of 20 points on [-2.5, 2.5]; the turn leaves the covariance alone.
                let square = 6.25 * 21.0 / 57.0 + 0.0016;
                [0.0, 0.0, square, square, 0.0]
            }
            _ => panic!("work out the moments of {name}"),
        }
    }

    #[test]
    fn moments_are_those_of_the_definition() {
        let n = 40_000;
        for set in ALL {
            let samples = set.sample(n, &mut StdRng::seed_from_u64(13));
            let powers: [fn(&[f64; 2]) -> f64; 5] = [
                |x| x[0],
                |x| x[1],
                |x| x[0] * x[0],
                |x| x[1] * x[1],
                |x| x[0] * x[1],
            ];
            for (i, (power, expected)) in powers.iter().zip(moments(set.name())).enumerate() {
                let values: Vec<f64> = samples.iter().map(power).collect();
                let mean = values.iter().sum::<f64>() / n as f64;
                let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
                let stderr = (variance / n as f64).sqrt();
                let name = set.name();
                assert!(
                    (mean - expected).abs() < 4.5 * stderr,
                    "{name}, moment {i}: {mean} +- {stderr}, not {expected}"
                );
            }
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
            // Points of the rule per cell and axis, as many as the thinnest lines need.
            let fine = match set.name() {
                "2sines" | "diamond" => 30,
                _ => 16,
            };
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
                let (mass, _) = mass_and_entropy(range, [fine; 2], |p| set.log_density(p).unwrap());
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
