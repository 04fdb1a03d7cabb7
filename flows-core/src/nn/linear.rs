//! One linear layer of a conditioner network.

use burn::module::{Module, Param};
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use super::columns::pick;
use crate::expand::product;
use crate::fused::plan::{Linear, Offset};
use crate::init::{self, options_of};
use crate::masks::WeightMask;

/// `y = x (W o M) + c C + b` with an optional 0/1 mask `M` and optional context weights `C`.
///
/// Weights outside the mask are zero from the start and get no gradient.
#[derive(Module, Debug)]
pub struct NetworkLinear<B: Backend> {
    /// `[inputs, outputs]`.
    weight: Param<Tensor<B, 2>>,
    /// `[outputs]`.
    bias: Param<Tensor<B, 1>>,
    /// `[context_dim, outputs]`.
    context: Option<Param<Tensor<B, 2>>>,
    /// `[inputs, outputs]`.
    mask: Option<Tensor<B, 2>>,
}

impl<B: Backend> NetworkLinear<B> {
    /// Draws weights with standard deviation `gain / sqrt(inputs that the unit may read)`, and
    /// biases uniform within `+-bias_gain / sqrt(..)` of the same.
    pub(super) fn init(
        mask: &WeightMask,
        context_dim: usize,
        gain: f64,
        bias_gain: f64,
        options: &TensorCreationOptions<B>,
        rng: &mut dyn Rng,
    ) -> Self {
        let fan_in = mask.fan_in();
        let scales = fan_in.iter().map(|n| 1.0 / (*n.max(&1) as f64).sqrt());
        let scales: Vec<f64> = scales.collect();
        let draw = |k: usize, rng: &mut dyn Rng| {
            let z: f64 = StandardNormal.sample(rng);
            gain * scales[k % mask.outputs] * z
        };
        let entries = mask.entries.iter().enumerate();
        let weight = entries.map(|(k, &open)| if open { draw(k, rng) } else { 0.0 });
        let weight = TensorData::new(weight.collect(), [mask.inputs, mask.outputs]);
        let bias = init::uniform_tensor::<B, 1>([mask.outputs], -1.0, 1.0, options.clone(), rng);
        let scales = TensorData::new(scales, [mask.outputs]);
        let bias = bias * Tensor::from_data(scales, options.clone()) * bias_gain;
        let context = (context_dim > 0).then(|| {
            let std = gain / (context_dim as f64).sqrt();
            init::normal([context_dim, mask.outputs], std, options.clone(), rng)
        });
        Self {
            weight: Param::from_tensor(Tensor::from_data(weight, options.clone())),
            bias: Param::from_tensor(bias),
            context,
            mask: mask_tensor(mask, options.clone()),
        }
    }

    /// A layer with given parameters; weights outside the mask are set to zero.
    pub(super) fn from_parameters(
        weight: Tensor<B, 2>,
        bias: Tensor<B, 1>,
        context: Option<Tensor<B, 2>>,
        mask: &WeightMask,
    ) -> Self {
        let mask = mask_tensor(mask, options_of(&weight));
        let weight = match &mask {
            Some(mask) => weight * mask.clone(),
            None => weight,
        };
        Self {
            weight: Param::from_tensor(weight),
            bias: Param::from_tensor(bias),
            context: context.map(Param::from_tensor),
            mask,
        }
    }

    /// The layer with its inputs and outputs in another order and under another mask.
    pub(super) fn reordered(
        &self,
        rows: Option<&[usize]>,
        columns: Option<&[usize]>,
        mask: &WeightMask,
    ) -> Self {
        let by_columns = |x: Tensor<B, 2>| match columns {
            Some(columns) => pick(x, columns),
            None => x,
        };
        let weight = match rows {
            Some(rows) => pick(self.weight().transpose(), rows).transpose(),
            None => self.weight(),
        };
        let context = self.context.as_ref().map(|c| by_columns(c.val()).detach());
        let bias = by_columns(self.bias.val().unsqueeze()).squeeze_dim(0);
        Self::from_parameters(by_columns(weight).detach(), bias.detach(), context, mask)
    }

    /// Adds `offsets` to the bias, for a start near the identity.
    pub(super) fn shift_bias(self, offsets: Vec<f64>) -> Self {
        let bias = self.bias.val();
        let data = TensorData::new(offsets, bias.dims());
        let shifted = bias.clone() + Tensor::from_data(data, options_of(&bias));
        Self {
            // A new leaf: a sum would not be trained.
            bias: Param::from_tensor(shifted.detach()),
            ..self
        }
    }

    /// The weights, zero outside the mask, `[inputs, outputs]`.
    pub fn weight(&self) -> Tensor<B, 2> {
        match &self.mask {
            Some(mask) => self.weight.val() * mask.clone(),
            None => self.weight.val(),
        }
    }

    /// The layer for the kernels, with its weights as they are stored: the products leave out what lies outside
    /// the mask.
    pub(super) fn linear(&self, context: Option<&Tensor<B, 2>>) -> Linear<B> {
        let offset = match (&self.context, context) {
            (Some(_), Some(_)) => Offset::Rows(self.offset(context)),
            _ => Offset::Bias(self.bias.val()),
        };
        Linear {
            weight: self.weight.val(),
            offset,
        }
    }

    /// The biases, `[outputs]`.
    pub fn bias(&self) -> Tensor<B, 1> {
        self.bias.val()
    }

    /// What the layer adds to `x W`: `c C + b`, `[batch, outputs]`, or `[1, outputs]` where the
    /// layer reads no context.
    pub(super) fn offset(&self, context: Option<&Tensor<B, 2>>) -> Tensor<B, 2> {
        let bias = self.bias.val().unsqueeze::<2>();
        match (&self.context, context) {
            (Some(weight), Some(context)) => product(context.clone(), weight.val()) + bias,
            _ => bias,
        }
    }

    /// Applies the layer.
    ///
    /// # Shapes
    /// - `x`: `[batch, inputs]`, `context`: `[batch, context_dim]`
    /// - output: `[batch, outputs]`
    pub fn forward(&self, x: Tensor<B, 2>, context: Option<&Tensor<B, 2>>) -> Tensor<B, 2> {
        self.forward_by(self.weight(), x, context)
    }

    /// The same with other weights.
    pub(super) fn forward_by(
        &self,
        weight: Tensor<B, 2>,
        x: Tensor<B, 2>,
        context: Option<&Tensor<B, 2>>,
    ) -> Tensor<B, 2> {
        product(x, weight) + self.offset(context)
    }
}

fn mask_tensor<B: Backend>(
    mask: &WeightMask,
    options: TensorCreationOptions<B>,
) -> Option<Tensor<B, 2>> {
    if mask.entries.iter().all(|open| *open) {
        return None;
    }
    let entries = mask.entries.iter().map(|open| f64::from(u8::from(*open)));
    let data = TensorData::new(entries.collect(), [mask.inputs, mask.outputs]);
    Some(Tensor::from_data(data, options))
}
