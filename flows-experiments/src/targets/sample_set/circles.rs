//! Circles blurred by isotropic normal noise.
//!
//! A uniform angle on a circle of radius `R` plus `N(0, s^2 I)` has the density of Rice at distance
//! `r` from the centre:
//!
//! ```text
//! log p(r) = -(r^2 + R^2) / (2 s^2) + log I0(r R / s^2) - log(2 pi s^2)
//!          = -(r - R)^2 / (2 s^2) + log(exp(-k) I0(k)) - log(2 pi s^2),   k = r R / s^2
//! ```

use std::f64::consts::{PI, TAU};
use std::sync::OnceLock;

use flows_core::random::shuffle;
use rand::{Rng, RngExt};

use super::{SampleSet, blurred, log_sum_exp, uniform};
use crate::targets::quadrature::{for_each_midpoint, mass_and_entropy};

/// Radii 1 and 0.5, noise 0.08, all times 3 (FFJORD's toy data, arXiv:1810.01367, with independent
/// uniform angles in place of evenly spaced ones).
#[derive(Debug, Clone, Copy)]
pub struct Circles;

impl Circles {
    const RADII: [f64; 2] = [3.0, 1.5];
    const STD: f64 = 0.24;

    fn log_p(radius: f64) -> f64 {
        log_concentric(radius, &Self::RADII, Self::STD)
    }
}

impl SampleSet for Circles {
    fn name(&self) -> &'static str {
        "circles"
    }

    fn describe(&self) -> &'static str {
        "samples: two concentric circles (arXiv:1810.01367)"
    }

    fn plot_range(&self) -> [[f64; 2]; 2] {
        [[-4.5, 4.5]; 2]
    }

    fn sample(&self, n: usize, rng: &mut dyn Rng) -> Vec<[f64; 2]> {
        (0..n)
            .map(|_| {
                let radius = Self::RADII[rng.random_range(0..2)];
                blurred(on_circle(radius, uniform(rng)), Self::STD, rng)
            })
            .collect()
    }

    fn log_density(&self, x: [f64; 2]) -> Option<f64> {
        Some(Self::log_p(x[0].hypot(x[1])))
    }

    fn entropy(&self) -> Option<f64> {
        static ENTROPY: OnceLock<f64> = OnceLock::new();
        Some(*ENTROPY.get_or_init(|| radial_entropy(6.0, Self::log_p)))
    }
}

/// Radii 3, 2.25, 1.5 and 0.75 with noise 0.08 and equal counts at evenly spaced angles (the rings of
/// FFJORD's toy data, arXiv:1810.01367).
///
/// Each draw of a batch gives every ring a random first angle, and what does not divide by four to random
/// rings, so that a point taken alone has exactly [`log_density`](SampleSet::log_density); the points
/// of one batch are not independent.
#[derive(Debug, Clone, Copy)]
pub struct Rings;

impl Rings {
    const RADII: [f64; 4] = [3.0, 2.25, 1.5, 0.75];
    const STD: f64 = 0.08;

    fn log_p(radius: f64) -> f64 {
        log_concentric(radius, &Self::RADII, Self::STD)
    }
}

impl SampleSet for Rings {
    fn name(&self) -> &'static str {
        "rings"
    }

    fn describe(&self) -> &'static str {
        "samples: four concentric rings (arXiv:1810.01367)"
    }

    fn plot_range(&self) -> [[f64; 2]; 2] {
        [[-4.0, 4.0]; 2]
    }

    fn sample(&self, n: usize, rng: &mut dyn Rng) -> Vec<[f64; 2]> {
        let mut radii = Self::RADII;
        shuffle(&mut radii, rng);
        let mut points = Vec::with_capacity(n);
        for (k, radius) in radii.into_iter().enumerate() {
            let count = (n + 3 - k) / 4;
            let first = uniform(rng);
            for i in 0..count {
                let turn = (i as f64 + first) / count as f64;
                points.push(blurred(on_circle(radius, turn), Self::STD, rng));
            }
        }
        shuffle(&mut points, rng);
        points
    }

    fn log_density(&self, x: [f64; 2]) -> Option<f64> {
        Some(Self::log_p(x[0].hypot(x[1])))
    }

    fn entropy(&self) -> Option<f64> {
        static ENTROPY: OnceLock<f64> = OnceLock::new();
        Some(*ENTROPY.get_or_init(|| radial_entropy(4.5, Self::log_p)))
    }
}

/// Four circles of radius 2 about `(+-1, +-1)`, noise 0.1 (arXiv:1906.04032, its released code).
#[derive(Debug, Clone, Copy)]
pub struct FourCircles;

impl FourCircles {
    const RADIUS: f64 = 2.0;
    const STD: f64 = 0.1;
    const CENTRES: [[f64; 2]; 4] = [[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]];

    fn log_p(x: [f64; 2]) -> f64 {
        let circles = Self::CENTRES.iter().map(|c| {
            let radius = (x[0] - c[0]).hypot(x[1] - c[1]);
            log_blurred_circle(radius, Self::RADIUS, Self::STD)
        });
        log_sum_exp(circles) - 4f64.ln()
    }
}

impl SampleSet for FourCircles {
    fn name(&self) -> &'static str {
        "four-circles"
    }

    fn describe(&self) -> &'static str {
        "samples: four crossing circles (arXiv:1906.04032)"
    }

    fn plot_range(&self) -> [[f64; 2]; 2] {
        [[-4.0, 4.0]; 2]
    }

    fn sample(&self, n: usize, rng: &mut dyn Rng) -> Vec<[f64; 2]> {
        (0..n)
            .map(|_| {
                let centre = Self::CENTRES[rng.random_range(0..4)];
                let [x, y] = on_circle(Self::RADIUS, uniform(rng));
                blurred([centre[0] + x, centre[1] + y], Self::STD, rng)
            })
            .collect()
    }

    fn log_density(&self, x: [f64; 2]) -> Option<f64> {
        Some(Self::log_p(x))
    }

    fn entropy(&self) -> Option<f64> {
        static ENTROPY: OnceLock<f64> = OnceLock::new();
        // By symmetry a quadrant holds a quarter.
        Some(
            *ENTROPY
                .get_or_init(|| 4.0 * mass_and_entropy([[0.0, 4.0]; 2], [160; 2], Self::log_p).1),
        )
    }
}

/// The point at `turn` of a full turn.
fn on_circle(radius: f64, turn: f64) -> [f64; 2] {
    let (sin, cos) = (TAU * turn).sin_cos();
    [radius * cos, radius * sin]
}

/// Log-density at distance `r` of an equal mixture of blurred circles about one centre.
fn log_concentric(r: f64, radii: &[f64], std: f64) -> f64 {
    let circles = radii
        .iter()
        .map(|&radius| log_blurred_circle(r, radius, std));
    log_sum_exp(circles) - (radii.len() as f64).ln()
}

/// Log-density at distance `r` from the centre of one blurred circle.
fn log_blurred_circle(r: f64, radius: f64, std: f64) -> f64 {
    let variance = std * std;
    let log_bessel = log_scaled_bessel_i0(r * radius / variance);
    -0.5 * (r - radius).powi(2) / variance + log_bessel - (TAU * variance).ln()
}

/// `log(exp(-x) I0(x))` for `x >= 0`: the power series (Abramowitz and Stegun 9.6.12) up to 30, the
/// asymptotic one (9.7.1) beyond, both to rounding error.
fn log_scaled_bessel_i0(x: f64) -> f64 {
    if x < 30.0 {
        let quarter = 0.25 * x * x;
        let (mut term, mut sum, mut k) = (1.0, 1.0, 1.0);
        while term > 1e-17 * sum {
            term *= quarter / (k * k);
            sum += term;
            k += 1.0;
        }
        return sum.ln() - x;
    }
    let (mut term, mut sum) = (1.0, 1.0);
    for k in 1..=30 {
        let odd = f64::from(2 * k - 1);
        term *= odd * odd / (8.0 * x * f64::from(k));
        sum += term;
        if term < 1e-17 {
            break;
        }
    }
    sum.ln() - 0.5 * (TAU * x).ln()
}

/// `-int p log p` of a density that depends on the radius alone, by the midpoint rule up to `reach`.
fn radial_entropy(reach: f64, log_p: impl Fn(f64) -> f64) -> f64 {
    let mut sum = 0.0;
    let cell = for_each_midpoint([[0.0, reach], [0.0, 1.0]], [3_000, 1], |[r, _]| {
        let log_p = log_p(r);
        sum -= 2.0 * PI * r * log_p.exp() * log_p;
    });
    sum * cell
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn bessel_function_matches_its_integral() {
        // I0(x) = 1/pi int_0^pi exp(x cos t) dt, on which the midpoint rule is exact to rounding.
        for x in [0.0, 0.5, 3.0, 12.0, 29.9, 30.1, 55.0, 400.0, 2000.0] {
            let cells = 4_000;
            let mean = (0..cells)
                .map(|i| PI * (f64::from(i) + 0.5) / f64::from(cells))
                .map(|t| (x * (t.cos() - 1.0)).exp())
                .sum::<f64>()
                / f64::from(cells);
            let found = log_scaled_bessel_i0(x);
            assert!(
                (found - mean.ln()).abs() < 1e-12,
                "{x}: {found} for {}",
                mean.ln()
            );
        }
    }

    #[test]
    fn rings_have_equal_counts() {
        let samples = Rings.sample(402, &mut StdRng::seed_from_u64(1));
        let mut counts = [0; 4];
        for x in samples {
            // Noise 0.08 against a spacing of 0.75.
            counts[((x[0].hypot(x[1]) - 0.375) / 0.75) as usize] += 1;
        }
        counts.sort();
        assert_eq!(counts, [100, 100, 101, 101]);
    }

    #[test]
    fn quadrature_of_the_four_circles_has_converged() {
        let coarse = FourCircles.entropy().unwrap();
        let fine = 4.0 * mass_and_entropy([[0.0, 4.0]; 2], [320; 2], FourCircles::log_p).1;
        assert!((coarse - fine).abs() < 1e-5, "{coarse} {fine}");
    }
}
