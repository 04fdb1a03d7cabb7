//! Adam, with a state that is saved without loss.

use std::collections::BTreeMap;

use burn::module::{AutodiffModule, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use flows_core::kernels::{AdamNorm, AdamParameter, AdamStep};
use flows_core::state::State;

/// Adam (Kingma & Ba, arXiv:1412.6980, algorithm 1), with `beta = (0.9, 0.999)`, `epsilon = 1e-8`,
/// and weight decay apart from the gradient where it is asked for (Loshchilov & Hutter,
/// arXiv:1711.05101, algorithm 2).
///
/// Burn's own Adam keeps its moments in a record that rounds f64 to the backend's element type, and
/// by random parameter ids. Here they are keyed by parameter order and keep their bits, so an
/// interrupted run goes on exactly.
#[derive(Debug)]
pub struct Adam<B: AutodiffBackend> {
    moments: Vec<Moments<B>>,
    step: i32,
    weight_decay: f64,
}

/// Running means of gradient and squared gradient of one parameter, flattened.
#[derive(Debug, Clone)]
struct Moments<B: AutodiffBackend> {
    first: Tensor<B::InnerBackend, 1>,
    second: Tensor<B::InnerBackend, 1>,
}

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

impl<B: AutodiffBackend> Default for Adam<B> {
    fn default() -> Self {
        Self {
            moments: Vec::new(),
            step: 0,
            weight_decay: 0.0,
        }
    }
}

impl<B: AutodiffBackend> Adam<B> {
    /// The same, with every parameter multiplied by `1 - learning_rate * rate` before each step. It is
    /// not part of the state.
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
        let mut update = Update {
            before: std::mem::take(&mut self.moments).into_iter(),
            after: &mut self.moments,
            gradients,
            shrink: 1.0 - learning_rate * self.weight_decay,
            step: AdamStep {
                beta_1: BETA_1,
                beta_2: BETA_2,
                // m^ / (sqrt(v^) + eps) = (sqrt(c2)/c1) m / (sqrt(v) + eps sqrt(c2)): the corrections
                // become two scalars instead of two passes over the tensors.
                rate: learning_rate * corrected_2.sqrt() / corrected_1,
                epsilon: EPSILON * corrected_2.sqrt(),
                norm: AdamNorm::Two,
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
            state.insert(format!("second.{k}"), moments.second.to_data());
        }
        state
    }

    /// An optimizer with the state that [`state`](Self::state) gave; `None` where it is not one.
    pub fn from_state(state: &State, device: &B::Device) -> Option<Self> {
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
                    second: tensor(format!("second.{k}"))?,
                })
            })
            .collect::<Option<Vec<_>>>()?;
        Some(Self {
            moments,
            step,
            weight_decay: 0.0,
        })
    }
}

struct Update<'a, B: AutodiffBackend> {
    /// Moments of the parameters still to come: owned, so that they can be written in place.
    before: std::vec::IntoIter<Moments<B>>,
    after: &'a mut Vec<Moments<B>>,
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
        let moments = self.before.next().unwrap_or_else(|| {
            let zeros = gradient.zeros_like().flatten(0, D - 1);
            Moments {
                first: zeros.clone(),
                second: zeros,
            }
        });
        let parameter = AdamParameter {
            value,
            first: moments.first,
            second: moments.second,
        };
        let moved = self.step.apply(parameter, gradient);
        self.after.push(Moments {
            first: moved.first,
            second: moved.second,
        });
        let moved = moved.value;
        Param::from_mapped_value(id, Tensor::from_inner(moved).require_grad(), mapper)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::backend::{Autodiff, Flex};
    use flows_core::state::state;
    use flows_models::MafConfig;

    #[test]
    fn weight_decay_shrinks_what_has_no_gradient_by_its_rate() {
        type B = Autodiff<Flex>;
        let rng = &mut crate::train::stream(0, "parameters", 0);
        let model = MafConfig::new(2)
            .init::<B>(&Default::default(), rng)
            .unwrap();
        let before = state(&model);
        let step = |decay: f64, model| {
            let mut adam = Adam::<B>::default().with_weight_decay(decay);
            state(&adam.step(0.1, model, GradientsParams::new()))
        };
        assert_eq!(step(0.0, model.clone()), before);
        let after = step(0.5, model);
        let mut moved = 0;
        for (name, values) in &before {
            for (old, new) in values.iter::<f32>().zip(after[name].iter::<f32>()) {
                assert!((new - 0.95 * old).abs() <= 1e-6 * old.abs(), "{name}");
                moved += usize::from(new != old);
            }
        }
        assert!(moved > 100);
    }
}
