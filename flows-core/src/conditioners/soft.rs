//! A conditioner that learns its mask.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use super::conditioner::{ByLevel, Conditioner, pick_parameters, repeated};
use crate::error::{Error, check_positive};
use crate::init;
use crate::masks::DependencyMask;
#[cfg(doc)]
use crate::masks::MadeLayout;
use crate::nn::{Made, MadeSweep, SharedNetwork, entries};
use crate::softplus::sigmoid;
use crate::visit::Task;

const NAME: &str = "soft autoregressive";

/// Where a learned mask starts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SoftStart {
    /// Temperature, positive.
    pub temperature: f64,
    /// Value of every entry, between 0 and 1.
    pub entry: f64,
}

impl Default for SoftStart {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            entry: 0.5,
        }
    }
}

/// A conditioner whose mask `M = L * sigmoid(theta / temperature)` is learned with the network: `L` is the strict
/// triangle in an order, so that the layer is invertible whatever `theta` is.
///
/// Entries lie between 0 and 1 and scale what a variable sees of another. Adding [`l1`](Self::l1) times a weight to
/// the loss drives those that do not pay to 0; lowering the [`temperature`](Self::set_temperature) drives the others
/// to 1; [`threshold`](Self::threshold) reads the graph off, and [`harden`](Self::harden) gives the conditioner that
/// obeys it.
///
/// The penalty alone decides nothing: a smaller entry can be made up for by larger weights in the first layer of the
/// network, so bound these too, by weight decay for instance.
///
/// Inverse and log-determinant are those of the triangle `L`, with `dim` levels.
#[derive(Module, Debug)]
pub struct Soft<B: Backend> {
    pub(super) network: SoftNetwork<B>,
    /// `theta`, `[dim, dim]`; entries outside the triangle are never read.
    logits: Param<Tensor<B, 2>>,
    /// `L`, `[dim, dim]`.
    allowed: Tensor<B, 2>,
    temperature: f64,
    #[module(skip)]
    triangle: DependencyMask,
}

/// The network of a [`Soft`] conditioner.
#[derive(Module, Debug)]
pub enum SoftNetwork<B: Backend> {
    /// One network that is asked for each variable in turn: `dim` passes.
    Shared(SharedNetwork<B>),
    /// One network whose hidden units are dealt to the variables ([`MadeLayout::dealt`]): one pass.
    Masked(Made<B>),
}

impl<B: Backend> Soft<B> {
    /// A conditioner whose mask lies in `triangle`.
    ///
    /// # Errors
    /// [`Error::Config`] where the start is out of range or the network of another dimension.
    pub fn new(
        network: SoftNetwork<B>,
        triangle: DependencyMask,
        start: SoftStart,
    ) -> Result<Self, Error> {
        let SoftStart { temperature, entry } = start;
        check_positive(NAME, "temperature", temperature)?;
        if !(entry > 0.0 && entry < 1.0) {
            return Err(Error::config(NAME, "entry", entry, "between 0 and 1"));
        }
        let (own, options) = match &network {
            SoftNetwork::Shared(network) => (network.dim(), network.options()),
            SoftNetwork::Masked(network) => (network.dim(), network.options()),
        };
        let dim = triangle.dim();
        if own != dim {
            return Err(Error::config(NAME, "dim", own, dim.to_string()));
        }
        let logit = temperature * (entry / (1.0 - entry)).ln();
        Ok(Self {
            network,
            logits: init::constant([dim, dim], logit, options.clone()),
            allowed: entries(&triangle, options),
            temperature,
            triangle,
        })
    }

    /// The mask `M`, entry `(i, j)` being what the parameters of `y_i` see of `x_j`, `[dim, dim]`.
    pub fn soft_mask(&self) -> Tensor<B, 2> {
        sigmoid(self.logits.val() * self.temperature.recip()) * self.allowed.clone()
    }

    /// `sum_ij M_ij`, the L1 norm of the mask, a tensor of one element.
    pub fn l1(&self) -> Tensor<B, 1> {
        self.soft_mask().sum()
    }

    /// The weights that read the variables, `[dim, width]`: those to bound beside a penalty on the mask.
    pub fn reading_weights(&self) -> Tensor<B, 2> {
        match &self.network {
            SoftNetwork::Shared(network) => network.reading_weights(),
            SoftNetwork::Masked(network) => network.first_weight(),
        }
    }

    /// The temperature of the mask.
    pub fn temperature(&self) -> f64 {
        self.temperature
    }

    /// Changes the temperature, which moves every entry of the mask. It is configuration, not saved with the
    /// parameters: a loaded layer has the one it was built with.
    ///
    /// # Errors
    /// [`Error::Config`] where it is not positive and finite.
    pub fn set_temperature(&mut self, temperature: f64) -> Result<(), Error> {
        check_positive(NAME, "temperature", temperature)?;
        self.temperature = temperature;
        Ok(())
    }

    /// The graph of the entries that are at least `level`: a subgraph of the triangle, so never cyclic.
    ///
    /// # Errors
    /// [`Error::Config`] where `level` does not lie between 0 and 1: every edge or none would be in the
    /// graph, whatever was learned.
    pub fn threshold(&self, level: f64) -> Result<DependencyMask, Error> {
        if !(level > 0.0 && level < 1.0) {
            return Err(Error::config(NAME, "level", level, "between 0 and 1"));
        }
        let values: Vec<f64> = self.soft_mask().into_data().iter::<f64>().collect();
        let rows = values
            .chunks(self.triangle.dim())
            .map(|row| row.iter().map(|&m| m >= level));
        let rows: Vec<Vec<bool>> = rows.map(Iterator::collect).collect();
        DependencyMask::from_matrix(&rows)
    }
}

impl<B: Backend> Conditioner<B> for Soft<B> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn context_dim(&self) -> usize {
        match &self.network {
            SoftNetwork::Shared(network) => network.context_dim(),
            SoftNetwork::Masked(network) => network.context_dim(),
        }
    }

    fn parameters(&self) -> usize {
        match &self.network {
            SoftNetwork::Shared(network) => network.parameters(),
            SoftNetwork::Masked(network) => network.parameters(),
        }
    }

    fn mask(&self) -> &DependencyMask {
        &self.triangle
    }

    fn all(&self, x: Tensor<B, 2>, context: Option<&Tensor<B, 2>>) -> Tensor<B, 2> {
        let mask = self.soft_mask();
        match &self.network {
            SoftNetwork::Shared(network) => network.forward(x, mask, None, context),
            SoftNetwork::Masked(network) => {
                network.forward_by(network.first_weight_under(mask), x, context)
            }
        }
    }

    fn some(
        &self,
        variables: &[usize],
        x: Tensor<B, 2>,
        context: Option<&Tensor<B, 2>>,
    ) -> Tensor<B, 2> {
        match &self.network {
            SoftNetwork::Shared(network) => {
                network.forward(x, self.soft_mask(), Some(variables), context)
            }
            SoftNetwork::Masked(_) => pick_parameters(self, variables, x, context),
        }
    }

    fn by_level<'a>(
        &'a self,
        y: &Tensor<B, 2>,
        context: Option<&'a Tensor<B, 2>>,
    ) -> Box<dyn ByLevel<B> + 'a> {
        match &self.network {
            SoftNetwork::Shared(_) => repeated(self, y, context),
            SoftNetwork::Masked(network) => {
                let first = network.first_weight_under(self.soft_mask());
                let rows = y.dims()[0];
                Box::new(MadeSweep::with_first(network, first, rows, context))
            }
        }
    }

    fn adapt(&mut self, task: Task<'_, B>) {
        if let Task::SetTemperature(temperature) = task {
            self.temperature = temperature;
        }
    }
}
