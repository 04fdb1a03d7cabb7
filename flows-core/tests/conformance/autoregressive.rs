//! Every transform in every conditioner, through one type.

use burn::tensor::backend::AutodiffBackend;
use flows_core::bijectors::*;
use flows_core::conditioners::SoftStart;
use flows_core::masks::{DependencyMask, MaskConfig, Ordering, Untouched};
use flows_core::nn::{ConditionerActivation, Connections, Encoding};
use flows_core::testing::{Case, Dependencies, Suite};
use flows_core::transforms::{
    AnyTransform, Bernstein, CircularSpline, DeepSigmoidal, LogScale, RqSpline, SinhArcsinh,
    SplineForm, SumOfSquares, Umnn,
};

pub(crate) const SCALES: [LogScale; 7] = [
    LogScale::Exp,
    LogScale::TanhBounded { bound: 2.0 },
    LogScale::SoftClip { bound: 6.9 },
    LogScale::Softplus { floor: 1e-3 },
    LogScale::Sigmoid {
        offset: 2.0,
        floor: 1e-3,
    },
    LogScale::SigmoidGate,
    LogScale::Additive,
];

/// Every transform, one line each; the scales of the affine one are dealt to the layers below.
pub(crate) fn transforms() -> Vec<AnyTransform> {
    let spline = |form| RqSpline {
        form,
        bins: 4,
        ..RqSpline::default()
    };
    vec![
        AnyTransform::default(),
        SinhArcsinh {}.into(),
        spline(SplineForm::default()).into(),
        spline(SplineForm::SoftClip { min_slope: 1e-3 }).into(),
        spline(SplineForm::FreeEnds {
            min_width: 1e-3,
            min_slope: 1e-3,
        })
        .into(),
        CircularSpline {
            bins: 4,
            ..CircularSpline::default()
        }
        .into(),
        DeepSigmoidal {
            units: 3,
            ..DeepSigmoidal::default()
        }
        .into(),
        SumOfSquares {
            polynomials: 2,
            degree: 3,
            ..SumOfSquares::default()
        }
        .into(),
        Bernstein {
            steps: 4,
            ..Bernstein::default()
        }
        .into(),
        Umnn {
            units: 3,
            ..Umnn::default()
        }
        .into(),
    ]
}

fn masks() -> Vec<MaskConfig> {
    vec![
        MaskConfig::Autoregressive(Ordering::Natural),
        MaskConfig::Autoregressive(Ordering::Reversed),
        MaskConfig::Autoregressive(Ordering::Random { seed: 5 }),
        MaskConfig::Blocks(vec![vec![3, 1], vec![0], vec![4, 2]]),
        MaskConfig::Coupling(Untouched::Variables(vec![1, 3])),
        MaskConfig::Graph(vec![vec![], vec![0], vec![0, 4], vec![1, 2], vec![]]),
    ]
}

/// What each output may depend on: itself, and what its parameters see.
pub(crate) fn outputs_see(mask: &DependencyMask) -> Dependencies {
    let dim = mask.dim();
    let row = |i: usize| (0..dim).map(|j| i == j || mask.sees(i, j)).collect();
    (0..dim).map(row).collect()
}

const DIM: usize = 5;

/// A layer of every conditioner.
fn conditioners() -> Vec<(&'static str, AutoregressiveConfig)> {
    let shared = |encoding| AutoregressiveConfig {
        conditioner: ConditionerConfig::Shared { encoding },
        ..AutoregressiveConfig::new(DIM, vec![8])
    };
    let soft = AutoregressiveConfig::soft(DIM, vec![8]);
    let soft_masked = AutoregressiveConfig {
        conditioner: ConditionerConfig::SoftMasked {
            start: SoftStart::default(),
        },
        mask: MaskConfig::Autoregressive(Ordering::Random { seed: 5 }),
        ..AutoregressiveConfig::new(DIM, vec![11, 7])
    };
    let residual = |config: &AutoregressiveConfig| AutoregressiveConfig {
        connections: Connections::Residual,
        context_dim: 2,
        ..config.clone()
    };
    let masked = AutoregressiveConfig::new(DIM, vec![12, 12]);
    let coupling = AutoregressiveConfig::coupling(DIM, vec![8, 8], Untouched::Odd);
    let jacobi = AutoregressiveConfig {
        inverse: AutoregressiveInverse::Jacobi { tolerance: 0.0 },
        ..masked.clone()
    };
    vec![
        ("residual coupling", residual(&coupling)),
        ("coupling", coupling),
        ("residual masked", residual(&masked)),
        ("masked", masked),
        ("masked, Jacobi", jacobi),
        ("shared", shared(Encoding::Index)),
        ("shared by mask row", shared(Encoding::MaskRow)),
        ("soft", soft),
        ("residual soft masked", residual(&soft_masked)),
        ("soft masked", soft_masked),
    ]
}

/// How far the parameters of the network are moved: those of an affine map give slopes that are linear in them, and
/// those of other maps bends that central differences and f32 no longer resolve.
fn far(transform: &AnyTransform) -> f64 {
    match transform {
        AnyTransform::Affine(_) | AnyTransform::SinhArcsinh(_) => 0.5,
        _ => 0.2,
    }
}

fn check<B: AutodiffBackend>(suite: &mut Suite<B>, name: String, config: &AutoregressiveConfig) {
    let mask = config.mask.build(config.dim).expect("an acyclic mask");
    let passes = match config.inverse {
        AutoregressiveInverse::Incremental => 1,
        AutoregressiveInverse::Jacobi { .. } => mask.depth(),
    };
    let mut case = Case::new(name)
        .dependencies(outputs_see(&mask))
        .far(far(&config.transform))
        .max_passes(passes);
    if let (ConditionerConfig::Coupling, MaskConfig::Coupling(untouched)) =
        (&config.conditioner, &config.mask)
    {
        case = case.untouched(untouched.variables(config.dim).expect("a subset"));
    }
    if config.dim == 1 {
        // A single variable sees nothing: no entry of a mask to learn, no weight that reads it.
        case = case.without_gradient(vec!["logits", "Masked.network.layers.0.weight"]);
    }
    let config = config.clone();
    suite.check(case, move |device, rng| config.init(device, rng));
}

/// A transform behind the conditioners that are due to it: the closed form of two parameters behind all of them, the
/// spline behind one of each kind, and what takes longer behind two.
pub(crate) fn behind_conditioners<B: AutodiffBackend>(
    suite: &mut Suite<B>,
    transform: &AnyTransform,
) {
    let due: Option<&[&str]> = match transform {
        AnyTransform::Affine(_) | AnyTransform::SinhArcsinh(_) => None,
        AnyTransform::RqSpline(spline) if spline.form == SplineForm::default() => {
            Some(&["residual coupling", "masked", "shared", "soft masked"])
        }
        AnyTransform::CircularSpline(_) => Some(&["residual coupling", "coupling"]),
        _ => Some(&["residual coupling", "masked"]),
    };
    for (name, config) in conditioners() {
        if due.is_some_and(|due| !due.contains(&name)) {
            continue;
        }
        let config = AutoregressiveConfig {
            transform: transform.clone(),
            activation: ConditionerActivation::Tanh,
            ..config
        };
        check(suite, format!("{transform:?}, {name}"), &config);
    }
}

/// Runs the conformance suite over these layers.
pub(crate) fn autoregressive_layers<B: AutodiffBackend>(suite: &mut Suite<B>) {
    for transform in transforms() {
        behind_conditioners(suite, &transform);
    }
    let halves = [Untouched::Even, Untouched::FirstHalf, Untouched::SecondHalf];
    for (k, scale) in SCALES.into_iter().enumerate() {
        let config = AutoregressiveConfig {
            transform: scale.into(),
            connections: [Connections::Plain, Connections::Residual][k % 2],
            context_dim: [0, 0, 2][k % 3],
            ..AutoregressiveConfig::coupling(DIM, vec![8, 8], halves[k % 3].clone())
        };
        check(suite, format!("{scale:?}, coupling"), &config);
    }
    for (k, mask) in masks().into_iter().enumerate() {
        for (connections, activation) in [
            (Connections::Plain, ConditionerActivation::Tanh),
            (Connections::Residual, ConditionerActivation::Elu),
        ] {
            let config = AutoregressiveConfig {
                mask: mask.clone(),
                connections,
                activation,
                context_dim: [0, 2][k % 2],
                transform: SCALES[k].into(),
                ..AutoregressiveConfig::new(DIM, vec![12, 12])
            };
            let name = format!("{:?}, masked, {mask:?}, {connections:?}", SCALES[k]);
            check(suite, name, &config);
        }
        let config = AutoregressiveConfig {
            mask: mask.clone(),
            conditioner: ConditionerConfig::Shared {
                encoding: [Encoding::Index, Encoding::MaskRow][k % 2],
            },
            activation: [ConditionerActivation::Elu, ConditionerActivation::Tanh][k % 2],
            connections: [Connections::Plain, Connections::Residual][k / 2 % 2],
            context_dim: [2, 0, 0][k % 3],
            transform: SCALES[k].into(),
            ..AutoregressiveConfig::new(DIM, vec![8, 8])
        };
        check(suite, format!("{:?}, shared, {mask:?}", SCALES[k]), &config);
    }
    for (k, ordering) in [Ordering::Natural, Ordering::Reversed]
        .into_iter()
        .enumerate()
    {
        let start = SoftStart {
            temperature: [0.3, 2.0][k],
            entry: [0.2, 0.9][k],
        };
        let config = AutoregressiveConfig {
            mask: MaskConfig::Autoregressive(ordering.clone()),
            conditioner: [
                ConditionerConfig::Soft {
                    start,
                    encoding: Encoding::MaskRow,
                },
                ConditionerConfig::SoftMasked { start },
            ][k],
            activation: ConditionerActivation::Elu,
            context_dim: [2, 0][k],
            transform: SCALES[k + 2].into(),
            ..AutoregressiveConfig::new(DIM, vec![8])
        };
        check(suite, format!("{start:?}, {ordering:?}"), &config);
    }
    for config in [
        AutoregressiveConfig {
            transform: CircularSpline::default().into(),
            ..AutoregressiveConfig::new(1, vec![4])
        },
        AutoregressiveConfig::new(1, vec![4]),
        AutoregressiveConfig::shared(1, vec![4]),
        AutoregressiveConfig::soft(1, vec![4]),
    ] {
        check(
            suite,
            format!("{:?}, {:?}, dim 1", config.transform, config.conditioner),
            &config,
        );
    }
    suite.check(Case::new("inverted masked"), |device, rng| {
        let config = AutoregressiveConfig::new(DIM, vec![12]);
        config.init(device, rng).map(Inverted::new)
    });
    for ordering in [Ordering::Reversed, Ordering::Random { seed: 1 }] {
        let case = Case::new(format!("permutation, {ordering:?}"));
        suite.check(case, |device, rng| {
            PermutationConfig::new(DIM, ordering.clone()).init(device, rng)
        });
        let case = Case::new(format!("lu linear, {ordering:?}"));
        suite.check(case, |device, rng| {
            let config = LuLinearConfig {
                ordering: ordering.clone(),
                ..LuLinearConfig::new(DIM)
            };
            config.init(device, rng)
        });
    }
}
