//! Adam, with a state that is saved without loss.

use std::collections::BTreeMap;

use burn::module::{AutodiffModule, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use flows_core::kernels::{AdamNorm, AdamParameter, AdamStep};
use flows_core::state::State;

/// Adam (Kingma & Ba, arXiv:1412.6980, algorithm 1), with `beta = (0.9, 0.999)`, `epsilon = 1e-8`.
///
/// Burn's own Adam keeps its moments in a record that rounds f64 to the backend's element type, and
/// by random parameter ids. Here they are keyed by parameter order and keep their bits, so an
/// interrupted run goes on exactly.
#[derive(Debug)]
pub struct Adam<B: AutodiffBackend> {
    moments: Vec<Moments<B>>,
    step: i32,
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
        }
    }
}

impl<B: AutodiffBackend> Adam<B> {
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
        Some(Self { moments, step })
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
        let shape = value.shape();
        let moments = self.before.next().unwrap_or_else(|| {
            let zeros = gradient.zeros_like().flatten(0, D - 1);
            Moments {
                first: zeros.clone(),
                second: zeros,
            }
        });
        let parameter = AdamParameter {
            value,
            first: moments.first.reshape(shape.clone()),
            second: moments.second.reshape(shape),
        };
        let moved = self.step.apply(parameter, gradient);
        self.after.push(Moments {
            first: moved.first.flatten(0, D - 1),
            second: moved.second.flatten(0, D - 1),
        });
        let moved = moved.value;
        Param::from_mapped_value(id, Tensor::from_inner(moved).require_grad(), mapper)
    }
}
