//! What is fitted to a table, and how.

use flows_core::error::Error;
use flows_core::log_det::LogDet;
use flows_models::{DdnfConfig, FastDirection, ModelConfig};
use serde::{Deserialize, Serialize};

use super::kind::ColumnKind;
use crate::DataError;
use flows_train::{FileError, TrainError, Training};

/// A model and how it is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitConfig {
    /// The model, for the modelled columns in the units of the preprocessing.
    pub model: ModelConfig,
    /// How a DDNF computes its log-determinant while it trains; `None`: as the model says. Validation,
    /// test and the fitted model always do as the model says.
    pub training_log_det: Option<LogDet>,
    /// Whether the columns are decorrelated before the flow, or standardized only.
    pub whiten: bool,
    /// Kinds of modelled columns; those not named are continuous.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<ColumnKind>,
    /// Members of an ensemble: each is stopped by other rows, and the density is the mean of theirs.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub members: usize,
    /// Whether a [mixture](crate::mixture::StudentMixture) is fitted too and the density is that of a share of the
    /// flows and a share of the mixture, which the validation rows set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mixture: bool,
    /// Fraction of the rows that decide when training stops.
    pub validation: f64,
    /// Fraction of the rows for the final score.
    pub test: f64,
    /// Seed of the split, the parameters and the batches.
    pub seed: u64,
    /// Steps, learning rate, patience.
    pub course: Training,
}

impl FitConfig {
    /// A tenth of the rows each for validation and test, and the default [`Training`].
    pub fn new(model: impl Into<ModelConfig>) -> Self {
        Self {
            model: model.into(),
            training_log_det: None,
            whiten: false,
            kinds: Vec::new(),
            members: 1,
            mixture: false,
            validation: 0.1,
            test: 0.1,
            seed: 0,
            course: Training::default(),
        }
    }

    /// The model to train, where its log-determinant differs from the one to keep.
    pub(super) fn training_model(&self) -> ModelConfig {
        match (&self.model, &self.training_log_det) {
            (ModelConfig::Ddnf(ddnf), Some(log_det)) => ModelConfig::Ddnf(DdnfConfig {
                log_det: log_det.clone(),
                ..ddnf.clone()
            }),
            (model, _) => model.clone(),
        }
    }

    /// Whether the model has layers whose statistics come from the batch while it trains, and from the
    /// whole training set afterwards.
    pub(super) fn batch_norm(&self) -> bool {
        self.model.needs_data()
    }

    /// Says what is out of range, if anything.
    pub fn problem(&self) -> Option<String> {
        if self.members == 0 {
            return Some("members is 0, expected at least 1".to_owned());
        }
        if let Some(problem) = fractions_problem(self.validation, self.test) {
            return Some(problem);
        }
        if self.model.fast_direction() == FastDirection::Sampling {
            return Some(sampling_only(self.model.name()));
        }
        if matches!(self.model, ModelConfig::Ncsf(_)) {
            return Some(
                "model 'ncsf' is for angles, which the standardization of columns takes apart, \
                 expected a model of the reals; fit it with flows_train"
                    .to_owned(),
            );
        }
        let wrong = |k: &ColumnKind| Some(format!("column '{}': {}", k.column, k.kind.problem()?));
        let of_kind = self.kinds.iter().find_map(wrong);
        of_kind.or_else(|| self.course.problem())
    }
}

pub(super) fn one() -> usize {
    1
}

pub(super) fn is_one(count: &usize) -> bool {
    *count == 1
}

/// What is wrong with the fractions of rows to hold out, if anything.
pub(super) fn fractions_problem(validation: f64, test: f64) -> Option<String> {
    for (name, fraction) in [("validation", validation), ("test", test)] {
        if !(fraction > 0.0 && fraction < 1.0) {
            return Some(format!("{name} is {fraction}, expected between 0 and 1"));
        }
    }
    let held_out = validation + test;
    (held_out > 0.9).then(|| format!("validation and test take {held_out} of the rows"))
}

/// Why a model whose density is sequential is not fitted to data.
pub fn sampling_only(name: &str) -> String {
    format!(
        "model '{name}' maps base to data in one pass, and the density of a given row takes its \
         sequential inverse at every training step; take 'maf', the same layers in the other direction"
    )
}

/// Why a flow could not be fitted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FitError {
    /// The table does not allow it.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A value of the configuration is out of range.
    #[error("{0}")]
    Config(String),
    /// A layer refused its configuration.
    #[error("model '{model}': {source}")]
    Model {
        /// The model.
        model: &'static str,
        /// The layer's words.
        source: Error,
    },
    /// Training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The fitted model could not be written.
    #[error(transparent)]
    Keep(#[from] FileError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use flows_models::NcsfConfig;

    #[test]
    fn a_model_of_angles_is_refused_as_columns_are_standardized() {
        let problem = FitConfig::new(NcsfConfig::new(2)).problem().unwrap();
        assert!(problem.contains("'ncsf' is for angles"), "{problem}");
    }
}
