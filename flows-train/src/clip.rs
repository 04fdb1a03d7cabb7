//! The norm of the whole gradient, and its bound.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;

/// Scales all gradients by one factor so that their joint Euclidean norm is at most `bound`.
///
/// Burn's own clipping bounds each parameter alone, which turns the gradient. The factor stays on
/// the device: no step waits for it.
pub(crate) fn clip_norm<B: AutodiffBackend, M: Module<B>>(
    module: &M,
    gradients: GradientsParams,
    bound: f64,
) -> GradientsParams {
    let mut sum = Sum::<B> {
        gradients: &gradients,
        squares: None,
    };
    module.visit(&mut sum);
    let Some(squares) = sum.squares else {
        return gradients;
    };
    // bound / max(norm, bound), which is 1 below the bound and needs no branch.
    let factor = squares.sqrt().clamp_min(bound).recip() * bound;
    let mut scale = Scale::<B> {
        gradients,
        factor,
        scaled: GradientsParams::new(),
    };
    module.visit(&mut scale);
    scale.scaled
}

struct Sum<'a, B: AutodiffBackend> {
    gradients: &'a GradientsParams,
    squares: Option<Tensor<B::InnerBackend, 1>>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Sum<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(gradient) = self.gradients.get::<B::InnerBackend, D>(param.id) {
            let square = gradient.square().sum();
            self.squares = Some(match self.squares.take() {
                None => square,
                Some(sum) => sum + square,
            });
        }
    }
}

struct Scale<B: AutodiffBackend> {
    gradients: GradientsParams,
    factor: Tensor<B::InnerBackend, 1>,
    scaled: GradientsParams,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Scale<B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(gradient) = self.gradients.remove::<B::InnerBackend, D>(param.id) {
            let factor = self.factor.clone().reshape([1; D]);
            self.scaled.register(param.id, gradient * factor);
        }
    }
}
