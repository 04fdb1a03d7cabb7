//! Fields that depend on time.

use super::*;
use crate::double;

fn config(dim: usize, hidden: Vec<usize>) -> DdnfBlockConfig {
    DdnfBlockConfig {
        cells: 4,
        time_dependent: true,
        context_dim: 2,
        ..DdnfBlockConfig::new(dim, hidden)
    }
}

#[test]
fn cells_take_the_field_at_their_own_time() {
    let block = block::<Plain>(&config(3, vec![5, 4]), 0.3);
    let (x, context) = (normal(6, 3, 1), context_of(6, 2));
    let path = block.trajectory(x.clone(), context.clone());
    let mut z = x.clone();
    for (t, state) in path.states.iter().enumerate() {
        assert!(residual(state.clone(), z.clone()) < 1e-14);
        let time = t as f64 / 4.0;
        let v = block.field().velocity_at(z.clone(), time, context.clone());
        assert!(residual(path.velocities[t].clone(), v.clone()) < 1e-14);
        z = z + v / 4.0;
    }
    assert!(
        residual(
            block.forward(x.clone(), context.clone()),
            path.end().clone()
        ) < 1e-13
    );
    let at = |time| block.field().velocity_at(x.clone(), time, context.clone());
    assert!(residual(at(0.0), at(0.5)) > 0.01, "time has no effect");
    let start = block.field().velocity(x.clone(), context.clone());
    assert_eq!(residual(at(0.0), start), 0.0);
}

#[test]
fn log_det_is_that_of_the_autodiff_jacobian() {
    for (dim, hidden) in [(2, vec![6]), (4, vec![2]), (3, vec![4, 6])] {
        assert_log_det(&config(dim, hidden), 0.2);
    }
}

#[test]
fn the_exact_inverse_goes_back_through_the_times() {
    let block = block::<Plain>(&config(3, vec![8]), 0.2);
    let (x, context) = (normal(20, 3, 1), context_of(20, 2));
    let forward = block.forward_and_log_det(x.clone(), context.clone());
    let (back, report) = block.inverse_with_report(forward.value, context);
    assert!(report.residual <= 1e-12, "{report:?}");
    assert!(residual(back.value, x) <= 1e-11);
    let expected = numbers(-forward.log_det);
    assert_close(&numbers(back.log_det), &expected, 1e-11, "log-det");
}

#[test]
fn the_exponential_map_is_refused_with_the_reason() {
    let refused = |error: Error| {
        let text = error.to_string();
        assert!(text.contains("depends on time"), "{text}");
    };
    let exponential = DdnfBlockConfig {
        inverse: DdnfInverse::ApproximateExponentialMap,
        ..config(2, vec![4])
    };
    let built = exponential.init::<Plain>(double(), &mut rng(1));
    refused(built.unwrap_err());
    let block = block::<Plain>(&config(2, vec![4]), 0.2);
    let (y, context) = (normal(3, 2, 1), context_of(3, 2));
    refused(block.exponential_inverse(y, context).unwrap_err());
    refused(
        block
            .with_inverse(DdnfInverse::ApproximateExponentialMap)
            .unwrap_err(),
    );
}

#[test]
fn gradients_agree_with_central_differences() {
    for hidden in [vec![5], vec![4, 3]] {
        let config = DdnfBlockConfig {
            cells: 3,
            ..config(3, hidden)
        };
        let context = || context_of(3, 2).map(Tensor::from_inner);
        let block = block::<Grad>(&config, 0.2);
        let base = DiagonalNormal::standard(3, double());
        let flow = Flow::data_to_base(block, base).unwrap();
        assert_gradients(
            flow.clone(),
            &normal(3, 3, 1),
            |flow, x| -flow.log_prob(x, context()).mean(),
            "data to base",
        );
        let flow = Flow::base_to_data(flow.bijector().clone(), flow.base().clone()).unwrap();
        assert_gradients(
            flow,
            &normal(3, 3, 1),
            |flow, x| -flow.log_prob(x, context()).mean(),
            "base to data",
        );
    }
}
