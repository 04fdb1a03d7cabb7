//! The weight matrices of a velocity field, shared by all rows or updated row by row.

use burn::module::{Module, Param};
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Int, Tensor, backend::Backend};
use rand::Rng;

use crate::expand::product;
use crate::init;

/// Makes the update `U(c) V(c)` of a weight matrix from the context.
///
/// Both factors are linear in the context `c` of the row: `U(c) = c P`, `V(c) = c Q`, the rows of the
/// products read as matrices. Updates of low rank instead of whole matrices: with those, FFJORD
/// (arXiv:1810.01367, section 4.2) found the dynamics too stiff to train.
#[derive(Module, Debug)]
pub struct LowRankUpdate<B: Backend> {
    /// `P`, `[context_dim, fan_in * rank]`.
    pub into: Param<Tensor<B, 2>>,
    /// `Q`, `[context_dim, rank * fan_out]`.
    pub out_of: Param<Tensor<B, 2>>,
    rank: usize,
}

impl<B: Backend> LowRankUpdate<B> {
    /// Draws `P` and `Q` such that `U(c)` has entries `N(0, 1 / fan_in)` and `V(c)` `N(0, scale^2 / rank)`
    /// for a standard normal context.
    pub(super) fn init(
        [fan_in, fan_out]: [usize; 2],
        context_dim: usize,
        rank: usize,
        scale: f64,
        options: &TensorCreationOptions<B>,
        rng: &mut dyn Rng,
    ) -> Self {
        let into_std = ((context_dim * fan_in) as f64).sqrt().recip();
        let out_of_std = scale / ((context_dim * rank) as f64).sqrt();
        Self {
            into: init::normal([context_dim, fan_in * rank], into_std, options.clone(), rng),
            out_of: init::normal(
                [context_dim, rank * fan_out],
                out_of_std,
                options.clone(),
                rng,
            ),
            rank,
        }
    }

    /// Rank of the update.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// `U(c)` and `V(c)` of every row.
    fn factors(&self, context: Tensor<B, 2>) -> Factors<B> {
        let n = context.dims()[0];
        let fan_in = self.into.dims()[1] / self.rank;
        let fan_out = self.out_of.dims()[1] / self.rank;
        let into = product(context.clone(), self.into.val());
        let out_of = product(context, self.out_of.val());
        Factors {
            u: into.reshape([n, fan_in, self.rank]),
            v: out_of.reshape([n, self.rank, fan_out]),
        }
    }
}

/// `U` and `V` of every row, `[n, fan_in, rank]` and `[n, rank, fan_out]`.
#[derive(Debug, Clone)]
struct Factors<B: Backend> {
    u: Tensor<B, 3>,
    v: Tensor<B, 3>,
}

impl<B: Backend> Factors<B> {
    fn map(&self, f: impl Fn(Tensor<B, 3>) -> Tensor<B, 3>) -> Self {
        Self {
            u: f(self.u.clone()),
            v: f(self.v.clone()),
        }
    }
}

/// `W_r = W + U_r V_r`, the matrix that row `r` is multiplied with; `W` alone without an update.
#[derive(Debug, Clone)]
pub(crate) struct FieldWeight<B: Backend> {
    shared: Tensor<B, 2>,
    update: Option<Factors<B>>,
}

impl<B: Backend> FieldWeight<B> {
    pub(super) fn new(
        shared: Tensor<B, 2>,
        update: Option<&LowRankUpdate<B>>,
        context: Option<&Tensor<B, 2>>,
    ) -> Self {
        let update = update.zip(context).map(|(u, c)| u.factors(c.clone()));
        Self { shared, update }
    }

    /// `[fan_in, fan_out]`.
    pub(super) fn dims(&self) -> [usize; 2] {
        self.shared.dims()
    }

    /// Whether all rows have the same matrix.
    pub(super) fn is_shared(&self) -> bool {
        self.update.is_none()
    }

    /// Number of rows, where each has a matrix of its own.
    pub(super) fn rows_of_update(&self) -> Option<usize> {
        self.update.as_ref().map(|factors| factors.u.dims()[0])
    }

    /// `W`, where all rows have the same matrix.
    pub(super) fn shared(&self) -> Option<Tensor<B, 2>> {
        self.is_shared().then(|| self.shared.clone())
    }

    /// `W_r` of all rows, `[n, fan_in, fan_out]`, or `[1, fan_in, fan_out]` where they are the same.
    pub(super) fn matrices(&self) -> Tensor<B, 3> {
        let shared = self.shared.clone().unsqueeze::<3>();
        match &self.update {
            None => shared,
            Some(Factors { u, v }) => u.clone().matmul(v.clone()) + shared,
        }
    }

    /// `s W_r`.
    pub(super) fn scaled(self, s: f64) -> Self {
        let scale_v = |f: Factors<B>| Factors { v: f.v * s, ..f };
        Self {
            shared: self.shared * s,
            update: self.update.map(scale_v),
        }
    }

    /// `a_r W_r` row by row.
    ///
    /// # Shapes
    /// - `a`: `[n, fan_in]`; output `[n, fan_out]`
    pub(super) fn apply(&self, a: Tensor<B, 2>) -> Tensor<B, 2> {
        let Some(Factors { u, v }) = &self.update else {
            return product(a, self.shared.clone());
        };
        let low = product(a.clone().unsqueeze_dim::<3>(1), u.clone());
        product(a, self.shared.clone()) + product(low, v.clone()).squeeze_dim(1)
    }

    /// `c_r W_r^T` row by row.
    ///
    /// # Shapes
    /// - `c`: `[n, fan_out]`; output `[n, fan_in]`
    pub(super) fn apply_transposed(&self, c: Tensor<B, 2>) -> Tensor<B, 2> {
        let shared = self.shared.clone().transpose();
        let Some(Factors { u, v }) = &self.update else {
            return c.matmul(shared);
        };
        let low = c.clone().unsqueeze_dim::<3>(1);
        let low = low.matmul(v.clone().swap_dims(1, 2));
        c.matmul(shared) + low.matmul(u.clone().swap_dims(1, 2)).squeeze_dim(1)
    }

    /// `A_r W_r` for a matrix a row.
    ///
    /// # Shapes
    /// - `a`: `[n, k, fan_in]`; output `[n, k, fan_out]`
    pub(super) fn apply_to_matrices(&self, a: Tensor<B, 3>) -> Tensor<B, 3> {
        let product = multiply_rows(a.clone(), self.shared.clone());
        match &self.update {
            None => product,
            Some(Factors { u, v }) => product + a.matmul(u.clone()).matmul(v.clone()),
        }
    }

    /// The updates of `n` points that are those of the rows, over and over.
    pub(super) fn tiled_to(&self, n: usize) -> Self {
        self.map_update(|t| match n / t.dims()[0].max(1) {
            0 | 1 => t,
            times => Tensor::cat(vec![t; times], 0),
        })
    }

    /// The updates of these rows.
    pub(super) fn rows(&self, rows: Tensor<B, 1, Int>) -> Self {
        self.map_update(|t| t.select(0, rows.clone()))
    }

    /// The updates of the first `n` rows.
    pub(super) fn first(&self, n: usize) -> Self {
        self.map_update(|t| t.narrow(0, 0, n))
    }

    /// The same values outside the autodiff graph.
    pub(super) fn constant(&self) -> Self {
        Self {
            shared: constant(self.shared.clone()),
            update: self.update.as_ref().map(|f| f.map(constant)),
        }
    }

    fn map_update(&self, f: impl Fn(Tensor<B, 3>) -> Tensor<B, 3>) -> Self {
        Self {
            shared: self.shared.clone(),
            update: self.update.as_ref().map(|factors| factors.map(f)),
        }
    }
}

/// `a[r] w` for all `r`, as one product of matrices.
pub(super) fn multiply_rows<B: Backend>(a: Tensor<B, 3>, w: Tensor<B, 2>) -> Tensor<B, 3> {
    let [n, rows, inner] = a.dims();
    let columns = w.dims()[1];
    a.reshape([n * rows, inner])
        .matmul(w)
        .reshape([n, rows, columns])
}

/// The values of a tensor, outside the autodiff graph.
pub(crate) fn constant<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Tensor<B, D> {
    // `detach` alone turns a parameter into a new leaf that still asks for a gradient.
    tensor.detach().set_require_grad(false)
}
