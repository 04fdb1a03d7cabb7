//! A flow for a table of one's own: fitted, kept in one file, scored and sampled in the table's units.
//!
//! ```no_run
//! use burn::backend::{Autodiff, Flex};
//! use flows_experiments::data::Table;
//! use flows_experiments::table_flow::{FitConfig, TableFlow, fit};
//! use flows_models::MafConfig;
//!
//! let table = Table::read("data.csv")?;
//! let config = FitConfig::new(MafConfig::new(table.dim()));
//! let flow = fit::<Autodiff<Flex>>(&table, &config, &Default::default())?;
//! println!("{:?} nats", flow.header().training.test);
//! flow.save("data.flow".as_ref())?;
//!
//! let flow = TableFlow::<Flex>::load("data.flow".as_ref(), &Default::default())?;
//! let log_prob = flow.log_prob(&table.density, None);
//! # Ok::<(), anyhow::Error>(())
//! ```

mod config;
mod family;
mod file;
mod fit;

pub use config::{FitConfig, FitError, Model, sampling_only};
pub use family::{Chosen, MODELS, Shape, choose};
pub use file::{FORMAT, ModelError, ModelHeader};
pub use fit::{Checkpointing, fit, fit_parts, fit_with};

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use flows_core::distributions::{LogProb, Sample};
use flows_models::NormalizingFlow;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::data::{Preprocessing, Role, Rows};
use crate::train::{Stopped, number_or_nan, tensor};

/// A fitted flow with everything that leads from a table's units to the flow's and back.
#[derive(Debug, Clone)]
pub struct TableFlow<B: Backend> {
    header: ModelHeader,
    preprocessing: Preprocessing,
    context: Option<Preprocessing>,
    flow: NormalizingFlow<B>,
    device: B::Device,
}

/// How a flow was fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Seed of the split, the parameters and the batches.
    pub seed: u64,
    /// Fractions of the rows held out for validation and test.
    pub held_out: [f64; 2],
    /// Rows for training, validation and test.
    pub rows: [usize; 3],
    /// Rows left out for a missing value.
    pub skipped: usize,
    /// [`Table::fingerprint`](crate::data::Table::fingerprint) of the table, in hexadecimal.
    pub table: String,
    /// Gradient steps, and those after which the parameters kept were reached.
    pub steps: [usize; 2],
    /// Rows in a batch.
    pub batch: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Why training ended.
    pub stopped: Stopped,
    /// Trained scalars.
    pub parameters: usize,
    /// Mean log-likelihood of the validation rows, in nats.
    pub validation: f64,
    /// Log-likelihood of the test rows.
    pub test: Estimate,
    /// The same of a Gaussian with a full covariance, conditioned on the context; not there where the
    /// covariance is singular.
    pub gaussian: Option<Estimate>,
    /// Seconds of training.
    pub seconds: f64,
    /// Backend and type it was fitted with, in words; empty where nobody said.
    #[serde(default)]
    pub computed_on: String,
}

/// A mean over rows with its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// The mean; NaN where one of the values was not finite.
    #[serde(deserialize_with = "number_or_nan")]
    pub mean: f64,
    /// Its standard error, not there for fewer than two rows.
    pub stderr: Option<f64>,
}

impl Estimate {
    /// Mean and standard error of independent values.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
        let stderr = (values.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt());
        Self { mean, stderr }
    }
}

impl<B: Backend> TableFlow<B> {
    /// What is known of it besides its parameters.
    pub fn header(&self) -> &ModelHeader {
        &self.header
    }

    /// The map between the table's units and the flow's.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// The flow, in its own units.
    pub fn flow(&self) -> &NormalizingFlow<B> {
        &self.flow
    }

    /// Number of modelled columns.
    pub fn dim(&self) -> usize {
        self.preprocessing.dim()
    }

    /// Number of columns conditioned on.
    pub fn context_dim(&self) -> usize {
        self.context.as_ref().map_or(0, Preprocessing::dim)
    }

    /// Names of the columns with this role, in the order of the file.
    pub fn names(&self, role: Role) -> Vec<&str> {
        let columns = self.header.columns.iter().filter(|c| c.role == role);
        columns.map(|c| c.name.as_str()).collect()
    }

    /// `log p(x | context)` of each row in nats, of the density in the table's units.
    ///
    /// # Panics
    /// Where the widths are not those of the model, or a context is missing or too much.
    pub fn log_prob(&self, x: &Rows, context: Option<&Rows>) -> Vec<f64> {
        let z = self.preprocessing.apply(x);
        let context = self.own_context(context);
        let log_det = self.preprocessing.log_det();
        let chunks = chunks(z.len(), self.dim());
        let score = |(from, to): (usize, usize)| {
            let part = |rows: &Rows| tensor::<B>(&rows.slice(from, to), &self.device);
            let log_prob = self.flow.log_prob(part(&z), context.as_ref().map(part));
            let values: Vec<f64> = log_prob.into_data().iter().collect();
            values.into_iter().map(|v: f64| v - log_det)
        };
        chunks.flat_map(score).collect()
    }

    /// Draws `n` rows in the table's units; with a context, one for each of its `n` rows.
    ///
    /// # Panics
    /// As [`log_prob`](Self::log_prob).
    pub fn sample(&self, n: usize, context: Option<&Rows>, rng: &mut dyn Rng) -> Rows {
        let context = self.own_context(context);
        let mut values = Vec::with_capacity(n * self.dim());
        for (from, to) in chunks(n, self.dim()) {
            let part = |rows: &Rows| tensor::<B>(&rows.slice(from, to), &self.device);
            let z: Tensor<B, 2> = self.flow.sample(to - from, context.as_ref().map(part), rng);
            values.extend(z.into_data().iter::<f64>());
        }
        self.preprocessing.undo(&Rows::new(values, self.dim()))
    }

    fn own_context(&self, context: Option<&Rows>) -> Option<Rows> {
        match (&self.context, context) {
            (Some(map), Some(rows)) => Some(map.apply(rows)),
            (None, None) => None,
            (Some(_), None) => panic!("the model takes a context, and none was given"),
            (None, Some(_)) => panic!("the model takes no context, and one was given"),
        }
    }
}

/// Pieces of `0..rows` that bound the memory of a pass, also where a layer takes `dim * dim` numbers a
/// row.
fn chunks(rows: usize, dim: usize) -> impl Iterator<Item = (usize, usize)> {
    let size = (4_000_000 / (dim * dim + 512)).clamp(64, 8192);
    let starts = (0..rows).step_by(size);
    starts.map(move |from| (from, (from + size).min(rows)))
}
