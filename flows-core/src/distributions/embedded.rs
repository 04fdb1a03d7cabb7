//! A wide context, read once.

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{LogProb, Sample};
use crate::bijector::{assert_ok, check_context, check_shapes};
use crate::domain::Interval;
use crate::error::Error;
use crate::nn::{ConditionerActivation, Mlp, MlpConfig};
use crate::visit::LayerVisit;

/// Configuration of the network of an [`Embedded`] distribution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingConfig {
    /// Columns of the context, at least 1.
    pub context_dim: usize,
    /// Columns that the distribution inside takes as its context, at least 1.
    pub features: usize,
    /// Widths of the hidden layers; none makes the network linear.
    #[serde(default = "hidden")]
    pub hidden: Vec<usize>,
    /// Activation of the hidden layers.
    #[serde(default)]
    pub activation: ConditionerActivation,
}

fn hidden() -> Vec<usize> {
    vec![64, 64]
}

impl EmbeddingConfig {
    /// Two hidden layers of 64.
    pub fn new(context_dim: usize, features: usize) -> Self {
        Self {
            context_dim,
            features,
            hidden: hidden(),
            activation: ConditionerActivation::default(),
        }
    }

    /// Draws the network in front of a distribution.
    ///
    /// # Errors
    /// [`Error::Config`] for widths of 0, and as [`Embedded::new`].
    pub fn init<B: Backend, P: LogProb<B>>(
        &self,
        inner: P,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<Embedded<B, P>, Error> {
        let network = MlpConfig {
            activation: self.activation,
            ..MlpConfig::new(self.context_dim, self.hidden.clone(), self.features)
        };
        Embedded::new(network.init(options, rng)?, inner)
    }
}

/// `p(x | e(c))` with a network `e` that all layers of `p` share: a wide context `c`, such as an image or a long row
/// of measurements, is read once instead of by every layer.
///
/// The network is trained with the rest. A context has a row for each row of the batch, or, where the distribution
/// inside takes that, as a [`Flow`](crate::flow::Flow) does, one row for all.
#[derive(Module, Debug)]
pub struct Embedded<B: Backend, P> {
    network: Mlp<B>,
    inner: P,
}

const NAME: &str = "embedded";

impl<B: Backend, P: LogProb<B>> Embedded<B, P> {
    /// A distribution behind a given network.
    ///
    /// # Errors
    /// [`Error::Config`] where the network gives other columns than the distribution takes, or has a context itself.
    pub fn new(network: Mlp<B>, inner: P) -> Result<Self, Error> {
        if network.outputs() != inner.context_dim() || network.context_dim() > 0 {
            let actual = network.outputs();
            let expected = format!("{}, the columns of the context inside", inner.context_dim());
            return Err(Error::config(NAME, "features", actual, expected));
        }
        Ok(Self { network, inner })
    }

    /// The distribution inside.
    pub fn inner(&self) -> &P {
        &self.inner
    }

    /// `e(c)`, for a context of `rows` rows, or of one.
    fn embed(&self, rows: usize, context: Option<Tensor<B, 2>>) -> Option<Tensor<B, 2>> {
        let one = matches!(context.as_ref().map(Tensor::dims), Some([1, _]));
        let rows = if one { 1 } else { rows };
        let checked = check_context(NAME, rows, self.network.inputs(), context.as_ref());
        assert_ok(checked);
        context.map(|context| self.network.forward(context, None))
    }
}

impl<B: Backend, P: LogProb<B>> LogProb<B> for Embedded<B, P> {
    fn dim(&self) -> usize {
        self.inner.dim()
    }

    fn context_dim(&self) -> usize {
        self.network.inputs()
    }

    fn support(&self) -> Vec<Interval> {
        self.inner.support()
    }

    fn log_prob(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 1> {
        assert_ok(check_shapes(NAME, self.inner.dim(), 0, &x, None));
        let embedded = self.embed(x.dims()[0], context);
        self.inner.log_prob(x, embedded)
    }

    fn visit_layers(&mut self, visit: &mut LayerVisit<B>) {
        let network = &self.network;
        visit.with_contexts(
            |context| network.forward(context, None),
            |visit| self.inner.visit_layers(visit),
        );
    }
}

impl<B: Backend, P: LogProb<B> + Sample<B>> Sample<B> for Embedded<B, P> {
    fn sample(&self, n: usize, context: Option<Tensor<B, 2>>, rng: &mut dyn Rng) -> Tensor<B, 2> {
        self.inner.sample(n, self.embed(n, context), rng)
    }

    fn sample_and_log_prob(
        &self,
        n: usize,
        context: Option<Tensor<B, 2>>,
        rng: &mut dyn Rng,
    ) -> (Tensor<B, 2>, Tensor<B, 1>) {
        self.inner
            .sample_and_log_prob(n, self.embed(n, context), rng)
    }
}
