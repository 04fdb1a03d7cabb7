//! A layer in a crate of its own, `y_1 = x_1`, `y_2 = x_2 + a sin(w x_1 + b)`: `cargo test` runs the
//! conformance suite on it, `cargo run` trains it on the toy target u2.

use burn::backend::{Autodiff, Flex};
use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};
use flows_core::bijector::{Bijector, Invert, Mapped};
use flows_core::bijectors::{ElementwiseAffineConfig, Pair};
use flows_core::{distributions::DiagonalNormal, error::Error, flow::Flow, init};
use flows_experiments::runner::{Experiment, preset};
use flows_experiments::targets::Target;
use flows_experiments::toy::{TargetSettings, Toy, ToyConfig, train_and_measure};
use flows_train::{Run, Training, stream};
use rand::Rng;

#[derive(Module, Debug)]
struct SineShear<B: Backend> {
    amplitude: Param<Tensor<B, 2>>,
    frequency: Param<Tensor<B, 2>>,
    phase: Param<Tensor<B, 2>>,
}

impl<B: Backend> SineShear<B> {
    fn init(device: &B::Device, rng: &mut dyn Rng) -> Result<Self, Error> {
        Ok(Self {
            amplitude: init::normal([1, 1], 0.5, device, rng),
            frequency: init::normal([1, 1], 1.0, device, rng),
            phase: init::normal([1, 1], 0.1, device, rng),
        })
    }

    fn shear(&self, x: Tensor<B, 2>, sign: f64) -> Mapped<B> {
        let (first, second) = (x.clone().narrow(1, 0, 1), x.narrow(1, 1, 1));
        let wave = (first.clone() * self.frequency.val() + self.phase.val()).sin();
        let second = second + wave * self.amplitude.val() * sign;
        Mapped::volume_preserving(Tensor::cat(vec![first, second], 1))
    }
}

impl<B: Backend> Bijector<B> for SineShear<B> {
    fn name(&self) -> &'static str {
        "sine shear"
    }
    fn dim(&self) -> usize {
        2
    }
    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        self.check(&x, context.as_ref())
            .unwrap_or_else(|e| panic!("{e}"));
        self.shear(x, 1.0)
    }
}

impl<B: Backend> Invert<B> for SineShear<B> {
    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        self.check(&y, context.as_ref())
            .unwrap_or_else(|e| panic!("{e}"));
        self.shear(y, -1.0)
    }
}

fn train(training: &Training) -> anyhow::Result<f64> {
    let (device, rng) = (Default::default(), &mut stream(0, "parameters", 0));
    let affine = ElementwiseAffineConfig::new(2).init(&device, rng)?;
    let layers = Pair::new(affine, SineShear::init(&device, rng)?)?;
    let flow = Flow::generative(layers, DiagonalNormal::standard(2, &device))?;
    let run = Run::new("sine shear", 0).on_event(|event| println!("{event:?}"));
    let (target, settings) = (Target::parse("u2")?, TargetSettings::default());
    let (_, measured) =
        train_and_measure::<Autodiff<Flex>, _>(flow, target, &settings, training, run, &device)?;
    Ok(measured.metrics[0].value)
}

fn main() -> anyhow::Result<()> {
    let quick: ToyConfig = preset(Toy::PRESETS, "quick");
    println!("KL to u2: {:.3} nats", train(&quick.training)?);
    Ok(())
}

#[cfg(test)]
mod tests;
