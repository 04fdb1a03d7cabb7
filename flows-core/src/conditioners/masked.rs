//! One masked network for all variables: MAF, and flipped IAF.

use burn::tensor::{Tensor, backend::Backend};

use super::conditioner::{ByLevel, Conditioner};
use crate::masks::DependencyMask;
use crate::nn::{Made, MadeSweep};

impl<B: Backend> Conditioner<B> for Made<B> {
    fn name(&self) -> &'static str {
        "masked autoregressive"
    }

    fn context_dim(&self) -> usize {
        self.context_dim()
    }

    fn parameters(&self) -> usize {
        self.parameters()
    }

    fn mask(&self) -> &DependencyMask {
        self.layout().mask()
    }

    fn all(&self, x: Tensor<B, 2>, context: Option<&Tensor<B, 2>>) -> Tensor<B, 2> {
        self.forward(x, context)
    }

    fn by_level<'a>(
        &'a self,
        y: &Tensor<B, 2>,
        context: Option<&'a Tensor<B, 2>>,
    ) -> Box<dyn ByLevel<B> + 'a> {
        Box::new(MadeSweep::new(self, y.dims()[0], context))
    }
}

impl<B: Backend> ByLevel<B> for MadeSweep<'_, B> {
    fn parameters(&mut self) -> Tensor<B, 2> {
        self.parameters()
    }

    fn reveal(&mut self, x: Tensor<B, 2>) {
        self.reveal(x);
    }

    fn known(self: Box<Self>) -> Tensor<B, 2> {
        self.into_sorted()
    }
}
