//! Time of a DDNF training step (loss, gradients, Adam) on the CPU, fused and in tensor operations.
//!
//! `cargo run --release -p flows-core --features flex --example ddnf_block -- 2-64-1000 64-2-1000`
//! with cases `DIM-HIDDEN-BATCH`: four blocks of 16 cells, one hidden layer, `f32`. Exact
//! log-determinant where `min(DIM, HIDDEN) <= 2`, second-order Taylor otherwise, and none with `-none`
//! behind a case, to see what the log-determinant costs. Threads follow
//! `RAYON_NUM_THREADS`; `SECONDS` is the time per case. Prints the median and the smallest time of
//! a step in milliseconds.

use std::time::{Duration, Instant};

use burn::module::{Module, Param};
use burn::optim::{AdamConfig, GradientsParams, Optimizer};
use burn::tensor::{Distribution, Tensor, backend::Backend};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use flows_core::autodiff::exclusive;
use flows_core::bijector::Mapped;
use flows_core::kernels::{FusedLogDet, ddnf_block};

const CELLS: usize = 16;

#[derive(Module, Debug)]
struct Block<B: Backend> {
    w1: Param<Tensor<B, 2>>,
    b1: Param<Tensor<B, 1>>,
    w2: Param<Tensor<B, 2>>,
    b2: Param<Tensor<B, 1>>,
}

impl<B: Backend> Block<B> {
    fn new(dim: usize, hidden: usize, device: &B::Device) -> Self {
        let normal = |std: f64| Distribution::Normal(0.0, std);
        let (d, h) = (dim as f64, hidden as f64);
        Self {
            w1: Param::from_tensor(Tensor::random([dim, hidden], normal(d.powf(-0.5)), device)),
            b1: Param::from_tensor(Tensor::random([hidden], normal(0.1), device)),
            w2: Param::from_tensor(Tensor::random(
                [hidden, dim],
                normal(0.5 * h.powf(-0.5)),
                device,
            )),
            b2: Param::from_tensor(Tensor::random([dim], normal(0.1), device)),
        }
    }

    fn forward(&self, x: Tensor<B, 2>, log_det: FusedLogDet) -> Mapped<B> {
        let (w1, b1) = (self.w1.val(), self.b1.val());
        let (w2, b2) = (self.w2.val(), self.b2.val());
        ddnf_block(&x, &w1, &b1, &w2, &b2, None, CELLS, log_det).expect("a kernel for these shapes")
    }
}

fn time(case: &str, budget: Duration) {
    type B = Autodiff<Flex>;
    let (sizes, without) = match case.strip_suffix("-none") {
        Some(sizes) => (sizes, true),
        None => (case, false),
    };
    let numbers: Vec<usize> = sizes
        .split('-')
        .map(|n| n.parse().expect("a number"))
        .collect();
    let [dim, hidden, batch] = numbers[..] else {
        panic!("case {case}: not DIM-HIDDEN-BATCH");
    };
    let log_det = if without {
        FusedLogDet::None
    } else if dim.min(hidden) <= 2 {
        FusedLogDet::Exact
    } else {
        FusedLogDet::Taylor2
    };
    let device = Default::default();
    <B as Backend>::seed(&device, 0);
    let x = Tensor::<B, 2>::random([batch, dim], Distribution::Normal(0.0, 1.0), &device);
    let mut blocks: Vec<Block<B>> = (0..4).map(|_| Block::new(dim, hidden, &device)).collect();
    let mut adam = AdamConfig::new().init();
    let mut times = Vec::new();
    let _alone = exclusive();
    let start = Instant::now();
    while times.len() < 5 || start.elapsed() < budget {
        let step = Instant::now();
        let mut mapped = blocks[0].forward(x.clone(), log_det);
        for block in &blocks[1..] {
            mapped = mapped.then(|z| block.forward(z, log_det));
        }
        let energy = mapped
            .value
            .powi_scalar(2)
            .sum_dim(1)
            .squeeze_dim(1)
            .mul_scalar(0.5);
        let loss = (energy - mapped.log_det).mean();
        let grads = GradientsParams::from_grads(loss.backward(), &blocks);
        blocks = adam.step(1e-4, blocks, grads);
        times.push(step.elapsed());
    }
    times.sort();
    let ms = |t: Duration| t.as_secs_f64() * 1e3;
    println!(
        "ddnf-{case}: median {:.3} ms, smallest {:.3} ms, {} steps",
        ms(times[times.len() / 2]),
        ms(times[0]),
        times.len()
    );
}

fn main() {
    let seconds = std::env::var("SECONDS").map_or(3.0, |s| s.parse().expect("seconds"));
    for case in std::env::args().skip(1) {
        time(&case, Duration::from_secs_f64(seconds));
    }
}
