//! Mixtures of normal distributions with trained or conditional parameters.

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::components::{choose, log_sum_exp, log_weights};
use super::parametric::{Family, HALF_LOG_TWO_PI, Parametric};
use crate::error::{Error, check_not_negative};
use crate::init::{normal_tensor, options_of};
use crate::nn::{ParametersConfig, columns, log_scale, scattered};

/// Configuration of a mixture of normal distributions with diagonal covariances.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NormalMixtureConfig {
    /// Number of components.
    pub components: usize,
    /// Standard deviation of the locations around 0 at the start; the scales start at 1, the weights equal.
    pub spread: f64,
    /// Whether weights, locations and scales are fixed, trained, or given by a context.
    pub parameters: ParametersConfig,
}

impl Default for NormalMixtureConfig {
    /// Four components around one standard deviation from 0.
    fn default() -> Self {
        Self {
            components: 4,
            spread: 1.0,
            parameters: ParametersConfig::default(),
        }
    }
}

impl NormalMixtureConfig {
    /// The distribution in `dim` dimensions.
    ///
    /// # Errors
    /// [`Error::Config`] where `dim` is 0 or a field out of range, and as [`ParametersConfig::init`].
    pub fn init<B: Backend>(
        &self,
        dim: usize,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<Parametric<B, NormalMixture>, Error> {
        let family = NormalMixture::new(dim, self.components, self.spread)?;
        Parametric::new(family, &self.parameters, options, rng)
    }
}

/// `p(x) = sum_k w_k N(x; loc_k, diag(exp(2 s_k)))`, `w` a softmax, `s = 10 tanh(raw / 10)`.
///
/// `log p` is a log-sum-exp over components: finite for every finite `x` that f32 can square, and minus infinity
/// beyond. Samples pass gradients on to locations and scales; the choice of a component has none, so a loss on
/// samples does not train the weights.
///
/// Raw parameters: the logits of the `k` weights, then the locations, one component after the other, then the
/// log-scales. Memory for `log p` is `batch x components x dim` numbers.
#[derive(Module, Clone, Debug, PartialEq)]
pub struct NormalMixture {
    #[module(skip)]
    dim: usize,
    #[module(skip)]
    components: usize,
    /// At the start.
    #[module(skip)]
    spread: f64,
}

const NAME: &str = "normal mixture";

/// Most components that a configuration may ask for.
const MOST_COMPONENTS: usize = 10_000;

/// Checks the number of components of a mixture, and how far apart they start.
pub(super) fn validate(name: &'static str, components: usize, spread: f64) -> Result<(), Error> {
    if !(1..=MOST_COMPONENTS).contains(&components) {
        let expected = format!("1 to {MOST_COMPONENTS}");
        return Err(Error::config(name, "components", components, expected));
    }
    check_not_negative(name, "spread", spread)
}

impl NormalMixture {
    /// A mixture whose locations start at a distance of about `spread` from 0.
    ///
    /// # Errors
    /// [`Error::Config`] where `dim` is 0 or a number out of range.
    pub fn new(dim: usize, components: usize, spread: f64) -> Result<Self, Error> {
        if dim == 0 {
            return Err(Error::config(NAME, "dim", 0, "at least 1"));
        }
        validate(NAME, components, spread)?;
        Ok(Self {
            dim,
            components,
            spread,
        })
    }

    fn logits<B: Backend>(&self, raw: &Tensor<B, 2>) -> Tensor<B, 2> {
        columns(raw, 0, self.components)
    }

    /// Locations and log-scales, `[rows, components, dim]`.
    fn loc_and_log_scale<B: Backend>(&self, raw: &Tensor<B, 2>) -> [Tensor<B, 3>; 2] {
        let (rows, count) = (raw.dims()[0], self.components * self.dim);
        let table = |from: usize| {
            columns(raw, self.components + from, count).reshape([rows, self.components, self.dim])
        };
        [table(0), log_scale(table(count))]
    }
}

impl<B: Backend> Family<B> for NormalMixture {
    fn name(&self) -> &'static str {
        NAME
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn start(&self, rng: &mut dyn Rng) -> Vec<f64> {
        let count = self.components * self.dim;
        let loc = scattered(count, self.spread, rng);
        [vec![0.0; self.components], loc, vec![0.0; count]].concat()
    }

    fn log_prob(&self, raw: Tensor<B, 2>, x: Tensor<B, 2>) -> Tensor<B, 1> {
        let [loc, s] = self.loc_and_log_scale(&raw);
        let z = (x.unsqueeze_dim::<3>(1) - loc) * s.clone().neg().exp();
        let log_p = z.square().sum_dim(2) * -0.5 - s.sum_dim(2);
        let log_p = log_p.squeeze_dim::<2>(2) - HALF_LOG_TWO_PI * self.dim as f64;
        log_sum_exp(log_p + log_weights(self.logits(&raw)))
    }

    fn sample(&self, raw: Tensor<B, 2>, n: usize, rng: &mut dyn Rng) -> Tensor<B, 2> {
        let mut chosen = vec![0.0; n * self.components];
        for (row, k) in choose(&self.logits(&raw), n, rng).into_iter().enumerate() {
            chosen[row * self.components + k] = 1.0;
        }
        let chosen = TensorData::new(chosen, [n, self.components, 1]);
        let chosen = Tensor::<B, 3>::from_data(chosen, options_of(&raw));
        let pick = |table: Tensor<B, 3>| -> Tensor<B, 2> {
            (table * chosen.clone()).sum_dim(1).squeeze_dim(1)
        };
        let [loc, s] = self.loc_and_log_scale(&raw).map(pick);
        let eps = normal_tensor([n, self.dim], 1.0, options_of(&raw), rng);
        eps * s.exp() + loc
    }
}
