//! Where the raw numbers of a distribution or a layer come from.

use burn::module::{Module, Param};
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::mlp::{Mlp, MlpConfig};
use super::network::ConditionerActivation;
use crate::error::Error;

/// Where raw parameters come from: a name, or `{ context = { context_dim = 2 } }`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
pub enum ParametersConfig {
    /// They stay where they start, and are saved.
    #[default]
    Fixed,
    /// They are trained, the same for every row.
    Trained,
    /// A plain network computes those of each row from its context. It starts near the values of the others.
    Context {
        /// Columns of the context.
        context_dim: usize,
        /// Widths of the hidden layers; none makes the network linear.
        #[serde(default = "hidden")]
        hidden: Vec<usize>,
        /// Activation of the hidden layers.
        #[serde(default)]
        activation: ConditionerActivation,
    },
}

crate::one_key!(ParametersConfig);

fn hidden() -> Vec<usize> {
    vec![32]
}

impl ParametersConfig {
    /// A network with one hidden layer of 32 that reads the context.
    pub fn context(context_dim: usize) -> Self {
        Self::Context {
            context_dim,
            hidden: hidden(),
            activation: ConditionerActivation::default(),
        }
    }

    /// Columns of the context, 0 for none.
    pub fn context_dim(&self) -> usize {
        match self {
            Self::Fixed | Self::Trained => 0,
            Self::Context { context_dim, .. } => *context_dim,
        }
    }

    /// Parameters that start at `start`.
    ///
    /// # Errors
    /// [`Error::Config`] for a context without columns and widths of 0.
    pub fn init<B: Backend>(
        &self,
        start: Vec<f64>,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<Parameters<B>, Error> {
        let count = start.len();
        let shared = |options| {
            let start = TensorData::new(start.clone(), [1, count]);
            Param::from_tensor(Tensor::from_data(start, options))
        };
        let options = options.into();
        let (shared, network) = match self {
            Self::Fixed => (Some(shared(options).set_require_grad(false)), None),
            Self::Trained => (Some(shared(options)), None),
            Self::Context {
                context_dim,
                hidden,
                activation,
            } => {
                let network = MlpConfig {
                    activation: *activation,
                    ..MlpConfig::new(*context_dim, hidden.clone(), count)
                };
                let network = network.init(options, rng)?.shift_output_bias(start);
                (None, Some(network))
            }
        };
        Ok(Parameters { shared, network })
    }
}

/// Raw parameters: the same for every row, or of each row from its context.
#[derive(Module, Debug)]
pub struct Parameters<B: Backend> {
    /// `[1, count]`; fixed where no gradient is required. There is either this or a network.
    shared: Option<Param<Tensor<B, 2>>>,
    /// From the context to `count` columns.
    network: Option<Mlp<B>>,
}

impl<B: Backend> Parameters<B> {
    /// Columns of the context, 0 for none.
    pub fn context_dim(&self) -> usize {
        self.network.as_ref().map_or(0, Mlp::inputs)
    }

    /// Those of each row, or one row for all.
    ///
    /// # Shapes
    /// - `context`: `[batch, context_dim]`; output `[1, count]`, or `[batch, count]` from a context
    ///
    /// # Panics
    /// Where a network gets no context.
    pub fn of(&self, context: Option<&Tensor<B, 2>>) -> Tensor<B, 2> {
        match (&self.shared, &self.network, context) {
            (Some(shared), _, _) => shared.val(),
            (None, Some(network), Some(context)) => network.forward(context.clone(), None),
            _ => panic!(
                "parameters: no context, expected one of {} columns",
                self.context_dim()
            ),
        }
    }
}

/// Some columns of the raw parameters, `[1, count]` or `[batch, count]`.
pub(crate) fn columns<B: Backend>(raw: &Tensor<B, 2>, from: usize, count: usize) -> Tensor<B, 2> {
    let rows = raw.dims()[0];
    raw.clone().slice([0..rows, from..from + count])
}

/// Largest size of a log-scale: f32 holds the square of a number divided by such a scale.
const LARGEST_LOG_SCALE: f64 = 10.0;

/// `10 tanh(raw / 10)`: a log-scale that is finite for any raw number, and near it around 0.
pub(crate) fn log_scale<B: Backend, const D: usize>(raw: Tensor<B, D>) -> Tensor<B, D> {
    (raw * LARGEST_LOG_SCALE.recip()).tanh() * LARGEST_LOG_SCALE
}

/// Draws of `N(0, spread^2)`.
pub(crate) fn scattered(count: usize, spread: f64, rng: &mut dyn Rng) -> Vec<f64> {
    let draw = || {
        let z: f64 = StandardNormal.sample(rng);
        spread * z
    };
    std::iter::repeat_with(draw).take(count).collect()
}
