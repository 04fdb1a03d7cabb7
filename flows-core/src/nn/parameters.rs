//! Where the raw numbers of a distribution or a layer come from.

use burn::module::{Module, Param};
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use rand::Rng;
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
        Ok(match self {
            Self::Fixed => Parameters::Shared(shared(options).set_require_grad(false)),
            Self::Trained => Parameters::Shared(shared(options)),
            Self::Context {
                context_dim,
                hidden,
                activation,
            } => {
                let network = MlpConfig {
                    activation: *activation,
                    ..MlpConfig::new(*context_dim, hidden.clone(), count)
                };
                Parameters::Given(network.init(options, rng)?.shift_output_bias(start))
            }
        })
    }
}

/// Raw parameters: the same for every row, or of each row from its context.
#[derive(Module, Debug)]
pub enum Parameters<B: Backend> {
    /// `[1, count]`; fixed where no gradient is required.
    Shared(Param<Tensor<B, 2>>),
    /// A network from the context to `count` columns.
    Given(Mlp<B>),
}

impl<B: Backend> Parameters<B> {
    /// Columns of the context, 0 for none.
    pub fn context_dim(&self) -> usize {
        match self {
            Self::Shared(_) => 0,
            Self::Given(network) => network.inputs(),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Shared(values) => values.dims()[1],
            Self::Given(network) => network.outputs(),
        }
    }

    /// Those of each row, or one row for all.
    ///
    /// # Shapes
    /// - `context`: `[batch, context_dim]`; output `[1, count]`, or `[batch, count]` from a context
    ///
    /// # Panics
    /// Where a network gets no context.
    pub fn of(&self, context: Option<&Tensor<B, 2>>) -> Tensor<B, 2> {
        match self {
            Self::Shared(values) => values.val(),
            Self::Given(network) => {
                let context = context.expect("a context, which the caller has checked");
                network.forward(context.clone(), None)
            }
        }
    }
}
