//! From numbers to a fitted conditional flow, saved, loaded in f64, scored and sampled: docs/getting-started.md.

use burn::backend::{Autodiff, Flex, NdArray};
use burn::tensor::DType;
use flows_models::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Columns a, b, c of a CSV, row by row; the density of a and b given c.
    let numbers: Vec<f64> = (0..3000).map(|k| (f64::from(k) * 0.7).sin()).collect();
    let rows = Rows::try_new(numbers, 3)?;
    let data = Data::new(rows.columns(&[0, 1]), Some(rows.columns(&[2])))?;
    let (train, validation) = data.split(0.1, 0);

    let mut maf = MafConfig::new(2);
    maf.context_dim = 1;
    let config = ModelConfig::from(maf);
    let flow = config.init::<Autodiff<Flex>>(&Default::default(), &mut generator(0))?;
    let mut objective = MaximumLikelihood::new(&train).validated_on(&validation);
    let (training, run) = (Training::new(200), Run::new("first", 0));
    let fitted = fit(flow, &mut objective, &training, run)?;
    save("first.flow", &config, fitted.model)?;

    let (device, rng) = (Default::default(), &mut generator(1));
    let flow = load::<NdArray>("first.flow", (&device, DType::F64))?;
    let scores = log_probs(&flow, &validation); // nats
    let samples = sample_given(&flow, &Rows::try_new(vec![0.5], 1)?, 1000, rng);
    println!("{} nats, then {:?}, ...", scores[0], samples.row(0));
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_program_of_the_guide_is_this_one_and_runs() {
        let (guide, own) = (
            include_str!("../../../docs/getting-started.md"),
            include_str!("main.rs"),
        );
        let program = own
            .split_once("\n\n")
            .unwrap()
            .1
            .split("\n#[cfg(test)]")
            .next()
            .unwrap();
        assert!(guide.contains(&format!("```rust,no_run\n{program}```")));
        let lines = program
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty() && !l.starts_with("//"));
        assert!(lines.count() <= 25);
        std::env::set_current_dir(std::env::temp_dir()).unwrap();
        super::main().unwrap();
        std::fs::remove_file("first.flow").unwrap();
    }
}
