//! Penalties on the paths of deep diffeomorphic flows, one a file.
//!
//! `loss = F + lambda_geo R_geo + lambda_inv R_inv`, with `F` the negative log-likelihood or the free
//! energy (arXiv:1810.03256); the norm of the fields can be added. The paper's weights are not known.

mod field_norm;
mod geodesic;
mod inverse_consistency;
mod metric;
mod path;

pub use field_norm::field_norm;
pub use geodesic::Geodesic;
pub use inverse_consistency::inverse_consistency;
pub use metric::Metric;
pub use path::{path_energy, path_length};

use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use metric::NAME;

use crate::bijector::Invert;
use crate::continuous::{AsDdnfBlock, trajectories};
use crate::error::{Error, check_not_negative};

/// Which penalties there are, and their weights.
///
/// ```
/// use flows_core::regularizers::{Geodesic, Regularizers};
///
/// let both = Regularizers {
///     geodesic: 0.1,
///     inverse_consistency: 1.0,
///     ..Regularizers::default()
/// };
/// assert_eq!(both.reading, Geodesic::Kinetic);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Regularizers {
    /// `lambda_geo`, weight of the geodesic penalty; 0 for none.
    #[serde(default)]
    pub geodesic: f64,
    /// What that penalty measures.
    #[serde(default)]
    pub reading: Geodesic,
    /// The metric in which it does.
    #[serde(default)]
    pub metric: Metric,
    /// `lambda_inv`, weight of the inverse consistency; 0 for none.
    #[serde(default)]
    pub inverse_consistency: f64,
    /// Weight of the [`field_norm`]; 0 for none.
    #[serde(default)]
    pub field_norm: f64,
    /// `a` in that norm: what the squared Jacobian counts for.
    #[serde(default = "one")]
    pub jacobian: f64,
}

fn one() -> f64 {
    1.0
}

impl Default for Regularizers {
    fn default() -> Self {
        Self {
            geodesic: 0.0,
            reading: Geodesic::default(),
            metric: Metric::default(),
            inverse_consistency: 0.0,
            field_norm: 0.0,
            jacobian: one(),
        }
    }
}

/// The penalties of a batch, each `[1]`, `None` for those with weight zero.
#[derive(Debug, Clone)]
pub struct Penalties<B: Backend> {
    /// `R_geo`, without its weight.
    pub geodesic: Option<Tensor<B, 1>>,
    /// `R_inv`, without its weight.
    pub inverse_consistency: Option<Tensor<B, 1>>,
    /// The norm of the fields, without its weight.
    pub field_norm: Option<Tensor<B, 1>>,
    /// Their sum with their weights, what the loss grows by.
    pub weighted: Option<Tensor<B, 1>>,
}

impl Regularizers {
    /// Whether every weight is zero.
    pub fn is_none(&self) -> bool {
        [self.geodesic, self.inverse_consistency, self.field_norm] == [0.0; 3]
    }

    /// Checks the numbers of the configuration for a flow on `R^dim`.
    ///
    /// # Errors
    /// [`Error::Config`] for weights that are negative or not finite, and as [`Metric::validate`].
    pub fn validate(&self, dim: usize) -> Result<(), Error> {
        for (field, weight) in [
            ("geodesic", self.geodesic),
            ("inverse_consistency", self.inverse_consistency),
            ("field_norm", self.field_norm),
            ("jacobian", self.jacobian),
        ] {
            check_not_negative(NAME, field, weight)?;
        }
        self.metric.validate(dim)
    }

    /// The penalties of a batch that starts at `x` before the first of `layers`.
    ///
    /// Runs the layers forward once for all penalties, with the trajectories kept only for those of paths.
    ///
    /// # Shapes
    /// - `x`: `[batch, dim]`, `context`: `[batch, context_dim]`
    ///
    /// # Errors
    /// As [`validate`](Self::validate); [`Error::Config`] where there is no block among the layers, and for
    /// the inverse consistency of a field that depends on time.
    ///
    /// # Panics
    /// With the message of [`Bijector::check`](crate::bijector::Bijector::check) on wrong shapes.
    pub fn penalties<B: Backend, L: Invert<B> + AsDdnfBlock<B>>(
        &self,
        layers: &[L],
        x: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> Result<Penalties<B>, Error> {
        self.validate(x.dims()[1])?;
        let blocks = layers
            .iter()
            .filter(|layer| layer.as_ddnf_block().is_some());
        if !self.is_none() && blocks.count() == 0 {
            return Err(Error::config(
                NAME,
                "layers",
                "no DDNF block",
                "at least one",
            ));
        }
        let (mut geodesic, mut norm, mut end) = (None, None, None);
        if self.geodesic != 0.0 || self.field_norm != 0.0 {
            let path = trajectories(layers, x.clone(), context.clone());
            if self.geodesic != 0.0 {
                geodesic = Some(self.reading.penalty(&path.blocks, &self.metric));
            }
            if self.field_norm != 0.0 {
                let context = context.as_ref();
                norm = Some(field_norm(layers, &path.blocks, context, self.jacobian));
            }
            end = Some(path.end);
        }
        let mut consistency = None;
        if self.inverse_consistency != 0.0 {
            let forward = || {
                layers.iter().fold(x.clone(), |x, layer| {
                    layer.forward(x, crate::bijector::context_for(layer, &context))
                })
            };
            let end = end.unwrap_or_else(forward);
            consistency = Some(inverse_consistency(layers, x, end, context)?);
        }
        let weigh = |penalty: &Option<Tensor<B, 1>>, weight: f64| {
            penalty.as_ref().map(|penalty| penalty.clone() * weight)
        };
        let terms = [
            weigh(&geodesic, self.geodesic),
            weigh(&consistency, self.inverse_consistency),
            weigh(&norm, self.field_norm),
        ];
        let weighted = terms.into_iter().flatten().reduce(|sum, next| sum + next);
        Ok(Penalties {
            geodesic,
            inverse_consistency: consistency,
            field_norm: norm,
            weighted,
        })
    }
}
