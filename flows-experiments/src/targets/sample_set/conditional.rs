//! A first coordinate and, given it, a normal second one: five plane sets of the spline-flow paper
//! (arXiv:1906.04032, its released code) and the two sine waves.
//!
//! All five draw `x1 ~ N(0, 1)`, as the released code of the paper does, so that
//! `log p = log N(x1; 0, 1) + log N(x2; m(x1), s^2)` and the entropy is the sum of two normal ones.

use std::f64::consts::{LN_2, PI, TAU};

use rand::Rng;

use super::{SampleSet, log_normal, log_sum_exp, normal, normal_entropy, uniform};

/// Which coordinate of the point is the first variable. The released code stores the crescents as
/// `(x2, x1)`, which matters to models that factor in the order of the columns.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Columns {
    AsDrawn,
    Swapped,
}

impl Columns {
    fn arrange(self, [x1, x2]: [f64; 2]) -> [f64; 2] {
        match self {
            Self::AsDrawn => [x1, x2],
            Self::Swapped => [x2, x1],
        }
    }
}

macro_rules! conditional_normal {
    (
        $(#[$doc:meta])* $set:ident, $name:literal, $describe:literal, $columns:expr, $range:expr,
        mean: $mean:expr, log_std: $log_std:expr
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $set;

        impl $set {
            fn mean(x1: f64) -> f64 {
                let mean: fn(f64) -> f64 = $mean;
                mean(x1)
            }
        }

        impl SampleSet for $set {
            fn name(&self) -> &'static str {
                $name
            }

            fn describe(&self) -> &'static str {
                $describe
            }

            fn plot_range(&self) -> [[f64; 2]; 2] {
                $range
            }

            fn sample(&self, n: usize, rng: &mut dyn Rng) -> Vec<[f64; 2]> {
                let std = f64::exp($log_std);
                (0..n)
                    .map(|_| {
                        let x1 = normal(rng);
                        $columns.arrange([x1, Self::mean(x1) + std * normal(rng)])
                    })
                    .collect()
            }

            fn log_density(&self, x: [f64; 2]) -> Option<f64> {
                let [x1, x2] = $columns.arrange(x);
                let std = f64::exp($log_std);
                Some(log_normal(x1, 0.0, 1.0) + log_normal(x2, Self::mean(x1), std))
            }

            fn entropy(&self) -> Option<f64> {
                Some(normal_entropy(1.0) + normal_entropy(f64::exp($log_std)))
            }
        }
    };
}

conditional_normal!(
    /// `x1 ~ N(0, 1)`, `x2 = x1^2 / 2 - 1 + e^-1 n`, stored as `(x2, x1)`.
    Crescent,
    "crescent",
    "samples: a crescent, x2 = x1^2/2 - 1 + e^-1 n (arXiv:1906.04032)",
    Columns::Swapped,
    [[-3.0, 5.0], [-4.0, 4.0]],
    mean: |x1| 0.5 * x1 * x1 - 1.0,
    log_std: -1.0
);

conditional_normal!(
    /// `x1 ~ N(0, 1)`, `x2 = 0.2 x1^3 + n`, stored as `(x2, x1)`.
    CrescentCubed,
    "crescent-cubed",
    "samples: a cubic crescent, x2 = 0.2 x1^3 + n (arXiv:1906.04032)",
    Columns::Swapped,
    [[-4.5, 4.5]; 2],
    mean: |x1| 0.2 * x1.powi(3),
    log_std: 0.0
);

conditional_normal!(
    /// `x1 ~ N(0, 1)`, `x2 = sin(5 x1) + e^-1 n`.
    SineWave,
    "sine-wave",
    "samples: a sine wave, x2 = sin(5 x1) + e^-1 n (arXiv:1906.04032)",
    Columns::AsDrawn,
    [[-4.0, 4.0]; 2],
    mean: |x1| (5.0 * x1).sin(),
    log_std: -1.0
);

conditional_normal!(
    /// `x1 ~ N(0, 1)`, `x2 = |x1| - 1 + e^-1.5 n`.
    Abs,
    "abs",
    "samples: a V, x2 = |x1| - 1 + e^-1.5 n (arXiv:1906.04032)",
    Columns::AsDrawn,
    [[-4.0, 4.0], [-3.5, 4.5]],
    mean: |x1| x1.abs() - 1.0,
    log_std: -1.5
);

conditional_normal!(
    /// `x1 ~ N(0, 1)`, `x2 = sign(x1) + x1 + e^-1.5 n`.
    Sign,
    "sign",
    "samples: a broken line, x2 = sign(x1) + x1 + e^-1.5 n (arXiv:1906.04032)",
    Columns::AsDrawn,
    [[-4.5, 4.5]; 2],
    mean: |x1| x1.signum() + x1,
    log_std: -1.5
);

/// `x1 ~ U(-pi, pi)`, `x2 = +-2.5 sin(x1) + 0.05 n`: two thin waves that cross three times.
///
/// The source is the toy set named `2sines` that circulates in public code beside those of FFJORD; its
/// noise is on the second coordinate only.
#[derive(Debug, Clone, Copy)]
pub struct TwoSines;

const SINES_STD: f64 = 0.05;
const SINES_HEIGHT: f64 = 2.5;

impl SampleSet for TwoSines {
    fn name(&self) -> &'static str {
        "2sines"
    }

    fn describe(&self) -> &'static str {
        "samples: two thin sine waves, x2 = +-2.5 sin(x1) + 0.05 n (public toy code, no paper)"
    }

    fn plot_range(&self) -> [[f64; 2]; 2] {
        [[-3.5, 3.5]; 2]
    }

    fn sample(&self, n: usize, rng: &mut dyn Rng) -> Vec<[f64; 2]> {
        (0..n)
            .map(|_| {
                let x1 = TAU * uniform(rng) - PI;
                let sign = if uniform(rng) < 0.5 { -1.0 } else { 1.0 };
                [x1, sign * SINES_HEIGHT * x1.sin() + SINES_STD * normal(rng)]
            })
            .collect()
    }

    fn log_density(&self, [x1, x2]: [f64; 2]) -> Option<f64> {
        if !(-PI..PI).contains(&x1) {
            return Some(f64::NEG_INFINITY);
        }
        let centre = SINES_HEIGHT * x1.sin();
        let waves = [centre, -centre].map(|c| log_normal(x2, c, SINES_STD));
        Some(log_sum_exp(waves.into_iter()) - LN_2 - TAU.ln())
    }

    /// `ln 2 pi` for the first coordinate, and for the second the mean over it of the entropy of two
    /// equal normals `2 |centre|` apart, by the midpoint rule in `x1` and in the scaled `x2`.
    fn entropy(&self) -> Option<f64> {
        // Symmetry: one of the four quarter waves will do.
        let columns = 2_000;
        let mean = (0..columns)
            .map(|i| {
                let x1 = 0.5 * PI * (f64::from(i) + 0.5) / f64::from(columns);
                normal_entropy(SINES_STD) + pair_information(SINES_HEIGHT * x1.sin() / SINES_STD)
            })
            .sum::<f64>()
            / f64::from(columns);
        Some(TAU.ln() + mean)
    }
}

/// Entropy of an equal mixture of `N(a, 1)` and `N(-a, 1)` beyond that of one normal:
/// `ln 2 - E[ln(1 + exp(-2 a (a + n)))]` for `n ~ N(0, 1)`, between 0 and `ln 2` nats.
fn pair_information(a: f64) -> f64 {
    // Beyond this the overlap is below exp(-50).
    if a > 10.0 {
        return LN_2;
    }
    let cell = 0.05;
    let overlap: f64 = (-200..200)
        .map(|i| (f64::from(i) + 0.5) * cell)
        .map(|n| {
            let exponent = -2.0 * a * (a + n);
            let softplus = exponent.max(0.0) + (-exponent.abs()).exp().ln_1p();
            log_normal(n, 0.0, 1.0).exp() * softplus * cell
        })
        .sum();
    LN_2 - overlap
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_forms() {
        let two_normals = 1.0 + TAU.ln();
        assert!((Crescent.entropy().unwrap() - (two_normals - 1.0)).abs() < 1e-12);
        assert!((CrescentCubed.entropy().unwrap() - two_normals).abs() < 1e-12);
        assert!((Sign.entropy().unwrap() - (two_normals - 1.5)).abs() < 1e-12);
        assert!(pair_information(0.0).abs() < 1e-12);
        assert!((pair_information(9.9) - LN_2).abs() < 1e-12);
    }

    #[test]
    fn crescents_open_along_the_first_axis() {
        let at = |x| Crescent.log_density(x).unwrap();
        assert!(at([1.0, 2.0]) > at([2.0, 1.0]));
    }
}
