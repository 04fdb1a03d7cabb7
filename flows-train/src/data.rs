//! Rows of numbers, and the order in which epochs go through them.

use burn::tensor::TensorCreationOptions;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use flows_core::random::shuffle;

use crate::error::DataError;
use crate::streams::stream;

/// Rows of numbers, row-major, in f64 on the host.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rows {
    values: Vec<f64>,
    width: usize,
}

impl Rows {
    /// Rows of `width` numbers.
    ///
    /// # Panics
    /// Where the values are not whole rows.
    pub fn new(values: Vec<f64>, width: usize) -> Self {
        Self::try_new(values, width).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Rows of `width` numbers.
    ///
    /// # Errors
    /// [`DataError::Width`] where the values are not whole rows.
    pub fn try_new(values: Vec<f64>, width: usize) -> Result<Self, DataError> {
        match width > 0 && values.len().is_multiple_of(width) {
            true => Ok(Self { values, width }),
            false => Err(DataError::Width {
                values: values.len(),
                width,
            }),
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Numbers in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// All numbers, row-major.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.width..(row + 1) * self.width]
    }

    /// The rows, one after the other.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f64]> + Clone {
        self.values.chunks_exact(self.width.max(1))
    }

    /// One column.
    pub fn column(&self, column: usize) -> impl ExactSizeIterator<Item = f64> + Clone + '_ {
        self.iter().map(move |row| row[column])
    }

    /// The rows at these indices, in this order.
    pub fn pick(&self, indices: &[usize]) -> Self {
        let values = indices.iter().flat_map(|&i| self.row(i)).copied();
        Self {
            values: values.collect(),
            width: self.width,
        }
    }

    /// Rows `from..to`.
    pub fn slice(&self, from: usize, to: usize) -> Self {
        Self {
            values: self.values[from * self.width..to * self.width].to_vec(),
            width: self.width,
        }
    }

    /// The columns at these places, in this order.
    pub fn columns(&self, places: &[usize]) -> Self {
        let values = self.iter().flat_map(|row| places.iter().map(|&i| row[i]));
        Self::new(values.collect(), places.len())
    }

    /// These rows and, behind them, those of another.
    ///
    /// # Panics
    /// Where their widths differ.
    #[must_use]
    pub fn then(&self, other: &Self) -> Self {
        assert_eq!(self.width, other.width);
        Self {
            values: [self.values(), other.values()].concat(),
            width: self.width,
        }
    }

    /// Rows of both side by side.
    ///
    /// # Panics
    /// Where their numbers differ.
    pub fn beside(&self, other: &Self) -> Self {
        assert_eq!(self.len(), other.len());
        let rows = self.iter().zip(other.iter());
        Self {
            values: rows.flat_map(|(a, b)| a.iter().chain(b)).copied().collect(),
            width: self.width + other.width,
        }
    }

    /// All rows as a tensor, `[rows, width]`: on `&device` in its default type, or `(&device, dtype)`.
    pub fn tensor<B: Backend>(&self, options: impl Into<TensorCreationOptions<B>>) -> Tensor<B, 2> {
        let data = TensorData::new(self.values.clone(), [self.len(), self.width]);
        Tensor::from_data(data, options)
    }
}

/// Rows that a flow is fitted to or evaluated on, in its own units, with their context.
#[derive(Debug, Clone, PartialEq)]
pub struct Data {
    /// The rows.
    pub x: Rows,
    /// The context of each, for a conditional flow.
    pub context: Option<Rows>,
}

impl Data {
    /// Rows with their context.
    ///
    /// # Errors
    /// [`DataError`] where there are no rows, not as many contexts, or a value is not finite.
    pub fn new(x: Rows, context: Option<Rows>) -> Result<Self, DataError> {
        if x.is_empty() {
            return Err(DataError::Empty);
        }
        if let Some(context) = context.as_ref().filter(|context| context.len() != x.len()) {
            let (rows, context) = (x.len(), context.len());
            return Err(DataError::Context { rows, context });
        }
        for (what, rows) in [("data", Some(&x)), ("context", context.as_ref())] {
            let values = rows.map_or(&[][..], Rows::values);
            if let Some(place) = values.iter().position(|v| !v.is_finite()) {
                let width = rows.map_or(1, Rows::width);
                return Err(DataError::NotFinite {
                    what,
                    row: place / width + 1,
                    column: place % width + 1,
                    value: values[place],
                });
            }
        }
        Ok(Self { x, context })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.x.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.x.is_empty()
    }

    /// The rows at these indices, in this order.
    pub fn pick(&self, indices: &[usize]) -> Self {
        Self {
            x: self.x.pick(indices),
            context: self.context.as_ref().map(|rows| rows.pick(indices)),
        }
    }

    /// Rows `from..to`.
    pub fn slice(&self, from: usize, to: usize) -> Self {
        Self {
            x: self.x.slice(from, to),
            context: self.context.as_ref().map(|rows| rows.slice(from, to)),
        }
    }

    /// The rows in a random order, without and with the last `fraction` of them: training and validation data.
    /// Both keep at least one row of two or more.
    pub fn split(&self, fraction: f64, seed: u64) -> (Self, Self) {
        let mut order: Vec<usize> = (0..self.len()).collect();
        shuffle(&mut order, &mut stream(seed, "split", 0));
        let held_out = (self.len() as f64 * fraction).round() as usize;
        let held_out = held_out.clamp(1, self.len().saturating_sub(1).max(1));
        let (train, validation) = order.split_at(self.len() - held_out.min(self.len()));
        (self.pick(train), self.pick(validation))
    }

    /// All rows as tensors: on `&device` in its default type, or `(&device, dtype)`.
    ///
    /// # Shapes
    /// - `[rows, dim]` and `[rows, context_dim]`
    pub fn tensors<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
    ) -> (Tensor<B, 2>, Option<Tensor<B, 2>>) {
        let options = options.into();
        let context = self
            .context
            .as_ref()
            .map(|rows| rows.tensor(options.clone()));
        (self.x.tensor(options), context)
    }
}

/// The rows of each step, slices of one permutation an epoch: a function of seed and step.
#[derive(Debug, Clone)]
pub struct Epochs {
    rows: usize,
    batch: usize,
    remainder: bool,
    first: u64,
    epoch: Option<usize>,
    order: Vec<usize>,
}

impl Epochs {
    /// Batches of exactly `batch` rows, or all rows where there are fewer; what remains of an epoch is left out.
    pub fn new(rows: usize, batch: usize) -> Self {
        Self {
            rows,
            batch: batch.min(rows).max(1),
            remainder: false,
            first: 0,
            epoch: None,
            order: Vec::new(),
        }
    }

    /// The same with a last, smaller batch of what remains.
    #[must_use]
    pub fn with_remainder(self) -> Self {
        Self {
            remainder: true,
            ..self
        }
    }

    /// The same with epochs numbered from `first`, which is part of what their permutations are made of.
    #[must_use]
    pub fn numbered_from(self, first: u64) -> Self {
        Self { first, ..self }
    }

    /// Rows in a whole batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Batches in an epoch.
    pub fn per_epoch(&self) -> usize {
        match self.remainder {
            true => self.rows.div_ceil(self.batch),
            false => self.rows / self.batch,
        }
        .max(1)
    }

    /// Indices of the rows of step `step`, counted from 0, in the run of this seed.
    pub fn rows_of(&mut self, seed: u64, step: usize) -> &[usize] {
        let epoch = step / self.per_epoch();
        if self.epoch != Some(epoch) {
            self.order = (0..self.rows).collect();
            shuffle(
                &mut self.order,
                &mut stream(seed, "epoch", epoch as u64 + self.first),
            );
            self.epoch = Some(epoch);
        }
        let from = step % self.per_epoch() * self.batch;
        &self.order[from..(from + self.batch).min(self.rows)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_goes_through_every_row_once() {
        for (remainder, expected) in [(false, 8), (true, 10)] {
            let mut epochs = Epochs::new(10, 4);
            epochs.remainder = remainder;
            let all = |epochs: &mut Epochs, epoch: usize| -> Vec<usize> {
                let steps = epoch * epochs.per_epoch()..(epoch + 1) * epochs.per_epoch();
                steps
                    .flat_map(|step| epochs.rows_of(3, step).to_vec())
                    .collect()
            };
            let (first, second) = (all(&mut epochs, 0), all(&mut epochs, 1));
            assert_ne!(first, second);
            assert_eq!(first, all(&mut epochs, 0));
            let mut sorted = first.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!((first.len(), sorted.len()), (expected, expected));
        }
        assert_eq!(Epochs::new(3, 100).rows_of(0, 7).len(), 3);
    }

    #[test]
    fn what_is_no_data_is_refused_by_its_place() {
        let rows = |values: &[f64], width| Rows::new(values.to_vec(), width);
        assert!(Rows::try_new(vec![1.0; 3], 2).is_err() && Rows::try_new(vec![1.0], 0).is_err());
        assert_eq!(Data::new(Rows::default(), None), Err(DataError::Empty));
        let two = rows(&[1.0, 2.0, 3.0, 4.0], 2);
        let error = Data::new(two.clone(), Some(rows(&[1.0], 1))).unwrap_err();
        assert!(error.to_string().contains("1 rows of context for 2 rows"));
        let error = Data::new(two.clone(), Some(rows(&[1.0, f64::NAN], 1))).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("row 2, column 1 of the context is NaN")
        );
        let (train, validation) = Data::new(two, None).unwrap().split(0.9, 0);
        assert_eq!((train.len(), validation.len()), (1, 1));
    }
}
