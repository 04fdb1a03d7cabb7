//! Training steps, log-densities and inverses, one JSON line a case: see `step --help`.

use std::process::ExitCode;
use std::time::Duration;

use burn::module::AutodiffModule;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use clap::Parser;
use flows_benches::case::{Case, Work as Timed};
use flows_benches::rate::multiply_add_rate;
use flows_benches::timing::{Report, Timing, peak_mib, rounded};
use flows_core::autodiff::exclusive;
use flows_core::bijector::{Bijector, Invert};
use flows_core::distributions::LogProb;
use flows_core::init::normal_tensor;
use flows_core::random::generator;
use flows_experiments::backend::{Task, dispatch};
use flows_experiments::cli::{Compute, DeviceArgs, UsageError, exit_code, install_panic_hook};
use flows_models::{DataToBaseFlow, build_data_to_base};
use flows_train::Optimizer;

/// Time training steps (loss, gradients, Adam), log-densities and inverses on random data
///
/// A case is KIND-D-H-B with D columns, two hidden layers of H (one for ddnf) and B rows. Training steps: maf (five
/// MADE layers, order reversed between them), nsf (the same with splines of eight bins), nvp (eight affine couplings),
/// nsfc (eight couplings with splines), ddnf (four blocks of 16 cells), ddnfexact (with the determinant itself),
/// ddnfvalue (for a loss without log-determinant). Without gradients: maffwd (log-density), and the inverses mafinv,
/// nsfinv, nvpinv, nsfcinv. One JSON line a case; median_ms is the figure, floor_ms the time the matrix products alone
/// would take at the rate of the processor's fused multiply-adds (on a GPU: of a large product), peak_mib the most
/// memory of the process so far.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Example:\n  step ddnf-2-64-1000 maf-64-512-1000 --threads 2"
)]
struct Args {
    /// Cases to run
    #[arg(required = true, value_name = "CASE")]
    cases: Vec<String>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Seconds to spend on each case
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    budget: f64,
    /// Cells of each DDNF block
    #[arg(long, value_name = "T")]
    cells: Option<usize>,
    /// Take the generic path instead of the fused kernels
    #[arg(long)]
    generic: bool,
}

// A training step takes and gives back hundreds of small tensors.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    install_panic_hook();
    exit_code(run(Args::parse()))
}

fn run(args: Args) -> anyhow::Result<()> {
    let cases = args.cases.iter().map(|case| case.parse());
    let mut cases = cases
        .collect::<Result<Vec<Case>, _>>()
        .map_err(UsageError::new)?;
    if args.cells == Some(0) {
        return Err(UsageError::new("--cells must be at least 1").into());
    }
    for case in &mut cases {
        case.cells = args.cells.unwrap_or(case.cells);
    }
    if !(args.budget > 0.0 && args.budget.is_finite()) {
        return Err(UsageError::new("--budget must be positive").into());
    }
    let compute = args.device.resolve()?;
    flows_core::fused::set_fused_kernels(!args.generic);
    let work = Work {
        cases,
        compute,
        budget: Duration::from_secs_f64(args.budget),
        generic: args.generic,
    };
    dispatch(compute.backend, compute.dtype, work).map_err(UsageError::from)?
}

struct Work {
    cases: Vec<Case>,
    compute: Compute,
    budget: Duration,
    generic: bool,
}

impl Task for Work {
    type Output = anyhow::Result<()>;

    fn run<B: AutodiffBackend>(self, device: B::Device) -> anyhow::Result<()> {
        let rate = match self.compute.backend.is_cpu() {
            true => multiply_add_rate(self.compute.dtype),
            false => matmul_rate::<B::InnerBackend>(&device),
        };
        for case in self.cases {
            let rng = &mut generator(0);
            let flow =
                build_data_to_base::<B>(&case.layers(), &device, rng).map_err(UsageError::new)?;
            let timing = match case.kind.work {
                Timed::Inverse => time_inverse::<B>(&flow, case, &device, self.budget),
                Timed::Forward => time_forward::<B>(&flow, case, &device, self.budget),
                Timed::Step => {
                    let loss = |model: &DataToBaseFlow<B>, x| -model.log_prob(x, None).mean();
                    time_step::<B>(flow, case, &device, self.budget, loss)
                }
                Timed::Value => {
                    let loss = |model: &DataToBaseFlow<B>, x| {
                        model.bijector().forward(x, None).square().mean()
                    };
                    time_step::<B>(flow, case, &device, self.budget, loss)
                }
            };
            let path = if self.generic { "-generic" } else { "" };
            let report = Report {
                implementation: format!("flows-{}{path}", self.compute.backend),
                case: case.to_string(),
                median_ms: rounded(timing.median() * 1e3),
                min_ms: rounded(timing.min() * 1e3),
                cpu_ms: timing.cpu().map(|s| rounded(s * 1e3)),
                n: timing.calls(),
                sps: (case.batch as f64 / timing.median()).round(),
                gflop: rounded(case.flops() / 1e9),
                floor_ms: rounded(case.flops() / rate * 1e3),
                peak_mib: peak_mib().map(rounded),
            };
            println!("{}", serde_json::to_string(&report)?);
        }
        Ok(())
    }
}

fn time_step<B: AutodiffBackend>(
    flow: DataToBaseFlow<B>,
    case: Case,
    device: &B::Device,
    budget: Duration,
    loss: impl Fn(&DataToBaseFlow<B>, Tensor<B, 2>) -> Tensor<B, 1>,
) -> Timing {
    let rng = &mut generator(1);
    let x: Tensor<B, 2> = normal_tensor([case.batch, case.dim], 1.0, device, rng);
    let mut adam = Optimizer::<B>::default();
    let mut flow = Some(flow);
    let _alone = exclusive();
    Timing::of(budget, || {
        let model = flow.take().expect("it is put back below");
        let loss = loss(&model, x.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        flow = Some(adam.step(1e-4, model, gradients));
        wait::<B>(device);
    })
}

fn time_forward<B: AutodiffBackend>(
    flow: &DataToBaseFlow<B>,
    case: Case,
    device: &B::Device,
    budget: Duration,
) -> Timing {
    let flow = flow.valid();
    let rng = &mut generator(1);
    let x: Tensor<B::InnerBackend, 2> = normal_tensor([case.batch, case.dim], 1.0, device, rng);
    Timing::of(budget, || {
        let _ = flow.log_prob(x.clone(), None);
        wait::<B>(device);
    })
}

fn time_inverse<B: AutodiffBackend>(
    flow: &DataToBaseFlow<B>,
    case: Case,
    device: &B::Device,
    budget: Duration,
) -> Timing {
    let flow = flow.valid();
    let rng = &mut generator(1);
    let z: Tensor<B::InnerBackend, 2> = normal_tensor([case.batch, case.dim], 1.0, device, rng);
    Timing::of(budget, || {
        let _ = flow.bijector().inverse(z.clone(), None);
        wait::<B>(device);
    })
}

/// Lets queued work end; on a CPU there is none.
fn wait<B: Backend>(device: &B::Device) {
    B::sync(device).expect("the device computes");
}

/// Operations a second of a large matrix product, the best of half a second.
fn matmul_rate<B: Backend>(device: &B::Device) -> f64 {
    const N: usize = 1024;
    let rng = &mut generator(2);
    let a: Tensor<B, 2> = normal_tensor([N, N], 1.0, device, rng);
    let timing = Timing::of(Duration::from_millis(500), || {
        let _ = a.clone().matmul(a.clone());
        wait::<B>(device);
    });
    2.0 * (N as f64).powi(3) / timing.min()
}
