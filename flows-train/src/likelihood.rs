//! Maximum likelihood on rows of data.

use burn::module::AutodiffModule;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use flows_core::distributions::LogProb;
use flows_core::visit::{LayerVisit, has_statistics};
use rand::Rng;

use crate::data::{Data, Epochs};
use crate::evaluate::{log_probs, may_be_left_out, mean_of_finite};
use crate::objective::{Loss, Objective, Score, Step};
use crate::training::Training;

/// Rows from which layers that start from data are initialized.
const INIT_ROWS: usize = 4096;

/// `-mean log p(x | context)` over rows of data, in nats. The batches of an epoch are slices of one permutation.
///
/// A few rows of a batch without a finite log-density, at most a hundredth or one of few, are left out of it and
/// counted in [`Fitted::left_out`](crate::Fitted::left_out); with more of them the loss is not finite.
///
/// With validation rows, the parameters that score best on them are kept, and training may stop early.
pub struct MaximumLikelihood<'a, N> {
    train: &'a Data,
    draw: Option<Draw<'a>>,
    weights: Option<Vec<f64>>,
    held_out: Option<HeldOut<'a, N>>,
    epochs: Option<Epochs>,
    keeps_statistics: bool,
}

/// What the rows at these places are in a step.
type Draw<'a> = Box<dyn Fn(&[usize], &mut dyn Rng) -> Data + 'a>;

enum HeldOut<'a, N> {
    Rows(&'a Data),
    /// A score and how many log-densities it takes.
    Score(usize, Box<dyn Fn(&N) -> f64 + 'a>),
}

impl<N> HeldOut<'_, N> {
    /// How many log-densities an evaluation takes.
    fn rows(&self) -> usize {
        match self {
            Self::Rows(rows) => rows.len(),
            Self::Score(rows, _) => *rows,
        }
    }
}

impl<N> std::fmt::Debug for MaximumLikelihood<'_, N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let held_out = self.held_out.as_ref().map(HeldOut::rows);
        write!(
            f,
            "MaximumLikelihood({} rows, validated on {held_out:?})",
            self.train.len()
        )
    }
}

impl<'a, N> MaximumLikelihood<'a, N> {
    /// The likelihood of `train`, without validation: training does all its steps.
    pub fn new(train: &'a Data) -> Self {
        Self {
            train,
            draw: None,
            weights: None,
            held_out: None,
            epochs: None,
            keeps_statistics: false,
        }
    }

    /// The same, evaluated by the mean log-likelihood of `validation` in nats.
    #[must_use]
    pub fn validated_on(self, validation: &'a Data) -> Self {
        let held_out = Some(HeldOut::Rows(validation));
        Self { held_out, ..self }
    }

    /// The same, evaluated by `score`, higher is better, which takes about the work of `rows` log-densities.
    #[must_use]
    pub fn scored_by(self, rows: usize, score: impl Fn(&N) -> f64 + 'a) -> Self {
        let held_out = Some(HeldOut::Score(rows, Box::new(score)));
        Self { held_out, ..self }
    }

    /// The same, on rows that `draw` makes anew at every step, such as with noise: it is given their places in the
    /// data and a generator of the step.
    #[must_use]
    pub fn drawn_by(self, draw: impl Fn(&[usize], &mut dyn Rng) -> Data + 'a) -> Self {
        let draw: Option<Draw<'a>> = Some(Box::new(draw));
        Self { draw, ..self }
    }

    /// The same with a weight for each row of `train`, relative to their mean: a row of weight 2 counts as two.
    ///
    /// # Panics
    /// Where there are not as many weights as rows.
    #[must_use]
    pub fn weighted(self, weights: &[f64]) -> Self {
        assert_eq!(weights.len(), self.train.len());
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        let weights = weights.iter().map(|w| w / mean).collect();
        Self {
            weights: Some(weights),
            ..self
        }
    }

    /// The mean of the log-densities of these rows, each with its weight.
    fn mean<B: AutodiffBackend>(
        &self,
        scores: Tensor<B, 1>,
        rows: &[usize],
        at: &Step<'_, B>,
    ) -> Tensor<B, 1> {
        match self.weights_of(rows, at) {
            None => scores.mean(),
            Some(weights) => (scores * weights).mean(),
        }
    }

    /// The weights of these rows, `[rows]`.
    fn weights_of<B: AutodiffBackend>(
        &self,
        rows: &[usize],
        at: &Step<'_, B>,
    ) -> Option<Tensor<B, 1>> {
        let weights = self.weights.as_ref()?;
        let weights: Vec<f64> = rows.iter().map(|&row| weights[row]).collect();
        let weights = TensorData::new(weights, [rows.len()]);
        Some(Tensor::from_data(weights, at.options.clone()))
    }

    /// The rows of a step, and their weights where there are any, `[rows]`.
    pub(crate) fn batch<B: AutodiffBackend>(
        &mut self,
        at: &Step<'_, B>,
    ) -> (Data, Option<Tensor<B, 1>>) {
        let picked = self.picked(at).to_vec();
        (self.drawn(&picked, at), self.weights_of(&picked, at))
    }

    /// The rows of a step, always the same for the same rows.
    fn drawn<B: AutodiffBackend>(&self, rows: &[usize], at: &Step<'_, B>) -> Data {
        match &self.draw {
            Some(draw) => draw(rows, &mut at.rng("rows")),
            None => self.train.pick(rows),
        }
    }

    fn picked<B: AutodiffBackend>(&mut self, at: &Step<'_, B>) -> &[usize] {
        let rows = self.train.len();
        let epochs = self
            .epochs
            .get_or_insert_with(|| Epochs::new(rows, at.batch));
        epochs.rows_of(at.seed, at.index)
    }
}

impl<B, M> Objective<B, M> for MaximumLikelihood<'_, M::InnerModule>
where
    B: AutodiffBackend,
    M: AutodiffModule<B> + LogProb<B>,
    M::InnerModule: LogProb<B::InnerBackend>,
{
    fn loss(&mut self, model: &M, at: &Step<'_, B>) -> Loss<B> {
        let picked = self.picked(at).to_vec();
        let batch = self.drawn(&picked, at);
        let log_prob = |batch: &Data| {
            let (x, context) = batch.tensors(at.options.clone());
            model.log_prob(x, context)
        };
        let loss_of = |mean: Tensor<B, 1>| {
            let value = mean.neg();
            let number = value.clone().inner().into_data().iter::<f64>().next();
            Loss {
                number: Some(number.unwrap_or(f64::NAN)),
                ..Loss::new(value)
            }
        };
        let scores = log_prob(&batch);
        let loss = loss_of(self.mean(scores.clone(), &picked, at));
        if loss.number.is_some_and(f64::is_finite) {
            return loss;
        }
        // Rows without a finite log-density are left out; their gradients would not be finite either.
        let scores: Vec<f64> = scores.inner().into_data().iter::<f64>().collect();
        let finite = (0..scores.len()).filter(|&row| scores[row].is_finite());
        let finite: Vec<usize> = finite.collect();
        let left_out = picked.len() - finite.len();
        // Where a solver finds no inverse, a row is NaN; where parameters are lost, all rows are.
        let nan = scores.iter().filter(|s| s.is_nan()).count();
        let nan = if nan < picked.len() { nan } else { 0 };
        let unsolved = (nan > 0).then(|| Tensor::full([1], nan as f64, &at.options.device));
        match may_be_left_out(left_out, picked.len()) {
            true => {
                let rows: Vec<usize> = finite.iter().map(|&row| picked[row]).collect();
                let scores = log_prob(&batch.pick(&finite));
                Loss {
                    unsolved,
                    left_out,
                    ..loss_of(self.mean(scores, &rows, at))
                }
            }
            false => Loss { unsolved, ..loss },
        }
    }

    fn initialize(&mut self, model: &mut M, at: &Step<'_, B>) {
        let first = self.train.slice(0, self.train.len().min(INIT_ROWS));
        let (x, context) = first.tensors(at.options.clone());
        model.visit_layers(&mut LayerVisit::init_from_data(x, context));
    }

    fn before_step(&mut self, model: &mut M, at: &Step<'_, B>) {
        self.keeps_statistics = has_statistics(|visit| model.visit_layers(visit));
        model.visit_layers(&mut at.resample_noise());
    }

    fn after_step(&mut self, model: &mut M, at: &Step<'_, B>) {
        if self.keeps_statistics {
            let picked = self.picked(at).to_vec();
            let (x, context) = self.drawn(&picked, at).tensors(at.options.clone());
            model.visit_layers(&mut LayerVisit::update_statistics(x, context));
        }
    }

    /// By default an epoch, but at least 50 steps and at most 500, and no evaluation that takes longer than the
    /// steps between.
    fn evaluate_every(&self, training: &Training) -> Option<usize> {
        let held_out = self.held_out.as_ref()?;
        Some(match training.evaluate_every {
            0 => {
                let epochs = Epochs::new(self.train.len(), training.batch);
                let epoch = self.train.len() / epochs.batch();
                epoch
                    .clamp(50, 500)
                    .max(held_out.rows().div_ceil(epochs.batch()))
            }
            n => n,
        })
    }

    fn evaluate(&mut self, model: &M::InnerModule, _at: &Step<'_, B>) -> Option<Score> {
        let value = match self.held_out.as_ref()? {
            HeldOut::Rows(rows) => mean_of_finite(&log_probs(model, rows)),
            HeldOut::Score(_, score) => score(model),
        };
        Some(Score {
            value,
            terms: Vec::new(),
        })
    }
}
