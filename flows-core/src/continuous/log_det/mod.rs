//! Log-determinants of `I + B`, where `B` is the Jacobian of a velocity field times a step size.
//!
//! One method a file. All of them are differentiable in the parameters of the field and in the
//! points, by first-order automatic differentiation.

mod exact;
mod hutchinson;
mod noise;
mod russian_roulette;
mod spectral_radius;
mod taylor;

pub(crate) use exact::eliminate;
pub use exact::{log_abs_det, solve_identity_plus};
pub use hutchinson::hutchinson;
pub use noise::{Noise, ProbeNoise};
pub use russian_roulette::russian_roulette;
pub use spectral_radius::spectral_radius;

use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use noise::series_lengths;

use crate::continuous::Linearization;
use crate::error::Error;
use crate::random::generator;

/// How `log |det(I + B)|` is computed.
///
/// In a configuration file: `log_det = "exact"`, `log_det = { taylor = { order = 2 } }`,
/// `log_det = { hutchinson = { order = 2, probes = 4, noise = "gaussian" } }` or
/// `log_det = { russian_roulette = { continuation = 0.5 } }`; numbers left out have the defaults of
/// [`HUTCHINSON`](Self::HUTCHINSON) and [`RUSSIAN_ROULETTE`](Self::RUSSIAN_ROULETTE).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
pub enum LogDet {
    /// The determinant itself, by the cheapest closed form: of the `dim x dim` matrix, or, by
    /// Sylvester's theorem `det(I + U V) = det(I + V U)`, of the square matrix of the narrowest
    /// hidden layer. Sizes 1 and 2 have formulas; larger ones are eliminated with partial pivoting.
    #[default]
    Exact,
    /// The truncated series `sum_{n=1}^{order} (-1)^{n+1} tr(B^n) / n` with exact traces.
    ///
    /// Its error against [`Exact`](Self::Exact) is `O(rho^{order+1})`, with `rho` the spectral
    /// radius of `B`, and falls as `1 / T^order` for the sum over `T` steps of size `1 / T`.
    /// **For `rho >= 1` the series diverges**, without a sign of it in the value.
    ///
    /// The paper's equation (15) is order 2 with estimated traces (arXiv:1810.03256).
    Taylor {
        /// Number of terms, at least 1.
        order: usize,
    },
    /// The same truncated series with its traces estimated by random probes, see [`hutchinson`]:
    /// unbiased for the truncated series, not for the determinant.
    ///
    /// **The probes stay the same until a visit with `LayerVisit::resample_noise` gives them another seed**, as a training loop does
    /// before every step.
    Hutchinson {
        /// Number of terms, at least 1.
        #[serde(default = "defaults::order")]
        order: usize,
        /// Number of probes a point, at least 1.
        #[serde(default = "defaults::probes")]
        probes: usize,
        /// Distribution of the probes.
        #[serde(default)]
        noise: ProbeNoise,
        /// Whether each of the `T` steps has probes of its own, or all the same. Both are unbiased;
        /// the sum over fresh ones varies less.
        #[serde(default = "defaults::fresh_per_step")]
        fresh_per_step: bool,
    },
    /// The whole series, ended at random and reweighted, see [`russian_roulette`]: unbiased for the
    /// determinant, at the price of a larger variance and a cost that varies.
    ///
    /// Probes and lengths stay the same until resampled, as for [`Hutchinson`](Self::Hutchinson).
    RussianRoulette {
        /// Terms that are always there, at least 1.
        #[serde(default = "defaults::exact_terms")]
        exact_terms: usize,
        /// Probability, between 0 and 1, of each further term after the one before.
        #[serde(default = "defaults::continuation")]
        continuation: f64,
        /// Number of probes a point, at least 1.
        #[serde(default = "defaults::probes")]
        probes: usize,
        /// Distribution of the probes.
        #[serde(default)]
        noise: ProbeNoise,
        /// Whether each of the `T` steps has probes and a length of its own, or all the same.
        #[serde(default = "defaults::fresh_per_step")]
        fresh_per_step: bool,
    },
}

mod defaults {
    pub(super) const fn order() -> usize {
        2
    }
    pub(super) const fn probes() -> usize {
        1
    }
    pub(super) const fn fresh_per_step() -> bool {
        true
    }
    pub(super) const fn exact_terms() -> usize {
        2
    }
    pub(super) const fn continuation() -> f64 {
        0.5
    }
}

crate::one_key!(LogDet);

impl LogDet {
    /// The second-order series with one fresh Rademacher probe a step.
    pub const HUTCHINSON: Self = Self::Hutchinson {
        order: defaults::order(),
        probes: defaults::probes(),
        noise: ProbeNoise::Rademacher,
        fresh_per_step: defaults::fresh_per_step(),
    };

    /// Two exact terms and further ones with probability 1/2 each, with one fresh Rademacher probe
    /// a step.
    pub const RUSSIAN_ROULETTE: Self = Self::RussianRoulette {
        exact_terms: defaults::exact_terms(),
        continuation: defaults::continuation(),
        probes: defaults::probes(),
        noise: ProbeNoise::Rademacher,
        fresh_per_step: defaults::fresh_per_step(),
    };

    /// A short name for reports, such as `"exact"`, `"taylor(2)"` or
    /// `"hutchinson(2, 1 rademacher, fresh)"`.
    pub fn label(&self) -> String {
        let steps = |fresh: bool| if fresh { "fresh" } else { "fixed" };
        match self {
            Self::Exact => "exact".to_owned(),
            Self::Taylor { order } => format!("taylor({order})"),
            Self::Hutchinson {
                order,
                probes,
                noise,
                fresh_per_step,
            } => {
                let (noise, steps) = (noise.name(), steps(*fresh_per_step));
                format!("hutchinson({order}, {probes} {noise}, {steps})")
            }
            Self::RussianRoulette {
                exact_terms,
                continuation,
                probes,
                noise,
                fresh_per_step,
            } => {
                let (noise, steps) = (noise.name(), steps(*fresh_per_step));
                format!("roulette({exact_terms} + {continuation}, {probes} {noise}, {steps})")
            }
        }
    }

    /// Checks the numbers of the configuration, for a layer called `layer`.
    ///
    /// # Errors
    /// [`Error::Config`] for a series without terms, for no probes, and for a continuation that is
    /// not strictly between 0 and 1.
    pub fn validate(&self, layer: &'static str) -> Result<(), Error> {
        let at_least_one = |field: &'static str, count: usize, what: &str| match count {
            0 => Err(Error::config(layer, field, 0, format!("at least 1 {what}"))),
            _ => Ok(()),
        };
        match *self {
            Self::Exact => Ok(()),
            Self::Taylor { order } => at_least_one("log_det.order", order, "term"),
            Self::Hutchinson { order, probes, .. } => {
                at_least_one("log_det.order", order, "term")?;
                at_least_one("log_det.probes", probes, "probe")
            }
            Self::RussianRoulette {
                exact_terms,
                continuation,
                probes,
                ..
            } => {
                at_least_one("log_det.exact_terms", exact_terms, "term")?;
                at_least_one("log_det.probes", probes, "probe")?;
                if continuation > 0.0 && continuation < 1.0 {
                    return Ok(());
                }
                let expected = "strictly between 0 and 1";
                let field = "log_det.continuation";
                Err(Error::config(layer, field, continuation, expected))
            }
        }
    }

    /// Probes a point, 0 for a method without noise.
    pub fn probes(&self) -> usize {
        match *self {
            Self::Exact | Self::Taylor { .. } => 0,
            Self::Hutchinson { probes, .. } | Self::RussianRoulette { probes, .. } => probes,
        }
    }

    /// Whether each step of a block takes noise of its own; `false` for a method without noise.
    pub fn fresh_per_step(&self) -> bool {
        match *self {
            Self::Exact | Self::Taylor { .. } => false,
            Self::Hutchinson { fresh_per_step, .. }
            | Self::RussianRoulette { fresh_per_step, .. } => fresh_per_step,
        }
    }

    /// The noise for the rows of a batch like `x`, a pure function of `seed`, independent from row to
    /// row; `None` for a method without. A row's noise does not depend on how many rows follow it.
    ///
    /// # Shapes
    /// - `x`: `[n, dim]`, for its shape, device and float type
    pub fn noise<B: Backend>(&self, x: &Tensor<B, 2>, seed: u64) -> Option<Noise<B>> {
        let [n, dim] = x.dims();
        let mut rng = generator(seed);
        match *self {
            Self::Exact | Self::Taylor { .. } => None,
            Self::Hutchinson { probes, noise, .. } => Some(Noise {
                probes: noise.probes([probes, n, dim], x, &mut rng),
                terms: Vec::new(),
            }),
            Self::RussianRoulette {
                exact_terms,
                continuation,
                probes,
                noise,
                ..
            } => {
                // A stream of their own, so that lengths too are those of their row.
                let mut of_lengths = generator(!seed);
                let sizes = [probes, n];
                Some(Noise {
                    probes: noise.probes([probes, n, dim], x, &mut rng),
                    terms: series_lengths(sizes, exact_terms, continuation, &mut of_lengths),
                })
            }
        }
    }

    /// `log |det(I + B)|`, or its approximation, at each point of `b`.
    ///
    /// # Shapes
    /// - `noise`: for the points of `b`, as [`noise`](Self::noise) gives it
    /// - output `[n]`, in nats
    ///
    /// # Panics
    /// Where a stochastic method gets no noise, or that of another method or number of points.
    pub fn log_det<B: Backend>(
        &self,
        b: &Linearization<'_, B>,
        noise: Option<Noise<B>>,
    ) -> Tensor<B, 1> {
        let noise = || noise.expect("a stochastic log-determinant needs noise");
        match *self {
            Self::Exact => exact::log_det(b),
            Self::Taylor { order } => taylor::log_det(b, order),
            Self::Hutchinson { order, .. } => hutchinson(b, order, noise().probes),
            Self::RussianRoulette {
                exact_terms,
                continuation,
                ..
            } => {
                let Noise { probes, terms } = noise();
                russian_roulette(b, exact_terms, continuation, probes, &terms)
            }
        }
    }
}
