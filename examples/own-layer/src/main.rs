//! A layer in a crate of its own, `y_1 = x_1`, `y_2 = x_2 + a sin(w x_1 + b)`: `cargo test` runs the
//! conformance suite on it, `cargo run` fits it to points along a sine.

use burn::backend::{Autodiff, Flex};
use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorCreationOptions, backend::Backend};
use flows_core::bijector::{Bijector, Invert, Mapped};
use flows_core::bijectors::{ElementwiseAffineConfig, Pair};
use flows_core::{distributions::DiagonalNormal, error::Error, flow::Flow, init};
use flows_train::{Data, Event, MaximumLikelihood, Rows, Run, Training, fit, stream};
use rand::{Rng, RngExt};

#[derive(Module, Debug)]
struct SineShear<B: Backend> {
    amplitude: Param<Tensor<B, 2>>,
    frequency: Param<Tensor<B, 2>>,
    phase: Param<Tensor<B, 2>>,
}

impl<B: Backend> SineShear<B> {
    fn init(
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<Self, Error> {
        let options = options.into();
        Ok(Self {
            amplitude: init::normal([1, 1], 0.5, options.clone(), rng),
            frequency: init::normal([1, 1], 1.0, options.clone(), rng),
            phase: init::normal([1, 1], 0.1, options, rng),
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

/// Points `(a, sin(2 a) + 0.1 e)`, with `a` uniform on `[-3, 3)` and `e` on `[-1, 1)`.
fn points(n: usize) -> Data {
    let mut rng = stream(0, "points", 0);
    let mut point = |_| {
        let a: f64 = rng.random_range(-3.0..3.0);
        [a, (2.0 * a).sin() + 0.1 * rng.random_range(-1.0..1.0)]
    };
    let values = (0..n).flat_map(&mut point).collect();
    Data::new(Rows::new(values, 2), None).expect("finite points")
}

/// The mean log-likelihood of points held out, in nats, after a fit of so many steps.
fn train(steps: usize) -> Result<f64, Box<dyn std::error::Error>> {
    let (device, rng) = (Default::default(), &mut stream(0, "parameters", 0));
    let affine = ElementwiseAffineConfig::new(2).init(&device, rng)?;
    let layers = Pair::new(affine, SineShear::init(&device, rng)?)?;
    let base = DiagonalNormal::<Autodiff<Flex>>::standard(2, &device);
    let flow = Flow::base_to_data(layers, base)?;

    let (train, validation) = points(4000).split(0.25, 0);
    let mut objective = MaximumLikelihood::new(&train).validated_on(&validation);
    let mut score = f64::NAN;
    let run = Run::new("sine shear", 0).on_event(|event| {
        if let Event::Evaluation(evaluation) = event {
            println!("step {:4}: {:.3} nats", evaluation.step, evaluation.score);
            score = evaluation.score;
        }
    });
    fit(flow, &mut objective, &Training::new(steps), run)?;
    Ok(score)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    train(2000).map(drop)
}

#[cfg(test)]
mod tests;
