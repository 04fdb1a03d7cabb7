//! The variables that a coupling leaves as they are.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The variables that a coupling leaves as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Untouched {
    /// `0, 2, 4, ...`
    #[default]
    Even,
    /// `1, 3, 5, ...`
    Odd,
    /// The first half, the smaller one for an odd dimension.
    FirstHalf,
    /// The second half, the larger one for an odd dimension.
    SecondHalf,
    /// Any subset, neither empty nor all: in a configuration, a list.
    #[serde(untagged)]
    Variables(Vec<usize>),
}

impl Untouched {
    /// The variables among `0..dim`, as listed.
    ///
    /// # Errors
    /// [`Error::Config`] where none or all of the variables are untouched, or a list is no subset.
    pub fn variables(&self, dim: usize) -> Result<Vec<usize>, Error> {
        let variables: Vec<usize> = match self {
            Self::Even => (0..dim).step_by(2).collect(),
            Self::Odd => (1..dim).step_by(2).collect(),
            Self::FirstHalf => (0..dim / 2).collect(),
            Self::SecondHalf => (dim / 2..dim).collect(),
            Self::Variables(list) => list.clone(),
        };
        let mut distinct = variables.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let inside = variables.iter().all(|&i| i < dim);
        if inside && distinct.len() == variables.len() && (1..dim).contains(&variables.len()) {
            return Ok(variables);
        }
        let actual = format!("{variables:?}");
        let expected = format!("between 1 and dim - 1 distinct variables below dim = {dim}");
        Err(Error::config("coupling", "untouched", actual, expected))
    }
}
