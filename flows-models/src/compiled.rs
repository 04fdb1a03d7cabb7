//! Models on the CPU backend, compiled once.
//!
//! Generic code is compiled where it is used, by every test and program again. In builds without optimisation the
//! compiler takes what a dependency has compiled already: for programs that train and use [`AnyFlow`] on Flex this
//! module is that dependency, and nothing calls it.

use burn::backend::{Autodiff, Flex};
use burn::module::AutodiffModule;
use burn::tensor::{Device, Tensor};
use flows_core::distributions::{LogProb, Sample};
use flows_train::{Data, MaximumLikelihood, Run, Training, fit, log_probs};
use rand::Rng;

use crate::{AnyFlow, ModelConfig, load, save};

type B = Autodiff<Flex>;

/// What programs do with a model.
pub fn everything(
    config: &ModelConfig,
    data: &Data,
    rng: &mut dyn Rng,
) -> Result<(), Box<dyn std::error::Error>> {
    let device = &Device::<Flex>::default();
    let start = config.init::<B>(device, rng)?;
    let likelihood = &mut MaximumLikelihood::new(data).validated_on(data);
    let fitted = fit(start, likelihood, &Training::default(), Run::new("", 0))?.model;
    let (x, log_prob) = fitted.sample_and_log_prob(1, None, rng);
    let _ = (log_prob + fitted.log_prob(x, None)).backward();
    let flow: AnyFlow<Flex> = fitted.valid();
    log_probs(&flow, data);
    flow.sample_and_log_prob(1, None, rng);
    save("", config, flow)?;
    let _: Tensor<Flex, 2> = load::<Flex>("", device)?.sample(1, None, rng);
    Ok(())
}
