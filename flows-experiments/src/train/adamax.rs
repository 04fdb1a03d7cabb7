//! Adamax, with a state that is saved without loss.

use std::collections::BTreeMap;

use burn::module::{AutodiffModule, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use flows_core::kernels::{AdamNorm, AdamParameter, AdamStep};
use flows_core::state::State;

/// Adamax (Kingma & Ba, arXiv:1412.6980, algorithm 2), with `beta = (0.9, 0.999)`:
///
/// `m <- beta_1 m + (1 - beta_1) g`, `u <- max(beta_2 u, |g| + epsilon)`,
/// `theta <- theta - lr / (1 - beta_1^t) m / u`.
///
/// `epsilon`, which the algorithm leaves out, keeps a parameter without gradient where it is.
/// Moments are keyed by parameter order and keep their bits, as those of [`Adam`](super::Adam).
#[derive(Debug)]
pub struct Adamax<B: AutodiffBackend> {
    moments: Vec<Moments<B>>,
    step: i32,
    epsilon: f64,
}

/// Running mean of the gradient and decaying maximum of their size, of one parameter, flattened.
#[derive(Debug, Clone)]
struct Moments<B: AutodiffBackend> {
    first: Tensor<B::InnerBackend, 1>,
    largest: Tensor<B::InnerBackend, 1>,
}

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;

impl<B: AutodiffBackend> Adamax<B> {
    /// The `epsilon` of arXiv:1803.05649.
    pub const EPSILON: f64 = 1e-7;

    /// An optimizer before its first step.
    pub fn new(epsilon: f64) -> Self {
        Self {
            moments: Vec::new(),
            step: 0,
            epsilon,
        }
    }

    /// Moves the parameters of `module` against `gradients`.
    pub fn step<M: AutodiffModule<B>>(
        &mut self,
        learning_rate: f64,
        module: M,
        gradients: GradientsParams,
    ) -> M {
        self.step += 1;
        let mut update = Update {
            before: std::mem::take(&mut self.moments).into_iter(),
            after: &mut self.moments,
            gradients,
            step: AdamStep {
                beta_1: BETA_1,
                beta_2: BETA_2,
                rate: learning_rate / (1.0 - BETA_1.powi(self.step)),
                epsilon: self.epsilon,
                norm: AdamNorm::Infinity,
            },
        };
        module.map(&mut update)
    }

    /// The moments and the step count, as plain data.
    pub fn state(&self) -> State {
        let mut state = BTreeMap::new();
        state.insert("step".to_owned(), TensorData::from([self.step]));
        for (k, moments) in self.moments.iter().enumerate() {
            state.insert(format!("first.{k}"), moments.first.to_data());
            state.insert(format!("largest.{k}"), moments.largest.to_data());
        }
        state
    }

    /// An optimizer with the state that [`state`](Self::state) gave; `None` where it is not one.
    pub fn from_state(epsilon: f64, state: &State, device: &B::Device) -> Option<Self> {
        let step = state.get("step")?.iter::<i32>().next()?;
        let tensor = |name: String| {
            let data = state.get(&name)?.clone();
            let dtype = data.dtype;
            (data.shape.len() == 1).then(|| Tensor::from_data(data, (device, dtype)))
        };
        let moments = (0..state.len() / 2)
            .map(|k| {
                Some(Moments {
                    first: tensor(format!("first.{k}"))?,
                    largest: tensor(format!("largest.{k}"))?,
                })
            })
            .collect::<Option<Vec<_>>>()?;
        Some(Self {
            moments,
            step,
            epsilon,
        })
    }
}

struct Update<'a, B: AutodiffBackend> {
    /// Moments of the parameters still to come: owned, so that they can be written in place.
    before: std::vec::IntoIter<Moments<B>>,
    after: &'a mut Vec<Moments<B>>,
    gradients: GradientsParams,
    step: AdamStep,
}

impl<B: AutodiffBackend> ModuleMapper<B> for Update<'_, B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        if !param.is_require_grad() {
            return param;
        }
        let (id, tensor, mapper) = param.consume();
        let value = tensor.inner();
        // A parameter the loss did not reach this time keeps its place among the moments.
        let gradient = self.gradients.remove::<B::InnerBackend, D>(id);
        let gradient = gradient.unwrap_or_else(|| value.zeros_like());
        let moments = self.before.next().unwrap_or_else(|| {
            let zeros = gradient.zeros_like().flatten(0, D - 1);
            Moments {
                first: zeros.clone(),
                largest: zeros,
            }
        });
        let parameter = AdamParameter {
            value,
            first: moments.first,
            second: moments.largest,
        };
        let moved = self.step.apply(parameter, gradient);
        self.after.push(Moments {
            first: moved.first,
            largest: moved.second,
        });
        Param::from_mapped_value(id, Tensor::from_inner(moved.value).require_grad(), mapper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::{Autodiff, Flex};
    use flows_models::vae::Linear;
    use rand::{SeedableRng, rngs::StdRng};

    type B = Autodiff<Flex>;

    fn weights(module: &Linear<B>) -> Vec<f64> {
        module.weight.val().into_data().iter::<f64>().collect()
    }

    /// Loss `sum w_i s_i` with slopes that change from step to step.
    fn gradients(module: &Linear<B>, step: i32) -> (GradientsParams, [f64; 2]) {
        let slopes = [f64::from(step) - 1.5, 0.25];
        let s = Tensor::<B, 2>::from_data([[slopes[0]], [slopes[1]]], &Default::default());
        let loss = (module.weight.val() * s).sum();
        (GradientsParams::from_grads(loss.backward(), module), slopes)
    }

    #[test]
    fn it_takes_the_steps_of_the_algorithm_and_goes_on_from_its_state() {
        let rng = &mut StdRng::seed_from_u64(0);
        let mut module = Linear::<B>::init(2, 1, &Default::default(), rng);
        let mut optimizer = Adamax::<B>::new(1e-7);
        let mut expected = weights(&module);
        let (mut m, mut u) = ([0.0; 2], [0.0f64; 2]);
        for step in 1..=5 {
            let (gradients, slopes) = gradients(&module, step);
            module = optimizer.step(0.01, module, gradients);
            for i in 0..2 {
                m[i] = 0.9 * m[i] + 0.1 * slopes[i];
                u[i] = (0.999 * u[i]).max(slopes[i].abs() + 1e-7);
                expected[i] -= 0.01 / (1.0 - 0.9f64.powi(step)) * m[i] / u[i];
            }
            for (found, expected) in weights(&module).iter().zip(&expected) {
                assert!(
                    (found - expected).abs() < 1e-6,
                    "step {step}: {found} against {expected}"
                );
            }
            let device = Default::default();
            optimizer = Adamax::from_state(1e-7, &optimizer.state(), &device).unwrap();
        }
        assert!(Adamax::<B>::from_state(1e-7, &State::new(), &Default::default()).is_none());
    }

    #[test]
    fn a_parameter_without_gradient_stays() {
        let rng = &mut StdRng::seed_from_u64(1);
        let module = Linear::<B>::init(2, 1, &Default::default(), rng);
        let before = module.bias.val().into_data();
        let (gradients, _) = gradients(&module, 1);
        let after = Adamax::<B>::new(1e-7).step(0.1, module, gradients);
        assert_eq!(after.bias.val().into_data(), before);
    }
}
