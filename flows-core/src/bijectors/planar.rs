//! Planar flows: one tanh ridge.
//!
//! Rezende & Mohamed, *Variational Inference with Normalizing Flows*, arXiv:1505.05770,
//! equations 10 to 12 and appendix A.1.
//!
//! The free functions take parameters per row, as an amortized posterior has them;
//! [`Planar`] is the layer with one set of trained parameters.

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
use crate::softplus::{softplus, softplus_inverse};
use crate::solve::{Root, affine_tanh_root};

/// Below this `|w|^2` the constraint of [`apply`] fades out instead of dividing by zero.
const SMALLEST_SQUARED_NORM: f64 = 1e-12;

/// `value = z + u^ tanh(w.z + b)`, with `u^ = u + (softplus(w.u) - 1 - w.u) w / |w|^2`.
///
/// As `w.u^ = softplus(w.u) - 1 > -1`, the map is invertible, and
/// `log |det| = log(1 + (1 - tanh^2(w.z + b)) w.u^)` (equations 10 to 12 and appendix A.1 of
/// arXiv:1505.05770).
///
/// For `|w| < 1e-6` the correction of `u` is scaled down by `|w|^2 / 1e-12`, so that `w = 0` is the
/// translation by `u tanh(b)`; invertibility then needs `|u| < 1e6`.
///
/// # Shapes
/// - `z`: `[batch, dim]`
/// - `u`, `w`: `[batch, dim]`, or `[1, dim]` for one set of parameters
/// - `b`: `[batch]` or `[1]`
///
/// # Panics
/// With the message of [`Error::Dimension`] where `z` has other columns than `w`.
pub fn apply<B: Backend>(
    z: Tensor<B, 2>,
    u: Tensor<B, 2>,
    w: Tensor<B, 2>,
    b: Tensor<B, 1>,
) -> Mapped<B> {
    let ridge = Ridge::new(&z, u, w, b);
    let h = (ridge.project(&z) + ridge.b.clone()).tanh();
    let log_det = ridge.log_det(h.clone());
    Mapped {
        value: z + ridge.u_hat * h,
        log_det,
    }
}

/// The inverse of [`apply`], with the iterations it took.
///
/// With `alpha = w.z`, `alpha + (w.u^) tanh(alpha + b) = w.y` increases in `alpha`: a root find in one
/// variable per row, to machine precision. Gradients are those of the implicit function.
///
/// # Shapes
/// As [`apply`].
///
/// # Panics
/// As [`apply`].
pub fn invert<B: Backend>(
    y: Tensor<B, 2>,
    u: Tensor<B, 2>,
    w: Tensor<B, 2>,
    b: Tensor<B, 1>,
) -> (Mapped<B>, usize) {
    let ridge = Ridge::new(&y, u, w, b);
    let target = ridge.project(&y);
    let gain = ridge.slope_at_centre.clone() - 1.0;
    let one = gain.ones_like();
    let Root { x, iterations } = affine_tanh_root(gain, one, ridge.b.clone(), target);
    let h = (x + ridge.b.clone()).tanh();
    let log_det = ridge.log_det(h.clone()).neg();
    let value = y - ridge.u_hat * h;
    (Mapped { value, log_det }, iterations)
}

/// Parameters in the form that both directions use; `[batch or 1, dim]` and `[batch or 1, 1]`.
struct Ridge<B: Backend> {
    u_hat: Tensor<B, 2>,
    w: Tensor<B, 2>,
    b: Tensor<B, 2>,
    /// `1 + w.u^`, the determinant where the tanh is steepest.
    slope_at_centre: Tensor<B, 2>,
}

impl<B: Backend> Ridge<B> {
    #[track_caller]
    fn new(z: &Tensor<B, 2>, u: Tensor<B, 2>, w: Tensor<B, 2>, b: Tensor<B, 1>) -> Self {
        assert_ok(check_shapes("planar", w.dims()[1], 0, z, None));
        let wu = (w.clone() * u.clone()).sum_dim(1);
        let squared_norm = w.clone().square().sum_dim(1);
        let divisor = squared_norm.clone().clamp_min(SMALLEST_SQUARED_NORM);
        // softplus(w.u) - w.u = softplus(-w.u), which does not cancel for a large w.u.
        let correction = softplus(wu.clone().neg()) - 1.0;
        let u_hat = u + w.clone() * (correction / divisor.clone());
        // 1 + w.u^ is softplus(w.u) wherever the constraint holds in full: `full` is exactly 1.
        let full = squared_norm / divisor;
        let slope_at_centre = softplus(wu.clone()) * full.clone() + (full.neg() + 1.0) * (wu + 1.0);
        Self {
            u_hat,
            w,
            b: b.unsqueeze_dim(1),
            slope_at_centre,
        }
    }

    fn project(&self, z: &Tensor<B, 2>) -> Tensor<B, 2> {
        (z.clone() * self.w.clone()).sum_dim(1)
    }

    /// `log(1 + (1 - h^2) w.u^)`, as `log(h^2 + (1 - h^2)(1 + w.u^))`: nothing cancels.
    fn log_det(&self, h: Tensor<B, 2>) -> Tensor<B, 1> {
        let h2 = h.square();
        let det = h2.clone() + (h2.neg() + 1.0) * self.slope_at_centre.clone();
        det.log().squeeze_dim(1)
    }
}

/// Configuration of a [`Planar`] layer.
#[derive(Module, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanarConfig {
    /// Number of columns.
    #[module(skip)]
    pub dim: usize,
    /// Standard deviation of each entry of `u^` at the start; 0 starts at the identity.
    #[serde(default = "default_init_std")]
    #[module(skip)]
    pub init_std: f64,
}

fn default_init_std() -> f64 {
    0.01
}

impl PlanarConfig {
    /// A layer of `dim` columns that starts near the identity.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            init_std: default_init_std(),
        }
    }

    fn validate(&self) -> Result<(), Error> {
        if self.dim == 0 {
            return Err(Error::config("planar", "dim", 0, "at least 1"));
        }
        check_not_negative("planar", "init_std", self.init_std)
    }

    /// Draws `w ~ N(0, 1/dim)` and `b ~ N(0, 1)`, and `u` near the point where `u^` is zero.
    ///
    /// A small `u` would not do: `u = 0` makes `u^ = (ln 2 - 1) w / |w|^2`, far from the identity.
    ///
    /// # Errors
    /// [`Error::Config`] where `dim` is 0, or `init_std` negative or not finite.
    pub fn init<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<Planar<B>, Error> {
        let options = &options.into();
        self.validate()?;
        let w = init::normal(
            [1, self.dim],
            (self.dim as f64).powf(-0.5),
            options.clone(),
            rng,
        );
        let noise = init::normal_tensor([1, self.dim], self.init_std, options.clone(), rng);
        let squared_norm = w.val().square().sum_dim(1).clamp_min(SMALLEST_SQUARED_NORM);
        let neutral = w.val() * softplus_inverse(1.0) / squared_norm;
        Ok(Planar {
            u: Param::from_tensor((noise + neutral).detach()),
            w,
            b: init::normal([1], 1.0, options.clone(), rng),
        })
    }
}

/// A [planar](apply) layer with one set of trained parameters.
#[derive(Module, Debug)]
pub struct Planar<B: Backend> {
    /// `[1, dim]`.
    u: Param<Tensor<B, 2>>,
    /// `[1, dim]`.
    w: Param<Tensor<B, 2>>,
    /// `[1]`.
    b: Param<Tensor<B, 1>>,
}

impl<B: Backend> Planar<B> {
    fn invert(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> (Mapped<B>, usize) {
        assert_ok(self.check(&y, context.as_ref()));
        invert(y, self.u.val(), self.w.val(), self.b.val())
    }
}

impl<B: Backend> Bijector<B> for Planar<B> {
    fn name(&self) -> &'static str {
        "planar"
    }

    fn dim(&self) -> usize {
        self.w.dims()[1]
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&x, context.as_ref()));
        apply(x, self.u.val(), self.w.val(), self.b.val())
    }
}

impl<B: Backend> Invert<B> for Planar<B> {
    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        self.invert(y, context).0
    }

    fn inverse_and_passes(
        &self,
        y: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (Mapped<B>, usize) {
        let (mapped, iterations) = self.invert(y, context);
        // The last, differentiable step evaluates the ridge once more.
        (mapped, iterations + 1)
    }
}

/// Raw parameters: `u`, `w`, `b`.
impl<B: Backend> RowMap<B> for PlanarConfig {
    fn name(&self) -> &'static str {
        "planar"
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn start(&self, rng: &mut dyn Rng) -> Result<Vec<f64>, Error> {
        self.validate()?;
        let w = scattered(self.dim, (self.dim as f64).powf(-0.5), rng);
        let norm: f64 = w.iter().map(|w| w * w).sum();
        let neutral = softplus_inverse(1.0) / norm.max(SMALLEST_SQUARED_NORM);
        let noise = scattered(self.dim, self.init_std, rng);
        let u = w.iter().zip(noise).map(|(w, noise)| neutral * w + noise);
        let u: Vec<f64> = u.collect();
        Ok([u, w, scattered(1, 1.0, rng)].concat())
    }

    fn forward(&self, raw: Tensor<B, 2>, x: Tensor<B, 2>) -> Mapped<B> {
        let [u, w] = [0, self.dim].map(|from| columns(&raw, from, self.dim));
        apply(x, u, w, columns(&raw, 2 * self.dim, 1).squeeze_dim(1))
    }

    fn inverse(&self, raw: Tensor<B, 2>, y: Tensor<B, 2>) -> (Mapped<B>, usize) {
        let [u, w] = [0, self.dim].map(|from| columns(&raw, from, self.dim));
        let b = columns(&raw, 2 * self.dim, 1).squeeze_dim(1);
        let (mapped, iterations) = invert(y, u, w, b);
        (mapped, iterations + 1)
    }
}
