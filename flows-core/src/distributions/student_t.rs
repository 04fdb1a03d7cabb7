//! Student's t distribution of each column.

use std::f64::consts::TAU;

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use rand::{Rng, RngExt};
use rand_distr::{Distribution, Exp1};
use serde::{Deserialize, Serialize};

use super::parametric::{Family, HALF_LOG_TWO_PI, Parametric};
use crate::error::Error;
use crate::init::options_of;
use crate::nn::{ParametersConfig, columns, log_scale};
use crate::softplus::{softplus, softplus_inverse};

/// Configuration of Student's t distributions around 0 with scale 1, one for each column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StudentTConfig {
    /// Degrees of freedom at the start, more than 0.5 and at most 1e6.
    pub degrees: f64,
    /// Whether locations, scales and degrees of freedom are fixed, trained, or given by a context.
    pub parameters: ParametersConfig,
}

impl Default for StudentTConfig {
    /// Five degrees of freedom.
    fn default() -> Self {
        Self {
            degrees: 5.0,
            parameters: ParametersConfig::default(),
        }
    }
}

impl StudentTConfig {
    /// The distribution in `dim` dimensions.
    ///
    /// # Errors
    /// [`Error::Config`] where `dim` is 0 or `degrees` out of range, and as [`ParametersConfig::init`].
    pub fn init<B: Backend>(
        &self,
        dim: usize,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<Parametric<B, StudentT>, Error> {
        let family = StudentT::new(dim, self.degrees)?;
        Parametric::new(family, &self.parameters, options, rng)
    }
}

/// `x_i = loc_i + exp(s_i) t_i` with independent `t_i` of Student's distribution with `v_i` degrees of freedom.
///
/// With `u = (x_i - loc_i) exp(-s_i)`, the sum over columns of
///
/// ```text
/// log p = log G((v + 1) / 2) - log G(v / 2) - log(pi v) / 2 - s - (v + 1) / 2 log(1 + u^2 / v)
/// ```
///
/// with the gamma function `G`, `s = 10 tanh(raw / 10)` and `v = 0.5 + softplus(raw)`. Samples are by the polar
/// method `t = sqrt(v (U^(-2/v) - 1)) cos(2 pi V)` for uniform `U` and `V` (Bailey, *Polar generation of random
/// variates with the t-distribution*, Mathematics of Computation 62, 1994), so gradients reach the degrees of
/// freedom, too.
///
/// Raw parameters: `dim` locations, `dim` log-scales, `dim` for the degrees of freedom.
#[derive(Module, Clone, Debug, PartialEq)]
pub struct StudentT {
    #[module(skip)]
    dim: usize,
    /// At the start.
    #[module(skip)]
    degrees: f64,
}

const NAME: &str = "student t";

/// Fewer degrees of freedom would take samples beyond f32.
const FEWEST: f64 = 0.5;

impl StudentT {
    /// Distributions that start with `degrees` degrees of freedom.
    ///
    /// # Errors
    /// [`Error::Config`] where `dim` is 0 or `degrees` out of range.
    pub fn new(dim: usize, degrees: f64) -> Result<Self, Error> {
        if dim == 0 {
            return Err(Error::config(NAME, "dim", 0, "at least 1"));
        }
        if !(degrees > FEWEST && degrees <= 1e6) {
            let expected = format!("more than {FEWEST}, and at most 1e6");
            return Err(Error::config(NAME, "degrees", degrees, expected));
        }
        Ok(Self { dim, degrees })
    }

    /// Locations, log-scales and degrees of freedom.
    fn read<B: Backend>(&self, raw: &Tensor<B, 2>) -> [Tensor<B, 2>; 3] {
        let block = |k: usize| columns(raw, k * self.dim, self.dim);
        [block(0), log_scale(block(1)), softplus(block(2)) + FEWEST]
    }
}

impl<B: Backend> Family<B> for StudentT {
    fn name(&self) -> &'static str {
        NAME
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn start(&self, _rng: &mut dyn Rng) -> Vec<f64> {
        let mut start = vec![0.0; 3 * self.dim];
        start[2 * self.dim..].fill(softplus_inverse(self.degrees - FEWEST));
        start
    }

    fn log_prob(&self, raw: Tensor<B, 2>, x: Tensor<B, 2>) -> Tensor<B, 1> {
        let [loc, s, degrees] = self.read(&raw);
        let u = (x - loc) * s.clone().neg().exp();
        let power = (degrees.clone() + 1.0) * 0.5;
        let log_p = log_peak(degrees.clone()) - s - power * (u.square() * degrees.recip()).log1p();
        log_p.sum_dim(1).squeeze_dim(1)
    }

    fn sample(&self, raw: Tensor<B, 2>, n: usize, rng: &mut dyn Rng) -> Tensor<B, 2> {
        let (mut exponentials, mut cosines) = (Vec::new(), Vec::new());
        for _ in 0..n * self.dim {
            let e: f64 = Exp1.sample(rng);
            // The root below has no slope at 0.
            exponentials.push(e.max(1e-30));
            cosines.push((TAU * rng.random::<f64>()).cos());
        }
        let table = |values: Vec<f64>| {
            let data = TensorData::new(values, [n, self.dim]);
            Tensor::<B, 2>::from_data(data, options_of(&raw))
        };
        let (e, cosine) = (table(exponentials), table(cosines));
        let [loc, s, degrees] = self.read(&raw);
        // U = exp(-e), and exp(2 h) - 1 = exp(2 h) 2 t / (1 + t) with t = tanh h loses no digits.
        let half = e * degrees.clone().recip();
        let t = half.clone().tanh();
        let radius = (degrees * t.clone() * 2.0 / (t + 1.0)).sqrt() * half.exp();
        radius * cosine * s.exp() + loc
    }
}

/// Steps by which the argument of the series is raised: from 8 on its terms fall below a rounding error of f64.
const SHIFT: usize = 8;

/// `log G((v + 1) / 2) - log G(v / 2) - log(pi v) / 2`, elementwise: the logarithm of the density at the peak, for
/// `v >= 0.5`, with a derivative that is as exact.
///
/// With `x = v / 2` and `z = x + 8`, the recurrence of the gamma function and the series of Stirling's formula
///
/// ```text
/// log G(z + 1/2) - log G(z) = log(z) / 2 - sum_n (1 - 4^-n) B_2n / (n (2 n - 1) z^(2 n - 1))
/// ```
///
/// (from NIST DLMF 5.11.8 at both arguments, Bernoulli numbers `B_2n`) give a sum of small terms: no two large
/// logarithms are subtracted, and the result goes to `-log(2 pi) / 2`.
pub(crate) fn log_peak<B: Backend, const D: usize>(degrees: Tensor<B, D>) -> Tensor<B, D> {
    const SERIES: [f64; 7] = [
        -1.0 / 8.0,
        1.0 / 192.0,
        -1.0 / 640.0,
        17.0 / 14336.0,
        -31.0 / 18432.0,
        691.0 / 180_224.0,
        -5461.0 / 425_984.0,
    ];
    let x = degrees * 0.5;
    let inverse = (x.clone() + SHIFT as f64).recip();
    let square = inverse.clone().square();
    let series = SERIES
        .iter()
        .rev()
        .fold(x.zeros_like(), |sum, term| sum * square.clone() + *term);
    let steps = (0..SHIFT).fold(x.zeros_like(), |sum, k| {
        sum + ((x.clone() + k as f64).recip() * 0.5).log1p()
    });
    let shifted = (x.recip() * SHIFT as f64).log1p() * 0.5;
    shifted - steps + series * inverse - HALF_LOG_TWO_PI
}
