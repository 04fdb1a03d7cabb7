//! A distribution with parameters that are fixed, trained, or given by a context.

use burn::module::{Module, ModuleDisplay};
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, backend::Backend};
use rand::Rng;

use super::{LogProb, Sample, assert_sample_context};
use crate::bijector::{assert_ok, check_shapes};
use crate::error::Error;
use crate::init::{options_of, options_of_module};
use crate::nn::{Parameters, ParametersConfig};

/// A family of distributions on the reals by its raw parameters, any finite numbers.
///
/// Where the parameters come from is not its business: [`Parametric`] has them fixed, trained, or computed from a
/// context.
pub trait Family<B: Backend>: Module<B> + ModuleDisplay + 'static {
    /// Name used in error messages.
    fn name(&self) -> &'static str;

    /// Number of columns of a sample.
    fn dim(&self) -> usize;

    /// The raw parameters that a new distribution starts with.
    fn start(&self, rng: &mut dyn Rng) -> Vec<f64>;

    /// `log p` of each row, in nats.
    ///
    /// # Shapes
    /// - `raw`: `[1, count]` or `[batch, count]`, `x`: `[batch, dim]` with at least one row; output `[batch]`
    fn log_prob(&self, raw: Tensor<B, 2>, x: Tensor<B, 2>) -> Tensor<B, 1>;

    /// Draws `n` rows, at least one.
    ///
    /// # Shapes
    /// - `raw`: `[1, count]` or `[n, count]`; output `[n, dim]`
    fn sample(&self, raw: Tensor<B, 2>, n: usize, rng: &mut dyn Rng) -> Tensor<B, 2>;
}

/// A distribution of a [`Family`] with its [`Parameters`].
#[derive(Module, Debug)]
pub struct Parametric<B: Backend, F> {
    family: F,
    parameters: Parameters<B>,
}

impl<B: Backend, F: Family<B>> Parametric<B, F> {
    /// A distribution whose parameters start where the family says.
    ///
    /// # Errors
    /// As [`ParametersConfig::init`].
    pub fn new(
        family: F,
        parameters: &ParametersConfig,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<Self, Error> {
        let start = family.start(rng);
        let parameters = parameters.init(start, options, rng)?;
        Ok(Self { family, parameters })
    }

    /// The raw parameters.
    pub fn parameters(&self) -> &Parameters<B> {
        &self.parameters
    }

    fn options(&self) -> TensorCreationOptions<B> {
        options_of_module(&self.parameters)
    }
}

impl<B: Backend, F: Family<B>> LogProb<B> for Parametric<B, F> {
    fn dim(&self) -> usize {
        self.family.dim()
    }

    fn context_dim(&self) -> usize {
        self.parameters.context_dim()
    }

    fn log_prob(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 1> {
        let (name, context) = (self.family.name(), context.as_ref());
        let (dim, context_dim) = (self.family.dim(), self.context_dim());
        assert_ok(check_shapes(name, dim, context_dim, &x, context));
        if x.dims()[0] == 0 {
            return Tensor::empty([0], options_of(&x));
        }
        self.family.log_prob(self.parameters.of(context), x)
    }
}

impl<B: Backend, F: Family<B>> Parametric<B, F> {
    /// Draws, and the raw parameters they were drawn with.
    fn draw(
        &self,
        n: usize,
        context: Option<Tensor<B, 2>>,
        rng: &mut dyn Rng,
    ) -> Option<(Tensor<B, 2>, Tensor<B, 2>)> {
        let context_dim = self.parameters.context_dim();
        assert_sample_context(self.family.name(), n, context_dim, context.as_ref());
        (n > 0).then(|| {
            let raw = self.parameters.of(context.as_ref());
            (self.family.sample(raw.clone(), n, rng), raw)
        })
    }
}

impl<B: Backend, F: Family<B>> Sample<B> for Parametric<B, F> {
    fn sample(&self, n: usize, context: Option<Tensor<B, 2>>, rng: &mut dyn Rng) -> Tensor<B, 2> {
        match self.draw(n, context, rng) {
            Some((x, _)) => x,
            None => Tensor::empty([0, self.family.dim()], self.options()),
        }
    }

    fn sample_and_log_prob(
        &self,
        n: usize,
        context: Option<Tensor<B, 2>>,
        rng: &mut dyn Rng,
    ) -> (Tensor<B, 2>, Tensor<B, 1>) {
        match self.draw(n, context, rng) {
            Some((x, raw)) => (x.clone(), self.family.log_prob(raw, x)),
            None => (
                Tensor::empty([0, self.family.dim()], self.options()),
                Tensor::empty([0], self.options()),
            ),
        }
    }
}

/// `log (2 pi) / 2`.
pub(super) const HALF_LOG_TWO_PI: f64 = 0.918_938_533_204_672_8;
