//! The named autoregressive and coupling models: their options from TOML, their fast direction, and
//! there and back.

use std::f64::consts::PI;

use burn::tensor::{Tensor, TensorData};
use burn_flex::Flex;
use flows_core::bijector::{Bijector, Invert};
use flows_core::bijectors::{ConditionerConfig, LayerConfig};
use flows_core::distributions::{LogProb, Sample};
use flows_core::init::normal_tensor;
use flows_core::masks::MaskConfig;
use flows_core::testing::residual;
use flows_core::transforms::{RqSpline, SplineForm};
use flows_core::visit::LayerVisit;
use flows_models::{
    BaseToDataFlow, DataToBaseFlow, FastDirection, IafConfig, MafConfig, Mixing, ModelConfig,
    MultiScaleRealNvpConfig, RealNvpConfig, build_base_to_data, build_data_to_base,
};
use rand::{SeedableRng, rngs::StdRng};

fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

fn batch(rows: usize, dim: usize) -> Tensor<Flex, 2> {
    normal_tensor([rows, dim], 1.0, &Default::default(), &mut rng(9))
}

fn kinds(layers: &[LayerConfig]) -> Vec<&'static str> {
    let kind = |layer: &LayerConfig| match layer {
        LayerConfig::Autoregressive(layer) => match layer.conditioner {
            ConditionerConfig::Coupling => "coupling",
            _ => "masked",
        },
        LayerConfig::BatchNorm(_) => "norm",
        LayerConfig::Permutation(_) => "permutation",
        LayerConfig::LuLinear(_) => "lu",
        _ => "other",
    };
    layers.iter().map(kind).collect()
}

#[test]
fn the_fast_direction_is_in_the_type_and_costs_one_pass_a_layer() {
    let device = Default::default();
    // The types are the claim: a flow of the other orientation is another type.
    let maf: DataToBaseFlow<Flex> = MafConfig::new(6).init(&device, &mut rng(1)).unwrap();
    let iaf: BaseToDataFlow<Flex> = IafConfig::new(6).init(&device, &mut rng(1)).unwrap();
    let config = ModelConfig::Maf(MafConfig::new(6));
    assert_eq!(config.fast_direction(), FastDirection::Density);
    let config = ModelConfig::Iaf(IafConfig::new(6));
    assert_eq!(config.fast_direction(), FastDirection::Sampling);

    // The other direction runs the inverses: five of masked layers, four of permutations.
    for (name, layers) in [("maf", maf.bijector()), ("iaf", iaf.bijector())] {
        let (_, report) = layers.inverse_with_report(batch(20, 6), None);
        assert_eq!(report.passes, 9, "{name}");
        assert!(report.residual < 1e-4, "{name}: {report:?}");
    }
    let (x, log_prob) = iaf.sample_and_log_prob(20, None, &mut rng(2));
    let again = iaf.log_prob(x, None);
    assert!(residual(again.unsqueeze_dim(1), log_prob.unsqueeze_dim(1)) < 1e-3);
}

#[test]
fn masks_and_mixing_come_from_toml() {
    let text = "kind = 'maf'\ndim = 4\nlayers = 3\nhidden = [8]\nbatch_norm = true\n\
                mixing = { random = { seed = 3 } }\nmask = { blocks = [[0, 1], [3], [2]] }";
    let config: ModelConfig = toml::from_str(text).unwrap();
    let layers = config.layers();
    let expected = [
        "masked",
        "norm",
        "permutation",
        "masked",
        "norm",
        "permutation",
        "masked",
        "norm",
    ];
    assert_eq!(kinds(&layers), expected);
    assert!(config.needs_data());
    let permutations = [&layers[2], &layers[5]];
    assert_ne!(
        permutations[0], permutations[1],
        "another shuffle each time"
    );
    let ModelConfig::Maf(maf) = &config else {
        panic!("a maf");
    };
    assert!(matches!(maf.mask, MaskConfig::Blocks(_)));

    let text =
        "kind = 'iaf'\ndim = 3\nlayers = 2\nmixing = 'lu'\nmask = { graph = [[], [0], [0]] }";
    let config: ModelConfig = toml::from_str(text).unwrap();
    assert_eq!(kinds(&config.layers()), ["masked", "lu", "masked"]);
    let text = "kind = 'realnvp'\ndim = 4\nlayers = 2\nmixing = 'reversal'";
    let config: ModelConfig = toml::from_str(text).unwrap();
    assert_eq!(
        kinds(&config.layers()),
        ["coupling", "permutation", "coupling"]
    );
    for wrong in [
        "mixing = 'shuffle'",
        "mask = 'natural'",
        "batch_norms = true",
    ] {
        assert!(toml::from_str::<ModelConfig>(&format!("kind = 'maf'\ndim = 2\n{wrong}")).is_err());
    }
}

#[test]
fn models_named_after_a_transform_come_from_toml() {
    let text = "kind = 'nsf'\ndim = 3\nlayers = 2\nhidden = [8]\ncontext_dim = 2\n\
                transform = { bins = 6, bound = 3.0, form = 'soft_clip' }";
    let config: ModelConfig = toml::from_str(text).unwrap();
    let LayerConfig::Autoregressive(layer) = &config.layers()[0] else {
        panic!("a masked layer first");
    };
    let spline = RqSpline {
        bins: 6,
        bound: 3.0,
        form: SplineForm::SoftClip { min_slope: 1e-3 },
    };
    assert_eq!(layer.transform, spline.into());
    assert_eq!((layer.context_dim, layer.dim), (2, 3));
    for wrong in [
        "transform = { bin = 6 }",
        "transform = 'affine'",
        "transform = { bins = 1 }",
        "transform = { bins = 8, form = { softplus = { min_width = 0.2 } } }",
    ] {
        let text = format!("kind = 'nsf'\ndim = 2\n{wrong}");
        let built = toml::from_str::<ModelConfig>(&text)
            .map_err(|e| e.to_string())
            .and_then(|c| {
                build_data_to_base::<Flex>(&c.layers(), &Default::default(), &mut rng(1))
                    .map_err(|e| e.to_string())
            });
        assert!(built.is_err(), "{wrong}");
    }
    let coupling: ModelConfig = toml::from_str("kind = 'nsf-coupling'\ndim = 4").unwrap();
    assert_eq!(kinds(&coupling.layers()), ["coupling"; 8]);
    assert_eq!(coupling.fast_direction(), FastDirection::Either);
}

#[test]
fn models_start_near_the_identity_and_go_there_and_back() {
    for kind in ["nsf", "nsf-coupling", "naf", "sos", "bernstein", "umnn"] {
        let text = format!("kind = '{kind}'\ndim = 4\nlayers = 2\nmixing = 'nothing'");
        let config: ModelConfig = toml::from_str(&text).unwrap();
        let device = Default::default();
        let flow: DataToBaseFlow<Flex> =
            build_data_to_base(&config.layers(), &device, &mut rng(1)).unwrap();
        let x = batch(20, 4);
        let z = flow.bijector().forward(x.clone(), None);
        let moved = residual(z.clone(), x.clone());
        assert!(
            moved > 1e-6 && moved < 1.5,
            "{kind} starts {moved} off the identity"
        );
        let back = residual(flow.bijector().inverse(z, None), x);
        assert!(back < 1e-4, "{kind} comes back {back} off");
        assert_eq!(config.name(), kind);
        let preset = flows_models::preset(kind).expect("a preset of the name");
        assert_eq!(preset.config(4).name(), kind);
    }
}

#[test]
fn options_left_out_are_what_they_were() {
    assert_eq!(kinds(&MafConfig::new(2).layers()).len(), 9);
    assert_eq!(
        kinds(&IafConfig::new(2).layers()),
        kinds(&MafConfig::new(2).layers())
    );
    assert_eq!(kinds(&RealNvpConfig::new(2).layers()), ["coupling"; 8]);
    assert!(!ModelConfig::RealNvp(RealNvpConfig::new(2)).needs_data());
}

#[test]
fn batch_normalized_flows_sample_by_the_statistics_of_the_training_set() {
    let device = Default::default();
    let config = MafConfig {
        layers: 3,
        batch_norm: true,
        mixing: Mixing::Lu,
        ..MafConfig::new(4)
    };
    let mut maf = config.init::<Flex>(&device, &mut rng(1)).unwrap();
    let data = batch(300, 4) * 3.0 + 2.0;
    maf.visit_layers(&mut LayerVisit::freeze_statistics(vec![data.clone()], None));
    let (x, log_prob) = maf.sample_and_log_prob(50, None, &mut rng(2));
    let again = maf.log_prob(x, None);
    assert!(residual(again.unsqueeze_dim(1), log_prob.unsqueeze_dim(1)) < 1e-3);
    // Normalized layer by layer, the data arrive with the moments of the base.
    let z = maf.bijector().forward(data, None);
    let mean: Vec<f32> = z.mean_dim(0).into_data().into_vec().unwrap();
    assert!(mean.iter().all(|m| m.abs() < 1e-3), "{mean:?}");
}

#[test]
fn multi_scale_flows_map_there_and_back() {
    let device = Default::default();
    for (dim, scales) in [(8, 3), (7, 2), (2, 1)] {
        let config = MultiScaleRealNvpConfig {
            scales,
            ..MultiScaleRealNvpConfig::new(dim)
        };
        let flow = config.init::<Flex>(&device, &mut rng(1)).unwrap();
        let x = batch(40, dim);
        let there = flow.bijector().forward_and_log_det(x.clone(), None);
        let (back, report) = flow.bijector().inverse_with_report(there.value, None);
        assert!(residual(back.value, x) < 1e-4 && report.residual < 1e-4);
    }
    for (dim, scales) in [(8, 0), (8, 4), (1, 1)] {
        let config = MultiScaleRealNvpConfig {
            scales,
            ..MultiScaleRealNvpConfig::new(dim)
        };
        assert!(
            config.init::<Flex>(&device, &mut rng(1)).is_err(),
            "{dim} {scales}"
        );
    }
    let text = "kind = 'multi-scale'\ndim = 6\nscales = 2\nlayers = 2\nmixing = 'nothing'\nbatch_norm = true";
    let config: ModelConfig = toml::from_str(text).unwrap();
    let [LayerConfig::MultiScale(stages)] = &config.layers()[..] else {
        panic!("{config:?}");
    };
    assert_eq!(stages.stages.len(), 2);
    assert_eq!(
        kinds(&stages.stages[1]),
        ["coupling", "norm", "coupling", "norm"]
    );
}

#[test]
fn rows_as_far_out_as_f32_reaches_have_a_score_and_not_nan() {
    let device = Default::default();
    let far = [
        [f32::MAX, f32::MAX],
        [-f32::MAX, f32::MAX],
        [0.3, -f32::MAX],
        [f32::INFINITY, 0.0],
        [1e20, -1e20],
        [f32::NAN, f32::MAX],
    ];
    let x = Tensor::<Flex, 2>::from_data(far, &device);
    for name in [
        "ddnf",
        "cnf",
        "bnaf",
        "residual",
        "planar",
        "radial",
        "sylvester",
        "nice",
        "realnvp",
        "maf",
        "iaf",
    ] {
        let model: ModelConfig = toml::from_str(&format!("kind = '{name}'\ndim = 2")).unwrap();
        let layers = model.layers();
        let data_to_base = build_data_to_base::<Flex>(&layers, &device, &mut rng(1)).unwrap();
        let base_to_data = build_base_to_data::<Flex>(&layers, &device, &mut rng(1)).unwrap();
        for (direction, log_p) in [
            ("data to base", data_to_base.log_prob(x.clone(), None)),
            ("base to data", base_to_data.log_prob(x.clone(), None)),
        ] {
            let log_p: Vec<f32> = log_p.into_data().iter().collect();
            let (rows, last) = (&log_p[..5], log_p[5]);
            assert!(
                rows.iter().all(|v| *v < -1e6),
                "{name}, {direction}: {log_p:?}"
            );
            assert!(
                last.is_nan(),
                "{name}, {direction}: a row that holds NaN has {last}"
            );
        }
    }
}

#[test]
fn a_seed_keeps_the_permutations_between_layers() {
    let text = "kind = 'maf'\ndim = 6\nlayers = 3\nmixing = { random = { seed = 1 } }";
    let config: ModelConfig = toml::from_str(text).unwrap();
    let orders: Vec<Vec<usize>> = config
        .layers()
        .iter()
        .filter_map(|layer| match layer {
            LayerConfig::Permutation(permutation) => Some(permutation.ordering.order(6).unwrap()),
            _ => None,
        })
        .collect();
    assert_eq!(orders, [[0, 3, 5, 1, 4, 2], [0, 3, 1, 2, 5, 4]]);
}

#[test]
fn a_flow_over_angles_has_the_mass_of_the_torus() {
    let device = Default::default();
    for (dim, cells) in [(1, 2000_usize), (2, 200)] {
        let text = format!("kind = 'ncsf'\ndim = {dim}\nlayers = 3\nhidden = [16]");
        let config: ModelConfig = toml::from_str(&text).unwrap();
        let flow = config.init::<Flex>(&device, &mut rng(1)).unwrap();
        let width = 2.0 * PI / cells as f64;
        let middle = |k: usize| (k as f64 + 0.5) * width - PI;
        let points: Vec<f64> = (0..cells.pow(dim))
            .flat_map(|k| (0..dim).map(move |j| k / cells.pow(j) % cells))
            .map(middle)
            .collect();
        let shape = [points.len() / dim as usize, dim as usize];
        let x = Tensor::<Flex, 2>::from_data(TensorData::new(points, shape), &device);
        let log_p: Vec<f64> = flow.log_prob(x, None).into_data().iter().collect();
        let mass: f64 = log_p.iter().map(|l| l.exp() * width.powi(dim as i32)).sum();
        assert!((mass - 1.0).abs() < 1e-3, "{mass}");
        let uniform = -f64::from(dim) * (2.0 * PI).ln();
        assert!(
            log_p.iter().any(|l| (l - uniform).abs() > 1e-3),
            "a uniform density"
        );
        let x = flow.sample(500, None, &mut rng(2));
        assert!(x.into_data().iter::<f64>().all(|x| x.abs() <= PI + 1e-6));
    }
    // A torus of another size than the circle of the layers.
    let text = "kind = 'ncsf'\ndim = 2\ntransform = { bound = 180.0 }";
    let config: ModelConfig = toml::from_str(text).unwrap();
    let error = config.init::<Flex>(&device, &mut rng(1)).unwrap_err();
    assert!(
        error.to_string().contains("expected (-180, 180)"),
        "{error}"
    );
    let text = format!("{text}\nbase = {{ torus = {{ bound = 180.0 }} }}");
    let config: ModelConfig = toml::from_str(&text).unwrap();
    config.init::<Flex>(&device, &mut rng(1)).unwrap();
}
