//! A whole table in memory, and its parts.

use std::path::Path;

use flows_core::random::shuffle;

use super::source::{Missing, Reading, Source};
use super::{Column, DataError, Role, Selection};
use flows_train::{Rows, stream};

/// Takes apart rows of used columns by their roles.
pub fn by_role(rows: Rows, columns: &[Column]) -> (Rows, Option<Rows>) {
    if columns.iter().all(|c| c.role == Role::Density) {
        return (rows, None);
    }
    let part = |role: Role| {
        let places = (0..columns.len()).filter(|&i| columns[i].role == role);
        rows.columns(&places.collect::<Vec<_>>())
    };
    let context = part(Role::Context);
    (part(Role::Density), Some(context))
}

/// A table with the columns that are modelled and those that condition the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// The columns used, in the order of the file.
    pub columns: Vec<Column>,
    /// Columns of the file.
    pub source_columns: usize,
    /// Whether the file names them.
    pub named: bool,
    /// The modelled columns.
    pub density: Rows,
    /// The columns conditioned on.
    pub context: Option<Rows>,
    /// Weights of the rows, where they have any: at least 0, and not all 0.
    pub weights: Option<Vec<f64>>,
    /// Rows left out for a missing value.
    pub skipped: usize,
}

impl Table {
    /// Reads a CSV or npy file; all its columns are modelled.
    ///
    /// # Errors
    /// [`DataError`] with the line and column of what cannot be used.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let mut source = Source::open(path.as_ref(), &Reading::default())?;
        Self::collect(&mut source, &Selection::default(), Missing::Refuse)
    }

    /// Reads the chosen columns of an open source to its end.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn collect(
        source: &mut Source,
        selection: &Selection,
        missing: Missing,
    ) -> Result<Self, DataError> {
        let columns = selection.resolve(source.layout(), source.origin())?;
        let weights = selection.resolve_weights(source.layout(), source.origin())?;
        let wanted = columns.iter().map(|c| c.position).chain(weights);
        source.select(wanted.collect(), missing);
        let values = collect(source)?;
        let used = columns.len();
        let mut rows = Rows::new(values, used + usize::from(weights.is_some()));
        let weights = weights.map(|_| rows.column(used).collect::<Vec<f64>>());
        if let Some(weights) = &weights {
            refuse_weights(weights)?;
            rows = rows.columns(&(0..used).collect::<Vec<_>>());
        }
        let (density, context) = by_role(rows, &columns);
        Ok(Self {
            source_columns: source.layout().columns,
            named: source.layout().names.is_some(),
            columns,
            density,
            context,
            weights,
            skipped: source.incomplete(),
        })
    }

    /// A table from numbers in memory, row-major, all columns modelled.
    ///
    /// # Errors
    /// [`DataError::Table`] where the values are not whole rows, or one of them is not finite.
    pub fn from_values<S: Into<String>>(
        names: impl IntoIterator<Item = S>,
        values: Vec<f64>,
    ) -> Result<Self, DataError> {
        let column = |(position, name): (usize, S)| Column {
            name: name.into(),
            position,
            role: Role::Density,
        };
        let columns: Vec<Column> = names.into_iter().enumerate().map(column).collect();
        let width = columns.len();
        if width == 0 || !values.len().is_multiple_of(width) {
            let count = values.len();
            return Err(DataError::Table(format!(
                "{count} values are not whole rows of {width} columns"
            )));
        }
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            return Err(DataError::Value {
                origin: "table".to_owned(),
                place: format!("row {}", i / width + 1),
                column: format!("{} '{}'", i % width + 1, columns[i % width].name),
                reason: format!("'{}' is not finite", values[i]),
            });
        }
        Ok(Self {
            source_columns: width,
            named: true,
            columns,
            density: Rows::new(values, width),
            context: None,
            weights: None,
            skipped: 0,
        })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.density.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.density.is_empty()
    }

    /// Number of modelled columns.
    pub fn dim(&self) -> usize {
        self.density.width()
    }

    /// Number of columns conditioned on.
    pub fn context_dim(&self) -> usize {
        self.context.as_ref().map_or(0, Rows::width)
    }

    /// Names of the columns with this role.
    pub fn names(&self, role: Role) -> Vec<&str> {
        let columns = self.columns.iter().filter(|c| c.role == role);
        columns.map(|c| c.name.as_str()).collect()
    }

    /// The rows at these indices.
    pub fn pick(&self, indices: &[usize]) -> Self {
        Self {
            columns: self.columns.clone(),
            source_columns: self.source_columns,
            named: self.named,
            density: self.density.pick(indices),
            context: self.context.as_ref().map(|c| c.pick(indices)),
            weights: self
                .weights
                .as_ref()
                .map(|weights| indices.iter().map(|&row| weights[row]).collect()),
            skipped: 0,
        }
    }

    /// The same rows with weights, one each.
    ///
    /// # Errors
    /// [`DataError::Table`] for another number of them, one below 0 or not finite, and where all are 0.
    pub fn weighted(self, weights: Vec<f64>) -> Result<Self, DataError> {
        if weights.len() != self.len() {
            let (weights, rows) = (weights.len(), self.len());
            return Err(DataError::Table(format!(
                "{weights} weights for {rows} rows"
            )));
        }
        refuse_weights(&weights)?;
        Ok(Self {
            weights: Some(weights),
            ..self
        })
    }

    /// A number that tells tables apart: FNV-1a over the names and the bits of the values, but for the weights.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = 0xCBF2_9CE4_8422_2325u64;
        let mut feed = |word: u64| hash = (hash ^ word).wrapping_mul(0x0000_0100_0000_01B3);
        for column in &self.columns {
            column.name.bytes().for_each(|b| feed(u64::from(b)));
            feed(column.role as u64 + 256);
        }
        let context = self.context.iter().flat_map(|c| c.values());
        for value in self.density.values().iter().chain(context) {
            let bits = value.to_bits();
            // The product carries upwards only: low bits have to see the high ones.
            feed(bits ^ (bits >> 32));
        }
        hash
    }
}

/// Refuses weights that are none.
fn refuse_weights(weights: &[f64]) -> Result<(), DataError> {
    if let Some(row) = weights.iter().position(|w| !(*w >= 0.0 && w.is_finite())) {
        let weight = weights[row];
        return Err(DataError::Table(format!(
            "row {} has the weight {weight}, expected 0 or more",
            row + 1
        )));
    }
    match weights.iter().any(|w| *w > 0.0) {
        true => Ok(()),
        false => Err(DataError::Table("all weights are 0".to_owned())),
    }
}

/// The values of the selected columns to the end of `source`, row-major.
///
/// # Errors
/// As [`Table::read`].
pub fn collect(source: &mut Source) -> Result<Vec<f64>, DataError> {
    let mut values = Vec::new();
    loop {
        let chunk = source.next_chunk(1 << 16)?;
        if chunk.is_empty() {
            return Ok(values);
        }
        values.extend(chunk);
    }
}

/// Row numbers for training, for choosing when to stop, and for the final score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Rows the parameters are fitted to.
    pub train: Vec<usize>,
    /// Rows that decide when training stops.
    pub validation: Vec<usize>,
    /// Rows that decide nothing.
    pub test: Vec<usize>,
}

impl Split {
    /// Shuffles `rows` rows by `seed` and takes the fractions from the end, at least one row each.
    pub fn shuffled(rows: usize, validation: f64, test: f64, seed: u64) -> Self {
        let mut order: Vec<usize> = (0..rows).collect();
        shuffle(&mut order, &mut stream(seed, "split", 0));
        let part = |fraction: f64| ((rows as f64 * fraction).round() as usize).max(1);
        let test = order.split_off(rows - part(test).min(rows));
        let left = order.len();
        let validation = order.split_off(left - part(validation).min(left));
        Self {
            train: order,
            validation,
            test,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_uses_every_row_once_and_depends_on_the_seed() {
        let split = Split::shuffled(103, 0.1, 0.2, 5);
        let sizes = [split.train.len(), split.validation.len(), split.test.len()];
        assert_eq!(sizes, [72, 10, 21]);
        let parts = [&split.train, &split.validation, &split.test];
        let mut all: Vec<usize> = parts.into_iter().flatten().copied().collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..103));
        assert_eq!(split, Split::shuffled(103, 0.1, 0.2, 5));
        assert_ne!(split, Split::shuffled(103, 0.1, 0.2, 6));
    }

    #[test]
    fn the_fingerprint_sees_values_order_and_names() {
        let table = |names: [&str; 2], values: &[f64]| {
            Table::from_values(names, values.to_vec())
                .unwrap()
                .fingerprint()
        };
        let first = table(["a", "b"], &[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(first, table(["a", "b"], &[1.0, 2.0, 3.0, 4.0]));
        assert_ne!(first, table(["a", "c"], &[1.0, 2.0, 3.0, 4.0]));
        assert_ne!(first, table(["a", "b"], &[3.0, 4.0, 1.0, 2.0]));
        let near = f64::from_bits(4.0f64.to_bits() + 1);
        assert_ne!(first, table(["a", "b"], &[1.0, 2.0, 3.0, near]));
    }

    #[test]
    fn roles_take_rows_apart() {
        let column = |name: &str, role| Column {
            name: name.to_owned(),
            position: 0,
            role,
        };
        let columns = [
            column("a", Role::Density),
            column("c", Role::Context),
            column("b", Role::Density),
        ];
        let rows = Rows::new(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3);
        let (density, context) = by_role(rows, &columns);
        assert_eq!(density, Rows::new(vec![1.0, 3.0, 4.0, 6.0], 2));
        assert_eq!(context, Some(Rows::new(vec![2.0, 5.0], 1)));
    }
}
