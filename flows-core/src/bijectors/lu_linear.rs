//! A learned linear map with a cheap determinant.

use burn::module::{Module, Param};
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::row_map::RowMap;
use crate::bijector::{Bijector, Invert, Mapped, assert_ok};
use crate::error::Error;
use crate::expand::{expand, product};
use crate::masks::Ordering;
use crate::nn::{columns, log_scale, sort, unsort};

/// Configuration of an [`LuLinear`].
#[derive(Module, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LuLinearConfig {
    /// Dimension.
    #[module(skip)]
    pub dim: usize,
    /// The fixed permutation `P`.
    #[serde(default)]
    #[module(skip)]
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

    /// The order of the permutation.
    fn check(&self) -> Result<Vec<usize>, Error> {
        match self.dim {
            0 => Err(Error::config(NAME, "dim", 0, "at least 1")),
            dim => self.ordering.order(dim),
        }
    }

    /// Factors that are small against the identity in norm, whatever the dimension.
    fn draw(&self, rng: &mut dyn Rng) -> Vec<f64> {
        let dim = self.dim;
        let std = 0.1 / dim as f64;
        let factors = (0..dim * dim).map(|k| {
            let z: f64 = StandardNormal.sample(rng);
            if k % (dim + 1) == 0 { 0.0 } else { std * z }
        });
        factors.collect()
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
        let order = self.check()?;
        let factors = TensorData::new(self.draw(rng), [self.dim, self.dim]);
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

impl LuLinearConfig {
    /// Row `i` of the square of each row of the batch, from column `from` on, `[batch, count]`.
    fn row<B: Backend>(
        &self,
        raw: &Tensor<B, 2>,
        i: usize,
        from: usize,
        count: usize,
    ) -> Tensor<B, 2> {
        columns(raw, i * self.dim + from, count)
    }

    /// `s = 10 tanh(raw / 10)`, the log-diagonal of `U`, `[batch, dim]`.
    fn log_diagonal<B: Backend>(&self, raw: &Tensor<B, 2>) -> Tensor<B, 2> {
        let diagonal = (0..self.dim).map(|i| self.row(raw, i, i, 1));
        log_scale(Tensor::cat(diagonal.collect(), 1))
    }

    fn ordered(&self) -> Vec<usize> {
        let order = self.ordering.order(self.dim);
        order.expect("checked where the layer was made")
    }
}

/// Raw parameters: a square with `L` below its diagonal, the log-diagonal of `U` on it, and `U` above it, row by row.
impl<B: Backend> RowMap<B> for LuLinearConfig {
    fn name(&self) -> &'static str {
        NAME
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn start(&self, rng: &mut dyn Rng) -> Result<Vec<f64>, Error> {
        self.check()?;
        Ok(self.draw(rng))
    }

    fn forward(&self, raw: Tensor<B, 2>, x: Tensor<B, 2>) -> Mapped<B> {
        let (dim, s) = (self.dim, self.log_diagonal(&raw));
        let scaled = x.clone() * s.clone().exp();
        let upper = (0..dim).map(|i| {
            let own = columns(&scaled, i, 1);
            let right = dim - 1 - i;
            match right {
                0 => own,
                _ => {
                    let row = self.row(&raw, i, i + 1, right);
                    own + (row * columns(&x, i + 1, right)).sum_dim(1)
                }
            }
        });
        let z = Tensor::cat(upper.collect(), 1);
        let lower = (0..dim).map(|i| {
            let own = columns(&z, i, 1);
            match i {
                0 => own,
                _ => own + (self.row(&raw, i, 0, i) * columns(&z, 0, i)).sum_dim(1),
            }
        });
        Mapped {
            value: sort(Tensor::cat(lower.collect(), 1), &self.ordered()),
            log_det: s.sum_dim(1).squeeze_dim(1),
        }
    }

    fn inverse(&self, raw: Tensor<B, 2>, y: Tensor<B, 2>) -> (Mapped<B>, usize) {
        let (dim, s) = (self.dim, self.log_diagonal(&raw));
        let y = unsort(y, &self.ordered());
        let mut z = columns(&y, 0, 1);
        for i in 1..dim {
            let before = (self.row(&raw, i, 0, i) * z.clone()).sum_dim(1);
            z = Tensor::cat(vec![z, columns(&y, i, 1) - before], 1);
        }
        let shrink = s.clone().neg().exp();
        let mut x = columns(&z, dim - 1, 1) * columns(&shrink, dim - 1, 1);
        for i in (0..dim - 1).rev() {
            let behind = (self.row(&raw, i, i + 1, dim - 1 - i) * x.clone()).sum_dim(1);
            let own = (columns(&z, i, 1) - behind) * columns(&shrink, i, 1);
            x = Tensor::cat(vec![own, x], 1);
        }
        let mapped = Mapped {
            value: x,
            log_det: s.neg().sum_dim(1).squeeze_dim(1),
        };
        (mapped, 1)
    }
}
