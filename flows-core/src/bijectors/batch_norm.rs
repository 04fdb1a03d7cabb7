//! Batch normalization as a layer of a flow.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::bijector::{Bijector, Invert, Mapped, assert_ok};
use crate::error::Error;
use crate::expand::expand;
use crate::init;

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
        device: &B::Device,
        _rng: &mut dyn Rng,
    ) -> Result<BatchNorm<B>, Error> {
        let Self { dim, epsilon } = *self;
        if dim == 0 {
            return Err(Error::config(NAME, "dim", 0, "at least 1"));
        }
        if !(epsilon > 0.0 && epsilon.is_finite()) {
            return Err(Error::config(
                NAME,
                "epsilon",
                epsilon,
                "positive and finite",
            ));
        }
        let statistic = |columns, value| init::constant([1, columns], value, device).no_grad();
        Ok(BatchNorm {
            log_scale: init::constant([1, dim], 0.0, device),
            shift: init::constant([1, dim], 0.0, device),
            mean: statistic(dim, 0.0),
            variance: statistic(dim, 1.0),
            fixed: statistic(1, 0.0),
            epsilon,
        })
    }
}

const NAME: &str = "batch norm";

/// `y = (x - m) exp(gamma) / sqrt(v + epsilon) + beta` in each column, with
/// `log|det| = sum_i (gamma_i - log(v_i + epsilon) / 2)`.
///
/// Between the layers of a flow (Dinh et al., arXiv:1605.08803, section 3.7; Papamakarios et al.,
/// arXiv:1705.07057, appendix B). While it trains, `m` and `v` are mean and variance of the batch, divided by its
/// size; gradients flow through both, and the log-determinant counts them as constants, as published: rows
/// depend on each other then. For evaluation,
/// [`fix_statistics`](Bijector::fix_statistics) sets both to their values over the whole training set. They are
/// saved with the parameters, and so is whether they are fixed.
///
/// The inverse needs fixed statistics and panics without: those of a batch that is not known yet
/// cannot be taken.
#[derive(Module, Debug)]
pub struct BatchNorm<B: Backend> {
    /// `gamma`, `[1, dim]`.
    log_scale: Param<Tensor<B, 2>>,
    /// `beta`, `[1, dim]`.
    shift: Param<Tensor<B, 2>>,
    /// Over the training set, `[1, dim]`; not trained.
    mean: Param<Tensor<B, 2>>,
    /// Over the training set, `[1, dim]`; not trained.
    variance: Param<Tensor<B, 2>>,
    /// 1 where both are fixed, else 0, `[1, 1]`: a tensor, so that it is saved with them; not trained.
    fixed: Param<Tensor<B, 2>>,
    epsilon: f64,
}

impl<B: Backend> BatchNorm<B> {
    /// Whether the statistics are those of the training set and no longer of each batch.
    pub fn is_fixed(&self) -> bool {
        self.fixed.val().into_data().iter::<f64>().all(|v| v > 0.5)
    }

    /// Mean and variance at work on `x`, `[1, dim]` each. Which ones is decided on the device: a look
    /// from the host would stall every forward pass.
    fn statistics(&self, x: &Tensor<B, 2>) -> [Tensor<B, 2>; 2] {
        let mean = x.clone().mean_dim(0);
        let variance = (x.clone() - mean.clone()).square().mean_dim(0);
        let fixed = self.fixed.val().greater_elem(0.5).expand(mean.dims());
        [
            mean.mask_where(fixed.clone(), self.mean.val()),
            variance.mask_where(fixed, self.variance.val()),
        ]
    }

    /// `gamma - log(v + epsilon) / 2`, `[1, dim]`.
    fn log_slope(&self, variance: Tensor<B, 2>) -> Tensor<B, 2> {
        self.log_scale.val() - (variance + self.epsilon).log() * 0.5
    }

    fn fix(&mut self, mean: Vec<f64>, variance: Vec<f64>) {
        for (param, values) in [
            (&mut self.mean, mean),
            (&mut self.variance, variance),
            (&mut self.fixed, vec![1.0]),
        ] {
            let old = param.val();
            let data = TensorData::new(values, old.dims());
            let value = Tensor::from_data(data, (&old.device(), old.dtype()));
            *param = param.clone().map(|_| value).no_grad();
        }
    }
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

    fn fix_statistics(
        &mut self,
        chunks: Vec<Tensor<B, 2>>,
        _contexts: Option<&[Tensor<B, 2>]>,
    ) -> Vec<Tensor<B, 2>> {
        for chunk in &chunks {
            assert_ok(self.check(chunk, None));
        }
        let (mean, variance) = match moments(&chunks, self.dim()) {
            Ok(moments) => moments,
            Err(error) => panic!("{error}"),
        };
        self.fix(mean, variance);
        chunks.into_iter().map(|x| self.forward(x, None)).collect()
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
    /// Before [`fix_statistics`](Bijector::fix_statistics).
    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&y, context.as_ref()));
        assert!(
            self.is_fixed(),
            "{NAME}: the inverse needs the statistics of the training set; call fix_statistics first"
        );
        let rows = y.dims()[0];
        let log_slope = self.log_slope(self.variance.val());
        Mapped {
            value: (y - self.shift.val()) * log_slope.clone().neg().exp() + self.mean.val(),
            log_det: expand(log_slope.sum().neg(), [rows]),
        }
    }
}
