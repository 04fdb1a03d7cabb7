//! The rows of a fit, without those far outside, and what is worth knowing of them before it.

use std::borrow::Cow;

use super::config::fractions_problem;
use super::detect::Detected;
use super::determined::{Determined, determined};
use super::{FitError, notes};
use crate::{DataError, Role, Rows, Split, Table};

/// Fewest rows of a table that can be split three ways.
const FEWEST_ROWS: usize = 20;

/// How many widths of its middle half a value may lie away from the middle of its column, and how many
/// standard deviations of the training rows from their mean. A scale that holds both loses the others: `f32`
/// has seven digits.
pub const FAR: f64 = 1e6;

/// Training, validation and test rows as a fit takes them.
///
/// A row with a value farther than a million times the width of the middle half of its column is left
/// out of all three, and of the scores: most often the value stands for a missing one.
#[derive(Debug, Clone)]
pub struct Prepared<'a> {
    pub(super) parts: Cow<'a, [Table; 3]>,
    pub(super) far: Vec<Far>,
    pub(super) left_out: usize,
    pub(super) determined: Vec<Determined>,
}

/// Values of a column far from all others.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Far {
    pub(super) column: String,
    /// The most frequent one.
    pub(super) value: f64,
    /// Rows with it, and with any.
    pub(super) rows: [usize; 2],
}

impl Prepared<'static> {
    /// Splits a table.
    ///
    /// # Errors
    /// [`FitError`] for too few rows, and for fractions out of range.
    pub fn split(table: &Table, held_out: [f64; 2], seed: u64) -> Result<Self, FitError> {
        let [validation, test] = held_out;
        if let Some(problem) = fractions_problem(validation, test) {
            return Err(FitError::Config(problem));
        }
        let rows = table.len();
        if rows < FEWEST_ROWS {
            return Err(DataError::Table(format!(
                "the table has {rows} rows, too few to fit and to test a density: at least {FEWEST_ROWS}"
            ))
            .into());
        }
        let split = Split::shuffled(rows, validation, test, seed);
        let parts = [&split.train, &split.validation, &split.test].map(|rows| table.pick(rows));
        Self::new(Cow::Owned(parts))
    }
}

impl<'a> Prepared<'a> {
    /// Rows that are split already.
    ///
    /// # Errors
    /// [`FitError`] for a part without rows, and a table in which no column varies.
    pub fn new(parts: Cow<'a, [Table; 3]>) -> Result<Self, FitError> {
        let (far, kept) = far(&parts);
        let mut parts = parts;
        let mut left_out = 0;
        if !far.is_empty() {
            let fewer = [0, 1, 2].map(|i| parts[i].pick(&kept[i]));
            left_out = (0..3).map(|i| parts[i].len() - fewer[i].len()).sum();
            parts = Cow::Owned(fewer);
        }
        if let Some(empty) = parts.iter().position(Table::is_empty) {
            let name = ["training", "validation", "test"][empty];
            return Err(DataError::Table(format!("there are no {name} rows")).into());
        }
        let determined = determined(&parts[0]);
        if determined.len() == parts[0].dim() {
            let names = parts[0].names(Role::Density).join(", ");
            return Err(DataError::Table(format!(
                "no column is left to fit a density to: all training rows have the same {names}"
            ))
            .into());
        }
        Ok(Self {
            parts,
            far,
            left_out,
            determined,
        })
    }

    /// Number of columns that a flow is fitted to: the modelled ones that others do not determine.
    pub fn dim(&self) -> usize {
        self.parts[0].dim() - self.determined.len()
    }

    /// Rows that a flow is trained on.
    pub fn training_rows(&self) -> usize {
        self.parts[0].len()
    }

    /// What makes a likelihood of this table mean less than it seems where its columns are of these kinds, a
    /// sentence each.
    pub fn notes(&self, kinds: &[Detected]) -> Vec<String> {
        notes::notes(self, kinds)
    }
}

/// Far values of all columns, and the rows of each part that have none.
fn far(parts: &[Table; 3]) -> (Vec<Far>, [Vec<usize>; 3]) {
    let mut far = Vec::new();
    let mut kept = [0, 1, 2].map(|i| vec![true; parts[i].len()]);
    let train = &parts[0];
    for role in [Role::Density, Role::Context] {
        for (column, name) in train.names(role).into_iter().enumerate() {
            let values = |part: &'_ Table| -> Vec<f64> {
                let rows = match role {
                    Role::Density => Some(&part.density),
                    Role::Context => part.context.as_ref(),
                };
                rows.map_or_else(Vec::new, |rows: &Rows| rows.column(column).collect())
            };
            let Some([low, high]) = ordinary(&values(train)) else {
                continue;
            };
            let mut outside = Vec::new();
            for (part, kept) in parts.iter().zip(&mut kept) {
                for (value, kept) in values(part).into_iter().zip(kept) {
                    if !(low..=high).contains(&value) {
                        *kept = false;
                        outside.push(value);
                    }
                }
            }
            if let Some((value, rows)) = notes::most_frequent(&mut outside) {
                far.push(Far {
                    column: name.to_owned(),
                    value,
                    rows: [rows, outside.len()],
                });
            }
        }
    }
    let kept = kept.map(|kept| (0..kept.len()).filter(|&row| kept[row]).collect());
    (far, kept)
}

/// The range outside which a value is far; `None` where nothing is, or so much that it is no exception.
fn ordinary(values: &[f64]) -> Option<[f64; 2]> {
    let step = values.len().div_ceil(10_000).max(1);
    let distinct = distinct(values.iter().copied().step_by(step));
    let width = middle_half(&distinct)?;
    let middle = distinct[(distinct.len() - 1) / 2];
    let range = [middle - FAR * width, middle + FAR * width];
    let few = |outside: usize| outside <= (distinct.len() / 20).max(1);
    let outside = distinct
        .iter()
        .filter(|v| !(range[0]..=range[1]).contains(*v));
    few(outside.count()).then_some(range)
}

/// The different values, sorted: one that stands for a missing one counts once.
pub(super) fn distinct(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut distinct: Vec<f64> = values.collect();
    distinct.sort_by(f64::total_cmp);
    distinct.dedup();
    distinct
}

/// The width of the middle half of sorted values, which a few far ones do not change.
pub(super) fn middle_half(sorted: &[f64]) -> Option<f64> {
    let at = |share: f64| sorted.get((sorted.len().saturating_sub(1) as f64 * share) as usize);
    let width = at(0.75)? - at(0.25)?;
    (width > 0.0).then_some(width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fill_values_are_far_and_long_tails_are_not() {
        let normal = |i: usize| ((i * 37) % 101) as f64 + 200.0;
        let with = |fills: usize, fill: f64| -> Vec<f64> {
            let values = (0..1000).map(|i| if i < fills { fill } else { normal(i) });
            values.collect()
        };
        for fill in [9.96921e36, -1e20, 1e9] {
            for fills in [1, 3, 400] {
                let [low, high] = ordinary(&with(fills, fill)).unwrap();
                assert!(low < 200.0 && high > 301.0 && !(low..=high).contains(&fill));
            }
        }
        // A Cauchy and a Pareto sample, zeros with few others, a flag.
        let cauchy: Vec<f64> = (1..5000).map(|i| (f64::from(i) * 6.2e-4).tan()).collect();
        let pareto: Vec<f64> = (1..5000).map(|i| 5000.0 / f64::from(i)).collect();
        let rare: Vec<f64> = (0..1000)
            .map(|i| f64::from(i % 100 == 0) * f64::from(i))
            .collect();
        let flag: Vec<f64> = (0..1000).map(|i| f64::from(i == 5)).collect();
        for values in [cauchy, pareto, rare, flag, vec![1.0; 30]] {
            if let Some([low, high]) = ordinary(&values) {
                assert!(values.iter().all(|v| (low..=high).contains(v)));
            }
        }
    }
}
