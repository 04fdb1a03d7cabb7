//! A few training steps on wgpu, on NdArray where it is compiled in, and on Flex, from the same seed, end alike.
//!
//! On Flex the DDNF blocks take the fused kernel, on wgpu the generic path in f32.
//!
//! Without a GPU a software adapter will do (on Debian `mesa-vulkan-drivers`). Where there is none,
//! each test says so and passes; with `FLOWS_REQUIRE_ADAPTER` set it fails.

use std::io::Write as _;

use crate::backend::{BackendError, BackendKind, Dtype, Task, check, dispatch};
use crate::targets::sample_set::Moons;
use crate::targets::{Energy, SoftWall};
use crate::toy::{Annealing, MaximumLikelihood, ReverseKl};
use assert_cmd::Command;
use burn::module::{AutodiffModule, ModuleDisplay};
use burn::tensor::backend::AutodiffBackend;
use flows_core::state::{State, parameters};
use flows_core::testing::relative_error;
use flows_models::{DdnfConfig, RealNvpConfig};
use flows_train::{Objective, Run, Schedule, Training, fit, stream};
use predicates::str::contains;

const SEED: u64 = 7;

/// Losses are means over 64 rows of terms around 10, in f32: `10 * 2^-24 * sqrt(64) = 5e-6` for the
/// rounding of terms and sum, and as much again for what the parameters differ by.
const LOSS_TOLERANCE: f64 = 1e-5;

/// Adam divides a gradient by its size, so an entry moves by about the learning rate a step whatever
/// its size, and its relative error becomes an absolute one: `5 steps * 1e-2 * 2e-3` for an entry a
/// thousand times smaller than the terms it is summed from (`1e3 * 2^-24 * sqrt(64) = 5e-4`). A
/// gradient of the wrong sign or scale moves a parameter by 1e-2 or more.
const PARAMETER_TOLERANCE: f64 = 1e-4;

fn training() -> Training {
    Training {
        steps: 5,
        batch: 64,
        learning_rate: 1e-2,
        schedule: Schedule::Constant,
        clip_norm: 5.0,
        log_every: 1,
        checkpoint_seconds: 0.0,
        ..Training::default()
    }
}

/// What a run leaves: its losses, its parameters before and after.
#[derive(Debug)]
struct Trace {
    losses: Vec<f64>,
    before: State,
    after: State,
}

fn flat(state: &State) -> Vec<f64> {
    state.values().flat_map(|t| t.iter::<f64>()).collect()
}

/// Trains `model`, which the seed made.
fn train<B, M, O>(model: M, objective: &mut O) -> Trace
where
    B: AutodiffBackend,
    M: AutodiffModule<B> + ModuleDisplay,
    O: Objective<B, M>,
{
    let before = parameters::<B, M>(&model);
    let fitted = fit(
        model,
        objective,
        &training(),
        Run::new("test on wgpu", SEED),
    )
    .unwrap();
    Trace {
        losses: fitted.losses.iter().map(|(_, loss)| *loss).collect(),
        before,
        after: parameters::<B, M>(&fitted.model),
    }
}

/// DDNF by the reverse KL to an energy: samples and their densities.
struct Ddnf;

impl Task for Ddnf {
    type Output = Trace;

    fn run<B: AutodiffBackend>(self, device: B::Device) -> Trace {
        let config = DdnfConfig {
            blocks: 1,
            cells: 4,
            hidden: vec![8],
            ..DdnfConfig::new(2)
        };
        let rng = &mut stream(SEED, "parameters", 0);
        let model = config.init::<B>(&device, rng).unwrap();
        let mut objective = ReverseKl {
            energy: Energy::U1,
            wall: SoftWall::default(),
            annealing: Annealing::default(),
        };
        train(model, &mut objective)
    }
}

/// RealNVP by maximum likelihood on points: densities of given data.
struct RealNvp;

impl Task for RealNvp {
    type Output = Trace;

    fn run<B: AutodiffBackend>(self, device: B::Device) -> Trace {
        let config = RealNvpConfig {
            layers: 2,
            hidden: vec![8],
            ..RealNvpConfig::new(2)
        };
        let rng = &mut stream(SEED, "parameters", 0);
        let model = config.init::<B>(&device, rng).unwrap();
        train(model, &mut MaximumLikelihood { set: &Moons })
    }
}

/// Runs `task`; `None`, and a line on standard error, where there is no adapter.
fn on<T: Task>(backend: BackendKind, task: T) -> Option<T::Output> {
    match dispatch(backend, Dtype::F32, task) {
        Ok(output) => Some(output),
        Err(error @ BackendError::Device { .. }) => {
            let required = std::env::var_os("FLOWS_REQUIRE_ADAPTER").is_some();
            assert!(!required, "{error}");
            // The harness keeps what a passing test prints by `eprintln!` to itself.
            let mut stderr = std::io::stderr();
            writeln!(stderr, "SKIPPED: {error}").unwrap();
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn ends_alike<T: Task<Output = Trace>>(task: impl Fn() -> T) {
    let flex = dispatch(BackendKind::Flex, Dtype::F32, task()).unwrap();
    assert_eq!(flex.losses.len(), 5);
    let moved = relative_error(&flat(&flex.after), &flat(&flex.before));
    assert!(
        moved > 1e-2,
        "training moved the parameters by {moved:e} only"
    );
    let others = [BackendKind::NdArray, BackendKind::Wgpu];
    for backend in others.into_iter().filter(|b| b.is_compiled()) {
        let Some(other) = on(backend, task()) else {
            continue;
        };
        let differ = relative_error(&other.losses, &flex.losses);
        assert!(
            differ <= LOSS_TOLERANCE,
            "{backend}: losses differ by {differ:e}: {other:?} {flex:?}"
        );
        assert!(other.after.keys().eq(flex.after.keys()));
        let [before, start] = [&other, &flex].map(|trace| flat(&trace.before));
        assert_eq!(before, start, "{backend}: the same seed, the same bits");
        let differ = relative_error(&flat(&other.after), &flat(&flex.after));
        assert!(
            differ <= PARAMETER_TOLERANCE,
            "{backend}: parameters differ by {differ:e}: {other:?} {flex:?}"
        );
    }
}

#[test]
fn ddnf_by_reverse_kl() {
    ends_alike(|| Ddnf);
}

#[test]
fn real_nvp_by_maximum_likelihood() {
    ends_alike(|| RealNvp);
}

/// With no driver for the loader to find, as on a machine without a GPU: this program again, for the test below.
#[cfg(target_os = "linux")]
#[test]
fn no_adapter_is_one_line() {
    let mut without = Command::new(std::env::current_exe().unwrap());
    without.args(["--exact", "--ignored", "--nocapture"]);
    without.arg("gpu_tests::says_why_wgpu_does_not_start");
    for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        without.env(variable, "/nonexistent");
    }
    let line = "backend 'wgpu' found no usable device: No possible adapter";
    without.assert().success().stdout(contains(line));
}

#[test]
#[ignore = "fails where there is an adapter: the test above runs it without a driver"]
fn says_why_wgpu_does_not_start() {
    let error = check(BackendKind::Wgpu, Dtype::F32)
        .unwrap_err()
        .to_string();
    assert_eq!(error.lines().count(), 1);
    println!("{error}");
}

#[test]
fn f64_is_refused() {
    let error = check(BackendKind::Wgpu, Dtype::F64).unwrap_err();
    assert!(
        error.to_string().starts_with("backend 'wgpu' has no f64"),
        "{error}"
    );
}
