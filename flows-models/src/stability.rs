//! Whether the fields of a fitted model are too stiff for their number of steps.

use burn::tensor::{Tensor, backend::Backend};
use flows_core::bijectors::{Layer, stability};
use serde::{Deserialize, Serialize};

/// What was seen of the blocks of a model along the paths of test points, over all blocks, cells and
/// points. `B = J_v(z_t) / T` is the Jacobian of a step less the identity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stability {
    /// Largest spectral radius `rho(B)`; `None` where one is not a number.
    pub max_rho: Option<f64>,
    /// Matrices `B` with `rho(B) >= 1`, where a truncated series diverges.
    pub rho_at_least_one: usize,
    /// Determinants `det(I + B)` that are not positive: steps that are no diffeomorphism.
    pub non_positive_determinants: usize,
    /// Matrices looked at.
    pub evaluations: usize,
    /// A line for each block that is too stiff, with its number and its `rho`.
    pub warnings: Vec<String>,
}

/// Measures the DDNF blocks among `layers` on points at the start of their forward direction; `None`
/// where there is no block.
///
/// # Shapes
/// - `start`: `[n, dim]`
pub fn measure_stability<B: Backend>(
    layers: &[Layer<B>],
    start: Tensor<B, 2>,
) -> Option<Stability> {
    measure_stability_in(layers, start, None)
}

/// The same for blocks that take a context.
///
/// # Shapes
/// - `start`: `[n, dim]`, `context`: `[n, context_dim]`
pub fn measure_stability_in<B: Backend>(
    layers: &[Layer<B>],
    start: Tensor<B, 2>,
    context: Option<Tensor<B, 2>>,
) -> Option<Stability> {
    let blocks = stability(layers, start, context);
    let all = blocks.iter().map(|block| block.report);
    let all = all.reduce(|all, report| all.merge(report))?;
    Some(Stability {
        max_rho: all.max_rho.is_finite().then_some(all.max_rho),
        rho_at_least_one: all.rho_at_least_one,
        non_positive_determinants: all.non_positive_determinants,
        evaluations: all.evaluations,
        warnings: blocks.iter().filter_map(|block| block.warning()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DdnfConfig, RealNvpConfig};
    use burn::backend::Flex;
    use burn::module::{Module, ModuleMapper, Param};
    use flows_train::stream;

    /// Multiplies the output weights of fields of 16 units, which leaves the slopes of the units alone.
    struct OutputTimes(f64);

    impl ModuleMapper<Flex> for OutputTimes {
        fn map_float<const D: usize>(
            &mut self,
            param: Param<Tensor<Flex, D>>,
        ) -> Param<Tensor<Flex, D>> {
            let (id, tensor, mapper) = param.consume();
            let is_output = D == 2 && tensor.dims()[0] == 16;
            let factor = if is_output { self.0 } else { 1.0 };
            Param::from_mapped_value(id, tensor * factor, mapper)
        }
    }

    #[test]
    fn large_weights_and_few_cells_are_named_and_many_cells_are_not() {
        let device = Default::default();
        let x = Tensor::<Flex, 2>::from_data([[0.1, -0.2], [0.5, 1.0], [-1.0, 0.3]], &device);
        let of = |cells: usize| {
            let config = DdnfConfig {
                blocks: 2,
                cells,
                hidden: vec![16],
                ..DdnfConfig::new(2)
            };
            let flow = config
                .init::<Flex>(&device, &mut stream(0, "test", 0))
                .unwrap();
            let flow = flow.map(&mut OutputTimes(100.0));
            measure_stability(flow.bijector().layers(), x.clone()).unwrap()
        };
        let stiff = of(1);
        assert!(stiff.max_rho.unwrap() >= 1.0 && stiff.rho_at_least_one > 0);
        assert_eq!(stiff.evaluations, 2 * 3);
        let warning = &stiff.warnings[0];
        assert!(
            warning.contains("block 0") && warning.contains("T = 1"),
            "{warning}"
        );
        let rho = format!("rho(J/T) up to {:.3}", stiff.max_rho.unwrap());
        assert!(stiff.warnings.iter().any(|w| w.contains(&rho)), "{rho}");
        let fine = of(1024);
        assert_eq!((fine.warnings.len(), fine.rho_at_least_one), (0, 0));
        assert!(fine.max_rho.unwrap() < 1.0);
    }

    #[test]
    fn models_without_blocks_have_none() {
        let device = Default::default();
        let rng = &mut stream(0, "test", 0);
        let flow = RealNvpConfig::new(2).init::<Flex>(&device, rng).unwrap();
        let x = Tensor::zeros([3, 2], &device);
        assert_eq!(measure_stability(flow.bijector().layers(), x), None);
    }
}
