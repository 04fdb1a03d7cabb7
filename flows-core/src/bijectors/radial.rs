//! Radial flows: contraction or expansion around a point.
//!
//! Rezende & Mohamed, *Variational Inference with Normalizing Flows*, arXiv:1505.05770,
//! equation 14 and appendix A.2.
//!
//! The free functions take parameters per row, as an amortized posterior has them;
//! [`Radial`] is the layer with one set of trained parameters.

use burn::module::{Module, Param};
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::row_map::RowMap;
use crate::bijector::{Bijector, Invert, Mapped, assert_ok, check_shapes};
use crate::error::{Error, check_not_negative};
use crate::init;
use crate::magnitude::magnitude;
use crate::nn::{columns, scattered};
use crate::softplus::{softplus, softplus_inverse};
use crate::solve::without_graph;

/// `value = z + beta (z - z_0) / (alpha + r)`, with `r = |z - z_0|`, `alpha = softplus(raw_alpha)`
/// and `beta = -alpha + softplus(raw_beta)`.
///
/// As `alpha > 0` and `q = alpha + beta > 0`, the map is invertible. In these letters (equation 14
/// and appendix A.2 of arXiv:1505.05770)
///
/// `value = z_0 + (z - z_0) (r + q) / (r + alpha)`,
/// `log |det| = (dim - 1) log((r + q) / (r + alpha)) + log((r^2 + 2 alpha r + alpha q) / (r + alpha)^2)`,
///
/// sums of positive terms, in which nothing cancels.
///
/// # Shapes
/// - `z`: `[batch, dim]`
/// - `z_0`: `[batch, dim]`, or `[1, dim]` for one set of parameters
/// - `raw_alpha`, `raw_beta`: `[batch]` or `[1]`
///
/// # Panics
/// With the message of [`Error::Dimension`] where `z` has other columns than `z_0`.
pub fn apply<B: Backend>(
    z: Tensor<B, 2>,
    z_0: Tensor<B, 2>,
    raw_alpha: Tensor<B, 1>,
    raw_beta: Tensor<B, 1>,
) -> Mapped<B> {
    let well = Well::new(&z, z_0, raw_alpha, raw_beta);
    let offset = z - well.z_0.clone();
    let r = norm(offset.clone());
    let factor = (r.clone() + well.q.clone()) / (r.clone() + well.alpha.clone());
    Mapped {
        log_det: well.log_det(r, offset.dims()[1]),
        value: well.z_0 + offset * factor,
    }
}

/// The inverse of [`apply`].
///
/// The radius `rho = |y - z_0| = r (r + q) / (r + alpha)` increases in `r`, and
/// `r^2 + (q - rho) r = rho alpha` is quadratic: its positive root is written down, no iteration is
/// needed. One differentiable Newton step from it gives the gradients of the implicit function.
///
/// # Shapes
/// As [`apply`].
///
/// # Panics
/// As [`apply`].
pub fn invert<B: Backend>(
    y: Tensor<B, 2>,
    z_0: Tensor<B, 2>,
    raw_alpha: Tensor<B, 1>,
    raw_beta: Tensor<B, 1>,
) -> Mapped<B> {
    let well = Well::new(&y, z_0, raw_alpha, raw_beta);
    let offset = y - well.z_0.clone();
    let rho = norm(offset.clone());
    let r = well.radius(rho);
    let factor = (r.clone() + well.alpha.clone()) / (r.clone() + well.q.clone());
    Mapped {
        log_det: well.log_det(r, offset.dims()[1]).neg(),
        value: well.z_0 + offset * factor,
    }
}

/// Parameters in the form that both directions use; `z_0 [batch or 1, dim]`, others
/// `[batch or 1, 1]`.
struct Well<B: Backend> {
    z_0: Tensor<B, 2>,
    alpha: Tensor<B, 2>,
    /// `alpha + beta`.
    q: Tensor<B, 2>,
}

impl<B: Backend> Well<B> {
    #[track_caller]
    fn new(
        z: &Tensor<B, 2>,
        z_0: Tensor<B, 2>,
        raw_alpha: Tensor<B, 1>,
        raw_beta: Tensor<B, 1>,
    ) -> Self {
        assert_ok(check_shapes("radial", z_0.dims()[1], 0, z, None));
        Self {
            z_0,
            alpha: softplus(raw_alpha).unsqueeze_dim(1),
            q: softplus(raw_beta).unsqueeze_dim(1),
        }
    }

    /// `r^2 + 2 alpha r + alpha q`, which is `(r + alpha)^2 drho/dr`.
    fn steepness(&self, r: Tensor<B, 2>) -> Tensor<B, 2> {
        r.clone() * (r + self.alpha.clone() * 2.0) + self.alpha.clone() * self.q.clone()
    }

    fn log_det(&self, r: Tensor<B, 2>, dim: usize) -> Tensor<B, 1> {
        let outer = (r.clone() + self.alpha.clone()).log();
        let across = (r.clone() + self.q.clone()).log() - outer.clone();
        let along = self.steepness(r).log() - outer * 2.0;
        (across * (dim as f64 - 1.0) + along).squeeze_dim(1)
    }

    /// The `r` with `r (r + q) / (r + alpha) = rho`.
    fn radius(&self, rho: Tensor<B, 2>) -> Tensor<B, 2> {
        let fixed = Self {
            z_0: without_graph(self.z_0.clone()),
            alpha: without_graph(self.alpha.clone()),
            q: without_graph(self.q.clone()),
        };
        let start = {
            let rho = without_graph(rho.clone());
            let excess = rho.clone() - fixed.q.clone();
            let product = rho * fixed.alpha.clone();
            // Half the sum of two positive terms; the other root's size is product / larger.
            let discriminant = excess.clone().square() + product.clone() * 4.0;
            let larger = (magnitude(excess.clone()) + discriminant.sqrt()) * 0.5;
            let smaller = product / larger.clone().clamp_min(SMALLEST_RADIUS);
            smaller.mask_where(excess.greater_equal_elem(0.0), larger)
        };
        let outer = start.clone() + self.alpha.clone();
        let value = start.clone() * (start.clone() + self.q.clone()) / outer - rho;
        let slope = fixed.steepness(start.clone()) / (start.clone() + fixed.alpha).square();
        (start - value / slope).clamp_min(0.0)
    }
}

/// Far below the rounding of any radius, and its square is a normal f32.
const SMALLEST_RADIUS: f64 = 1e-18;

/// `|offset|` of each row, `[batch, 1]`, with gradient 0 at the centre, where it has a kink.
fn norm<B: Backend>(offset: Tensor<B, 2>) -> Tensor<B, 2> {
    let squared = offset.square().sum_dim(1);
    squared.clamp_min(SMALLEST_RADIUS * SMALLEST_RADIUS).sqrt()
}

/// Configuration of a [`Radial`] layer.
#[derive(Module, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RadialConfig {
    /// Number of columns.
    #[module(skip)]
    pub dim: usize,
    /// Standard deviation of `raw_beta` around the identity at the start; 0 starts at the identity.
    #[serde(default = "default_init_std")]
    #[module(skip)]
    pub init_std: f64,
}

fn default_init_std() -> f64 {
    0.01
}

impl RadialConfig {
    /// A layer of `dim` columns that starts near the identity.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            init_std: default_init_std(),
        }
    }

    fn validate(&self) -> Result<(), Error> {
        if self.dim == 0 {
            return Err(Error::config("radial", "dim", 0, "at least 1"));
        }
        check_not_negative("radial", "init_std", self.init_std)
    }

    /// Draws `z_0 ~ N(0, I)`, sets `alpha = 1`, and draws `beta` near 0.
    ///
    /// # Errors
    /// [`Error::Config`] where `dim` is 0, or `init_std` negative or not finite.
    pub fn init<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<Radial<B>, Error> {
        let options = &options.into();
        self.validate()?;
        let unit = softplus_inverse(1.0);
        let noise = init::normal_tensor::<B, 1>([1], self.init_std, options.clone(), rng);
        Ok(Radial {
            z_0: init::normal([1, self.dim], 1.0, options.clone(), rng),
            raw_alpha: init::constant([1], unit, options.clone()),
            raw_beta: Param::from_tensor(noise + unit),
        })
    }
}

/// A [radial](apply) layer with one set of trained parameters. Both directions take one pass.
#[derive(Module, Debug)]
pub struct Radial<B: Backend> {
    /// `[1, dim]`.
    z_0: Param<Tensor<B, 2>>,
    /// `[1]`.
    raw_alpha: Param<Tensor<B, 1>>,
    /// `[1]`.
    raw_beta: Param<Tensor<B, 1>>,
}

impl<B: Backend> Bijector<B> for Radial<B> {
    fn name(&self) -> &'static str {
        "radial"
    }

    fn dim(&self) -> usize {
        self.z_0.dims()[1]
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&x, context.as_ref()));
        let (alpha, beta) = (self.raw_alpha.val(), self.raw_beta.val());
        apply(x, self.z_0.val(), alpha, beta)
    }
}

impl<B: Backend> Invert<B> for Radial<B> {
    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&y, context.as_ref()));
        let (alpha, beta) = (self.raw_alpha.val(), self.raw_beta.val());
        invert(y, self.z_0.val(), alpha, beta)
    }
}

/// Raw parameters: `z_0`, then `alpha` and `beta` before their constraints.
impl<B: Backend> RowMap<B> for RadialConfig {
    fn name(&self) -> &'static str {
        "radial"
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn start(&self, rng: &mut dyn Rng) -> Result<Vec<f64>, Error> {
        self.validate()?;
        let unit = softplus_inverse(1.0);
        let beta = unit + scattered(1, self.init_std, rng)[0];
        Ok([scattered(self.dim, 1.0, rng), vec![unit, beta]].concat())
    }

    fn forward(&self, raw: Tensor<B, 2>, x: Tensor<B, 2>) -> Mapped<B> {
        let [alpha, beta] = [0, 1].map(|k| columns(&raw, self.dim + k, 1).squeeze_dim(1));
        apply(x, columns(&raw, 0, self.dim), alpha, beta)
    }

    fn inverse(&self, raw: Tensor<B, 2>, y: Tensor<B, 2>) -> (Mapped<B>, usize) {
        let [alpha, beta] = [0, 1].map(|k| columns(&raw, self.dim + k, 1).squeeze_dim(1));
        (invert(y, columns(&raw, 0, self.dim), alpha, beta), 1)
    }
}
