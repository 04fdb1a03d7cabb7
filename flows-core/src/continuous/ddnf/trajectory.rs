//! The path of a batch through a block, through the blocks of a stack, and back.

use burn::tensor::{Tensor, backend::Backend};

use super::block::DdnfBlock;
use super::inverse::require_stationary;
use crate::bijector::{Bijector, Invert, assert_ok, context_for};
use crate::error::Error;

/// The states that a batch passes in a block, with the velocities there.
#[derive(Debug, Clone)]
pub struct Trajectory<B: Backend> {
    /// `z_0, ..., z_T`, each `[batch, dim]`: `T + 1` of them.
    pub states: Vec<Tensor<B, 2>>,
    /// `v(z_0), ..., v(z_T)`, each `[batch, dim]`. The last is where the block ends; no step takes it.
    pub velocities: Vec<Tensor<B, 2>>,
}

impl<B: Backend> Trajectory<B> {
    /// Number `T` of steps.
    pub fn cells(&self) -> usize {
        self.states.len() - 1
    }

    /// `z_T`.
    pub fn end(&self) -> &Tensor<B, 2> {
        &self.states[self.cells()]
    }
}

impl<B: Backend> DdnfBlock<B> {
    /// Every state of the forward direction with the velocity there:
    /// `z_{t+1} = z_t + v(z_t, t / T) / T`, without log-determinants.
    ///
    /// Keeps all `T + 1` states, and with gradients the graph of every step.
    ///
    /// # Shapes
    /// As in [`Bijector::forward_and_log_det`].
    ///
    /// # Panics
    /// With the message of [`Bijector::check`] on wrong shapes.
    pub fn trajectory(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Trajectory<B> {
        assert_ok(self.check(&x, context.as_ref()));
        let field = self.field.bind(context, 1.0);
        let (cells, step) = (self.cells, (self.cells as f64).recip());
        let velocity = |cell: usize, z: &Tensor<B, 2>| {
            let time = cell as f64 / cells as f64;
            field.at_time(time).evaluate(z.clone()).value
        };
        let (mut states, mut velocities) = (vec![x], Vec::with_capacity(cells + 1));
        for cell in 0..cells {
            let v = velocity(cell, &states[cell]);
            states.push(states[cell].clone() + v.clone() * step);
            velocities.push(v);
        }
        velocities.push(velocity(cells, &states[cells]));
        Trajectory { states, velocities }
    }

    /// `T` times `z <- z - v(z) / T`: the paper's inverse `exp(-v)`, whichever one the block is
    /// configured with. See [`DdnfInverse::ApproximateExponentialMap`](super::DdnfInverse::ApproximateExponentialMap).
    ///
    /// # Shapes
    /// As in [`Bijector::forward_and_log_det`].
    ///
    /// # Errors
    /// [`Error::Config`] for a field that depends on time, and those of [`Bijector::check`].
    pub fn exponential_inverse(
        &self,
        y: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> Result<Tensor<B, 2>, Error> {
        require_stationary(self.field.is_time_dependent())?;
        self.check(&y, context.as_ref())?;
        Ok(self.run_without_log_det(-1.0, y, context))
    }
}

/// A layer that may be a block: what finds the blocks in a stack of mixed layers.
pub trait AsDdnfBlock<B: Backend> {
    /// This layer as a block, if it is one.
    fn as_ddnf_block(&self) -> Option<&DdnfBlock<B>>;
}

impl<B: Backend> AsDdnfBlock<B> for DdnfBlock<B> {
    fn as_ddnf_block(&self) -> Option<&DdnfBlock<B>> {
        Some(self)
    }
}

/// The path of a batch through the blocks of a stack.
#[derive(Debug, Clone)]
pub struct StackTrajectory<B: Backend> {
    /// Of each block, the first one first. Layers of other kinds have none.
    pub blocks: Vec<Trajectory<B>>,
    /// What the last layer gives, `[batch, dim]`.
    pub end: Tensor<B, 2>,
}

/// Runs `layers` forward, the first one first, and keeps what [`DdnfBlock::trajectory`] says of the
/// blocks among them.
///
/// # Shapes
/// As in [`Bijector::forward_and_log_det`].
///
/// # Panics
/// With the message of [`Bijector::check`] on wrong shapes.
pub fn trajectories<B: Backend, L: Bijector<B> + AsDdnfBlock<B>>(
    layers: &[L],
    x: Tensor<B, 2>,
    context: Option<Tensor<B, 2>>,
) -> StackTrajectory<B> {
    let mut blocks = Vec::new();
    let mut end = x;
    for layer in layers {
        let own = context_for(layer, &context);
        end = match layer.as_ddnf_block() {
            Some(block) => {
                let path = block.trajectory(end, own);
                let end = path.end().clone();
                blocks.push(path);
                end
            }
            None => layer.forward(end, own),
        };
    }
    StackTrajectory { blocks, end }
}

/// `phi_1^{-1} o ... o phi_K^{-1}` with the exponential map for every block, and their own inverse
/// for layers of other kinds.
///
/// # Shapes
/// As in [`Bijector::forward_and_log_det`].
///
/// # Errors
/// As [`DdnfBlock::exponential_inverse`].
pub fn exponential_inverse<B: Backend, L: Invert<B> + AsDdnfBlock<B>>(
    layers: &[L],
    y: Tensor<B, 2>,
    context: Option<Tensor<B, 2>>,
) -> Result<Tensor<B, 2>, Error> {
    layers.iter().rev().try_fold(y, |y, layer| {
        let own = context_for(layer, &context);
        match layer.as_ddnf_block() {
            Some(block) => block.exponential_inverse(y, own),
            None => Ok(layer.inverse(y, own)),
        }
    })
}
