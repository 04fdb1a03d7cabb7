//! Deep diffeomorphic normalizing flow.

use flows_core::base::BaseConfig;
use flows_core::bijectors::{DdnfBlockConfig, DdnfInverse, ElementwiseAffineConfig, LayerConfig};
use flows_core::log_det::LogDet;
use flows_core::nn::Activation;
use serde::{Deserialize, Serialize};

use crate::model::is_default;

/// K diffeomorphisms, each the time-1 flow of a velocity field of its own in T Euler steps, and an
/// elementwise affine map behind them.
///
/// H. Salman et al., *Deep Diffeomorphic Normalizing Flows*, arXiv:1810.03256; a re-implementation
/// from a secondary description. The affine map is an addition: it takes location and scale off the
/// fields, which move probability by about one unit each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DdnfConfig {
    /// Number of columns.
    pub dim: usize,
    /// Blocks (K), each with a field of its own.
    #[serde(default = "defaults::blocks")]
    pub blocks: usize,
    /// Cells of a block (T), which share its field.
    #[serde(default = "defaults::cells")]
    pub cells: usize,
    /// Widths of the hidden layers of each field.
    #[serde(default = "defaults::hidden")]
    pub hidden: Vec<usize>,
    /// Activation of the fields.
    #[serde(default)]
    pub activation: Activation,
    /// How the log-determinant of a cell is computed. An estimate keeps its noise until a visit resamples it.
    #[serde(default)]
    pub log_det: LogDet,
    /// How a block is inverted.
    #[serde(default)]
    pub inverse: DdnfInverse,
    /// Context columns, 0 for none.
    #[serde(default)]
    pub context_dim: usize,
    /// Rank of the update that the context gives to every weight matrix of the fields, 0 for none.
    #[serde(default)]
    pub context_rank: usize,
    /// Whether the fields depend on time, which runs from 0 to 1 through each block. Such blocks have
    /// no exponential-map inverse.
    #[serde(default)]
    pub time_dependent: bool,
    /// A bound on the Lipschitz constant of `v / T`, see [`DdnfBlockConfig::lipschitz`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lipschitz: Option<f64>,
    /// Whether the elementwise affine map follows the blocks.
    #[serde(default = "defaults::affine")]
    pub affine: bool,
    /// The base distribution.
    #[serde(default, skip_serializing_if = "is_default")]
    pub base: BaseConfig,
}

mod defaults {
    pub(super) fn blocks() -> usize {
        4
    }
    pub(super) fn cells() -> usize {
        16
    }
    pub(super) fn hidden() -> Vec<usize> {
        vec![64]
    }
    pub(super) fn affine() -> bool {
        true
    }
}

impl DdnfConfig {
    /// Four blocks of 16 cells, with one hidden layer of 64.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            blocks: defaults::blocks(),
            cells: defaults::cells(),
            hidden: defaults::hidden(),
            activation: Activation::default(),
            log_det: LogDet::default(),
            inverse: DdnfInverse::default(),
            context_dim: 0,
            context_rank: 0,
            time_dependent: false,
            lipschitz: None,
            affine: defaults::affine(),
            base: BaseConfig::default(),
        }
    }

    fn block(&self) -> DdnfBlockConfig {
        DdnfBlockConfig {
            activation: self.activation,
            cells: self.cells,
            log_det: self.log_det.clone(),
            inverse: self.inverse,
            context_dim: self.context_dim,
            context_rank: self.context_rank,
            time_dependent: self.time_dependent,
            lipschitz: self.lipschitz,
            ..DdnfBlockConfig::new(self.dim, self.hidden.clone())
        }
    }

    /// Whether its blocks have a kernel of their own, see [`DdnfBlockConfig::has_fast_path`].
    pub fn has_fast_path(&self) -> bool {
        self.block().has_fast_path()
    }

    /// The layers, first to last.
    pub fn layers(&self) -> Vec<LayerConfig> {
        let mut layers = vec![LayerConfig::Ddnf(self.block()); self.blocks];
        if self.affine {
            let affine = ElementwiseAffineConfig::new(self.dim);
            layers.push(LayerConfig::ElementwiseAffine(affine));
        }
        layers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BaseToDataFlow;
    use burn_flex::Flex;
    use flows_core::bijectors::AsDdnfBlock;
    use flows_core::error::Error;
    use rand::{SeedableRng, rngs::StdRng};

    fn init(config: &DdnfConfig) -> Result<BaseToDataFlow<Flex>, Error> {
        config.init(&Default::default(), &mut StdRng::seed_from_u64(0))
    }

    #[test]
    fn the_fields_depend_on_time_where_the_configuration_says_so() {
        let text = "dim = 2\nblocks = 2\nhidden = [3]\ntime_dependent = true";
        let config: DdnfConfig = toml::from_str(text).unwrap();
        for (config, expected) in [(config, true), (DdnfConfig::new(2), false)] {
            let flow = init(&config).unwrap();
            let blocks = flow.bijector().layers().iter();
            let fields = blocks.filter_map(|layer| layer.as_ddnf_block());
            let depend = fields.map(|block| block.field().is_time_dependent());
            assert_eq!(depend.collect::<Vec<_>>(), vec![expected; config.blocks]);
        }
    }

    #[test]
    fn reports_say_that_the_exponential_map_is_no_inverse() {
        let text = "kind = 'ddnf'\ndim = 2\ninverse = 'approximate_exponential_map'";
        let config: crate::ModelConfig = toml::from_str(text).unwrap();
        let (_, inverse) = config.methods();
        assert_eq!(
            inverse,
            "approximate, by the exponential map: densities and samples differ"
        );
        // Files written before have its former name.
        let text = "kind = 'ddnf'\ndim = 2\ninverse = 'exponential_map'";
        let before: crate::ModelConfig = toml::from_str(text).unwrap();
        assert_eq!(before, config);
    }

    #[test]
    fn the_exponential_map_of_a_field_that_depends_on_time_is_refused() {
        let config = DdnfConfig {
            time_dependent: true,
            inverse: DdnfInverse::ApproximateExponentialMap,
            ..DdnfConfig::new(2)
        };
        assert!(init(&config).is_err());
    }
}
