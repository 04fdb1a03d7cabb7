//! Trajectories, the penalties on them, and the stability of a stack.

use super::*;
use crate::double;
use flows_core::bijectors::{
    ElementwiseAffineConfig, Layer, LayerConfig, Stack, Trajectory, exponential_inverse, stability,
    trajectories,
};
use flows_core::regularizers::{
    Geodesic, Metric, Regularizers, field_norm, inverse_consistency, path_energy, path_length,
};

const CELLS: usize = 4;

/// Two blocks with a layer of another kind between them.
fn stack<B: Backend<Device = FlexDevice>>(dim: usize) -> Stack<B> {
    let block = |hidden: Vec<usize>| {
        LayerConfig::Ddnf(DdnfBlockConfig {
            cells: CELLS,
            context_dim: 2,
            ..DdnfBlockConfig::new(dim, hidden)
        })
    };
    let affine = LayerConfig::ElementwiseAffine(ElementwiseAffineConfig::new(dim));
    let mut generator = rng(7);
    let mut build = |layer: LayerConfig| layer.init::<B>(double(), &mut generator).unwrap();
    let layers = vec![
        build(block(vec![5])),
        build(affine),
        build(block(vec![2, 3])),
    ];
    let rng = rng(8);
    Chain::new(layers)
        .unwrap()
        .map(&mut AddNoise { std: 0.3, rng })
}

fn blocks<B: Backend>(stack: &Stack<B>) -> Vec<&DdnfBlock<B>> {
    stack
        .layers()
        .iter()
        .filter_map(|layer| match layer {
            Layer::Ddnf(block) => Some(block),
            _ => None,
        })
        .collect()
}

/// `E` of a number for each row.
fn mean_of_rows(rows: &[f64], dim: usize, of_row: impl Fn(&[f64]) -> f64) -> f64 {
    rows.chunks(dim).map(of_row).sum::<f64>() / (rows.len() / dim) as f64
}

fn metrics() -> [Metric; 3] {
    let full = vec![
        vec![2.0, 0.5, 0.0],
        vec![0.5, 1.0, -0.3],
        vec![0.0, -0.3, 1.5],
    ];
    [
        Metric::Identity,
        Metric::Diagonal(vec![1.0, 4.0, 0.5]),
        Metric::Full(full),
    ]
}

/// `v^T G v`, entry by entry.
fn squared_norm(metric: &Metric, v: &[f64]) -> f64 {
    let entry = |i: usize, j: usize| match metric {
        Metric::Identity => f64::from(u8::from(i == j)),
        Metric::Diagonal(g) if i == j => g[i],
        Metric::Diagonal(_) => 0.0,
        Metric::Full(rows) => rows[i][j],
    };
    let sum = |i: usize| (0..v.len()).map(|j| v[i] * entry(i, j) * v[j]).sum::<f64>();
    (0..v.len()).map(sum).sum()
}

#[test]
fn trajectories_are_the_steps_of_the_blocks() {
    let stack = stack::<Plain>(3);
    let (x, context) = (normal(6, 3, 1), context_of(6, 2));
    let path = trajectories(stack.layers(), x.clone(), context.clone());
    let end = stack.forward(x.clone(), context.clone());
    assert!(residual(path.end.clone(), end) < 1e-13);
    assert_eq!(path.blocks.len(), 2);
    for (block, path) in blocks(&stack).into_iter().zip(&path.blocks) {
        assert_eq!(path.cells(), CELLS);
        assert_eq!(path.states.len(), CELLS + 1);
        assert_eq!(path.velocities.len(), CELLS + 1);
        for (z, v) in path.states.iter().zip(&path.velocities) {
            let expected = block.field().velocity(z.clone(), context.clone());
            assert!(residual(v.clone(), expected) < 1e-14);
        }
        for t in 0..CELLS {
            let next = path.states[t].clone() + path.velocities[t].clone() / CELLS as f64;
            assert!(residual(path.states[t + 1].clone(), next) < 1e-15);
        }
    }
}

#[test]
fn the_exponential_inverse_steps_back_along_the_field() {
    let stack = stack::<Plain>(3);
    let (y, context) = (normal(6, 3, 1), context_of(6, 2));
    let mut expected = y.clone();
    for layer in stack.layers().iter().rev() {
        expected = match layer {
            Layer::Ddnf(block) => (0..CELLS).fold(expected, |z, _| {
                let v = block.field().velocity(z.clone(), context.clone());
                z - v / CELLS as f64
            }),
            other => other.inverse(expected, None),
        };
    }
    let back = exponential_inverse(stack.layers(), y.clone(), context.clone()).unwrap();
    assert!(residual(back, expected) < 1e-13);
    // The same map as the inverse of a block configured with it, and as its fused kernel.
    for block in blocks(&stack) {
        let configured = block
            .clone()
            .with_inverse(DdnfInverse::ApproximateExponentialMap);
        let configured = configured.unwrap().inverse(y.clone(), context.clone());
        let direct = block.exponential_inverse(y.clone(), context.clone());
        assert!(residual(direct.unwrap(), configured) < 1e-14);
    }
}

#[test]
fn penalties_agree_with_sums_on_the_host() {
    let stack = stack::<Plain>(3);
    let (x, context) = (normal(6, 3, 1), context_of(6, 2));
    let path = trajectories(stack.layers(), x.clone(), context.clone());
    let velocity = |block: usize, t: usize| -> Vec<f64> {
        let z = path.blocks[block].states[t].clone();
        let blocks = blocks(&stack);
        numbers(blocks[block].field().velocity(z, context.clone()))
    };
    let minus =
        |a: Vec<f64>, b: Vec<f64>| -> Vec<f64> { a.iter().zip(&b).map(|(a, b)| a - b).collect() };
    let scalar = |penalty: Tensor<Plain, 1>| numbers(penalty);
    for metric in metrics() {
        let norm = |v: &[f64]| squared_norm(&metric, v);
        let (mut energy, mut length) = (0.0, 0.0);
        for block in 0..2 {
            for t in 0..CELLS {
                let v = velocity(block, t);
                energy += mean_of_rows(&v, 3, norm) / CELLS as f64;
                length += mean_of_rows(&v, 3, |v| norm(v).sqrt()) / CELLS as f64;
            }
        }
        let endpoint = minus(velocity(0, 0), velocity(1, CELLS));
        let jump = minus(velocity(1, 0), velocity(0, CELLS));
        let what = format!("{metric:?}");
        let of = |reading: Geodesic| scalar(reading.penalty(&path.blocks, &metric));
        assert_close(&of(Geodesic::Kinetic), &[energy], 1e-13, &what);
        let expected = mean_of_rows(&endpoint, 3, norm);
        assert_close(&of(Geodesic::Endpoint), &[expected], 1e-13, &what);
        let expected = mean_of_rows(&jump, 3, norm);
        assert_close(&of(Geodesic::Increments), &[expected], 1e-13, &what);
        let energy_of_path = path_energy(&path.blocks, &metric);
        assert_close(&scalar(energy_of_path), &[energy], 1e-13, &what);
        let length_of_path = path_length(&path.blocks, &metric);
        assert_close(&scalar(length_of_path), &[length], 1e-13, &what);
        assert!(length * length <= 2.0 * energy, "Cauchy and Schwarz");
    }

    let back = exponential_inverse(stack.layers(), path.end.clone(), context.clone());
    let off = minus(numbers(back.unwrap()), numbers(x.clone()));
    let expected = mean_of_rows(&off, 3, |v| squared_norm(&Metric::Identity, v));
    let layers = stack.layers();
    let penalty = inverse_consistency(layers, x.clone(), path.end.clone(), context.clone());
    assert_close(&scalar(penalty.unwrap()), &[expected], 1e-13, "inverse");

    // All of them in one call, with their weights.
    let both = Regularizers {
        geodesic: 0.5,
        reading: Geodesic::Endpoint,
        inverse_consistency: 3.0,
        ..Regularizers::default()
    };
    let all = both.penalties(layers, x.clone(), context.clone()).unwrap();
    let endpoint = Geodesic::Endpoint.penalty(&path.blocks, &Metric::Identity);
    let endpoint = scalar(endpoint)[0];
    assert_close(
        &scalar(all.geodesic.unwrap()),
        &[endpoint],
        1e-13,
        "geodesic",
    );
    let inverse = scalar(all.inverse_consistency.unwrap());
    assert_close(&inverse, &[expected], 1e-13, "inverse");
    let sum = 0.5 * endpoint + 3.0 * expected;
    assert_close(&scalar(all.weighted.unwrap()), &[sum], 1e-13, "sum");
    let only_inverse = Regularizers {
        geodesic: 0.0,
        ..both
    };
    let only = only_inverse.penalties(layers, x, context).unwrap();
    assert!(only.geodesic.is_none());
    assert_close(
        &scalar(only.weighted.unwrap()),
        &[3.0 * expected],
        1e-13,
        "sum",
    );
}

/// The energy, and beside it the squares of all entries of the Jacobian, here by central differences of the velocity.
#[test]
fn the_norm_of_the_fields_is_the_energy_and_what_the_jacobian_adds() {
    let stack = stack::<Plain>(3);
    let (x, context) = (normal(6, 3, 1), context_of(6, 2));
    let path = trajectories(stack.layers(), x.clone(), context.clone());
    let norm = |a: f64| field_norm(stack.layers(), &path.blocks, context.as_ref(), a);
    let energy = numbers(path_energy(&path.blocks, &Metric::Identity));
    assert_close(&numbers(norm(0.0)), &energy, 1e-13, "energy");

    let h = 1e-5;
    let mut jacobian = 0.0;
    for (block, path) in blocks(&stack).into_iter().zip(&path.blocks) {
        for z in &path.states[..CELLS] {
            for column in 0..3 {
                let unit: Vec<f64> = (0..18)
                    .map(|k| f64::from(u8::from(k % 3 == column)))
                    .collect();
                let unit = TensorData::new(unit, [6, 3]);
                let step = Tensor::<Plain, 2>::from_data(unit, double()) * h;
                let at = |z: Tensor<Plain, 2>| block.field().velocity(z, context.clone());
                let change = at(z.clone() + step.clone()) - at(z.clone() - step);
                let slope = numbers(change * (0.5 / h));
                jacobian += mean_of_rows(&slope, 3, |v| squared_norm(&Metric::Identity, v));
            }
        }
    }
    let expected = energy[0] + 2.5 * jacobian / CELLS as f64;
    assert_close(&numbers(norm(2.5)), &[expected], 1e-8, "with the Jacobian");

    let both = Regularizers {
        field_norm: 0.2,
        jacobian: 2.5,
        ..Regularizers::default()
    };
    let all = both.penalties(stack.layers(), x, context.clone()).unwrap();
    let sum = numbers(all.weighted.unwrap());
    assert_close(&sum, &[0.2 * numbers(norm(2.5))[0]], 1e-13, "weighted");
}

#[test]
fn gradients_of_every_penalty_agree_with_central_differences() {
    type Penalty = Box<dyn Fn(&[Trajectory<Grad>]) -> Tensor<Grad, 1>>;
    let mut penalties: Vec<(String, Penalty)> = Vec::new();
    for metric in metrics() {
        for reading in [Geodesic::Kinetic, Geodesic::Endpoint, Geodesic::Increments] {
            let own = metric.clone();
            let of = move |paths: &[Trajectory<Grad>]| reading.penalty(paths, &own);
            penalties.push((format!("{reading:?}, {metric:?}"), Box::new(of)));
        }
        let own = metric.clone();
        let of = move |paths: &[Trajectory<Grad>]| path_length(paths, &own);
        penalties.push((format!("length, {metric:?}"), Box::new(of)));
    }
    let context = context_of(3, 2).map(Tensor::from_inner);
    let with_norm = |stack: &Stack<Grad>, x: Tensor<Grad, 2>| {
        let path = trajectories(stack.layers(), x, context.clone());
        let norm = field_norm(stack.layers(), &path.blocks, context.as_ref(), 0.7);
        norm + path.end.square().mean() * 0.1
    };
    assert_gradients(stack::<Grad>(3), &normal(3, 3, 1), with_norm, "field norm");
    for (what, penalty) in penalties {
        let loss = |stack: &Stack<Grad>, x: Tensor<Grad, 2>| {
            let path = trajectories(stack.layers(), x, context.clone());
            // Every parameter of the stack has a part in it.
            penalty(&path.blocks) + path.end.square().mean() * 0.1
        };
        assert_gradients(stack::<Grad>(3), &normal(3, 3, 1), loss, &what);
    }
    let consistency = |stack: &Stack<Grad>, x: Tensor<Grad, 2>| {
        let end = stack.forward(x.clone(), context.clone());
        inverse_consistency(stack.layers(), x, end, context.clone()).unwrap()
    };
    let what = "inverse consistency";
    assert_gradients(stack::<Grad>(3), &normal(3, 3, 1), consistency, what);
}

/// Two blocks with the same field everywhere, `v(z) = (0.6, -0.8)`, or at rest.
fn straight<B: Backend<Device = FlexDevice>>(speed: f64) -> Vec<DdnfBlock<B>> {
    let config = DdnfBlockConfig {
        cells: CELLS,
        ..DdnfBlockConfig::new(2, [3])
    };
    let block: DdnfBlock<B> = config.init(double(), &mut rng(1)).unwrap();
    let mut parameters = vec![0.5; 9];
    parameters.extend([0.0; 6]);
    parameters.extend([0.6 * speed, -0.8 * speed]);
    let block = block.map(&mut SetAll(parameters));
    vec![block.clone(), block]
}

#[test]
fn straight_lines_at_constant_speed_cost_their_speed() {
    let layers = straight::<Plain>(2.0);
    let x = normal(5, 2, 1);
    let path = trajectories(&layers, x.clone(), None);
    let metric = Metric::Identity;
    let of = |reading: Geodesic| numbers(reading.penalty(&path.blocks, &metric))[0];
    // Two blocks of unit time each, at speed 2.
    assert!((of(Geodesic::Kinetic) - 8.0).abs() < 1e-13);
    assert!((numbers(path_length(&path.blocks, &metric))[0] - 4.0).abs() < 1e-13);
    assert_eq!(of(Geodesic::Increments), 0.0);
    assert_eq!(of(Geodesic::Endpoint), 0.0);
    let back = inverse_consistency(&layers, x, path.end.clone(), None).unwrap();
    assert!(numbers(back)[0] < 1e-28);
    let single = Geodesic::Increments.penalty(&path.blocks[..1], &metric);
    assert_eq!(numbers(single), [0.0]);
}

#[test]
fn a_batch_at_rest_has_finite_gradients() {
    let layers = straight::<Grad>(0.0);
    let x = Tensor::from_inner(normal(5, 2, 1)).require_grad();
    let path = trajectories(&layers, x.clone(), None);
    let length = path_length(&path.blocks, &Metric::Identity);
    let gradients = (length.clone() + path.end.square().sum()).backward();
    let mut derivatives = Collect(numbers(x.grad(&gradients).unwrap()), Some(&gradients));
    layers.visit(&mut derivatives);
    derivatives.0.extend(numbers(length));
    assert!(derivatives.0.iter().all(|g| g.is_finite()));
}

#[test]
fn regularizers_are_checked_and_read_from_files() {
    let text = "geodesic = 0.1\nreading = \"increments\"\nmetric = { diagonal = [1.0, 2.0] }\n";
    let config: Regularizers = toml::from_str(text).unwrap();
    assert_eq!(config.reading, Geodesic::Increments);
    assert!(!config.is_none() && Regularizers::default().is_none());
    assert_eq!(config.validate(2), Ok(()));
    assert!(config.validate(3).is_err());
    let again = toml::to_string(&config).unwrap();
    assert_eq!(toml::from_str::<Regularizers>(&again).unwrap(), config);
    assert!(toml::from_str::<Regularizers>("geodesik = 1.0").is_err());
    for (geodesic, inverse_consistency) in [(-1.0, 0.0), (0.0, f64::NAN)] {
        let bad = Regularizers {
            geodesic,
            inverse_consistency,
            ..Regularizers::default()
        };
        assert!(bad.validate(2).is_err(), "{bad:?}");
    }
    // Nothing to regularize is a mistake, not a zero.
    let affine = LayerConfig::ElementwiseAffine(ElementwiseAffineConfig::new(2));
    let layers = [affine.init::<Plain>(double(), &mut rng(1)).unwrap()];
    assert!(config.penalties(&layers, normal(3, 2, 1), None).is_err());
    let none = Regularizers::default().penalties(&layers, normal(3, 2, 1), None);
    assert!(none.unwrap().weighted.is_none());
}

#[test]
fn a_stiff_block_in_a_stack_is_named_in_a_warning() {
    let config = DdnfBlockConfig::new(1, [1]);
    let block = |parameters: Vec<f64>, cells: usize| {
        let block: DdnfBlock<Plain> = config.init(double(), &mut rng(1)).unwrap();
        Layer::Ddnf(block.map(&mut SetAll(parameters)).with_cells(cells))
    };
    let affine = LayerConfig::ElementwiseAffine(ElementwiseAffineConfig::new(1));
    let affine = affine.init::<Plain>(double(), &mut rng(1)).unwrap();
    // v(x) = tanh(x) / 2, then v(x) = 3 tanh(-x), whose step folds where x is near 0.
    let tame = block(vec![1.0, 0.0, 0.5, 0.0], 4);
    let stiff = block(vec![-1.0, 0.0, 3.0, 0.0], 2);
    let x = Tensor::from_data([[0.0], [4.0]], double());
    let found = stability(&[tame, affine, stiff], x, None);
    let places: Vec<_> = found.iter().map(|b| (b.layer, b.block, b.cells)).collect();
    assert_eq!(places, [(0, 0, 4), (2, 1, 2)]);
    assert_eq!(found[0].warning(), None);
    let warning = found[1].warning().unwrap();
    for part in ["block 1", "T = 2", "1.500", "of 4 steps"] {
        assert!(warning.contains(part), "{warning}");
    }
}

#[test]
fn a_path_of_three_cells_has_the_gradient_of_the_block() {
    let config = DdnfBlockConfig {
        cells: 3,
        ..DdnfBlockConfig::new(2, [5])
    };
    let block = config.init::<Grad>(double(), &mut rng(3)).unwrap();
    let gradient = |end: &dyn Fn(Tensor<Grad, 2>) -> Tensor<Grad, 2>| {
        let x = Tensor::<Grad, 2>::from_inner(normal(6, 2, 1)).require_grad();
        let gradients = end(x.clone()).square().sum().backward();
        x.grad(&gradients).unwrap()
    };
    // The block multiplies its weights by 1/3; a division of tensors by 3 would have a gradient of f32.
    let of_block = gradient(&|x| block.forward(x, None));
    let of_path = gradient(&|x| block.trajectory(x, None).end().clone());
    let error = residual(of_path, of_block);
    assert!(error < 1e-13, "{error:e}");
}

#[test]
fn regularizers_that_are_none_are_refused_where_they_are_used() {
    let stack = stack::<Plain>(3);
    let (x, context) = (normal(6, 3, 1), context_of(6, 2));
    let indefinite = vec![
        vec![1.0, 2.0, 0.0],
        vec![2.0, 1.0, 0.0],
        vec![0.0, 0.0, 1.0],
    ];
    let with_metric = |metric| Regularizers {
        geodesic: 1.0,
        metric,
        ..Regularizers::default()
    };
    let wrong = [
        with_metric(Metric::Diagonal(vec![2.0])),
        with_metric(Metric::Diagonal(vec![1e-50; 3])),
        with_metric(Metric::Full(indefinite)),
        Regularizers {
            geodesic: -1.0,
            ..Regularizers::default()
        },
        Regularizers {
            inverse_consistency: 1e50,
            ..Regularizers::default()
        },
    ];
    for wrong in wrong {
        let penalties = wrong.penalties(stack.layers(), x.clone(), context.clone());
        let error = penalties.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.starts_with("regularizer: "), "{wrong:?}: {error}");
    }
}

#[test]
#[should_panic(
    expected = "regularizer: metric is a diagonal of 2, expected one of 3, the dimension"
)]
fn a_norm_in_a_metric_of_another_dimension_panics() {
    let _ = Metric::Diagonal(vec![1.0, 2.0]).squared_norm(normal(6, 3, 1));
}

#[test]
#[should_panic(expected = "velocity field: a context with 2 columns is missing")]
fn a_field_with_a_context_is_not_bound_without_one() {
    let stack = stack::<Plain>(3);
    let _ = blocks(&stack)[0].field().bind(None, 1.0);
}
