//! A block of Deep Diffeomorphic Normalizing Flows: the time-1 flow of a stationary velocity field.
//!
//! H. Salman, P. Yadollahpour, T. Fletcher, K. Batmanghelich, *Deep Diffeomorphic Normalizing
//! Flows*, arXiv:1810.03256 (2018). Re-implementation from a secondary description.

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::cells::Cells;
use super::inverse::{DdnfInverse, NAME};
use crate::bijector::{Bijector, Invert, Mapped, assert_ok};
use crate::continuous::log_det::LogDet;
use crate::continuous::{VelocityField, VelocityFieldConfig};
use crate::error::Error;
use crate::expand::product;
use crate::fused::{self, DdnfCells, FusedLogDet};
use crate::nn::Activation;
use crate::state::Transient;
#[cfg(doc)]
use crate::visit::LayerVisit;
use crate::visit::Task;

/// Configuration of a [`DdnfBlock`].
///
/// ```
/// use flows_core::bijectors::DdnfBlockConfig;
/// use flows_core::log_det::LogDet;
///
/// let paper = DdnfBlockConfig {
///     log_det: LogDet::Taylor { order: 2 },
///     ..DdnfBlockConfig::new(2, [2, 2])
/// };
/// assert_eq!(paper.cells, 16);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DdnfBlockConfig {
    /// Dimension of the space.
    pub dim: usize,
    /// Widths of the hidden layers of the field. The paper's account says most experiments used
    /// two layers of two neurons, `[2, 2]`.
    pub hidden: Vec<usize>,
    /// Activation of the field.
    #[serde(default)]
    pub activation: Activation,
    /// Number `T` of identical cells, the Euler steps of size `1 / T`.
    #[serde(default = "default_cells")]
    pub cells: usize,
    /// How the log-determinant of a cell is computed. An estimate keeps its noise until a visit resamples it.
    #[serde(default)]
    pub log_det: LogDet,
    /// What the inverse direction computes.
    #[serde(default)]
    pub inverse: DdnfInverse,
    /// Columns of the context, 0 for a block without.
    #[serde(default)]
    pub context_dim: usize,
    /// Rank of the update that the context gives to every weight matrix, see
    /// [`VelocityFieldConfig::context_rank`].
    #[serde(default)]
    pub context_rank: usize,
    /// Whether the field depends on time, which runs from 0 to 1 through the block. Such a block has
    /// no exponential-map inverse.
    #[serde(default)]
    pub time_dependent: bool,
    /// A bound on the Lipschitz constant of `v / T`, such as 0.97. Below 1 every cell is a contraction beside the identity,
    /// and so the block is invertible whatever its parameters, and its inverse a fixed point that is approached at this
    /// rate. With one cell it is the block of a residual flow (arXiv:1811.00995, 1906.02735).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lipschitz: Option<f64>,
}

fn default_cells() -> usize {
    16
}

/// The kernel's name for a log-determinant, if it has one.
fn fused_log_det(log_det: &LogDet) -> Option<FusedLogDet> {
    match log_det {
        LogDet::Exact => Some(FusedLogDet::Exact),
        LogDet::Taylor { order: 1 } => Some(FusedLogDet::Taylor1),
        LogDet::Taylor { order: 2 } => Some(FusedLogDet::Taylor2),
        LogDet::Taylor { .. } | LogDet::Hutchinson { .. } | LogDet::RussianRoulette { .. } => None,
    }
}

impl DdnfBlockConfig {
    /// A stationary tanh field without context, 16 cells, exact log-determinant and exact inverse.
    pub fn new(dim: usize, hidden: impl Into<Vec<usize>>) -> Self {
        Self {
            dim,
            hidden: hidden.into(),
            activation: Activation::default(),
            cells: default_cells(),
            log_det: LogDet::default(),
            inverse: DdnfInverse::default(),
            context_dim: 0,
            context_rank: 0,
            time_dependent: false,
            lipschitz: None,
        }
    }

    /// Whether the block has a kernel of its own on the backends that have any: one hidden layer of tanh units that is
    /// not too wide for the dimension, stationary, the same weights for all rows, and a log-determinant in closed form.
    pub fn has_fast_path(&self) -> bool {
        let plain = self.activation == Activation::Tanh && !self.time_dependent;
        match (&self.hidden[..], fused_log_det(&self.log_det)) {
            (&[hidden], Some(log_det)) if plain && self.context_rank == 0 => {
                fused::has_ddnf_block(self.dim, hidden, log_det)
            }
            _ => false,
        }
    }

    /// Draws the parameters, as [`VelocityFieldConfig::init`] says.
    ///
    /// # Errors
    /// [`Error::Config`] for no cells, a dimension or width of zero, and where
    /// [`LogDet::validate`] or the tolerance of the inverse refuse; and for the exponential map of a
    /// field that depends on time; for a `lipschitz` that is not between 0 and 1, or with a `context_rank`.
    pub fn init<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<DdnfBlock<B>, Error> {
        if self.cells == 0 {
            return Err(Error::config(NAME, "cells", 0, "at least 1"));
        }
        self.log_det.validate(NAME)?;
        self.inverse.validate_for(self.time_dependent)?;
        if let Some(lipschitz) = self.lipschitz.filter(|l| !(*l > 0.0 && *l < 1.0)) {
            let expected = "between 0 and 1";
            return Err(Error::config(NAME, "lipschitz", lipschitz, expected));
        }
        let field = VelocityFieldConfig {
            dim: self.dim,
            hidden: self.hidden.clone(),
            activation: self.activation,
            context_dim: self.context_dim,
            context_rank: self.context_rank,
            time_dependent: self.time_dependent,
            lipschitz: self.lipschitz.map(|step| step * self.cells as f64),
        };
        Ok(DdnfBlock {
            field: field.init(options, rng)?,
            cells: self.cells,
            log_det: self.log_det.clone(),
            inverse: self.inverse,
            noise_seed: Transient(0),
        })
    }
}

/// `phi = (id + v / T)^T`, approximating `exp(v)`, the time-1 flow of `dz/dt = v(z)`.
///
/// One cell is `z <- z + v(z) / T`; all `T` cells share the field `v`, which cell `t` takes at time
/// `t / T` where it depends on time. With `B_t = J_v(z_t) / T`
/// the log-determinant is `sum_t log |det(I + B_t)|`, each term as [`LogDet`] says. It is that of
/// the *Euler map* the block applies, not of the differential equation behind it.
///
/// The map is a diffeomorphism where `Lip(v) < T` (sufficient); [`stability`](Self::stability)
/// watches that. `T` can be changed after training, see [`with_cells`](Self::with_cells).
///
/// A stochastic log-determinant draws noise that is fixed until
/// [`LayerVisit::resample_noise`] sets another seed: the same call gives the same
/// estimate, in both directions. A new block begins with seed 0, so blocks share their noise until
/// a [`Chain`](crate::bijectors::Chain) of them is resampled.
#[derive(Module, Debug)]
pub struct DdnfBlock<B: Backend> {
    pub(super) field: VelocityField<B>,
    pub(super) cells: usize,
    #[module(skip)]
    pub(super) log_det: LogDet,
    #[module(skip)]
    pub(super) inverse: DdnfInverse,
    /// Of the noise of a stochastic log-determinant.
    #[module(skip)]
    pub(super) noise_seed: Transient<u64>,
}

impl<B: Backend> DdnfBlock<B> {
    /// The velocity field `v`.
    pub fn field(&self) -> &VelocityField<B> {
        &self.field
    }

    /// Number `T` of cells.
    pub fn cells(&self) -> usize {
        self.cells
    }

    /// A bound on the Lipschitz constant of `v / T`, the step of a cell, if there is one: the rate at which the fixed-point
    /// iterations of the exact inverse approach it.
    pub fn contraction(&self) -> Option<f64> {
        let of_field = self.field.lipschitz();
        of_field.map(|lipschitz| lipschitz / self.cells as f64)
    }

    /// How the log-determinant is computed.
    pub fn log_det(&self) -> &LogDet {
        &self.log_det
    }

    /// What the inverse direction computes.
    pub fn inverse_kind(&self) -> DdnfInverse {
        self.inverse
    }

    /// The same field with another number of cells, such as a finer one for evaluation.
    ///
    /// # Panics
    /// For `cells = 0`.
    pub fn with_cells(mut self, cells: usize) -> Self {
        assert!(cells > 0, "{NAME}: cells is 0, expected at least 1");
        self.cells = cells;
        self
    }

    /// The same block with another log-determinant, such as the exact one for evaluation.
    ///
    /// # Errors
    /// As [`LogDet::validate`].
    pub fn with_log_det(mut self, log_det: LogDet) -> Result<Self, Error> {
        log_det.validate(NAME)?;
        self.log_det = log_det;
        Ok(self)
    }

    /// The same block with another inverse.
    ///
    /// # Errors
    /// [`Error::Config`] for a tolerance that is not positive or no iterations, and for the exponential
    /// map of a field that depends on time.
    pub fn with_inverse(mut self, inverse: DdnfInverse) -> Result<Self, Error> {
        inverse.validate_for(self.field.is_time_dependent())?;
        self.inverse = inverse;
        Ok(self)
    }

    /// `z + v(z) / T`, or `z - v(z) / T` for `direction = -1`, `T` times over.
    fn cells_towards(&self, direction: f64, context: Option<Tensor<B, 2>>) -> Cells<'_, B> {
        let step = self.field.bind(context, direction / self.cells as f64);
        Cells::new(step, self.cells, &self.log_det, self.noise_seed.0)
    }

    /// The cells of one direction, `exp(v)` or `exp(-v)`, with their log-determinants.
    fn run(&self, direction: f64, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        let fused = fused_log_det(&self.log_det)
            .and_then(|log_det| self.fused(direction, &x, context.as_ref(), log_det));
        fused.unwrap_or_else(|| self.cells_towards(direction, context).run(x))
    }

    pub(super) fn run_without_log_det(
        &self,
        direction: f64,
        x: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> Tensor<B, 2> {
        match self.fused(direction, &x, context.as_ref(), FusedLogDet::None) {
            Some(mapped) => mapped.value,
            None => self
                .cells_towards(direction, context)
                .run_without_log_det(x),
        }
    }

    /// The whole block in one operation, on backends that have a kernel for it: one hidden layer of
    /// tanh units, stationary, the same weights for all rows, and a log-determinant in closed form.
    fn fused(
        &self,
        direction: f64,
        x: &Tensor<B, 2>,
        context: Option<&Tensor<B, 2>>,
        log_det: FusedLogDet,
    ) -> Option<Mapped<B>> {
        let [hidden, output] = &self.field.layers[..] else {
            return None;
        };
        if self.field.activation() != Activation::Tanh
            || self.field.is_time_dependent()
            || self.field.context_rank() > 0
        {
            return None;
        }
        let bias = context
            .zip(self.field.context_weight.as_ref())
            .map(|(context, weight)| product(context.clone(), weight.val()));
        let [w1, w2] = <[_; 2]>::try_from(self.field.weights()).expect("a weight for each layer");
        let (w2, b2) = if direction < 0.0 {
            (-w2, -output.bias.val())
        } else {
            (w2, output.bias.val())
        };
        let cells = DdnfCells {
            w1,
            b1: hidden.bias.val(),
            w2,
            b2,
            context: bias,
            cells: self.cells,
            log_det,
        };
        fused::ddnf_block(x, cells)
    }
}

impl<B: Backend> Bijector<B> for DdnfBlock<B> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn dim(&self) -> usize {
        self.field.dim()
    }

    fn context_dim(&self) -> usize {
        self.field.context_dim()
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&x, context.as_ref()));
        self.run(1.0, x, context)
    }

    fn adapt(&mut self, task: Task<'_, B>) {
        if let Task::ResampleNoise(seed) = task {
            self.noise_seed = Transient(seed);
        }
    }

    fn forward(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        assert_ok(self.check(&x, context.as_ref()));
        self.run_without_log_det(1.0, x, context)
    }
}

/// Which map this direction applies is [`DdnfInverse`]'s to say: only
/// [`DdnfInverse::Exact`] is the inverse of the forward direction.
impl<B: Backend> Invert<B> for DdnfBlock<B> {
    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        self.inverse_and_passes(y, context).0
    }

    fn inverse(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        assert_ok(self.check(&y, context.as_ref()));
        match self.inverse.solver() {
            None => self.run_without_log_det(-1.0, y, context),
            Some(stop) => {
                let cells = self.cells_towards(1.0, context);
                cells.run_back_without_log_det(y, stop)
            }
        }
    }

    fn inverse_and_passes(
        &self,
        y: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (Mapped<B>, usize) {
        assert_ok(self.check(&y, context.as_ref()));
        match self.inverse.solver() {
            None => (self.run(-1.0, y, context), 1),
            Some(stop) => {
                let cells = self.cells_towards(1.0, context);
                let (mapped, evaluations) = cells.run_back(y, stop);
                (mapped, evaluations.div_ceil(self.cells))
            }
        }
    }
}
