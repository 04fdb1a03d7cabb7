//! A learned linear map with a cheap determinant.

use burn::module::{Module, Param};
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use crate::bijector::{Bijector, Invert, Mapped, assert_ok};
use crate::error::Error;
use crate::expand::{expand, product};
use crate::masks::Ordering;
use crate::nn::{sort, unsort};

/// Configuration of an [`LuLinear`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LuLinearConfig {
    /// Dimension.
    pub dim: usize,
    /// The fixed permutation `P`.
    #[serde(default)]
    pub ordering: Ordering,
}

impl LuLinearConfig {
    /// No permutation.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            ordering: Ordering::Natural,
        }
    }

    /// Draws a layer near the permutation.
    ///
    /// # Errors
    /// [`Error::Config`] where an explicit ordering is no permutation, or `dim` is 0.
    pub fn init<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<LuLinear<B>, Error> {
        let dim = self.dim;
        if dim == 0 {
            return Err(Error::config(NAME, "dim", 0, "at least 1"));
        }
        let order = self.ordering.order(dim)?;
        // Small against the identity in norm, whatever the dimension.
        let std = 0.1 / dim as f64;
        let factors = (0..dim * dim).map(|k| {
            let z: f64 = StandardNormal.sample(rng);
            if k % (dim + 1) == 0 { 0.0 } else { std * z }
        });
        let factors = TensorData::new(factors.collect(), [dim, dim]);
        Ok(LuLinear {
            factors: Param::from_tensor(Tensor::from_data(factors, options)),
            order,
        })
    }
}

const NAME: &str = "lu linear";

/// `y = P L U x` with a fixed permutation `P`, unit lower triangular `L`, and upper triangular `U` with
/// diagonal `exp(s)`: `log|det| = sum_i s_i`.
///
/// The decomposition of Glow's invertible 1x1 convolution (Kingma and Dhariwal, arXiv:1807.03039, eq. 10), with
/// a positive diagonal; the sign is left to `P`. The inverse is two triangular solves.
#[derive(Module, Debug)]
pub struct LuLinear<B: Backend> {
    /// `L` below the diagonal, `s` on it, `U` above it, `[dim, dim]`.
    factors: Param<Tensor<B, 2>>,
    #[module(skip)]
    order: Vec<usize>,
}

impl<B: Backend> LuLinear<B> {
    /// `s`, `[1, dim]`.
    fn log_diagonal(&self) -> Tensor<B, 2> {
        let factors = self.factors.val();
        (factors.clone().triu(0) - factors.triu(1)).sum_dim(0)
    }

    /// `sum_i s_i` for each row.
    fn log_det(&self, rows: usize) -> Tensor<B, 1> {
        expand(self.log_diagonal().sum_dim(1), [rows, 1]).squeeze_dim(1)
    }
}

/// Solves `z T^T = y` for a triangular `T` with ones on the diagonal, by halves.
fn solve_unit_triangular<B: Backend>(
    t: Tensor<B, 2>,
    y: Tensor<B, 2>,
    lower: bool,
) -> Tensor<B, 2> {
    let [rows, dim] = y.dims();
    if dim == 1 {
        return y;
    }
    let half = dim / 2;
    let first = t.clone().slice([0..half, 0..half]);
    let second = t.clone().slice([half..dim, half..dim]);
    let (y_first, y_second) = (
        y.clone().slice([0..rows, 0..half]),
        y.slice([0..rows, half..dim]),
    );
    let halves = if lower {
        let across = t.slice([half..dim, 0..half]).transpose();
        let z_first = solve_unit_triangular(first, y_first, lower);
        let rest = y_second - product(z_first.clone(), across);
        vec![z_first, solve_unit_triangular(second, rest, lower)]
    } else {
        let across = t.slice([0..half, half..dim]).transpose();
        let z_second = solve_unit_triangular(second, y_second, lower);
        let rest = y_first - product(z_second.clone(), across);
        vec![solve_unit_triangular(first, rest, lower), z_second]
    };
    Tensor::cat(halves, 1)
}

impl<B: Backend> Bijector<B> for LuLinear<B> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn dim(&self) -> usize {
        self.order.len()
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&x, context.as_ref()));
        let factors = self.factors.val();
        let log_det = self.log_det(x.dims()[0]);
        let upper = factors.clone().triu(1).transpose();
        let x = x.clone() * self.log_diagonal().exp() + product(x, upper);
        let y = x.clone() + product(x, factors.tril(-1).transpose());
        Mapped {
            value: sort(y, &self.order),
            log_det,
        }
    }
}

impl<B: Backend> Invert<B> for LuLinear<B> {
    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&y, context.as_ref()));
        let log_det = self.log_det(y.dims()[0]).neg();
        let factors = self.factors.val();
        let y = unsort(y, &self.order);
        let y = solve_unit_triangular(factors.clone(), y, true);
        // U = E (I + E^-1 N) with E = exp(s): divide each row of N and of y by the diagonal.
        let scale = self.log_diagonal().neg().exp();
        let upper = factors.triu(1) * scale.clone().transpose();
        Mapped {
            value: solve_unit_triangular(upper, y * scale, false),
            log_det,
        }
    }
}
