//! Columns of every kind, fitted: what is drawn is what is scored, and both are what the table is from.

use burn::backend::{Autodiff, Flex};
use flows_models::DdnfConfig;
use flows_tables::table_flow::{
    ColumnKind, FitConfig, Given, Kind, Prepared, Shape, TableFlow, choose, fit,
};
use flows_tables::{Rows, Table};
use flows_train::{Training, stream};
use rand::{Rng, RngExt};
use rand_distr::{Distribution, Exp1, Poisson};

/// A small DDNF of the columns of `table`, with the kinds that are seen in it.
fn fitted(table: &Table, given: &[(String, Given)], steps: usize, width: usize) -> TableFlow<Flex> {
    let prepared = Prepared::split(table, [0.1, 0.1], 0).unwrap();
    let kinds = prepared.kinds(given, true).unwrap();
    let config = FitConfig {
        kinds: kinds.iter().map(|k| k.column_kind()).collect(),
        whiten: true,
        course: Training {
            steps,
            batch: 128,
            learning_rate: 6e-3,
            ..Training::default()
        },
        ..FitConfig::new(DdnfConfig {
            blocks: 2,
            cells: 8,
            hidden: vec![width],
            ..DdnfConfig::new(table.dim())
        })
    };
    fit::<Autodiff<Flex>>(table, &config, &Default::default()).unwrap()
}

fn one_column(n: usize, seed: u64, mut value: impl FnMut(&mut dyn Rng) -> f64) -> Table {
    let rng = &mut stream(seed, "table", 0);
    Table::from_values(["x"], (0..n).map(|_| value(rng)).collect()).unwrap()
}

fn rain(rng: &mut dyn Rng) -> f64 {
    match rng.random_bool(0.6) {
        true => 0.0,
        false => 4.0 * Distribution::<f64>::sample(&Exp1, rng),
    }
}

fn log_rain(x: f64) -> f64 {
    match x == 0.0 {
        true => 0.6f64.ln(),
        false => (0.4f64 / 4.0).ln() - x / 4.0,
    }
}

fn log_poisson(k: f64) -> f64 {
    let factorial: f64 = (1..=k as usize).map(|i| (i as f64).ln()).sum();
    k * 3.0f64.ln() - 3.0 - factorial
}

type Draw = fn(&mut dyn Rng) -> f64;

type LogDensity = fn(f64) -> f64;

/// The von Mises density with concentration 2 around 0.5; the normalization is `2 pi I_0(2)`.
fn log_von_mises(x: f64) -> f64 {
    2.0 * (x - 0.5).cos() - (std::f64::consts::TAU * 2.279_585_302_336_067).ln()
}

/// By rejection from the uniform distribution.
fn von_mises(rng: &mut dyn Rng) -> f64 {
    loop {
        let x = rng.random_range(-std::f64::consts::PI..std::f64::consts::PI);
        if rng.random::<f64>() < (2.0 * ((x - 0.5).cos() - 1.0)).exp() {
            return x;
        }
    }
}

/// Names, draws and log-densities of tables of one column.
const TABLES: [(&str, Draw, LogDensity); 5] = [
    ("uniform", |rng| rng.random::<f64>(), |_| 0.0),
    ("exponential", |rng| Exp1.sample(rng), |x| -x),
    ("von-mises", von_mises, log_von_mises),
    (
        "poisson",
        |rng| Poisson::new(3.0).unwrap().sample(rng),
        log_poisson,
    ),
    ("rain", rain, log_rain),
];

/// Mean of `log p_true - log p_model` on fresh rows, in nats.
fn excess(model: &TableFlow<Flex>, draw: Draw, truth: LogDensity, rows: usize) -> f64 {
    let fresh = one_column(rows, 9, draw).density;
    let scores = model.log_prob_with(&fresh, None, 16);
    let errors = fresh
        .values()
        .iter()
        .zip(scores)
        .map(|(x, score)| truth(*x) - score);
    errors.sum::<f64>() / fresh.len() as f64
}

/// Fits each table with a mixture beside the flow, and compares it with the truth.
fn recovered(rows: usize, fresh: usize, config: &FitConfig, bound: f64) {
    for (name, draw, truth) in TABLES {
        let table = one_column(rows, 1, draw);
        let prepared = Prepared::split(&table, [0.1, 0.1], 0).unwrap();
        let circle = ("x".to_owned(), Given::Periodic(std::f64::consts::TAU));
        let given: &[(String, Given)] = if name == "von-mises" { &[circle] } else { &[] };
        let kinds = prepared.kinds(given, true).unwrap();
        let config = FitConfig {
            kinds: kinds.iter().map(|k| k.column_kind()).collect(),
            ..config.clone()
        };
        let model = fit::<Autodiff<Flex>>(&table, &config, &Default::default()).unwrap();
        let excess = excess(&model, draw, truth, fresh);
        println!("{name}: {excess:.4} nats");
        assert!(excess < bound, "{name}: {excess} nats");
        let samples = model.sample(200, None, &mut stream(2, "samples", 0));
        let low = if name == "von-mises" {
            -std::f64::consts::PI
        } else {
            0.0
        };
        assert!(samples.values().iter().all(|v| *v >= low), "{name}");
    }
}

#[test]
fn known_distributions_are_recovered_roughly() {
    let config = FitConfig {
        whiten: true,
        mixture: true,
        course: Training {
            steps: 100,
            batch: 128,
            learning_rate: 6e-3,
            ..Training::default()
        },
        ..FitConfig::new(DdnfConfig {
            blocks: 2,
            cells: 8,
            hidden: vec![8],
            ..DdnfConfig::new(1)
        })
    };
    recovered(800, 400, &config, 0.08);
}

/// With the default of `flows fit`. Minutes, with optimization: `cargo test --release -p flows-tables --test fits --
/// --ignored`.
#[test]
#[ignore = "takes minutes"]
fn known_distributions_are_recovered() {
    let shape = Shape {
        dim: 1,
        context_dim: 0,
        layers: None,
        hidden: None,
    };
    let chosen = choose(None, shape).unwrap();
    let config = FitConfig {
        whiten: chosen.whiten,
        mixture: chosen.mixture,
        course: chosen.training(16_000),
        ..FitConfig::new(chosen.model)
    };
    recovered(20_000, 100_000, &config, 0.02);
}

#[test]
fn probabilities_and_densities_have_the_mass_one_and_are_those_of_the_samples() {
    // A count, a positive number that depends on it, and a level.
    let rng = &mut stream(3, "table", 0);
    let rows = (0..800).flat_map(|_| {
        let count: f64 = Poisson::new(2.0).unwrap().sample(rng);
        let exp: f64 = Exp1.sample(rng);
        [
            count,
            exp * (1.0 + count),
            if exp > 1.0 { 5.0 } else { -1.0 },
        ]
    });
    let table = Table::from_values(["count", "time", "level"], rows.collect()).unwrap();
    let time = ("time".to_owned(), Given::Positive);
    let model = fitted(&table, &[time], 40, 8);
    let kinds = &model.header().kinds;
    let kind = |name: &str| &kinds.iter().find(|k| k.column == name).unwrap().kind;
    assert!(
        matches!(kind("count"), Kind::Whole { low: Some(0.0), .. }),
        "{kinds:?}"
    );
    assert!(matches!(kind("time"), Kind::Positive { .. }));
    assert_eq!(
        kind("level"),
        &Kind::Levels {
            values: vec![-1.0, 5.0]
        }
    );

    // The sum over counts and levels of the integral over ln(time), by the trapezoid rule.
    let step = 0.5;
    let times: Vec<f64> = (-20..14).map(|i| (f64::from(i) * step).exp()).collect();
    let counts = 0..16;
    let mut grid = Vec::new();
    for count in counts {
        for level in [-1.0, 5.0] {
            grid.extend(times.iter().flat_map(|t| [f64::from(count), *t, level]));
        }
    }
    let grid = Rows::new(grid, 3);
    let scores = model.log_prob(&grid, None);
    let masses: Vec<f64> = grid
        .iter()
        .zip(scores)
        .map(|(row, s)| s.exp() * row[1] * step)
        .collect();
    let mass: f64 = masses.iter().sum();
    assert!((mass - 1.0).abs() < 0.01, "{mass}");

    // The same table of samples: of each count and level.
    let n = 4000;
    let samples = model.sample(n, None, &mut stream(4, "samples", 0));
    for (count, level) in [(0.0, -1.0), (1.0, 5.0), (2.0, -1.0), (3.0, 5.0)] {
        let is = |row: &&[f64]| row[0] == count && row[2] == level;
        let share = samples.iter().filter(is).count() as f64 / n as f64;
        let cell = grid
            .iter()
            .zip(&masses)
            .filter(|(row, _)| is(row))
            .map(|(_, m)| m);
        let p: f64 = cell.sum();
        let bound = 4.0 * (p * (1.0 - p) / n as f64).sqrt() + 2e-3;
        assert!(
            (share - p).abs() < bound,
            "{count}, {level}: {share} of samples, {p}"
        );
    }
    let whole = |row: &[f64]| row[0] >= 0.0 && row[0].fract() == 0.0 && row[1] > 0.0;
    assert!(samples.iter().all(whole));
    // What the kinds do not have is impossible, and a missing value stays one.
    let odd = Rows::new(
        vec![
            0.5,
            1.0,
            5.0,
            1.0,
            -1.0,
            5.0,
            1.0,
            1.0,
            2.0,
            1.0,
            f64::NAN,
            5.0,
        ],
        3,
    );
    let scores = model.log_prob(&odd, None);
    assert_eq!(scores[..3], [f64::NEG_INFINITY; 3]);
    assert!(scores[3].is_nan());

    // From the file, to the bit.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.flow");
    model.save(&path).unwrap();
    let loaded = TableFlow::<Flex>::load(&path, &Default::default()).unwrap();
    assert_eq!(loaded.header(), model.header());
    assert_eq!(
        loaded.log_prob(&table.density, None),
        model.log_prob(&table.density, None)
    );
}

#[test]
fn a_circle_has_the_mass_one_from_any_start() {
    let table = one_column(600, 5, |rng| {
        let bump: f64 = (0..6).map(|_| rng.random::<f64>()).sum::<f64>() - 3.0;
        (23.0 + 2.0 * bump).rem_euclid(24.0)
    });
    let model = fitted(&table, &[("x".to_owned(), Given::Periodic(24.0))], 40, 8);
    for start in [0.0, 7.3, -100.0] {
        let n = 1000;
        let at = |i: usize| start + 24.0 * (i as f64 + 0.5) / n as f64;
        let scores = model.log_prob(&Rows::new((0..n).map(at).collect(), 1), None);
        let mass = scores
            .iter()
            .map(|s| s.exp() * 24.0 / n as f64)
            .sum::<f64>();
        assert!((mass - 1.0).abs() < 0.01, "{mass}");
    }
    let samples = model.sample(500, None, &mut stream(6, "samples", 0));
    assert!(samples.values().iter().all(|x| (0.0..24.0).contains(x)));
    let near = |x: &&f64| (**x - 23.0 + 12.0).rem_euclid(24.0) - 12.0 < 6.0;
    assert!(samples.values().iter().filter(near).count() > 400);
}

#[test]
fn kinds_that_do_not_fit_the_table_are_refused_in_one_line() {
    let table = one_column(100, 7, |rng| rng.random_range(-1.0..1.0));
    let prepared = Prepared::split(&table, [0.1, 0.1], 0).unwrap();
    let refused = |name: &str, given: Given| {
        let error = prepared
            .kinds(&[(name.to_owned(), given)], false)
            .unwrap_err()
            .to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    };
    assert!(refused("y", Given::Positive).contains("no column 'y' is modelled; those that are: x"));
    assert!(refused("x", Given::Positive).contains("that are not positive"));
    assert!(refused("x", Given::Bounds(0.0, 1.0)).contains("not between 0 and 1"));
    assert!(refused("x", Given::Bounds(1.0, 0.0)).contains("expected LOW below HIGH"));
    assert!(refused("x", Given::Periodic(-1.0)).contains("period is -1, expected above 0"));
    let config = |kinds: Vec<ColumnKind>| FitConfig {
        kinds,
        ..FitConfig::new(DdnfConfig::new(1))
    };
    let kind = |column: &str, kind| ColumnKind {
        column: column.to_owned(),
        kind,
    };
    for (kinds, expected) in [
        (
            vec![kind("y", Kind::Continuous)],
            "a kind is given of column 'y'",
        ),
        (
            vec![kind("x", Kind::Positive { scale: None })],
            "has a value that the kind of its column",
        ),
        (
            vec![kind(
                "x",
                Kind::Bounded {
                    low: 2.0,
                    high: 1.0,
                },
            )],
            "expected LOW below HIGH",
        ),
    ] {
        let error = fit::<Autodiff<Flex>>(&table, &config(kinds), &Default::default());
        let error = error.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
