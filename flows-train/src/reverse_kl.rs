//! Fitting a flow to an unnormalized density.

use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use flows_core::distributions::{LogProb, Sample};

use crate::objective::{Loss, Objective, Step};

/// `mean(log q(x) + U(x))` over samples `x` of the model `q`, in nats: the divergence of `q` from
/// `p = exp(-U) / Z`, `KL(q || p) = E_q[log q + U] + log Z`, up to `log Z`
/// (Rezende & Mohamed, arXiv:1505.05770, equation 15).
///
/// The energy is a closure of samples `[batch, dim]` and the step, so that it can be annealed, and gives `[batch]`:
/// `ReverseKl(|x, step| energy(x) * step.progress().min(1.0))`.
#[derive(Debug, Clone, Copy)]
pub struct ReverseKl<F>(pub F);

impl<B, M, F> Objective<B, M> for ReverseKl<F>
where
    B: AutodiffBackend,
    M: AutodiffModule<B> + Sample<B> + LogProb<B>,
    F: FnMut(Tensor<B, 2>, &Step<'_, B>) -> Tensor<B, 1>,
{
    fn loss(&mut self, model: &M, at: &Step<'_, B>) -> Loss<B> {
        let (x, log_q) = model.sample_and_log_prob(at.batch, None, &mut at.rng("batch"));
        Loss::of_solved(log_q + (self.0)(x, at))
    }

    fn before_step(&mut self, model: &mut M, at: &Step<'_, B>) {
        model.visit_layers(&mut at.resample_noise());
    }
}
