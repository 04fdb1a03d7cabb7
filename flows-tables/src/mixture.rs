//! A mixture of normal and Student distributions with full covariances: what few rows support, and tails that no row
//! is too far for.

use std::f64::consts::PI;

use burn::tensor::TensorData;
use flows_core::state::State;
use rand::{Rng, RngExt};
use rand_distr::{ChiSquared, Distribution, StandardNormal};
use rayon::prelude::*;

use super::Rows;
use super::gaussian::{Cholesky, moments, weighted_moments};
use super::preprocessing::finite_numbers;

/// `p(x) = sum_k w_k t(x; nu_k, m_k, L_k L_k^T)`, with the multivariate Student density
///
/// `log t = lnG((nu + d) / 2) - lnG(nu / 2) - d/2 ln(nu pi) - sum_i ln L_ii - (nu + d)/2 ln(1 + |L^-1 (x - m)|^2 / nu)`
///
/// in nats, and the normal one where `nu` is infinite (Peel & McLachlan, *Robust mixture modelling using the t
/// distribution*, Statistics and Computing 10 (2000), equations 5 to 9). The first component is one wide Student
/// distribution of all rows, whose weight alone is fitted: far out, `log p` falls like a logarithm.
#[derive(Debug, Clone, PartialEq)]
pub struct StudentMixture {
    dim: usize,
    components: Vec<Component>,
}

#[derive(Debug, Clone, PartialEq)]
struct Component {
    weight: f64,
    /// Degrees of freedom; infinite for a normal distribution.
    degrees: f64,
    mean: Vec<f64>,
    lower: Vec<f64>,
}

/// What is chosen before a mixture is fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MixtureConfig {
    /// Components besides the wide one.
    pub components: usize,
    /// Their degrees of freedom.
    pub degrees: f64,
    /// Rows that the prior of each covariance, that of all rows times `components^(-2 / d)`, counts for.
    pub prior: f64,
}

/// Degrees of freedom of the wide component.
const WIDE: f64 = 3.0;

/// Most steps of expectation and maximization, and the gain in nats a row below which they end.
const STEPS: usize = 100;
const GAIN: f64 = 5e-4;

/// Numbers of components that [`StudentMixture::choose`] tries, in this order.
const LADDER: [usize; 10] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32];

/// Most rows that a mixture is fitted to: its time grows with them, and flows overtake it.
const MOST_ROWS: usize = 5_000;

/// Rows up to which several priors and degrees are tried.
const FEW_ROWS: usize = 1_500;

impl StudentMixture {
    /// Fits `rows`, whose columns have a scale of about 1, with a weight for each; `None` where their covariance is
    /// singular.
    pub fn fit(
        rows: &Rows,
        weights: &[f64],
        config: &MixtureConfig,
        rng: &mut dyn Rng,
    ) -> Option<Self> {
        let (n, dim) = (rows.len(), rows.width());
        let count = config.components;
        if n <= count.max(2) {
            return None;
        }
        let mut mixture = Self::wide(rows, weights)?;
        let shrink = (count as f64).powf(-2.0 / dim as f64);
        let covariance = weighted_moments(rows, |row| weights[row]).1;
        let prior: Vec<f64> = covariance.iter().map(|c| c * shrink).collect();
        let mut groups = groups(rows, weights, count, rng);
        let sum_weights: f64 = weights.iter().sum();
        mixture.components[0].weight = 1.0 / (sum_weights + 1.0);
        let mut before = f64::NEG_INFINITY;
        for step in 0..STEPS {
            // From responsibilities, with what each row counts in a mean and a covariance.
            let mut fitted: Vec<Component> = groups
                .par_iter()
                .map(|counts| Component::of(rows, counts, &prior, config))
                .collect::<Option<_>>()?;
            let total: f64 = fitted.iter().map(|c| c.weight).sum();
            let wide = mixture.components[0].clone();
            fitted
                .iter_mut()
                .for_each(|c| c.weight *= (1.0 - wide.weight) / total);
            mixture.components.truncate(1);
            mixture.components.extend(fitted);

            let expected: Vec<Expected> = (0..n)
                .into_par_iter()
                .map(|i| mixture.expect(rows.row(i)))
                .collect();
            let mean = expected.iter().zip(weights);
            let mean = mean.map(|(e, w)| e.log_prob * w).sum::<f64>() / sum_weights;
            let first = expected.iter().zip(weights).map(|(e, w)| e.shares[0].0 * w);
            // One row's worth of it at least, as far as other rows may lie farther out.
            mixture.components[0].weight = (1.0 + first.sum::<f64>()) / (1.0 + sum_weights);
            let rest = 1.0 - mixture.components[0].weight;
            let others: f64 = mixture.components[1..].iter().map(|c| c.weight).sum();
            mixture.components[1..]
                .iter_mut()
                .for_each(|c| c.weight *= rest / others);
            if mean - before < GAIN && step > 2 {
                break;
            }
            before = mean;
            groups = (1..=count)
                .map(|k| {
                    let pairs = expected.iter().zip(weights);
                    pairs
                        .map(|(e, w)| (e.shares[k].0 * w, e.shares[k].0 * e.shares[k].1 * w))
                        .collect()
                })
                .collect();
        }
        Some(mixture)
    }

    /// The wide component alone: mean and covariance by expectation and maximization.
    fn wide(rows: &Rows, weights: &[f64]) -> Option<Self> {
        let config = MixtureConfig {
            components: 1,
            degrees: WIDE,
            prior: 1.0,
        };
        let prior = weighted_moments(rows, |row| weights[row]).1;
        let mut counts: Vec<(f64, f64)> = weights.iter().map(|w| (*w, *w)).collect();
        let mut mixture = Self {
            dim: rows.width(),
            components: Vec::new(),
        };
        for _ in 0..20 {
            let mut component = Component::of(rows, &counts, &prior, &config)?;
            component.weight = 1.0;
            mixture.components = vec![component];
            let drawn = |i: usize| {
                (
                    weights[i],
                    weights[i] * mixture.expect(rows.row(i)).shares[0].1,
                )
            };
            counts = (0..rows.len()).into_par_iter().map(drawn).collect();
        }
        Some(mixture)
    }

    /// The choice that scores best on held-out rows, over all pairs of training and held-out rows, with the score of
    /// each held-out row, pair by pair; `None` where no choice can be fitted.
    pub fn choose(
        rows: &Rows,
        given: usize,
        weights: &[f64],
        folds: &[[Vec<usize>; 2]],
        rng: &mut dyn Rng,
    ) -> Option<(MixtureConfig, Vec<f64>)> {
        let few = folds[0][0].len() <= FEW_ROWS;
        let dim = rows.width() as f64;
        let priors = [0.1, dim + 2.0];
        let degrees = [f64::INFINITY, 6.0];
        let tried = if few { 2 } else { 1 };
        let mut best: Option<(f64, MixtureConfig, Vec<f64>)> = None;
        for &prior in &priors[..tried] {
            for &degrees in &degrees[..tried] {
                let mut since = 0;
                let mut highest = f64::NEG_INFINITY;
                for components in LADDER {
                    let config = MixtureConfig {
                        components,
                        degrees,
                        prior,
                    };
                    let Some((mean, scores)) = held_out(rows, given, weights, folds, &config, rng)
                    else {
                        break;
                    };
                    if best.as_ref().is_none_or(|(score, ..)| mean > *score) {
                        best = Some((mean, config, scores));
                    }
                    since = if mean > highest { 0 } else { since + 1 };
                    highest = highest.max(mean);
                    if since == 2 {
                        break;
                    }
                }
            }
        }
        best.map(|(_, config, scores)| (config, scores))
    }

    /// The rows that a mixture is fitted to, of these.
    pub fn some(rows: &[usize]) -> Vec<usize> {
        let step = rows.len().div_ceil(MOST_ROWS).max(1);
        rows.iter().copied().step_by(step).collect()
    }

    /// Numbers that a fit sets.
    pub fn parameters(&self) -> usize {
        let each = 1 + self.dim + self.dim * (self.dim + 1) / 2;
        self.components.len() * each
    }

    /// `log p(x | c)` in nats of a row whose first `given` numbers are `c` and the rest `x`; `log p(x)` for 0.
    pub fn log_prob(&self, row: &[f64], given: usize) -> f64 {
        let whole = self.log_margin(row);
        match given {
            0 => whole,
            _ => whole - self.log_margin(&row[..given]),
        }
    }

    /// The log-density of the first numbers of a row.
    fn log_margin(&self, row: &[f64]) -> f64 {
        log_sum(self.components.iter().map(|c| c.log_term(row, self.dim)))
    }

    /// `x` given `c`, the first numbers of a row.
    pub fn sample(&self, c: &[f64], rng: &mut dyn Rng) -> Vec<f64> {
        let dim = self.dim;
        let terms = self.components.iter().map(|k| k.log_term(c, dim));
        let terms: Vec<f64> = terms.collect();
        let total = log_sum(terms.iter().copied());
        let mut left: f64 = rng.random();
        let last = self.components.len() - 1;
        let chosen = terms.iter().position(|term| {
            left -= (term - total).exp();
            left < 0.0
        });
        let component = &self.components[chosen.unwrap_or(last)];
        // With `z = L^-1 (x - m)`, those of `x` given those of `c` are Student's with `nu` more degrees
        // than `c` has numbers and a scale that grows with `|z_c|`.
        let mut z = component.solve(c, dim);
        let square: f64 = z.iter().map(|v| v * v).sum();
        let scale = match component.degrees {
            nu if nu.is_finite() => {
                let chi: f64 = ChiSquared::new(nu + c.len() as f64)
                    .expect("positive degrees")
                    .sample(rng);
                ((nu + square) / chi).sqrt()
            }
            _ => 1.0,
        };
        while z.len() < dim {
            let normal: f64 = StandardNormal.sample(rng);
            z.push(scale * normal);
        }
        let value = |i: usize| {
            let row = component.lower[i * dim..].iter().zip(&z[..=i]);
            component.mean[i] + row.map(|(a, z)| a * z).sum::<f64>()
        };
        (c.len()..dim).map(value).collect()
    }

    /// Its components as tensors: weights and degrees `[components]`, means `[components, d]`, factors
    /// `[components, d, d]`; the degrees of a normal distribution are 0.
    pub fn state(&self) -> State {
        let count = self.components.len();
        let all = |of: &dyn Fn(&Component) -> Vec<f64>, shape: Vec<usize>| {
            TensorData::new(
                self.components.iter().flat_map(of).collect::<Vec<_>>(),
                shape,
            )
        };
        let degrees = |c: &Component| match c.degrees.is_finite() {
            true => c.degrees,
            false => 0.0,
        };
        State::from([
            ("weights".to_owned(), all(&|c| vec![c.weight], vec![count])),
            (
                "degrees".to_owned(),
                all(&|c| vec![degrees(c)], vec![count]),
            ),
            (
                "means".to_owned(),
                all(&|c| c.mean.clone(), vec![count, self.dim]),
            ),
            (
                "factors".to_owned(),
                all(&|c| c.lower.clone(), vec![count, self.dim, self.dim]),
            ),
        ])
    }

    /// What [`state`](Self::state) gave, over `dim` columns; `None` where it is something else.
    pub fn from_state(state: &State, dim: usize) -> Option<Self> {
        let numbers = |name: &str| finite_numbers(state, name);
        let (shape, weights) = numbers("weights")?;
        let count = weights.len();
        let (degrees_shape, degrees) = numbers("degrees")?;
        let (means_shape, means) = numbers("means")?;
        let (factors_shape, factors) = numbers("factors")?;
        let positive = weights.iter().all(|w| *w > 0.0) && degrees.iter().all(|d| *d >= 0.0);
        let sum = weights.iter().sum::<f64>();
        if count == 0
            || !positive
            || (sum - 1.0).abs() > 1e-6
            || shape != [count]
            || degrees_shape != [count]
            || means_shape != [count, dim]
            || factors_shape != [count, dim, dim]
        {
            return None;
        }
        let component = |k: usize| {
            let lower = factors[k * dim * dim..(k + 1) * dim * dim].to_vec();
            let diagonal = (0..dim).all(|i| lower[i * (dim + 1)] > 0.0);
            diagonal.then(|| Component {
                weight: weights[k],
                degrees: if degrees[k] == 0.0 {
                    f64::INFINITY
                } else {
                    degrees[k]
                },
                mean: means[k * dim..(k + 1) * dim].to_vec(),
                lower,
            })
        };
        let components = (0..count).map(component).collect::<Option<_>>()?;
        Some(Self { dim, components })
    }

    fn expect(&self, row: &[f64]) -> Expected {
        let terms: Vec<(f64, f64)> = self
            .components
            .iter()
            .map(|c| {
                let square: f64 = c.solve(row, self.dim).iter().map(|v| v * v).sum();
                let pull = match c.degrees.is_finite() {
                    true => (c.degrees + row.len() as f64) / (c.degrees + square),
                    false => 1.0,
                };
                (
                    c.log_density(square, row.len(), self.dim) + c.weight.ln(),
                    pull,
                )
            })
            .collect();
        let log_prob = log_sum(terms.iter().map(|t| t.0));
        let shares = terms.iter().map(|(t, pull)| ((t - log_prob).exp(), *pull));
        Expected {
            log_prob,
            shares: shares.collect(),
        }
    }
}

/// Of a row: its log-density, and for each component its share and what the row counts in its moments.
struct Expected {
    log_prob: f64,
    shares: Vec<(f64, f64)>,
}

impl Component {
    /// The weighted moments of rows, each with what it counts for and what it pulls; the weight is not yet
    /// relative.
    fn of(
        rows: &Rows,
        counts: &[(f64, f64)],
        prior: &[f64],
        config: &MixtureConfig,
    ) -> Option<Self> {
        let dim = rows.width();
        let count: f64 = counts.iter().map(|c| c.0).sum();
        let pull: f64 = counts.iter().map(|c| c.1).sum();
        if pull.is_nan() || pull <= 0.0 {
            return None;
        }
        let mut mean = vec![0.0; dim];
        for (row, (_, pull)) in rows.iter().zip(counts) {
            mean.iter_mut().zip(row).for_each(|(m, v)| *m += pull * v);
        }
        mean.iter_mut().for_each(|m| *m /= pull);
        let mut covariance: Vec<f64> = prior.iter().map(|v| config.prior * v).collect();
        let mut centred = vec![0.0; dim];
        for (row, (_, pull)) in rows.iter().zip(counts) {
            if *pull < 1e-12 {
                continue;
            }
            let differences = centred.iter_mut().zip(row).zip(&mean);
            differences.for_each(|((c, v), m)| *c = v - m);
            for i in 0..dim {
                let products = covariance[i * dim..].iter_mut().zip(&centred[..=i]);
                products.for_each(|(sum, c)| *sum += pull * centred[i] * c);
            }
        }
        covariance
            .iter_mut()
            .for_each(|v| *v /= count + config.prior);
        for i in 0..dim {
            covariance[i * (dim + 1)] += 1e-8;
        }
        let lower = Cholesky::new(&covariance, dim, 1e-13).ok()?.lower;
        Some(Self {
            weight: count + 1e-9,
            degrees: config.degrees,
            mean,
            lower,
        })
    }

    /// `L^-1 (x - m)` of the first numbers of a row.
    fn solve(&self, row: &[f64], dim: usize) -> Vec<f64> {
        let mut z = Vec::with_capacity(dim);
        for (i, value) in row.iter().enumerate() {
            let known = self.lower[i * dim..].iter().zip(&z);
            let sum: f64 = known.map(|(a, z): (&f64, &f64)| a * z).sum();
            z.push((value - self.mean[i] - sum) / self.lower[i * (dim + 1)]);
        }
        z
    }

    /// The log-density of the first `d` variables at this square of `z`.
    fn log_density(&self, square: f64, d: usize, dim: usize) -> f64 {
        let log_det: f64 = (0..d).map(|i| self.lower[i * (dim + 1)].ln()).sum();
        let (d, nu) = (d as f64, self.degrees);
        match nu.is_finite() {
            true => {
                let constant = ln_gamma(0.5 * (nu + d)) - ln_gamma(0.5 * nu);
                constant
                    - 0.5 * d * (nu * PI).ln()
                    - log_det
                    - 0.5 * (nu + d) * (square / nu).ln_1p()
            }
            false => -0.5 * square - log_det - 0.5 * d * (2.0 * PI).ln(),
        }
    }

    fn log_term(&self, row: &[f64], dim: usize) -> f64 {
        let square: f64 = self.solve(row, dim).iter().map(|v| v * v).sum();
        self.log_density(square, row.len(), dim) + self.weight.ln()
    }
}

/// The mean score and the scores of held-out rows.
fn held_out(
    rows: &Rows,
    given: usize,
    weights: &[f64],
    folds: &[[Vec<usize>; 2]],
    config: &MixtureConfig,
    rng: &mut dyn Rng,
) -> Option<(f64, Vec<f64>)> {
    let mut scores = Vec::new();
    let (mut sum, mut total) = (0.0, 0.0);
    for [train, validation] in folds {
        let train = StudentMixture::some(train);
        if train.len() < 4 * config.components {
            return None;
        }
        let own: Vec<f64> = train.iter().map(|&i| weights[i]).collect();
        let mixture = StudentMixture::fit(&rows.pick(&train), &own, config, rng)?;
        let score = |&i: &usize| mixture.log_prob(rows.row(i), given);
        let of: Vec<f64> = validation.par_iter().map(score).collect();
        for (score, &i) in of.iter().zip(validation) {
            sum += weights[i] * score;
            total += weights[i];
        }
        scores.extend(of);
    }
    Some((sum / total, scores))
}

/// What each row counts in each of `count` groups: the nearest of centres that were drawn far from each other
/// (k-means++, Arthur & Vassilvitskii 2007) and moved to the means of their rows.
fn groups(rows: &Rows, weights: &[f64], count: usize, rng: &mut dyn Rng) -> Vec<Vec<(f64, f64)>> {
    let square =
        |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum() };
    let mut centres = vec![rows.row(rng.random_range(0..rows.len())).to_vec()];
    let mut nearest: Vec<f64> = rows.iter().map(|row| square(row, &centres[0])).collect();
    while centres.len() < count {
        let total: f64 = nearest.iter().sum();
        let mut left = rng.random::<f64>() * total;
        let at = nearest.iter().position(|d| {
            left -= d;
            left < 0.0
        });
        let centre = rows.row(at.unwrap_or(rows.len() - 1)).to_vec();
        let nearer = nearest.iter_mut().zip(rows.iter());
        nearer.for_each(|(d, row)| *d = d.min(square(row, &centre)));
        centres.push(centre);
    }
    let closest = |row: &[f64], centres: &[Vec<f64>]| {
        let order =
            |&a: &usize, &b: &usize| square(row, &centres[a]).total_cmp(&square(row, &centres[b]));
        (0..count).min_by(order).unwrap_or(0)
    };
    let mut of: Vec<usize> = rows.iter().map(|row| closest(row, &centres)).collect();
    for _ in 0..5 {
        for (k, centre) in centres.iter_mut().enumerate() {
            let members: Vec<usize> = (0..rows.len()).filter(|&i| of[i] == k).collect();
            if !members.is_empty() {
                let picked = rows.pick(&members);
                *centre = moments(&picked).0;
            }
        }
        of = rows.iter().map(|row| closest(row, &centres)).collect();
    }
    let share = |k: usize| {
        let own = of.iter().zip(weights);
        let own = own.map(|(of, w)| {
            if *of == k {
                (*w, *w)
            } else {
                (1e-6 * w, 1e-6 * w)
            }
        });
        own.collect()
    };
    (0..count).map(share).collect()
}

/// `ln sum e^v`.
fn log_sum(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let high = values.clone().fold(f64::NEG_INFINITY, f64::max);
    match high.is_finite() {
        true => high + values.map(|v| (v - high).exp()).sum::<f64>().ln(),
        false => high,
    }
}

/// `ln Gamma(x)` of a positive `x`: Stirling's series from 10 on, and `Gamma(x + 1) = x Gamma(x)` below.
fn ln_gamma(mut x: f64) -> f64 {
    let mut below = 0.0;
    while x < 10.0 {
        below += x.ln();
        x += 1.0;
    }
    let (i, square) = (1.0 / x, 1.0 / (x * x));
    let series =
        i / 12.0 * (1.0 - square / 30.0 * (1.0 - square * 2.0 / 7.0 * (1.0 - square * 0.75)));
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * PI).ln() + series - below
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FullGaussian;
    use flows_train::stream;

    fn two_clusters(n: usize, rng: &mut dyn Rng) -> Rows {
        let row = |rng: &mut dyn Rng| {
            let [a, b]: [f64; 2] = [(); 2].map(|()| StandardNormal.sample(rng));
            match rng.random_bool(0.3) {
                true => [2.0 + 0.3 * a, 1.0 + 0.3 * a + 0.1 * b],
                false => [-1.0 + 0.5 * a, 0.4 * b],
            }
        };
        Rows::new((0..n).flat_map(|_| row(rng)).collect(), 2)
    }

    fn fitted(rows: &Rows, components: usize, degrees: f64) -> StudentMixture {
        let config = MixtureConfig {
            components,
            degrees,
            prior: 1.0,
        };
        let weights = vec![1.0; rows.len()];
        StudentMixture::fit(rows, &weights, &config, &mut stream(0, "fit", 0)).unwrap()
    }

    #[test]
    fn ln_gamma_is_that_of_factorials_and_of_one_half() {
        let mut factorial = 1.0f64;
        for n in 1..20 {
            assert!(
                (ln_gamma(f64::from(n)) - factorial.ln()).abs() < 1e-12,
                "{n}"
            );
            factorial *= f64::from(n);
        }
        assert!((ln_gamma(0.5) - PI.sqrt().ln()).abs() < 1e-12);
        assert!((ln_gamma(2.5) - (0.75 * PI.sqrt()).ln()).abs() < 1e-12);
    }

    #[test]
    fn terms_are_the_cauchy_and_the_normal_density() {
        let component = |degrees| Component {
            weight: 1.0,
            degrees,
            mean: vec![1.0],
            lower: vec![2.0],
        };
        for x in [-3.0, 0.5, 40.0] {
            let z: f64 = (x - 1.0) / 2.0;
            let cauchy = -(2.0 * PI * (1.0 + z * z)).ln();
            assert!((component(1.0).log_term(&[x], 1) - cauchy).abs() < 1e-12);
        }
        let rows = two_clusters(50, &mut stream(0, "rows", 0));
        let (mean, covariance) = moments(&rows);
        let normal = Component {
            weight: 1.0,
            degrees: f64::INFINITY,
            mean,
            lower: Cholesky::new(&covariance, 2, 1e-13).unwrap().lower,
        };
        let gaussian = FullGaussian::fit(&rows).unwrap();
        for row in rows.iter() {
            assert!((normal.log_term(row, 2) - gaussian.log_prob(row)).abs() < 1e-10);
        }
    }

    #[test]
    fn densities_have_the_mass_one_given_the_first_column_too_and_are_those_of_the_samples() {
        let rng = &mut stream(1, "rows", 0);
        let mixture = fitted(&two_clusters(400, rng), 2, 5.0);
        let step = 0.005;
        let grid = || (-10_000..10_000).map(|i| f64::from(i) * step);
        for c in [-1.0, 0.7, 2.2] {
            let densities: Vec<f64> = grid().map(|x| mixture.log_prob(&[c, x], 1).exp()).collect();
            let mass: f64 = densities.iter().sum::<f64>() * step;
            assert!((mass - 1.0).abs() < 1e-3, "{c}: {mass}");
            let below: f64 = grid()
                .zip(&densities)
                .filter(|(x, _)| *x < 0.2)
                .map(|(_, p)| p)
                .sum();
            let draws = (0..20_000)
                .filter(|_| mixture.sample(&[c], rng)[0] < 0.2)
                .count();
            let share = draws as f64 / 20_000.0;
            assert!(
                (share - below * step).abs() < 0.015,
                "{c}: {share}, {}",
                below * step
            );
        }
        let wide = || (-60..60).map(|i| f64::from(i) * 0.2);
        let mass: f64 = wide()
            .flat_map(|a| wide().map(move |b| [a, b]))
            .map(|row| mixture.log_prob(&row, 0).exp() * 0.04)
            .sum();
        assert!((mass - 1.0).abs() < 0.01, "{mass}");
        // Far out it falls like a logarithm.
        assert!(mixture.log_prob(&[1e6, 0.0], 0) > -100.0);
        assert_eq!(
            StudentMixture::from_state(&mixture.state(), 2),
            Some(mixture.clone())
        );
        assert_eq!(StudentMixture::from_state(&mixture.state(), 3), None);
    }

    #[test]
    fn the_choice_is_near_the_truth_and_a_weight_of_two_is_two_rows() {
        let rng = &mut stream(2, "rows", 0);
        let rows = two_clusters(900, rng);
        let folds = [[(0..600).collect(), (600..900).collect()]];
        let (config, scores) = StudentMixture::choose(&rows, 0, &[1.0; 900], &folds, rng).unwrap();
        assert!(config.components >= 2, "{config:?}");
        let truth = |row: &[f64]| {
            let [a, b] = [(row[0] - 2.0) / 0.3, (row[0] + 1.0) / 0.5];
            let normal = |z: f64, scale: f64| -0.5 * z * z - (scale * (2.0 * PI).sqrt()).ln();
            let first = 0.3f64.ln() + normal(a, 0.3) + normal((row[1] - 1.0 - 0.3 * a) / 0.1, 0.1);
            let second = 0.7f64.ln() + normal(b, 0.5) + normal(row[1] / 0.4, 0.4);
            log_sum([first, second].into_iter())
        };
        let excess =
            (600..900).map(|i| truth(rows.row(i))).sum::<f64>() - scores.iter().sum::<f64>();
        assert!(excess / 300.0 < 0.05, "{}", excess / 300.0);

        let few = rows.slice(0, 40);
        let twice = few.then(&few.slice(0, 10));
        let one = MixtureConfig {
            components: 1,
            degrees: 5.0,
            prior: 1.0,
        };
        let weights: Vec<f64> = (0..40).map(|i| if i < 10 { 2.0 } else { 1.0 }).collect();
        let weighted = StudentMixture::fit(&few, &weights, &one, rng).unwrap();
        let repeated = StudentMixture::fit(&twice, &[1.0; 50], &one, rng).unwrap();
        for row in few.iter() {
            let [a, b] = [&weighted, &repeated].map(|m| m.log_prob(row, 0));
            assert!((a - b).abs() < 1e-3, "{a}, {b}");
        }
    }
}
