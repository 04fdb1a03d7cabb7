//! Distributions over rows: the bases of flows, and flows themselves.

mod components;
mod diagonal_normal;
mod embedded;
mod gaussian_mixture;
mod mixture;
mod normal;
mod normal_mixture;
mod parametric;
mod student_t;
mod uniform;

pub use diagonal_normal::{DiagonalNormal, StandardNormalConfig};
pub use embedded::{Embedded, EmbeddingConfig};
pub use gaussian_mixture::GaussianMixture;
pub use mixture::Mixture;
pub use normal::{Covariance, Normal, NormalConfig};
pub use normal_mixture::{NormalMixture, NormalMixtureConfig};
pub use parametric::{Family, Parametric};
pub use student_t::{StudentT, StudentTConfig};
pub use uniform::{TorusConfig, Uniform, UniformConfig};

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Tensor, backend::Backend};
use rand::Rng;

use crate::bijector::check_context;
use crate::domain::Interval;
use crate::error::Error;
use crate::visit::LayerVisit;

/// A density that can be evaluated.
pub trait LogProb<B: Backend>: Module<B> + ModuleDisplay {
    /// Number of columns of a sample.
    fn dim(&self) -> usize;

    /// Number of context columns, 0 without context.
    fn context_dim(&self) -> usize {
        0
    }

    /// Where a sample may lie, one interval a column.
    fn support(&self) -> Vec<Interval> {
        vec![Interval::REALS; self.dim()]
    }

    /// `log p(x | context)` of each row, in nats.
    ///
    /// # Shapes
    /// - `x`: `[batch, dim]`, `context`: `[batch, context_dim]`; output `[batch]`
    ///
    /// # Panics
    /// With the message of the [`Error`] on wrong shapes.
    fn log_prob(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 1>;

    /// Hands a visit, which may bring rows of data along, to every layer inside; see [`LayerVisit`]. A
    /// distribution without layers keeps this default.
    fn visit_layers(&mut self, _visit: &mut LayerVisit<B>) {}
}

/// A distribution that can be sampled.
///
/// Randomness comes from a generator on the host, so that a seed gives the same sample on every
/// backend.
pub trait Sample<B: Backend>: Module<B> + ModuleDisplay {
    /// Draws `n` rows; with a context, one for each of its rows (`n` of them).
    ///
    /// # Shapes
    /// - `context`: `[n, context_dim]`; output `[n, dim]`
    fn sample(&self, n: usize, context: Option<Tensor<B, 2>>, rng: &mut dyn Rng) -> Tensor<B, 2>;

    /// Draws `n` rows together with their `log p` in nats, `[n, dim]` and `[n]`.
    fn sample_and_log_prob(
        &self,
        n: usize,
        context: Option<Tensor<B, 2>>,
        rng: &mut dyn Rng,
    ) -> (Tensor<B, 2>, Tensor<B, 1>);
}

/// Panics with the error's message where a context for `n` samples has another shape.
#[track_caller]
pub(crate) fn assert_sample_context<B: Backend>(
    name: &'static str,
    n: usize,
    context_dim: usize,
    context: Option<&Tensor<B, 2>>,
) {
    let checked: Result<(), Error> = check_context(name, n, context_dim, context);
    crate::bijector::assert_ok(checked);
}
