//! From numbers to a fitted conditional flow, saved, loaded in f64, scored and sampled: docs/getting-started.md.

use burn::backend::{Autodiff, Flex, NdArray};
use flows_models::prelude::*;

type Train = Autodiff<Flex>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Columns a, b, c of a CSV, row by row; the density of a and b given c.
    let numbers: Vec<f64> = (0..3000).map(|k| (f64::from(k) * 0.7).sin()).collect();
    let rows = Rows::try_new(numbers, 3)?;
    let data = Data::new(rows.columns(&[0, 1]), Some(rows.columns(&[2])))?;
    let (train, validation) = data.split(0.1, 0);

    let config = ModelConfig::from(MafConfig {
        context_dim: 1,
        ..MafConfig::new(2)
    });
    let device = Default::default();
    let flow = config.init::<Train>(&device, &mut generator(0))?;
    let mut objective = MaximumLikelihood::new(&train).validated_on(&validation);
    let training = Training {
        steps: 200,
        ..Training::default()
    };
    let fitted = fit::<Train, _, _>(
        flow,
        &mut objective,
        &training,
        Run::new("first", 0),
        &device,
    )?;
    save("first.flow", &config, fitted.model)?;

    let (device, rng) = (Default::default(), &mut generator(1));
    let flow = load::<NdArray<f64>>("first.flow", &device)?;
    let scores = log_probs(&flow, &validation, &device); // nats
    let samples = sample_given(&flow, &Rows::try_new(vec![0.5], 1)?, 1000, &device, rng);
    println!(
        "{} nats for the first row; samples {:?}, ...",
        scores[0],
        samples.row(0)
    );
    Ok(())
}
