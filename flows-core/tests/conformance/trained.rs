//! Round trips of flows that were trained, where weights are no longer small.

use burn::optim::{AdamConfig, GradientsParams, Optimizer};
use burn::tensor::Tensor;
use burn::tensor::TensorCreationOptions;
use burn::tensor::backend::AutodiffBackend;
use flows_core::bijector::Invert;
use flows_core::bijectors::*;
use flows_core::distributions::{DiagonalNormal, LogProb};
use flows_core::flow::Flow;
use flows_core::masks::Ordering;
use flows_core::masks::Untouched;
use flows_core::testing::residual;
use flows_core::testing::{normal_batch, rows};
use flows_core::visit::LayerVisit;
use rand::{SeedableRng, rngs::StdRng};

/// Four variables, each bent by those before it.
fn data<B: AutodiffBackend>(
    rows: usize,
    seed: u64,
    options: &TensorCreationOptions<B>,
) -> Tensor<B, 2> {
    let z = normal_batch::<B>([rows, 4], seed, options.clone());
    let column = |t: &Tensor<B, 2>, j: usize| t.clone().slice([0..rows, j..j + 1]);
    let a = column(&z, 0) * 2.0;
    let b = column(&z, 1) * 0.3 + a.clone().square() * 0.25;
    let c = column(&z, 2) * 0.2 + (b.clone() * 2.0).sin();
    let d = column(&z, 3) * (a.clone() * 0.5).exp() * 0.5 + c.clone() * b.clone();
    Tensor::cat(vec![d, b, a, c], 1)
}

/// Five layers with batch normalization and both kinds of mixing.
fn maf<B: AutodiffBackend>(options: &TensorCreationOptions<B>) -> Stack<B> {
    let rng = &mut StdRng::seed_from_u64(1);
    let layers = (0..5).flat_map(|k| {
        let masked = AutoregressiveConfig::new(4, vec![32, 32]);
        let mixing = if k % 2 == 0 {
            LayerConfig::Permutation(PermutationConfig::new(4, Ordering::Reversed))
        } else {
            LayerConfig::LuLinear(LuLinearConfig::new(4))
        };
        let norm = LayerConfig::BatchNorm(BatchNormConfig::new(4));
        [LayerConfig::Autoregressive(masked), norm, mixing]
    });
    let layers: Result<Vec<_>, _> = layers
        .map(|layer| layer.init(options.clone(), rng))
        .collect();
    Chain::new(layers.expect("sound configurations")).expect("one dimension")
}

/// Couplings that let go of half of the variables on the way.
fn multi_scale<B: AutodiffBackend>(options: &TensorCreationOptions<B>) -> MultiScale<B, Stack<B>> {
    let couplings = |dim: usize| {
        let halves = [Untouched::FirstHalf, Untouched::SecondHalf];
        let couplings = halves.into_iter().cycle().take(4).map(|untouched| {
            LayerConfig::Autoregressive(AutoregressiveConfig {
                ..AutoregressiveConfig::coupling(dim, vec![32, 32], untouched)
            })
        });
        couplings.collect()
    };
    let config = MultiScaleConfig::new(vec![couplings(4), couplings(2)]);
    let rng = &mut StdRng::seed_from_u64(1);
    config
        .init(options.clone(), rng)
        .expect("a sound configuration")
}

/// Trains both and maps fresh data there and back: `|x - T^-1(T(x))| <= tolerance (1 + |x|)`.
pub(crate) fn trained_flows_come_back<B: AutodiffBackend>(
    options: &TensorCreationOptions<B>,
    tolerance: f64,
) {
    comes_back("maf", maf::<B>(options), options, tolerance);
    comes_back("multi-scale", multi_scale::<B>(options), options, tolerance);
}

fn comes_back<B, L>(name: &str, layers: L, options: &TensorCreationOptions<B>, tolerance: f64)
where
    B: AutodiffBackend,
    L: Invert<B> + burn::module::AutodiffModule<B>,
    L::InnerModule: Invert<B::InnerBackend>,
{
    let base = DiagonalNormal::<B>::standard(4, options.clone());
    let mut flow = Flow::data_to_base(layers, base).expect("one dimension");
    let mut optimizer = AdamConfig::new().init();
    let mut losses = Vec::new();
    for step in 0..300 {
        let x = data::<B>(128, 100 + step, options);
        let loss = flow.log_prob(x, None).mean().neg();
        losses.push(rows(&loss)[0]);
        let gradients = GradientsParams::from_grads(loss.backward(), &flow);
        flow = optimizer.step(5e-3, flow, gradients);
    }
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&losses[..10]), mean(&losses[290..]));
    assert!(
        last < first - 1.0,
        "{name} did not train: {first} to {last}"
    );

    let chunks = (0..4).map(|k| data::<B>(500, 1000 + k, options)).collect();
    flow.bijector_mut()
        .visit_layers(&mut LayerVisit::freeze_statistics(chunks, None));
    let x = data::<B>(500, 7, options);
    let layers = flow.bijector();
    let there = layers.forward_and_log_det(x.clone(), None);
    let (back, report) = layers.inverse_with_report(there.value.clone(), None);
    let scale = 1.0 + rows(&x).iter().fold(0.0, |s: f64, v| s.max(v.abs()));
    let error = residual(back.value, x) / scale;
    println!(
        "{name}: trained from {first:.3} to {last:.3} nats, round trip {error:.1e}, {report:?}"
    );
    assert!(error <= tolerance, "{name}: round trip {error:e}");
    assert!(report.residual <= tolerance * scale, "{name}: {report:?}");
    let sum = residual(
        (there.log_det + back.log_det).unsqueeze_dim(1),
        Tensor::zeros([500, 1], options.clone()),
    );
    assert!(
        sum <= 10.0 * tolerance * scale,
        "{name}: log-dets differ by {sum:e}"
    );
}
