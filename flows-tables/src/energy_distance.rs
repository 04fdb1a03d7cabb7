//! Two samples compared: do they come from one distribution?

use flows_core::random::shuffle;
use rand::Rng;
use rayon::prelude::*;
use serde::Serialize;

use crate::Rows;

/// The energy distance of two samples, and how often chance does as well.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EnergyTest {
    /// `2 E|X - Y| - E|X - X'| - E|Y - Y'|`, at least 0, in the unit of the columns.
    pub distance: f64,
    /// Share of relabellings, the true one among them, whose distance is at least as large.
    pub p_value: f64,
    /// Relabellings drawn.
    pub permutations: usize,
    /// The same distance between two samples of one distribution, on average over the relabellings.
    pub under_chance: f64,
}

/// Tests whether `x` and `y` come from one distribution, by the energy distance with a permutation test.
///
/// Székely & Rizzo, *Energy statistics*, Journal of Statistical Planning and Inference 143 (2013),
/// equation 2.1, with means over all pairs, those of a row with itself among them. With weights
/// `s = 1 / n` on rows of `x` and `-1 / m` on rows of `y` it is `-s^T D s` for the matrix `D` of Euclidean
/// distances, so that a relabelling costs one pass over `D`. The p-value is
/// `(1 + #{at least as large}) / (1 + permutations)`, valid at any sample size.
///
/// Needs memory for `(n + m)^2` numbers.
///
/// # Panics
/// Where one of them is empty, or the widths differ.
pub fn energy_test(x: &Rows, y: &Rows, permutations: usize, rng: &mut dyn Rng) -> EnergyTest {
    assert!(!x.is_empty() && !y.is_empty());
    assert_eq!(x.width(), y.width());
    let rows: Vec<&[f64]> = x.iter().chain(y.iter()).collect();
    let total = rows.len();
    let matrix: Vec<f32> = rows
        .par_iter()
        .flat_map_iter(|a| rows.iter().map(|b| euclidean(a, b) as f32))
        .collect();
    let distance = |weights: &[f64]| -> f64 {
        let by_row = matrix
            .chunks_exact(total)
            .zip(weights)
            .map(|(row, weight)| {
                let sum: f64 = row
                    .iter()
                    .zip(weights)
                    .map(|(d, w)| f64::from(*d) * w)
                    .sum();
                weight * sum
            });
        -by_row.sum::<f64>()
    };
    let (n, m) = (x.len() as f64, y.len() as f64);
    let mut weights = vec![1.0 / n; x.len()];
    weights.resize(total, -1.0 / m);
    let observed = distance(&weights);
    let relabelled: Vec<Vec<f64>> = (0..permutations)
        .map(|_| {
            shuffle(&mut weights, rng);
            weights.clone()
        })
        .collect();
    let chance: Vec<f64> = relabelled.par_iter().map(|w| distance(w)).collect();
    // Rounding must not make the true labelling rarer than itself.
    let as_large = chance.iter().filter(|d| **d >= observed - 1e-9).count();
    EnergyTest {
        distance: observed.max(0.0),
        p_value: (1 + as_large) as f64 / (1 + permutations) as f64,
        permutations,
        under_chance: chance.iter().sum::<f64>() / permutations.max(1) as f64,
    }
}

fn euclidean(a: &[f64], b: &[f64]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| (a - b).powi(2));
    squares.sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flows_train::stream;
    use rand_distr::{Distribution, StandardNormal};

    fn normal(n: usize, scale: f64, seed: u64) -> Rows {
        let rng = &mut stream(seed, "normal", 0);
        let values = (0..2 * n).map(|_| {
            let z: f64 = StandardNormal.sample(rng);
            scale * z
        });
        Rows::new(values.collect(), 2)
    }

    #[test]
    fn the_distance_is_that_of_its_definition() {
        let x = Rows::new(vec![0.0, 1.0, 5.0], 1);
        let y = Rows::new(vec![2.0, 7.0], 1);
        let mean = |a: &Rows, b: &Rows| {
            let pairs = a
                .column(0)
                .flat_map(|a| b.column(0).map(move |b| (a - b).abs()));
            let pairs: Vec<f64> = pairs.collect();
            pairs.iter().sum::<f64>() / pairs.len() as f64
        };
        let expected = 2.0 * mean(&x, &y) - mean(&x, &x) - mean(&y, &y);
        let test = energy_test(&x, &y, 10, &mut stream(0, "test", 0));
        assert!((test.distance - expected).abs() < 1e-6);
    }

    #[test]
    fn another_spread_is_found_and_the_same_distribution_is_not_refused() {
        let rng = &mut stream(1, "test", 0);
        let same = energy_test(&normal(300, 1.0, 1), &normal(300, 1.0, 2), 199, rng);
        assert!(same.p_value > 0.02, "{same:?}");
        assert!((same.distance / same.under_chance) < 4.0, "{same:?}");
        let other = energy_test(&normal(300, 1.0, 1), &normal(300, 1.6, 2), 199, rng);
        assert_eq!(other.p_value, 1.0 / 200.0, "{other:?}");
    }

    #[test]
    fn p_values_are_uniform_under_one_distribution() {
        let p = (0..60).map(|seed| {
            let (x, y) = (normal(40, 1.0, 2 * seed), normal(40, 1.0, 2 * seed + 1));
            energy_test(&x, &y, 39, &mut stream(seed, "test", 0)).p_value
        });
        let p: Vec<f64> = p.collect();
        let mean = p.iter().sum::<f64>() / 60.0;
        assert!((mean - 0.5).abs() < 0.12, "{mean}");
        let small = p.iter().filter(|p| **p <= 0.1).count();
        assert!(small <= 14, "{small} of 60");
    }
}
