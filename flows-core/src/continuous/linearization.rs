//! The Jacobian of a velocity field at given points, without forming it where that is dear.

use std::borrow::Cow;

use burn::tensor::{Int, Tensor, backend::Backend};

use super::bound_field::BoundField;
use super::field_weight::{FieldWeight, multiply_rows};

/// `J^T = W_1 D_1 W_2 D_2 ... D_L W_{L+1}` at `n` points, as its factors.
///
/// Everything is an ordinary tensor operation, differentiable in the weights and in the points.
#[derive(Debug, Clone)]
pub struct Linearization<'a, B: Backend> {
    weights: Cow<'a, [FieldWeight<B>]>,
    /// Diagonals of `D_1 ... D_L`, each `[n, h_l]`.
    slopes: Vec<Tensor<B, 2>>,
    /// The weights of the field's rows, where the points are these over and over.
    rows: Option<&'a [FieldWeight<B>]>,
}

impl<'a, B: Backend> Linearization<'a, B> {
    /// At the points where `memos` were left by the field; these may be several for each row of its
    /// context, the rows over and over.
    pub(crate) fn new(field: &'a BoundField<B>, memos: Vec<Tensor<B, 2>>) -> Self {
        let slope = |memo| field.activation.derivative(memo);
        let all = Self {
            weights: Cow::Borrowed(&field.weights),
            slopes: memos.into_iter().map(slope).collect(),
            rows: None,
        };
        let points = all.points();
        Self {
            rows: Some(&field.weights),
            ..all.map_weights(|w| w.tiled_to(points))
        }
    }

    /// The same points `times` over, put under one another.
    pub(crate) fn repeat(&self, times: usize) -> Self {
        if times == 1 {
            return self.clone();
        }
        // Burn 0.21 differentiates `repeat_dim` as if every row were repeated in place.
        let points = times * self.points();
        self.map_slopes(|slope| Tensor::cat(vec![slope; times], 0))
            .map_weights(|w| w.tiled_to(points))
    }

    /// These of the points.
    pub(crate) fn rows(&self, rows: Tensor<B, 1, Int>) -> Self {
        self.map_slopes(|slope| slope.select(0, rows.clone()))
            .map_weights(|w| w.rows(rows.clone()))
    }

    /// The first `n` of the points.
    pub(crate) fn first(&self, n: usize) -> Self {
        self.map_slopes(|slope| slope.narrow(0, 0, n))
            .map_weights(|w| w.first(n))
    }

    fn map_slopes(&self, f: impl Fn(Tensor<B, 2>) -> Tensor<B, 2>) -> Self {
        Self {
            weights: self.weights.clone(),
            slopes: self.slopes.iter().cloned().map(f).collect(),
            rows: None,
        }
    }

    /// Applies `f` to weights that differ from row to row.
    fn map_weights(self, f: impl Fn(&FieldWeight<B>) -> FieldWeight<B>) -> Self {
        if self.is_shared() {
            return self;
        }
        let weights = self.weights.iter().map(f).collect();
        Self { weights, ..self }
    }

    /// Whether all points have the same weights.
    pub(crate) fn is_shared(&self) -> bool {
        self.weights.iter().all(FieldWeight::is_shared)
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
    fn weight(&self, l: usize) -> &FieldWeight<B> {
        &self.weights[l - 1]
    }

    /// `W_l`, where all points have the same.
    pub(crate) fn shared_weight(&self, l: usize) -> Option<Tensor<B, 2>> {
        self.weight(l).shared()
    }

    /// Width of layer `l`: `h_l`, with `h_0 = h_{L+1} = dim`.
    pub(crate) fn width(&self, l: usize) -> usize {
        match l {
            0 => self.weight(1).dims()[0],
            l => self.weight(l).dims()[1],
        }
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
        let mut c = self.weight(self.depth() + 1).apply_transposed(cotangent);
        for l in (1..=self.depth()).rev() {
            c = self.weight(l).apply_transposed(c * self.slope(l));
        }
        c
    }

    /// `J`, with `J[r, i, j] = d v_i / d x_j` at point `r`, `[n, dim, dim]`.
    pub fn jacobian(&self) -> Tensor<B, 3> {
        self.transposed_jacobian().swap_dims(1, 2)
    }

    /// `J^T`, `[n, dim, dim]`: forward mode with all unit tangents at once.
    pub(crate) fn transposed_jacobian(&self) -> Tensor<B, 3> {
        if let (1, Some(w1), Some(w2)) =
            (self.depth(), self.shared_weight(1), self.shared_weight(2))
        {
            return self.single_layer_jacobian(w1, w2);
        }
        let unit_tangents = self.weight(1).matrices();
        let mut j = unit_tangents * self.slope(1).unsqueeze_dim::<3>(1);
        for l in 2..=self.depth() {
            j = self.weight(l).apply_to_matrices(j) * self.slope(l).unsqueeze_dim(1);
        }
        self.weight(self.depth() + 1).apply_to_matrices(j)
    }

    /// `J^T[j, i] = sum_k D_k W_1[j, k] W_2[k, i]`: one product of the slopes with a table
    /// `[h, dim^2]`, which saves the `[n, dim, h]` tensor of the general case.
    fn single_layer_jacobian(&self, w1: Tensor<B, 2>, w2: Tensor<B, 2>) -> Tensor<B, 3> {
        let [dim, h] = w1.dims();
        // Reshaped before it is turned: on the GPU backends, Burn 0.21 computes wrong strides for a
        // view that ends in a dimension of 1 and is reshaped to a higher rank (burn#5071).
        let into = w1.reshape([dim, h, 1]).swap_dims(0, 1);
        let out_of = w2.reshape([h, 1, dim]);
        let table = (into * out_of).reshape([h, dim * dim]);
        self.slope(1)
            .matmul(table)
            .reshape([self.points(), dim, dim])
    }

    /// `t W_1 D_1 ... W_l`: a tangent carried to the pre-activation of hidden layer `l`.
    pub(crate) fn push_to(&self, tangent: Tensor<B, 2>, l: usize) -> Tensor<B, 2> {
        (1..l).fold(self.weight(1).apply(tangent), |t, k| {
            self.weight(k + 1).apply(t * self.slope(k))
        })
    }

    /// `t D_l W_{l+1} ... W_{L+1}`: the rest of the way from there.
    pub(crate) fn pull_through(&self, tangent: Tensor<B, 2>, l: usize) -> Tensor<B, 2> {
        (l..=self.depth()).fold(tangent, |t, k| self.weight(k + 1).apply(t * self.slope(k)))
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
        // `(.) W_{l+1}`, or around the end of the ring, `(.) W_{L+1} W_1`.
        let closing = self.closing_matrices();
        let through_edge = |a: Tensor<B, 3>, l: usize| {
            if l < self.depth() {
                self.weight(l + 1).apply_to_matrices(a)
            } else {
                multiply_matrices(a, closing.clone())
            }
        };
        let first_edge = if cut < self.depth() {
            self.weight(cut + 1).matrices()
        } else {
            closing.clone()
        };
        let next = |l: usize| l % self.depth() + 1;
        let slope = self.slope(cut).unsqueeze_dim::<3>(2);
        let mut core = slope * first_edge;
        let mut l = next(cut);
        while l != cut {
            core = through_edge(core * self.slope(l).unsqueeze_dim(1), l);
            l = next(l);
        }
        core
    }

    /// `W_{L+1} W_1`, `[n, h_L, h_1]`, or `[1, h_L, h_1]` where it is the same at all points.
    fn closing_matrices(&self) -> Tensor<B, 3> {
        let last = self.weight(self.depth() + 1).matrices();
        multiply_matrices(last, self.weight(1).matrices())
    }

    /// For one hidden layer whose weights differ from row to row: the slopes `D_1` of the points of
    /// each row, `[rows, n / rows, h_1]`, and `W_2 W_1`, `[rows, h_1, h_1]`, which these points share.
    pub(crate) fn by_row(&self) -> Option<(Tensor<B, 3>, Tensor<B, 3>)> {
        let ([first, last], [slope]) = (self.rows?, &self.slopes[..]) else {
            return None;
        };
        let rows = first.rows_of_update()?;
        let closing = multiply_matrices(last.matrices(), first.matrices());
        let [points, h] = slope.dims();
        // Row by row; the points have all rows, then all again.
        let slopes = slope.clone().reshape([points / rows, rows, h]);
        Some((slopes.swap_dims(0, 1), closing))
    }

    /// `W_{L+1} W_1`, `[h_L, h_1]`, where all points have the same weights.
    pub(crate) fn shared_closing(&self) -> Option<Tensor<B, 2>> {
        let last = self.shared_weight(self.depth() + 1)?;
        Some(last.matmul(self.shared_weight(1)?))
    }
}

/// `a[r] w[r]` for all `r`; either may be one matrix for all of them.
fn multiply_matrices<B: Backend>(a: Tensor<B, 3>, w: Tensor<B, 3>) -> Tensor<B, 3> {
    if w.dims()[0] == 1 {
        return multiply_rows(a, w.squeeze_dim(0));
    }
    a.matmul(w)
}
