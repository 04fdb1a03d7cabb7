//! One network for the parameters of all variables, asked for one variable at a time.

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::mlp::{Mlp, MlpConfig};
use super::network::{ConditionerActivation, Connections};
use crate::error::Error;
use crate::expand::expand;
use crate::masks::DependencyMask;

/// How a [`SharedNetwork`] is told whose parameters it is asked for.
///
/// The masked input alone does not say: a variable that is hidden and one that is 0 look the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// The one-hot vector of the variable.
    #[default]
    Index,
    /// The variable's row of the mask. Variables with the same row get the same parameters, as all
    /// moved variables of a coupling do.
    MaskRow,
}

/// Configuration of a [`SharedNetwork`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedNetworkConfig {
    /// Number of variables.
    pub dim: usize,
    /// Widths of the hidden layers; none makes the network linear.
    pub hidden: Vec<usize>,
    /// Parameters of each variable.
    pub parameters: usize,
    /// How the network is told whose parameters it is asked for.
    #[serde(default)]
    pub encoding: Encoding,
    /// Activation of the hidden layers.
    #[serde(default)]
    pub activation: ConditionerActivation,
    /// Plain layers or residual blocks.
    #[serde(default)]
    pub connections: Connections,
    /// Columns of the context, 0 for none.
    #[serde(default)]
    pub context_dim: usize,
}

impl SharedNetworkConfig {
    /// Two parameters for each variable, told by index, plain rectified linear layers, no context.
    pub fn new(dim: usize, hidden: Vec<usize>) -> Self {
        Self {
            dim,
            hidden,
            parameters: 2,
            encoding: Encoding::default(),
            activation: ConditionerActivation::default(),
            connections: Connections::default(),
            context_dim: 0,
        }
    }

    /// Draws a network whose output is small.
    ///
    /// # Errors
    /// [`Error::Config`] for a size of 0.
    pub fn init<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<SharedNetwork<B>, Error> {
        let options = &options.into();
        let dim = self.dim;
        let network = MlpConfig {
            activation: self.activation,
            connections: self.connections,
            context_dim: self.context_dim,
            ..MlpConfig::new(2 * dim, self.hidden.clone(), self.parameters)
        };
        let identity = (0..dim * dim).map(|k| if k % (dim + 1) == 0 { 1.0 } else { 0.0 });
        let identity = TensorData::new(identity.collect::<Vec<f64>>(), [dim, dim]);
        Ok(SharedNetwork {
            network: network.init(options.clone(), rng)?,
            one_hot: match self.encoding {
                Encoding::Index => Some(Tensor::from_data(identity, options.clone())),
                Encoding::MaskRow => None,
            },
            dim,
        })
    }
}

/// `p_i = f([m_i * x ; e_i], context)` with one network `f` for every variable `i`: `m_i` is row `i` of
/// a mask, `e_i` its [`Encoding`].
///
/// The parameters of all variables cost `dim` evaluations of a network that gives those of one; a
/// subset costs its share. The mask is an argument, so that it may be learned.
#[derive(Module, Debug)]
pub struct SharedNetwork<B: Backend> {
    network: Mlp<B>,
    /// The identity, `[dim, dim]`; none where the mask's row is the encoding.
    one_hot: Option<Tensor<B, 2>>,
    dim: usize,
}

impl<B: Backend> SharedNetwork<B> {
    /// Number of variables.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Columns of the context, 0 for none.
    pub fn context_dim(&self) -> usize {
        self.network.context_dim()
    }

    /// Parameters of each variable.
    pub fn parameters(&self) -> usize {
        self.network.outputs()
    }

    /// Where its parameters are.
    pub(crate) fn options(&self) -> TensorCreationOptions<B> {
        self.network.options()
    }

    /// The weights that read the visible variables, `[dim, width]`.
    pub(crate) fn reading_weights(&self) -> Tensor<B, 2> {
        let weight = self.network.first_weight();
        let width = weight.dims()[1];
        // The other rows read what tells of the variable that is asked for.
        weight.slice([0..self.dim, 0..width])
    }

    /// How the network is told whose parameters it is asked for.
    pub fn encoding(&self) -> Encoding {
        match self.one_hot {
            Some(_) => Encoding::Index,
            None => Encoding::MaskRow,
        }
    }

    /// Adds `offsets[p]` to the bias of parameter `p`.
    pub(crate) fn shift_output_bias(self, offsets: &[f64]) -> Self {
        let network = self.network.shift_output_bias(offsets.to_vec());
        Self { network, ..self }
    }

    /// What tells the network of each variable, `[dim, dim]`.
    fn codes(&self, mask: &Tensor<B, 2>) -> Tensor<B, 2> {
        self.one_hot.clone().unwrap_or_else(|| mask.clone())
    }

    /// The parameters of `variables`, or of all.
    ///
    /// # Shapes
    /// - `x`: `[batch, dim]`, `mask`: `[dim, dim]`, `context`: `[batch, context_dim]`
    /// - output: `[batch, parameters * n]` for `n` variables, column `p * n + k` being parameter `p` of the
    ///   `k`-th of them
    pub fn forward(
        &self,
        x: Tensor<B, 2>,
        mask: Tensor<B, 2>,
        variables: Option<&[usize]>,
        context: Option<&Tensor<B, 2>>,
    ) -> Tensor<B, 2> {
        let rows = x.dims()[0];
        let (mut codes, mut mask) = (self.codes(&mask), mask);
        if let Some(variables) = variables {
            let indices: Vec<i64> = variables.iter().map(|&i| i as i64).collect();
            let indices = TensorData::new(indices, [variables.len()]);
            let indices = Tensor::from_data(indices, &x.device());
            codes = codes.select(0, indices.clone());
            mask = mask.select(0, indices);
        }
        let n = mask.dims()[0];
        let visible = x.unsqueeze_dim::<3>(1) * mask.unsqueeze_dim::<3>(0);
        let codes = expand(codes.unsqueeze_dim::<3>(0), [rows, n, self.dim]);
        let input = Tensor::cat(vec![visible, codes], 2).reshape([rows * n, 2 * self.dim]);
        let context = context.map(|c| {
            let columns = c.dims()[1];
            let each = expand(c.clone().unsqueeze_dim::<3>(1), [rows, n, columns]);
            each.reshape([rows * n, columns])
        });
        let kinds = self.parameters();
        let raw = self.network.forward(input, context.as_ref());
        raw.reshape([rows, n, kinds])
            .swap_dims(1, 2)
            .reshape([rows, kinds * n])
    }
}

/// The entries of a mask as 0 and 1, `[dim, dim]`.
pub(crate) fn entries<B: Backend>(
    mask: &DependencyMask,
    options: TensorCreationOptions<B>,
) -> Tensor<B, 2> {
    let dim = mask.dim();
    let entry = |k: usize| f64::from(u8::from(mask.sees(k / dim, k % dim)));
    let entries = (0..dim * dim).map(entry).collect::<Vec<_>>();
    Tensor::from_data(TensorData::new(entries, [dim, dim]), options)
}
