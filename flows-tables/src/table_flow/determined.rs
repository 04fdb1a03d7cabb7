//! Columns that the others determine: constants, and linear functions of other columns.

use serde::{Deserialize, Serialize};

use super::notes::shown;
use super::prepared::{distinct, middle_half};
use crate::gaussian::moments;
use crate::preprocessing::constant;
use crate::{Role, Table};

/// A modelled column that has no density of its own: `constant + sum of weight * column` in every
/// training row, up to `tolerance`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Determined {
    /// Its name.
    pub column: String,
    /// The value where all others are 0.
    pub constant: f64,
    /// The columns that it follows, with their weights; none for a constant column.
    pub terms: Vec<(String, f64)>,
    /// Farthest from it that a value still counts as equal.
    pub tolerance: f64,
}

impl Determined {
    /// Its value in a row, of whose columns `value` gives those by name.
    pub fn value(&self, value: impl Fn(&str) -> f64) -> f64 {
        let terms = self.terms.iter().map(|(name, weight)| weight * value(name));
        self.constant + terms.sum::<f64>()
    }

    /// The column in words, as `3` or `2 a + b - 1`.
    pub fn formula(&self) -> String {
        let mut words = String::new();
        for (name, weight) in &self.terms {
            words += match (words.is_empty(), *weight < 0.0) {
                (true, false) => "",
                (true, true) => "-",
                (false, false) => " + ",
                (false, true) => " - ",
            };
            if weight.abs() != 1.0 {
                words += &format!("{} ", weight.abs());
            }
            words += name;
        }
        if words.is_empty() {
            shown(self.constant)
        } else if self.constant == 0.0 {
            words
        } else {
            let sign = if self.constant < 0.0 { '-' } else { '+' };
            format!("{words} {sign} {}", self.constant.abs())
        }
    }
}

/// The modelled columns of training rows that are constant, or a linear function of the context and the
/// columns before them. Fewer rows than that takes determine nothing.
pub(super) fn determined(train: &Table) -> Vec<Determined> {
    let mut names = train.names(Role::Context);
    names.extend(train.names(Role::Density));
    let contexts = train.context_dim();
    // Candidates come from some of the rows; all of them decide.
    let some = (1_000_000_000 / names.len().pow(2))
        .min(10_000)
        .max(2 * names.len());
    let step = train.len().div_ceil(some).max(1);
    let some = train.pick(&(0..train.len()).step_by(step).collect::<Vec<_>>());
    let joint = match &some.context {
        Some(context) => context.beside(&some.density),
        None => some.density.clone(),
    };
    let value = |row: usize, column: usize| match &train.context {
        Some(context) if column < contexts => context.row(row)[column],
        _ => train.density.row(row)[column - contexts],
    };
    let (mean, covariance) = moments(&joint);
    let dim = names.len();
    let scale = |i: usize| covariance[i * (dim + 1)].sqrt();

    let mut found = Vec::new();
    // The Cholesky factor of the correlations of the columns that vary by themselves.
    let (mut free, mut lower): (Vec<usize>, Vec<Vec<f64>>) = (Vec::new(), Vec::new());
    for i in 0..dim {
        if let Some(constant) = constant((0..train.len()).map(|row| value(row, i))) {
            if i >= contexts {
                found.push(Determined {
                    column: names[i].to_owned(),
                    constant,
                    terms: Vec::new(),
                    tolerance: f64::from(f32::EPSILON) * constant.abs(),
                });
            }
            continue;
        }
        if !(scale(i) > 0.0 && scale(i).is_finite()) {
            continue;
        }
        let mut row: Vec<f64> = Vec::new();
        for (k, &j) in free.iter().enumerate() {
            let known: f64 = row.iter().zip(&lower[k]).map(|(a, b)| a * b).sum();
            let correlation = covariance[i * dim + j] / (scale(i) * scale(j));
            row.push((correlation - known) / lower[k][k]);
        }
        let rest = 1.0 - row.iter().map(|v| v * v).sum::<f64>();
        if i >= contexts && rest < 1e-8 && joint.len() >= free.len() + 5 {
            let mut weights = row.clone();
            for k in (0..weights.len()).rev() {
                let later = (k + 1..weights.len()).map(|m| lower[m][k] * weights[m]);
                weights[k] = (weights[k] - later.sum::<f64>()) / lower[k][k];
            }
            let terms = free.iter().zip(&weights).filter(|(_, w)| w.abs() > 1e-7);
            let terms: Vec<(usize, f64)> =
                terms.map(|(&j, w)| (j, w * scale(i) / scale(j))).collect();
            let largest = (0..train.len()).map(|row| value(row, i).abs());
            let rounding = f64::from(f32::EPSILON) * largest.fold(0.0, f64::max);
            let spread = middle_half(&distinct(joint.column(i))).unwrap_or(f64::INFINITY);
            let spread = spread.min(scale(i));
            let tolerance = (1e-6 * spread + rounding).min(1e-5 * spread);
            // Round weights first: a sum of columns is to come back as their sum.
            let exact = [4, 9, 17].into_iter().find_map(|digits| {
                let terms = terms.iter().map(|&(j, w)| (j, rounded(w, digits)));
                let terms: Vec<(usize, f64)> = terms.collect();
                let sum =
                    |v: &dyn Fn(usize) -> f64| terms.iter().map(|&(j, w)| w * v(j)).sum::<f64>();
                let offset = mean[i] - sum(&|j| mean[j]);
                let constant = match offset.abs() <= tolerance {
                    true => 0.0,
                    false => rounded(offset, digits.max(9)),
                };
                let fits = |r: usize| {
                    let error = value(r, i) - constant - sum(&|j| value(r, j));
                    error.abs() <= tolerance
                };
                (0..train.len()).all(fits).then_some((constant, terms))
            });
            if let Some((constant, terms)) = exact {
                found.push(Determined {
                    column: names[i].to_owned(),
                    constant,
                    terms: terms
                        .into_iter()
                        .map(|(j, w)| (names[j].to_owned(), w))
                        .collect(),
                    tolerance: 2.0 * tolerance,
                });
                continue;
            }
        }
        if rest > 1e-12 {
            row.push(rest.sqrt());
            lower.push(row);
            free.push(i);
        }
    }
    found
}

fn rounded(value: f64, digits: usize) -> f64 {
    let text = format!("{value:.*e}", digits - 1);
    text.parse().expect("a number just printed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use flows_train::stream;
    use rand::RngExt;

    fn table(rows: usize, row: impl Fn(f64, f64) -> Vec<f64>) -> Table {
        let rng = &mut stream(0, "test", 0);
        let width = row(0.0, 0.0).len();
        let values: Vec<f64> = (0..rows)
            .flat_map(|_| row(rng.random(), rng.random()))
            .collect();
        Table::from_values((0..width).map(|i| format!("x{i}")), values).unwrap()
    }

    #[test]
    fn constants_and_linear_functions_are_found_with_their_formula() {
        let rows = table(200, |a, b| {
            vec![
                a,
                3.0,
                b,
                2.0 * a - b + 10.0,
                a * b,
                (a * 1e3) as f32 as f64,
            ]
        });
        let found = determined(&rows);
        let words: Vec<String> = found.iter().map(Determined::formula).collect();
        assert_eq!(words, ["3", "2 x0 - x2 + 10", "1000 x0"]);
        let value = found[1].value(|name| if name == "x0" { 1.0 } else { 4.0 });
        assert!((value - 8.0).abs() < 1e-12);
    }

    #[test]
    fn few_rows_and_what_is_only_close_determine_nothing() {
        let rng = &mut stream(1, "test", 0);
        let noise = (0..30 * 25).map(|_| rng.random()).collect();
        let wide = Table::from_values((0..30).map(|i| format!("x{i}")), noise).unwrap();
        assert_eq!(determined(&wide), []);
        let close = table(200, |a, b| vec![a, a + 1e-3 * b]);
        assert_eq!(determined(&close), []);
        let once = table(200, |a, b| vec![a, if b > 0.99 { b } else { a }]);
        assert_eq!(determined(&once), []);
        // One value of both, far away, makes the correlation 1.
        let far = table(200, |a, b| {
            if b < 0.01 {
                vec![1e20, 1e20]
            } else {
                vec![a, b]
            }
        });
        assert_eq!(determined(&far), []);
    }
}
