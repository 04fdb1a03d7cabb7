//! What Adam and Adamax keep of every parameter.

use std::collections::BTreeMap;

use burn::module::{AutodiffModule, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use flows_core::adam::{AdamParameter, AdamStep};
use flows_core::state::State;

/// Decays of the two moments.
pub(super) const BETA_1: f64 = 0.9;
pub(super) const BETA_2: f64 = 0.999;

/// Two numbers for each number of a parameter, and the steps taken.
///
/// Burn's own optimizers keep these in a record that rounds f64 to the backend's element type, and
/// by random parameter ids. Here they are keyed by parameter order and keep their bits, so an
/// interrupted run goes on exactly.
#[derive(Debug)]
pub(super) struct Moments<B: AutodiffBackend> {
    /// Of each parameter, flattened.
    each: Vec<[Tensor<B::InnerBackend, 1>; 2]>,
    step: i32,
}

impl<B: AutodiffBackend> Default for Moments<B> {
    fn default() -> Self {
        Self {
            each: Vec::new(),
            step: 0,
        }
    }
}

impl<B: AutodiffBackend> Moments<B> {
    /// Counts a step; its number, from 1.
    pub(super) fn count(&mut self) -> i32 {
        self.step += 1;
        self.step
    }

    /// Multiplies the parameters of `module` by `shrink`, then moves them against `gradients`.
    pub(super) fn apply<M: AutodiffModule<B>>(
        &mut self,
        module: M,
        gradients: GradientsParams,
        shrink: f64,
        step: AdamStep,
    ) -> M {
        module.map(&mut Update {
            before: std::mem::take(&mut self.each).into_iter(),
            after: &mut self.each,
            gradients,
            shrink,
            step,
        })
    }

    /// As plain data, under these names.
    pub(super) fn state(&self, names: [&str; 2]) -> State {
        let mut state = BTreeMap::new();
        state.insert("step".to_owned(), TensorData::from([self.step]));
        for (k, moments) in self.each.iter().enumerate() {
            for (name, moment) in names.iter().zip(moments) {
                state.insert(format!("{name}.{k}"), moment.to_data());
            }
        }
        state
    }

    /// What [`state`](Self::state) gave; `None` where it is not that.
    pub(super) fn from_state(names: [&str; 2], state: &State, device: &B::Device) -> Option<Self> {
        let step = state.get("step")?.iter::<i32>().next()?;
        let tensor = |name: &str, k: usize| {
            let data = state.get(&format!("{name}.{k}"))?.clone();
            let dtype = data.dtype;
            (data.shape.len() == 1).then(|| Tensor::from_data(data, (device, dtype)))
        };
        let each = (0..state.len() / 2).map(|k| Some([tensor(names[0], k)?, tensor(names[1], k)?]));
        Some(Self {
            each: each.collect::<Option<Vec<_>>>()?,
            step,
        })
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
