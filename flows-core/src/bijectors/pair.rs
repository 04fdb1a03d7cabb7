//! Two layers of different types, one after the other.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use core::marker::PhantomData;

use crate::bijector::{
    Bijector, InverseReport, Invert, Mapped, assert_ok, context_for, contexts_for,
};
use crate::bijectors::chain::{child_seed, shared_context_dim};
use crate::error::Error;

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
    /// [`Error::Config`] where dimensions or context dimensions differ.
    pub fn new(first: First, second: Second) -> Result<Self, Error> {
        shared_context_dim("pair", first.context_dim(), second.context_dim())?;
        if first.dim() != second.dim() {
            let expected = first.dim().to_string();
            return Err(Error::config("pair", "dim", second.dim(), expected));
        }
        Ok(Self {
            first,
            second,
            backend: PhantomData,
        })
    }

    /// The layer applied first in the forward direction.
    pub fn first(&self) -> &First {
        &self.first
    }

    /// The layer applied second in the forward direction.
    pub fn second(&self) -> &Second {
        &self.second
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

    fn fit_statistics(&mut self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        let own = context_for(&self.first, &context);
        let middle = self.first.fit_statistics(x, own);
        let own = context_for(&self.second, &context);
        self.second.fit_statistics(middle, own)
    }

    fn fix_statistics(
        &mut self,
        chunks: Vec<Tensor<B, 2>>,
        contexts: Option<&[Tensor<B, 2>]>,
    ) -> Vec<Tensor<B, 2>> {
        let own = contexts_for(&self.first, contexts);
        let middle = self.first.fix_statistics(chunks, own);
        let own = contexts_for(&self.second, contexts);
        self.second.fix_statistics(middle, own)
    }

    fn resample_noise(&mut self, seed: u64) {
        self.first.resample_noise(child_seed(seed, 0));
        self.second.resample_noise(child_seed(seed, 1));
    }
}

impl<B: Backend, First: Invert<B>, Second: Invert<B>> Invert<B> for Pair<B, First, Second> {
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

    fn inverse_with_report(
        &self,
        y: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (Mapped<B>, InverseReport) {
        assert_ok(self.check(&y, context.as_ref()));
        let (last, report) = self
            .second
            .inverse_with_report(y, context_for(&self.second, &context));
        let (mapped, next) = self
            .first
            .inverse_with_report(last.value, context_for(&self.first, &context));
        let log_det = last.log_det + mapped.log_det;
        let value = mapped.value;
        (Mapped { value, log_det }, report.then(next))
    }
}
