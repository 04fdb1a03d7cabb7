//! The affine autoregressive layer that learns its mask.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::autoregressive::AutoregressiveInverse;
use super::log_scale::LogScale;
use super::shared_affine::{SharedAffine, SharedMap, entries};
use crate::bijector::{Bijector, Invert, Mapped, assert_ok};
use crate::error::{Error, check_positive};
use crate::init;
use crate::masks::{DependencyMask, MaskConfig, Ordering};
use crate::nn::{
    ConditionerActivation, Connections, Encoding, SharedConditioner, SharedConditionerConfig,
};
use crate::softplus::sigmoid;
use crate::visit::Task;

/// Configuration of a [`SoftMaskedAffine`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoftMaskedAffineConfig {
    /// Dimension.
    pub dim: usize,
    /// Widths of the hidden layers of the conditioner; none makes it linear.
    pub hidden: Vec<usize>,
    /// The order in which a variable may see those before it.
    #[serde(default)]
    pub ordering: Ordering,
    /// Temperature of the mask at the start, positive.
    #[serde(default = "one")]
    pub temperature: f64,
    /// Value of every entry of the mask at the start, between 0 and 1.
    #[serde(default = "half")]
    pub start: f64,
    /// How the network is told whose parameters it is asked for.
    #[serde(default)]
    pub encoding: Encoding,
    /// Activation of the conditioner.
    #[serde(default)]
    pub activation: ConditionerActivation,
    /// Plain layers or residual blocks.
    #[serde(default)]
    pub connections: Connections,
    /// Columns of the context, 0 for none.
    #[serde(default)]
    pub context_dim: usize,
    /// Parameterization of the scale.
    #[serde(default)]
    pub scale: LogScale,
    /// How the sequential direction is computed.
    #[serde(default)]
    pub inverse: AutoregressiveInverse,
}

fn one() -> f64 {
    1.0
}

fn half() -> f64 {
    0.5
}

impl SoftMaskedAffineConfig {
    /// Natural order, every entry of the mask at 1/2 and temperature 1, plain rectified linear layers,
    /// no context.
    pub fn new(dim: usize, hidden: Vec<usize>) -> Self {
        Self {
            dim,
            hidden,
            ordering: Ordering::default(),
            temperature: one(),
            start: half(),
            encoding: Encoding::default(),
            activation: ConditionerActivation::default(),
            connections: Connections::default(),
            context_dim: 0,
            scale: LogScale::default(),
            inverse: AutoregressiveInverse::default(),
        }
    }

    /// Draws a layer near the identity.
    ///
    /// # Errors
    /// [`Error::Config`] for fields out of range.
    pub fn init<B: Backend>(
        &self,
        device: &B::Device,
        rng: &mut dyn Rng,
    ) -> Result<SoftMaskedAffine<B>, Error> {
        let Self { dim, start, .. } = *self;
        check_positive(NAME, "temperature", self.temperature)?;
        if !(start > 0.0 && start < 1.0) {
            return Err(Error::config(NAME, "start", start, "between 0 and 1"));
        }
        self.scale.validate(NAME)?;
        self.inverse.validate(NAME)?;
        let triangle = MaskConfig::Autoregressive(self.ordering.clone()).build(dim)?;
        let conditioner = SharedConditionerConfig {
            parameters: self.scale.parameters(),
            encoding: self.encoding,
            activation: self.activation,
            connections: self.connections,
            context_dim: self.context_dim,
            ..SharedConditionerConfig::new(dim, self.hidden.clone())
        };
        let conditioner = conditioner.init(device, rng)?;
        let logit = self.temperature * (start / (1.0 - start)).ln();
        Ok(SoftMaskedAffine {
            conditioner: conditioner.shift_output_bias(&self.scale.start()),
            logits: init::constant([dim, dim], logit, device),
            allowed: entries(&triangle, device),
            temperature: self.temperature,
            triangle,
            scale: self.scale,
            inverse: self.inverse,
        })
    }
}

const NAME: &str = "soft masked affine";

/// A [`SharedAffine`] whose mask `M = L * sigmoid(theta / temperature)` is learned with the network: `L` is
/// the strict triangle in an order, so that the map is invertible whatever `theta` is.
///
/// Entries lie between 0 and 1 and scale what a variable sees of another. Adding
/// [`l1`](Self::l1) times a weight to the loss drives those that do not pay to 0; lowering the
/// [`temperature`](Self::set_temperature) drives the others to 1; [`threshold`](Self::threshold) reads the
/// graph off, and [`harden`](Self::harden) gives the layer that obeys it.
///
/// The penalty alone decides nothing: a smaller entry can be made up for by larger weights in the first
/// layer of the network, so bound these too, by weight decay for instance.
///
/// Inverse and log-determinant are those of the triangle `L`, with `dim` levels.
#[derive(Module, Debug)]
pub struct SoftMaskedAffine<B: Backend> {
    conditioner: SharedConditioner<B>,
    /// `theta`, `[dim, dim]`; entries outside the triangle are never read.
    logits: Param<Tensor<B, 2>>,
    /// `L`, `[dim, dim]`.
    allowed: Tensor<B, 2>,
    temperature: f64,
    #[module(skip)]
    triangle: DependencyMask,
    #[module(skip)]
    scale: LogScale,
    #[module(skip)]
    inverse: AutoregressiveInverse,
}

impl<B: Backend> SoftMaskedAffine<B> {
    /// The mask `M`, entry `(i, j)` being what the parameters of `y_i` see of `x_j`, `[dim, dim]`.
    pub fn soft_mask(&self) -> Tensor<B, 2> {
        sigmoid(self.logits.val() * self.temperature.recip()) * self.allowed.clone()
    }

    /// `sum_ij M_ij`, the L1 norm of the mask, a tensor of one element.
    pub fn l1(&self) -> Tensor<B, 1> {
        self.soft_mask().sum()
    }

    /// The triangle `L` that the mask lies in.
    pub fn triangle(&self) -> &DependencyMask {
        &self.triangle
    }

    /// The network that computes scales and shifts.
    pub fn conditioner(&self) -> &SharedConditioner<B> {
        &self.conditioner
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
        let dim = self.triangle.dim();
        let values: Vec<f64> = self.soft_mask().into_data().iter::<f64>().collect();
        let rows = values
            .chunks(dim)
            .map(|row| row.iter().map(|&m| m >= level));
        let rows: Vec<Vec<bool>> = rows.map(Iterator::collect).collect();
        DependencyMask::from_matrix(&rows)
    }

    /// The layer with the mask of [`threshold`](Self::threshold) and the same network, to be trained on: an
    /// entry that was not 0 or 1 before has changed.
    ///
    /// # Errors
    /// As [`threshold`](Self::threshold).
    pub fn harden(&self, level: f64) -> Result<SharedAffine<B>, Error> {
        let mask = self.threshold(level)?;
        SharedAffine::new(self.conditioner.clone(), mask, self.scale, self.inverse)
    }

    fn map(&self) -> SharedMap<'_, B> {
        SharedMap {
            conditioner: &self.conditioner,
            entries: self.soft_mask(),
            structure: &self.triangle,
            scale: self.scale,
            inverse: self.inverse,
        }
    }
}

impl<B: Backend> Bijector<B> for SoftMaskedAffine<B> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn dim(&self) -> usize {
        self.conditioner.dim()
    }

    fn context_dim(&self) -> usize {
        self.conditioner.context_dim()
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&x, context.as_ref()));
        self.map().forward(x, context.as_ref())
    }

    fn adapt(&mut self, task: Task<'_, B>) {
        if let Task::SetTemperature(temperature) = task {
            self.temperature = temperature;
        }
    }
}

impl<B: Backend> Invert<B> for SoftMaskedAffine<B> {
    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&y, context.as_ref()));
        self.map().invert(y, context).0
    }

    fn inverse_and_passes(
        &self,
        y: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (Mapped<B>, usize) {
        assert_ok(self.check(&y, context.as_ref()));
        self.map().invert(y, context)
    }
}
