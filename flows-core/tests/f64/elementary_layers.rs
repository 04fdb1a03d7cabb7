//! Elementwise affine, activation norm, planar, radial and Sylvester layers in f64: the conformance
//! suite over several sizes, and what is special to each.

use burn::backend::{Autodiff, Flex};
use burn::tensor::{Tensor, TensorData};
use flows_core::bijector::{Bijector, Invert, Mapped};
use flows_core::bijectors::sylvester::BasisConfig;
use flows_core::bijectors::{
    ActNormConfig, PlanarConfig, RadialConfig, SylvesterConfig, planar, radial,
};
use flows_core::init::normal_tensor;
use flows_core::testing::{
    Case, Precision, Suite, jacobians, relative_error, rows, slog_det, uniform_batch,
};
use flows_core::visit::LayerVisit;
use rand::{SeedableRng, rngs::StdRng};

use crate::double;

type B = Autodiff<Flex>;

/// Further than the suite goes by itself, and activation normalization after its first batch.
#[test]
fn layers_conform_very_far_from_where_they_start() {
    let mut suite = Suite::<B>::new(double(), Precision::DOUBLE);
    for dim in [1, 2, 4] {
        suite.check(
            Case::new(format!("activation norm {dim}")).max_passes(1),
            |device, rng| {
                let mut layer = ActNormConfig::new(dim).init(device.clone(), rng)?;
                let x = normal_tensor([9, dim], 3.0, device, rng) + 2.0;
                layer.visit_layers(&mut LayerVisit::init_from_data(x, None));
                Ok(layer)
            },
        );
        suite.check(
            Case::new(format!("planar {dim}")).max_passes(20).far(2.0),
            |device, rng| PlanarConfig::new(dim).init(device, rng),
        );
        suite.check(
            Case::new(format!("radial {dim}")).max_passes(1).far(2.0),
            |device, rng| RadialConfig::new(dim).init(device, rng),
        );
        // Of one dimension, the registry has it.
        for columns in [1, dim].into_iter().filter(|_| dim > 1) {
            let basis = BasisConfig::Orthogonal { columns };
            let case = Case::new(format!("sylvester {dim}, {columns} columns")).max_passes(20);
            suite.check(case, |device, rng| {
                SylvesterConfig::new(dim, basis).init(device, rng)
            });
        }
    }
    suite.finish();
}

#[test]
fn layers_start_near_the_identity() {
    let device = double();
    let mut rng = StdRng::seed_from_u64(1);
    let x = uniform_batch::<B>([50, 4], 3.0, 2, device);
    let near = |mapped: Mapped<B>| {
        let moved = rows(&(mapped.value - x.clone()).abs().max())[0];
        assert!(moved > 0.0 && moved < 0.2, "moved by {moved}");
    };
    let planar = PlanarConfig::new(4).init(device, &mut rng).unwrap();
    near(planar.forward_and_log_det(x.clone(), None));
    let radial = RadialConfig::new(4).init(device, &mut rng).unwrap();
    near(radial.forward_and_log_det(x.clone(), None));
    let basis = BasisConfig::Householder { reflections: 3 };
    let sylvester = SylvesterConfig::new(4, basis)
        .init(device, &mut rng)
        .unwrap();
    near(sylvester.forward_and_log_det(x.clone(), None));
}

#[test]
fn activation_norm_whitens_the_first_batch() {
    let device = double();
    let mut rng = StdRng::seed_from_u64(3);
    let mut layer = ActNormConfig::new(3).init::<B>(device, &mut rng).unwrap();
    let x = normal_tensor::<B, 2>([200, 3], 5.0, device, &mut rng) + 1e4;
    // The last column is constant, and not representable exactly in binary.
    let x = Tensor::cat(
        vec![x.narrow(1, 0, 2), Tensor::full([200, 1], 0.1, device)],
        1,
    );
    let mut visit = LayerVisit::init_from_data(x.clone(), None);
    layer.visit_layers(&mut visit);
    let y = visit.into_rows().remove(0);
    assert_eq!(rows(&y), rows(&layer.forward(x.clone(), None)));
    let mean = rows(&y.clone().mean_dim(0));
    let variance = rows(&y.clone().square().mean_dim(0));
    for j in 0..3 {
        assert!(mean[j].abs() < 1e-11, "mean {mean:?}");
        let expected = if j < 2 { 1.0 } else { 0.0 };
        assert!(
            (variance[j] - expected).abs() < 1e-11,
            "variance {variance:?}"
        );
    }
    // The constant column keeps scale 1.
    assert_eq!(rows(&layer.affine().log_scale())[2], 0.0);
    let loss = layer.forward(x, None).square().sum();
    let gradients = loss.backward();
    assert!(
        layer.affine().log_scale().grad(&gradients).is_some(),
        "still trainable"
    );

    let one = Tensor::from_data([[3.0, -4.0, 0.0]], device);
    let mut visit = LayerVisit::init_from_data(one, None);
    layer.visit_layers(&mut visit);
    assert_eq!(rows(&visit.into_rows()[0]), [0.0; 3]);
}

#[test]
#[should_panic(expected = "activation norm: batch: row 1, column 0 is NaN")]
fn activation_norm_refuses_nan() {
    let device = double();
    let config = ActNormConfig::new(2);
    let mut layer = config
        .init::<B>(device, &mut StdRng::seed_from_u64(3))
        .unwrap();
    let rows = Tensor::from_data([[0.0, 1.0], [f64::NAN, 1.0]], device);
    layer.visit_layers(&mut LayerVisit::init_from_data(rows, None));
}

/// Parameters per row: `(z, u, w, b)` at the edges of the planar constraint.
fn planar_edges(u: [f64; 2], w: [f64; 2], b: f64) -> [Tensor<B, 2>; 3] {
    let device = double();
    let row = |v: [f64; 2]| Tensor::<B, 2>::from_data([v], device).require_grad();
    [
        row(u),
        row(w),
        Tensor::from_data([[b]], device).require_grad(),
    ]
}

#[test]
fn planar_holds_at_the_edges_of_its_constraint() {
    let device = double();
    let cases = [
        ([0.5, -0.3], [0.0, 0.0], 0.4),
        ([0.5, -0.3], [1e-8, -1e-9], 0.4),
        ([0.5, -0.3], [1e-6, 1e-7], 0.4),
        ([30.0, 0.0], [30.0, 1.0], -0.2),
        ([-3.0, 1.0], [4.0, 2.0], 0.1),
        ([-6.0, 0.0], [5.0, 0.0], -2.0),
        ([1e3, 1e3], [1.0, 1.0], 0.0),
    ];
    for (u, w, b) in cases {
        for z in [[0.3, -0.4], [0.0, 0.0], [1e3, -1e3]] {
            let [u, w, b] = planar_edges(u, w, b);
            let z = Tensor::<B, 2>::from_data([z], device).require_grad();
            let flat = |b: &Tensor<B, 2>| b.clone().reshape([1]);
            let apply = |z| planar::apply(z, u.clone(), w.clone(), flat(&b));
            let there = apply(z.clone());
            let at = format!("u {u}, w {w}, z {z}");
            let jacobian = jacobians(|z| apply(z).value, &z);
            let (log_det, exact) = (rows(&there.log_det), slog_det(&jacobian[0]));
            assert!(
                (log_det[0] - exact).abs() < 1e-8 * (1.0 + exact.abs()),
                "{at}: {log_det:?}, {exact}"
            );

            let (back, iterations) =
                planar::invert(there.value.clone(), u.clone(), w.clone(), flat(&b));
            let again = apply(back.value.clone().detach()).value;
            let off = relative_error(&rows(&again), &rows(&there.value));
            // The worst case multiplies rounding by a slope of 900.
            assert!(off < 1e-12, "{at}: residual {off:e}");
            assert!(iterations < 60, "{at}: {iterations} iterations");

            let loss = there.value.sum() + there.log_det.sum() + back.log_det.sum();
            let gradients = loss.backward();
            for tensor in [&z, &u, &w, &b] {
                let gradient = rows(&tensor.grad(&gradients).unwrap());
                assert!(gradient.iter().all(|g| g.is_finite()), "{at}: {gradient:?}");
            }
        }
    }
}

#[test]
fn radial_holds_at_its_centre_and_at_its_limits() {
    let device = double();
    let column = |v: f64| Tensor::<B, 1>::from_data([v], device).require_grad();
    let centre = [0.25, -1.5];
    for (alpha, beta) in [
        (0.5, 0.5),
        (-5.0, 4.0),
        (4.0, -5.0),
        (40.0, -30.0),
        (-30.0, 40.0),
    ] {
        for z in [centre, [0.25, -1.5 + 1e-9], [0.0, 0.0], [1e3, -1e3]] {
            let z = Tensor::<B, 2>::from_data([z], device).require_grad();
            let z_0 = Tensor::<B, 2>::from_data([centre], device).require_grad();
            let (a, b) = (column(alpha), column(beta));
            let there = radial::apply(z.clone(), z_0.clone(), a.clone(), b.clone());
            let at = format!("alpha {alpha}, beta {beta}, z {z}");
            let back = radial::invert(there.value.clone(), z_0.clone(), a.clone(), b.clone());
            let again = radial::apply(
                back.value.clone().detach(),
                z_0.clone(),
                a.clone(),
                b.clone(),
            );
            let off = relative_error(&rows(&again.value), &rows(&there.value));
            assert!(off < 1e-13, "{at}: residual {off:e}");

            let loss =
                there.value.sum() + there.log_det.sum() + back.log_det.sum() + back.value.sum();
            let gradients = loss.backward();
            for tensor in [z.grad(&gradients), z_0.grad(&gradients)] {
                assert!(rows(&tensor.unwrap()).iter().all(|g| g.is_finite()), "{at}");
            }
            for tensor in [a.grad(&gradients), b.grad(&gradients)] {
                assert!(rows(&tensor.unwrap()).iter().all(|g| g.is_finite()), "{at}");
            }
        }
    }
}

#[test]
fn parameters_per_row_act_on_their_row_alone() {
    let device = double();
    let mut rng = StdRng::seed_from_u64(9);
    let mut draw = |columns| normal_tensor::<B, 2>([4, columns], 1.0, device, &mut rng);
    let (z, u, w, b) = (draw(3), draw(3), draw(3), draw(1));
    let whole = planar::apply(z.clone(), u.clone(), w.clone(), b.clone().squeeze_dim(1));
    let disc = radial::apply(
        z.clone(),
        u.clone(),
        b.clone().squeeze_dim(1),
        b.clone().neg().squeeze_dim(1),
    );
    for r in 0..4 {
        let row = |t: &Tensor<B, 2>| t.clone().narrow(0, r, 1);
        let flat = |t: &Tensor<B, 2>| row(t).reshape([1]);
        let alone = planar::apply(row(&z), row(&u), row(&w), flat(&b));
        assert_eq!(rows(&alone.value), rows(&row(&whole.value)));
        assert_eq!(rows(&alone.log_det)[0], rows(&whole.log_det)[r]);
        let alone = radial::apply(row(&z), row(&u), flat(&b), flat(&b.clone().neg()));
        assert_eq!(rows(&alone.value), rows(&row(&disc.value)));
        assert_eq!(rows(&alone.log_det)[0], rows(&disc.log_det)[r]);
    }
}

#[test]
fn a_wide_sylvester_inverse_is_exact_where_a_fixed_point_would_not_contract() {
    let device = double();
    let mut rng = StdRng::seed_from_u64(4);
    let dim = 16;
    let config = SylvesterConfig {
        init_std: 3.0,
        ..SylvesterConfig::new(dim, BasisConfig::Householder { reflections: 8 })
    };
    let layer = config.init::<B>(device, &mut rng).unwrap();
    let x = uniform_batch::<B>([32, dim], 2.0, 8, device);
    // z <- y - Q R1 tanh(R2 Q^T z + b) leaves the solution of this layer.
    let y = layer.forward(x.clone(), None);
    let mut z = y.clone();
    for _ in 0..100 {
        z = y.clone() - (layer.forward(z.clone(), None) - z);
    }
    let wandering = relative_error(&rows(&z), &rows(&x));
    assert!(wandering > 0.1, "the fixed point found it: {wandering:e}");
    let (back, report) = layer.inverse_with_report(y, None);
    assert!(report.residual < 1e-12, "{report:?}");
    assert!(report.passes <= 40, "{report:?}");
    let off = relative_error(&rows(&back.value), &rows(&x));
    assert!(off < 1e-8, "{off:e}");
}

#[test]
fn configurations_are_checked() {
    let device = double();
    let rng = &mut StdRng::seed_from_u64(0);
    let message = |basis| {
        let config = SylvesterConfig::new(3, basis);
        config
            .init::<B>(device, &mut StdRng::seed_from_u64(0))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        message(BasisConfig::Orthogonal { columns: 4 }),
        "sylvester: columns is 4, expected 1 to 3"
    );
    assert_eq!(
        message(BasisConfig::Householder { reflections: 0 }),
        "sylvester: reflections is 0, expected at least 1"
    );
    assert!(PlanarConfig::new(0).init::<B>(device, rng).is_err());
    assert!(
        RadialConfig {
            init_std: f64::NAN,
            ..RadialConfig::new(2)
        }
        .init::<B>(device, rng)
        .is_err()
    );
    assert!(ActNormConfig::new(0).init::<B>(device, rng).is_err());
    let read: SylvesterConfig =
        toml::from_str("dim = 6\nbasis = { orthogonal = { columns = 2 } }").unwrap();
    assert_eq!(
        read,
        SylvesterConfig::new(6, BasisConfig::Orthogonal { columns: 2 })
    );
    assert!(toml::from_str::<PlanarConfig>("dim = 2\nwidth = 3").is_err());
}

#[test]
fn planar_meets_values_worked_out_by_hand() {
    // u = (ln(e - 1), 0), w = (1, 0) makes u^ = 0, the identity.
    let device = double();
    let z = Tensor::<B, 2>::from_data(TensorData::from([[0.7, -0.2]]), device);
    let w = Tensor::<B, 2>::from_data([[1.0, 0.0]], device);
    let u = Tensor::<B, 2>::from_data([[(1f64.exp() - 1.0).ln(), 0.0]], device);
    let b = Tensor::<B, 1>::from_data([0.3], device);
    let out = planar::apply(z.clone(), u, w.clone(), b.clone());
    assert!(relative_error(&rows(&out.value), &rows(&z)) < 1e-15);
    assert!(rows(&out.log_det)[0].abs() < 1e-15);
    // u = 0 makes u^ = (ln 2 - 1, 0).
    let out = planar::apply(z.clone(), z.zeros_like(), w, b);
    let h = 1f64.tanh();
    let gain = std::f64::consts::LN_2 - 1.0;
    assert!((rows(&out.value)[0] - (0.7 + gain * h)).abs() < 1e-15);
    assert!((rows(&out.log_det)[0] - (1.0 + gain * (1.0 - h * h)).ln()).abs() < 1e-15);
}
