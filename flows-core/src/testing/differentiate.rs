//! Derivatives obtained independently of the layers: autodiff Jacobians and central differences.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use nalgebra::DMatrix;

use super::numbers::{batch, rows};
use crate::autodiff::exclusive;
use crate::init::options_of;

/// The Jacobians `d f(x)_i / d x_j` of a row-by-row map, one matrix a row of `x`.
///
/// One reverse pass per output column, summed over the batch: rows are independent.
pub fn jacobians<B: AutodiffBackend>(
    f: impl Fn(Tensor<B, 2>) -> Tensor<B, 2>,
    x: &Tensor<B, 2>,
) -> Vec<DMatrix<f64>> {
    jacobians_of(&f, x)
}

fn jacobians_of<B: AutodiffBackend>(
    f: &dyn Fn(Tensor<B, 2>) -> Tensor<B, 2>,
    x: &Tensor<B, 2>,
) -> Vec<DMatrix<f64>> {
    let _alone = exclusive();
    let [n, dim] = x.dims();
    let mut out = Vec::new();
    let mut columns = 1;
    let mut i = 0;
    while i < columns {
        let input = x.clone().detach().require_grad();
        let y = f(input.clone());
        columns = y.dims()[1];
        if out.is_empty() {
            out = vec![DMatrix::zeros(columns, dim); n];
        }
        let gradients = y.slice([0..n, i..i + 1]).sum().backward();
        if let Some(row) = input.grad(&gradients) {
            for (r, values) in rows(&row).chunks(dim).enumerate() {
                for (j, value) in values.iter().enumerate() {
                    out[r][(i, j)] = *value;
                }
            }
        }
        i += 1;
    }
    out
}

/// `log |det|` by LU with partial pivoting, in f64.
pub fn slog_det(matrix: &DMatrix<f64>) -> f64 {
    let upper = matrix.clone().lu().u();
    upper.diagonal().iter().map(|u| u.abs().ln()).sum()
}

/// The gradient of every float parameter of `module`, by path: `None` where none arrived, or where
/// the parameter is not a leaf that an optimizer would train.
pub fn gradients<B: AutodiffBackend, M: Module<B>>(
    module: &M,
    gradients: &B::Gradients,
) -> Vec<(String, Option<Vec<f64>>)> {
    struct Collect<'a, B: AutodiffBackend> {
        gradients: &'a B::Gradients,
        path: Vec<String>,
        found: Vec<(String, Option<Vec<f64>>)>,
    }
    impl<B: AutodiffBackend> ModuleVisitor<B> for Collect<'_, B> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            // A parameter that is no leaf has a gradient and is still never trained.
            let trained = param.is_require_grad();
            let gradient = trained.then(|| param.val().grad(self.gradients)).flatten();
            let values = gradient.map(|g| rows::<B::InnerBackend, D>(&g));
            self.found.push((self.path.join("."), values));
        }
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }
    }
    let mut visitor = Collect {
        gradients,
        path: Vec::new(),
        found: Vec::new(),
    };
    module.visit(&mut visitor);
    visitor.found
}

/// The gradient of a row-by-row function, `[batch, dim]` to one number a row, by central differences
/// with step `h = scale (1 + |x|)`, whose own error is of order `h^2`. Row by row, as `x` lies.
///
/// One column of all rows is moved at a time: rows are independent.
pub fn central_difference<B: Backend>(
    f: impl Fn(Tensor<B, 2>) -> Vec<f64>,
    x: &Tensor<B, 2>,
    scale: f64,
) -> Vec<f64> {
    let dim = x.dims()[1];
    let values = rows(x);
    let step = |v: f64| scale * (1.0 + v.abs());
    let mut gradient = vec![0.0; values.len()];
    for j in 0..dim {
        let moved = |sign: f64| {
            let mut points: Vec<_> = values.chunks(dim).map(<[f64]>::to_vec).collect();
            for point in &mut points {
                point[j] += sign * step(point[j]);
            }
            f(batch(&points, options_of(x)))
        };
        for (r, (after, before)) in moved(1.0).iter().zip(moved(-1.0)).enumerate() {
            let at = r * dim + j;
            gradient[at] = (after - before) / (2.0 * step(values[at]));
        }
    }
    gradient
}
