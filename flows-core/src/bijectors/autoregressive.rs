//! The affine autoregressive layer: MAF, and flipped IAF.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::jacobi::jacobi;
use super::log_scale::LogScale;
use crate::bijector::{Bijector, Invert, Mapped, assert_ok};
use crate::error::Error;
use crate::fused::{self, Masked, Part};
use crate::masks::{DependencyMask, MaskConfig};
use crate::nn::{ConditionerActivation, Connections, Made, MadeConfig, MadeSweep, sort, unsort};

/// How the sequential direction is computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
pub enum AutoregressiveInverse {
    /// Level by level, each hidden unit once: exact, for the work of one forward pass.
    #[default]
    Incremental,
    /// Whole passes `x <- (y - t(x)) exp(-a(x))` from `x = y`, each row until its largest change is at most
    /// `tolerance`, and never more than the mask has levels: then it is exact.
    ///
    /// Gradients are those of the iteration, so they carry an error of the order of the tolerance.
    /// (Song et al., arXiv:2002.03629, section 3.)
    Jacobi {
        /// Largest change of a finished row.
        tolerance: f64,
    },
}

crate::one_key!(AutoregressiveInverse);

impl AutoregressiveInverse {
    /// Checks the tolerance.
    ///
    /// # Errors
    /// [`Error::Config`] where it is no number or negative, for `layer`.
    pub fn validate(&self, layer: &'static str) -> Result<(), Error> {
        match *self {
            Self::Jacobi { tolerance } if !(tolerance >= 0.0 && tolerance.is_finite()) => {
                let expected = "a finite number, at least 0";
                Err(Error::config(layer, "tolerance", tolerance, expected))
            }
            _ => Ok(()),
        }
    }
}

/// Configuration of a [`MaskedAffine`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskedAffineConfig {
    /// Dimension.
    pub dim: usize,
    /// Widths of the hidden layers of the conditioner; none makes it linear.
    pub hidden: Vec<usize>,
    /// Which variables the scale and shift of each variable may see.
    #[serde(default)]
    pub mask: MaskConfig,
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

impl MaskedAffineConfig {
    /// Natural order, plain rectified linear layers, no context.
    pub fn new(dim: usize, hidden: Vec<usize>) -> Self {
        Self {
            dim,
            hidden,
            mask: MaskConfig::default(),
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
    ) -> Result<MaskedAffine<B>, Error> {
        let conditioner = MadeConfig {
            mask: self.mask.clone(),
            parameters: self.scale.parameters(),
            activation: self.activation,
            connections: self.connections,
            context_dim: self.context_dim,
            ..MadeConfig::new(self.dim, self.hidden.clone())
        };
        let conditioner = conditioner.init(device, rng)?;
        let conditioner = conditioner.shift_output_bias(&self.scale.start());
        MaskedAffine::new(conditioner, self.scale, self.inverse)
    }
}

const NAME: &str = "masked affine";

/// `y_i = x_i exp(a_i) + t_i` with `(a_i, t_i)` computed from the variables that a mask lets `i` see.
///
/// With the mask in topological order the Jacobian is triangular: `log|det J| = sum_i a_i`.
/// Forward is one pass of a masked network ([`Made`]). The inverse needs `x_j` before it can compute
/// the parameters of those that see `x_j`; it is sequential in the levels of the mask, and yet costs no more
/// than one pass ([`AutoregressiveInverse::Incremental`]).
///
/// As the layer of a normalizing flow, from data to base, this is MAF (Papamakarios et al.,
/// arXiv:1705.07057, eq. 3 and 4): `log_prob` is the fast direction. As the layer of a generative flow it is IAF
/// (Kingma et al., arXiv:1606.04934, section 3): sampling is the fast direction.
#[derive(Module, Debug)]
pub struct MaskedAffine<B: Backend> {
    conditioner: Made<B>,
    #[module(skip)]
    scale: LogScale,
    #[module(skip)]
    inverse: AutoregressiveInverse,
}

impl<B: Backend> MaskedAffine<B> {
    /// A layer with a given conditioner, which computes all shifts, then all raw scales.
    ///
    /// # Errors
    /// [`Error::Config`] where the conditioner has another number of parameters than `scale`, for a
    /// tolerance that is no number, and as [`LogScale::validate`].
    pub fn new(
        conditioner: Made<B>,
        scale: LogScale,
        inverse: AutoregressiveInverse,
    ) -> Result<Self, Error> {
        scale.validate(NAME)?;
        if conditioner.parameters() != scale.parameters() {
            let (actual, expected) = (conditioner.parameters(), scale.parameters());
            return Err(Error::config(
                NAME,
                "parameters",
                actual,
                expected.to_string(),
            ));
        }
        inverse.validate(NAME)?;
        Ok(Self {
            conditioner,
            scale,
            inverse,
        })
    }

    /// Which variables the parameters of each variable may see.
    pub fn mask(&self) -> &DependencyMask {
        self.conditioner.layout().mask()
    }

    /// The network that computes scales and shifts.
    pub fn conditioner(&self) -> &Made<B> {
        &self.conditioner
    }

    /// What the kernels read.
    pub(super) fn masked<'a>(&'a self, context: Option<&'a Tensor<B, 2>>) -> Masked<'a, B> {
        Masked {
            made: &self.conditioner,
            scale: self.scale,
            context,
        }
    }

    fn incremental(&self, y: Tensor<B, 2>, context: Option<&Tensor<B, 2>>) -> Mapped<B> {
        let order = self.mask().order();
        let rows = y.dims()[0];
        let y = sort(y, &order);
        if let Some(sorted) = fused::incremental_inverse(self.masked(context), &y) {
            let value = unsort(sorted.value, &order);
            return Mapped { value, ..sorted };
        }
        let mut sweep = MadeSweep::new(&self.conditioner, rows, context);
        let mut log_det: Option<Tensor<B, 1>> = None;
        for own in sweep.variables().to_vec() {
            let affine = self.scale.affine(sweep.parameters());
            let mapped = affine.inverse(y.clone().slice([0..rows, own]));
            sweep.reveal(mapped.value);
            log_det = Some(match log_det {
                Some(sum) => sum + mapped.log_det,
                None => mapped.log_det,
            });
        }
        Mapped {
            value: sweep.into_variables(),
            log_det: log_det.expect("a mask has at least one level"),
        }
    }

    fn invert(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> (Mapped<B>, usize) {
        assert_ok(self.check(&y, context.as_ref()));
        match self.inverse {
            AutoregressiveInverse::Incremental => (self.incremental(y, context.as_ref()), 1),
            AutoregressiveInverse::Jacobi { tolerance } => {
                let depth = self.mask().depth();
                jacobi(y, context, depth, tolerance, |x, y, context| {
                    let raw = self.conditioner.forward(x, context);
                    self.scale.affine(raw).inverse(y)
                })
            }
        }
    }
}

impl<B: Backend> Bijector<B> for MaskedAffine<B> {
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
        let context = context.as_ref();
        let part = Some(Part::Masked(self.masked(context)));
        if let Some((mapped, _)) = fused::run([part].into_iter(), &x) {
            return mapped;
        }
        let raw = self.conditioner.forward(x.clone(), context);
        self.scale.affine(raw).forward(x)
    }
}

impl<B: Backend> Invert<B> for MaskedAffine<B> {
    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        self.invert(y, context).0
    }

    fn inverse_and_passes(
        &self,
        y: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (Mapped<B>, usize) {
        self.invert(y, context)
    }
}
