//! A flow for a table of one's own: fitted, kept in one file, scored and sampled in the table's units.

mod config;
mod detect;
mod determined;
mod family;
mod file;
mod fit;
mod kind;
mod notes;
mod prepared;

pub use config::{FitConfig, FitError, sampling_only};
pub use detect::{Detected, Given};
pub use determined::Determined;
pub use family::{Chosen, MODELS, Shape, choose};
pub use file::{ImportedFrom, ModelHeader};
pub use fit::{
    Checkpointing, Compute, begun_on, fit, fit_parts, fit_prepared, fit_with, member_checkpoint,
};
pub use kind::{ColumnKind, Kind};
pub use prepared::{FAR, Prepared};

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use flows_core::distributions::{LogProb, Sample};
use flows_models::DataToBaseFlow;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use kind::Kinds;

use crate::mixture::StudentMixture;
use crate::preprocessing::UNVARIED;
use crate::{Column, Preprocessing, Role, Rows};
use flows_models::stability::{Stability, measure_stability_in};
use flows_train::{Stopped, chunks, number_or_nan};

/// Rows whose paths are looked at for the stability of a DDNF.
const STABILITY_ROWS: usize = 32;

/// Points of a cell at which [`TableFlow::log_prob`] takes the density.
pub const POINTS: usize = 64;

/// How often a row that could not be computed is drawn.
const ATTEMPTS: usize = 10;

/// A fitted flow with everything that leads from a table's units to the flow's and back.
#[derive(Debug, Clone)]
pub struct TableFlow<B: Backend> {
    header: ModelHeader,
    preprocessing: Preprocessing,
    context: Option<Preprocessing>,
    members: Vec<DataToBaseFlow<B>>,
    mixture: Option<StudentMixture>,
    device: B::Device,
}

/// How a flow was fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Seed of the split, the parameters and the batches.
    pub seed: u64,
    /// Fractions of the rows held out for validation and test.
    pub held_out: [f64; 2],
    /// Rows for training, validation and test.
    pub rows: [usize; 3],
    /// Rows left out for a missing value.
    pub skipped: usize,
    /// Rows left out for a value far from all others.
    #[serde(default, skip_serializing_if = "is_none")]
    pub far: usize,
    /// Times that a row of a batch was left out, as the flow gave it no finite log-density.
    #[serde(default, skip_serializing_if = "is_none")]
    pub not_finite: usize,
    /// [`Table::fingerprint`](crate::Table::fingerprint) of the table, in hexadecimal.
    pub table: String,
    /// Gradient steps, and those after which the parameters kept were reached.
    pub steps: [usize; 2],
    /// Rows in a batch.
    pub batch: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Whether the rows had weights, in the loss and in the scores.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub weighted: bool,
    /// Why training ended.
    pub stopped: Stopped,
    /// Trained scalars.
    pub parameters: usize,
    /// Mean log-likelihood of the validation rows, in nats.
    pub validation: f64,
    /// Log-likelihood of the test rows.
    pub test: Estimate,
    /// The same of a Gaussian with a full covariance, conditioned on the context; not there where the
    /// covariance is singular.
    pub gaussian: Option<Estimate>,
    /// Seconds of training.
    pub seconds: f64,
    /// Backend and type it was fitted with, in words; empty where nobody said.
    #[serde(default)]
    pub computed_on: String,
}

fn is_none(count: &usize) -> bool {
    *count == 0
}

/// A mean over rows with its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// The mean; NaN where one of the values was not finite.
    #[serde(deserialize_with = "number_or_nan")]
    pub mean: f64,
    /// Its standard error, not there for fewer than two rows.
    pub stderr: Option<f64>,
}

impl Estimate {
    /// Mean and standard error of independent values.
    pub fn of(values: &[f64]) -> Self {
        Self::weighted(values, |_| 1.0)
    }

    /// As [`of`](Self::of), with a weight for each value: the mean is `sum w v / sum w`, its variance
    /// `n / (n - 1) sum w^2 (v - mean)^2 / (sum w)^2`.
    pub fn weighted(values: &[f64], weight: impl Fn(usize) -> f64) -> Self {
        let n = values.len() as f64;
        let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
            let terms = values.iter().enumerate().filter(|(i, _)| weight(*i) > 0.0);
            terms.map(|(i, v)| f(weight(i), *v)).sum()
        };
        let total = sum(&|w, _| w);
        let mean = sum(&|w, v| w * v) / total;
        let squares = sum(&|w, v| (w * (v - mean)).powi(2));
        let stderr = (values.len() > 1).then(|| (n / (n - 1.0) * squares).sqrt() / total);
        Self { mean, stderr }
    }
}

impl<B: Backend> TableFlow<B> {
    /// What is known of it besides its parameters.
    pub fn header(&self) -> &ModelHeader {
        &self.header
    }

    /// The map between the table's units and the flow's.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// The flows, in their own units: one, or the members of an ensemble.
    pub fn members(&self) -> &[DataToBaseFlow<B>] {
        &self.members
    }

    /// One member alone, without the mixture; `None` for one that is not there.
    pub fn member(&self, member: usize) -> Option<Self> {
        let flow = self.members.get(member)?.clone();
        let header = ModelHeader {
            members: 1,
            mixture: None,
            ..self.header.clone()
        };
        Some(Self {
            header,
            members: vec![flow],
            mixture: None,
            ..self.clone()
        })
    }

    /// The standard deviation over members of the log-density of each row, in nats: how much the density depends on
    /// what a fit draws; `None` for fewer than two members.
    ///
    /// # Panics
    /// As [`log_prob_with`](Self::log_prob_with).
    pub fn spread(&self, x: &Rows, context: Option<&Rows>, points: usize) -> Option<Vec<f64>> {
        if self.members.len() < 2 {
            return None;
        }
        let members = (0..self.members.len()).filter_map(|k| self.member(k));
        let scores: Vec<Vec<f64>> = members
            .map(|m| m.log_prob_with(x, context, points))
            .collect();
        let n = scores.len() as f64;
        let deviation = |row: usize| {
            let mean = scores.iter().map(|s| s[row]).sum::<f64>() / n;
            let squares = scores.iter().map(|s| (s[row] - mean).powi(2));
            (squares.sum::<f64>() / (n - 1.0)).sqrt()
        };
        Some((0..x.len()).map(deviation).collect())
    }

    /// The mixture that has a share in the density, in the units of the flows, behind their context.
    pub fn mixture(&self) -> Option<&StudentMixture> {
        self.mixture.as_ref()
    }

    /// Number of modelled columns, with those that the others determine.
    pub fn dim(&self) -> usize {
        self.header.count(Role::Density)
    }

    /// Number of columns conditioned on.
    pub fn context_dim(&self) -> usize {
        self.context.as_ref().map_or(0, Preprocessing::dim)
    }

    /// Names of the columns with this role, in the order of the file.
    pub fn names(&self, role: Role) -> Vec<&str> {
        let columns = self.header.columns.iter().filter(|c| c.role == role);
        columns.map(|c| c.name.as_str()).collect()
    }

    /// Places of the modelled columns that the flow is over.
    pub fn free(&self) -> Vec<usize> {
        free(&self.header.columns, &self.header.determined)
    }

    /// Names of the modelled columns that the flow is over.
    pub fn free_names(&self) -> Vec<&str> {
        let names = self.names(Role::Density);
        self.free().into_iter().map(|place| names[place]).collect()
    }

    /// Whether each row has a column that is not what the others determine.
    pub fn differs(&self, x: &Rows, context: Option<&Rows>) -> Vec<bool> {
        let determined = &self.header.determined;
        if determined.is_empty() {
            return vec![false; x.len()];
        }
        let mut names = self.names(Role::Density);
        names.extend(self.names(Role::Context));
        let differs = |row: &[f64]| {
            let value = |name: &str| row[place(&names, name)];
            let error = |d: &Determined| (value(&d.column) - d.value(value)).abs();
            !determined.iter().all(|d| error(d) <= d.tolerance)
        };
        joined(x, context).iter().map(differs).collect()
    }

    /// The kinds of the columns that the flow is over.
    fn kinds(&self) -> Kinds {
        Kinds::of(&self.free_names(), &self.header.kinds)
    }

    /// `log p(x | context)` of each row in nats, of the density in the table's units; of columns that have cells
    /// (see [`Kind`]), the probability of the value. The integral over the cells is the mean over [`POINTS`] points
    /// that fill them evenly, importance sampling with uniform proposals.
    ///
    /// NaN for a row with a missing value (NaN), and for one whose context is too far for the flow to
    /// compute with. `-inf` for a row farther than [`FAR`] standard deviations from the training rows, or too
    /// far to compute with, and for one in which a column is not what the others determine.
    ///
    /// # Panics
    /// Where the widths are not those of the model, or a context is missing or too much.
    pub fn log_prob(&self, x: &Rows, context: Option<&Rows>) -> Vec<f64> {
        self.log_prob_with(x, context, POINTS)
    }

    /// As [`log_prob`](Self::log_prob), with the density at this many points of a cell. The integral is exact as
    /// they become many; its logarithm is, on average, below the exact one.
    ///
    /// # Panics
    /// As [`log_prob`](Self::log_prob), and for no points.
    pub fn log_prob_with(&self, x: &Rows, context: Option<&Rows>, points: usize) -> Vec<f64> {
        assert_eq!(x.width(), self.dim());
        assert!(points > 0);
        let free = x.columns(&self.free());
        let own = self.own_context(context);
        let kinds = self.kinds();
        let points = if kinds.with_cells() == 0 { 1 } else { points };
        let mut scores = vec![f64::NEG_INFINITY; x.len()];
        for point in 0..points {
            let mut noise = kinds.noise(point, points).into_iter().cycle();
            let (z, log_slopes) = kinds.apply(&free, || noise.next().expect("a column with cells"));
            let densities = self.log_density(&self.preprocessing.apply(&z), own.as_ref());
            for ((score, density), log_slope) in scores.iter_mut().zip(densities).zip(log_slopes) {
                *score = log_add(*score, density + log_slope);
            }
        }
        let differs = self.differs(x, context);
        for (row, score) in scores.iter_mut().enumerate() {
            let given = context.map_or(&[][..], |rows| rows.row(row));
            if x.row(row).iter().chain(given).any(|v| v.is_nan()) {
                *score = f64::NAN;
            } else if differs[row] {
                *score = f64::NEG_INFINITY;
            } else {
                *score -= (points as f64).ln();
            }
        }
        scores
    }

    /// The log-density of rows in the flow's units, of the density in those of the kinds: the logarithm of the mean
    /// over members and, with its share, the mixture.
    fn log_density(&self, z: &Rows, own: Option<&Rows>) -> Vec<f64> {
        let mut scores = vec![f64::NEG_INFINITY; z.len()];
        let share = self.header.mixture.unwrap_or(0.0);
        let log_each = ((1.0 - share) / self.members.len() as f64).ln();
        for member in &self.members {
            let of = self.log_density_of(member, z, own);
            let pairs = scores.iter_mut().zip(of);
            pairs.for_each(|(score, of)| *score = log_add(*score, of + log_each));
        }
        if let Some(mixture) = &self.mixture {
            let log_det = self.preprocessing.log_det();
            let given = own.map_or(0, Rows::width);
            let whole = own.map_or_else(|| z.clone(), |own| own.beside(z));
            for (score, row) in scores.iter_mut().zip(whole.iter()) {
                if !is_beyond(&row[given..], FAR) {
                    let of = mixture.log_prob(row, given) - log_det + share.ln();
                    *score = log_add(*score, of);
                }
            }
        }
        scores
    }

    /// The log-density of one member.
    fn log_density_of(&self, flow: &DataToBaseFlow<B>, z: &Rows, own: Option<&Rows>) -> Vec<f64> {
        let log_det = self.preprocessing.log_det();
        let score = |(from, to): (usize, usize)| {
            let part = |rows: &Rows| rows.slice(from, to).tensor::<B>(&self.device);
            let log_prob = flow.log_prob(part(z), own.map(part));
            let values: Vec<f64> = log_prob.into_data().iter().collect();
            values.into_iter().map(|v: f64| v - log_det)
        };
        let mut scores: Vec<f64> = chunks(z.len(), z.width()).flat_map(score).collect();
        for (row, score) in scores.iter_mut().enumerate() {
            if is_beyond(z.row(row), FAR)
                || (score.is_nan() || *score == f64::INFINITY) && is_beyond(z.row(row), 10.0)
            {
                *score = f64::NEG_INFINITY;
            }
        }
        scores
    }

    /// Whether the steps of DDNF's blocks are small enough for the first 32 rows without a missing value;
    /// `None` without such blocks or rows.
    ///
    /// # Panics
    /// As [`log_prob`](Self::log_prob).
    pub fn stability(&self, x: &Rows, context: Option<&Rows>) -> Option<Stability> {
        let whole = joined(x, context);
        let finite = |row: &usize| whole.row(*row).iter().all(|v| v.is_finite());
        let some: Vec<usize> = (0..x.len()).filter(finite).take(STABILITY_ROWS).collect();
        if some.is_empty() {
            return None;
        }
        let (z, _) = self
            .kinds()
            .apply(&x.pick(&some).columns(&self.free()), || 0.5);
        let z = self.preprocessing.apply(&z);
        let own = self.own_context(context.map(|rows| rows.pick(&some)).as_ref());
        let own = own.map(|rows| rows.tensor(&self.device));
        measure_stability_in(
            self.members[0].bijector().layers(),
            z.tensor(&self.device),
            own,
        )
    }

    /// Draws `n` rows in the table's units; with a context, one for each of its `n` rows. Rows
    /// that the flow cannot compute, such as where an inverse is not solved, are drawn again as long as they are at most
    /// one in a hundred; otherwise they are not finite.
    ///
    /// # Panics
    /// As [`log_prob`](Self::log_prob).
    pub fn sample(&self, n: usize, context: Option<&Rows>, rng: &mut dyn Rng) -> Rows {
        let own = self.own_context(context);
        let dim = self.preprocessing.dim();
        // Each row is drawn by a member or the mixture; with a single member, all of them are by it.
        let sources = self.members.len() + usize::from(self.mixture.is_some());
        let share = self.header.mixture.unwrap_or(0.0);
        let source = |rng: &mut dyn Rng| match sources {
            1 => 0,
            _ if rng.random::<f64>() < share => self.members.len(),
            _ => rng.random_range(0..self.members.len()),
        };
        let mut values = vec![0.0; n * dim];
        let mut wanted: Vec<usize> = (0..n).collect();
        for _ in 0..ATTEMPTS {
            let mut of: Vec<Vec<usize>> = vec![Vec::new(); sources];
            wanted.iter().for_each(|&row| of[source(rng)].push(row));
            for (source, rows) in of.iter().enumerate() {
                let own = own.as_ref().map(|own| own.pick(rows));
                let drawn = match (self.members.get(source), &self.mixture) {
                    (Some(flow), _) => self.draw(flow, rows.len(), own.as_ref(), rng),
                    (None, Some(mixture)) => {
                        let context = |row: usize| own.as_ref().map_or(&[][..], |own| own.row(row));
                        let row = |row| mixture.sample(context(row), rng);
                        Rows::new((0..rows.len()).flat_map(row).collect(), dim)
                    }
                    (None, None) => unreachable!("as many sources as members"),
                };
                for (&row, drawn) in rows.iter().zip(drawn.iter()) {
                    values[row * dim..(row + 1) * dim].copy_from_slice(drawn);
                }
            }
            wanted.retain(|row| {
                !values[row * dim..(row + 1) * dim]
                    .iter()
                    .all(|v| v.is_finite())
            });
            if wanted.is_empty() || wanted.len() * 100 > n.max(100) {
                break;
            }
        }
        let drawn = self.preprocessing.undo(&Rows::new(values, dim));
        let drawn = self.kinds().undo(drawn);
        let determined = &self.header.determined;
        if determined.is_empty() {
            return drawn;
        }
        let columns = self.names(Role::Density);
        let mut names = self.free_names();
        names.extend(self.names(Role::Context));
        let whole = joined(&drawn, context);
        let values = whole.iter().flat_map(|row| {
            let value = |name: &str| row[place(&names, name)];
            let whole = columns.iter().map(|name| {
                let formula = determined.iter().find(|d| d.column == *name);
                formula.map_or_else(|| value(name), |d| d.value(value))
            });
            whole.collect::<Vec<f64>>()
        });
        Rows::new(values.collect(), columns.len())
    }

    /// Draws of one member in the flow's units.
    fn draw(
        &self,
        flow: &DataToBaseFlow<B>,
        n: usize,
        own: Option<&Rows>,
        rng: &mut dyn Rng,
    ) -> Rows {
        let dim = self.preprocessing.dim();
        let mut values = Vec::with_capacity(n * dim);
        for (from, to) in chunks(n, dim) {
            let part = |rows: &Rows| rows.slice(from, to).tensor::<B>(&self.device);
            let z: Tensor<B, 2> = flow.sample(to - from, own.map(part), rng);
            values.extend(z.into_data().iter::<f64>());
        }
        Rows::new(values, dim)
    }

    /// Rows with their contexts in the standard deviations of the training rows, behind the maps of the kinds, with
    /// the middles of cells, and without the columns that others determine.
    pub fn standardized(&self, x: &Rows, context: Option<&Rows>) -> Rows {
        let (z, _) = self.kinds().apply(&x.columns(&self.free()), || 0.5);
        let joint = joined(&z, context);
        let maps = || [&self.preprocessing].into_iter().chain(&self.context);
        let mean: Vec<f64> = maps().flat_map(|map| map.mean()).copied().collect();
        let scale: Vec<f64> = maps().flat_map(Preprocessing::scale).collect();
        let units = joint.iter().flat_map(|row| {
            let moments = mean.iter().zip(&scale);
            row.iter()
                .zip(moments)
                .map(|(v, (mean, scale))| (v - mean) / scale)
        });
        Rows::new(units.collect(), joint.width())
    }

    /// How many standard deviations of the training rows the farthest value of each context lies from
    /// their mean; infinite for another value of a context that never varied.
    pub fn context_distances(&self, context: &Rows) -> Vec<f64> {
        let Some(map) = &self.context else {
            return vec![0.0; context.len()];
        };
        let scale = map.scale();
        let distance = |row: &[f64]| {
            let values = row.iter().zip(map.mean()).zip(&scale);
            let distances = values.map(|((v, mean), scale)| {
                if *scale == UNVARIED && v != mean {
                    return f64::INFINITY;
                }
                (v - mean).abs() / scale
            });
            distances.fold(0.0, f64::max)
        };
        context.iter().map(distance).collect()
    }

    fn own_context(&self, context: Option<&Rows>) -> Option<Rows> {
        match (&self.context, context) {
            (Some(map), Some(rows)) => Some(map.apply(rows)),
            (None, None) => None,
            (Some(_), None) => panic!("the model takes a context, and none was given"),
            (None, Some(_)) => panic!("the model takes no context, and one was given"),
        }
    }
}

/// Rows and, where there is one, their context beside them.
fn joined(x: &Rows, context: Option<&Rows>) -> Rows {
    context.map_or_else(|| x.clone(), |context| x.beside(context))
}

/// `ln(e^a + e^b)`.
fn log_add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    match low == f64::NEG_INFINITY {
        true => high,
        false => high + (low - high).exp().ln_1p(),
    }
}

fn place(names: &[&str], name: &str) -> usize {
    let found = names.iter().position(|n| *n == name);
    found.expect("a name that was checked when the model was read")
}

/// Whether a value of a row in standard deviations lies farther out than `limit`.
fn is_beyond(z: &[f64], limit: f64) -> bool {
    z.iter().any(|v| v.is_nan() || v.abs() > limit)
}

/// Places among the modelled columns of those that are not determined.
fn free(columns: &[Column], determined: &[Determined]) -> Vec<usize> {
    let density = columns.iter().filter(|c| c.role == Role::Density);
    let varies = |c: &Column| !determined.iter().any(|d| d.column == c.name);
    let places = density.enumerate().filter(|(_, c)| varies(c));
    places.map(|(place, _)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Table;
    use burn::backend::{Autodiff, Flex};
    use burn::module::{Module, ModuleMapper, Param};
    use flows_models::DdnfConfig;
    use flows_train::stream;

    /// Multiplies the output weights of fields of 16 units, which leaves the slopes of the units alone.
    struct OutputTimes(f64);

    impl ModuleMapper<Flex> for OutputTimes {
        fn map_float<const D: usize>(
            &mut self,
            param: Param<Tensor<Flex, D>>,
        ) -> Param<Tensor<Flex, D>> {
            let (id, tensor, mapper) = param.consume();
            let is_output = D == 2 && tensor.dims()[0] == 16;
            let factor = if is_output { self.0 } else { 1.0 };
            Param::from_mapped_value(id, tensor * factor, mapper)
        }
    }

    #[test]
    fn a_fitted_ddnf_says_where_its_steps_are_too_large() {
        let rng = &mut stream(0, "test", 0);
        let values: Vec<f64> = (0..400).map(|_| rng.random_range(-1.0..1.0)).collect();
        let table = Table::from_values(["a", "b"], values).unwrap();
        let rows = table.density.clone();
        let model = DdnfConfig {
            blocks: 1,
            cells: 1,
            hidden: vec![16],
            ..DdnfConfig::new(2)
        };
        let config = FitConfig {
            course: flows_train::Training {
                steps: 1,
                ..flows_train::Training::default()
            },
            ..FitConfig::new(model)
        };
        let mut fitted = fit::<Autodiff<Flex>>(&table, &config, &Default::default()).unwrap();
        assert_eq!(fitted.stability(&rows, None).unwrap().warnings, [""; 0]);
        fitted.members = fitted
            .members
            .into_iter()
            .map(|m| m.map(&mut OutputTimes(1000.0)))
            .collect();
        // A missing value says nothing of the field.
        let rows = Rows::new([&[f64::NAN, 0.0], rows.values()].concat(), 2);
        let stability = fitted.stability(&rows, None).unwrap();
        assert!(stability.warnings[0].contains("field too stiff for T = 1"));
        assert!(stability.evaluations == STABILITY_ROWS && stability.max_rho.is_some());
    }
}
