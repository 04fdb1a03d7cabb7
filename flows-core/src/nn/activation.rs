//! Smooth activations with their derivatives.

use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

use crate::error::Error;
use crate::fused;
use crate::softplus::{sigmoid, softplus};

/// A continuously differentiable activation of a velocity field.
///
/// | name | `s(a)` | `s'(a)` |
/// |---|---|---|
/// | `tanh` | `tanh a` | `1 - s^2` |
/// | `softplus` | `log(1 + e^a)` | `sigmoid(a)` |
/// | `elu` | `a` for `a > 0`, else `e^a - 1` | `1` for `a > 0`, else `s + 1` |
/// | `swish` | `a sigmoid(a)` | `sigmoid(a) (1 + a (1 - sigmoid(a)))` |
///
/// The flow of a field is a diffeomorphism only where the field has a continuous derivative, so
/// activations with a kink (relu and its leaky relatives) are refused by name, with that reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Activation {
    /// Hyperbolic tangent.
    #[default]
    Tanh,
    /// Softplus.
    Softplus,
    /// Exponential linear unit with unit slope on both sides of zero.
    Elu,
    /// Swish, also called SiLU.
    Swish,
}

/// An activation applied: its value, and what its derivative is cheapest computed from.
#[derive(Debug, Clone)]
pub(crate) struct Activated<B: Backend> {
    pub(crate) value: Tensor<B, 2>,
    /// `s` for tanh and elu, `a` for the others; the argument of [`Activation::derivative`].
    pub(crate) memo: Tensor<B, 2>,
}

impl Activation {
    /// The name used in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tanh => "tanh",
            Self::Softplus => "softplus",
            Self::Elu => "elu",
            Self::Swish => "swish",
        }
    }

    /// A bound on `|s'|`. That of swish is 1.0998; a swish divided by 1.1 is LipSwish (arXiv:1906.02735, section 3.2).
    pub(crate) fn lipschitz(self) -> f64 {
        match self {
            Self::Tanh | Self::Softplus | Self::Elu => 1.0,
            Self::Swish => 1.1,
        }
    }

    /// `s(a)`, elementwise.
    pub fn apply<B: Backend>(self, a: Tensor<B, 2>) -> Tensor<B, 2> {
        self.activate(a).value
    }

    pub(crate) fn activate<B: Backend>(self, a: Tensor<B, 2>) -> Activated<B> {
        let of_value = |s: Tensor<B, 2>| Activated {
            memo: s.clone(),
            value: s,
        };
        let of_argument = |a, value| Activated { memo: a, value };
        match self {
            Self::Tanh => of_value(fused::tanh(a)),
            // Burn's own elu exponentiates large arguments, to NaN in the gradient.
            Self::Softplus => of_argument(a.clone(), softplus(a)),
            Self::Elu => {
                let negative_part = a.clone().clamp_max(0.0).exp() - 1.0;
                let positive = a.clone().greater_elem(0.0);
                of_value(negative_part.mask_where(positive, a))
            }
            Self::Swish => of_argument(a.clone(), a.clone() * sigmoid(a)),
        }
    }

    /// `s'` at the memo of [`activate`](Self::activate).
    pub(crate) fn derivative<B: Backend>(self, memo: Tensor<B, 2>) -> Tensor<B, 2> {
        match self {
            Self::Tanh => -memo.square() + 1.0,
            Self::Softplus => sigmoid(memo),
            Self::Elu => memo.clamp_max(0.0) + 1.0,
            Self::Swish => {
                let sigmoid = sigmoid(memo.clone());
                sigmoid.clone() * (memo * (-sigmoid + 1.0) + 1.0)
            }
        }
    }
}

impl FromStr for Activation {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "tanh" => Ok(Self::Tanh),
            "softplus" => Ok(Self::Softplus),
            "elu" => Ok(Self::Elu),
            "swish" | "silu" => Ok(Self::Swish),
            "relu" | "leaky_relu" | "prelu" | "hard_tanh" | "hard_sigmoid" | "hard_swish" => {
                Err(Error::config(
                    "velocity field",
                    "activation",
                    name,
                    "tanh, softplus, elu or swish: a function with a kink has no continuous \
                     derivative, and the flow of such a field is no diffeomorphism",
                ))
            }
            _ => Err(Error::config(
                "velocity field",
                "activation",
                name,
                "tanh, softplus, elu or swish",
            )),
        }
    }
}

impl TryFrom<String> for Activation {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        name.parse()
    }
}

impl From<Activation> for String {
    fn from(activation: Activation) -> Self {
        activation.name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for activation in [
            Activation::Tanh,
            Activation::Softplus,
            Activation::Elu,
            Activation::Swish,
        ] {
            let text = serde_json::to_string(&activation).unwrap();
            assert_eq!(text, format!("\"{}\"", activation.name()));
            assert_eq!(
                serde_json::from_str::<Activation>(&text).unwrap(),
                activation
            );
        }
    }

    #[test]
    fn a_kink_is_refused_with_the_reason() {
        let error = serde_json::from_str::<Activation>("\"relu\"").unwrap_err();
        assert!(
            error.to_string().contains("no continuous derivative"),
            "{error}"
        );
        let error = serde_json::from_str::<Activation>("\"cubic\"").unwrap_err();
        assert!(
            !error.to_string().contains("no continuous derivative"),
            "{error}"
        );
    }
}
