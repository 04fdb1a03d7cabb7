//! A layer with its two directions exchanged.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use core::marker::PhantomData;

use crate::bijector::{Bijector, Invert, Mapped};
use crate::domain::Interval;
use crate::error::Error;
use crate::visit::LayerVisit;

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

    /// The layer inside.
    pub fn into_layer(self) -> L {
        self.layer
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

    fn domain(&self) -> Vec<Interval> {
        self.layer.inverse_domain()
    }

    fn image(&self, of: &[Interval]) -> Result<Vec<Interval>, Error> {
        self.layer.inverse_image(of)
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        self.layer.inverse_and_log_det(x, context)
    }

    fn forward(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        self.layer.inverse(x, context)
    }

    fn visit_layers(&mut self, visit: &mut LayerVisit<B>) {
        self.layer.visit_layers_inverse(visit);
    }
}

impl<B: Backend, L: Invert<B>> Invert<B> for Inverted<B, L> {
    fn inverse_domain(&self) -> Vec<Interval> {
        self.layer.domain()
    }

    fn inverse_image(&self, of: &[Interval]) -> Result<Vec<Interval>, Error> {
        self.layer.image(of)
    }

    fn visit_layers_inverse(&mut self, visit: &mut LayerVisit<B>) {
        self.layer.visit_layers(visit);
    }

    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        self.layer.forward_and_log_det(y, context)
    }

    fn inverse(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        self.layer.forward(y, context)
    }
}
