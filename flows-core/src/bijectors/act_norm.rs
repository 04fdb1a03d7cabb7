//! Activation normalization: an elementwise affine layer that starts from data.
//!
//! Kingma & Dhariwal, *Glow*, arXiv:1807.03039, section 3.1.

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::bijector::{Bijector, Invert, Mapped, assert_ok};
use crate::bijectors::elementwise_affine::{ElementwiseAffine, ElementwiseAffineConfig};
use crate::error::Error;
#[cfg(doc)]
use crate::visit::LayerVisit;
use crate::visit::{Arriving, End, Task};

/// Configuration of an [`ActNorm`] layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActNormConfig {
    /// Number of columns.
    pub dim: usize,
}

impl ActNormConfig {
    /// A layer of `dim` columns.
    pub fn new(dim: usize) -> Self {
        Self { dim }
    }

    /// The identity, until [`LayerVisit::init_from_data`] brings a batch. The generator is not used: nothing is
    /// drawn.
    ///
    /// # Errors
    /// [`Error::Config`] where `dim` is 0.
    pub fn init<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<ActNorm<B>, Error> {
        if self.dim == 0 {
            return Err(Error::config("activation norm", "dim", 0, "at least 1"));
        }
        let affine = ElementwiseAffineConfig::new(self.dim).init(options, rng)?;
        Ok(ActNorm { affine })
    }
}

/// `y_i = x_i exp(log_scale_i) + shift_i`, whose parameters start so that the first batch comes out
/// with mean 0 and standard deviation 1, and are trained like any others from there.
///
/// [`LayerVisit::init_from_data`] sets `scale_i = 1 / sd_i` and `shift_i = -mean_i / sd_i`, with the population
/// standard deviation (divided by the batch size). Where data arrives at the output, as in the layers of a
/// flow from base to data, it is the inverse that standardizes: `scale_i = sd_i`, `shift_i = mean_i`.
/// A column that is constant up to rounding, as every column of a batch of one, has no scale to
/// take: it keeps scale 1 and is only centred. Another visit starts over from the new batch.
///
/// The visit panics with the message of [`Error::NonFinite`] on NaN or infinity.
#[derive(Module, Debug)]
pub struct ActNorm<B: Backend> {
    affine: ElementwiseAffine<B>,
}

impl<B: Backend> ActNorm<B> {
    /// The map itself.
    pub fn affine(&self) -> &ElementwiseAffine<B> {
        &self.affine
    }
}

impl<B: Backend> Bijector<B> for ActNorm<B> {
    fn name(&self) -> &'static str {
        "activation norm"
    }

    fn dim(&self) -> usize {
        self.affine.dim()
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&x, context.as_ref()));
        self.affine.forward_and_log_det(x, context)
    }

    fn forward(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        assert_ok(self.check(&x, context.as_ref()));
        self.affine.forward(x, context)
    }

    fn adapt(&mut self, task: Task<'_, B>) {
        let Task::InitFromData(Arriving { chunks, at }) = task else {
            return;
        };
        let x = Tensor::cat(chunks.to_vec(), 0);
        assert_ok(self.check(&x, None));
        if x.dims()[0] == 0 {
            return;
        }
        let moments = match column_moments(self.name(), &x) {
            Ok(moments) => moments,
            Err(error) => panic!("{error}"),
        };
        let row = |value: fn(&Moments) -> f64| {
            let values: Vec<f64> = moments.iter().map(value).collect();
            let data = TensorData::new(values, [1, moments.len()]);
            Tensor::from_data(data, (&x.device(), x.dtype()))
        };
        match at {
            End::Input => self.affine.set(
                row(|m| -m.sd_or_one().ln()),
                row(|m| -m.mean / m.sd_or_one()),
            ),
            End::Output => self
                .affine
                .set(row(|m| m.sd_or_one().ln()), row(|m| m.mean)),
        }
    }
}

impl<B: Backend> Invert<B> for ActNorm<B> {
    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&y, context.as_ref()));
        self.affine.inverse_and_log_det(y, context)
    }

    fn inverse(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        assert_ok(self.check(&y, context.as_ref()));
        self.affine.inverse(y, context)
    }
}

/// Mean and spread of one column of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moments {
    pub(crate) mean: f64,
    /// Population variance, 0 for a column that is constant up to rounding.
    pub(crate) variance: f64,
}

impl Moments {
    fn sd_or_one(self) -> f64 {
        if self.variance > 0.0 {
            self.variance.sqrt()
        } else {
            1.0
        }
    }
}

/// The moments of each column, summed in f64 on the host: it happens once, and two passes in f64
/// keep the digits that a one-pass f32 sum would lose.
pub(crate) fn column_moments<B: Backend>(
    layer: &'static str,
    x: &Tensor<B, 2>,
) -> Result<Vec<Moments>, Error> {
    let [rows, dim] = x.dims();
    let epsilon = crate::solve::epsilon(x.dtype());
    let values: Vec<f64> = x.to_data().iter().collect();
    if let Some(i) = values.iter().position(|v| !v.is_finite()) {
        return Err(Error::NonFinite {
            what: format!("{layer}: batch"),
            row: i / dim,
            column: i % dim,
            value: values[i],
        });
    }
    let column = |j: usize| values.iter().skip(j).step_by(dim);
    Ok((0..dim)
        .map(|j| {
            let mean = column(j).sum::<f64>() / rows as f64;
            let variance = column(j).map(|v| (v - mean).powi(2)).sum::<f64>() / rows as f64;
            let low = column(j).copied().fold(f64::INFINITY, f64::min);
            let high = column(j).copied().fold(f64::NEG_INFINITY, f64::max);
            let rounding = 4.0 * epsilon * low.abs().max(high.abs());
            let variance = if high - low > rounding { variance } else { 0.0 };
            Moments { mean, variance }
        })
        .collect())
}
