//! What kind of variable each column of a table seems to be.

use super::kind::{ColumnKind, Kind};
use super::notes::shown;
use super::{FitError, Prepared};
use crate::{DataError, Role};

/// What is known of the kind of a column before its values are looked at.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    /// As it is.
    Continuous,
    /// Positive.
    Positive,
    /// Between two ends.
    Bounds(f64, f64),
    /// On a circle of this length.
    Periodic(f64),
    /// Whole numbers or levels.
    Discrete,
}

/// A column that is not just continuous, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Detected {
    /// The column.
    pub column: String,
    /// Its kind.
    pub kind: Kind,
    /// What was seen of the training rows, or that it was asked for.
    pub reason: String,
}

impl Detected {
    /// As a configuration holds it.
    pub fn column_kind(&self) -> ColumnKind {
        ColumnKind {
            column: self.column.clone(),
            kind: self.kind.clone(),
        }
    }

    /// A sentence with the remedy.
    pub fn words(&self) -> String {
        let Self {
            column,
            kind,
            reason,
        } = self;
        format!(
            "column '{column}' is taken as {}: {reason}; --continuous {column} takes it as it is",
            kind.words()
        )
    }
}

/// Fewest training rows in which a kind is looked for.
const FEWEST: usize = 100;

/// Most levels of a column that is no run of whole numbers.
const LEVELS: usize = 50;

/// Intervals that bounded variables are commonly given in.
const INTERVALS: [(f64, f64); 4] = [(0.0, 1.0), (0.0, 100.0), (-1.0, 1.0), (-100.0, 100.0)];

impl Prepared<'_> {
    /// The kinds of the columns that a flow is over: those given, and with `look` those that the training rows show.
    ///
    /// Where a column is looked at, a map to the reals is taken only if a Gaussian behind it has a higher
    /// log-likelihood, by 0.1 nats a row, or by 0.05 for an interval that the values fill.
    ///
    /// # Errors
    /// [`FitError`] for a column that is not there, and values that its given kind does not have.
    pub fn kinds(&self, given: &[(String, Given)], look: bool) -> Result<Vec<Detected>, FitError> {
        let train = &self.parts[0];
        let names = train.names(Role::Density);
        if let Some((name, _)) = given
            .iter()
            .find(|(name, _)| !names.contains(&name.as_str()))
        {
            let names = names.join(", ");
            return Err(FitError::Config(format!(
                "no column '{name}' is modelled; those that are: {names}"
            )));
        }
        if let Some((name, _)) = (1..given.len())
            .filter(|&i| given[..i].iter().any(|(name, _)| *name == given[i].0))
            .map(|i| &given[i])
            .next()
        {
            return Err(FitError::Config(format!(
                "column '{name}' is given two kinds"
            )));
        }
        let mut found = Vec::new();
        for (column, name) in names.into_iter().enumerate() {
            if self.determined.iter().any(|d| d.column == name) {
                continue;
            }
            let mut values: Vec<f64> = train.density.column(column).map(|v| v + 0.0).collect();
            values.sort_by(f64::total_cmp);
            let seen = match given.iter().find(|(given, _)| given == name) {
                Some((_, Given::Continuous)) => None,
                Some((_, given)) => Some(asked_for(name, given, &values)?),
                None if look && values.len() >= FEWEST => look_at(&values),
                None => None,
            };
            found.extend(seen.map(|(kind, reason)| Detected {
                column: name.to_owned(),
                kind,
                reason,
            }));
        }
        Ok(found)
    }
}

/// The kind of a column that somebody knows.
fn asked_for(name: &str, given: &Given, sorted: &[f64]) -> Result<(Kind, String), FitError> {
    let kind = match given {
        Given::Continuous => Kind::Continuous,
        Given::Positive => {
            let maps = positive(sorted);
            maps.into_iter()
                .max_by(|a, b| better(a, b, sorted))
                .expect("a map without a scale")
        }
        Given::Bounds(low, high) => Kind::Bounded {
            low: *low,
            high: *high,
        },
        Given::Periodic(period) => periodic(*period, sorted),
        Given::Discrete => discrete(sorted),
    };
    if let Some(problem) = kind.problem() {
        return Err(FitError::Config(format!("column '{name}': {problem}")));
    }
    let outside = |v: &&f64| kind.to_real(**v, 0.5).is_none();
    if let Some(value) = sorted.iter().find(outside) {
        let count = sorted.iter().filter(outside).count();
        return Err(DataError::Table(format!(
            "column '{name}' has the value {} and {} others that are not {}; leave such rows out, or give it \
             another kind",
            shown(*value),
            count - 1,
            kind.words()
        ))
        .into());
    }
    Ok((kind, "asked for".to_owned()))
}

/// The kind that a column seems to have, if it is not just continuous.
fn look_at(sorted: &[f64]) -> Option<(Kind, String)> {
    let rows = sorted.len();
    let runs = runs(sorted);
    let (low, high) = (sorted[0], sorted[rows - 1]);
    let rarest = runs.iter().map(|run| run.1).min()?;
    let few = runs.len() <= LEVELS && runs.len() * 4 < rows;
    if is_whole(sorted) && runs.len() * 2 < rows {
        let kind = discrete(sorted);
        let count = runs.len();
        return Some((
            kind,
            format!("all {rows} values are whole numbers, {count} different ones"),
        ));
    }
    if few && rarest >= 5 {
        let reason = format!("{rows} values are {} different ones", runs.len());
        return Some((discrete(sorted), reason));
    }
    // A value at an end that comes far more often than any other.
    let [first, last] = [runs[0], runs[runs.len() - 1]];
    let (spike, above) = if first.1 >= last.1 {
        (first, true)
    } else {
        (last, false)
    };
    let most_of_others = runs
        .iter()
        .filter(|run| run.0 != spike.0)
        .map(|run| run.1)
        .max();
    if spike.1 * 50 >= rows && spike.1 >= 10 * most_of_others? && runs.len() >= 20 {
        let side = if above { "above" } else { "below" };
        let reason = format!(
            "{} of {rows} values are {}, the others {side} it",
            spike.1,
            shown(spike.0)
        );
        return Some((spiked(spike.0, above, sorted), reason));
    }
    let own = gaussian(&Kind::Continuous, sorted)?;
    let gain = |kind: &Kind| gaussian(kind, sorted).map_or(f64::NEG_INFINITY, |g| g - own);
    for (a, b) in INTERVALS {
        let margin = 0.02 * (b - a);
        let filled = a < low && low < a + margin && b - margin < high && high < b;
        let kind = Kind::Bounded { low: a, high: b };
        if filled && gain(&kind) >= 0.05 {
            let reason = format!(
                "all {rows} values are, and reach from {} to {}",
                shown(low),
                shown(high)
            );
            return Some((kind, reason));
        }
    }
    let mut maps = if low > 0.0 {
        positive(sorted)
    } else {
        Vec::new()
    };
    maps.extend(heavy(sorted));
    let best = maps.into_iter().max_by(|a, b| better(a, b, sorted))?;
    let gain = gain(&best);
    (gain >= 0.1).then(|| {
        let range = match best {
            Kind::Positive { .. } => format!("all {rows} values are above 0, and "),
            _ => String::new(),
        };
        let reason =
            format!("{range}a Gaussian fits it better by {gain:.2} nats a row than as it is");
        (best, reason)
    })
}

fn is_whole(values: &[f64]) -> bool {
    values.iter().all(|v| v.fract() == 0.0 && v.abs() < 9e15)
}

/// Which of two maps fits a Gaussian better.
fn better(a: &Kind, b: &Kind, sorted: &[f64]) -> std::cmp::Ordering {
    let score = |kind| gaussian(kind, sorted).unwrap_or(f64::NEG_INFINITY);
    score(a).total_cmp(&score(b))
}

/// The mean log-likelihood of the Gaussian of maximum likelihood behind a map, in nats.
fn gaussian(kind: &Kind, values: &[f64]) -> Option<f64> {
    let step = values.len().div_ceil(10_000);
    let mapped = values.iter().step_by(step).map(|v| kind.to_real(*v, 0.5));
    let (z, log_slopes): (Vec<f64>, Vec<f64>) =
        mapped.collect::<Option<Vec<_>>>()?.into_iter().unzip();
    let n = z.len() as f64;
    let mean = z.iter().sum::<f64>() / n;
    let variance = z.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    let entropy = 0.5 * (std::f64::consts::TAU * std::f64::consts::E * variance).ln();
    let score = log_slopes.iter().sum::<f64>() / n - entropy;
    score.is_finite().then_some(score)
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

fn positive(sorted: &[f64]) -> Vec<Kind> {
    let scale = sorted.iter().sum::<f64>() / sorted.len() as f64;
    let mut maps = vec![Kind::Positive { scale: None }];
    maps.extend((scale > 0.0).then_some(Kind::Positive { scale: Some(scale) }));
    maps
}

fn heavy(sorted: &[f64]) -> Option<Kind> {
    let [low, centre, high] = [0.25, 0.5, 0.75].map(|share| quantile(sorted, share));
    let scale = 0.5 * (high - low);
    (scale > 0.0).then_some(Kind::Heavy { centre, scale })
}

/// Levels where there are two, or few that all come often; whole numbers otherwise.
fn discrete(sorted: &[f64]) -> Kind {
    let runs = runs(sorted);
    let common = runs
        .iter()
        .all(|run| run.1 >= 5 && run.1 * 100 >= sorted.len());
    if !is_whole(sorted) || runs.len() == 2 || runs.len() <= LEVELS && common {
        let values = runs.iter().map(|run| run.0).collect();
        return Kind::Levels { values };
    }
    if sorted[0] < 0.0 {
        return Kind::Whole {
            low: None,
            long_tail: false,
        };
    }
    // Zero, unless it is left out for a reason.
    let from_one = sorted[0] == 1.0 && runs[0].1 * 100 >= sorted.len();
    let low = Some(f64::from(u8::from(from_one)));
    let [short, long] = [false, true].map(|long_tail| Kind::Whole { low, long_tail });
    match better(&short, &long, sorted).is_lt() {
        true => long,
        false => short,
    }
}

/// The scale makes the density of the others begin at the height of the noise, as far as they are exponential.
fn spiked(at: f64, above: bool, sorted: &[f64]) -> Kind {
    let beyond = sorted.iter().map(|v| (v - at).abs()).filter(|d| *d > 0.0);
    let (count, sum) = beyond.fold((0.0, 0.0), |(n, sum), d| (n + 1.0, sum + d));
    let spikes = sorted.len() as f64 - count;
    Kind::Spike {
        at,
        above,
        scale: sum / count * spikes / count,
    }
}

/// Cut in the middle of the widest gap.
fn periodic(period: f64, sorted: &[f64]) -> Kind {
    let mut ways: Vec<f64> = sorted.iter().map(|v| v.rem_euclid(period)).collect();
    ways.sort_by(f64::total_cmp);
    let next = |i: usize| match ways.get(i + 1) {
        Some(next) => *next,
        None => ways[0] + period,
    };
    let gap = |i: &usize| next(*i) - ways[*i];
    let widest = (0..ways.len())
        .max_by(|a, b| gap(a).total_cmp(&gap(b)))
        .unwrap_or(0);
    let cut = (ways[widest] + 0.5 * gap(&widest)).rem_euclid(period);
    let [low, high] = [sorted[0], sorted[sorted.len() - 1]];
    let starts = [0.0, -0.5 * period];
    let from = starts
        .into_iter()
        .find(|from| *from <= low && high <= from + period);
    Kind::Periodic {
        period,
        cut,
        from: from.unwrap_or(0.0),
    }
}

/// The values of a sorted column, and how often each comes.
fn runs(sorted: &[f64]) -> Vec<(f64, usize)> {
    super::notes::runs(sorted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flows_train::stream;
    use rand::RngExt;

    fn seen(n: usize, mut value: impl FnMut(f64, f64) -> f64) -> String {
        let rng = &mut stream(0, "test", 0);
        let mut values: Vec<f64> = (0..n).map(|_| value(rng.random(), rng.random())).collect();
        values.sort_by(f64::total_cmp);
        look_at(&values).map_or("continuous".to_owned(), |(kind, _)| kind.words())
    }

    fn normal(a: f64, b: f64) -> f64 {
        (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }

    #[test]
    fn kinds_are_seen_and_what_is_only_near_to_one_is_not() {
        for (expected, found) in [
            ("continuous", seen(1000, normal)),
            ("continuous", seen(1000, |a, b| 50.0 + normal(a, b))),
            ("continuous", seen(1000, |a, b| 0.5 + 0.2 * normal(a, b))),
            ("continuous", seen(1000, |a, _| 3.0 * a - 0.3)),
            ("continuous", seen(1000, |a, _| (a * 1e6).round())),
            ("between 0 and 1 (logit)", seen(1000, |a, _| a)),
            ("between -1 and 1 (logit)", seen(1000, |a, _| 2.0 * a - 1.0)),
            (
                "positive (softplus)",
                seen(1000, |a, _| -3.0 * (1.0 - a).ln()),
            ),
            (
                "positive (logarithm)",
                seen(1000, |a, b| (2.0 * normal(a, b)).exp()),
            ),
            (
                "long tails (arcsinh)",
                seen(1000, |a, _| (std::f64::consts::PI * (a - 0.5)).tan()),
            ),
            ("2 levels", seen(1000, |a, _| f64::from(u8::from(a > 0.98)))),
            ("6 levels", seen(1000, |a, _| (a * 6.0).floor() * 0.25)),
            ("6 levels", seen(1000, |a, _| 1.0 + (a * 6.0).floor())),
            (
                "whole numbers from 0",
                seen(1000, |a, _| (-4.0 * (1.0 - a).ln()).floor()),
            ),
            (
                "whole numbers",
                seen(1000, |a, b| (3.0 * normal(a, b)).round()),
            ),
            (
                "the value 0, or continuous above it",
                seen(1000, |a, b| if a < 0.6 { 0.0 } else { -(1.0 - b).ln() }),
            ),
            (
                "the value 8, or continuous below it",
                seen(1000, |a, b| (8.0f64).min(6.0 + 2.0 * normal(a, b))),
            ),
            // Neither a spike in the middle nor a rare one is an end.
            (
                "continuous",
                seen(1000, |a, b| if a < 0.3 { 0.0 } else { normal(a, b) }),
            ),
        ] {
            assert_eq!(found, expected);
        }
    }
}
