//! Whether the steps of a block are small enough for its field.

use burn::tensor::{Tensor, backend::Backend};

use super::block::DdnfBlock;
use super::inverse::NAME;
use super::trajectory::AsDdnfBlock;
use crate::bijector::{Bijector, assert_ok, context_for};
use crate::continuous::Linearization;
use crate::continuous::field_weight::constant;
use crate::continuous::log_det::{eliminate, spectral_radius};
use crate::linalg::identity_plus;

/// How close a block came to the edge of where its formulas hold, over samples and cells.
///
/// With `B = J_v(z_t) / T` at cell `t` of a sample: below spectral radius 1 the truncated series of
/// `log det(I + B)` converges and the determinant is positive; from 1 on the series diverges in
/// silence, and a determinant that is not positive means that the cell is no diffeomorphism.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StabilityReport {
    /// Largest spectral radius `rho(B)`, see [`spectral_radius`]; NaN if one is NaN.
    pub max_rho: f64,
    /// How many of the matrices `B` have `rho(B) >= 1` or a NaN.
    pub rho_at_least_one: usize,
    /// How many determinants `det(I + B)` are zero, negative or NaN.
    pub non_positive_determinants: usize,
    /// Number of matrices looked at, samples times cells.
    pub evaluations: usize,
}

impl StabilityReport {
    /// No counts at all.
    const EMPTY: Self = Self {
        max_rho: 0.0,
        rho_at_least_one: 0,
        non_positive_determinants: 0,
        evaluations: 0,
    };

    /// Whether every spectral radius is below 1 and every determinant positive.
    pub fn is_stable(&self) -> bool {
        self.rho_at_least_one == 0 && self.non_positive_determinants == 0
    }

    /// The report of both sets of matrices together, such as those of two blocks.
    pub fn merge(self, other: Self) -> Self {
        Self {
            max_rho: worse(self.max_rho, other.max_rho),
            rho_at_least_one: self.rho_at_least_one + other.rho_at_least_one,
            non_positive_determinants: self.non_positive_determinants
                + other.non_positive_determinants,
            evaluations: self.evaluations + other.evaluations,
        }
    }
}

/// The larger number, NaN if either is.
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

impl<B: Backend> DdnfBlock<B> {
    /// Measures `rho(J_v(z_t) / T)` and the signs of `det(I + J_v(z_t) / T)` along the forward
    /// trajectories of `x`. Returns them with the block's output, so that the next block of a flow
    /// can be asked in turn.
    ///
    /// Costs more than a training step and synchronizes: for reports, not for every iteration.
    ///
    /// # Shapes
    /// As in [`Bijector::forward_and_log_det`].
    ///
    /// # Panics
    /// With the message of [`Bijector::check`] on wrong shapes.
    pub fn stability(
        &self,
        x: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (StabilityReport, Tensor<B, 2>) {
        assert_ok(self.check(&x, context.as_ref()));
        let step = self
            .field
            .bind(context.map(constant), 1.0 / self.cells as f64)
            .without_graph();
        let mut report = StabilityReport::EMPTY;
        let mut z = constant(x);
        for cell in 0..self.cells {
            let time = cell as f64 / self.cells as f64;
            let at = step.at_time(time).evaluate(z.clone());
            z = z + at.value;
            report = report.merge(inspect(&Linearization::new(&step, at.memos)));
        }
        (report, z)
    }
}

/// How stable one block of a stack is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockStability {
    /// Position of the block among the layers of the stack, from 0.
    pub layer: usize,
    /// Position among the blocks of the stack, from 0.
    pub block: usize,
    /// Its number `T` of cells.
    pub cells: usize,
    /// What was seen.
    pub report: StabilityReport,
}

impl BlockStability {
    /// A line that names the block and its spectral radius, where the block is not stable.
    pub fn warning(&self) -> Option<String> {
        let StabilityReport {
            max_rho,
            rho_at_least_one,
            non_positive_determinants,
            evaluations,
        } = self.report;
        let (block, cells) = (self.block, self.cells);
        (!self.report.is_stable()).then(|| {
            format!(
                "{NAME} {block}: field too stiff for T = {cells}, rho(J/T) up to {max_rho:.3}; \
                 of {evaluations} steps {rho_at_least_one} with rho >= 1, where a truncated series \
                 diverges, {non_positive_determinants} with a determinant that is not positive, \
                 where the step is no diffeomorphism"
            )
        })
    }
}

/// Measures every block among `layers` along the forward trajectories of `x`, see
/// [`DdnfBlock::stability`]; layers of other kinds only pass the batch on.
///
/// # Shapes
/// As in [`Bijector::forward_and_log_det`].
///
/// # Panics
/// With the message of [`Bijector::check`] on wrong shapes.
pub fn stability<B: Backend, L: Bijector<B> + AsDdnfBlock<B>>(
    layers: &[L],
    x: Tensor<B, 2>,
    context: Option<Tensor<B, 2>>,
) -> Vec<BlockStability> {
    let mut blocks = Vec::new();
    let mut z = constant(x);
    for (index, layer) in layers.iter().enumerate() {
        let own = context_for(layer, &context);
        z = match layer.as_ddnf_block() {
            Some(block) => {
                let (report, z) = block.stability(z, own);
                blocks.push(BlockStability {
                    layer: index,
                    block: blocks.len(),
                    cells: block.cells(),
                    report,
                });
                z
            }
            None => constant(layer.forward(z, own)),
        };
    }
    blocks
}

/// The report of one cell.
fn inspect<B: Backend>(b: &Linearization<'_, B>) -> StabilityReport {
    let core = b.core();
    let signs = eliminate(identity_plus(core.clone())).signs();
    let rhos: Vec<f64> = spectral_radius(core).into_data().iter().collect();
    StabilityReport {
        max_rho: rhos.iter().copied().fold(0.0, worse),
        rho_at_least_one: rhos.iter().filter(|r| r.is_nan() || **r >= 1.0).count(),
        non_positive_determinants: signs.iter().filter(|sign| **sign <= 0).count(),
        evaluations: rhos.len(),
    }
}
