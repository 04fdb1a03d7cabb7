//! Any layers, one after the other.

use flows_core::base::BaseConfig;
use flows_core::bijectors::LayerConfig;
use serde::{Deserialize, Serialize};

use crate::model::is_default;

/// A model of the layers given, first to last from data to the base.
///
/// ```
/// use flows_models::ModelConfig;
///
/// // A share and a positive amount: to the reals, then one layer of splines.
/// let model: ModelConfig = toml::from_str(
///     r#"
///     kind = "stack"
///     dim = 2
///     layers = [
///         { layer = "elementwise-map", maps = ["logit", "log"] },
///         { layer = "act-norm", dim = 2 },
///         { layer = "autoregressive", dim = 2, hidden = [32], transform = "rq_spline" },
///     ]
///     "#,
/// )?;
/// assert_eq!(model.layers().len(), 3);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StackConfig {
    /// Number of columns.
    pub dim: usize,
    /// The layers, each a table with its kind under `layer`.
    pub layers: Vec<LayerConfig>,
    /// The base distribution.
    #[serde(default, skip_serializing_if = "is_default")]
    pub base: BaseConfig,
}

impl StackConfig {
    /// The layers given, of `dim` columns each.
    pub fn new(dim: usize, layers: Vec<LayerConfig>) -> Self {
        Self {
            dim,
            layers,
            base: BaseConfig::default(),
        }
    }

    /// The layers, first to last from data to base.
    pub fn layers(&self) -> Vec<LayerConfig> {
        self.layers.clone()
    }
}
