//! Velocity fields with a time for every row.

use burn::tensor::{Tensor, backend::Backend};

use super::bound_field::BoundField;
use super::linearization::Linearization;
use super::log_det::LogDet;

/// A velocity field `v(z, t)` with products of its Jacobian in `z`: what a continuous flow needs of it.
///
/// # Shapes
/// In all methods `z` is `[n, dim]` and `t` is `[n, 1]`, a time for each row, or `[1, 1]`, the same for all.
pub trait TimeField<B: Backend>: Sized {
    /// Dimension of the space the field lives in.
    fn dim(&self) -> usize;

    /// The same field with constant parameters: nothing computed from it enters the autodiff graph.
    #[must_use]
    fn constant(&self) -> Self;

    /// `v(z, t)`, `[n, dim]`.
    fn velocity(&self, z: Tensor<B, 2>, t: Tensor<B, 2>) -> Tensor<B, 2>;

    /// `v(z, t)` and `J u` for several tangents `u` of each row, differentiable like the velocity itself.
    ///
    /// # Shapes
    /// - `tangents` and second output: `[m, n, dim]`
    fn jvps(
        &self,
        z: Tensor<B, 2>,
        t: Tensor<B, 2>,
        tangents: Tensor<B, 3>,
    ) -> (Tensor<B, 2>, Tensor<B, 3>);

    /// `v(z, t)` and `tr J`, `[n]`, here by one product for each of the `dim` unit vectors.
    fn velocity_and_trace(&self, z: Tensor<B, 2>, t: Tensor<B, 2>) -> (Tensor<B, 2>, Tensor<B, 1>) {
        let units = unit_tangents(&z);
        let (velocity, products) = self.jvps(z, t, units.clone());
        let trace = (products * units).sum_dims_squeeze(&[0, 2]);
        (velocity, trace)
    }
}

/// The unit vectors for every row of a batch like `z`, `[dim, n, dim]`.
pub(super) fn unit_tangents<B: Backend>(z: &Tensor<B, 2>) -> Tensor<B, 3> {
    let [n, dim] = z.dims();
    let units = Tensor::<B, 2>::eye(dim, &z.device()).cast(z.dtype());
    units.reshape([dim, 1, dim]).expand([dim, n, dim])
}

impl<B: Backend> TimeField<B> for BoundField<B> {
    fn dim(&self) -> usize {
        self.weights[0].dims()[0]
    }

    fn constant(&self) -> Self {
        self.without_graph()
    }

    fn velocity(&self, z: Tensor<B, 2>, t: Tensor<B, 2>) -> Tensor<B, 2> {
        self.at_times(t).evaluate(z).value
    }

    fn jvps(
        &self,
        z: Tensor<B, 2>,
        t: Tensor<B, 2>,
        tangents: Tensor<B, 3>,
    ) -> (Tensor<B, 2>, Tensor<B, 3>) {
        let [m, n, dim] = tangents.dims();
        let at = self.at_times(t).evaluate(z);
        let jacobian = Linearization::new(self, at.memos).repeat(m);
        let products = jacobian.jvp(tangents.reshape([m * n, dim]));
        (at.value, products.reshape([m, n, dim]))
    }

    /// In closed form for one hidden layer, from the square matrix of the narrowest layer otherwise.
    fn velocity_and_trace(&self, z: Tensor<B, 2>, t: Tensor<B, 2>) -> (Tensor<B, 2>, Tensor<B, 1>) {
        let at = self.at_times(t).evaluate(z);
        // The first term of the series of log det(I + J).
        let trace = LogDet::Taylor { order: 1 };
        let trace = trace.log_det(&Linearization::new(self, at.memos), None);
        (at.value, trace)
    }
}
