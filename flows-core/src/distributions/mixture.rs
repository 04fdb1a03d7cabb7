//! Mixtures of any distributions of one type, such as flows.

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
use rand::Rng;

use super::components::{choose, log_sum_exp, log_weights};
use super::{LogProb, Sample, assert_sample_context};
use crate::bijector::{assert_ok, check_shapes, shared_context_dim};
use crate::domain::Interval;
use crate::error::Error;
use crate::init::options_of;
use crate::nn::{Parameters, ParametersConfig};
use crate::visit::LayerVisit;

/// `p(x) = sum_k w_k p_k(x)`, `w` a softmax of logits that are fixed, trained or given by a context.
///
/// `log p` is a log-sum-exp of those of the parts, so a part without mass at a point takes no part there. Samples
/// pass on the gradients of the parts; the choice of a part has none, so a loss on samples does not train the
/// weights.
#[derive(Module, Debug)]
pub struct Mixture<B: Backend, P> {
    parts: Vec<P>,
    logits: Parameters<B>,
    context_dim: usize,
}

const NAME: &str = "mixture";

impl<B: Backend, P: LogProb<B>> Mixture<B, P> {
    /// A mixture of these parts with equal weights at the start.
    ///
    /// # Errors
    /// [`Error::Config`] without parts, where their dimensions, supports or contexts differ, and as
    /// [`ParametersConfig::init`].
    pub fn new(
        parts: Vec<P>,
        weights: &ParametersConfig,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<Self, Error> {
        let Some(first) = parts.first() else {
            return Err(Error::config(NAME, "parts", 0, "at least 1"));
        };
        let logits = weights.init(vec![0.0; parts.len()], options, rng)?;
        let mut context_dim = logits.context_dim();
        for part in &parts {
            context_dim = shared_context_dim(NAME, context_dim, part.context_dim())?;
            if part.dim() != first.dim() {
                let expected = format!("{}, as the first part", first.dim());
                return Err(Error::config(NAME, "dim", part.dim(), expected));
            }
            let (own, expected) = (part.support(), first.support());
            if let Some(column) = (0..own.len()).find(|&i| own[i] != expected[i]) {
                let actual = format!("{} in column {}", own[column], column + 1);
                let expected = format!("{}, as the first part", expected[column]);
                return Err(Error::config(NAME, "support", actual, expected));
            }
        }
        Ok(Self {
            parts,
            logits,
            context_dim,
        })
    }

    /// The parts.
    pub fn parts(&self) -> &[P] {
        &self.parts
    }

    /// The weights, which sum to 1, `[1, parts]`, or `[batch, parts]` from a context.
    pub fn weights(&self, context: Option<&Tensor<B, 2>>) -> Tensor<B, 2> {
        log_weights(self.logits.of(context)).exp()
    }
}

/// The context of a part: all of it, or none.
fn context_of<B: Backend, P: LogProb<B>>(
    part: &P,
    context: Option<&Tensor<B, 2>>,
) -> Option<Tensor<B, 2>> {
    context.filter(|_| part.context_dim() > 0).cloned()
}

impl<B: Backend, P: LogProb<B>> LogProb<B> for Mixture<B, P> {
    fn dim(&self) -> usize {
        self.parts[0].dim()
    }

    fn context_dim(&self) -> usize {
        self.context_dim
    }

    fn support(&self) -> Vec<Interval> {
        self.parts[0].support()
    }

    fn log_prob(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 1> {
        let context = context.as_ref();
        assert_ok(check_shapes(
            NAME,
            self.dim(),
            self.context_dim,
            &x,
            context,
        ));
        if x.dims()[0] == 0 {
            return Tensor::empty([0], options_of(&x));
        }
        let each = self.parts.iter().map(|part| {
            let log_p = part.log_prob(x.clone(), context_of(part, context));
            log_p.unsqueeze_dim::<2>(1)
        });
        let each = Tensor::cat(each.collect(), 1);
        log_sum_exp(each + log_weights(self.logits.of(context)))
    }

    fn visit_layers(&mut self, visit: &mut LayerVisit<B>) {
        let mut rows = Vec::new();
        visit.map_rows(|chunks| {
            rows.clone_from(&chunks);
            chunks
        });
        for (k, part) in self.parts.iter_mut().enumerate() {
            visit.map_rows(|_| rows.clone());
            visit.part(k, |visit| part.visit_layers(visit));
        }
        visit.map_rows(|_| rows);
    }
}

impl<B: Backend, P: LogProb<B> + Sample<B>> Sample<B> for Mixture<B, P> {
    fn sample(&self, n: usize, context: Option<Tensor<B, 2>>, rng: &mut dyn Rng) -> Tensor<B, 2> {
        let context = context.as_ref();
        assert_sample_context(NAME, n, self.context_dim, context);
        if n == 0 {
            let empty = context_of(&self.parts[0], context);
            return self.parts[0].sample(0, empty, rng);
        }
        let chosen = choose(&self.logits.of(context), n, rng);
        let (mut order, mut samples) = (Vec::with_capacity(n), Vec::new());
        for (k, part) in self.parts.iter().enumerate() {
            let own: Vec<i64> = (0..n)
                .filter(|&r| chosen[r] == k)
                .map(|r| r as i64)
                .collect();
            if own.is_empty() {
                continue;
            }
            let context = context_of(part, context).map(|context| {
                let index = Tensor::<B, 1, Int>::from_data(own.as_slice(), &context.device());
                context.select(0, index)
            });
            samples.push(part.sample(own.len(), context, rng));
            order.extend(own);
        }
        let samples = Tensor::cat(samples, 0);
        // Where each row went.
        let mut place = vec![0_i64; n];
        for (at, row) in order.into_iter().enumerate() {
            place[row as usize] = at as i64;
        }
        let place = TensorData::new(place, [n]);
        let place = Tensor::<B, 1, Int>::from_data(place, &samples.device());
        samples.select(0, place)
    }

    fn sample_and_log_prob(
        &self,
        n: usize,
        context: Option<Tensor<B, 2>>,
        rng: &mut dyn Rng,
    ) -> (Tensor<B, 2>, Tensor<B, 1>) {
        let x = self.sample(n, context.clone(), rng);
        let log_p = self.log_prob(x.clone(), context);
        (x, log_p)
    }
}
