//! A coupling of angles.

use std::f64::consts::TAU;

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};

use super::conditioner::Conditioner;
use super::coupling::Coupling;
use crate::error::Error;
use crate::masks::{DependencyMask, Untouched};
use crate::nn::Mlp;

/// A [`Coupling`] whose network reads each untouched angle by its cosine and its sine, so that the parameters of the
/// moved ones do not jump where an angle passes the end of its period (arXiv:2002.02428, section 2.2).
#[derive(Module, Debug)]
pub struct Periodic<B: Backend> {
    coupling: Coupling<B>,
    period: f64,
}

impl<B: Backend> Periodic<B> {
    /// A conditioner with a given network, which reads the cosines of the untouched angles as listed, then their
    /// sines.
    ///
    /// # Errors
    /// As [`Coupling::new`].
    pub fn new(
        network: Mlp<B>,
        dim: usize,
        untouched: &Untouched,
        period: f64,
    ) -> Result<Self, Error> {
        let coupling = Coupling::reading(2, network, dim, untouched)?;
        Ok(Self { coupling, period })
    }
}

impl<B: Backend> Conditioner<B> for Periodic<B> {
    fn name(&self) -> &'static str {
        self.coupling.name()
    }

    fn context_dim(&self) -> usize {
        Conditioner::context_dim(&self.coupling)
    }

    fn parameters(&self) -> usize {
        self.coupling.parameters()
    }

    fn mask(&self) -> &DependencyMask {
        self.coupling.mask()
    }

    fn order(&self) -> Vec<usize> {
        self.coupling.order()
    }

    fn untouched(&self) -> usize {
        self.coupling.untouched()
    }

    fn all(&self, x: Tensor<B, 2>, context: Option<&Tensor<B, 2>>) -> Tensor<B, 2> {
        let turn = x * (TAU / self.period);
        let read = Tensor::cat(vec![turn.clone().cos(), turn.sin()], 1);
        self.coupling.all(read, context)
    }
}
