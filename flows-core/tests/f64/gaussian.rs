//! A linear layer reaches the Gaussian of maximum likelihood, which is known in closed form.

use burn::module::Module;
use burn::optim::{AdamConfig, GradientsParams, Optimizer};
use burn::tensor::{Tensor, TensorData};
use nalgebra::DMatrix;

use flows_core::bijectors::{AutoregressiveConfig, ElementwiseAffineConfig, LuLinearConfig, Pair};
use flows_core::distributions::{DiagonalNormal, LogProb};
use flows_core::flow::Flow;
use flows_core::transforms::LogScale;

use crate::autoregressive::{Grad, Plain, Put, normal, rng, values};
use crate::double;

const DIM: usize = 3;

/// Correlated, off-centre rows, not Gaussian: the best Gaussian is to be found, not the density.
fn data() -> Vec<f64> {
    let z = values(normal::<Plain>(400, DIM, 1.0, 3));
    let rows = z.chunks(DIM).flat_map(|z| {
        let x = 2.0 * z[0] + 1.0;
        let y = 0.5 * x + 0.3 * z[1] - 2.0;
        [x, y, 0.4 * z[2] * z[2] - y + 0.2 * x]
    });
    rows.collect()
}

/// Mean, covariance divided by the number of rows, and the mean log-likelihood of the Gaussian with both:
/// `-(D ln(2 pi) + ln det S + D) / 2`.
fn maximum_likelihood(data: &[f64]) -> (Vec<f64>, DMatrix<f64>, f64) {
    let n = (data.len() / DIM) as f64;
    let x = DMatrix::from_row_slice(data.len() / DIM, DIM, data);
    let mean = x.row_mean();
    let centred = DMatrix::from_fn(x.nrows(), DIM, |i, j| x[(i, j)] - mean[j]);
    let covariance = centred.transpose() * &centred / n;
    let volume = covariance.determinant().ln();
    let dim = DIM as f64;
    let best = -0.5 * (dim * (2.0 * std::f64::consts::PI).ln() + volume + dim);
    (mean.iter().copied().collect(), covariance, best)
}

#[test]
fn one_autoregressive_layer_holds_it_in_closed_form() {
    let data = data();
    let (mean, covariance, best) = maximum_likelihood(&data);
    let config = AutoregressiveConfig {
        transform: LogScale::Exp.into(),
        ..AutoregressiveConfig::new(DIM, vec![])
    };
    let layer = config.init::<Plain>(double(), &mut rng(0)).unwrap();
    // z = L^-1 (x - mean) with S = L L^T: lower triangular, as the mask.
    let whiten = covariance.cholesky().unwrap().l().try_inverse().unwrap();
    let mut parameters = vec![vec![0.0; DIM * 2 * DIM], vec![0.0; 2 * DIM]];
    for i in 0..DIM {
        parameters[1][DIM + i] = f64::ln(whiten[(i, i)]);
        parameters[1][i] = -(0..=i).map(|j| whiten[(i, j)] * mean[j]).sum::<f64>();
        for j in 0..i {
            parameters[0][j * 2 * DIM + i] = whiten[(i, j)];
        }
    }
    let layer = layer.map(&mut Put(parameters));
    let flow = Flow::data_to_base(layer, DiagonalNormal::standard(DIM, double())).unwrap();
    let rows = TensorData::new(data.clone(), [data.len() / DIM, DIM]);
    let x = Tensor::<Plain, 2>::from_data(rows, double());
    let found = values(flow.log_prob(x, None).mean())[0];
    assert!((found - best).abs() < 1e-12, "{found} against {best}");
}

#[test]
fn one_linear_layer_is_trained_to_it() {
    let data = data();
    let (mean, covariance, best) = maximum_likelihood(&data);
    let linear = LuLinearConfig::new(DIM)
        .init::<Grad>(double(), &mut rng(1))
        .unwrap();
    let affine = ElementwiseAffineConfig::new(DIM)
        .init(double(), &mut rng(1))
        .unwrap();
    let layers = Pair::new(linear, affine).unwrap();
    let base = DiagonalNormal::standard(DIM, double());
    let mut flow = Flow::data_to_base(layers, base).unwrap();
    let rows = TensorData::new(data.clone(), [data.len() / DIM, DIM]);
    let x = Tensor::<Grad, 2>::from_data(rows, double());
    let mut optimizer = AdamConfig::new().init();
    let steps = 3000;
    for step in 0..steps {
        let loss = flow.log_prob(x.clone(), None).mean().neg();
        let gradients = GradientsParams::from_grads(loss.backward(), &flow);
        let left = 1.0 - f64::from(step) / f64::from(steps);
        flow = optimizer.step(0.05 * left * left, flow, gradients);
    }
    let found = values(flow.log_prob(x, None).mean())[0];
    assert!(
        found <= best + 1e-12,
        "no Gaussian is better: {found}, {best}"
    );
    assert!(found > best - 1e-6, "{found} against {best}");

    // The density is that Gaussian everywhere, not only in the mean.
    let points = normal::<Grad>(20, DIM, 3.0, 5);
    let precision = covariance.clone().try_inverse().unwrap();
    let volume = covariance.determinant().ln() + DIM as f64 * (2.0 * std::f64::consts::PI).ln();
    let expected = values(points.clone());
    let expected = expected.chunks(DIM).map(|x| {
        let d = DMatrix::from_fn(DIM, 1, |i, _| x[i] - mean[i]);
        -0.5 * ((d.transpose() * &precision * &d)[(0, 0)] + volume)
    });
    for (found, expected) in values(flow.log_prob(points, None)).iter().zip(expected) {
        assert!(
            (found - expected).abs() < 1e-2 * expected.abs(),
            "{found}, {expected}"
        );
    }
}
