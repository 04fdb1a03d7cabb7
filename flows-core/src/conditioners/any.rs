//! Any conditioner of this crate.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};

use super::conditioner::{ByLevel, Conditioner};
use super::coupling::Coupling;
use super::periodic::Periodic;
use super::shared::Shared;
use super::soft::{Soft, SoftNetwork};
use crate::error::Error;
use crate::masks::DependencyMask;
use crate::nn::Made;
use crate::visit::Task;

/// Any conditioner of this crate, so that a configuration can name one.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // a flow holds a handful, whose tensors are elsewhere
pub enum AnyConditioner<B: Backend> {
    /// One masked network for all variables.
    Masked(Made<B>),
    /// A plain network that reads the untouched variables.
    Coupling(Coupling<B>),
    /// The same for angles.
    Periodic(Periodic<B>),
    /// One network that is asked for each variable in turn.
    Shared(Shared<B>),
    /// A network whose mask is learned.
    Soft(Soft<B>),
}

macro_rules! each {
    ($self:expr, $own:ident => $body:expr) => {
        match $self {
            AnyConditioner::Masked($own) => $body,
            AnyConditioner::Coupling($own) => $body,
            AnyConditioner::Periodic($own) => $body,
            AnyConditioner::Shared($own) => $body,
            AnyConditioner::Soft($own) => $body,
        }
    };
}

impl<B: Backend> Conditioner<B> for AnyConditioner<B> {
    fn name(&self) -> &'static str {
        each!(self, own => own.name())
    }

    fn context_dim(&self) -> usize {
        each!(self, own => Conditioner::context_dim(own))
    }

    fn parameters(&self) -> usize {
        each!(self, own => Conditioner::parameters(own))
    }

    fn mask(&self) -> &DependencyMask {
        each!(self, own => own.mask())
    }

    fn order(&self) -> Vec<usize> {
        each!(self, own => own.order())
    }

    fn untouched(&self) -> usize {
        each!(self, own => own.untouched())
    }

    fn all(&self, x: Tensor<B, 2>, context: Option<&Tensor<B, 2>>) -> Tensor<B, 2> {
        each!(self, own => own.all(x, context))
    }

    fn some(
        &self,
        variables: &[usize],
        x: Tensor<B, 2>,
        context: Option<&Tensor<B, 2>>,
    ) -> Tensor<B, 2> {
        each!(self, own => own.some(variables, x, context))
    }

    fn by_level<'a>(
        &'a self,
        y: &Tensor<B, 2>,
        context: Option<&'a Tensor<B, 2>>,
    ) -> Box<dyn ByLevel<B> + 'a> {
        each!(self, own => own.by_level(y, context))
    }

    fn adapt(&mut self, task: Task<'_, B>) {
        each!(self, own => own.adapt(task))
    }
}

impl<B: Backend> Soft<B> {
    /// The conditioner with the mask of [`threshold`](Self::threshold) and the same network, to be trained on: an
    /// entry that was not 0 or 1 before has changed.
    ///
    /// # Errors
    /// As [`threshold`](Self::threshold).
    pub fn harden(&self, level: f64) -> Result<AnyConditioner<B>, Error> {
        let mask = self.threshold(level)?;
        Ok(match &self.network {
            SoftNetwork::Shared(network) => {
                AnyConditioner::Shared(Shared::new(network.clone(), mask)?)
            }
            SoftNetwork::Masked(network) => AnyConditioner::Masked(network.under(mask)),
        })
    }
}
