//! Sylvester flows: planar flows with as many ridges as columns of an orthonormal basis.
//!
//! van den Berg et al., *Sylvester Normalizing Flows for Variational Inference*, arXiv:1803.05649.
//!
//! The free functions take [`Parameters`] per row, as an amortized posterior has them;
//! [`Sylvester`] is the layer with one set of trained parameters.

mod basis;

pub use basis::{Basis, householder, orthonormalize};

use burn::module::{Module, Param};
use burn::tensor::{Bool, Tensor, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::bijector::{Bijector, InverseReport, Invert, Mapped, assert_ok, check_shapes, residual};
use crate::error::Error;
use crate::init;
use crate::solve::affine_tanh_root;

/// What a Sylvester map is made of, per row or, with a leading 1, for all rows.
#[derive(Debug, Clone)]
pub struct Parameters<B: Backend> {
    /// `Q`, `dim x m` with orthonormal columns.
    pub basis: Basis<B>,
    /// `R1`, `[batch or 1, m, m]`, upper triangular.
    pub r1: Tensor<B, 3>,
    /// `R2`, `[batch or 1, m, m]`, upper triangular. The map is invertible where every
    /// `R1_ii R2_ii > -1`, as [`upper_triangular`] makes it.
    pub r2: Tensor<B, 3>,
    /// `b`, `[batch or 1, m]`.
    pub b: Tensor<B, 2>,
}

/// `value = z + Q R1 tanh(R2 Q^T z + b)`.
///
/// `log |det| = sum_i log(1 + (1 - h_i^2) R1_ii R2_ii)` with `h = tanh(R2 Q^T z + b)`, by Sylvester's
/// identity (arXiv:1803.05649, section 3).
///
/// # Shapes
/// - `z`: `[batch, dim]`; parameters as [`Parameters`] says
///
/// # Panics
/// With the message of [`Error::Dimension`] where `z` does not have as many columns as `Q` has rows.
pub fn apply<B: Backend>(z: Tensor<B, 2>, parameters: &Parameters<B>) -> Mapped<B> {
    let Parameters { basis, r1, r2, b } = parameters;
    check_dim(&z, parameters);
    let v = basis.project(z.clone());
    let h = (times_transposed(v, r2) + b.clone()).tanh();
    Mapped {
        log_det: log_det(h.clone(), r1, r2),
        value: z + basis.embed(times_transposed(h, r1)),
    }
}

/// The inverse of [`apply`], with its cost in evaluations of all `m` units.
///
/// With `v = Q^T z`, `v + R1 tanh(R2 v + b) = Q^T y`. Both matrices are upper triangular, so the last
/// row holds `v_m` alone, the one before it `v_m` and `v_(m-1)`, and so on: `m` monotone root finds
/// in one variable each, to machine precision, and no fixed point that might not contract.
/// Gradients are those of the implicit function.
///
/// # Shapes
/// As [`apply`].
///
/// # Panics
/// As [`apply`].
pub fn invert<B: Backend>(y: Tensor<B, 2>, parameters: &Parameters<B>) -> (Mapped<B>, usize) {
    let Parameters { basis, r1, r2, b } = parameters;
    check_dim(&y, parameters);
    let c = basis.project(y.clone());
    let m = c.dims()[1];
    let mut evaluations = 0;
    // Values of v and of h = tanh(R2 v + b) for the units found so far, last unit last.
    let mut tail: Option<(Tensor<B, 2>, Tensor<B, 2>)> = None;
    for i in (0..m).rev() {
        let (mut shift, mut target) = (b.clone().narrow(1, i, 1), c.clone().narrow(1, i, 1));
        if let Some((v, h)) = &tail {
            let rest = |r: &Tensor<B, 3>| {
                let row = r.clone().narrow(1, i, 1).narrow(2, i + 1, m - 1 - i);
                row.squeeze_dim::<2>(1)
            };
            shift = shift + (rest(r2) * v.clone()).sum_dim(1);
            target = target - (rest(r1) * h.clone()).sum_dim(1);
        }
        let on_diagonal = |r: &Tensor<B, 3>| {
            let entry = r.clone().narrow(1, i, 1).narrow(2, i, 1);
            entry.squeeze_dim::<2>(1)
        };
        let rate = on_diagonal(r2);
        let root = affine_tanh_root(on_diagonal(r1), rate.clone(), shift.clone(), target);
        evaluations += root.iterations + 1;
        let h = (rate * root.x.clone() + shift).tanh();
        let front = |new: Tensor<B, 2>, old: Tensor<B, 2>| Tensor::cat(vec![new, old], 1);
        tail = Some(match tail {
            None => (root.x, h),
            Some((v, older)) => (front(root.x, v), front(h, older)),
        });
    }
    let (_, h) = tail.expect("a basis has at least one column");
    let mapped = Mapped {
        log_det: log_det(h.clone(), r1, r2).neg(),
        value: y - basis.embed(times_transposed(h, r1)),
    };
    (mapped, evaluations.div_ceil(m))
}

#[track_caller]
fn check_dim<B: Backend>(z: &Tensor<B, 2>, parameters: &Parameters<B>) {
    let dim = parameters.basis.dim(parameters.b.dims()[1]);
    assert_ok(check_shapes("sylvester", dim, 0, z, None));
}

/// `log(1 + (1 - h^2) R1_ii R2_ii)` summed, as `log(h^2 + (1 - h^2)(1 + R1_ii R2_ii))`.
fn log_det<B: Backend>(h: Tensor<B, 2>, r1: &Tensor<B, 3>, r2: &Tensor<B, 3>) -> Tensor<B, 1> {
    let at_centre = diagonal(r1) * diagonal(r2) + 1.0;
    let h2 = h.square();
    let det = h2.clone() + (h2.neg() + 1.0) * at_centre;
    det.log().sum_dim(1).squeeze_dim(1)
}

/// `R` upper triangular, with the strict upper triangle of `full` and `tanh(raw_diagonal)` on the
/// diagonal, so that products of two diagonals stay above -1 (arXiv:1803.05649, section 3).
///
/// # Shapes
/// - `full`: `[batch, m, m]`, `raw_diagonal`: `[batch, m]`; output `[batch, m, m]`
pub fn upper_triangular<B: Backend>(
    full: Tensor<B, 3>,
    raw_diagonal: Tensor<B, 2>,
) -> Tensor<B, 3> {
    let [_, m, _] = full.dims();
    let repeated = raw_diagonal.tanh().unsqueeze_dim::<3>(2).repeat_dim(2, m);
    let off_diagonal = off_diagonal_mask(&repeated);
    full.triu(1) + repeated.mask_fill(off_diagonal, 0.0)
}

fn diagonal<B: Backend>(r: &Tensor<B, 3>) -> Tensor<B, 2> {
    let kept = r.clone().mask_fill(off_diagonal_mask(r), 0.0);
    kept.sum_dim(2).squeeze_dim(2)
}

fn off_diagonal_mask<B: Backend>(like: &Tensor<B, 3>) -> Tensor<B, 3, Bool> {
    let [rows, m, _] = like.dims();
    Tensor::<B, 2, Bool>::diag_mask([m, m], 0, &like.device())
        .unsqueeze::<3>()
        .expand([rows, m, m])
}

/// `x M^T` row by row: `M x` for each row of `x`.
fn times_transposed<B: Backend>(x: Tensor<B, 2>, matrix: &Tensor<B, 3>) -> Tensor<B, 2> {
    times(x, matrix.clone().swap_dims(1, 2))
}

/// `x M` row by row. One matrix for all rows makes it a single product.
fn times<B: Backend>(x: Tensor<B, 2>, matrix: Tensor<B, 3>) -> Tensor<B, 2> {
    if matrix.dims()[0] == 1 {
        x.matmul(matrix.squeeze_dim(0))
    } else {
        x.unsqueeze_dim::<3>(1).matmul(matrix).squeeze_dim(1)
    }
}

/// How a [`Sylvester`] layer keeps the columns of its `Q` orthonormal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum BasisConfig {
    /// [`orthonormalize`] of a free `dim x columns` matrix (O-SNF).
    Orthogonal {
        /// `m`, from 1 to `dim`.
        columns: usize,
    },
    /// The product of [`householder`] reflections; `m = dim` (H-SNF).
    Householder {
        /// Number of reflections.
        reflections: usize,
    },
    /// The identity; `m = dim` (T-SNF, every other layer).
    Identity,
    /// The permutation that reverses the order; `m = dim` (T-SNF, the layers between).
    Reversal,
}

/// Configuration of a [`Sylvester`] layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SylvesterConfig {
    /// Number of columns.
    pub dim: usize,
    /// What `Q` is.
    pub basis: BasisConfig,
    /// Standard deviation of the entries of `R1` and of the strict upper triangle of `R2` at the
    /// start, before the tanh of the diagonal; 0 starts at the identity.
    #[serde(default = "default_init_std")]
    pub init_std: f64,
}

fn default_init_std() -> f64 {
    0.01
}

impl SylvesterConfig {
    /// A layer of `dim` columns that starts near the identity.
    pub fn new(dim: usize, basis: BasisConfig) -> Self {
        Self {
            dim,
            basis,
            init_std: default_init_std(),
        }
    }

    /// Draws free parameters of `Q` and `b` from `N(0, 1)` and those of `R1` and `R2` from
    /// `N(0, init_std^2)`, around 0 and, on the diagonal of `R2`, around 1.
    ///
    /// # Errors
    /// [`Error::Config`] where `dim`, `columns` or `reflections` is 0, `columns` larger than `dim`, or
    /// `init_std` negative or not finite.
    pub fn init<B: Backend>(
        &self,
        device: &B::Device,
        rng: &mut dyn Rng,
    ) -> Result<Sylvester<B>, Error> {
        let refuse =
            |field, actual, expected| Err(Error::config("sylvester", field, actual, expected));
        let dim = self.dim;
        if dim == 0 {
            return refuse("dim", 0, "at least 1".to_owned());
        }
        if !(self.init_std >= 0.0 && self.init_std.is_finite()) {
            let expected = "a finite number of at least 0";
            return Err(Error::config(
                "sylvester",
                "init_std",
                self.init_std,
                expected,
            ));
        }
        let (m, raw) = match self.basis {
            BasisConfig::Orthogonal { columns } => {
                if columns == 0 || columns > dim {
                    return refuse("columns", columns, format!("1 to {dim}"));
                }
                (columns, Some([dim, columns]))
            }
            BasisConfig::Householder { reflections: 0 } => {
                return refuse("reflections", 0, "at least 1".to_owned());
            }
            BasisConfig::Householder { reflections } => (dim, Some([reflections, dim])),
            BasisConfig::Identity | BasisConfig::Reversal => (dim, None),
        };
        let raw_basis = raw.map(|[a, b]| init::normal([1, a, b], 1.0, device, rng));
        let off_diagonal = (m > 1).then(|| init::normal([1, m, m], self.init_std, device, rng));
        let raw_diagonal_2 = init::normal_tensor::<B, 2>([1, m], self.init_std, device, rng);
        Ok(Sylvester {
            raw_basis,
            off_diagonal,
            raw_diagonal_1: init::normal([1, m], self.init_std, device, rng),
            raw_diagonal_2: Param::from_tensor(raw_diagonal_2 + 1.0),
            b: init::normal([1, m], 1.0, device, rng),
            basis: self.basis,
            dim,
        })
    }
}

/// A [Sylvester](apply) layer with one set of trained parameters.
#[derive(Module, Debug)]
pub struct Sylvester<B: Backend> {
    /// What `Q` is computed from: `[1, dim, m]` or `[1, reflections, dim]`.
    raw_basis: Option<Param<Tensor<B, 3>>>,
    /// `[1, m, m]`: `R1` above the diagonal, the transpose of `R2` below it. None where `m = 1`.
    off_diagonal: Option<Param<Tensor<B, 3>>>,
    /// `[1, m]`, before the tanh.
    raw_diagonal_1: Param<Tensor<B, 2>>,
    /// `[1, m]`, before the tanh.
    raw_diagonal_2: Param<Tensor<B, 2>>,
    /// `[1, m]`.
    b: Param<Tensor<B, 2>>,
    #[module(skip)]
    basis: BasisConfig,
    dim: usize,
}

impl<B: Backend> Sylvester<B> {
    /// The parameters of the map, with their constraints met.
    pub fn parameters(&self) -> Parameters<B> {
        let basis = match (self.basis, self.raw_basis.as_ref()) {
            (BasisConfig::Orthogonal { .. }, Some(raw)) => {
                Basis::Columns(orthonormalize(raw.val()))
            }
            (BasisConfig::Householder { .. }, Some(v)) => Basis::Columns(householder(v.val())),
            (BasisConfig::Reversal, _) => Basis::Reversal,
            _ => Basis::Identity,
        };
        let (d1, d2) = (self.raw_diagonal_1.val(), self.raw_diagonal_2.val());
        let full = match &self.off_diagonal {
            Some(full) => full.val(),
            None => d1.clone().unsqueeze_dim::<3>(2).zeros_like(),
        };
        Parameters {
            basis,
            r1: upper_triangular(full.clone(), d1),
            r2: upper_triangular(full.swap_dims(1, 2), d2),
            b: self.b.val(),
        }
    }

    fn invert(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> (Mapped<B>, usize) {
        assert_ok(self.check(&y, context.as_ref()));
        invert(y, &self.parameters())
    }
}

impl<B: Backend> Bijector<B> for Sylvester<B> {
    fn name(&self) -> &'static str {
        "sylvester"
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&x, context.as_ref()));
        apply(x, &self.parameters())
    }
}

impl<B: Backend> Invert<B> for Sylvester<B> {
    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        self.invert(y, context).0
    }

    fn inverse_with_report(
        &self,
        y: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (Mapped<B>, InverseReport) {
        let (mapped, passes) = self.invert(y.clone(), context.clone());
        let residual = residual(self.forward(mapped.value.clone(), context), y);
        (mapped, InverseReport { passes, residual })
    }
}
