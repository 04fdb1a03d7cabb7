//! Whether rows and samples come from one distribution: five statistics, each with a permutation test.
//!
//! Under one distribution, rows and samples are exchangeable, and so is every relabelling of them. The p-value is the
//! share of relabellings, the true one among them, whose statistic is at least as large: valid at any sample size,
//! whatever the distribution, ties included.

use flows_core::random::shuffle;
use rand::{Rng, RngExt};
use rayon::prelude::*;
use serde::Serialize;

use super::Rows;
use super::energy_distance::{EnergyTest, energy_test};

/// A statistic, what it is on average under chance, and its p-value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Test {
    /// The statistic.
    pub value: f64,
    /// Its mean over the relabellings.
    pub under_chance: f64,
    /// Share of relabellings, the true one among them, whose statistic is at least as large.
    pub p_value: f64,
}

/// What tells rows from samples, if anything does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TwoSample {
    /// The distance of all columns together.
    pub energy: EnergyTest,
    /// The share of rows and samples whose label the majority of their nearest neighbours gives: a classifier
    /// two-sample test by leave-one-out nearest neighbours (arXiv:1610.06545, section 3; Schilling, *Multivariate
    /// two-sample tests based on nearest neighbors*, JASA 81 (1986)).
    pub classifier: Test,
    /// The largest Kolmogorov-Smirnov distance of a column; its p-value holds for all columns together, as the
    /// largest distance of each relabelling is what it is compared with (Westfall & Young 1993).
    pub marginals: Test,
    /// The column with that distance.
    pub worst_column: usize,
    /// The Euclidean distance between the rank correlations of all pairs of columns; `None` for one column.
    pub correlations: Option<Test>,
    /// How much nearer samples lie to the training rows than held-out rows do: the difference of the mean ranks, as a
    /// share of their number, of the distance to the nearest one. Large where training rows were learned by heart;
    /// `None` without training rows.
    pub memorised: Option<Test>,
}

/// Compares held-out rows `x` with samples `y`, in columns of a scale of about 1, and both with the rows the model
/// was fitted to, where they are known.
///
/// Needs memory for `(n + m)^2` numbers.
///
/// # Panics
/// Where one of them is empty, or the widths differ.
pub fn two_sample(
    x: &Rows,
    y: &Rows,
    train: Option<&Rows>,
    permutations: usize,
    rng: &mut dyn Rng,
) -> TwoSample {
    let energy = energy_test(x, y, permutations, rng);
    let pooled = x.then(y);
    let neighbours = neighbours(&pooled);
    let orders: Vec<Vec<usize>> = (0..x.width()).map(|c| order(&pooled, c)).collect();
    let ranks: Vec<Vec<f64>> = (0..x.width()).map(|c| ranks(&pooled, c)).collect();
    let near = train.map(|train| {
        let distances = pooled.iter().collect::<Vec<_>>().into_par_iter();
        let distances = distances.map(|row| nearest(row, train)).collect();
        standing(&Rows::new(distances, 1), 0)
    });
    let columns: Vec<Vec<f64>> = (0..x.width()).map(|c| pooled.column(c).collect()).collect();
    let columns_apart = |is_row: &[bool]| -> Vec<f64> {
        let pairs = orders.iter().zip(&columns);
        pairs
            .map(|(order, column)| apart(order, column, is_row))
            .collect()
    };
    let largest = |values: Vec<f64>| values.into_iter().fold(0.0, f64::max);
    let statistics = |is_row: &[bool]| -> [f64; 4] {
        [
            agreement(&neighbours, is_row),
            largest(columns_apart(is_row)),
            correlation_distance(&ranks, is_row),
            near.as_ref()
                .map_or(0.0, |near| difference_of_means(near, is_row)),
        ]
    };
    let mut is_row = vec![true; x.len()];
    is_row.resize(pooled.len(), false);
    let observed = statistics(&is_row);
    let distances = columns_apart(&is_row);
    let worst = |a: &usize, b: &usize| distances[*a].total_cmp(&distances[*b]);
    let worst_column = (0..x.width()).max_by(worst).unwrap_or(0);
    let relabelled: Vec<Vec<bool>> = (0..permutations)
        .map(|_| {
            shuffle(&mut is_row, rng);
            is_row.clone()
        })
        .collect();
    let chance: Vec<[f64; 4]> = relabelled
        .par_iter()
        .map(|is_row| statistics(is_row))
        .collect();
    let test = |k: usize| Test::of(observed[k], chance.iter().map(|c| c[k]));
    TwoSample {
        energy,
        classifier: test(0),
        marginals: test(1),
        worst_column,
        correlations: (x.width() > 1).then(|| test(2)),
        memorised: train.map(|_| test(3)),
    }
}

impl Test {
    /// A statistic among those of chance.
    fn of(value: f64, chance: impl Iterator<Item = f64> + Clone) -> Self {
        let count = chance.clone().count();
        // Rounding must not make the true labelling rarer than itself.
        let as_large = chance.clone().filter(|c| *c >= value - 1e-12).count();
        Self {
            value,
            under_chance: chance.sum::<f64>() / count.max(1) as f64,
            p_value: (1 + as_large) as f64 / (1 + count) as f64,
        }
    }
}

/// The ranks of observations among draws of the model at their own contexts: uniform where the conditional
/// distributions are right (rank histograms; Talagrand diagrams, Hamill 2001; arXiv:1804.06788).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// How many observations of each column fall in each of [`BINS`] equal parts of the ranks.
    pub histograms: Vec<[usize; BINS]>,
    /// The largest chi-square of a column against equal counts. Its p-value is from counts that were drawn, times
    /// the number of columns (Bonferroni).
    pub test: Test,
    /// The column with it.
    pub worst_column: usize,
}

/// Parts of a rank histogram.
pub const BINS: usize = 10;

/// Draws for each observation: ranks from 0 to 19, two in each part.
pub const DRAWS: usize = 19;

/// Ranks `observed` among [`DRAWS`] draws for each of its rows, those of the first row first.
///
/// # Panics
/// Where there are not as many draws, or no rows.
pub fn calibration(
    observed: &Rows,
    draws: &Rows,
    simulations: usize,
    rng: &mut dyn Rng,
) -> Calibration {
    assert!(!observed.is_empty());
    assert_eq!(draws.len(), DRAWS * observed.len());
    let mut histograms = vec![[0; BINS]; observed.width()];
    for (i, row) in observed.iter().enumerate() {
        for (column, value) in row.iter().enumerate() {
            let own = (i * DRAWS..(i + 1) * DRAWS).map(|k| draws.row(k)[column]);
            let below = own.clone().filter(|d| d < value).count();
            let ties = own.filter(|d| d == value).count();
            // Equal values are in a random order.
            let rank = below + rng.random_range(0..=ties);
            histograms[column][rank * BINS / (DRAWS + 1)] += 1;
        }
    }
    let n = observed.len();
    let squares: Vec<f64> = histograms
        .iter()
        .map(|counts| chi_square(counts, n))
        .collect();
    let worst_column = (0..squares.len())
        .max_by(|a, b| squares[*a].total_cmp(&squares[*b]))
        .unwrap_or(0);
    let chance: Vec<f64> = (0..simulations)
        .map(|_| {
            let mut counts = [0; BINS];
            (0..n).for_each(|_| counts[rng.random_range(0..BINS)] += 1);
            chi_square(&counts, n)
        })
        .collect();
    let test = Test::of(squares[worst_column], chance.iter().copied());
    Calibration {
        test: Test {
            p_value: (test.p_value * squares.len() as f64).min(1.0),
            ..test
        },
        histograms,
        worst_column,
    }
}

/// How many of the rows fall, column by column, in each of [`BINS`] equal parts of the ranks among all samples.
pub fn ranks_among(rows: &Rows, samples: &Rows, rng: &mut dyn Rng) -> Vec<[usize; BINS]> {
    let count = |column: usize| {
        let mut sorted: Vec<f64> = samples.column(column).collect();
        sorted.sort_by(f64::total_cmp);
        let mut counts = [0; BINS];
        for value in rows.column(column) {
            let below = sorted.partition_point(|s| *s < value);
            let up_to = sorted.partition_point(|s| *s <= value);
            counts[rng.random_range(below..=up_to) * BINS / (sorted.len() + 1)] += 1;
        }
        counts
    };
    (0..rows.width()).map(count).collect()
}

fn chi_square(counts: &[usize; BINS], n: usize) -> f64 {
    let expected = n as f64 / BINS as f64;
    let terms = counts
        .iter()
        .map(|&c| (c as f64 - expected).powi(2) / expected);
    terms.sum()
}

fn square(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
}

/// The distance to the nearest of some rows.
fn nearest(row: &[f64], of: &Rows) -> f64 {
    of.iter()
        .map(|other| square(row, other))
        .fold(f64::INFINITY, f64::min)
}

/// The nearest others of each row: an odd number that grows with the square root of the rows.
fn neighbours(rows: &Rows) -> Vec<Vec<u32>> {
    let n = rows.len();
    let k = (2 * ((n as f64).sqrt() / 4.0) as usize + 1).min(n - 1);
    let of = |i: usize| {
        let others = (0..n).filter(|&j| j != i);
        let mut others: Vec<(f64, u32)> = others
            .map(|j| (square(rows.row(i), rows.row(j)), j as u32))
            .collect();
        let nearer = |a: &(f64, u32), b: &(f64, u32)| a.0.total_cmp(&b.0);
        others.select_nth_unstable_by(k - 1, nearer);
        others[..k].iter().map(|other| other.1).collect()
    };
    (0..n).into_par_iter().map(of).collect()
}

/// The share of rows that the majority of their neighbours has the label of.
fn agreement(neighbours: &[Vec<u32>], is_row: &[bool]) -> f64 {
    let agrees = |(own, near): (&bool, &Vec<u32>)| {
        let same = near.iter().filter(|&&j| is_row[j as usize] == *own).count();
        2 * same > near.len()
    };
    let count = is_row.iter().zip(neighbours).filter(|p| agrees(*p)).count();
    count as f64 / is_row.len() as f64
}

/// Rows in the order of a column.
fn order(rows: &Rows, column: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| rows.row(*a)[column].total_cmp(&rows.row(*b)[column]));
    order
}

/// The largest difference of two empirical distribution functions.
fn apart(order: &[usize], column: &[f64], is_row: &[bool]) -> f64 {
    let n = is_row.iter().filter(|is| **is).count() as f64;
    let m = is_row.len() as f64 - n;
    let (mut difference, mut largest) = (0.0, 0.0f64);
    for (k, &i) in order.iter().enumerate() {
        difference += if is_row[i] { 1.0 / n } else { -1.0 / m };
        let next = order.get(k + 1);
        if next.is_none_or(|&j| column[j] != column[i]) {
            largest = largest.max(f64::abs(difference));
        }
    }
    largest
}

/// The place of each row in the order of a column as a fraction, equal values sharing the mean place.
fn standing(rows: &Rows, column: usize) -> Vec<f64> {
    let order = order(rows, column);
    let value = |i: usize| rows.row(i)[column];
    let mut places = vec![0.0; rows.len()];
    let mut from = 0;
    for ties in order.chunk_by(|a, b| value(*a) == value(*b)) {
        let place = (from as f64 + 0.5 * ties.len() as f64) / rows.len() as f64;
        ties.iter().for_each(|&i| places[i] = place);
        from += ties.len();
    }
    places
}

/// The standing of each row, with the mean 0 and the variance 1; zeros for a constant column.
fn ranks(rows: &Rows, column: usize) -> Vec<f64> {
    let places = standing(rows, column);
    let n = places.len() as f64;
    let mean = places.iter().sum::<f64>() / n;
    let variance = places.iter().map(|p| (p - mean).powi(2)).sum::<f64>() / n;
    let scale = if variance > 0.0 {
        variance.sqrt().recip()
    } else {
        0.0
    };
    places.iter().map(|p| (p - mean) * scale).collect()
}

/// The distance of the correlations of ranks.
fn correlation_distance(ranks: &[Vec<f64>], is_row: &[bool]) -> f64 {
    let (rows, samples): (Vec<usize>, Vec<usize>) = (0..is_row.len()).partition(|&i| is_row[i]);
    let moments = |of: &[usize], rank: &[f64]| {
        let n = of.len() as f64;
        let mean = of.iter().map(|&i| rank[i]).sum::<f64>() / n;
        let square = of.iter().map(|&i| (rank[i] - mean).powi(2)).sum::<f64>();
        (mean, square.sqrt())
    };
    let correlation = |of: &[usize], a: &[f64], b: &[f64]| {
        let [(a_mean, a_norm), (b_mean, b_norm)] = [a, b].map(|rank| moments(of, rank));
        let products = of.iter().map(|&i| (a[i] - a_mean) * (b[i] - b_mean));
        let norm = a_norm * b_norm;
        if norm > 0.0 {
            products.sum::<f64>() / norm
        } else {
            0.0
        }
    };
    let mut sum = 0.0;
    for (k, a) in ranks.iter().enumerate() {
        for b in &ranks[..k] {
            sum += (correlation(&rows, a, b) - correlation(&samples, a, b)).powi(2);
        }
    }
    sum.sqrt()
}

/// How much larger values of rows are than those of samples, on average.
fn difference_of_means(values: &[f64], is_row: &[bool]) -> f64 {
    let mean = |which: bool| {
        let of = values.iter().zip(is_row).filter(|(_, is)| **is == which);
        let (sum, n) = of.fold((0.0, 0.0), |(sum, n), (v, _)| (sum + v, n + 1.0));
        sum / n
    };
    mean(true) - mean(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flows_train::stream;
    use rand_distr::{Distribution, StandardNormal};

    /// Rows of a normal, a correlated and a whole-numbered variable.
    fn rows(n: usize, correlation: f64, rng: &mut dyn Rng) -> Rows {
        let row = |rng: &mut dyn Rng| {
            let [a, b, c]: [f64; 3] = [(); 3].map(|()| StandardNormal.sample(rng));
            let b = correlation * a + (1.0 - correlation * correlation).sqrt() * b;
            [a, b, (2.0 * c).round()]
        };
        Rows::new((0..n).flat_map(|_| row(rng)).collect(), 3)
    }

    #[test]
    fn statistics_are_those_of_their_definitions() {
        let x = Rows::new(vec![0.0, 1.0, 1.0, 4.0], 1);
        let y = Rows::new(vec![1.0, 2.0, 5.0], 1);
        let train = Rows::new(vec![5.5, 1.5], 1);
        let test = two_sample(&x, &y, Some(&train), 5, &mut stream(0, "test", 0));
        // Distribution functions at 1: 3/4 against 1/3.
        assert!(
            (test.marginals.value - (0.75 - 1.0 / 3.0)).abs() < 1e-12,
            "{test:?}"
        );
        // Squares to the nearest training row: 2.25, .25, .25, 2.25 against .25, .25, .25.
        let place = |ranks: f64| ranks / 7.0;
        let expected = 0.5 * place(2.5) + 0.5 * place(6.0) - place(2.5);
        assert!(
            (test.memorised.unwrap().value - expected).abs() < 1e-12,
            "{test:?}"
        );
        let ranks: Vec<Vec<f64>> = vec![
            vec![1.0, 2.0, 3.0, 0.0, 1.0, 2.0],
            vec![2.0, 1.0, 0.0, 5.0, 6.0, 7.0],
        ];
        let is_row = [true, true, true, false, false, false];
        assert!((correlation_distance(&ranks, &is_row) - 2.0).abs() < 1e-12);
    }

    /// Over 200 repetitions the share of p-values up to `a` is at most `a` and two standard errors.
    #[test]
    fn p_values_are_right_under_one_distribution() {
        let mut found: Vec<(&str, Vec<f64>)> = Vec::new();
        let mut note = |name: &'static str, p: f64| match found.iter_mut().find(|f| f.0 == name) {
            Some((_, all)) => all.push(p),
            None => found.push((name, vec![p])),
        };
        for repetition in 0..200 {
            let rng = &mut stream(repetition, "null", 0);
            let [x, y, train] = [20, 20, 30].map(|n| rows(n, 0.5, rng));
            let test = two_sample(&x, &y, Some(&train), 99, rng);
            note("energy", test.energy.p_value);
            note("classifier", test.classifier.p_value);
            note("marginals", test.marginals.p_value);
            note("correlations", test.correlations.unwrap().p_value);
            note("memorised", test.memorised.unwrap().p_value);
            let draws = rows(20 * DRAWS, 0.5, rng);
            note(
                "calibration",
                calibration(&x, &draws, 299, rng).test.p_value,
            );
        }
        for (name, p) in found {
            for a in [0.01, 0.05, 0.1] {
                let share = p.iter().filter(|p| **p <= a + 1e-12).count() as f64 / 200.0;
                let bound = a + 2.0 * (a * (1.0 - a) / 200.0f64).sqrt();
                assert!(share <= bound, "{name}: {share} of p-values are up to {a}");
            }
        }
    }

    #[test]
    fn each_test_finds_what_it_looks_for() {
        let rng = &mut stream(1, "test", 0);
        let [x, same, train] = [150, 150, 300].map(|n| rows(n, 0.5, rng));
        let least = |p: f64| p <= 0.02;
        // A column that is shifted, correlations that are not there, training rows given out as samples.
        let shifted = same.iter().flat_map(|r| [r[0], r[1] + 0.8, r[2]]).collect();
        let shifted = two_sample(&x, &Rows::new(shifted, 3), None, 99, rng);
        assert!(least(shifted.marginals.p_value) && shifted.worst_column == 1);
        assert!(least(shifted.energy.p_value) && least(shifted.classifier.p_value));
        let uncorrelated = two_sample(&x, &rows(150, -0.3, rng), None, 99, rng);
        assert!(least(uncorrelated.correlations.unwrap().p_value));
        assert!(!least(uncorrelated.marginals.p_value));
        let learned = two_sample(&x, &train.slice(0, 150), Some(&train), 99, rng);
        assert!(least(learned.memorised.unwrap().p_value));
        let narrow = rows(150 * DRAWS, 0.5, rng);
        let narrow = narrow
            .iter()
            .flat_map(|r| [r[0], 0.5 * r[1], r[2]])
            .collect();
        let narrow = calibration(&x, &Rows::new(narrow, 3), 999, rng);
        assert!(
            narrow.test.p_value < 0.01 && narrow.worst_column == 1,
            "{narrow:?}"
        );
        assert!(narrow.histograms[1][0] > 30 && narrow.histograms[1].iter().sum::<usize>() == 150);
    }
}
