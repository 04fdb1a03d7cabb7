//! What is minimised.

use burn::module::AutodiffModule;
use burn::optim::GradientsParams;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorCreationOptions};
use flows_core::distributions::LogProb;
use flows_core::random::ChaCha12Rng;
use flows_core::visit::LayerVisit;

use crate::streams::{stream, stream_seed};
use crate::training::Training;

/// Where in a run a step stands, and what it may use.
#[derive(Debug)]
pub struct Step<'a, B: AutodiffBackend> {
    /// The step, from 0.
    pub index: usize,
    /// Steps of the whole run.
    pub of: usize,
    /// Rows in a batch, as [`Training::batch`] says.
    pub batch: usize,
    /// The seed of the run.
    pub seed: u64,
    /// The device of the model, and the type of its parameters.
    pub options: &'a TensorCreationOptions<B>,
}

impl<B: AutodiffBackend> Clone for Step<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: AutodiffBackend> Copy for Step<'_, B> {}

impl<B: AutodiffBackend> Step<'_, B> {
    /// Fraction of the run that lies behind, in `[0, 1)`.
    pub fn progress(&self) -> f64 {
        self.index as f64 / self.of.max(1) as f64
    }

    /// The generator of one purpose in this step: the same each time it is asked for.
    pub fn rng(&self, purpose: &str) -> ChaCha12Rng {
        stream(self.seed, purpose, self.index as u64)
    }

    /// The visit that draws the noise of random estimators anew for this step.
    pub fn resample_noise(&self) -> LayerVisit<B> {
        LayerVisit::resample_noise(stream_seed(self.seed, "noise", self.index as u64))
    }
}

/// What an objective makes of one batch.
#[derive(Debug)]
pub struct Loss<B: AutodiffBackend> {
    /// The loss, a tensor of one element.
    pub value: Tensor<B, 1>,
    /// The same as a number, where the objective has read it: it is then checked before the step is taken.
    pub number: Option<f64>,
    /// Its gradients, where they have been taken already; the loop takes them otherwise.
    pub gradients: Option<GradientsParams>,
    /// Parts of it by name, each a tensor of one element, whose curves are recorded beside that of the loss.
    pub terms: Vec<(&'static str, Tensor<B, 1>)>,
    /// How many rows are NaN because a solver found no inverse, a tensor of one element;
    /// see [`mean_of_solved`](crate::mean_of_solved).
    pub unsolved: Option<Tensor<B::InnerBackend, 1>>,
    /// Rows that were left out of the loss, where that is known without waiting for the device.
    pub left_out: usize,
}

impl<B: AutodiffBackend> Loss<B> {
    /// A loss without anything beside it.
    pub fn new(value: Tensor<B, 1>) -> Self {
        Self {
            value,
            number: None,
            gradients: None,
            terms: Vec::new(),
            unsolved: None,
            left_out: 0,
        }
    }

    /// The mean of a loss over rows without those whose inverse was not solved, which are counted.
    ///
    /// # Shapes
    /// - `rows`: `[batch]`
    pub fn of_solved(rows: Tensor<B, 1>) -> Self {
        let (mean, unsolved) = crate::solved::mean_of_solved(rows);
        Self {
            unsolved: Some(unsolved.inner()),
            ..Self::new(mean)
        }
    }

    /// The same with gradients that have been taken already.
    #[must_use]
    pub fn with_gradients(self, gradients: GradientsParams) -> Self {
        Self {
            gradients: Some(gradients),
            ..self
        }
    }

    /// The same with parts that are recorded by name.
    #[must_use]
    pub fn with_terms(self, terms: Vec<(&'static str, Tensor<B, 1>)>) -> Self {
        Self { terms, ..self }
    }
}

impl<B: AutodiffBackend> From<Tensor<B, 1>> for Loss<B> {
    fn from(value: Tensor<B, 1>) -> Self {
        Self::new(value)
    }
}

/// How good a model is on data that it is not trained on.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Higher is better, such as a mean log-likelihood in nats.
    pub value: f64,
    /// Numbers by name that are recorded with it.
    pub terms: Vec<(&'static str, f64)>,
}

/// A loss on one batch, what surrounds a step, and how a model is evaluated.
///
/// A resumed run ends with the same bits if each method is a function of the model and of the [`Step`]; what an
/// objective keeps between two evaluations may depend on the steps since the first of them.
///
/// A closure `|model: &M, step: &Step<'_, B>| -> L`, where `L` is a [`Loss`] or a tensor of one element, is an
/// objective for flows; noise of random estimators is drawn anew before each step.
pub trait Objective<B: AutodiffBackend, M: AutodiffModule<B>> {
    /// The loss of `model` on one batch. No other thread takes gradients meanwhile.
    fn loss(&mut self, model: &M, at: &Step<'_, B>) -> Loss<B>;

    /// Called once before the first step of a fresh run: data-dependent initialization.
    fn initialize(&mut self, _model: &mut M, _at: &Step<'_, B>) {}

    /// Called before each step, for layers with random estimators and for what is annealed; on resumption once more
    /// for the last step done. A function of the step: what it sets is not in a checkpoint.
    fn before_step(&mut self, _model: &mut M, _at: &Step<'_, B>) {}

    /// Called after each step, for layers with running statistics.
    fn after_step(&mut self, _model: &mut M, _at: &Step<'_, B>) {}

    /// Steps between two calls of [`evaluate`](Self::evaluate); `None` for an objective that does not evaluate.
    fn evaluate_every(&self, _training: &Training) -> Option<usize> {
        None
    }

    /// The score of a model after `at.index` steps; `None` for none this time. The parameters with the highest score
    /// are those that [`fit`](crate::fit) returns.
    fn evaluate(&mut self, _model: &M::InnerModule, _at: &Step<'_, B>) -> Option<Score> {
        None
    }
}

impl<B, M, L, F> Objective<B, M> for F
where
    B: AutodiffBackend,
    M: AutodiffModule<B> + LogProb<B>,
    L: Into<Loss<B>>,
    F: FnMut(&M, &Step<'_, B>) -> L,
{
    fn loss(&mut self, model: &M, at: &Step<'_, B>) -> Loss<B> {
        self(model, at).into()
    }

    fn before_step(&mut self, model: &mut M, at: &Step<'_, B>) {
        model.visit_layers(&mut at.resample_noise());
    }
}
