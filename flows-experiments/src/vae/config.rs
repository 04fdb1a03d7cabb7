//! What the experiment with variational autoencoders is made of: set, posteriors, sizes and budget.

use flows_core::log_det::LogDet;
use flows_models::vae::{DdnfContext, Likelihood, NetworkConfig, PosteriorConfig, VaeConfig};
use flows_train::Schedule;
use serde::{Deserialize, Serialize};

use crate::data::images::{Binarization, ImageSetId, Pixels};

/// The experiment with variational autoencoders.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaeExperimentConfig {
    /// The set.
    pub data: ImageSetId,
    /// How grey pixels become black and white; of no effect for sets that need none.
    #[serde(default)]
    pub binarization: Binarization,
    /// Posteriors by name, in the order of the table, or `all`.
    pub posteriors: Vec<String>,
    /// Numbers of latent variables; pictures of the posterior need 2.
    pub latents: Vec<usize>,
    /// Runs of each posterior, with seeds 0, 1, ...
    pub seeds: usize,
    /// Encoder and decoder.
    pub network: NetworkConfig,
    /// Sizes of the flows.
    pub flows: FlowSizes,
    /// Budget and optimizer.
    pub training: VaeTraining,
    /// How fitted models are measured.
    #[serde(default)]
    pub evaluation: VaeEvaluation,
}

/// Sizes of the flows, of all posteriors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowSizes {
    /// Maps of every posterior but DDNF.
    pub flows: usize,
    /// Widths of the networks of IAF and MAF.
    pub made_hidden: Vec<usize>,
    /// Widths of the networks of RealNVP.
    pub coupling_hidden: Vec<usize>,
    /// Columns of the `Q` of `sylvester-o`, at most as many as latent variables.
    pub columns: usize,
    /// Reflections of the `Q` of `sylvester-h`.
    pub reflections: usize,
    /// Blocks of DDNF.
    pub blocks: usize,
    /// Cells of a block.
    pub cells: usize,
    /// Widths of the fields.
    pub field_hidden: Vec<usize>,
    /// Log-determinant of `ddnf` and `ddnf-bias` in training.
    pub log_det: LogDet,
    /// That of `ddnf-lowrank`. Trained on the series, its maps fold, and the bound is none: see
    /// `docs/vae`.
    #[serde(default = "exact")]
    pub lowrank_log_det: LogDet,
    /// Rank of the updates of `ddnf-lowrank`.
    pub rank: usize,
}

/// Budget and optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaeTraining {
    /// Most epochs.
    pub epochs: usize,
    /// Images in a batch.
    pub batch: usize,
    /// Learning rate of Adamax: the peak of the schedule.
    pub learning_rate: f64,
    /// The learning rate over the steps of all epochs; constant unless given, as in the protocol.
    #[serde(default = "constant", skip_serializing_if = "Schedule::is_constant")]
    pub schedule: Schedule,
    /// Epochs over which the weight of the divergence rises to 1.
    pub warm_up: usize,
    /// Epochs without a better validation bound, counted after the warm-up, after which training
    /// stops.
    pub patience: usize,
    /// Least seconds between two checkpoints, which are written after an epoch; 0 writes one after
    /// each.
    #[serde(default)]
    pub checkpoint_seconds: f64,
}

fn exact() -> LogDet {
    LogDet::Exact
}

fn constant() -> Schedule {
    Schedule::Constant
}

/// How fitted models are measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VaeEvaluation {
    /// Importance samples an image for the NLL; 0 leaves it out.
    pub samples: usize,
    /// Test images for it, at even distances in the set; 0 takes all.
    pub images: usize,
    /// Rows of a chunk of importance samples: what the memory grows with.
    pub rows: usize,
    /// Draws for each of the two posterior means behind the active units.
    pub draws: usize,
}

impl Default for VaeEvaluation {
    fn default() -> Self {
        Self {
            samples: 500,
            images: 0,
            rows: 2000,
            draws: 10,
        }
    }
}

/// Posteriors by name, with what they are.
pub const POSTERIORS: [(&str, &str); 12] = [
    ("gaussian", "diagonal covariance, no flow (arXiv:1312.6114)"),
    ("planar", "planar maps (arXiv:1505.05770)"),
    ("radial", "radial maps (arXiv:1505.05770)"),
    ("iaf", "inverse autoregressive maps (arXiv:1606.04934)"),
    (
        "sylvester-o",
        "orthogonal Sylvester maps (arXiv:1803.05649)",
    ),
    (
        "sylvester-h",
        "Householder Sylvester maps (arXiv:1803.05649)",
    ),
    (
        "sylvester-t",
        "triangular Sylvester maps (arXiv:1803.05649)",
    ),
    ("realnvp", "affine couplings (arXiv:1605.08803)"),
    (
        "maf",
        "masked autoregressive maps, sequential direction (arXiv:1705.07057)",
    ),
    (
        "ddnf",
        "deep diffeomorphic flow, the same fields for all images (arXiv:1810.03256)",
    ),
    ("ddnf-bias", "the same, biases of the fields from the image"),
    (
        "ddnf-lowrank",
        "the same, biases and low-rank updates of the weights from the image",
    ),
];

impl FlowSizes {
    /// The posterior of this name.
    ///
    /// # Errors
    /// One line that lists the names.
    pub fn posterior(&self, name: &str, latent: usize) -> Result<PosteriorConfig, String> {
        let flows = self.flows;
        let ddnf = |context, log_det: &LogDet| PosteriorConfig::Ddnf {
            blocks: self.blocks,
            cells: self.cells,
            hidden: self.field_hidden.clone(),
            log_det: log_det.clone(),
            context,
        };
        Ok(match name {
            "gaussian" => PosteriorConfig::Gaussian {},
            "planar" => PosteriorConfig::Planar { flows },
            "radial" => PosteriorConfig::Radial { flows },
            "iaf" => PosteriorConfig::Iaf {
                flows,
                hidden: self.made_hidden.clone(),
            },
            "sylvester-o" => PosteriorConfig::SylvesterOrthogonal {
                flows,
                columns: self.columns.min(latent),
            },
            "sylvester-h" => PosteriorConfig::SylvesterHouseholder {
                flows,
                reflections: self.reflections,
            },
            "sylvester-t" => PosteriorConfig::SylvesterTriangular { flows },
            "realnvp" => PosteriorConfig::RealNvp {
                flows,
                hidden: self.coupling_hidden.clone(),
            },
            "maf" => PosteriorConfig::Maf {
                flows,
                hidden: self.made_hidden.clone(),
            },
            "ddnf" => ddnf(DdnfContext::Shared, &self.log_det),
            "ddnf-bias" => ddnf(DdnfContext::Bias, &self.log_det),
            "ddnf-lowrank" => {
                let context = DdnfContext::LowRank { rank: self.rank };
                ddnf(context, &self.lowrank_log_det)
            }
            _ => {
                let names = POSTERIORS.map(|(name, _)| name).join(", ");
                return Err(format!(
                    "no posterior is called '{name}'; there are {names}"
                ));
            }
        })
    }
}

impl VaeExperimentConfig {
    /// The names of the posteriors, with those that `all` stands for.
    pub(super) fn posteriors(&self) -> Vec<&str> {
        let named = self.posteriors.iter().map(String::as_str);
        if named.clone().any(|name| name == "all") {
            return POSTERIORS.map(|(name, _)| name).to_vec();
        }
        named.collect()
    }

    /// Whether pixels are what the published numbers are of: resampled in training, where they are
    /// grey and become black and white.
    pub(super) fn is_binarized_as_published(&self) -> bool {
        let grey = matches!(self.data, ImageSetId::Mnist | ImageSetId::Omniglot);
        !grey || self.binarization == Binarization::Dynamic
    }

    /// The model with this posterior.
    pub(super) fn model(&self, posterior: &str, latent: usize) -> Result<VaeConfig, String> {
        let levels = self.data.pixels() == Pixels::Levels;
        Ok(VaeConfig {
            likelihood: if levels {
                Likelihood::GREY
            } else {
                Likelihood::Bernoulli {}
            },
            // arXiv:1803.05649 holds the variances of Frey faces within bounds.
            variance_range: levels.then_some([0.01, 7.0]),
            posterior: self.flows.posterior(posterior, latent)?,
            ..VaeConfig::new(self.data.size(), latent, self.network.clone())
        })
    }

    pub(super) fn problem(&self) -> Option<String> {
        let counts = [
            ("posteriors", self.posteriors.len()),
            ("latents", self.latents.len()),
            ("seeds", self.seeds),
            ("training.epochs", self.training.epochs),
            ("training.batch", self.training.batch),
            ("training.patience", self.training.patience),
            ("evaluation.rows", self.evaluation.rows),
            ("evaluation.draws", self.evaluation.draws),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, n)| *n == 0) {
            return Some(format!("{name} is 0, expected at least 1"));
        }
        let rate = self.training.learning_rate;
        if !(rate > 0.0 && rate.is_finite()) {
            return Some(format!(
                "training.learning_rate is {rate}, expected positive and finite"
            ));
        }
        let seconds = self.training.checkpoint_seconds;
        (seconds.is_nan() || seconds < 0.0)
            .then(|| format!("training.checkpoint_seconds is {seconds}, expected at least 0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::{Experiment, preset};
    use crate::vae::VaeExperiment;

    fn config(name: &str) -> VaeExperimentConfig {
        preset(VaeExperiment::PRESETS, name)
    }

    fn jobs(config: VaeExperimentConfig) -> Result<Vec<crate::vae::Job>, String> {
        VaeExperiment::new(config, None)?.jobs()
    }

    #[test]
    fn no_preset_trains_low_rank_fields_on_the_series() {
        for preset in VaeExperiment::PRESETS {
            let posterior = config(preset.name)
                .flows
                .posterior("ddnf-lowrank", 8)
                .unwrap();
            assert_eq!(
                posterior.log_det(),
                LogDet::Exact.label(),
                "{}",
                preset.name
            );
        }
    }

    #[test]
    fn every_posterior_has_its_name() {
        let mut all = config("quick");
        for (name, _) in POSTERIORS {
            assert_eq!(all.flows.posterior(name, 8).unwrap().name(), name);
        }
        let error = all.flows.posterior("spline", 8).unwrap_err();
        assert!(error.contains("sylvester-o"), "{error}");
        all.posteriors = vec!["all".to_owned()];
        let per_seed = POSTERIORS.len() * all.latents.len();
        assert_eq!(jobs(all.clone()).unwrap().len(), per_seed * all.seeds);
    }

    #[test]
    fn faces_have_levels_and_bounded_variances() {
        let mut faces = config("conv");
        faces.data = ImageSetId::Frey;
        let job = &jobs(faces).unwrap()[0];
        assert_eq!(job.model.likelihood, Likelihood::GREY);
        assert_eq!(job.model.size, [28, 20]);
        assert_eq!(job.model.variance_range, Some([0.01, 7.0]));
    }
}
