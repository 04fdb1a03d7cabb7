//! Two layers of different types, one after the other.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use core::marker::PhantomData;

use crate::bijector::{Bijector, Invert, Mapped, assert_ok, context_for, shared_context_dim};
use crate::domain::Interval;
use crate::error::Error;
use crate::visit::LayerVisit;

/// The composition `second o first`; log-determinants add up. Pairs nest.
#[derive(Module, Debug)]
pub struct Pair<B: Backend, First, Second> {
    first: First,
    second: Second,
    backend: PhantomData<B>,
}

impl<B: Backend, First: Bijector<B>, Second: Bijector<B>> Pair<B, First, Second> {
    /// Composes two layers, `first` applied first.
    ///
    /// # Errors
    /// [`Error::Config`] where dimensions or context dimensions differ, or the second does not take what the first gives.
    pub fn new(first: First, second: Second) -> Result<Self, Error> {
        shared_context_dim("pair", first.context_dim(), second.context_dim())?;
        if first.dim() != second.dim() {
            let expected = first.dim().to_string();
            return Err(Error::config("pair", "dim", second.dim(), expected));
        }
        let pair = Self {
            first,
            second,
            backend: PhantomData,
        };
        pair.image(&pair.domain())?;
        Ok(pair)
    }

    /// The layer applied first in the forward direction.
    pub fn first(&self) -> &First {
        &self.first
    }

    /// The layer applied second in the forward direction.
    pub fn second(&self) -> &Second {
        &self.second
    }

    /// Both layers, to freeze or replace one by another of the same dimensions.
    pub fn layers_mut(&mut self) -> (&mut First, &mut Second) {
        (&mut self.first, &mut self.second)
    }

    /// Both layers.
    pub fn into_parts(self) -> (First, Second) {
        (self.first, self.second)
    }
}

impl<B: Backend, First: Bijector<B>, Second: Bijector<B>> Bijector<B> for Pair<B, First, Second> {
    fn name(&self) -> &'static str {
        "pair"
    }

    fn dim(&self) -> usize {
        self.first.dim()
    }

    fn context_dim(&self) -> usize {
        self.first.context_dim().max(self.second.context_dim())
    }

    fn domain(&self) -> Vec<Interval> {
        self.first.domain()
    }

    fn image(&self, of: &[Interval]) -> Result<Vec<Interval>, Error> {
        self.second.image(&self.first.image(of)?)
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&x, context.as_ref()));
        self.first
            .forward_and_log_det(x, context_for(&self.first, &context))
            .then(|x| {
                self.second
                    .forward_and_log_det(x, context_for(&self.second, &context))
            })
    }

    fn forward(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        assert_ok(self.check(&x, context.as_ref()));
        let middle = self.first.forward(x, context_for(&self.first, &context));
        self.second
            .forward(middle, context_for(&self.second, &context))
    }

    fn visit_layers(&mut self, visit: &mut LayerVisit<B>) {
        visit.part(0, |visit| self.first.visit_layers(visit));
        visit.part(1, |visit| self.second.visit_layers(visit));
    }
}

impl<B: Backend, First: Invert<B>, Second: Invert<B>> Invert<B> for Pair<B, First, Second> {
    fn inverse_domain(&self) -> Vec<Interval> {
        self.second.inverse_domain()
    }

    fn inverse_image(&self, of: &[Interval]) -> Result<Vec<Interval>, Error> {
        self.first.inverse_image(&self.second.inverse_image(of)?)
    }

    fn visit_layers_inverse(&mut self, visit: &mut LayerVisit<B>) {
        visit.part(1, |visit| self.second.visit_layers_inverse(visit));
        visit.part(0, |visit| self.first.visit_layers_inverse(visit));
    }

    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&y, context.as_ref()));
        self.second
            .inverse_and_log_det(y, context_for(&self.second, &context))
            .then(|y| {
                self.first
                    .inverse_and_log_det(y, context_for(&self.first, &context))
            })
    }

    fn inverse(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        assert_ok(self.check(&y, context.as_ref()));
        let middle = self.second.inverse(y, context_for(&self.second, &context));
        self.first
            .inverse(middle, context_for(&self.first, &context))
    }

    fn inverse_and_passes(
        &self,
        y: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (Mapped<B>, usize) {
        assert_ok(self.check(&y, context.as_ref()));
        let own = context_for(&self.second, &context);
        let (second, mut passes) = self.second.inverse_and_passes(y, own);
        let mapped = second.then(|y| {
            let own = context_for(&self.first, &context);
            let (first, more) = self.first.inverse_and_passes(y, own);
            passes += more;
            first
        });
        (mapped, passes)
    }
}
