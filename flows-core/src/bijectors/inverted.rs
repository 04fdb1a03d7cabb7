//! A layer with its two directions exchanged.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use core::marker::PhantomData;

use crate::bijector::{Bijector, InverseReport, Invert, Mapped};

/// `forward` is the inverse of the layer inside, and the reverse.
///
/// A MADE-masked layer is fast in its forward direction; inverted, it is fast the other way.
#[derive(Module, Debug)]
pub struct Inverted<B: Backend, L> {
    layer: L,
    backend: PhantomData<B>,
}

impl<B: Backend, L: Invert<B>> Inverted<B, L> {
    /// Flips `layer`.
    pub fn new(layer: L) -> Self {
        Self {
            layer,
            backend: PhantomData,
        }
    }

    /// The layer inside, in its own orientation.
    pub fn layer(&self) -> &L {
        &self.layer
    }
}

impl<B: Backend, L: Invert<B>> Bijector<B> for Inverted<B, L> {
    fn name(&self) -> &'static str {
        self.layer.name()
    }

    fn dim(&self) -> usize {
        self.layer.dim()
    }

    fn context_dim(&self) -> usize {
        self.layer.context_dim()
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        self.layer.inverse_and_log_det(x, context)
    }

    fn forward(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        self.layer.inverse(x, context)
    }

    fn resample_noise(&mut self, seed: u64) {
        self.layer.resample_noise(seed);
    }
}

impl<B: Backend, L: Invert<B>> Invert<B> for Inverted<B, L> {
    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        self.layer.forward_and_log_det(y, context)
    }

    fn inverse(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        self.layer.forward(y, context)
    }

    fn inverse_with_report(
        &self,
        y: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (Mapped<B>, InverseReport) {
        let mapped = self.layer.forward_and_log_det(y.clone(), context.clone());
        // The residual of this direction is that of the layer's own inverse.
        let (back, report) = self
            .layer
            .inverse_with_report(mapped.value.clone(), context);
        let residual = crate::bijector::residual(back.value, y);
        let residual = residual.max(report.residual);
        (
            mapped,
            InverseReport {
                passes: 1,
                residual,
            },
        )
    }
}
