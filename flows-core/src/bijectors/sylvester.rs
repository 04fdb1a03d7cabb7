//! Sylvester flows: planar flows with as many ridges as columns of an orthonormal basis.
//!
//! van den Berg et al., *Sylvester Normalizing Flows for Variational Inference*, arXiv:1803.05649.
//!
//! The free functions take [`Parameters`] per row, as an amortized posterior has them;
//! [`Sylvester`] is the layer with one set of trained parameters.

mod basis;

pub use basis::{Basis, householder, orthonormalize, reflections};
use basis::{spread, times, times_transposed};

use burn::module::{Module, Param};
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::row_map::RowMap;
use crate::bijector::{Bijector, Invert, Mapped, assert_ok, check_shapes};
use crate::error::{Error, check_not_negative};
use crate::init;
use crate::nn::{columns, scattered};
use crate::solve::affine_tanh_root;

/// What a Sylvester map is made of: of each row, of all rows, or of every run of equally many rows.
///
/// With a leading size of `sets`, which divides the batch, the first `batch / sets` rows have the first
/// set, the next ones the second, and so on. Rows that share a set cost one matrix product together.
#[derive(Debug, Clone)]
pub struct Parameters<B: Backend> {
    /// `Q`, `dim x m` with orthonormal columns.
    pub basis: Basis<B>,
    /// `R1` without its diagonal, `[sets, m, m]`, strictly upper triangular.
    pub r1: Tensor<B, 3>,
    /// The diagonal of `R1`, `[sets, m]`. The map is invertible where every `R1_ii R2_ii > -1`, which
    /// a tanh of both makes sure of (arXiv:1803.05649, section 3).
    pub diagonal_1: Tensor<B, 2>,
    /// The transpose of `R2` without its diagonal, `[sets, m, m]`, strictly lower triangular.
    pub r2_transposed: Tensor<B, 3>,
    /// The diagonal of `R2`, `[sets, m]`.
    pub diagonal_2: Tensor<B, 2>,
    /// `b`, `[sets, m]`.
    pub b: Tensor<B, 2>,
}

impl<B: Backend> Parameters<B> {
    /// From whole matrices; what they hold below their diagonals is left out.
    ///
    /// # Shapes
    /// - `r1`, `r2`: `[sets, m, m]`, `b`: `[sets, m]`
    pub fn from_matrices(
        basis: Basis<B>,
        r1: Tensor<B, 3>,
        r2: Tensor<B, 3>,
        b: Tensor<B, 2>,
    ) -> Self {
        let diagonal = |r: &Tensor<B, 3>| -> Tensor<B, 2> {
            (r.clone() * basis::identity(r)).sum_dim(2).squeeze_dim(2)
        };
        Self {
            diagonal_1: diagonal(&r1),
            diagonal_2: diagonal(&r2),
            r1: r1.triu(1),
            r2_transposed: r2.triu(1).swap_dims(1, 2),
            basis,
            b,
        }
    }

    /// With the parts of `full` above and below its diagonal as those of `R1` and of the transpose of
    /// `R2`.
    ///
    /// # Shapes
    /// - `full`: `[sets, m * m]`, row by row; `diagonals` and `b`: `[sets, m]`
    pub fn from_square(
        basis: Basis<B>,
        full: Tensor<B, 2>,
        [diagonal_1, diagonal_2]: [Tensor<B, 2>; 2],
        b: Tensor<B, 2>,
    ) -> Self {
        let [sets, m] = b.dims();
        // Products with rows of zeros and ones: on the CPU backends several times faster than masks.
        let ones = Tensor::<B, 2>::ones([m, m], (&full.device(), full.dtype()));
        let above = ones.triu(1);
        let below = above.clone().transpose();
        let part = |ones: Tensor<B, 2>| -> Tensor<B, 3> {
            (full.clone() * ones.reshape([1, m * m])).reshape([sets, m, m])
        };
        Self {
            r1: part(above),
            r2_transposed: part(below),
            diagonal_1,
            diagonal_2,
            basis,
            b,
        }
    }

    /// `tanh(R2 v + b)` of each row.
    fn hidden(&self, v: Tensor<B, 2>) -> Tensor<B, 2> {
        let rows = v.dims()[0];
        let on_diagonal = v.clone() * spread(self.diagonal_2.clone(), rows);
        let sum = times(v, self.r2_transposed.clone()) + on_diagonal;
        (sum + spread(self.b.clone(), rows)).tanh()
    }

    /// `Q R1 h` of each row.
    fn shift(&self, h: Tensor<B, 2>) -> Tensor<B, 2> {
        let rows = h.dims()[0];
        let on_diagonal = h.clone() * spread(self.diagonal_1.clone(), rows);
        self.basis
            .embed(times_transposed(h, &self.r1) + on_diagonal)
    }

    /// `log(1 + (1 - h^2) R1_ii R2_ii)` summed, as `log(h^2 + (1 - h^2)(1 + R1_ii R2_ii))`.
    fn log_det(&self, h: Tensor<B, 2>) -> Tensor<B, 1> {
        let at_centre = self.diagonal_1.clone() * self.diagonal_2.clone() + 1.0;
        let at_centre = spread(at_centre, h.dims()[0]);
        let h2 = h.square();
        let det = h2.clone() + (h2.neg() + 1.0) * at_centre;
        det.log().sum_dim(1).squeeze_dim(1)
    }
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
    check_dim(&z, parameters);
    let h = parameters.hidden(parameters.basis.project(z.clone()));
    Mapped {
        log_det: parameters.log_det(h.clone()),
        value: z + parameters.shift(h),
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
    check_dim(&y, parameters);
    let c = parameters.basis.project(y.clone());
    let [rows, m] = c.dims();
    let r2 = parameters.r2_transposed.clone().swap_dims(1, 2);
    let mut evaluations = 0;
    // Values of v and of h = tanh(R2 v + b) for the units found so far, last unit last.
    let mut tail: Option<(Tensor<B, 2>, Tensor<B, 2>)> = None;
    for i in (0..m).rev() {
        let unit = |x: &Tensor<B, 2>| spread(x.clone().narrow(1, i, 1), rows);
        let (mut shift, mut target) = (unit(&parameters.b), unit(&c));
        if let Some((v, h)) = &tail {
            let rest = |r: &Tensor<B, 3>| {
                let row = r.clone().narrow(1, i, 1).narrow(2, i + 1, m - 1 - i);
                spread(row.squeeze_dim::<2>(1), rows)
            };
            shift = shift + (rest(&r2) * v.clone()).sum_dim(1);
            target = target - (rest(&parameters.r1) * h.clone()).sum_dim(1);
        }
        let rate = unit(&parameters.diagonal_2);
        let slope = unit(&parameters.diagonal_1);
        let root = affine_tanh_root(slope, rate.clone(), shift.clone(), target);
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
        log_det: parameters.log_det(h.clone()).neg(),
        value: y - parameters.shift(h),
    };
    (mapped, evaluations.div_ceil(m))
}

#[track_caller]
fn check_dim<B: Backend>(z: &Tensor<B, 2>, parameters: &Parameters<B>) {
    let dim = parameters.basis.dim(parameters.b.dims()[1]);
    assert_ok(check_shapes("sylvester", dim, 0, z, None));
}

/// How a [`Sylvester`] layer keeps the columns of its `Q` orthonormal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "kebab-case", deny_unknown_fields)]
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
crate::one_key!(BasisConfig);

/// Configuration of a [`Sylvester`] layer.
#[derive(Module, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SylvesterConfig {
    /// Number of columns.
    #[module(skip)]
    pub dim: usize,
    /// What `Q` is.
    #[module(skip)]
    pub basis: BasisConfig,
    /// Standard deviation of the entries of `R1` and of the strict upper triangle of `R2` at the
    /// start, before the tanh of the diagonal; 0 starts at the identity.
    #[serde(default = "default_init_std")]
    #[module(skip)]
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

    /// `m`, and the shape of what `Q` is computed from.
    fn sizes(&self) -> Result<(usize, Option<[usize; 2]>), Error> {
        let refuse =
            |field, actual, expected| Err(Error::config("sylvester", field, actual, expected));
        let dim = self.dim;
        if dim == 0 {
            return refuse("dim", 0, "at least 1".to_owned());
        }
        check_not_negative("sylvester", "init_std", self.init_std)?;
        Ok(match self.basis {
            BasisConfig::Orthogonal { columns } if columns == 0 || columns > dim => {
                return refuse("columns", columns, format!("1 to {dim}"));
            }
            BasisConfig::Orthogonal { columns } => (columns, Some([dim, columns])),
            BasisConfig::Householder { reflections: 0 } => {
                return refuse("reflections", 0, "at least 1".to_owned());
            }
            BasisConfig::Householder { reflections } => (dim, Some([reflections, dim])),
            BasisConfig::Identity | BasisConfig::Reversal => (dim, None),
        })
    }

    /// Draws free parameters of `Q` and `b` from `N(0, 1)` and those of `R1` and `R2` from
    /// `N(0, init_std^2)`, around 0 and, on the diagonal of `R2`, around 1.
    ///
    /// # Errors
    /// [`Error::Config`] where `dim`, `columns` or `reflections` is 0, `columns` larger than `dim`, or
    /// `init_std` negative or not finite.
    pub fn init<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<Sylvester<B>, Error> {
        let options = &options.into();
        let (m, raw) = self.sizes()?;
        let raw_basis = raw.map(|[a, b]| init::normal([1, a, b], 1.0, options.clone(), rng));
        let off_diagonal =
            (m > 1).then(|| init::normal([1, m, m], self.init_std, options.clone(), rng));
        let raw_diagonal_2 =
            init::normal_tensor::<B, 2>([1, m], self.init_std, options.clone(), rng);
        Ok(Sylvester {
            raw_basis,
            off_diagonal,
            raw_diagonal_1: init::normal([1, m], self.init_std, options.clone(), rng),
            raw_diagonal_2: Param::from_tensor(raw_diagonal_2 + 1.0),
            b: init::normal([1, m], 1.0, options.clone(), rng),
            basis: self.basis,
            dim: self.dim,
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
        let diagonals = [&self.raw_diagonal_1, &self.raw_diagonal_2].map(|d| d.val().tanh());
        let m = diagonals[0].dims()[1];
        let full = match &self.off_diagonal {
            Some(full) => full.val().reshape([1, m * m]),
            None => diagonals[0].zeros_like(),
        };
        Parameters::from_square(basis, full, diagonals, self.b.val())
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

    fn inverse_and_passes(
        &self,
        y: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (Mapped<B>, usize) {
        self.invert(y, context)
    }
}

impl SylvesterConfig {
    /// The parameters of each row from their raw numbers, with the constraints met.
    fn read<B: Backend>(&self, raw: &Tensor<B, 2>) -> Parameters<B> {
        let (m, of_basis) = self.sizes().expect("checked where the layer was made");
        let rows = raw.dims()[0];
        let block = |k: usize| columns(raw, m * m + k * m, m);
        let basis = of_basis.map(|[a, b]| columns(raw, m * m + 3 * m, a * b).reshape([rows, a, b]));
        let basis = match (self.basis, basis) {
            (BasisConfig::Orthogonal { .. }, Some(raw)) => Basis::Columns(orthonormalize(raw)),
            (BasisConfig::Householder { .. }, Some(v)) => reflections(v),
            (BasisConfig::Reversal, _) => Basis::Reversal,
            _ => Basis::Identity,
        };
        let diagonals = [block(0), block(1)].map(Tensor::tanh);
        Parameters::from_square(basis, columns(raw, 0, m * m), diagonals, block(2))
    }
}

/// Raw parameters: a square with `R1` above its diagonal and the transpose of `R2` below it, row by row; both
/// diagonals before their tanh; `b`; and what `Q` is computed from.
impl<B: Backend> RowMap<B> for SylvesterConfig {
    fn name(&self) -> &'static str {
        "sylvester"
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn start(&self, rng: &mut dyn Rng) -> Result<Vec<f64>, Error> {
        let (m, of_basis) = self.sizes()?;
        let mut start = scattered(m * m + 2 * m, self.init_std, rng);
        start[m * m + m..].iter_mut().for_each(|d| *d += 1.0);
        let of_basis = of_basis.map_or(0, |[a, b]| a * b);
        start.extend(scattered(m + of_basis, 1.0, rng));
        Ok(start)
    }

    fn forward(&self, raw: Tensor<B, 2>, x: Tensor<B, 2>) -> Mapped<B> {
        apply(x, &self.read(&raw))
    }

    fn inverse(&self, raw: Tensor<B, 2>, y: Tensor<B, 2>) -> (Mapped<B>, usize) {
        invert(y, &self.read(&raw))
    }
}
