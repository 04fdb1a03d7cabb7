//! The Jacobian of a velocity field at given points, without forming it where that is dear.

use burn::tensor::{Int, Tensor, backend::Backend};

use super::field::BoundField;

/// `J^T = W_1 D_1 W_2 D_2 ... D_L W_{L+1}` at `n` points, as its factors.
///
/// Everything is an ordinary tensor operation, differentiable in the weights and in the points.
#[derive(Debug, Clone)]
pub struct Linearization<'a, B: Backend> {
    weights: &'a [Tensor<B, 2>],
    /// Diagonals of `D_1 ... D_L`, each `[n, h_l]`.
    slopes: Vec<Tensor<B, 2>>,
}

impl<'a, B: Backend> Linearization<'a, B> {
    pub(crate) fn new(field: &'a BoundField<B>, memos: Vec<Tensor<B, 2>>) -> Self {
        let slope = |memo| field.activation.derivative(memo);
        Self {
            weights: &field.weights,
            slopes: memos.into_iter().map(slope).collect(),
        }
    }

    /// The same points `times` over, put under one another.
    pub(crate) fn repeat(&self, times: usize) -> Self {
        if times == 1 {
            return self.clone();
        }
        // Burn 0.21 differentiates `repeat_dim` as if every row were repeated in place.
        self.map_slopes(|slope| Tensor::cat(vec![slope; times], 0))
    }

    /// These of the points.
    pub(crate) fn rows(&self, rows: Tensor<B, 1, Int>) -> Self {
        self.map_slopes(|slope| slope.select(0, rows.clone()))
    }

    /// The first `n` of the points.
    pub(crate) fn first(&self, n: usize) -> Self {
        self.map_slopes(|slope| slope.narrow(0, 0, n))
    }

    fn map_slopes(&self, f: impl Fn(Tensor<B, 2>) -> Tensor<B, 2>) -> Self {
        Self {
            weights: self.weights,
            slopes: self.slopes.iter().cloned().map(f).collect(),
        }
    }

    /// Number of hidden layers, `L`.
    pub fn depth(&self) -> usize {
        self.slopes.len()
    }

    /// Number of points, `n`.
    pub fn points(&self) -> usize {
        self.slopes[0].dims()[0]
    }

    /// The factor `W_l`, `l = 1..=L+1`, `[h_{l-1}, h_l]` with `h_0 = h_{L+1} = dim`.
    pub(crate) fn weight(&self, l: usize) -> Tensor<B, 2> {
        self.weights[l - 1].clone()
    }

    /// The diagonal of `D_l`, `l = 1..=L`, `[n, h_l]`.
    pub(crate) fn slope(&self, l: usize) -> Tensor<B, 2> {
        self.slopes[l - 1].clone()
    }

    /// `J t` row by row, in forward mode: `t W_1 D_1 ... W_{L+1}`.
    ///
    /// # Shapes
    /// - `tangent` `t` and output: `[n, dim]`
    pub fn jvp(&self, tangent: Tensor<B, 2>) -> Tensor<B, 2> {
        self.pull_through(self.push_to(tangent, 1), 1)
    }

    /// `J^T c` row by row: `c W_{L+1}^T D_L ... W_1^T`.
    ///
    /// # Shapes
    /// - `cotangent` `c` and output: `[n, dim]`
    pub fn vjp(&self, cotangent: Tensor<B, 2>) -> Tensor<B, 2> {
        let mut c = cotangent.matmul(self.weight(self.depth() + 1).transpose());
        for l in (1..=self.depth()).rev() {
            c = (c * self.slope(l)).matmul(self.weight(l).transpose());
        }
        c
    }

    /// `J`, with `J[r, i, j] = d v_i / d x_j` at point `r`, `[n, dim, dim]`.
    pub fn jacobian(&self) -> Tensor<B, 3> {
        self.transposed_jacobian().swap_dims(1, 2)
    }

    /// `J^T`, `[n, dim, dim]`: forward mode with all unit tangents at once.
    pub(crate) fn transposed_jacobian(&self) -> Tensor<B, 3> {
        if self.depth() == 1 {
            return self.single_layer_jacobian();
        }
        let unit_tangents = self.weight(1).unsqueeze::<3>();
        let mut j = unit_tangents * self.slope(1).unsqueeze_dim::<3>(1);
        for l in 2..=self.depth() {
            j = multiply_rows(j, self.weight(l)) * self.slope(l).unsqueeze_dim(1);
        }
        multiply_rows(j, self.weight(self.depth() + 1))
    }

    /// `J^T[j, i] = sum_k D_k W_1[j, k] W_2[k, i]`: one product of the slopes with a table
    /// `[h, dim^2]`, which saves the `[n, dim, h]` tensor of the general case.
    fn single_layer_jacobian(&self) -> Tensor<B, 3> {
        let [dim, h] = self.weights[0].dims();
        let into = self.weight(1).transpose().reshape([h, dim, 1]);
        let out_of = self.weight(2).reshape([h, 1, dim]);
        let table = (into * out_of).reshape([h, dim * dim]);
        self.slope(1)
            .matmul(table)
            .reshape([self.points(), dim, dim])
    }

    /// `t W_1 D_1 ... W_l`: a tangent carried to the pre-activation of hidden layer `l`.
    pub(crate) fn push_to(&self, tangent: Tensor<B, 2>, l: usize) -> Tensor<B, 2> {
        (1..l).fold(tangent.matmul(self.weight(1)), |t, k| {
            (t * self.slope(k)).matmul(self.weight(k + 1))
        })
    }

    /// `t D_l W_{l+1} ... W_{L+1}`: the rest of the way from there.
    pub(crate) fn pull_through(&self, tangent: Tensor<B, 2>, l: usize) -> Tensor<B, 2> {
        (l..=self.depth()).fold(tangent, |t, k| {
            (t * self.slope(k)).matmul(self.weight(k + 1))
        })
    }

    /// The narrowest place of the network: 0 for input and output, `l` for hidden layer `l`.
    pub(crate) fn narrowest(&self) -> usize {
        let widths = self.weights.iter().map(|w| w.dims()[0]).enumerate();
        // The first of equals: the Jacobian itself needs no closing product.
        widths.min_by_key(|&(_, width)| width).map_or(0, |(l, _)| l)
    }

    /// The smallest square matrix with the non-zero eigenvalues of `J`, `[n, m, m]`.
    ///
    /// The factors of `J^T` form a ring, and turning a product around its ring changes neither its
    /// non-zero eigenvalues, nor `det(I + .)` (Sylvester's determinant theorem), nor the trace of
    /// any power. So the ring is cut at its narrowest place: `J^T` itself where that is the input,
    /// else `D_l W_{l+1} ... D_L (W_{L+1} W_1) D_1 ... W_l`, whose closing product is shared by all
    /// points. For one hidden layer of width `h < dim` this is `D_1 (W_2 W_1)`.
    pub(crate) fn core(&self) -> Tensor<B, 3> {
        let cut = self.narrowest();
        if cut == 0 {
            return self.transposed_jacobian();
        }
        let edge_from = |l: usize| {
            if l < self.depth() {
                self.weight(l + 1)
            } else {
                self.closing()
            }
        };
        let next = |l: usize| l % self.depth() + 1;
        let slope = self.slope(cut).unsqueeze_dim::<3>(2);
        let mut core = slope * edge_from(cut).unsqueeze::<3>();
        let mut l = next(cut);
        while l != cut {
            core = multiply_rows(core * self.slope(l).unsqueeze_dim(1), edge_from(l));
            l = next(l);
        }
        core
    }

    /// `W_{L+1} W_1`, `[h_L, h_1]`.
    pub(crate) fn closing(&self) -> Tensor<B, 2> {
        self.weight(self.depth() + 1).matmul(self.weight(1))
    }
}

/// `a[r] w` for all `r`, as one product of matrices.
fn multiply_rows<B: Backend>(a: Tensor<B, 3>, w: Tensor<B, 2>) -> Tensor<B, 3> {
    let [n, rows, inner] = a.dims();
    let columns = w.dims()[1];
    a.reshape([n * rows, inner])
        .matmul(w)
        .reshape([n, rows, columns])
}
