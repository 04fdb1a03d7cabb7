//! Batch normalization as a layer of a flow.

use burn::module::{Module, Param};
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::bijector::{Bijector, Invert, Mapped, assert_ok};
use crate::error::{Error, check_positive};
use crate::expand::expand;
use crate::init;
#[cfg(doc)]
use crate::visit::LayerVisit;
use crate::visit::{Arriving, End, Task};

/// Configuration of a [`BatchNorm`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNormConfig {
    /// Number of columns.
    pub dim: usize,
    /// Added to the variance, positive.
    #[serde(default = "epsilon")]
    pub epsilon: f64,
}

fn epsilon() -> f64 {
    1e-5
}

impl BatchNormConfig {
    /// `dim` columns, with the `epsilon` of 1e-5 of the papers.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            epsilon: epsilon(),
        }
    }

    /// A layer that takes its statistics from each batch. The generator is not used: nothing is drawn.
    ///
    /// # Errors
    /// [`Error::Config`] where `dim` is 0 or `epsilon` is not positive.
    pub fn init<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        _rng: &mut dyn Rng,
    ) -> Result<BatchNorm<B>, Error> {
        let options = &options.into();
        let Self { dim, epsilon } = *self;
        if dim == 0 {
            return Err(Error::config(NAME, "dim", 0, "at least 1"));
        }
        check_positive(NAME, "epsilon", epsilon)?;
        let statistic =
            |columns, value| init::constant([1, columns], value, options.clone()).no_grad();
        Ok(BatchNorm {
            log_scale: init::constant([1, dim], 0.0, options.clone()),
            shift: init::constant([1, dim], 0.0, options.clone()),
            mean: statistic(dim, 0.0),
            variance: statistic(dim, 1.0),
            fixed: statistic(1, 0.0),
            epsilon,
        })
    }
}

const NAME: &str = "batch norm";

/// Weight of a batch in the running statistics.
const MOMENTUM: f64 = 0.1;

/// `y = (x - m) exp(gamma) / sqrt(v + epsilon) + beta` in each column, with
/// `log|det| = sum_i (gamma_i - log(v_i + epsilon) / 2)`.
///
/// Between the layers of a flow (Dinh et al., arXiv:1605.08803, section 3.7; Papamakarios et al.,
/// arXiv:1705.07057, appendix B). Where the backend takes gradients, `m` and `v` are mean and variance of the
/// batch, divided by its size; gradients flow through both, and the log-determinant counts them as constants, as
/// published: rows depend on each other then.
///
/// Everywhere else they are running statistics, so that rows are independent: mean 0 and variance 1 at first,
/// then `0.9` of the old and `0.1` of the batch's at every [`LayerVisit::update_statistics`], which training loops
/// make after each step. [`LayerVisit::freeze_statistics`] replaces them by those of the whole training set, for
/// backends with gradients as well. They are saved with the parameters, and so is whether they are frozen. Where
/// rows arrive at the output, both choose the statistics with which the inverse standardizes these rows.
///
/// The inverse needs statistics that do not depend on the batch: where the backend takes gradients, it panics
/// before they are frozen.
#[derive(Module, Debug)]
pub struct BatchNorm<B: Backend> {
    /// `gamma`, `[1, dim]`.
    log_scale: Param<Tensor<B, 2>>,
    /// `beta`, `[1, dim]`.
    shift: Param<Tensor<B, 2>>,
    /// Running mean, `[1, dim]`; not trained.
    mean: Param<Tensor<B, 2>>,
    /// Running variance, `[1, dim]`; not trained.
    variance: Param<Tensor<B, 2>>,
    /// 1 where both are frozen, else 0, `[1, 1]`: a tensor, so that it is saved with them; not trained. Its name is
    /// that in model files.
    fixed: Param<Tensor<B, 2>>,
    epsilon: f64,
}

impl<B: Backend> BatchNorm<B> {
    /// Whether the statistics are those of the training set, for every backend.
    pub fn is_frozen(&self) -> bool {
        self.fixed.val().into_data().iter::<f64>().all(|v| v > 0.5)
    }

    /// Running mean and variance, `[1, dim]` each.
    pub fn running_statistics(&self) -> [Tensor<B, 2>; 2] {
        [self.mean.val(), self.variance.val()]
    }

    /// Mean and variance at work on `x`, `[1, dim]` each.
    fn statistics(&self, x: &Tensor<B, 2>) -> [Tensor<B, 2>; 2] {
        if !B::ad_enabled(&x.device()) {
            return self.running_statistics();
        }
        // Which ones is decided on the device: asking from the host would stall every forward pass.
        let mean = x.clone().mean_dim(0);
        let variance = (x.clone() - mean.clone()).square().mean_dim(0);
        let frozen = self.fixed.val().greater_elem(0.5).expand(mean.dims());
        [
            mean.mask_where(frozen.clone(), self.mean.val()),
            variance.mask_where(frozen, self.variance.val()),
        ]
    }

    /// `gamma - log(v + epsilon) / 2`, `[1, dim]`.
    fn log_slope(&self, variance: Tensor<B, 2>) -> Tensor<B, 2> {
        self.log_scale.val() - (variance + self.epsilon).log() * 0.5
    }

    /// The statistics with which the inverse takes rows of this mean and variance to mean 0 and variance 1.
    fn statistics_for_outputs(&self, mean: &mut [f64], variance: &mut [f64]) {
        let row =
            |param: &Param<Tensor<B, 2>>| param.val().into_data().iter().collect::<Vec<f64>>();
        let (log_scale, shift) = (row(&self.log_scale), row(&self.shift));
        for (j, (mean, variance)) in mean.iter_mut().zip(variance).enumerate() {
            let sd = (*variance + self.epsilon).sqrt();
            *mean = (shift[j] - *mean) / sd;
            *variance = ((2.0 * log_scale[j]).exp() / (sd * sd) - self.epsilon).max(0.0);
        }
    }

    /// Moves the running statistics towards those of `rows`, by `weight` of the way.
    fn take_in(&mut self, rows: Arriving<'_, B>, weight: f64) {
        for chunk in rows.chunks {
            assert_ok(self.check(chunk, None));
        }
        let (mut mean, mut variance) = match moments(rows.chunks, self.dim()) {
            Ok(moments) => moments,
            Err(error) => panic!("{error}"),
        };
        let blend = |old: &Tensor<B, 2>, new: Vec<f64>| {
            let old: Vec<f64> = old.to_data().iter().collect();
            let blended = old.into_iter().zip(new);
            blended
                .map(|(old, new)| old + weight * (new - old))
                .collect::<Vec<_>>()
        };
        if rows.at == End::Output {
            self.statistics_for_outputs(&mut mean, &mut variance);
        }
        let [old_mean, old_variance] = self.running_statistics();
        let like = |values: Vec<f64>| {
            let data = TensorData::new(values, old_mean.dims());
            Tensor::from_data(data, (&old_mean.device(), old_mean.dtype()))
        };
        let mean = like(blend(&old_mean, mean));
        let variance = like(blend(&old_variance, variance));
        set(&mut self.mean, mean);
        set(&mut self.variance, variance);
    }
}

/// Gives a parameter that is not trained another value.
fn set<B: Backend>(param: &mut Param<Tensor<B, 2>>, value: Tensor<B, 2>) {
    *param = param.clone().map(|_| value).no_grad();
}

impl<B: Backend> Bijector<B> for BatchNorm<B> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn dim(&self) -> usize {
        self.shift.dims()[1]
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&x, context.as_ref()));
        let rows = x.dims()[0];
        if rows == 0 {
            return Mapped::volume_preserving(x);
        }
        let [mean, variance] = self.statistics(&x);
        let log_slope = self.log_slope(variance);
        Mapped {
            value: (x - mean) * log_slope.clone().exp() + self.shift.val(),
            log_det: log_slope.sum().expand([rows]),
        }
    }

    fn adapt(&mut self, task: Task<'_, B>) {
        match task {
            Task::FindStatistics(found) => *found = true,
            Task::UpdateStatistics(rows) => self.take_in(rows, MOMENTUM),
            Task::FreezeStatistics(rows) => {
                self.take_in(rows, 1.0);
                let yes = self.fixed.val().ones_like();
                set(&mut self.fixed, yes);
            }
            _ => {}
        }
    }
}

/// Mean and variance of each column over all chunks, in two passes in f64 on the host.
fn moments<B: Backend>(chunks: &[Tensor<B, 2>], dim: usize) -> Result<(Vec<f64>, Vec<f64>), Error> {
    let rows: usize = chunks.iter().map(|chunk| chunk.dims()[0]).sum();
    if rows == 0 {
        return Err(Error::config(
            NAME,
            "training set",
            "empty",
            "at least one row",
        ));
    }
    let mean_of = |term: &dyn Fn(usize, f64) -> f64| {
        let mut sums = vec![0.0; dim];
        for chunk in chunks {
            for (k, value) in chunk.to_data().iter::<f64>().enumerate() {
                sums[k % dim] += term(k % dim, value);
            }
        }
        sums.iter_mut().for_each(|sum| *sum /= rows as f64);
        sums
    };
    let mean = mean_of(&|_, value| value);
    if let Some(column) = mean.iter().position(|m| !m.is_finite()) {
        let expected = "finite numbers".to_owned();
        let actual = format!("a mean of {} in column {column}", mean[column]);
        return Err(Error::config(NAME, "training set", actual, expected));
    }
    let variance = mean_of(&|j, value| (value - mean[j]).powi(2));
    Ok((mean, variance))
}

impl<B: Backend> Invert<B> for BatchNorm<B> {
    /// # Panics
    /// Where the backend takes gradients, before [`LayerVisit::freeze_statistics`].
    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&y, context.as_ref()));
        assert!(
            !B::ad_enabled(&y.device()) || self.is_frozen(),
            "{NAME}: the inverse needs the statistics of the training set; visit the layer with freeze_statistics first"
        );
        let rows = y.dims()[0];
        let log_slope = self.log_slope(self.variance.val());
        Mapped {
            value: (y - self.shift.val()) * log_slope.clone().neg().exp() + self.mean.val(),
            log_det: expand(log_slope.sum().neg(), [rows]),
        }
    }
}
