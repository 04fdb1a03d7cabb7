//! The fixed affine map between a table's units and those of a flow, learned from training rows.

use burn::tensor::TensorData;
use flows_core::state::State;

use super::gaussian::{Cholesky, moments};
use super::{DataError, Rows};

/// `x = mean + A z`, where `x` is in the table's units and `z` is what a flow sees.
///
/// `log p(x) = log p(z) - log |det A|`, in nats. All of it in `f64`, so that a column with a large mean and a
/// small spread, such as a time stamp, keeps its digits.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocessing {
    mean: Vec<f64>,
    factor: Factor,
}

/// The matrix `A`.
#[derive(Debug, Clone, PartialEq)]
pub enum Factor {
    /// The standard deviation of each column.
    Diagonal(Vec<f64>),
    /// The lower Cholesky factor of the covariance, row-major.
    Lower(Vec<f64>),
}

impl Preprocessing {
    /// Standard deviations on the diagonal; `names` are for messages.
    ///
    /// # Errors
    /// [`DataError::Table`] naming a constant column.
    pub fn standardize(rows: &Rows, names: &[&str]) -> Result<Self, DataError> {
        let mut mean = Vec::new();
        let mut scale = Vec::new();
        for (column, name) in names.iter().enumerate() {
            let values = rows.column(column);
            if let Some(value) = constant(values.clone()) {
                return Err(DataError::Table(format!(
                    "column '{name}' is constant ({value}) in the training rows: it has no density; \
                     leave it out (--drop {name})"
                )));
            }
            let n = values.len() as f64;
            let centre = values.clone().sum::<f64>() / n;
            let variance = values.clone().map(|v| (v - centre).powi(2)).sum::<f64>() / n;
            if !(variance.is_finite() && variance > 0.0) {
                let [low, high] = ends(values);
                return Err(DataError::Table(format!(
                    "column '{name}' spans {low} to {high}, beyond what its variance can hold; rescale it"
                )));
            }
            mean.push(centre);
            scale.push(variance.sqrt());
        }
        let factor = Factor::Diagonal(scale);
        Ok(Self { mean, factor })
    }

    /// As [`standardize`](Self::standardize), for columns that a model is conditioned on: one that never
    /// varied is taken to 0 whatever its value, as nothing was learned of it.
    ///
    /// # Errors
    /// [`DataError::Table`] naming a column whose variance overflows.
    pub fn standardize_context(rows: &Rows, names: &[&str]) -> Result<Self, DataError> {
        let mut map = Self {
            mean: Vec::new(),
            factor: Factor::Diagonal(Vec::new()),
        };
        for (column, name) in names.iter().enumerate() {
            let (mean, scale) = match constant(rows.column(column)) {
                Some(value) => (vec![value], vec![UNVARIED]),
                None => {
                    let own = Self::standardize(&rows.columns(&[column]), &[name])?;
                    (own.mean.clone(), own.scale())
                }
            };
            map.mean.extend(mean);
            if let Factor::Diagonal(all) = &mut map.factor {
                all.extend(scale);
            }
        }
        Ok(map)
    }

    /// Columns in the units of the flow already.
    pub(crate) fn none(dim: usize) -> Self {
        Self {
            mean: vec![0.0; dim],
            factor: Factor::Diagonal(vec![1.0; dim]),
        }
    }

    /// The Cholesky factor of the whole covariance, so that what a flow sees is uncorrelated.
    ///
    /// # Errors
    /// [`DataError::Table`] naming a constant column, or one that is a linear function of those before
    /// it; and for fewer rows than columns, whose covariance is singular.
    pub fn whiten(rows: &Rows, names: &[&str]) -> Result<Self, DataError> {
        if rows.len() <= names.len() {
            return Err(DataError::Table(format!(
                "{} training rows of {} columns are too few to decorrelate the columns; take --whiten \
                 false, or fewer columns",
                rows.len(),
                names.len()
            )));
        }
        let Self { mean, factor } = Self::standardize(rows, names)?;
        let Factor::Diagonal(scale) = factor else {
            unreachable!("standardizing gives a diagonal")
        };
        let lower = correlation_factor(rows, &mean, &scale)
            .map_err(|column| DataError::Table(dependent(names[column])))?;
        let dim = mean.len();
        let scaled = |k: usize| lower[k] * scale[k / dim];
        let factor = Factor::Lower((0..dim * dim).map(scaled).collect());
        Ok(Self { mean, factor })
    }

    /// Number of columns.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// The matrix.
    pub fn factor(&self) -> &Factor {
        &self.factor
    }

    /// The mean of each column.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The standard deviation of each column.
    pub fn scale(&self) -> Vec<f64> {
        let dim = self.dim();
        match &self.factor {
            Factor::Diagonal(scale) => scale.clone(),
            Factor::Lower(lower) => lower
                .chunks(dim)
                .map(|row| row.iter().map(|v| v * v).sum::<f64>().sqrt())
                .collect(),
        }
    }

    /// `log |det A|`, in nats.
    pub fn log_det(&self) -> f64 {
        match &self.factor {
            Factor::Diagonal(scale) => scale.iter().map(|s| s.ln()).sum(),
            Factor::Lower(lower) => (0..self.dim())
                .map(|i| lower[i * (self.dim() + 1)].ln())
                .sum(),
        }
    }

    /// `z` of each row.
    pub fn apply(&self, rows: &Rows) -> Rows {
        let dim = self.dim();
        assert_eq!(rows.width(), dim);
        let mut values = rows.values().to_vec();
        for row in values.chunks_exact_mut(dim) {
            row.iter_mut().zip(&self.mean).for_each(|(v, m)| *v -= m);
            match &self.factor {
                Factor::Diagonal(scale) => row.iter_mut().zip(scale).for_each(|(v, s)| *v /= s),
                Factor::Lower(lower) => {
                    for i in 0..dim {
                        let known = lower[i * dim..].iter().zip(&row[..i]);
                        let sum: f64 = known.map(|(a, z)| a * z).sum();
                        row[i] = (row[i] - sum) / lower[i * (dim + 1)];
                    }
                }
            }
        }
        Rows::new(values, dim)
    }

    /// `x` of each row, back in the table's units.
    pub fn undo(&self, rows: &Rows) -> Rows {
        let dim = self.dim();
        assert_eq!(rows.width(), dim);
        let mut values = rows.values().to_vec();
        for row in values.chunks_exact_mut(dim) {
            match &self.factor {
                Factor::Diagonal(scale) => row.iter_mut().zip(scale).for_each(|(v, s)| *v *= s),
                Factor::Lower(lower) => {
                    // From the last row up: each needs the unchanged ones before it.
                    for i in (0..dim).rev() {
                        let terms = lower[i * dim..].iter().zip(&row[..=i]);
                        row[i] = terms.map(|(a, z)| a * z).sum();
                    }
                }
            }
            row.iter_mut().zip(&self.mean).for_each(|(v, m)| *v += m);
        }
        Rows::new(values, dim)
    }

    /// Mean and factor as tensors of `f64`, which lose nothing.
    pub fn state(&self) -> State {
        let dim = self.dim();
        let factor = match &self.factor {
            Factor::Diagonal(scale) => TensorData::new(scale.clone(), vec![dim]),
            Factor::Lower(lower) => TensorData::new(lower.clone(), vec![dim, dim]),
        };
        let mean = TensorData::new(self.mean.clone(), vec![dim]);
        State::from([("mean".to_owned(), mean), ("factor".to_owned(), factor)])
    }

    /// What [`state`](Self::state) gave, for `dim` columns; `None` where it is something else.
    pub fn from_state(state: &State, dim: usize) -> Option<Self> {
        let numbers = |name: &str| finite_numbers(state, name);
        let (shape, mean) = numbers("mean")?;
        let (factor_shape, values) = numbers("factor")?;
        let diagonal = factor_shape == [dim];
        let on_diagonal = if diagonal { 1 } else { dim + 1 };
        let positive = values.iter().step_by(on_diagonal).all(|v| *v > 0.0);
        if shape != [dim] || !positive || !(diagonal || factor_shape == [dim, dim]) {
            return None;
        }
        let factor = if diagonal {
            Factor::Diagonal(values)
        } else {
            Factor::Lower(values)
        };
        Some(Self { mean, factor })
    }
}

/// The Cholesky factor of the correlation matrix, or the first column that depends on others.
fn correlation_factor(rows: &Rows, mean: &[f64], scale: &[f64]) -> Result<Vec<f64>, usize> {
    let dim = mean.len();
    let (_, mut covariance) = moments(rows);
    for i in 0..dim {
        for j in 0..dim {
            covariance[i * dim + j] /= scale[i] * scale[j];
        }
    }
    Cholesky::new(&covariance, dim, 1e-12).map(|c| c.lower)
}

/// What is said of a column that a linear function of others gives.
fn dependent(name: &str) -> String {
    format!(
        "column '{name}' is nearly a linear function of the columns before it: they cannot be \
         decorrelated; take --whiten false, or leave it out (--drop {name})"
    )
}

/// The scale of a context column that never varied.
pub(crate) const UNVARIED: f64 = f64::MAX;

/// The one value of a column that has no other, up to rounding.
pub fn constant(values: impl Iterator<Item = f64> + Clone) -> Option<f64> {
    let [low, high] = ends(values);
    (high - low <= 4.0 * f64::EPSILON * low.abs().max(high.abs())).then_some(low)
}

fn ends(values: impl Iterator<Item = f64>) -> [f64; 2] {
    values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], v| {
        [low.min(v), high.max(v)]
    })
}

/// Shape and values of an entry; `None` where it is missing or holds a number that is not finite.
pub(crate) fn finite_numbers(state: &State, name: &str) -> Option<(Vec<usize>, Vec<f64>)> {
    let data = state.get(name)?;
    let values: Vec<f64> = data.iter().collect();
    let finite = values.iter().all(|v: &f64| v.is_finite());
    finite.then(|| (data.shape.to_vec(), values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Rows {
        let values = [1.0, 10.0, 2.0, 14.0, 4.0, 11.0, 8.0, 30.0, 3.0, 9.0];
        Rows::new(values.to_vec(), 2)
    }

    #[test]
    fn both_factors_give_unit_variance_and_come_back() {
        let rows = example();
        let diagonal = Preprocessing::standardize(&rows, &["a", "b"]).unwrap();
        let lower = Preprocessing::whiten(&rows, &["a", "b"]).unwrap();
        for map in [&diagonal, &lower] {
            let z = map.apply(&rows);
            let (mean, covariance) = moments(&z);
            assert!(mean.iter().all(|m| m.abs() < 1e-12));
            assert!((covariance[0] - 1.0).abs() < 1e-12 && (covariance[3] - 1.0).abs() < 1e-12);
            let back = map.undo(&z);
            let pairs = back.values().iter().zip(rows.values());
            assert!(pairs.clone().all(|(a, b)| (a - b).abs() < 1e-12));
            assert_eq!(map, &Preprocessing::from_state(&map.state(), 2).unwrap());
            assert_eq!(Preprocessing::from_state(&map.state(), 3), None);
        }
        assert!(moments(&lower.apply(&rows)).1[1].abs() < 1e-12);
        let (_, covariance) = moments(&rows);
        let det = covariance[0] * covariance[3] - covariance[1] * covariance[2];
        assert!((lower.log_det() - 0.5 * det.ln()).abs() < 1e-12);
        assert_eq!(lower.scale().len(), 2);
        assert!((lower.scale()[1] - diagonal.scale()[1]).abs() < 1e-12);
    }

    #[test]
    fn columns_without_a_density_are_named() {
        let constant = Rows::new(vec![1.0, 3.0, 2.0, 3.0, 5.0, 3.0], 2);
        let error = Preprocessing::standardize(&constant, &["a", "b"]).unwrap_err();
        assert!(error.to_string().starts_with("column 'b' is constant (3)"));
        let dependent = Rows::new(vec![1.0, 3.0, 2.0, 5.0, 5.0, 11.0], 2);
        let error = Preprocessing::whiten(&dependent, &["a", "b"]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("'b' is nearly a linear function")
        );
        let few = Rows::new(vec![1.0, 3.0, 2.0, 5.5], 2);
        let error = Preprocessing::whiten(&few, &["a", "b"]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("2 training rows of 2 columns are too few")
        );
    }

    #[test]
    fn a_small_spread_on_a_large_mean_keeps_its_digits() {
        let rows = Rows::new((0..100).map(|i| 1.6e9 + 0.001 * f64::from(i)).collect(), 1);
        let map = Preprocessing::standardize(&rows, &["time"]).unwrap();
        let back = map.undo(&map.apply(&rows));
        let pairs = back.values().iter().zip(rows.values());
        assert!(pairs.clone().all(|(a, b)| (a - b).abs() < 1e-6));
    }
}
