//! Adamax, with a state that is saved without loss.

use burn::module::AutodiffModule;
use burn::optim::GradientsParams;
use burn::tensor::backend::AutodiffBackend;
use flows_core::adam::{AdamNorm, AdamStep};
use flows_core::state::State;

use super::moments::{BETA_1, BETA_2, Moments};

/// Adamax (Kingma & Ba, arXiv:1412.6980, algorithm 2), with `beta = (0.9, 0.999)`:
///
/// `m <- beta_1 m + (1 - beta_1) g`, `u <- max(beta_2 u, |g| + epsilon)`,
/// `theta <- theta - lr / (1 - beta_1^t) m / u`.
///
/// `epsilon`, which the algorithm leaves out, keeps a parameter without gradient where it is.
/// Moments are keyed by parameter order and keep their bits, as those of [`Adam`](super::Adam).
#[derive(Debug)]
pub struct Adamax<B: AutodiffBackend> {
    /// Running mean of the gradient, and decaying maximum of its size.
    moments: Moments<B>,
    epsilon: f64,
}

const NAMES: [&str; 2] = ["first", "largest"];

impl<B: AutodiffBackend> Adamax<B> {
    /// The `epsilon` of arXiv:1803.05649.
    pub const EPSILON: f64 = 1e-7;

    /// An optimizer before its first step.
    pub fn new(epsilon: f64) -> Self {
        Self {
            moments: Moments::default(),
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
        let step = self.moments.count();
        let step = AdamStep {
            beta_1: BETA_1,
            beta_2: BETA_2,
            rate: learning_rate / (1.0 - BETA_1.powi(step)),
            epsilon: self.epsilon,
            norm: AdamNorm::Infinity,
        };
        self.moments.apply(module, gradients, 1.0, step)
    }

    /// The moments and the step count, as plain data.
    pub fn state(&self) -> State {
        self.moments.state(NAMES)
    }

    /// An optimizer with the state that [`state`](Self::state) gave; `None` where it is not one.
    pub fn from_state(epsilon: f64, state: &State, device: &B::Device) -> Option<Self> {
        Some(Self {
            moments: Moments::from_state(NAMES, state, device)?,
            epsilon,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::{Autodiff, Flex};
    use burn::tensor::Tensor;
    use flows_core::autodiff::exclusive;
    use flows_models::vae::Linear;
    use rand::{SeedableRng, rngs::StdRng};

    type B = Autodiff<Flex>;

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
