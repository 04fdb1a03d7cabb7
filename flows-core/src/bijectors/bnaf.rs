//! The block neural autoregressive map: a network that is monotone in each variable, as a layer.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorCreationOptions, TensorData, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::bijector::{Bijector, Invert, Mapped, assert_ok};
use crate::error::{Error, check_positive};
use crate::expand::{expand, product};
use crate::fused;
use crate::init;
use crate::magnitude::magnitude;
use crate::softplus::softplus;
use crate::solve::{
    Evaluation, bracket, epsilon, monotone_root, with_implicit_gradient, without_graph,
};

/// The name used in error messages and reports.
const NAME: &str = "bnaf";

/// Configuration of a [`Bnaf`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BnafConfig {
    /// Dimension.
    pub dim: usize,
    /// Units of each variable in the hidden layers; at least one layer.
    pub hidden: Vec<usize>,
    /// The activation is the hyperbolic tangent on `[-bound, bound]` and goes on straight outside.
    #[serde(default = "three")]
    pub bound: f64,
    /// Columns of the context, 0 for none.
    #[serde(default)]
    pub context_dim: usize,
}

fn three() -> f64 {
    3.0
}

impl BnafConfig {
    /// Straight beyond 3, without context.
    pub fn new(dim: usize, hidden: impl Into<Vec<usize>>) -> Self {
        Self {
            dim,
            hidden: hidden.into(),
            bound: three(),
            context_dim: 0,
        }
    }

    /// Draws the parameters: `V` from `N(0, 1 / inputs)`, scales 1, biases uniform on `[-1, 1)` in the first layer and 0
    /// in the others, weights of the context `N(0, 1 / context_dim)`.
    ///
    /// # Errors
    /// [`Error::Config`] for a dimension or width of zero, no hidden layer, and a bound that is not positive.
    pub fn init<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<Bnaf<B>, Error> {
        let options = options.into();
        if self.dim == 0 {
            return Err(Error::config(NAME, "dim", 0, "at least 1"));
        }
        if self.hidden.is_empty() || self.hidden.contains(&0) {
            let found = format!("{:?}", self.hidden);
            let expected = "one or more widths of at least 1";
            return Err(Error::config(NAME, "hidden", found, expected));
        }
        check_positive(NAME, "bound", self.bound)?;
        let widths = [&[1], &self.hidden[..], &[1]].concat();
        let mut layers = Vec::with_capacity(widths.len() - 1);
        for (l, pair) in widths.windows(2).enumerate() {
            let [inputs, outputs] = [pair[0] * self.dim, pair[1] * self.dim];
            let std = (inputs as f64).sqrt().recip();
            let weight = init::normal([inputs, outputs], std, options.clone(), rng);
            let bias = match l {
                0 => init::uniform([outputs], -1.0, 1.0, options.clone(), rng),
                _ => init::constant([outputs], 0.0, options.clone()),
            };
            layers.push(BlockLinear {
                weight,
                log_scale: init::constant([outputs], 0.0, options.clone()),
                bias,
            });
        }
        let context = (self.context_dim > 0).then(|| {
            let std = (self.context_dim as f64).sqrt().recip();
            let shape = [self.context_dim, self.dim * self.hidden[0]];
            init::normal(shape, std, options.clone(), rng)
        });
        Ok(Bnaf {
            layers,
            context,
            dim: self.dim,
            bound: self.bound,
        })
    }
}

/// `h W + b` between blocks of units, one block for each variable.
///
/// With `V` equal to `exp(v)` in the blocks on the diagonal, `v` in those from an earlier variable to a later one and 0
/// in the others, column `k` is `W_k = exp(s_k) V_k / |V_k|` (arXiv:1904.04676, section 3.1, eq. 6 to 8).
#[derive(Module, Debug)]
pub struct BlockLinear<B: Backend> {
    /// `v`, `[inputs, outputs]`, where unit `k` of variable `i` is row or column `i a + k`.
    pub weight: Param<Tensor<B, 2>>,
    /// `s`, `[outputs]`.
    pub log_scale: Param<Tensor<B, 1>>,
    /// `b`, `[outputs]`.
    pub bias: Param<Tensor<B, 1>>,
}

/// A layer's weights as they are applied.
struct Applied<B: Backend> {
    /// `W`, `[inputs, outputs]`.
    weight: Tensor<B, 2>,
    /// The logarithms of its blocks on the diagonal, `[dim, a_in, a_out]`.
    log_diagonal: Tensor<B, 3>,
    /// `b`, with the part of the context in the first layer: `[1, outputs]` or `[batch, outputs]`.
    offset: Tensor<B, 2>,
}

impl<B: Backend> BlockLinear<B> {
    fn applied(&self, dim: usize) -> Applied<B> {
        let v = self.weight.val();
        let [inputs, outputs] = v.dims();
        let [a, b] = [inputs / dim, outputs / dim];
        let entries = |of: fn(usize, usize) -> bool| {
            let at = |k: usize| f64::from(u8::from(of(k / outputs / a, k % outputs / b)));
            let entries = (0..inputs * outputs).map(at).collect();
            let data = TensorData::new::<f64, _>(entries, [inputs, outputs]);
            Tensor::<B, 2>::from_data(data, (&v.device(), v.dtype()))
        };
        let (diagonal, earlier) = (entries(|i, j| i == j), entries(|i, j| i < j));
        // Masked before the exponential: elsewhere it would overflow for nothing.
        let own = v.clone() * diagonal.clone();
        let masked = own.clone().exp() * diagonal + v * earlier;
        let norm = masked.clone().square().sum_dim(0).sqrt();
        let scale = self.log_scale.val().unsqueeze::<2>();
        let own: Tensor<B, 3> = own.reshape([dim, a, dim, b]).sum_dim(2).squeeze_dim(2);
        let of_columns = (scale.clone() - norm.clone().log()).reshape([dim, 1, b]);
        Applied {
            weight: masked * (scale.exp() / norm),
            log_diagonal: own + of_columns,
            offset: self.bias.val().unsqueeze(),
        }
    }
}

/// `y_i = f_i(x_i; x_1 .. x_{i-1})` by a network whose units belong to one variable each: they see those of earlier
/// variables freely, and those of their own by positive weights.
///
/// N. De Cao, W. Aziz, I. Titov, *Block Neural Autoregressive Flow*, arXiv:1904.04676. So the Jacobian is triangular, and
/// `dy_i/dx_i` is a product of positive matrices and slopes, accumulated by log-sum-exp (eq. 9 and 10).
///
/// A stack of `tanh`, as in the paper, has a bounded image, and a density through it does not integrate to 1. Here the
/// activation goes on straight where `|a| > bound`, with the slope that `tanh` has there, so that the map is onto.
///
/// The inverse finds one variable after the other, each by a root find in one variable through the units of that variable
/// alone; gradients are those of the implicit function.
#[derive(Module, Debug)]
pub struct Bnaf<B: Backend> {
    /// From the variables to their images.
    pub layers: Vec<BlockLinear<B>>,
    /// Weights of the context, `[context_dim, dim a_1]`.
    pub context: Option<Param<Tensor<B, 2>>>,
    dim: usize,
    bound: f64,
}

/// The units of some blocks, from the first layer to the image, and the log-slopes of the image in its own variables.
struct Units<B: Backend> {
    /// Of each layer, `[batch, blocks a]`; the last is the image.
    layers: Vec<Tensor<B, 2>>,
    /// `[batch, blocks]`.
    log_slope: Tensor<B, 2>,
}

impl<B: Backend> Bnaf<B> {
    fn applied(&self, context: Option<Tensor<B, 2>>) -> Vec<Applied<B>> {
        let layers = self.layers.iter().map(|layer| layer.applied(self.dim));
        let mut layers: Vec<_> = layers.collect();
        if let (Some(weight), Some(context)) = (&self.context, context) {
            layers[0].offset = layers[0].offset.clone() + product(context, weight.val());
        }
        layers
    }

    /// The activation and the logarithm of its slope, elementwise.
    fn activate(&self, a: Tensor<B, 2>) -> (Tensor<B, 2>, Tensor<B, 2>) {
        let inside = a.clone().clamp(-self.bound, self.bound);
        let size = magnitude(inside.clone());
        // log(1 - tanh^2) = 2 (log 2 - a - softplus(-2 a)), even in a.
        let log_slope = (size.clone() + softplus(size * -2.0)) * -2.0 + 2.0 * 2f64.ln();
        let beyond = 1.0 - self.bound.tanh().powi(2);
        let value = fused::tanh(inside.clone()) + (a - inside) * beyond;
        (value, log_slope)
    }

    /// The network between blocks, of all variables or of one.
    ///
    /// # Shapes
    /// - `x`: `[batch, blocks]`; of each layer `weight`: `[blocks a_in, blocks a_out]`, `log_diagonal`:
    ///   `[blocks, a_in, a_out]`, `offset`: `[batch or 1, blocks a_out]`
    fn units(&self, x: Tensor<B, 2>, layers: &[Applied<B>]) -> Units<B> {
        let [batch, blocks] = x.dims();
        let (mut units, mut log_slope) = (Vec::with_capacity(layers.len()), None);
        let mut h = x;
        for (l, layer) in layers.iter().enumerate() {
            let a = product(h, layer.weight.clone()) + layer.offset.clone();
            let [_, inputs, outputs] = layer.log_diagonal.dims();
            let diagonal = layer.log_diagonal.clone().unsqueeze::<4>();
            let through: Tensor<B, 4> = match log_slope {
                None => expand(diagonal, [batch, blocks, inputs, outputs]),
                Some(before) => Tensor::unsqueeze_dim(before, 3) + diagonal,
            };
            let through = log_sum_exp(through);
            (h, log_slope) = if l + 1 == layers.len() {
                (a, Some(through))
            } else {
                let (value, slope) = self.activate(a);
                let slope = slope.reshape([batch, blocks, outputs]);
                (value, Some(through + slope))
            };
            units.push(h.clone());
        }
        let log_slope: Tensor<B, 3> = log_slope.expect("a network has layers");
        Units {
            layers: units,
            log_slope: log_slope.squeeze_dim(2),
        }
    }

    /// The layers of block `i` alone, those before it taken at the units known.
    fn block(
        &self,
        i: usize,
        x: &Tensor<B, 2>,
        known: &[Option<Tensor<B, 2>>],
        layers: &[Applied<B>],
    ) -> Vec<Applied<B>> {
        let of_layer = |(l, layer): (usize, &Applied<B>)| {
            let [_, a, b] = layer.log_diagonal.dims();
            let columns = layer.weight.clone().narrow(1, i * b, b);
            let before = if l == 0 {
                Some(x.clone())
            } else {
                known[l - 1].clone()
            };
            let offset = layer.offset.clone().narrow(1, i * b, b);
            Applied {
                weight: columns.clone().narrow(0, i * a, a),
                log_diagonal: layer.log_diagonal.clone().narrow(0, i, 1),
                offset: match before.filter(|_| i > 0) {
                    Some(before) => product(before, columns.narrow(0, 0, i * a)) + offset,
                    None => offset,
                },
            }
        };
        layers.iter().enumerate().map(of_layer).collect()
    }

    /// The variable of one block from its image, `[batch, 1]`, with the evaluations of the block that it took.
    fn root(&self, block: &[Applied<B>], y: Tensor<B, 2>) -> (Tensor<B, 2>, usize) {
        let fixed: Vec<_> = block.iter().map(Applied::without_graph).collect();
        let target = without_graph(y.clone());
        let epsilon = epsilon(y.dtype());
        let image = |units: Units<B>| units.layers.into_iter().last().expect("an image");
        let (low, high) = bracket(|x| image(self.units(x, &fixed)), &target);
        let evaluation = |x: Tensor<B, 2>| {
            let units = self.units(x.clone(), &fixed);
            let slope = units.log_slope.clone().exp();
            let value = image(units);
            let size = magnitude(value.clone()) + magnitude(target.clone()) + 1.0;
            let rounding = (size + magnitude(x) * slope.clone()) * epsilon;
            Evaluation {
                value: value - target.clone(),
                slope,
                rounding,
            }
        };
        let root = monotone_root(evaluation, low, high);
        let slope = self.units(root.x.clone(), &fixed).log_slope.exp();
        let above = image(self.units(root.x.clone(), block)) - y;
        (
            with_implicit_gradient(root.x, above, slope),
            root.iterations,
        )
    }
}

impl<B: Backend> Applied<B> {
    fn without_graph(&self) -> Self {
        Self {
            weight: without_graph(self.weight.clone()),
            log_diagonal: without_graph(self.log_diagonal.clone()),
            offset: without_graph(self.offset.clone()),
        }
    }
}

/// `log sum_k exp x_k` over the third axis of `[batch, blocks, k, outputs]`.
fn log_sum_exp<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 3> {
    if x.dims()[2] == 1 {
        return x.squeeze_dim(2);
    }
    let largest = without_graph(x.clone().max_dim(2));
    let sum = (x - largest.clone()).exp().sum_dim(2);
    (sum.log() + largest).squeeze_dim(2)
}

impl<B: Backend> Bijector<B> for Bnaf<B> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn context_dim(&self) -> usize {
        self.context.as_ref().map_or(0, |weight| weight.dims()[0])
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&x, context.as_ref()));
        if x.dims()[0] == 0 {
            return Mapped::volume_preserving(x);
        }
        let Units { layers, log_slope } = self.units(x, &self.applied(context));
        Mapped {
            value: layers.into_iter().last().expect("an image"),
            log_det: log_slope.sum_dim(1).squeeze_dim(1),
        }
    }
}

impl<B: Backend> Invert<B> for Bnaf<B> {
    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        self.inverse_and_passes(y, context).0
    }

    /// A pass is one evaluation of the units of every variable: the most that any of the root finds took.
    fn inverse_and_passes(
        &self,
        y: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (Mapped<B>, usize) {
        assert_ok(self.check(&y, context.as_ref()));
        if y.dims()[0] == 0 {
            return (Mapped::volume_preserving(y), 0);
        }
        let layers = self.applied(context);
        let mut known: Vec<Option<Tensor<B, 2>>> = vec![None; layers.len()];
        let mut x: Option<Tensor<B, 2>> = None;
        let (mut log_slopes, mut passes) = (Vec::with_capacity(self.dim), 0);
        let join = |before: Option<Tensor<B, 2>>, next| match before {
            Some(before) => Tensor::cat(vec![before, next], 1),
            None => next,
        };
        for i in 0..self.dim {
            let before = x.clone().unwrap_or_else(|| y.clone());
            let block = self.block(i, &before, &known, &layers);
            let (root, iterations) = self.root(&block, y.clone().narrow(1, i, 1));
            passes = passes.max(iterations);
            let units = self.units(root.clone(), &block);
            for (known, next) in known.iter_mut().zip(units.layers) {
                *known = Some(join(known.take(), next));
            }
            log_slopes.push(units.log_slope);
            x = Some(join(x, root));
        }
        let log_det = Tensor::cat(log_slopes, 1).sum_dim(1).neg();
        let mapped = Mapped {
            value: x.expect("at least one variable"),
            log_det: log_det.squeeze_dim(1),
        };
        (mapped, passes)
    }
}
