//! Maximum likelihood with gradients taken segment by segment, in bounded memory.

use burn::module::AutodiffModule;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use flows_core::bijector::{Bijector, context_for};
use flows_core::bijectors::{Cnf, Layer, Stack};
use flows_core::continuous::{Beside, Plan, Towards};
use flows_core::distributions::LogProb;
use flows_core::flow::{DataToBase, Flow};

use crate::likelihood::MaximumLikelihood;
use crate::objective::{Loss, Objective, Score, Step};
use crate::solved::mean_of_solved;
use crate::training::Training;

/// A [`MaximumLikelihood`] of a stack from data to its base whose memory does not grow with its layers, nor with the steps
/// of a continuous flow: what the backward pass needs is kept for one layer, or one step, at a time, and every layer is
/// run twice.
///
/// Rows without a finite log-density are left out of the loss if they are NaN, as a solver leaves those that it could
/// not bring to the end; another loss that is not finite ends the run.
#[derive(Debug)]
pub struct SegmentedLikelihood<'a, N>(MaximumLikelihood<'a, N>);

impl<'a, N> MaximumLikelihood<'a, N> {
    /// The same with gradients taken segment by segment, for stacks that do not fit into memory otherwise.
    #[must_use]
    pub fn by_segments(self) -> SegmentedLikelihood<'a, N> {
        SegmentedLikelihood(self)
    }
}

/// A stack from data to a base.
type StackFlow<B, P> = Flow<B, Stack<B>, P, DataToBase>;

/// What the adjoint is carried back through: a whole layer, or the steps of a continuous flow.
enum Segment<'a, B: AutodiffBackend> {
    Layer(&'a Layer<B>, Tensor<B::InnerBackend, 2>),
    /// With the state at the start of each step.
    Steps(
        &'a Cnf<B>,
        Plan<B::InnerBackend>,
        Vec<Tensor<B::InnerBackend, 2>>,
    ),
}

/// `-mean log p(x | context)` in nats with its gradients.
///
/// The states at the starts of the segments are computed outside of the graph. From the last segment to the first, each
/// is run again on a graph of its own, and `backward` of `sum(a z) + sum(w log|det|)` gives the gradients of its
/// parameters, and the next adjoint `a`, the gradient in where it starts; `w` is the gradient in the log-density.
///
/// # Shapes
/// - `x`: `[batch, dim]`, `context`: `[batch, context_dim]`
///
/// # Panics
/// With the message of [`Bijector::check`] on wrong shapes.
pub fn segmented_likelihood<B, P>(
    flow: &Flow<B, Stack<B>, P, DataToBase>,
    x: Tensor<B::InnerBackend, 2>,
    context: Option<Tensor<B::InnerBackend, 2>>,
) -> Loss<B>
where
    B: AutodiffBackend,
    P: LogProb<B> + AutodiffModule<B>,
    P::InnerModule: LogProb<B::InnerBackend>,
{
    weighted(flow, x, context, None)
}

/// The same, each log-density times a weight, `[batch]`.
fn weighted<B, P>(
    flow: &StackFlow<B, P>,
    x: Tensor<B::InnerBackend, 2>,
    context: Option<Tensor<B::InnerBackend, 2>>,
    weights: Option<Tensor<B, 1>>,
) -> Loss<B>
where
    B: AutodiffBackend,
    P: LogProb<B> + AutodiffModule<B>,
    P::InnerModule: LogProb<B::InnerBackend>,
{
    let device = x.device();
    let tracked = |t: &Tensor<B::InnerBackend, 2>| Tensor::<B, 2>::from_inner(t.clone());
    let tracked_context = context.as_ref().map(tracked);

    // Forward, outside of the graph.
    let mut segments = Vec::new();
    let (mut z, mut log_det) = (x, None);
    let inner = flow.bijector().valid();
    for (layer, inner) in flow.bijector().layers().iter().zip(inner.layers()) {
        let mapped = match (layer, inner) {
            (Layer::Cnf(cnf), Layer::Cnf(inner)) => {
                let equation = inner.equation(
                    Towards::End,
                    Beside::LogDet,
                    &z,
                    context_for(inner, &context),
                );
                let state = equation.start(z);
                let plan = equation.plan(cnf.solver(&device), state.clone());
                let (mut states, mut state) = (Vec::new(), plan.start(state));
                for k in 0..plan.len() {
                    let next = plan.step(k, &|z, t| equation.rates(z, t), state.clone());
                    states.push(std::mem::replace(&mut state, next));
                }
                let mapped = equation.mapped(plan.lose(state));
                segments.push(Segment::Steps(cnf, plan, states));
                mapped
            }
            _ => {
                segments.push(Segment::Layer(layer, z.clone()));
                inner.forward_and_log_det(z, context_for(inner, &context))
            }
        };
        z = mapped.value;
        log_det = Some(match log_det {
            Some(sum) => sum + mapped.log_det,
            None => mapped.log_det,
        });
    }

    // The loss at the base, and its gradients there.
    let mut gradients = GradientsAccumulator::new();
    let mut take = |loss: Tensor<B, 1>, leaves: &[&Tensor<B, 2>]| -> Vec<_> {
        let taken = loss.backward();
        let of = |leaf: &&Tensor<B, 2>| {
            let gradient = leaf.grad(&taken);
            gradient.unwrap_or_else(|| (*leaf).clone().inner().zeros_like())
        };
        let of_leaves = leaves.iter().map(of).collect();
        gradients.accumulate(flow, GradientsParams::from_grads(taken, flow));
        of_leaves
    };
    let end = tracked(&z).require_grad();
    let log_det = log_det.expect("a stack holds at least one layer");
    let log_det = Tensor::<B, 2>::from_inner(log_det.unsqueeze_dim(1)).require_grad();
    let of_base = tracked_context
        .clone()
        .filter(|_| flow.base().context_dim() > 0);
    let log_base = flow.base().log_prob(end.clone(), of_base);
    let scores = log_base + log_det.clone().squeeze_dim(1);
    let scores = match weights {
        None => scores,
        Some(weights) => scores * weights,
    };
    let (loss, unsolved) = mean_of_solved(scores.neg());
    let value = loss.clone().inner();
    let mut at_base = take(loss, &[&end, &log_det]).into_iter();
    let mut next = || at_base.next().expect("a gradient for each leaf");
    let (mut adjoint, weight) = (next(), next());

    // Back through the segments.
    let weight = Tensor::<B, 2>::from_inner(weight);
    for segment in segments.into_iter().rev() {
        match segment {
            Segment::Layer(layer, start) => {
                let start = tracked(&start).require_grad();
                let mapped =
                    layer.forward_and_log_det(start.clone(), context_for(layer, &tracked_context));
                let of_log_det = mapped.log_det.unsqueeze_dim(1) * weight.clone();
                let scalar = (mapped.value * tracked(&adjoint)).sum() + of_log_det.sum();
                adjoint = take(scalar, &[&start]).remove(0);
            }
            Segment::Steps(cnf, plan, starts) => {
                let dim = cnf.dim();
                let plan = Plan::<B>::from_inner(plan);
                // Of the state, whose last column is the log-determinant.
                let of_end = Tensor::cat(vec![tracked(&adjoint), weight.clone()], 1);
                let mut of_state = plan.start(of_end).inner();
                let context = context_for(cnf, &tracked_context);
                for (k, start) in starts.iter().enumerate().rev() {
                    let start = tracked(start).require_grad();
                    let rows = start.clone().narrow(1, 0, dim);
                    let equation =
                        cnf.equation(Towards::End, Beside::LogDet, &rows, context.clone());
                    let end = plan.step(k, &|z, t| equation.rates(z, t), start.clone());
                    of_state = take((end * tracked(&of_state)).sum(), &[&start]).remove(0);
                }
                adjoint = of_state.narrow(1, 0, dim);
            }
        }
    }
    Loss {
        unsolved: Some(unsolved.inner()),
        ..Loss::new(Tensor::from_inner(value)).with_gradients(gradients.grads())
    }
}

impl<B, P> Objective<B, StackFlow<B, P>>
    for SegmentedLikelihood<'_, StackFlow<B::InnerBackend, P::InnerModule>>
where
    B: AutodiffBackend,
    P: LogProb<B> + AutodiffModule<B>,
    P::InnerModule: LogProb<B::InnerBackend>,
{
    fn loss(&mut self, model: &StackFlow<B, P>, at: &Step<'_, B>) -> Loss<B> {
        let (rows, weights) = self.0.batch(at);
        let (x, context) = rows.tensors(at.options.clone());
        weighted(model, x.inner(), context.map(Tensor::inner), weights)
    }

    fn initialize(&mut self, model: &mut StackFlow<B, P>, at: &Step<'_, B>) {
        self.0.initialize(model, at);
    }

    fn before_step(&mut self, model: &mut StackFlow<B, P>, at: &Step<'_, B>) {
        self.0.before_step(model, at);
    }

    fn after_step(&mut self, model: &mut StackFlow<B, P>, at: &Step<'_, B>) {
        self.0.after_step(model, at);
    }

    fn evaluate_every(&self, training: &Training) -> Option<usize> {
        Objective::<B, StackFlow<B, P>>::evaluate_every(&self.0, training)
    }

    fn evaluate(
        &mut self,
        model: &StackFlow<B::InnerBackend, P::InnerModule>,
        at: &Step<'_, B>,
    ) -> Option<Score> {
        Objective::<B, StackFlow<B, P>>::evaluate(&mut self.0, model, at)
    }
}
