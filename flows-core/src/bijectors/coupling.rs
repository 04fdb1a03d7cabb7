//! The affine coupling layer: RealNVP, and NICE without a scale.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::log_scale::LogScale;
use crate::bijector::{Bijector, Invert, Mapped, assert_ok};
use crate::error::Error;
use crate::nn::{ConditionerActivation, Connections, Mlp, MlpConfig, sort, unsort};

/// The variables that a coupling leaves as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
pub enum Untouched {
    /// `0, 2, 4, ...`
    #[default]
    Even,
    /// `1, 3, 5, ...`
    Odd,
    /// The first half, the smaller one for an odd dimension.
    FirstHalf,
    /// The second half, the larger one for an odd dimension.
    SecondHalf,
    /// Any subset, neither empty nor all.
    Variables(Vec<usize>),
}

crate::one_key!(Untouched);

impl Untouched {
    /// The variables among `0..dim`, as listed.
    ///
    /// # Errors
    /// [`Error::Config`] where none or all of the variables are untouched, or a list is no subset.
    pub fn variables(&self, dim: usize) -> Result<Vec<usize>, Error> {
        let variables: Vec<usize> = match self {
            Self::Even => (0..dim).step_by(2).collect(),
            Self::Odd => (1..dim).step_by(2).collect(),
            Self::FirstHalf => (0..dim / 2).collect(),
            Self::SecondHalf => (dim / 2..dim).collect(),
            Self::Variables(list) => list.clone(),
        };
        let mut distinct = variables.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let inside = variables.iter().all(|&i| i < dim);
        if inside && distinct.len() == variables.len() && (1..dim).contains(&variables.len()) {
            return Ok(variables);
        }
        let actual = format!("{variables:?}");
        let expected = format!("between 1 and dim - 1 distinct variables below dim = {dim}");
        Err(Error::config(NAME, "untouched", actual, expected))
    }
}

/// Configuration of an [`AffineCoupling`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AffineCouplingConfig {
    /// Dimension, at least 2.
    pub dim: usize,
    /// Widths of the hidden layers of the conditioner; none makes it linear.
    pub hidden: Vec<usize>,
    /// The variables left as they are, which the others depend on.
    #[serde(default)]
    pub untouched: Untouched,
    /// Activation of the conditioner.
    #[serde(default)]
    pub activation: ConditionerActivation,
    /// Plain layers or residual blocks.
    #[serde(default)]
    pub connections: Connections,
    /// Columns of the context, 0 for none.
    #[serde(default)]
    pub context_dim: usize,
    /// Parameterization of the scale; [`LogScale::Additive`] makes the layer volume-preserving.
    #[serde(default)]
    pub scale: LogScale,
}

impl AffineCouplingConfig {
    /// Even variables untouched, plain rectified linear layers, no context.
    pub fn new(dim: usize, hidden: Vec<usize>) -> Self {
        Self {
            dim,
            hidden,
            untouched: Untouched::default(),
            activation: ConditionerActivation::default(),
            connections: Connections::default(),
            context_dim: 0,
            scale: LogScale::default(),
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
    ) -> Result<AffineCoupling<B>, Error> {
        let seen = self.untouched.variables(self.dim)?.len();
        let moved = self.dim - seen;
        let start = self.scale.start();
        let conditioner = MlpConfig {
            activation: self.activation,
            connections: self.connections,
            context_dim: self.context_dim,
            ..MlpConfig::new(seen, self.hidden.clone(), start.len() * moved)
        };
        let offsets = start.iter().flat_map(|&o| vec![o; moved]).collect();
        let conditioner = conditioner.init(device, rng)?.shift_output_bias(offsets);
        AffineCoupling::new(conditioner, self.dim, &self.untouched, self.scale)
    }
}

const NAME: &str = "affine coupling";

/// `y_A = x_A, y_B = x_B exp(a(x_A)) + t(x_A)`, with `log|det J| = sum_B a`.
///
/// Both directions take one pass (Dinh et al., RealNVP, arXiv:1605.08803, eq. 7 and 8). Without a scale
/// it is NICE's additive coupling (arXiv:1410.8516, eq. 5). The untouched half comes through bit by bit,
/// so layers alternate between halves or stand between permutations.
#[derive(Module, Debug)]
pub struct AffineCoupling<B: Backend> {
    conditioner: Mlp<B>,
    /// The untouched variables, then the others.
    #[module(skip)]
    order: Vec<usize>,
    seen: usize,
    context_dim: usize,
    #[module(skip)]
    scale: LogScale,
}

impl<B: Backend> AffineCoupling<B> {
    /// A layer with a given conditioner, which computes the shifts of all moved variables, then their raw
    /// scales, from the untouched variables as listed.
    ///
    /// # Errors
    /// [`Error::Config`] where the sizes of the conditioner do not fit, and as
    /// [`LogScale::validate`] and [`Untouched::variables`].
    pub fn new(
        conditioner: Mlp<B>,
        dim: usize,
        untouched: &Untouched,
        scale: LogScale,
    ) -> Result<Self, Error> {
        scale.validate(NAME)?;
        let mut order = untouched.variables(dim)?;
        let seen = order.len();
        let moved: Vec<usize> = (0..dim).filter(|i| !order.contains(i)).collect();
        let sizes = [seen, scale.parameters() * moved.len()];
        let found = [conditioner.inputs(), conditioner.outputs()];
        if sizes != found {
            let (actual, expected) = (format!("{found:?}"), format!("{sizes:?}"));
            return Err(Error::config(NAME, "conditioner", actual, expected));
        }
        order.extend(moved);
        Ok(Self {
            context_dim: conditioner.context_dim(),
            conditioner,
            order,
            seen,
            scale,
        })
    }

    /// The variables left as they are.
    pub fn untouched(&self) -> &[usize] {
        &self.order[..self.seen]
    }

    fn map(
        &self,
        x: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
        direction: impl Fn(super::log_scale::Affine<B>, Tensor<B, 2>) -> Mapped<B>,
    ) -> Mapped<B> {
        assert_ok(self.check(&x, context.as_ref()));
        let [rows, dim] = x.dims();
        let x = sort(x, &self.order);
        let seen = x.clone().slice([0..rows, 0..self.seen]);
        let raw = self.conditioner.forward(seen.clone(), context.as_ref());
        let moved = direction(self.scale.affine(raw), x.slice([0..rows, self.seen..dim]));
        Mapped {
            value: unsort(Tensor::cat(vec![seen, moved.value], 1), &self.order),
            log_det: moved.log_det,
        }
    }
}

impl<B: Backend> Bijector<B> for AffineCoupling<B> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn dim(&self) -> usize {
        self.order.len()
    }

    fn context_dim(&self) -> usize {
        self.context_dim
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        self.map(x, context, |affine, x| affine.forward(x))
    }
}

impl<B: Backend> Invert<B> for AffineCoupling<B> {
    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        self.map(y, context, |affine, y| affine.inverse(y))
    }
}
