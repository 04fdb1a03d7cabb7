//! Fits a flow to a table, keeps it in a file, and scores and samples with it.
//!
//! `cargo run --release -p flows-tables --example own_table -- data.csv data.flow`

use std::error::Error;

use burn::backend::{Autodiff, Flex};
use flows_core::random::generator;
use flows_models::MafConfig;
use flows_tables::Table;
use flows_tables::table_flow::{FitConfig, TableFlow, fit};

/// The ten lines.
pub(crate) fn fit_and_use(data: &str, model: &str) -> Result<f64, Box<dyn Error>> {
    let device = Default::default();
    let table = Table::read(data)?;
    let config = FitConfig::new(MafConfig::new(table.dim()));
    fit::<Autodiff<Flex>>(&table, &config, &device)?.save(model.as_ref())?;

    let flow = TableFlow::<Flex>::load(model.as_ref(), &device)?;
    let scores = flow.log_prob(&table.density, None); // nats, in the units of the table
    let samples = flow.sample(1000, None, &mut generator(0));
    println!(
        "first row {:.3} nats, first sample {:?}",
        scores[0],
        samples.row(0)
    );
    let training = flow.header().training.as_ref();
    Ok(training.ok_or("a flow of another library")?.test.mean)
}

#[allow(dead_code)] // a test calls the lines above
fn main() -> Result<(), Box<dyn Error>> {
    let mut files = std::env::args().skip(1);
    let (Some(data), Some(model)) = (files.next(), files.next()) else {
        return Err("usage: own_table DATA MODEL".into());
    };
    let test = fit_and_use(&data, &model)?;
    println!("test log-likelihood {test:.3} nats");
    Ok(())
}
