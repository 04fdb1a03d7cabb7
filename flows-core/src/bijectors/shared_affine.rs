//! The affine autoregressive layer with one shared network on masked inputs.

use burn::module::Module;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::autoregressive::AutoregressiveInverse;
use super::jacobi::jacobi;
use super::log_scale::LogScale;
use crate::bijector::{Bijector, Invert, Mapped, assert_ok};
use crate::error::Error;
use crate::masks::{DependencyMask, MaskConfig};
use crate::nn::{
    ConditionerActivation, Connections, Encoding, SharedConditioner, SharedConditionerConfig, sort,
    unsort,
};

/// Configuration of a [`SharedAffine`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedAffineConfig {
    /// Dimension.
    pub dim: usize,
    /// Widths of the hidden layers of the conditioner; none makes it linear.
    pub hidden: Vec<usize>,
    /// Which variables the scale and shift of each variable may see.
    #[serde(default)]
    pub mask: MaskConfig,
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

impl SharedAffineConfig {
    /// Natural order, variables told by index, plain rectified linear layers, no context.
    pub fn new(dim: usize, hidden: Vec<usize>) -> Self {
        Self {
            dim,
            hidden,
            mask: MaskConfig::default(),
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
    /// [`Error::Config`] for fields out of range, [`Error::Cycle`] for a cyclic mask.
    pub fn init<B: Backend>(
        &self,
        device: &B::Device,
        rng: &mut dyn Rng,
    ) -> Result<SharedAffine<B>, Error> {
        let mask = self.mask.build(self.dim)?;
        let conditioner = SharedConditionerConfig {
            parameters: self.scale.parameters(),
            encoding: self.encoding,
            activation: self.activation,
            connections: self.connections,
            context_dim: self.context_dim,
            ..SharedConditionerConfig::new(self.dim, self.hidden.clone())
        };
        let conditioner = conditioner.init(device, rng)?;
        let conditioner = conditioner.shift_output_bias(&self.scale.start());
        SharedAffine::new(conditioner, mask, self.scale, self.inverse)
    }
}

const NAME: &str = "shared affine";

/// `y_i = x_i exp(a_i) + t_i` with `(a_i, t_i) = f([m_i * x ; e_i])`: one network `f` for every variable,
/// on the input that row `m_i` of a mask leaves visible (see [`SharedConditioner`]).
///
/// `log|det J| = sum_i a_i`, as for a [`MaskedAffine`](super::MaskedAffine), whose network computes all
/// parameters at once. Here forward evaluates `f` once for each variable; any mask will do, however
/// small the network. The incremental inverse asks, level by level, for the parameters of
/// the variables that become computable: each once, so it costs one pass as well.
#[derive(Module, Debug)]
pub struct SharedAffine<B: Backend> {
    conditioner: SharedConditioner<B>,
    /// 0 or 1, `[dim, dim]`.
    entries: Tensor<B, 2>,
    #[module(skip)]
    mask: DependencyMask,
    #[module(skip)]
    scale: LogScale,
    #[module(skip)]
    inverse: AutoregressiveInverse,
}

impl<B: Backend> SharedAffine<B> {
    /// A layer with a given conditioner.
    ///
    /// # Errors
    /// [`Error::Config`] where conditioner, mask and scale do not fit one another, and as
    /// [`LogScale::validate`] and [`AutoregressiveInverse::validate`].
    pub fn new(
        conditioner: SharedConditioner<B>,
        mask: DependencyMask,
        scale: LogScale,
        inverse: AutoregressiveInverse,
    ) -> Result<Self, Error> {
        scale.validate(NAME)?;
        inverse.validate(NAME)?;
        let found = [conditioner.dim(), conditioner.parameters()];
        let sizes = [mask.dim(), scale.parameters()];
        if found != sizes {
            let (actual, expected) = (format!("{found:?}"), format!("{sizes:?}"));
            return Err(Error::config(NAME, "conditioner", actual, expected));
        }
        Ok(Self {
            entries: entries(&mask, &conditioner.device()),
            conditioner,
            mask,
            scale,
            inverse,
        })
    }

    /// Which variables the parameters of each variable may see.
    pub fn mask(&self) -> &DependencyMask {
        &self.mask
    }

    fn map(&self) -> SharedMap<'_, B> {
        SharedMap {
            conditioner: &self.conditioner,
            entries: self.entries.clone(),
            structure: &self.mask,
            scale: self.scale,
            inverse: self.inverse,
        }
    }
}

/// The entries of a mask as 0 and 1, `[dim, dim]`.
pub(super) fn entries<B: Backend>(mask: &DependencyMask, device: &B::Device) -> Tensor<B, 2> {
    let dim = mask.dim();
    let entry = |k: usize| f64::from(u8::from(mask.sees(k / dim, k % dim)));
    let entries = (0..dim * dim).map(entry).collect::<Vec<_>>();
    Tensor::from_data(TensorData::new(entries, [dim, dim]), device)
}

/// The affine map of a shared conditioner under a mask, hard or soft, whose entries are zero wherever
/// `structure` has no edge.
pub(super) struct SharedMap<'a, B: Backend> {
    pub(super) conditioner: &'a SharedConditioner<B>,
    /// `[dim, dim]`.
    pub(super) entries: Tensor<B, 2>,
    pub(super) structure: &'a DependencyMask,
    pub(super) scale: LogScale,
    pub(super) inverse: AutoregressiveInverse,
}

impl<B: Backend> SharedMap<'_, B> {
    fn affine(
        &self,
        x: Tensor<B, 2>,
        variables: Option<&[usize]>,
        context: Option<&Tensor<B, 2>>,
    ) -> super::log_scale::Affine<B> {
        let entries = self.entries.clone();
        let raw = self.conditioner.forward(x, entries, variables, context);
        self.scale.affine(raw)
    }

    pub(super) fn forward(&self, x: Tensor<B, 2>, context: Option<&Tensor<B, 2>>) -> Mapped<B> {
        self.affine(x.clone(), None, context).forward(x)
    }

    /// The inverse and the passes it took.
    pub(super) fn invert(
        &self,
        y: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (Mapped<B>, usize) {
        match self.inverse {
            AutoregressiveInverse::Incremental => (self.incremental(y, context.as_ref()), 1),
            AutoregressiveInverse::Jacobi { tolerance } => {
                let depth = self.structure.depth();
                jacobi(y, context, depth, tolerance, |x, y, context| {
                    self.affine(x, None, context).inverse(y)
                })
            }
        }
    }

    /// Level by level: the parameters of a level's variables, once everything they see is known.
    fn incremental(&self, y: Tensor<B, 2>, context: Option<&Tensor<B, 2>>) -> Mapped<B> {
        let order = self.structure.order();
        let rows = y.dims()[0];
        let mut rest = sort(y, &order);
        let mut known: Vec<Tensor<B, 2>> = Vec::new();
        let mut log_det: Option<Tensor<B, 1>> = None;
        for variables in self.structure.variables_by_level() {
            // What is not known yet is masked; any finite number does in its place.
            let hidden = rest.zeros_like();
            let x = Tensor::cat([known.clone(), vec![hidden]].concat(), 1);
            let affine = self.affine(unsort(x, &order), Some(&variables), context);
            let (here, left) = (variables.len(), rest.dims()[1]);
            let mapped = affine.inverse(rest.clone().slice([0..rows, 0..here]));
            known.push(mapped.value);
            log_det = Some(match log_det {
                Some(sum) => sum + mapped.log_det,
                None => mapped.log_det,
            });
            if here < left {
                rest = rest.slice([0..rows, here..left]);
            }
        }
        Mapped {
            value: unsort(Tensor::cat(known, 1), &order),
            log_det: log_det.expect("a mask has at least one level"),
        }
    }
}

impl<B: Backend> Bijector<B> for SharedAffine<B> {
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
}

impl<B: Backend> Invert<B> for SharedAffine<B> {
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
