//! Rows over seeds: `summary.json` and the tables.

use flows_models::vae::NetworkConfig;
use serde::{Deserialize, Serialize};

use super::config::VaeExperimentConfig;
use super::evaluate::Measurement;
use super::published::published;
use super::record::{RunRecord, Status};
use crate::data::images::Pixels;
use crate::experiment::Record;
use crate::report::{Cell, Table, format_estimate};
use crate::run_info::RunInfo;
use flows_train::Schedule;

/// `summary.json`.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Always `vae`.
    pub experiment: &'static str,
    /// What was asked for, in full.
    pub config: VaeExperimentConfig,
    /// Where it ran: commit, versions, device.
    #[serde(flatten)]
    pub info: RunInfo,
    /// Whether every run has ended.
    pub complete: bool,
    /// One row a posterior and number of latent variables.
    pub rows: Vec<Row>,
}

/// A number over seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Mean over the seeds.
    pub mean: f64,
    /// Standard deviation over the seeds, as the papers print it; `null` for a single seed.
    pub sd: Option<f64>,
    /// The number of each seed.
    pub values: Vec<f64>,
}

impl Spread {
    /// Over the seeds that have a finite number; `None` where none has.
    pub fn over(values: impl IntoIterator<Item = Option<f64>>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().flatten().collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
        (!values.is_empty()).then(|| Self {
            mean,
            sd: (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()),
            values,
        })
    }

    fn show(&self) -> String {
        match self.sd {
            Some(sd) => format_estimate(self.mean, Some(sd)),
            None => format!("{:.2}", self.mean),
        }
    }
}

/// One posterior and number of latent variables over the seeds. Nats an image unless it says
/// otherwise; numbers that no seed has are `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Name of the set.
    pub data: String,
    /// How its images and splits relate to the published ones.
    pub status_of_data: String,
    /// How its pixels were binarized.
    pub binarization: String,
    /// Name of the posterior.
    pub posterior: String,
    /// Latent variables.
    pub latent: usize,
    /// Seeds that ended with numbers.
    pub seeds: usize,
    /// Seeds whose loss stopped being a number.
    pub diverged: usize,
    /// Minus the bound on the test images, by the exact log-determinant.
    pub loss: Option<Spread>,
    /// The mean of the seeds' standard errors of it over the test images.
    pub loss_stderr: Option<f64>,
    /// Its part that is minus `log p(x|z)`.
    pub reconstruction: Option<Spread>,
    /// Its part that is the divergence.
    pub kl: Option<Spread>,
    /// Minus the bound by the log-determinant of training, where that is not exact.
    pub surrogate_loss: Option<Spread>,
    /// Minus the log-likelihood by importance sampling.
    pub nll: Option<Spread>,
    /// The mean of the seeds' standard errors of it over its images.
    pub nll_stderr: Option<f64>,
    /// The mean of the seeds' standard errors that the sampling adds to it.
    pub nll_sampling_stderr: Option<f64>,
    /// Minus the bound on the images of the NLL, by its samples.
    pub nll_loss: Option<Spread>,
    /// Importance samples an image.
    pub nll_samples: Option<usize>,
    /// Test images of it.
    pub nll_images: Option<usize>,
    /// How many equal weights the samples of an image are worth, on average.
    pub nll_effective_samples: Option<f64>,
    /// Minus the bound in bits a dimension.
    pub bits_per_dim: Option<Spread>,
    /// Minus the log-likelihood in bits a dimension.
    pub nll_bits_per_dim: Option<Spread>,
    /// Latent variables that depend on the image.
    pub active_units: Option<Spread>,
    /// The published minus bound, where the networks are those of the publication.
    pub published: Option<String>,
    /// Log-determinant in training and in evaluation.
    pub log_det: String,
    /// Largest `rho(J/T)` over the seeds; `null` for posteriors without DDNF blocks.
    pub max_rho: Option<f64>,
    /// Steps whose determinant is not positive.
    pub non_positive_determinants: usize,
    /// Trained scalars.
    pub parameters: usize,
    /// Epochs done, of each seed.
    pub epochs: Vec<usize>,
    /// The best epoch of each seed.
    pub best_epochs: Vec<usize>,
    /// Mean seconds of training.
    pub train_seconds: f64,
    /// A line for each block that is too stiff.
    pub warnings: Vec<String>,
}

/// The rows of the records, in the order of the jobs.
pub(super) fn rows(records: &[RunRecord], config: &VaeExperimentConfig) -> Vec<Row> {
    let mut groups: Vec<Vec<&RunRecord>> = Vec::new();
    for record in records {
        let same = |g: &&mut Vec<&RunRecord>| {
            g[0].posterior == record.posterior && g[0].latent == record.latent
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(record),
            None => groups.push(vec![record]),
        }
    }
    groups.iter().map(|group| row(group, config)).collect()
}

fn row(group: &[&RunRecord], config: &VaeExperimentConfig) -> Row {
    let first = group[0];
    let measured: Vec<&Measurement> = group.iter().filter_map(|r| r.measurement()).collect();
    let spread =
        |f: &dyn Fn(&Measurement) -> Option<f64>| Spread::over(measured.iter().map(|m| f(m)));
    let average = |f: &dyn Fn(&Measurement) -> Option<f64>| spread(f).map(|s| s.mean);
    let bits = |m: &Measurement, nats: Option<f64>| nats.map(|nats| m.bits_per_dim(nats));
    let best = |record: &&RunRecord| match record.status {
        Status::Measured { best_epoch, .. } => Some(best_epoch),
        Status::Diverged { .. } => None,
    };
    let stability = || measured.iter().filter_map(|m| m.stability.as_ref());
    let seconds = group.iter().map(|r| r.train_seconds).sum::<f64>() / group.len() as f64;
    let warning = |record: &&RunRecord| {
        let seed = record.seed;
        let of_seed = |warning: &String| format!("seed {seed}: {warning}");
        record.warnings().iter().map(of_seed).collect::<Vec<_>>()
    };
    Row {
        data: first.data.clone(),
        status_of_data: first.status_of_data.clone(),
        binarization: first.binarization.clone(),
        posterior: first.posterior.clone(),
        latent: first.latent,
        seeds: measured.len(),
        diverged: group.len() - measured.len(),
        loss: spread(&|m| m.loss.mean),
        loss_stderr: average(&|m| m.loss.stderr),
        reconstruction: spread(&|m| m.reconstruction.mean),
        kl: spread(&|m| m.kl.mean),
        surrogate_loss: spread(&|m| m.surrogate_loss?.mean),
        nll: spread(&|m| m.nll?.nats.mean),
        nll_stderr: average(&|m| m.nll?.nats.stderr),
        nll_loss: spread(&|m| m.nll?.loss.mean),
        nll_sampling_stderr: average(&|m| m.nll?.sampling_stderr),
        nll_samples: measured.iter().find_map(|m| Some(m.nll?.samples)),
        nll_images: measured.iter().find_map(|m| Some(m.nll?.images)),
        nll_effective_samples: average(&|m| Some(m.nll?.effective_samples)),
        bits_per_dim: spread(&|m| bits(m, m.loss.mean)),
        nll_bits_per_dim: spread(&|m| bits(m, m.nll?.nats.mean)),
        active_units: spread(&|m| Some(m.active_units as f64)),
        published: match config.network {
            NetworkConfig::Conv {} if first.latent == 64 && config.is_binarized_as_published() => {
                published(&first.posterior, config.data)
            }
            _ => None,
        },
        log_det: match first.log_det.as_str() {
            "none" => "none".to_owned(),
            "exact" => "exact".to_owned(),
            surrogate => format!("{surrogate}, evaluated exact"),
        },
        max_rho: stability().filter_map(|s| s.max_rho).reduce(f64::max),
        non_positive_determinants: stability().map(|s| s.non_positive_determinants).sum(),
        parameters: first.parameters,
        epochs: group.iter().map(|r| r.curve.len()).collect(),
        best_epochs: group.iter().filter_map(best).collect(),
        train_seconds: seconds,
        warnings: group.iter().flat_map(warning).collect(),
    }
}

/// The numbers a reader compares.
pub(super) fn main_table(rows: &[Row], config: &VaeExperimentConfig) -> Table {
    let conv = config.network == NetworkConfig::Conv {};
    let levels = config.data.pixels() == Pixels::Levels;
    let mut heads = vec![
        "data",
        "posterior",
        "latent",
        "-ELBO",
        "NLL",
        "reconstruction",
        "KL",
        "active",
    ];
    if levels {
        heads.extend(["-ELBO bits/dim", "NLL bits/dim"]);
    }
    if conv {
        heads.push("published -ELBO");
    }
    heads.extend(["log-det", "seeds"]);
    let mut table = Table::new(heads);
    for row in rows {
        let cell = |spread: &Option<Spread>| match spread {
            Some(spread) => Cell::text(spread.show()),
            None if row.seeds == 0 => Cell::text("diverged"),
            None => Cell::text(""),
        };
        let mut cells = vec![
            Cell::text(&row.data),
            Cell::text(&row.posterior),
            Cell::text(row.latent.to_string()),
            cell(&row.loss),
            cell(&row.nll),
            cell(&row.reconstruction),
            cell(&row.kl),
            Cell::text(
                row.active_units
                    .as_ref()
                    .map_or(String::new(), |s| format!("{:.1}", s.mean)),
            ),
        ];
        if levels {
            let bits = |spread: &Option<Spread>| {
                Cell::text(spread.as_ref().map_or(String::new(), |s| match s.sd {
                    Some(sd) => format_estimate(s.mean, Some(sd)),
                    None => format!("{:.3}", s.mean),
                }))
            };
            cells.extend([bits(&row.bits_per_dim), bits(&row.nll_bits_per_dim)]);
        }
        if conv {
            cells.push(match &row.published {
                Some(published) => Cell::text(published),
                None => Cell::Missing,
            });
        }
        cells.push(Cell::text(&row.log_det));
        cells.push(Cell::text(match row.diverged {
            0 => row.seeds.to_string(),
            n => format!("{} ({n} diverged)", row.seeds),
        }));
        table.push(cells);
    }
    table
}

/// Everything that qualifies those.
pub(super) fn detail_table(rows: &[Row]) -> Table {
    let mut table = Table::new([
        "posterior",
        "latent",
        "stderr of -ELBO",
        "-ELBO by the training log-det",
        "NLL samples",
        "NLL images",
        "-ELBO of these",
        "stderr of NLL",
        "sampling stderr",
        "effective samples",
        "parameters",
        "epochs",
        "best epoch",
        "seconds",
        "max rho",
    ]);
    let optional = |value: Option<f64>, digits: usize| {
        Cell::text(value.map_or(String::new(), |v| format!("{v:.digits$}")))
    };
    let count = |value: Option<usize>| Cell::text(value.map_or(String::new(), |v| v.to_string()));
    let list = |values: &[usize]| {
        let words: Vec<String> = values.iter().map(usize::to_string).collect();
        Cell::text(words.join(", "))
    };
    for row in rows {
        table.push(vec![
            Cell::text(&row.posterior),
            Cell::text(row.latent.to_string()),
            optional(row.loss_stderr, 2),
            Cell::text(
                row.surrogate_loss
                    .as_ref()
                    .map_or(String::new(), Spread::show),
            ),
            count(row.nll_samples),
            count(row.nll_images),
            Cell::text(row.nll_loss.as_ref().map_or(String::new(), Spread::show)),
            optional(row.nll_stderr, 2),
            optional(row.nll_sampling_stderr, 3),
            optional(row.nll_effective_samples, 1),
            Cell::Count(row.parameters as u64),
            list(&row.epochs),
            list(&row.best_epochs),
            optional(Some(row.train_seconds), 1),
            optional(row.max_rho, 2),
        ]);
    }
    table
}

/// What has to be known to read the tables.
pub(super) fn notes(rows: &[Row], config: &VaeExperimentConfig) -> String {
    let Some(first) = rows.first() else {
        return String::new();
    };
    let network = match &config.network {
        NetworkConfig::Conv {} => "gated convolutions (arXiv:1803.05649)".to_owned(),
        NetworkConfig::Dense { hidden } => {
            let pixels = config.data.size().iter().product::<usize>();
            let widths: Vec<String> = std::iter::once(&pixels)
                .chain(hidden)
                .map(usize::to_string)
                .collect();
            format!(
                "fully connected {}; published numbers are of convolutional networks and not comparable",
                widths.join("-")
            )
        }
    };
    format!(
        "Test images of {} ({}), binarization: {}. Nats an image, lower is better; mean ± standard deviation over seeds. -ELBO by one \
         draw an image; NLL by {} importance samples on {} test images, probabilities within [1e-5, 1 - 1e-5]. Networks: {network}. At most {} epochs, \
         warm-up {}, patience {}, batches of {}, Adamax at {}{}.\n",
        first.data,
        first.status_of_data,
        first.binarization,
        config.evaluation.samples,
        match config.evaluation.images {
            0 => "all".to_owned(),
            n => format!("{n} evenly spaced"),
        },
        config.training.epochs,
        config.training.warm_up,
        config.training.patience,
        config.training.batch,
        config.training.learning_rate,
        match config.training.schedule {
            Schedule::Constant => "",
            Schedule::Cosine => ", falling to 0 by half a cosine",
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_the_standard_deviation_over_seeds() {
        let spread = Spread::over([Some(1.0), None, Some(3.0)]).unwrap();
        assert_eq!((spread.mean, spread.sd), (2.0, Some(2f64.sqrt())));
        assert_eq!(Spread::over([Some(1.0)]).unwrap().sd, None);
        assert_eq!(Spread::over([None]), None);
    }
}
