//! Layers and bases on the CPU backend, compiled once.
//!
//! Generic code is compiled where it is used, by every test and program again. In builds without optimisation the
//! compiler takes what a dependency has compiled already. This module is that dependency: nothing calls it.

use burn::backend::Autodiff;
use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn_flex::Flex;
use rand::Rng;

use crate::base::{AnyBase, BaseConfig};
use crate::bijector::{Bijector, Invert};
use crate::bijectors::{Layer, LayerConfig};
use crate::distributions::{LogProb, Sample};
use crate::error::Error;
use crate::state::{State, load_state, state};
use crate::visit::LayerVisit;

/// What programs do with a layer and a base.
pub fn everything(
    layer: &LayerConfig,
    base: &BaseConfig,
    values: &State,
    visit: &mut LayerVisit<Autodiff<Flex>>,
    rng: &mut dyn Rng,
) -> Result<(), Error> {
    let device = &Default::default();
    let layer = layer.init::<Autodiff<Flex>>(device, rng)?;
    let base = base.init::<Autodiff<Flex>>(1, device, rng)?;
    let x = used(&layer, &base, values, rng);
    let _ = x.backward();
    let (mut layer, valid) = (layer.clone(), layer.valid());
    layer.visit_layers(visit);
    layer.visit_layers_inverse(visit);
    let _ = used(&valid, &base.valid(), values, rng);
    Ok(())
}

fn used<B: Backend>(
    layer: &Layer<B>,
    base: &AnyBase<B>,
    values: &State,
    rng: &mut dyn Rng,
) -> Tensor<B, 1> {
    let (x, log_prob) = base.sample_and_log_prob(1, None, rng);
    let x = layer.inverse_with_report(x, None).0.value;
    let x = layer.inverse(layer.inverse_and_passes(x, None).0.value, None);
    let mapped = layer.forward_and_log_det(layer.forward(x, None), None);
    let _ = load_state(layer.clone(), &state(layer)).is_ok()
        && load_state(base.clone(), values).is_ok();
    log_prob + base.log_prob(mapped.value, None) + mapped.log_det
}
