//! Geodesic regularization of the fields of a stack.

use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use super::{Metric, path_energy};
use crate::continuous::Trajectory;

/// What a geodesic penalty measures.
///
/// The account of arXiv:1810.03256 asks for "the geodesic distance between `v_0` and `v_K` as small as
/// possible", which fixes no formula; these are three readings. `v^k` is the field of block `k`,
/// `z_{k,t}` the state before step `t` of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Geodesic {
    /// `sum_k sum_t |v^k(z_{k,t})|_G^2 / T`, the energy of the path, see
    /// [`path_energy`]: what geodesics minimise.
    #[default]
    Kinetic,
    /// `|v^1(z_0) - v^K(z_K)|_G^2`: first against last velocity.
    Endpoint,
    /// `sum_k |v^{k+1}(z_k) - v^k(z_k)|_G^2`: jumps of the velocity where one block ends and the next
    /// begins, zero for a single block.
    Increments,
}

impl Geodesic {
    /// The name used in configurations and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kinetic => "kinetic",
            Self::Endpoint => "endpoint",
            Self::Increments => "increments",
        }
    }

    /// The penalty, the mean over the batch.
    ///
    /// Where layers of other kinds stand between two blocks, the field before them is taken where
    /// its block ends and the field after them where its block begins.
    ///
    /// # Shapes
    /// - `paths`: of the blocks, the first one first; output `[1]`
    ///
    /// # Panics
    /// Without a path.
    pub fn penalty<B: Backend>(self, paths: &[Trajectory<B>], metric: &Metric) -> Tensor<B, 1> {
        let first = |path: &Trajectory<B>| path.velocities[0].clone();
        let last = |path: &Trajectory<B>| path.velocities[path.cells()].clone();
        match self {
            Self::Kinetic => path_energy(paths, metric),
            Self::Endpoint => {
                let (start, end) = (&paths[0], &paths[paths.len() - 1]);
                metric.squared_norm(first(start) - last(end)).mean()
            }
            Self::Increments => {
                let jump = |pair: &[Trajectory<B>]| {
                    let difference = first(&pair[1]) - last(&pair[0]);
                    metric.squared_norm(difference).mean()
                };
                let jumps = paths.windows(2).map(jump);
                let none = || paths[0].states[0].clone().zeros_like().mean();
                jumps.reduce(|sum, next| sum + next).unwrap_or_else(none)
            }
        }
    }
}
