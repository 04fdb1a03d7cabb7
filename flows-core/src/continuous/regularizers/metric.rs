//! The metric in which velocities are measured.

use burn::tensor::{Tensor, TensorData, backend::Backend};
use serde::{Deserialize, Serialize};

use crate::bijector::assert_ok;
use crate::error::{Error, fits_f32};

/// The name used in error messages.
pub(super) const NAME: &str = "regularizer";

/// A constant metric `G` of the space, `|v|_G^2 = v^T G v`.
///
/// In a configuration file: `"identity"`, `{ diagonal = [1.0, 4.0] }` or
/// `{ full = [[2.0, 0.5], [0.5, 1.0]] }`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
pub enum Metric {
    /// `G = I`.
    #[default]
    Identity,
    /// `G = diag(g)`, `g` positive.
    Diagonal(Vec<f64>),
    /// `G` by its rows, symmetric and positive definite.
    Full(Vec<Vec<f64>>),
}

crate::one_key!(Metric);

impl Metric {
    /// Checks that this is a metric of `R^dim`.
    ///
    /// # Errors
    /// [`Error::Config`] for the wrong size, for entries of a diagonal that are not positive and
    /// finite, and for a matrix that is not symmetric or not positive definite.
    pub fn validate(&self, dim: usize) -> Result<(), Error> {
        let refuse =
            |actual: String, expected: &str| Err(Error::config(NAME, "metric", actual, expected));
        match self {
            Self::Identity => Ok(()),
            Self::Diagonal(g) if g.len() != dim => refuse(
                format!("a diagonal of {}", g.len()),
                &format!("one of {dim}, the dimension"),
            ),
            Self::Diagonal(g) if g.iter().any(|g| !(*g > 0.0 && fits_f32(*g))) => {
                refuse(format!("{g:?}"), "positive and finite entries, in f32 too")
            }
            Self::Diagonal(_) => Ok(()),
            Self::Full(rows) if rows.len() != dim || rows.iter().any(|r| r.len() != dim) => refuse(
                format!("a matrix of {} rows", rows.len()),
                &format!("{dim} rows of {dim}, the dimension"),
            ),
            Self::Full(rows) if !rows.iter().flatten().all(|g| fits_f32(*g)) => {
                refuse(format!("{rows:?}"), "finite entries, in f32 too")
            }
            Self::Full(rows) if !is_symmetric_positive_definite(rows) => {
                refuse(format!("{rows:?}"), "a symmetric positive definite matrix")
            }
            Self::Full(_) => Ok(()),
        }
    }

    /// `v^T G v` of each row.
    ///
    /// # Shapes
    /// - `v`: `[n, dim]`; output `[n]`
    ///
    /// # Panics
    /// With the message of [`validate`](Self::validate) where this is no metric of `R^dim`.
    pub fn squared_norm<B: Backend>(&self, v: Tensor<B, 2>) -> Tensor<B, 1> {
        assert_ok(self.validate(v.dims()[1]));
        let constant = |values: Vec<f64>, shape: [usize; 2]| {
            let data = TensorData::new(values, shape);
            Tensor::<B, 2>::from_data(data, (&v.device(), v.dtype()))
        };
        let product = match self {
            Self::Identity => v.square(),
            Self::Diagonal(g) => {
                let g = constant(g.clone(), [1, g.len()]);
                v.square() * g
            }
            Self::Full(rows) => {
                let g = constant(rows.concat(), [rows.len(), rows.len()]);
                v.clone().matmul(g) * v
            }
        };
        product.sum_dim(1).squeeze_dim(1)
    }
}

/// By Cholesky's decomposition, which exists for no other symmetric matrix.
fn is_symmetric_positive_definite(a: &[Vec<f64>]) -> bool {
    let n = a.len();
    let mut l = vec![vec![0.0; n]; n];
    for i in 0..n {
        for j in 0..=i {
            let scale = a[i][j].abs().max(a[j][i].abs());
            let difference = (a[i][j] - a[j][i]).abs();
            if difference.is_nan() || difference > 1e-12 * scale {
                return false;
            }
            let rest = a[i][j] - (0..j).map(|k| l[i][k] * l[j][k]).sum::<f64>();
            if i != j {
                l[i][j] = rest / l[j][j];
            } else if rest > 0.0 && rest.is_finite() {
                l[i][i] = rest.sqrt();
            } else {
                return false;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_metric_is_refused() {
        let good = [
            Metric::Identity,
            Metric::Diagonal(vec![1.0, 4.0]),
            Metric::Full(vec![vec![2.0, 0.5], vec![0.5, 1.0]]),
        ];
        for metric in good {
            assert_eq!(metric.validate(2), Ok(()), "{metric:?}");
        }
        let bad = [
            Metric::Diagonal(vec![1.0]),
            Metric::Diagonal(vec![1.0, 0.0]),
            Metric::Diagonal(vec![1.0, f64::NAN]),
            Metric::Full(vec![vec![1.0, 0.0]]),
            Metric::Full(vec![vec![1.0, 0.1], vec![0.0, 1.0]]),
            Metric::Full(vec![vec![1.0, 2.0], vec![2.0, 1.0]]),
            Metric::Full(vec![vec![f64::NAN, 0.0], vec![0.0, 1.0]]),
        ];
        for metric in bad {
            assert!(metric.validate(2).is_err(), "{metric:?}");
        }
    }
}
