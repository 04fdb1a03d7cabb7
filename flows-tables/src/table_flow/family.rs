//! Models by name, sized for a table.

use flows_core::log_det::LogDet;
use flows_core::transforms::{
    AnyTransform, Bernstein, DeepSigmoidal, RqSpline, SumOfSquares, Umnn,
};
use flows_models::{
    BnafFlowConfig, CnfFlowConfig, CouplingFlowConfig, DdnfConfig, MafConfig, MaskedFlowConfig,
    ModelConfig, NamedTransform, NiceConfig, PlanarFlowConfig, RadialFlowConfig,
    ResidualFlowConfig, SylvesterFlowConfig,
};

use super::FitError;
use super::config::sampling_only;
use flows_train::Training;

/// What a model is built for.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    /// Modelled columns.
    pub dim: usize,
    /// Columns conditioned on.
    pub context_dim: usize,
    /// Layers, or blocks of a DDNF or a continuous flow; `None` for the default of the model.
    pub layers: Option<usize>,
    /// Widths of hidden layers; `None` for the default of the model.
    pub hidden: Option<&'a [usize]>,
}

/// A model with what goes with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// The model.
    pub model: ModelConfig,
    /// Its log-determinant in training, where it is another.
    pub training_log_det: Option<LogDet>,
    /// Whether it gains from decorrelated columns: models that cannot turn them cheaply do.
    pub whiten: bool,
    /// A peak learning rate that suits it.
    pub learning_rate: f64,
    /// Whether a mixture has a share in the density: where no model is named.
    pub mixture: bool,
}

impl Chosen {
    /// Members of an ensemble for this many training rows: several where no model is named and what stops a single
    /// one would be a matter of a few rows.
    pub fn members(&self, rows: usize) -> usize {
        match rows {
            0..300 if self.mixture => 3,
            300..FEW_ROWS if self.mixture => 2,
            _ => 1,
        }
    }

    /// How it is trained on this many rows: few are soon learned by heart, so they get small batches, small steps,
    /// weight decay towards the Gaussian behind the maps, and a validation check every few steps.
    pub fn training(&self, rows: usize) -> Training {
        let plain = Training {
            learning_rate: self.learning_rate,
            ..Training::default()
        };
        match rows {
            0..FEW_ROWS => Training {
                batch: (rows / 10).clamp(16, plain.batch),
                learning_rate: 0.3 * plain.learning_rate,
                weight_decay: 0.1,
                evaluate_every: 10,
                ..plain
            },
            _ => plain,
        }
    }
}

/// Rows below which training is gentle.
const FEW_ROWS: usize = 1000;

/// The models that can be named, with a line on each.
pub const MODELS: &[(&str, &str)] = &[
    ("maf", "masked autoregressive flow"),
    ("made", "a single layer of it"),
    ("realnvp", "affine couplings: samples as fast as it scores"),
    (
        "nsf",
        "neural spline flow: masked layers of rational-quadratic splines",
    ),
    (
        "nsf-coupling",
        "the same by couplings: samples as fast as it scores",
    ),
    ("naf", "masked layers of deep sigmoidal maps"),
    ("sos", "masked layers of sum-of-squares polynomials"),
    ("bernstein", "masked layers of Bernstein polynomials"),
    ("umnn", "masked layers of integrals of positive networks"),
    ("nice", "additive couplings"),
    (
        "ddnf",
        "deep diffeomorphic flow: the default, with a mixture beside it",
    ),
    (
        "ddnf-lipschitz",
        "the same with steps that are invertible whatever the parameters",
    ),
    (
        "residual",
        "residual blocks of bounded slope: a few large steps",
    ),
    (
        "cnf",
        "continuous flow: a differential equation, as costly both ways",
    ),
    (
        "bnaf",
        "block neural autoregressive flow: the network itself is the map",
    ),
    ("planar", "planar layers"),
    ("radial", "radial layers"),
    ("sylvester", "Sylvester layers"),
];

/// The configuration of the model called `name`; the default one where there is no name.
///
/// # Errors
/// [`FitError::Config`] for a name that is not known, and for what the model cannot do, with the reason.
pub fn choose(name: Option<&str>, shape: Shape<'_>) -> Result<Chosen, FitError> {
    let Shape {
        dim,
        context_dim,
        layers,
        hidden,
    } = shape;
    let default = name.is_none();
    let name = name.unwrap_or("ddnf");
    if dim == 1 && ["realnvp", "nsf-coupling", "nice"].contains(&name) {
        return Err(FitError::Config(format!(
            "model '{name}' needs two columns or more, as each half moves the other; take ddnf"
        )));
    }
    if dim == 1 && context_dim == 0 && ["maf", "made"].contains(&name) {
        return Err(FitError::Config(format!(
            "model '{name}' of a single column is a Gaussian, as there is nothing to condition it on; \
             take ddnf"
        )));
    }
    let unhidden = ["planar", "radial", "sylvester"].contains(&name);
    if unhidden && context_dim == 0 && hidden.is_some() {
        return Err(FitError::Config(format!(
            "model '{name}' has no hidden layers; --layers sets its size"
        )));
    }
    if name == "made" && layers.is_some() {
        return Err(FitError::Config(
            "model 'made' is one layer; take maf".to_owned(),
        ));
    }
    let wide = hidden.map_or_else(|| vec![64, 64], <[usize]>::to_vec);
    let mut training_log_det = None;
    let model = match name {
        "maf" => masked::<AnyTransform>(shape, wide).into(),
        "made" => ModelConfig::Maf(MafConfig {
            layers: 1,
            ..masked(shape, wide)
        }),
        "realnvp" => couplings::<AnyTransform>(shape, wide).into(),
        "nsf" => masked::<RqSpline>(shape, wide).into(),
        "nsf-coupling" => couplings::<RqSpline>(shape, wide).into(),
        "naf" => masked::<DeepSigmoidal>(shape, wide).into(),
        "sos" => masked::<SumOfSquares>(shape, wide).into(),
        "bernstein" => masked::<Bernstein>(shape, wide).into(),
        "umnn" => masked::<Umnn>(shape, wide).into(),
        "nice" => ModelConfig::Nice(NiceConfig {
            layers: layers.unwrap_or(8),
            hidden: wide,
            context_dim,
            ..NiceConfig::new(dim)
        }),
        "ddnf" | "ddnf-lipschitz" => {
            // All of them sizes for which the exact log-determinant has a fused kernel. Beyond three
            // columns, those that did best on validation rows: docs/density/grid.md.
            let (blocks, width, cells) = match dim {
                0..=3 => (4, 64, None),
                _ => (16, 24.min(4 * dim), Some(4)),
            };
            let hidden = hidden.map_or_else(|| vec![width], <[usize]>::to_vec);
            let ddnf = DdnfConfig {
                blocks: layers.unwrap_or(blocks),
                hidden,
                cells: cells.unwrap_or(DdnfConfig::new(dim).cells),
                context_dim,
                lipschitz: (name == "ddnf-lipschitz").then_some(0.97),
                ..DdnfConfig::new(dim)
            };
            training_log_det = ddnf_training(&ddnf);
            ModelConfig::Ddnf(ddnf)
        }
        "bnaf" => {
            let bnaf = BnafFlowConfig::new(dim);
            ModelConfig::Bnaf(BnafFlowConfig {
                layers: layers.unwrap_or(bnaf.layers),
                hidden: hidden.map_or(bnaf.hidden, <[usize]>::to_vec),
                context_dim,
                ..bnaf
            })
        }
        "residual" => {
            let residual = ResidualFlowConfig::new(dim);
            ModelConfig::Residual(ResidualFlowConfig {
                layers: layers.unwrap_or(residual.layers),
                hidden: wide,
                context_dim,
                ..residual
            })
        }
        "cnf" => ModelConfig::Cnf(CnfFlowConfig {
            blocks: layers.unwrap_or(1),
            hidden: wide,
            context_dim,
            ..CnfFlowConfig::to_tolerance(dim)
        }),
        "planar" => {
            let layers = layers.unwrap_or(16);
            let planar = PlanarFlowConfig::new(dim);
            ModelConfig::Planar(PlanarFlowConfig {
                layers,
                context_dim,
                hidden: hidden.map_or(planar.hidden, <[usize]>::to_vec),
                ..planar
            })
        }
        "radial" => {
            let layers = layers.unwrap_or(16);
            let radial = RadialFlowConfig::new(dim);
            ModelConfig::Radial(RadialFlowConfig {
                layers,
                context_dim,
                hidden: hidden.map_or(radial.hidden, <[usize]>::to_vec),
                ..radial
            })
        }
        "sylvester" => {
            let sylvester = SylvesterFlowConfig::new(dim);
            ModelConfig::Sylvester(SylvesterFlowConfig {
                layers: layers.unwrap_or(8),
                context_dim,
                hidden: hidden.map_or(sylvester.hidden, <[usize]>::to_vec),
                ..sylvester
            })
        }
        "iaf" => return Err(FitError::Config(sampling_only("iaf"))),
        _ => {
            let names: Vec<&str> = MODELS.iter().map(|(name, _)| *name).collect();
            return Err(FitError::Config(format!(
                "unknown model '{name}'; models are {}",
                names.join(", ")
            )));
        }
    };
    // Few parameters with a large effect each, against networks.
    let slender = [
        "ddnf",
        "ddnf-lipschitz",
        "cnf",
        "planar",
        "radial",
        "sylvester",
    ]
    .contains(&name);
    Ok(Chosen {
        model,
        training_log_det,
        whiten: slender,
        learning_rate: if slender { 6e-3 } else { 2e-3 },
        mixture: default,
    })
}

/// Masked layers, five unless the shape says otherwise.
fn masked<T: NamedTransform>(shape: Shape<'_>, hidden: Vec<usize>) -> MaskedFlowConfig<T> {
    MaskedFlowConfig {
        layers: shape.layers.unwrap_or(5),
        hidden,
        context_dim: shape.context_dim,
        ..MaskedFlowConfig::new(shape.dim)
    }
}

/// Couplings, eight unless the shape says otherwise.
fn couplings<T: NamedTransform>(shape: Shape<'_>, hidden: Vec<usize>) -> CouplingFlowConfig<T> {
    CouplingFlowConfig {
        layers: shape.layers.unwrap_or(8),
        hidden,
        context_dim: shape.context_dim,
        ..CouplingFlowConfig::new(shape.dim)
    }
}

/// The truncated series where the determinant itself has no fused kernel and the series has; the
/// validation rows are scored with the determinant.
fn ddnf_training(ddnf: &DdnfConfig) -> Option<LogDet> {
    let narrowest = ddnf.hidden.iter().copied().min().unwrap_or(ddnf.dim);
    let exact = DdnfConfig {
        log_det: LogDet::Exact,
        ..ddnf.clone()
    };
    let closed_form = exact.has_fast_path() || ddnf.dim <= 3 || narrowest <= 2;
    (!closed_form).then_some(LogDet::Taylor { order: 2 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(dim: usize, context_dim: usize) -> Shape<'static> {
        Shape {
            dim,
            context_dim,
            layers: None,
            hidden: None,
        }
    }

    #[test]
    fn the_default_has_a_mixture_beside_it_and_is_trained_gently_on_few_rows() {
        for dim in [1, 5] {
            let default = choose(None, shape(dim, 0)).unwrap();
            assert!(default.model.name() == "ddnf" && default.mixture);
            assert!(!choose(Some("ddnf"), shape(dim, 0)).unwrap().mixture);
            let [few, many] = [200, 5000].map(|rows| default.training(rows));
            assert!(few.learning_rate < many.learning_rate && few.batch < many.batch);
            assert_eq!(
                [200, 500, 5000].map(|rows| default.members(rows)),
                [3, 2, 1]
            );
            assert!(few.weight_decay > 0.0 && many.weight_decay == 0.0);
        }
    }

    #[test]
    fn what_a_family_cannot_do_is_refused_with_the_reason() {
        let error = |name, shape| choose(Some(name), shape).unwrap_err().to_string();
        assert!(error("maf", shape(1, 0)).contains("is a Gaussian"));
        assert!(error("realnvp", shape(1, 0)).contains("two columns"));
        assert!(error("iaf", shape(2, 0)).contains("take 'maf'"));
        assert!(error("glow", shape(2, 0)).contains("models are maf, made"));
    }

    #[test]
    fn every_model_named_can_be_chosen() {
        for (name, _) in MODELS {
            choose(Some(name), shape(3, 0)).unwrap();
            let given = choose(Some(name), shape(3, 2)).unwrap();
            assert_eq!(given.model.context_dim(), 2, "{name}");
        }
    }
}
