//! How far and how fast a batch moves through the blocks.

use burn::tensor::{Tensor, backend::Backend};

use super::Metric;
use crate::continuous::Trajectory;

/// `E[ sum_k sum_t |v^k(z_{k,t})|_G^2 / T ]` over the steps `t = 0..T` of the blocks `k`: the energy of
/// the path, the mean over the batch.
///
/// Among paths between the same points in unit time, geodesics at constant speed have the least.
///
/// # Shapes
/// - output `[1]`
///
/// # Panics
/// Without a path.
pub fn path_energy<B: Backend>(paths: &[Trajectory<B>], metric: &Metric) -> Tensor<B, 1> {
    sum_over_paths(paths, |velocities| metric.squared_norm(velocities))
}

/// `E[ sum_k sum_t |v^k(z_{k,t})|_G / T ]`: the length of the path, the mean over the batch.
///
/// By the inequality of Cauchy and Schwarz its square is at most `K` times the
/// [`path_energy`] of `K` blocks.
///
/// # Shapes
/// - output `[1]`
///
/// # Panics
/// Without a path.
pub fn path_length<B: Backend>(paths: &[Trajectory<B>], metric: &Metric) -> Tensor<B, 1> {
    sum_over_paths(paths, |velocities| {
        let squared = metric.squared_norm(velocities);
        // The root has no derivative at zero: at rest it is constant.
        let smallest = squared
            .dtype()
            .finfo()
            .map_or(1e-30, |info| info.min_positive);
        squared.clamp_min(smallest).sqrt()
    })
}

/// The mean over batch and steps of what `of_rows` makes of the velocities, added up over the blocks.
fn sum_over_paths<B: Backend>(
    paths: &[Trajectory<B>],
    of_rows: impl Fn(Tensor<B, 2>) -> Tensor<B, 1>,
) -> Tensor<B, 1> {
    let of_path = |path: &Trajectory<B>| {
        let steps = path.velocities[..path.cells()].to_vec();
        of_rows(Tensor::cat(steps, 0)).mean()
    };
    let sum = paths.iter().map(of_path).reduce(|sum, next| sum + next);
    sum.expect("at least one path")
}
