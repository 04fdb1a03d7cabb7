//! The trace of a Jacobian, exact or estimated.

use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use super::log_det::ProbeNoise;
use super::time_field::{TimeField, unit_tangents};
use crate::error::Error;
use crate::random::generator;

/// How the trace of the Jacobian of a velocity field is computed.
///
/// In a configuration file: `trace = "exact"` or `trace = { hutchinson = { probes = 4, noise = "gaussian" } }`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
pub enum Trace {
    /// The trace itself.
    #[default]
    Exact,
    /// The mean of `eps^T J eps` over random probes `eps`: unbiased, since `E[eps eps^T] = I`. The probes are the same
    /// along a whole path, so the integral of the estimate is an unbiased estimate of the integral
    /// (FFJORD, arXiv:1810.01367, eq. 8), and until a visit with `LayerVisit::resample_noise` draws others.
    Hutchinson {
        /// Number of probes a row, at least 1.
        #[serde(default = "one")]
        probes: usize,
        /// Distribution of the probes.
        #[serde(default)]
        noise: ProbeNoise,
    },
}

fn one() -> usize {
    1
}

crate::one_key!(Trace);

impl Trace {
    /// A short name for reports.
    pub fn label(&self) -> String {
        match self {
            Self::Exact => "exact trace".to_owned(),
            Self::Hutchinson { probes, noise } => {
                format!("hutchinson trace ({probes} {})", noise.name())
            }
        }
    }

    /// Checks the numbers of the configuration, for a layer called `layer`.
    ///
    /// # Errors
    /// [`Error::Config`] for no probes.
    pub fn validate(&self, layer: &'static str) -> Result<(), Error> {
        match self {
            Self::Hutchinson { probes: 0, .. } => {
                Err(Error::config(layer, "trace.probes", 0, "at least 1 probe"))
            }
            _ => Ok(()),
        }
    }

    /// The probes for the rows of a batch like `z`, `[m, n, dim]`, a pure function of `seed`; `None` where the trace is
    /// exact. A row's probes do not depend on how many rows follow it.
    pub fn probes<B: Backend>(&self, z: &Tensor<B, 2>, seed: u64) -> Option<Tensor<B, 3>> {
        let [n, dim] = z.dims();
        match *self {
            Self::Exact => None,
            Self::Hutchinson { probes, noise } => {
                Some(noise.probes([probes, n, dim], z, &mut generator(seed)))
            }
        }
    }
}

/// A velocity with what is integrated beside it.
pub(super) struct Traced<B: Backend> {
    /// `v(z, t)`, `[n, dim]`.
    pub(super) velocity: Tensor<B, 2>,
    /// `tr J`, `[n]`.
    pub(super) trace: Tensor<B, 1>,
    /// `|J|_F^2`, `[n]`, where it is asked for.
    pub(super) frobenius: Option<Tensor<B, 1>>,
}

/// The velocity and the trace of its Jacobian, by these probes or exact without any; the squared Frobenius norm from the
/// same products, as `E |J eps|^2 = |J|_F^2`.
pub(super) fn traced<B: Backend>(
    field: &impl TimeField<B>,
    [z, t]: [Tensor<B, 2>; 2],
    probes: Option<&Tensor<B, 3>>,
    frobenius: bool,
) -> Traced<B> {
    if let (None, false) = (probes, frobenius) {
        let (velocity, trace) = field.velocity_and_trace(z, t);
        return Traced {
            velocity,
            trace,
            frobenius: None,
        };
    }
    let tangents = probes.cloned().unwrap_or_else(|| unit_tangents(&z));
    let (velocity, products) = field.jvps(z, t, tangents.clone());
    // A sum over unit vectors, a mean over probes.
    let weight = probes.map_or(1.0, |probes| (probes.dims()[0] as f64).recip());
    let sum = |terms: Tensor<B, 3>| terms.sum_dims_squeeze::<1, _>(&[0, 2]) * weight;
    Traced {
        velocity,
        trace: sum(tangents * products.clone()),
        frobenius: frobenius.then(|| sum(products.square())),
    }
}
