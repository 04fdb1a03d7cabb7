//! Every base that a configuration can name, as it can be asked for.

use burn::tensor::backend::AutodiffBackend;
use flows_core::base::{BaseConfig, FlowsConfig};
use flows_core::bijectors::{
    AutoregressiveConfig, Chain, ElementwiseAffineConfig, LayerConfig, PlanarConfig,
};
use flows_core::distributions::{
    Covariance, DiagonalNormal, EmbeddingConfig, NormalConfig, NormalMixtureConfig,
    StandardNormalConfig, StudentTConfig, TorusConfig, UniformConfig,
};
use flows_core::flow::Flow;
use flows_core::nn::{ConditionerActivation, ParametersConfig};
use flows_core::testing::{DistributionCase, Suite};
use flows_core::transforms::LogScale;

/// Bases with their parameters as `parameters` says, those without any once.
pub(crate) fn configs(parameters: &ParametersConfig, dim: usize) -> Vec<BaseConfig> {
    let normal = |covariance| NormalConfig {
        covariance,
        parameters: parameters.clone(),
    };
    let layers = match parameters.context_dim() {
        0 => vec![
            LayerConfig::Planar(PlanarConfig::new(dim)),
            LayerConfig::ElementwiseAffine(ElementwiseAffineConfig::new(dim)),
        ],
        context_dim => vec![LayerConfig::Autoregressive(AutoregressiveConfig {
            context_dim,
            ..AutoregressiveConfig::new(dim, vec![4])
        })],
    };
    let mut all = vec![
        BaseConfig::Normal(normal(Covariance::Diagonal)),
        BaseConfig::Normal(normal(Covariance::Full)),
        // Tails that end within the grid.
        BaseConfig::StudentT(StudentTConfig {
            degrees: 40.0,
            parameters: parameters.clone(),
        }),
        BaseConfig::NormalMixture(NormalMixtureConfig {
            components: 3,
            parameters: parameters.clone(),
            ..NormalMixtureConfig::default()
        }),
        BaseConfig::Flows(FlowsConfig {
            components: 2,
            weights: parameters.clone(),
            ..FlowsConfig::new(layers)
        }),
    ];
    if *parameters == ParametersConfig::Fixed {
        all.extend([
            BaseConfig::StandardNormal(StandardNormalConfig {}),
            BaseConfig::Uniform(UniformConfig {
                low: vec![-1.0],
                high: [2.0, 0.48, 1.0][..dim].to_vec(),
            }),
            BaseConfig::Torus(TorusConfig::default()),
        ]);
    }
    all
}

/// Runs the conformance suite over these bases.
pub(crate) fn bases<B: AutodiffBackend>(suite: &mut Suite<B>) {
    let context = ParametersConfig::Context {
        context_dim: 2,
        hidden: Vec::new(),
        activation: ConditionerActivation::Relu,
    };
    for parameters in [ParametersConfig::Fixed, ParametersConfig::Trained, context] {
        for dim in [1, 2, 3] {
            for config in configs(&parameters, dim) {
                let (low, high) = match &config {
                    BaseConfig::Uniform(_) => (-4.0, 4.0),
                    BaseConfig::Torus(torus) => (-torus.bound, torus.bound),
                    _ => (-16.0, 16.0),
                };
                // What a context multiplies moves scales further, beyond what the grid resolves.
                let far = if config.context_dim() > 0 { 0.15 } else { 0.5 };
                let case = DistributionCase::new(format!("{config:?}, dim {dim}"));
                suite.check_distribution(case.grid(low, high, 1e-5).far(far), |device, rng| {
                    config.init(dim, device, rng)
                });
            }
        }
    }
    embedded(suite);
}

/// A flow behind a network that reads its context.
pub(crate) fn embedded<B: AutodiffBackend>(suite: &mut Suite<B>) {
    for dim in [1, 3] {
        let given = LayerConfig::Autoregressive(AutoregressiveConfig {
            context_dim: 2,
            activation: ConditionerActivation::Tanh,
            transform: LogScale::TanhBounded { bound: 0.5 }.into(),
            ..AutoregressiveConfig::new(dim, vec![4])
        });
        let case = DistributionCase::new(format!("embedded flow, dim {dim}"));
        suite.check_distribution(case.grid(-24.0, 24.0, 1e-6), |device, rng| {
            let layers = Chain::new(vec![given.init(device.clone(), rng)?])?;
            let flow = Flow::data_to_base(layers, DiagonalNormal::standard(dim, device.clone()))?;
            let embedding = EmbeddingConfig {
                hidden: vec![5],
                ..EmbeddingConfig::new(7, 2)
            };
            embedding.init(flow, device, rng)
        });
    }
}
