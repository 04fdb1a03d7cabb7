//! Maps whose parameters may differ from row to row.

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Tensor, backend::Backend};
use rand::Rng;

use crate::bijector::Mapped;
use crate::error::Error;

/// An invertible map by its raw parameters, any finite numbers, which may differ from row to row.
///
/// Where they come from is not its business: `Conditioned` computes them from the context. The configurations of
/// layers with a few trained parameters implement it.
pub trait RowMap<B: Backend>: Module<B> + ModuleDisplay + 'static {
    /// Name of the map, used in error messages.
    fn name(&self) -> &'static str;

    /// Number of columns it takes and gives.
    fn dim(&self) -> usize;

    /// The raw parameters of a map near the identity, drawn as those of the layer with trained ones.
    ///
    /// # Errors
    /// [`Error::Config`] where the configuration cannot be built.
    fn start(&self, rng: &mut dyn Rng) -> Result<Vec<f64>, Error>;

    /// Maps `x`, with `log |det|` in nats.
    ///
    /// # Shapes
    /// - `raw`: `[batch, count]`, `x`: `[batch, dim]` with at least one row
    fn forward(&self, raw: Tensor<B, 2>, x: Tensor<B, 2>) -> Mapped<B>;

    /// Maps `y` back, with the evaluations that it took.
    ///
    /// # Shapes
    /// As in [`forward`](Self::forward).
    fn inverse(&self, raw: Tensor<B, 2>, y: Tensor<B, 2>) -> (Mapped<B>, usize);
}
