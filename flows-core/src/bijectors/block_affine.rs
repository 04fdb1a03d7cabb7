//! The affine layer with a block-triangular Jacobian whose diagonal blocks are dense.

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use crate::bijector::{Bijector, Invert, Mapped, assert_ok};
use crate::error::{Error, check_positive};
use crate::masks::{DependencyMask, MaskConfig};
use crate::nn::{ConditionerActivation, Connections, Made, MadeConfig, MadeSweep, sort, unsort};
use crate::transforms::{Affine, LogScale, Transform};

/// Configuration of a [`BlockAffine`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockAffineConfig {
    /// Dimension.
    pub dim: usize,
    /// Widths of the hidden layers of the conditioner; none makes it linear.
    pub hidden: Vec<usize>,
    /// The members of each block; a block sees those before it.
    pub blocks: Vec<Vec<usize>>,
    /// Largest absolute value of the entries of `L` and `U` off their diagonals.
    #[serde(default = "one")]
    pub bound: f64,
    /// Activation of the conditioner.
    #[serde(default)]
    pub activation: ConditionerActivation,
    /// Plain layers or residual blocks.
    #[serde(default)]
    pub connections: Connections,
    /// Columns of the context, 0 for none.
    #[serde(default)]
    pub context_dim: usize,
    /// Parameterization of the diagonal.
    #[serde(default)]
    pub scale: LogScale,
}

fn one() -> f64 {
    1.0
}

impl BlockAffineConfig {
    /// Entries of the triangular factors up to 1, plain rectified linear layers, no context.
    pub fn new(dim: usize, hidden: Vec<usize>, blocks: Vec<Vec<usize>>) -> Self {
        Self {
            dim,
            hidden,
            blocks,
            bound: one(),
            activation: ConditionerActivation::default(),
            connections: Connections::default(),
            context_dim: 0,
            scale: LogScale::default(),
        }
    }

    /// Draws a layer near the identity.
    ///
    /// # Errors
    /// [`Error::Config`] for fields out of range.
    pub fn init<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<BlockAffine<B>, Error> {
        self.scale.validate(NAME)?;
        check_positive(NAME, "bound", self.bound)?;
        let mut start = Transform::<B>::identity(&Affine::from(self.scale));
        let widest = self.blocks.iter().map(Vec::len).max().unwrap_or(1).max(1);
        let conditioner = MadeConfig {
            mask: MaskConfig::Blocks(self.blocks.clone()),
            parameters: start.len() + widest - 1,
            activation: self.activation,
            connections: self.connections,
            context_dim: self.context_dim,
            ..MadeConfig::new(self.dim, self.hidden.clone())
        };
        let conditioner = conditioner.init(options, rng)?;
        // Not quite the identity: a first block that sees nothing would be diagonal.
        start.extend((1..widest).map(|_| {
            let z: f64 = StandardNormal.sample(rng);
            0.1 * z
        }));
        Ok(BlockAffine {
            conditioner: conditioner.shift_output_bias(&start),
            bound: self.bound,
            scale: self.scale,
        })
    }
}

const NAME: &str = "block affine";

/// `y_k = L_k (D_k U_k x_k + t_k)` for each block `k` of variables, all four computed from the blocks
/// before it: `L_k` and `U_k` unit triangular, `D_k = diag(exp(a_k))`.
///
/// The Jacobian is block-triangular with the dense blocks `A_k = L_k D_k U_k` on its diagonal:
/// `log|det J| = sum a`. The inverse of a block is two triangular solves, and one block after the other
/// costs one pass of the network. Factors with bounded entries keep every `A_k` far from singular.
///
/// From one block, a linear map that only a context changes, to blocks of one variable, which
/// [`Autoregressive`](super::Autoregressive) does with less work. A block's members keep their natural order in
/// the factors.
#[derive(Module, Debug)]
pub struct BlockAffine<B: Backend> {
    /// Parameters of a variable: those of the scale, then its row of `L` and `U` without the diagonal.
    conditioner: Made<B>,
    bound: f64,
    #[module(skip)]
    scale: LogScale,
}

/// The map of one block for each row of a batch.
struct Block<B: Backend> {
    affine: Affine,
    /// Of the affine map, `[batch, parameters, b]`.
    raw: Tensor<B, 3>,
    /// `L - I` and `U - I`, `[batch, b, b]`; none for a single variable.
    factors: Option<[Tensor<B, 3>; 2]>,
}

impl<B: Backend> BlockAffine<B> {
    /// The mask: which variables the parameters of each may see. The variables of its own block, which
    /// output `i` depends on as well, are not among them.
    pub fn mask(&self) -> &DependencyMask {
        self.conditioner.layout().mask()
    }

    /// The map of a block of `b` variables from their parameters `[batch, parameters * b]`, all of the
    /// first kind, then all of the second.
    fn block(&self, raw: Tensor<B, 2>, b: usize) -> Block<B> {
        let rows = raw.dims()[0];
        let kinds = self.scale.parameters();
        let affine = raw.clone().slice([0..rows, 0..kinds * b]);
        let affine = affine.reshape([rows, kinds, b]);
        let factors = (b > 1).then(|| {
            let off = raw.slice([0..rows, kinds * b..(kinds + b - 1) * b]);
            let off = (off * self.bound.recip()).tanh() * self.bound;
            // Row `r` without its diagonal: column `c` is entry `c` below, entry `c - 1` above.
            let off = off.reshape([rows, b - 1, b]).swap_dims(1, 2);
            let zeros = off.clone().slice([0..rows, 0..b, 0..1]).zeros_like();
            let below = Tensor::cat(vec![off.clone(), zeros.clone()], 2);
            let above = Tensor::cat(vec![zeros, off], 2);
            [below.tril(-1), above.triu(1)]
        });
        Block {
            affine: self.scale.into(),
            raw: affine,
            factors,
        }
    }
}

impl<B: Backend> Block<B> {
    fn forward(self, x: Tensor<B, 2>) -> Mapped<B> {
        let affine = |x| self.affine.forward(self.raw.clone(), x).into_mapped();
        let Some([lower, upper]) = self.factors else {
            return affine(x);
        };
        let mapped = affine(x.clone() + apply(upper, x));
        Mapped {
            value: mapped.value.clone() + apply(lower, mapped.value),
            ..mapped
        }
    }

    fn inverse(self, y: Tensor<B, 2>) -> Mapped<B> {
        let affine = |y| self.affine.inverse(self.raw.clone(), y).into_mapped();
        let Some([lower, upper]) = self.factors else {
            return affine(y);
        };
        let b = y.dims()[1];
        let mapped = affine(solve(lower, y, 0..b));
        Mapped {
            value: solve(upper, mapped.value, (0..b).rev()),
            ..mapped
        }
    }
}

/// `m x` row by row.
fn apply<B: Backend>(m: Tensor<B, 3>, x: Tensor<B, 2>) -> Tensor<B, 2> {
    (m * x.unsqueeze_dim::<3>(1)).sum_dim(2).squeeze_dim(2)
}

/// The `z` with `z + strict z = y`, whose entries become known in the order given.
fn solve<B: Backend>(
    strict: Tensor<B, 3>,
    y: Tensor<B, 2>,
    order: impl Iterator<Item = usize>,
) -> Tensor<B, 2> {
    let [rows, b] = y.dims();
    // Entries not known yet are zero, and so are their coefficients.
    let mut z: Vec<Tensor<B, 2>> = vec![y.clone().slice([0..rows, 0..1]).zeros_like(); b];
    for r in order {
        let coefficients = strict.clone().slice([0..rows, r..r + 1, 0..b]);
        let known = Tensor::cat(z.clone(), 1);
        let sum = (coefficients.squeeze_dim::<2>(1) * known).sum_dim(1);
        z[r] = y.clone().slice([0..rows, r..r + 1]) - sum;
    }
    Tensor::cat(z, 1)
}

impl<B: Backend> Bijector<B> for BlockAffine<B> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn dim(&self) -> usize {
        self.conditioner.dim()
    }

    fn context_dim(&self) -> usize {
        self.conditioner.context_dim()
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&x, context.as_ref()));
        let raw = self.conditioner.forward(x.clone(), context.as_ref());
        let (dim, device) = (self.dim(), x.device());
        let mut values = Vec::new();
        let mut log_det: Option<Tensor<B, 1>> = None;
        for block in self.mask().variables_by_level() {
            let kinds = 0..self.conditioner.parameters();
            let columns = kinds.flat_map(|p| block.iter().map(move |&i| (p * dim + i) as i64));
            let columns: Vec<i64> = columns.collect();
            let shape = [columns.len()];
            let columns = Tensor::from_data(TensorData::new(columns, shape), &device);
            let own: Vec<i64> = block.iter().map(|&i| i as i64).collect();
            let own = Tensor::from_data(TensorData::new(own, [block.len()]), &device);
            let map = self.block(raw.clone().select(1, columns), block.len());
            let mapped = map.forward(x.clone().select(1, own));
            values.push(mapped.value);
            log_det = Some(match log_det {
                Some(sum) => sum + mapped.log_det,
                None => mapped.log_det,
            });
        }
        Mapped {
            value: unsort(Tensor::cat(values, 1), &self.mask().order()),
            log_det: log_det.expect("a mask has at least one block"),
        }
    }
}

impl<B: Backend> Invert<B> for BlockAffine<B> {
    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&y, context.as_ref()));
        let rows = y.dims()[0];
        let y = sort(y, &self.mask().order());
        let mut sweep = MadeSweep::new(&self.conditioner, rows, context.as_ref());
        let mut log_det: Option<Tensor<B, 1>> = None;
        for own in sweep.variables().to_vec() {
            let map = self.block(sweep.parameters(), own.len());
            let mapped = map.inverse(y.clone().slice([0..rows, own]));
            sweep.reveal(mapped.value);
            log_det = Some(match log_det {
                Some(sum) => sum + mapped.log_det,
                None => mapped.log_det,
            });
        }
        Mapped {
            value: unsort(sweep.into_sorted(), &self.mask().order()),
            log_det: log_det.expect("a mask has at least one block"),
        }
    }
}
