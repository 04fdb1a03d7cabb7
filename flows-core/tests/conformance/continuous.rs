//! DDNF blocks and continuous flows: one case for each path that a layer can take.

use burn::tensor::backend::AutodiffBackend;
use flows_core::bijectors::{CnfConfig, DdnfBlockConfig, DdnfInverse};
use flows_core::continuous::{Solver, Trace};
use flows_core::log_det::{LogDet, ProbeNoise};
use flows_core::nn::Activation;
use flows_core::testing::{Case, Suite};

/// Runs the conformance suite over these layers.
pub(crate) fn ddnf_blocks<B: AutodiffBackend>(suite: &mut Suite<B>, solver: f64) {
    // Widths above and below the dimension, deep fields, sizes with and without a fused kernel.
    for (dim, hidden) in [
        (1, vec![5]),
        (2, vec![6]),
        (3, vec![2]),
        (3, vec![7]),
        (2, vec![2, 2]),
        (4, vec![5, 3, 5]),
    ] {
        for activation in [Activation::Tanh, Activation::Softplus] {
            let config = DdnfBlockConfig {
                cells: 4,
                activation,
                inverse: DdnfInverse::Exact {
                    tolerance: solver,
                    max_iterations: 50,
                },
                context_dim: hidden.len() - 1,
                ..DdnfBlockConfig::new(dim, hidden.clone())
            };
            // Fields much stiffer than this have no inverse in four cells.
            let case = Case::new(format!("ddnf block, {dim}, {hidden:?}, {activation:?}")).far(0.3);
            suite.check(case.inverse_tolerance(10.0 * solver), |device, rng| {
                config.init(device, rng)
            });
        }
    }
    // A truncated series is an estimate of the determinant, not the Jacobian's own.
    let series = DdnfBlockConfig {
        log_det: LogDet::Taylor { order: 2 },
        ..DdnfBlockConfig::new(3, [7])
    };
    let case = Case::new("ddnf block, Taylor").estimated_log_det();
    suite.check(case, |device, rng| series.init(device, rng));
    for log_det in [LogDet::HUTCHINSON, LogDet::RUSSIAN_ROULETTE] {
        let case = Case::new(format!("ddnf block, {}", log_det.label()));
        let config = DdnfBlockConfig {
            cells: 4,
            log_det,
            context_dim: 2,
            ..DdnfBlockConfig::new(3, [7])
        };
        suite.check(case.estimated_log_det().far(0.3), |device, rng| {
            config.init(device, rng)
        });
    }
    for (dim, hidden) in [(2, vec![6]), (3, vec![2]), (3, vec![4, 5])] {
        let config = DdnfBlockConfig {
            cells: 4,
            time_dependent: true,
            inverse: DdnfInverse::Exact {
                tolerance: solver,
                max_iterations: 50,
            },
            ..DdnfBlockConfig::new(dim, hidden.clone())
        };
        let case = Case::new(format!("ddnf block in time, {dim}, {hidden:?}"));
        suite.check(case.inverse_tolerance(10.0 * solver), |device, rng| {
            config.init(device, rng)
        });
    }
    // Updates of the weights row by row, which a move of both factors makes stiffer still; cut at the input, at a hidden layer, and in a deep field.
    for (dim, hidden, rank) in [(2, vec![6], 1), (3, vec![2], 2), (4, vec![5, 3, 5], 1)] {
        let config = DdnfBlockConfig {
            cells: 4,
            context_dim: 2,
            context_rank: rank,
            inverse: DdnfInverse::Exact {
                tolerance: solver,
                max_iterations: 50,
            },
            ..DdnfBlockConfig::new(dim, hidden.clone())
        };
        let name = format!("ddnf block, {dim}, {hidden:?}, updates of rank {rank}");
        suite.check(
            Case::new(name).inverse_tolerance(10.0 * solver).far(0.2),
            |device, rng| config.init(device, rng),
        );
    }
    for log_det in [
        LogDet::Taylor { order: 2 },
        LogDet::Taylor { order: 3 },
        LogDet::HUTCHINSON,
        LogDet::RUSSIAN_ROULETTE,
    ] {
        let config = DdnfBlockConfig {
            cells: 4,
            context_dim: 2,
            context_rank: 1,
            log_det,
            ..DdnfBlockConfig::new(3, [7])
        };
        let name = format!("ddnf block, updates, {}", config.log_det.label());
        suite.check(
            Case::new(name).estimated_log_det().far(0.2),
            |device, rng| config.init(device, rng),
        );
    }
}

/// Runs the conformance suite over blocks with weights of bounded norm: that of a residual flow, and cells with a fused
/// kernel.
pub(crate) fn bounded_blocks<B: AutodiffBackend>(suite: &mut Suite<B>, solver: f64) {
    for (cells, activation, hidden, context_dim) in [
        (1, Activation::Swish, vec![5, 4], 2),
        (4, Activation::Tanh, vec![6], 0),
    ] {
        let config = DdnfBlockConfig {
            cells,
            activation,
            context_dim,
            lipschitz: Some(0.9),
            inverse: DdnfInverse::Exact {
                tolerance: solver,
                max_iterations: 50,
            },
            ..DdnfBlockConfig::new(3, hidden.clone())
        };
        let case = Case::new(format!("ddnf block, bounded, {cells}, {hidden:?}"));
        suite.check(case.inverse_tolerance(10.0 * solver), |device, rng| {
            config.init(device, rng)
        });
    }
}

/// Runs the conformance suite over these layers.
///
/// The two directions, and the log-determinant, are those of the differential equation up to the error of the steps,
/// which is small where the field stays as mild as it starts.
pub(crate) fn cnfs<B: AutodiffBackend>(suite: &mut Suite<B>) {
    let rk4 = Solver::Rk4 { steps: 4 };
    let adaptive = Solver::DormandPrince {
        tolerance: 1e-4,
        max_steps: 1000,
    };
    let hutchinson = Trace::Hutchinson {
        probes: 2,
        noise: ProbeNoise::Rademacher,
    };
    // Hidden layers wider and narrower than the input, a context, updates of the weights.
    for (dim, hidden, context, solver, trace) in [
        (1, vec![5], [0, 0], rk4, Trace::Exact),
        (3, vec![2], [1, 0], rk4, Trace::Exact),
        (2, vec![4, 5], [2, 1], rk4, Trace::Exact),
        (2, vec![3], [0, 0], rk4, hutchinson),
        (2, vec![3], [0, 0], adaptive, Trace::Exact),
    ] {
        let config = CnfConfig {
            context_dim: context[0],
            context_rank: context[1],
            trace,
            solver,
            ..CnfConfig::new(dim, hidden.clone())
        };
        let name = format!(
            "cnf, {dim}, {hidden:?}, {}, {}",
            trace.label(),
            solver.label()
        );
        let tolerance = if solver.is_fixed() { 1e-6 } else { 1e-3 };
        let case = Case::new(name).far(0.02).inverse_tolerance(tolerance);
        let case = match trace {
            Trace::Exact => case,
            Trace::Hutchinson { .. } => case.estimated_log_det(),
        };
        suite.check(case, |device, rng| config.init(device, rng));
    }
}
