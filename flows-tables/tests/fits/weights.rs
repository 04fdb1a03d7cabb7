//! Rows with weights count as often as their weights say.

use burn::backend::{Autodiff, Flex};
use burn::module::AutodiffModule;
use burn::tensor::DType;
use flows_models::{MafConfig, ModelConfig, build_data_to_base};
use flows_tables::table_flow::Estimate;
use flows_tables::{FullGaussian, Rows, Table};
use flows_train::{Data, MaximumLikelihood, Run, Training, fit, log_probs, stream};
use rand::RngExt;

/// Rows with weights 0, 1, 2, ..., and each of them so often.
fn both() -> (Rows, Vec<f64>, Rows) {
    let rng = &mut stream(0, "rows", 0);
    let values: Vec<f64> = (0..80).map(|_| rng.random::<f64>().powi(2)).collect();
    let rows = Rows::new(values, 2);
    let weights: Vec<f64> = (0..40).map(|i| f64::from(i % 4)).collect();
    let often = |i: usize| std::iter::repeat_n(i, weights[i] as usize);
    let repeated = rows.pick(&(0..40).flat_map(often).collect::<Vec<_>>());
    (rows, weights, repeated)
}

#[test]
fn the_loss_of_weighted_rows_is_that_of_repeated_ones() {
    type B = Autodiff<Flex>;
    let (rows, weights, repeated) = both();
    let fitted = |rows: &Rows, weights: Option<&[f64]>| {
        let model: ModelConfig = MafConfig {
            layers: 2,
            hidden: vec![8],
            ..MafConfig::new(2)
        }
        .into();
        let options = (&Default::default(), DType::F64);
        let rng = &mut stream(1, "parameters", 0);
        let model = build_data_to_base::<B>(&model.layers(), options, rng).unwrap();
        let data = Data {
            x: rows.clone(),
            context: None,
        };
        let mut objective = MaximumLikelihood::new(&data);
        if let Some(weights) = weights {
            objective = objective.weighted(weights);
        }
        let training = Training {
            steps: 30,
            batch: 1000,
            ..Training::default()
        };
        let run = Run::new("weights".to_owned(), 0);
        let fitted = fit::<B, _, _>(model, &mut objective, &training, run).unwrap();
        let of_repeated = Data {
            x: repeated.clone(),
            context: None,
        };
        log_probs(&fitted.model.valid(), &of_repeated)
    };
    let (weighted, expected) = (fitted(&rows, Some(&weights)), fitted(&repeated, None));
    for (a, b) in weighted.iter().zip(&expected) {
        assert!((a - b).abs() < 1e-8, "{a}, {b}");
    }
    let unweighted = fitted(&rows, None);
    let apart = unweighted.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    assert!(apart.fold(0.0, f64::max) > 1e-3);
}

#[test]
fn scores_and_gaussians_of_weighted_rows_are_those_of_repeated_ones() {
    let (rows, weights, repeated) = both();
    let weight = |row: usize| weights[row];
    let first: Vec<f64> = rows.column(0).collect();
    let of_repeated: Vec<f64> = repeated.column(0).collect();
    let (a, b) = (
        Estimate::weighted(&first, weight),
        Estimate::of(&of_repeated),
    );
    assert!((a.mean - b.mean).abs() < 1e-12);
    // Repeated rows say no more than one of them, so that their standard error would be too small.
    assert!(a.stderr > b.stderr);
    let scaled = Estimate::weighted(&first, |row| 7.0 * weights[row]);
    assert!((scaled.stderr.unwrap() - a.stderr.unwrap()).abs() < 1e-12);
    let gaussian = FullGaussian::weighted(&rows, weight).unwrap();
    let expected = FullGaussian::fit(&repeated).unwrap();
    let row = [0.3, 0.8];
    assert!((gaussian.log_prob(&row) - expected.log_prob(&row)).abs() < 1e-10);
}

#[test]
fn weights_that_are_none_are_refused() {
    let table = || Table::from_values(["x"], vec![1.0, 2.0, 3.0]).unwrap();
    let refused = |weights: &[f64]| table().weighted(weights.to_vec()).unwrap_err().to_string();
    assert_eq!(refused(&[1.0]), "1 weights for 3 rows");
    assert_eq!(
        refused(&[1.0, -1.0, 1.0]),
        "row 2 has the weight -1, expected 0 or more"
    );
    assert_eq!(refused(&[0.0; 3]), "all weights are 0");
    let table = table().weighted(vec![1.0, 0.0, 2.5]).unwrap();
    assert_eq!(table.pick(&[2, 0]).weights, Some(vec![2.5, 1.0]));
}
