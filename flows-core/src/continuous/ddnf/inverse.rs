//! The two inverses of a block, and the solver of the exact one.

use burn::tensor::{Bool, ElementConversion, Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use crate::continuous::bound_field::Evaluated;
use crate::continuous::field_weight::constant;
use crate::continuous::log_det::solve_identity_plus;
use crate::continuous::{BoundField, Linearization};
use crate::error::Error;
use crate::magnitude::magnitude;

/// The name of a block in error messages and reports.
pub(super) const NAME: &str = "ddnf block";

/// What the inverse direction of a block computes.
///
/// In a configuration file: `inverse = "approximate_exponential_map"`, or
/// `inverse = { exact = { tolerance = 1e-12, max_iterations = 50 } }`, both numbers optional.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
pub enum DdnfInverse {
    /// `exp(-v)` by the same cells: `T` times `z <- z - v(z) / T`. One pass.
    ///
    /// This is **not** the inverse of the forward map, which composes `z + v(z) / T`: they differ by
    /// `O(1 / T)`. So **`log_prob` and `sample` of a flow with it belong to two different distributions**, and
    /// there and back is not where it began. The log-determinant returned is that of the map applied,
    /// `sum_t log |det(I - J_v(z_t) / T)|` by the block's [`LogDet`](crate::log_det::LogDet); a
    /// density computed with it belongs to the map `(id - v / T)^T`.
    ///
    /// For stationary fields only: a field that depends on time is refused. Files written before read
    /// `"exponential_map"`.
    #[serde(alias = "exponential_map")]
    ApproximateExponentialMap,
    /// The inverse of the forward map: solves `z + v(z) / T = y` cell by cell.
    ///
    /// A few fixed-point iterations `z <- y - v(z) / T` (linear rate `Lip(v) / T`), then Newton's
    /// method with a step halved in rows where it does not lower the residual. The log-determinant
    /// returned is minus the forward one at the solution, by the block's
    /// [`LogDet`](crate::log_det::LogDet). Gradients follow from the implicit function theorem;
    /// they do not pass through the iterations.
    ///
    /// A row without a solution in reach is NaN in value and log-determinant, and so in every density;
    /// [`inverse_with_report`](crate::bijector::Invert::inverse_with_report) counts such rows.
    Exact {
        /// Residual `max_i |z_i + v_i(z) / T - y_i|` of a row, relative to `max(1, max_i |y_i|)`, at
        /// which it counts as solved; not below 16 units of the float type.
        #[serde(default = "default_tolerance")]
        tolerance: f64,
        /// Newton iterations per cell.
        #[serde(default = "default_max_iterations")]
        max_iterations: usize,
    },
}

fn default_tolerance() -> f64 {
    1e-12
}

fn default_max_iterations() -> usize {
    50
}

crate::one_key!(DdnfInverse);

impl Default for DdnfInverse {
    fn default() -> Self {
        Self::Exact {
            tolerance: default_tolerance(),
            max_iterations: default_max_iterations(),
        }
    }
}

impl DdnfInverse {
    /// A short name for reports, which says of the exponential map that it is no inverse.
    pub fn label(&self) -> &'static str {
        match self {
            Self::ApproximateExponentialMap => {
                "approximate, by the exponential map: densities and samples differ"
            }
            Self::Exact { .. } => "exact",
        }
    }

    /// When the solver of the exact inverse ends; `None` for the exponential map.
    pub(super) fn solver(self) -> Option<Stop> {
        match self {
            Self::ApproximateExponentialMap => None,
            Self::Exact {
                tolerance,
                max_iterations,
            } => Some(Stop {
                tolerance,
                max_iterations,
            }),
        }
    }

    /// As [`validate`](Self::validate), for a field that may depend on time.
    pub(super) fn validate_for(self, time_dependent: bool) -> Result<(), Error> {
        if self == Self::ApproximateExponentialMap {
            require_stationary(time_dependent)?;
        }
        self.validate()
    }

    fn validate(self) -> Result<(), Error> {
        match self {
            Self::Exact { tolerance, .. } if !(tolerance > 0.0 && tolerance.is_finite()) => {
                let expected = "positive and finite";
                Err(Error::config(
                    NAME,
                    "inverse.tolerance",
                    tolerance,
                    expected,
                ))
            }
            Self::Exact {
                max_iterations: 0, ..
            } => Err(Error::config(
                NAME,
                "inverse.max_iterations",
                0,
                "at least 1",
            )),
            _ => Ok(()),
        }
    }
}

/// The exponential map is that of one field, not of one for each time.
pub(super) fn require_stationary(time_dependent: bool) -> Result<(), Error> {
    if !time_dependent {
        return Ok(());
    }
    Err(Error::config(
        NAME,
        "inverse",
        "the exponential map",
        "exact: this field depends on time, and exp(-v) inverts the flow of a stationary field only",
    ))
}

/// When the solver ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stop {
    pub(super) tolerance: f64,
    pub(super) max_iterations: usize,
}

/// Iterations `z <- y - f(z)` before Newton's method: each costs one evaluation and no inverse.
const FIXED_POINT_ITERATIONS: usize = 3;

/// Units of the float type that a residual may keep by rounding alone.
const ROUNDING_UNITS: f64 = 16.0;

/// A row whose Newton step was cut below this factor has met its rounding error, or is lost.
const SHORTEST_STEP: f64 = 1.0 / 256.0;

/// A solution of `z + f(z) = y`, outside the autodiff graph.
pub(super) struct Solution<B: Backend> {
    z: Tensor<B, 2>,
    /// Of the field at `z`.
    memos: Vec<Tensor<B, 2>>,
    /// Rows for which `z` is no solution, `[n, 1]`; `None` where all are solved.
    pub(super) unsolved: Option<Tensor<B, 2, Bool>>,
    pub(super) evaluations: usize,
}

/// Solves `z + f(z) = y` for `z`, row by row.
///
/// Synchronizes once an iteration, to see whether a row is left.
pub(super) fn solve<B: Backend>(f: &BoundField<B>, y: Tensor<B, 2>, stop: Stop) -> Solution<B> {
    let y = constant(y);
    let epsilon = y.dtype().finfo().map_or(f64::EPSILON, |info| info.epsilon);
    let tolerance = stop.tolerance.max(ROUNDING_UNITS * epsilon);
    let tolerance = magnitude(y.clone()).max_dim(1).clamp_min(1.0) * tolerance;
    let mut best = Iterate::at(f, y.clone(), &y);
    for _ in 0..FIXED_POINT_ITERATIONS {
        let candidate = best.z.clone() - best.residual.clone();
        best.improve(Iterate::at(f, candidate, &y));
    }
    let mut evaluations = 1 + FIXED_POINT_ITERATIONS;
    let mut factor = tolerance.ones_like();
    for _ in 0..stop.max_iterations {
        let unsolved = best.norm.clone().greater(tolerance.clone());
        let moving = factor.clone().greater_elem(SHORTEST_STEP);
        if !unsolved.bool_and(moving).any().into_scalar().elem::<bool>() {
            break;
        }
        let jacobian = Linearization::new(f, best.memos.clone());
        let newton = solve_identity_plus(&jacobian, best.residual.clone());
        let candidate = best.z.clone() - newton * factor.clone();
        let improved = best.improve(Iterate::at(f, candidate, &y));
        let longer = (factor.clone() * 2.0).clamp_max(1.0);
        factor = (factor * 0.5).mask_where(improved, longer);
        evaluations += 1;
    }
    // Where `z` is far larger than `y`, the field is as large, and rounds accordingly. A NaN is not below anything.
    let rounding = magnitude(best.z.clone()).max_dim(1) * (ROUNDING_UNITS * epsilon);
    let solved = best.norm.lower_equal(tolerance.max_pair(rounding));
    let all = solved.clone().all().into_scalar().elem::<bool>();
    Solution {
        z: best.z,
        memos: best.memos,
        unsolved: (!all).then(|| solved.bool_not()),
        evaluations,
    }
}

/// One differentiable Newton step from a solution: the solution again, with the derivatives that
/// the implicit function theorem gives, `dz = (I + J_f)^{-1} (dy - df)`.
///
/// The inverse is constant, so the step's derivative is that of its residual in `y` and in the
/// parameters of `f`, times the inverse.
///
/// An unsolved row becomes 0, without a gradient, so that the cells before it compute with harmless numbers.
pub(super) fn implicit_step<B: Backend>(
    f: &BoundField<B>,
    fixed: &BoundField<B>,
    solution: Solution<B>,
    y: Tensor<B, 2>,
) -> Tensor<B, 2> {
    let Solution {
        z, memos, unsolved, ..
    } = solution;
    let zero_unsolved = |rows: Tensor<B, 2>| match &unsolved {
        Some(unsolved) => rows
            .clone()
            .mask_fill(unsolved.clone().expand(rows.dims()), 0.0),
        None => rows,
    };
    // Wherever a number may not be finite, before and after: 0 times infinity is NaN in a gradient.
    let (z, y) = (zero_unsolved(z), zero_unsolved(y));
    let residual = zero_unsolved(z.clone() + f.evaluate(z.clone()).value - y);
    let newton = solve_identity_plus(&Linearization::new(fixed, memos), residual);
    zero_unsolved(z - newton)
}

/// A point of the solver with what is known there.
struct Iterate<B: Backend> {
    z: Tensor<B, 2>,
    /// `z + f(z) - y`, `[n, dim]`.
    residual: Tensor<B, 2>,
    /// Largest residual of each row, `[n, 1]`.
    norm: Tensor<B, 2>,
    memos: Vec<Tensor<B, 2>>,
}

impl<B: Backend> Iterate<B> {
    fn at(f: &BoundField<B>, z: Tensor<B, 2>, y: &Tensor<B, 2>) -> Self {
        let Evaluated { value, memos } = f.evaluate(z.clone());
        let residual = z.clone() + value - y.clone();
        let norm = magnitude(residual.clone()).max_dim(1);
        Self {
            z,
            residual,
            norm,
            memos,
        }
    }

    /// Takes over the rows in which `other` has the smaller residual, and says which, `[n, 1]`.
    fn improve(&mut self, other: Self) -> Tensor<B, 2, Bool> {
        let better = other.norm.clone().lower(self.norm.clone());
        let take = |old: &mut Tensor<B, 2>, new: Tensor<B, 2>| {
            let mask = better.clone().expand(new.dims());
            *old = old.clone().mask_where(mask, new);
        };
        take(&mut self.z, other.z);
        take(&mut self.residual, other.residual);
        take(&mut self.norm, other.norm);
        for (old, new) in self.memos.iter_mut().zip(other.memos) {
            take(old, new);
        }
        better
    }
}
