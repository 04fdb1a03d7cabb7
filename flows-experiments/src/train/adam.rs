//! Adam, with a state that is saved without loss.

use burn::module::AutodiffModule;
use burn::optim::GradientsParams;
use burn::tensor::backend::AutodiffBackend;
use flows_core::adam::{AdamNorm, AdamStep};
use flows_core::state::State;

use super::moments::{BETA_1, BETA_2, Moments};

/// Adam (Kingma & Ba, arXiv:1412.6980, algorithm 1), with `beta = (0.9, 0.999)`, `epsilon = 1e-8`,
/// and weight decay apart from the gradient where it is asked for (Loshchilov & Hutter,
/// arXiv:1711.05101, algorithm 2).
///
/// Moments are keyed by parameter order and keep their bits, so an interrupted run goes on exactly.
#[derive(Debug)]
pub struct Adam<B: AutodiffBackend> {
    moments: Moments<B>,
    weight_decay: f64,
}

const EPSILON: f64 = 1e-8;
const NAMES: [&str; 2] = ["first", "second"];

impl<B: AutodiffBackend> Default for Adam<B> {
    fn default() -> Self {
        Self {
            moments: Moments::default(),
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
        let step = self.moments.count();
        let corrected_1 = 1.0 - BETA_1.powi(step);
        let corrected_2 = 1.0 - BETA_2.powi(step);
        let shrink = 1.0 - learning_rate * self.weight_decay;
        let step = AdamStep {
            beta_1: BETA_1,
            beta_2: BETA_2,
            // m^ / (sqrt(v^) + eps) = (sqrt(c2)/c1) m / (sqrt(v) + eps sqrt(c2)): the corrections
            // become two scalars instead of two passes over the tensors.
            rate: learning_rate * corrected_2.sqrt() / corrected_1,
            epsilon: EPSILON * corrected_2.sqrt(),
            norm: AdamNorm::Two,
        };
        self.moments.apply(module, gradients, shrink, step)
    }

    /// The moments and the step count, as plain data.
    pub fn state(&self) -> State {
        self.moments.state(NAMES)
    }

    /// An optimizer with the state that [`state`](Self::state) gave; `None` where it is not one.
    pub fn from_state(state: &State, device: &B::Device) -> Option<Self> {
        Some(Self {
            moments: Moments::from_state(NAMES, state, device)?,
            weight_decay: 0.0,
        })
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::backend::{Autodiff, Flex};
    use flows_core::state::parameters as state;
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
