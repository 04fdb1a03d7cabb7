//! Eight uniform squares, as in FFJORD's toy data (arXiv:1810.01367).

use rand::Rng;

use super::{SampleSet, uniform};

/// `x1 ~ U(-2, 2)`, `x2 = U(0, 1) - 2 Bernoulli(1/2) + (floor(x1) mod 2)`, both times 2: the dark
/// squares, of side 2, of a board of four by four, with density 1/32 and entropy `ln 32`.
#[derive(Debug, Clone, Copy)]
pub struct Checkerboard;

impl SampleSet for Checkerboard {
    fn name(&self) -> &'static str {
        "checkerboard"
    }

    fn describe(&self) -> &'static str {
        "samples: eight uniform squares of a board, entropy ln 32 (arXiv:1810.01367)"
    }

    fn plot_range(&self) -> [[f64; 2]; 2] {
        [[-4.5, 4.5]; 2]
    }

    fn sample(&self, n: usize, rng: &mut dyn Rng) -> Vec<[f64; 2]> {
        (0..n)
            .map(|_| {
                let x1 = 4.0 * uniform(rng) - 2.0;
                let lower = if uniform(rng) < 0.5 { 2.0 } else { 0.0 };
                let x2 = uniform(rng) - lower + x1.floor().rem_euclid(2.0);
                [2.0 * x1, 2.0 * x2]
            })
            .collect()
    }

    fn log_density(&self, x: [f64; 2]) -> Option<f64> {
        let cell = x.map(|c| (c / 2.0).floor());
        let on_board = cell.iter().all(|c| (-2.0..2.0).contains(c));
        let dark = (cell[0] + cell[1]).rem_euclid(2.0) == 0.0;
        Some(if on_board && dark {
            -32f64.ln()
        } else {
            f64::NEG_INFINITY
        })
    }

    fn entropy(&self) -> Option<f64> {
        Some(32f64.ln())
    }
}
