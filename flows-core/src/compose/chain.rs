//! Layers of one type, one after the other.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use core::marker::PhantomData;
use std::any::Any;

use crate::bijector::{Bijector, Invert, Mapped, assert_ok, context_for, shared_context_dim};
use crate::bijectors::{Autoregressive, Permutation};
use crate::conditioners::{AnyConditioner, Conditioner, Coupling};
use crate::domain::Interval;
use crate::error::Error;
use crate::fused::{self, Masked, Part};
use crate::nn::Made;
use crate::transforms::{Affine, AnyTransform, RqSpline, Transform};
use crate::visit::LayerVisit;

/// The composition `f_n o ... o f_1` of layers of one type; log-determinants add up.
///
/// A context goes to every layer that takes one. Layers of different types compose as
/// a [`Pair`](crate::bijectors::Pair), which nests.
#[derive(Module, Debug)]
pub struct Chain<B: Backend, L> {
    layers: Vec<L>,
    backend: PhantomData<B>,
}

impl<B: Backend, L: Bijector<B>> Chain<B, L> {
    /// Composes `layers`, the first one applied first.
    ///
    /// # Errors
    /// [`Error::Config`] without layers, where dimensions or context dimensions differ, and where a layer does not take
    /// what the one before gives.
    pub fn new(layers: Vec<L>) -> Result<Self, Error> {
        let Some(first) = layers.first() else {
            return Err(Error::config("chain", "layers", 0, "at least one layer"));
        };
        let (dim, mut context_dim) = (first.dim(), 0);
        for layer in &layers {
            context_dim = shared_context_dim("chain", context_dim, layer.context_dim())?;
            if layer.dim() != dim {
                return Err(Error::config("chain", "dim", layer.dim(), dim.to_string()));
            }
        }
        let chain = Self {
            layers,
            backend: PhantomData,
        };
        chain.image(&chain.domain())?;
        Ok(chain)
    }

    /// The layers, the first one applied first.
    pub fn layers(&self) -> &[L] {
        &self.layers
    }

    /// The layers, to freeze or replace some by others of the same dimensions.
    pub fn layers_mut(&mut self) -> &mut [L] {
        &mut self.layers
    }

    /// The layers, for another chain.
    pub fn into_layers(self) -> Vec<L> {
        self.layers
    }
}

impl<B: Backend, L: Bijector<B>> Chain<B, L> {
    /// The layer at index `at`, or as many layers from there on as one operation computes, and the index of the
    /// layer that comes next.
    fn step(
        &self,
        at: usize,
        x: Tensor<B, 2>,
        context: &Option<Tensor<B, 2>>,
    ) -> (Mapped<B>, usize) {
        let layers = &self.layers[at..];
        let parts = layers.iter().map(|layer| part(layer, context.as_ref()));
        if let Some((mapped, count)) = fused::run(parts, &x) {
            return (mapped, at + count);
        }
        let context = context_for(&layers[0], context);
        (layers[0].forward_and_log_det(x, context), at + 1)
    }
}

/// A layer as part of a run of layers that one fused operation computes.
fn part<'a, B: Backend, L: Bijector<B>>(
    layer: &'a L,
    context: Option<&'a Tensor<B, 2>>,
) -> Option<Part<'a, B>> {
    let own = context.filter(|_| layer.context_dim() > 0);
    let layer = layer.concrete();
    let masked = typed::<B, AnyConditioner<B>, AnyTransform>(layer, own)
        .or_else(|| typed::<B, Made<B>, Affine>(layer, own))
        .or_else(|| typed::<B, Made<B>, RqSpline>(layer, own))
        .or_else(|| typed::<B, Coupling<B>, Affine>(layer, own))
        .or_else(|| typed::<B, Coupling<B>, RqSpline>(layer, own));
    if let Some(masked) = masked {
        return Some(Part::Masked(masked));
    }
    let permutation: &Permutation<B> = layer.downcast_ref()?;
    Some(Part::Permutation(permutation.order()))
}

/// An autoregressive layer of this type, if there may be a kernel for it.
fn typed<'a, B: Backend, C: Conditioner<B>, T: Transform<B>>(
    layer: &'a dyn Any,
    context: Option<&'a Tensor<B, 2>>,
) -> Option<Masked<'a, B>> {
    layer
        .downcast_ref::<Autoregressive<B, C, T>>()?
        .masked(context)
}

impl<B: Backend, L: Bijector<B>> Bijector<B> for Chain<B, L> {
    fn name(&self) -> &'static str {
        "chain"
    }

    fn dim(&self) -> usize {
        self.layers[0].dim()
    }

    fn context_dim(&self) -> usize {
        self.layers.iter().map(L::context_dim).max().unwrap_or(0)
    }

    fn domain(&self) -> Vec<Interval> {
        self.layers[0].domain()
    }

    fn image(&self, of: &[Interval]) -> Result<Vec<Interval>, Error> {
        let mut layers = self.layers.iter();
        layers.try_fold(of.to_vec(), |of, layer| layer.image(&of))
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&x, context.as_ref()));
        let (start, mut at) = self.step(0, x, &context);
        let mut sum = start;
        while at < self.layers.len() {
            sum = sum.then(|x| {
                let (mapped, next) = self.step(at, x, &context);
                at = next;
                mapped
            });
        }
        sum
    }

    fn forward(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        assert_ok(self.check(&x, context.as_ref()));
        self.layers
            .iter()
            .fold(x, |x, layer| layer.forward(x, context_for(layer, &context)))
    }

    fn visit_layers(&mut self, visit: &mut LayerVisit<B>) {
        for (k, layer) in self.layers.iter_mut().enumerate() {
            visit.part(k, |visit| layer.visit_layers(visit));
        }
    }
}

impl<B: Backend, L: Invert<B>> Invert<B> for Chain<B, L> {
    fn inverse_domain(&self) -> Vec<Interval> {
        self.layers[self.layers.len() - 1].inverse_domain()
    }

    fn inverse_image(&self, of: &[Interval]) -> Result<Vec<Interval>, Error> {
        let mut layers = self.layers.iter().rev();
        layers.try_fold(of.to_vec(), |of, layer| layer.inverse_image(&of))
    }

    fn visit_layers_inverse(&mut self, visit: &mut LayerVisit<B>) {
        for (k, layer) in self.layers.iter_mut().enumerate().rev() {
            visit.part(k, |visit| layer.visit_layers_inverse(visit));
        }
    }

    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&y, context.as_ref()));
        let mut layers = self.layers.iter().rev();
        let last = layers.next().expect("a chain holds at least one layer");
        let start = last.inverse_and_log_det(y, context_for(last, &context));
        layers.fold(start, |sum, layer| {
            sum.then(|y| layer.inverse_and_log_det(y, context_for(layer, &context)))
        })
    }

    fn inverse(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        assert_ok(self.check(&y, context.as_ref()));
        self.layers
            .iter()
            .rev()
            .fold(y, |y, layer| layer.inverse(y, context_for(layer, &context)))
    }

    fn inverse_and_passes(
        &self,
        y: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (Mapped<B>, usize) {
        assert_ok(self.check(&y, context.as_ref()));
        let mut layers = self.layers.iter().rev();
        let last = layers.next().expect("a chain holds at least one layer");
        let start = last.inverse_and_passes(y, context_for(last, &context));
        layers.fold(start, |(sum, passes), layer| {
            let mut own = 0;
            let mapped = sum.then(|y| {
                let (mapped, passes) = layer.inverse_and_passes(y, context_for(layer, &context));
                own = passes;
                mapped
            });
            (mapped, passes + own)
        })
    }
}
