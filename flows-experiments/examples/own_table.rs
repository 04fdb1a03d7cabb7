//! Fits a flow to a table, keeps it in a file, and scores and samples with it.
//!
//! `cargo run --release -p flows-experiments --example own_table -- data.csv data.flow`

use burn::backend::{Autodiff, Flex};
use flows_core::random::generator;
use flows_experiments::data::Table;
use flows_experiments::table_flow::{FitConfig, TableFlow, fit};
use flows_models::MafConfig;

/// The ten lines.
pub(crate) fn fit_and_use(data: &str, model: &str) -> anyhow::Result<f64> {
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
    Ok(flow.header().training.test.mean)
}

#[allow(dead_code)] // a test calls the lines above
fn main() -> anyhow::Result<()> {
    let mut files = std::env::args().skip(1);
    let (Some(data), Some(model)) = (files.next(), files.next()) else {
        anyhow::bail!("usage: own_table DATA MODEL");
    };
    let test = fit_and_use(&data, &model)?;
    println!("test log-likelihood {test:.3} nats");
    Ok(())
}
