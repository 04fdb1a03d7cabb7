//! Adam, AdamW and Adamax, with a state that is saved without loss.

use std::collections::BTreeMap;

use burn::module::{AutodiffModule, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use flows_core::adam::{AdamNorm, AdamParameter, AdamStep};
use flows_core::state::State;

use crate::training::Method;

/// Decays of the two moments.
const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;

/// Adam or Adamax (Kingma & Ba, arXiv:1412.6980, algorithms 1 and 2) with `beta = (0.9, 0.999)`:
///
/// `m <- beta_1 m + (1 - beta_1) g`, `theta <- (1 - lr decay) theta - lr / (1 - beta_1^t) m / s`, where
///
/// - Adam: `v <- beta_2 v + (1 - beta_2) g^2`, `s = sqrt(v / (1 - beta_2^t)) + 1e-8`;
/// - Adamax: `u <- max(beta_2 u, |g| + 1e-7)`, `s = u`. The `1e-7` (arXiv:1803.05649), which the algorithm leaves
///   out, keeps a parameter without gradient where it is.
///
/// Weight decay apart from the gradient makes AdamW of Adam (Loshchilov & Hutter, arXiv:1711.05101, algorithm 2).
///
/// Burn's own optimizers keep their moments in a record that rounds f64 to the backend's element type, by random
/// parameter ids. Here they are keyed by parameter order and keep their bits, so an interrupted run goes on exactly.
#[derive(Debug)]
pub struct Optimizer<B: AutodiffBackend> {
    method: Method,
    weight_decay: f64,
    /// Of each parameter, flattened.
    moments: Vec<[Tensor<B::InnerBackend, 1>; 2]>,
    step: i32,
}

impl<B: AutodiffBackend> Default for Optimizer<B> {
    fn default() -> Self {
        Self::new(Method::Adam)
    }
}

impl<B: AutodiffBackend> Optimizer<B> {
    /// An optimizer before its first step, without weight decay.
    pub fn new(method: Method) -> Self {
        Self {
            method,
            weight_decay: 0.0,
            moments: Vec::new(),
            step: 0,
        }
    }

    /// The same, with every parameter multiplied by `1 - learning_rate * rate` before each step. It is
    /// not part of the state.
    #[must_use]
    pub fn with_weight_decay(self, rate: f64) -> Self {
        Self {
            weight_decay: rate,
            ..self
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
        let corrected_1 = 1.0 - BETA_1.powi(self.step);
        let corrected_2 = 1.0 - BETA_2.powi(self.step);
        let (rate, epsilon, norm) = match self.method {
            // m^ / (sqrt(v^) + eps) = (sqrt(c2)/c1) m / (sqrt(v) + eps sqrt(c2)): the corrections
            // become two scalars instead of two passes over the tensors.
            Method::Adam => (
                learning_rate * corrected_2.sqrt() / corrected_1,
                1e-8 * corrected_2.sqrt(),
                AdamNorm::Two,
            ),
            Method::Adamax => (learning_rate / corrected_1, 1e-7, AdamNorm::Infinity),
        };
        module.map(&mut Update {
            before: std::mem::take(&mut self.moments).into_iter(),
            after: &mut self.moments,
            gradients,
            shrink: 1.0 - learning_rate * self.weight_decay,
            step: AdamStep {
                beta_1: BETA_1,
                beta_2: BETA_2,
                rate,
                epsilon,
                norm,
            },
        })
    }

    /// Names of the two moments in a state, so that one method is not continued by another.
    fn names(&self) -> [&'static str; 2] {
        match self.method {
            Method::Adam => ["first", "second"],
            Method::Adamax => ["first", "largest"],
        }
    }

    /// The moments and the step count, as plain data.
    pub fn state(&self) -> State {
        let mut state = BTreeMap::new();
        state.insert("step".to_owned(), TensorData::from([self.step]));
        for (k, moments) in self.moments.iter().enumerate() {
            for (name, moment) in self.names().iter().zip(moments) {
                state.insert(format!("{name}.{k}"), moment.to_data());
            }
        }
        state
    }

    /// This optimizer with the state that [`state`](Self::state) gave; `None` where it is not that of this method.
    pub fn with_state(mut self, state: &State, device: &B::Device) -> Option<Self> {
        self.step = state.get("step")?.iter::<i32>().next()?;
        let names = self.names();
        let tensor = |name: &str, k: usize| {
            let data = state.get(&format!("{name}.{k}"))?.clone();
            let dtype = data.dtype;
            (data.shape.len() == 1).then(|| Tensor::from_data(data, (device, dtype)))
        };
        let each = (0..state.len() / 2).map(|k| Some([tensor(names[0], k)?, tensor(names[1], k)?]));
        self.moments = each.collect::<Option<Vec<_>>>()?;
        Some(self)
    }
}

struct Update<'a, B: AutodiffBackend> {
    /// Moments of the parameters still to come: owned, so that they can be written in place.
    before: std::vec::IntoIter<[Tensor<B::InnerBackend, 1>; 2]>,
    after: &'a mut Vec<[Tensor<B::InnerBackend, 1>; 2]>,
    gradients: GradientsParams,
    shrink: f64,
    step: AdamStep,
}

impl<B: AutodiffBackend> ModuleMapper<B> for Update<'_, B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        if !param.is_require_grad() {
            return param;
        }
        let (id, tensor, mapper) = param.consume();
        let mut value = tensor.inner();
        if self.shrink != 1.0 {
            value = value * self.shrink;
        }
        // A parameter the loss did not reach this time keeps its place among the moments.
        let gradient = self.gradients.remove::<B::InnerBackend, D>(id);
        let gradient = gradient.unwrap_or_else(|| value.zeros_like());
        let [first, second] = self.before.next().unwrap_or_else(|| {
            let zeros = gradient.zeros_like().flatten(0, D - 1);
            [zeros.clone(), zeros]
        });
        let parameter = AdamParameter {
            value,
            first,
            second,
        };
        let moved = self.step.apply(parameter, gradient);
        self.after.push([moved.first, moved.second]);
        Param::from_mapped_value(id, Tensor::from_inner(moved.value).require_grad(), mapper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::{Autodiff, Flex};
    use burn::nn::Linear;
    use flows_core::autodiff::exclusive;
    use flows_core::state::parameters;

    type B = Autodiff<Flex>;

    fn module() -> Linear<B> {
        let weight = Tensor::from_data([[0.4], [-0.7]], &Default::default());
        let bias = Tensor::from_data([0.3], &Default::default());
        Linear {
            weight: Param::from_tensor(weight),
            bias: Some(Param::from_tensor(bias)),
        }
    }

    fn weights(module: &Linear<B>) -> Vec<f64> {
        module.weight.val().into_data().iter::<f64>().collect()
    }

    /// Loss `sum w_i s_i` with slopes that change from step to step.
    fn gradients(module: &Linear<B>, step: i32) -> (GradientsParams, [f64; 2]) {
        let _alone = exclusive();
        let slopes = [f64::from(step) - 1.5, 0.25];
        let s = Tensor::<B, 2>::from_data([[slopes[0]], [slopes[1]]], &Default::default());
        let loss = (module.weight.val() * s).sum();
        (GradientsParams::from_grads(loss.backward(), module), slopes)
    }

    #[test]
    fn the_methods_take_the_steps_of_their_algorithms_and_go_on_from_their_states() {
        for (method, other) in [
            (Method::Adam, Method::Adamax),
            (Method::Adamax, Method::Adam),
        ] {
            let decay = 0.3;
            let new = |method| Optimizer::<B>::new(method).with_weight_decay(decay);
            let (mut module, mut optimizer) = (module(), new(method));
            let mut expected = weights(&module);
            let (mut m, mut v) = ([0.0; 2], [0.0f64; 2]);
            for step in 1..=5 {
                let (gradients, slopes) = gradients(&module, step);
                module = optimizer.step(0.01, module, gradients);
                for i in 0..2 {
                    m[i] = 0.9 * m[i] + 0.1 * slopes[i];
                    let s = match method {
                        Method::Adam => {
                            v[i] = 0.999 * v[i] + 0.001 * slopes[i].powi(2);
                            (v[i] / (1.0 - 0.999f64.powi(step))).sqrt() + 1e-8
                        }
                        Method::Adamax => {
                            v[i] = (0.999 * v[i]).max(slopes[i].abs() + 1e-7);
                            v[i]
                        }
                    };
                    expected[i] *= 1.0 - 0.01 * decay;
                    expected[i] -= 0.01 / (1.0 - 0.9f64.powi(step)) * m[i] / s;
                }
                for (found, expected) in weights(&module).iter().zip(&expected) {
                    assert!((found - expected).abs() < 1e-6, "{method:?}, step {step}");
                }
                let (state, device) = (optimizer.state(), Default::default());
                assert!(new(other).with_state(&state, &device).is_none());
                optimizer = new(method).with_state(&state, &device).unwrap();
            }
            assert!(
                new(method)
                    .with_state(&State::new(), &Default::default())
                    .is_none()
            );
        }
    }

    #[test]
    fn a_parameter_without_gradient_stays_and_weight_decay_shrinks_it_by_its_rate() {
        for method in [Method::Adam, Method::Adamax] {
            let before = module();
            let step = |decay: f64| {
                let mut optimizer = Optimizer::<B>::new(method).with_weight_decay(decay);
                optimizer.step(0.1, before.clone(), GradientsParams::new())
            };
            assert_eq!(parameters::<B, _>(&step(0.0)), parameters::<B, _>(&before));
            for (new, old) in weights(&step(0.5)).iter().zip(weights(&before)) {
                assert!((new - 0.95 * old).abs() <= 1e-6 * old.abs());
            }
        }
    }
}
