//! Every layer and distribution, one line each, with what it promises. Adding a layer adds one line here.

pub(crate) mod autoregressive;
pub(crate) mod bases;
mod bnaf;
mod continuous;
mod distributions;
mod stages;

use burn::tensor::backend::AutodiffBackend;
use flows_core::bijectors::sylvester::BasisConfig;
use flows_core::bijectors::*;
use flows_core::masks::Ordering;
use flows_core::nn::ConditionerActivation;
use flows_core::testing::{Case, Suite};

/// Every function of one variable.
pub(crate) fn elementwise_maps() -> Vec<UnivariateMap> {
    use UnivariateMap::*;
    vec![
        Identity,
        Sigmoid,
        Logit,
        Softplus,
        InverseSoftplus,
        Exp,
        Log,
        Tanh,
        Arctanh,
        Sinh,
        Arcsinh,
        Power { exponent: 2.5 },
        Power { exponent: -0.5 },
        Affine {
            scale: -2.0,
            shift: 0.7,
        },
    ]
}

/// Runs the conformance suite over every layer and distribution; iterative inverses stop at `solver`.
pub(crate) fn registry<B: AutodiffBackend>(suite: &mut Suite<B>, solver: f64) {
    for dim in [1, 3] {
        let case = |name: &str| Case::new(format!("{name}, dim {dim}"));
        let diagonal = |i: usize| (0..dim).map(|j| i == j).collect();
        let diagonal = (0..dim).map(diagonal).collect::<Vec<Vec<_>>>();

        let elementwise = case("elementwise affine").dependencies(diagonal.clone());
        suite.check(elementwise, |device, rng| {
            ElementwiseAffineConfig::new(dim).init(device, rng)
        });
        suite.check(
            case("activation norm").dependencies(diagonal),
            |device, rng| ActNormConfig::new(dim).init(device, rng),
        );
        suite.check(case("planar"), |device, rng| {
            PlanarConfig::new(dim).init(device, rng)
        });
        suite.check(case("radial"), |device, rng| {
            RadialConfig::new(dim).init(device, rng)
        });
        for basis in [
            BasisConfig::Orthogonal {
                columns: dim.div_ceil(2),
            },
            BasisConfig::Householder { reflections: 2 },
            BasisConfig::Identity,
            BasisConfig::Reversal,
        ] {
            let mut case = case(&format!("sylvester, {basis:?}"));
            if dim == 1 {
                // An orthonormal 1 x 1 matrix is a sign: nothing to learn.
                case = case.without_gradient(vec!["raw_basis"]);
            }
            suite.check(case, |device, rng| {
                SylvesterConfig::new(dim, basis).init(device, rng)
            });
        }
        for (map, far) in [
            (AnyRowMap::from(ElementwiseAffineConfig::new(dim)), 0.3),
            (LuLinearConfig::new(dim).into(), 0.2),
            (
                LuLinearConfig {
                    ordering: Ordering::Reversed,
                    ..LuLinearConfig::new(dim)
                }
                .into(),
                0.2,
            ),
            (PlanarConfig::new(dim).into(), 0.2),
            (RadialConfig::new(dim).into(), 0.2),
            (
                SylvesterConfig::new(dim, BasisConfig::Householder { reflections: 2 }).into(),
                0.2,
            ),
            (
                SylvesterConfig::new(dim, BasisConfig::Orthogonal { columns: 1 }).into(),
                0.2,
            ),
            (SylvesterConfig::new(dim, BasisConfig::Reversal).into(), 0.2),
        ] {
            // What a context multiplies makes maps of the far parameters steeper than f32 inverts.
            let case = Case::new(format!("conditioned {map:?}")).far(far);
            suite.check(case, move |device, rng| {
                let config = ConditionedConfig {
                    hidden: vec![4],
                    activation: ConditionerActivation::Tanh,
                    ..ConditionedConfig::new(map.clone(), 2)
                };
                config.init(device, rng)
            });
        }
        suite.check(case("inverted planar"), |device, rng| {
            PlanarConfig::new(dim).init(device, rng).map(Inverted::new)
        });
        suite.check(case("chain of planar"), |device, rng| {
            let layer = PlanarConfig::new(dim);
            Chain::new(vec![
                layer.init(device.clone(), rng)?,
                layer.init(device, rng)?,
            ])
        });
        suite.check(
            case("pair of radial and elementwise affine"),
            |device, rng| {
                let first = RadialConfig::new(dim).init(device.clone(), rng)?;
                Pair::new(first, ElementwiseAffineConfig::new(dim).init(device, rng)?)
            },
        );
    }
    let maps = elementwise_maps();
    let diagonal = |i: usize| (0..maps.len()).map(|j| i == j).collect();
    let case = Case::new("elementwise map")
        .dependencies((0..maps.len()).map(diagonal).collect())
        // Beyond it the slopes of the sigmoid and of the hyperbolic tangent lose their digits in autodiff, then all.
        .bounded_domain(4.0);
    suite.check(case, |device, rng| {
        ElementwiseMapConfig::new(elementwise_maps()).init(device, rng)
    });
    continuous::ddnf_blocks(suite, solver);
    continuous::bounded_blocks(suite, solver);
    continuous::cnfs(suite);
    autoregressive::autoregressive_layers(suite);
    stages::block_and_stage_layers(suite);
    bnaf::bnafs(suite);
    distributions::distributions(suite, solver);
    bases::bases(suite);
}
