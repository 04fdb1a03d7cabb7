//! Velocity fields: dense networks from `R^dim` to `R^dim` with smooth activations.

use burn::module::{Module, Param};
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::bound_field::BoundField;
use super::field_weight::{FieldWeight, LowRankUpdate};
use super::linearization::Linearization;
use super::lipschitz::bounded;
use crate::bijector::{assert_ok, check_context, check_shapes};
use crate::error::{Error, check_positive};
use crate::expand::product;
use crate::init;
use crate::nn::Activation;

/// The name used in error messages.
const NAME: &str = "velocity field";

/// Configuration of a [`VelocityField`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VelocityFieldConfig {
    /// Dimension of the space the field lives in.
    pub dim: usize,
    /// Widths of the hidden layers, from input to output; at least one.
    pub hidden: Vec<usize>,
    /// Activation of every hidden layer.
    #[serde(default)]
    pub activation: Activation,
    /// Columns of the context, 0 for a field without.
    #[serde(default)]
    pub context_dim: usize,
    /// Rank of the update that the context gives to every weight matrix, 0 for none; the context
    /// then moves the first biases only.
    #[serde(default)]
    pub context_rank: usize,
    /// Whether the field depends on time, `v(x, t)`.
    #[serde(default)]
    pub time_dependent: bool,
    /// A bound on the Lipschitz constant of the field in `x`, which holds whatever the parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lipschitz: Option<f64>,
}

impl VelocityFieldConfig {
    /// A stationary tanh field without context.
    pub fn new(dim: usize, hidden: impl Into<Vec<usize>>) -> Self {
        Self {
            dim,
            hidden: hidden.into(),
            activation: Activation::default(),
            context_dim: 0,
            context_rank: 0,
            time_dependent: false,
            lipschitz: None,
        }
    }

    /// Draws the parameters.
    ///
    /// With `h_l` the widths and `h_0 = dim`: weights of the first hidden layer
    /// `N(0, 1 / dim)` and its biases `N(0, 1)`, so that units switch at scattered places of a
    /// standardized data set; further hidden layers `N(0, 1 / h_{l-1})` with zero biases; output
    /// weights `N(0, (0.1)^2 / h_L)` and zero output biases, so that a block begins close to the
    /// identity; context weights `N(0, 1 / context_dim)`; weights of time `N(0, 1)`. Updates of a
    /// standard normal context change the output of a hidden layer by about a tenth, that of the
    /// output layer by a hundredth.
    ///
    /// # Errors
    /// [`Error::Config`] for a dimension or width of zero, for no hidden layer, and for a
    /// `context_rank` without a context; for a `lipschitz` that is not positive and finite, or with a `context_rank`.
    pub fn init<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<VelocityField<B>, Error> {
        let options = &options.into();
        if self.dim == 0 {
            return Err(Error::config(NAME, "dim", 0, "at least 1"));
        }
        if self.hidden.is_empty() || self.hidden.contains(&0) {
            let found = format!("{:?}", self.hidden);
            let expected = "one or more widths of at least 1";
            return Err(Error::config(NAME, "hidden", found, expected));
        }
        if self.context_rank > 0 && self.context_dim == 0 {
            let expected = "0 without a context";
            return Err(Error::config(
                NAME,
                "context_rank",
                self.context_rank,
                expected,
            ));
        }
        if let Some(lipschitz) = self.lipschitz {
            check_positive(NAME, "lipschitz", lipschitz)?;
            if self.context_rank > 0 {
                let expected = "0 with a lipschitz: the weights of each row are not bounded";
                return Err(Error::config(
                    NAME,
                    "context_rank",
                    self.context_rank,
                    expected,
                ));
            }
        }
        let mut layers = Vec::with_capacity(self.hidden.len() + 1);
        let mut fan_in = self.dim;
        for (l, &width) in self.hidden.iter().enumerate() {
            let std = (fan_in as f64).sqrt().recip();
            let weight = init::normal([fan_in, width], std, options.clone(), rng);
            let bias = match l {
                0 => init::normal([width], 1.0, options.clone(), rng),
                _ => init::constant([width], 0.0, options.clone()),
            };
            layers.push(FieldLayer {
                weight,
                bias,
                update: None,
            });
            fan_in = width;
        }
        let std = 0.1 / (fan_in as f64).sqrt();
        layers.push(FieldLayer {
            weight: init::normal([fan_in, self.dim], std, options.clone(), rng),
            bias: init::constant([self.dim], 0.0, options.clone()),
            update: None,
        });
        let context_weight = (self.context_dim > 0).then(|| {
            let std = (self.context_dim as f64).sqrt().recip();
            init::normal(
                [self.context_dim, self.hidden[0]],
                std,
                options.clone(),
                rng,
            )
        });
        let time_weight = self
            .time_dependent
            .then(|| init::normal([self.hidden[0]], 1.0, options.clone(), rng));
        if self.context_rank > 0 {
            let last = layers.len() - 1;
            for (l, layer) in layers.iter_mut().enumerate() {
                let scale = if l == last { 0.01 } else { 0.1 };
                layer.update = Some(LowRankUpdate::init(
                    layer.weight.dims(),
                    self.context_dim,
                    self.context_rank,
                    scale,
                    options,
                    rng,
                ));
            }
        }
        Ok(VelocityField {
            layers,
            context_weight,
            time_weight,
            activation: self.activation,
            lipschitz: self.lipschitz,
        })
    }
}

/// One affine map of a [`VelocityField`], `a W + b`.
#[derive(Module, Debug)]
pub struct FieldLayer<B: Backend> {
    /// `W`, `[fan_in, fan_out]`.
    pub weight: Param<Tensor<B, 2>>,
    /// `b`, `[fan_out]`.
    pub bias: Param<Tensor<B, 1>>,
    /// What the context adds to `W`, row by row.
    pub update: Option<LowRankUpdate<B>>,
}

/// A velocity field `v: R^dim -> R^dim`, a dense network of any depth.
///
/// For one row `x`, with hidden layers `l = 1..L`, activation `s` and context `c`:
///
/// `a_1 = x W_1 + b_1 + c U`, `a_l = s(a_{l-1}) W_l + b_l`, `v = s(a_L) W_{L+1} + b_{L+1}`.
///
/// With a [`context_rank`](VelocityFieldConfig::context_rank) every `W_l` is `W_l + U_l(c) V_l(c)`
/// instead, as [`LowRankUpdate`] says.
///
/// A field that depends on time has the time as one more input: `a_1` grows by `t w`. Methods without
/// a time take such a field at `t = 0`.
///
/// Its Jacobian is `J^T = W_1 D_1 W_2 D_2 ... D_L W_{L+1}` with `D_l = diag(s'(a_l))`. Products with
/// it are written out layer by layer in ordinary tensor operations, so that they can be
/// differentiated by first-order automatic differentiation.
#[derive(Module, Debug)]
pub struct VelocityField<B: Backend> {
    /// Hidden layers, then the output layer.
    pub layers: Vec<FieldLayer<B>>,
    /// `U`, `[context_dim, h_1]`.
    pub context_weight: Option<Param<Tensor<B, 2>>>,
    /// `w`, `[h_1]`, of a field that depends on time.
    pub time_weight: Option<Param<Tensor<B, 1>>>,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    lipschitz: Option<f64>,
}

impl<B: Backend> VelocityField<B> {
    /// Dimension of the space the field lives in.
    pub fn dim(&self) -> usize {
        self.layers[0].weight.dims()[0]
    }

    /// Columns of the context, 0 without.
    pub fn context_dim(&self) -> usize {
        self.context_weight.as_ref().map_or(0, |u| u.dims()[0])
    }

    /// Whether the field depends on time.
    pub fn is_time_dependent(&self) -> bool {
        self.time_weight.is_some()
    }

    /// The activation of the hidden layers.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// Rank of the update that the context gives to the weights, 0 without.
    pub fn context_rank(&self) -> usize {
        let update = self.layers[0].update.as_ref();
        update.map_or(0, LowRankUpdate::rank)
    }

    /// The bound on the Lipschitz constant in `x`, if there is one.
    pub fn lipschitz(&self) -> Option<f64> {
        self.lipschitz
    }

    /// The weights `W_1 .. W_{L+1}` as they are applied: with a [`lipschitz`](VelocityFieldConfig::lipschitz) `c`, those
    /// whose norm is larger divided so that each has spectral norm at most `(c / s^L)^(1/(L+1))`, with `s` the largest
    /// slope of the activation (i-ResNet, arXiv:1811.00995, section 2.1).
    pub fn weights(&self) -> Vec<Tensor<B, 2>> {
        let weights = self.layers.iter().map(|layer| layer.weight.val());
        let Some(lipschitz) = self.lipschitz else {
            return weights.collect();
        };
        let slopes = self
            .activation
            .lipschitz()
            .powi(self.layers.len() as i32 - 1);
        let bound = (lipschitz / slopes).powf((self.layers.len() as f64).recip());
        weights.map(|w| bounded(w, bound)).collect()
    }

    /// `v(x)`.
    ///
    /// # Shapes
    /// - `x`: `[batch, dim]`, `context`: `[batch, context_dim]`; output `[batch, dim]`
    ///
    /// # Panics
    /// With the message of [`Error::Dimension`] or of the context errors on wrong shapes.
    pub fn velocity(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        self.assert_shapes(&x, context.as_ref());
        self.bind(context, 1.0).evaluate(x).value
    }

    /// `v(x, t)`; the same at all times for a stationary field.
    ///
    /// # Shapes
    /// As [`velocity`](Self::velocity).
    ///
    /// # Panics
    /// As [`velocity`](Self::velocity).
    pub fn velocity_at(
        &self,
        x: Tensor<B, 2>,
        time: f64,
        context: Option<Tensor<B, 2>>,
    ) -> Tensor<B, 2> {
        self.assert_shapes(&x, context.as_ref());
        self.bind(context, 1.0).at_time(time).evaluate(x).value
    }

    /// `(v(x), J(x) t)`, the second in forward mode.
    ///
    /// # Shapes
    /// - `x` and `tangent` `t`: `[batch, dim]`; both outputs `[batch, dim]`
    ///
    /// # Panics
    /// As [`velocity`](Self::velocity).
    pub fn jvp(
        &self,
        x: Tensor<B, 2>,
        tangent: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (Tensor<B, 2>, Tensor<B, 2>) {
        self.linearized(x, context, |at| at.jvp(tangent))
    }

    /// `(v(x), J(x)^T c)`, the second written out as tensor operations, not by backpropagation.
    ///
    /// # Shapes
    /// - `x` and `cotangent` `c`: `[batch, dim]`; both outputs `[batch, dim]`
    ///
    /// # Panics
    /// As [`velocity`](Self::velocity).
    pub fn vjp(
        &self,
        x: Tensor<B, 2>,
        cotangent: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (Tensor<B, 2>, Tensor<B, 2>) {
        self.linearized(x, context, |at| at.vjp(cotangent))
    }

    /// `(v(x), J(x))` with `J[r, i, j] = d v_i / d x_j` at row `r`.
    ///
    /// # Shapes
    /// - `x`: `[batch, dim]`; outputs `[batch, dim]` and `[batch, dim, dim]`
    ///
    /// # Panics
    /// As [`velocity`](Self::velocity).
    pub fn jacobian(
        &self,
        x: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (Tensor<B, 2>, Tensor<B, 3>) {
        self.linearized(x, context, |at| at.jacobian())
    }

    /// `(v(x), product(J))`, the Jacobian at `x` handed to `product` as its factors.
    ///
    /// # Shapes
    /// - `x`: `[batch, dim]`; first output `[batch, dim]`
    ///
    /// # Panics
    /// As [`velocity`](Self::velocity).
    pub fn linearized<R>(
        &self,
        x: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
        product: impl FnOnce(Linearization<'_, B>) -> R,
    ) -> (Tensor<B, 2>, R) {
        self.assert_shapes(&x, context.as_ref());
        let bound = self.bind(context, 1.0);
        let at = bound.evaluate(x);
        (at.value, product(Linearization::new(&bound, at.memos)))
    }

    fn assert_shapes(&self, x: &Tensor<B, 2>, context: Option<&Tensor<B, 2>>) {
        let context_dim = self.context_dim();
        assert_ok(check_shapes(NAME, self.dim(), context_dim, x, context));
    }

    /// `x -> scale v(x; context)` with everything computed that does not depend on `x`.
    ///
    /// # Panics
    /// With the message of the context errors where a context is missing, not taken or of the wrong width.
    pub fn bind(&self, context: Option<Tensor<B, 2>>, scale: f64) -> BoundField<B> {
        let rows = context.as_ref().map_or(0, |context| context.dims()[0]);
        assert_ok(check_context(
            NAME,
            rows,
            self.context_dim(),
            context.as_ref(),
        ));
        let weight = |(layer, weight): (&FieldLayer<B>, Tensor<B, 2>)| {
            FieldWeight::new(weight, layer.update.as_ref(), context.as_ref())
        };
        let layers = self.layers.iter().zip(self.weights());
        let mut weights: Vec<_> = layers.map(weight).collect();
        let mut biases: Vec<Tensor<B, 2>> = self
            .layers
            .iter()
            .map(|l| l.bias.val().unsqueeze())
            .collect();
        if let (Some(context), Some(u)) = (context, &self.context_weight) {
            biases[0] = product(context, u.val()) + biases[0].clone();
        }
        if scale != 1.0 {
            let last = self.layers.len() - 1;
            weights[last] = weights[last].clone().scaled(scale);
            biases[last] = biases[last].clone() * scale;
        }
        BoundField {
            weights,
            biases,
            time_weight: self.time_weight.as_ref().map(|w| w.val().unsqueeze()),
            activation: self.activation,
        }
    }
}
