//! Members and a mixture in one density: what is scored is their weighted mean, and what is drawn is what is scored.

use burn::backend::{Autodiff, Flex};
use flows_models::DdnfConfig;
use flows_tables::table_flow::{FitConfig, TableFlow, fit};
use flows_tables::{Role, Rows, Table};
use flows_train::{Training, stream};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

/// Rows of `x` and `y`, which lies around `x^2`.
fn table(rows: usize, context: bool) -> Table {
    let rng = &mut stream(1, "table", 0);
    let row = |rng: &mut dyn Rng| {
        let [a, b]: [f64; 2] = [(); 2].map(|()| StandardNormal.sample(rng));
        [2.0 + a, a * a + 0.5 * b]
    };
    let values = (0..rows).flat_map(|_| row(rng)).collect();
    let mut table = Table::from_values(["x", "y"], values).unwrap();
    if context {
        table.columns[0].role = Role::Context;
        let (density, given) = flows_tables::table::by_role(table.density, &table.columns);
        (table.density, table.context) = (density, given);
    }
    table
}

fn config(dim: usize, context_dim: usize, members: usize) -> FitConfig {
    FitConfig {
        whiten: true,
        members,
        mixture: true,
        course: Training {
            steps: 40,
            batch: 64,
            learning_rate: 6e-3,
            evaluate_every: 10,
            ..Training::default()
        },
        ..FitConfig::new(DdnfConfig {
            blocks: 1,
            cells: 4,
            hidden: vec![8],
            context_dim,
            ..DdnfConfig::new(dim)
        })
    }
}

fn fitted(context: bool, members: usize) -> TableFlow<Flex> {
    let table = table(200, context);
    let config = config(table.dim(), table.context_dim(), members);
    fit::<Autodiff<Flex>>(&table, &config, &Default::default()).unwrap()
}

#[test]
fn the_density_is_the_weighted_mean_of_members_and_mixture() {
    let model = fitted(false, 2);
    let share = model.header().mixture.unwrap();
    assert!(share > 0.0 && share < 1.0 && model.header().format == 3);
    let rows = table(20, false).density;
    let scores = model.log_prob(&rows, None);
    let members = [0, 1].map(|k| model.member(k).unwrap().log_prob(&rows, None));
    assert!(model.member(2).is_none());
    let (units, mixture) = (model.preprocessing(), model.mixture().unwrap());
    let spread = model.spread(&rows, None, 1).unwrap();
    for (i, z) in units.apply(&rows).iter().enumerate() {
        let of_mixture = (mixture.log_prob(z, 0) - units.log_det()).exp();
        let [a, b] = [&members[0], &members[1]].map(|m| m[i]);
        let expected = (1.0 - share) * 0.5 * (a.exp() + b.exp()) + share * of_mixture;
        assert!(
            (scores[i] - expected.ln()).abs() < 1e-5,
            "{} {expected}",
            scores[i]
        );
        assert!((spread[i] - (a - b).abs() / 2f64.sqrt()).abs() < 1e-9);
    }
    assert!(
        spread.iter().sum::<f64>() > 1e-3,
        "the members are the same"
    );
    assert_eq!(model.member(0).unwrap().spread(&rows, None, 1), None);
    // A row a thousand standard deviations out costs tens of nats.
    let far = model.log_prob(&Rows::new(vec![1000.0, 0.0], 2), None)[0];
    assert!(far > -100.0 && far < -20.0, "{far}");

    // The same from the file, to the bit.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.flow");
    model.save(&path).unwrap();
    let loaded = TableFlow::<Flex>::load(&path, &Default::default()).unwrap();
    assert_eq!(loaded.header(), model.header());
    assert_eq!(loaded.log_prob(&rows, None), scores);
    let draw = |model: &TableFlow<Flex>| model.sample(50, None, &mut stream(3, "draws", 0));
    assert_eq!(draw(&loaded), draw(&model));
}

#[test]
fn what_is_drawn_is_what_is_scored() {
    let model = fitted(false, 2);
    let step = 0.1;
    let grid: Vec<[f64; 2]> = (-80..120)
        .flat_map(|i| (-80..200).map(move |j| [f64::from(i) * step, f64::from(j) * step]))
        .collect();
    let scores = model.log_prob(&Rows::new(grid.concat(), 2), None);
    let masses: Vec<f64> = scores.iter().map(|s| s.exp() * step * step).collect();
    let mass: f64 = masses.iter().sum();
    assert!((mass - 1.0).abs() < 0.01, "{mass}");
    let inside = |row: &[f64]| row[0] < 2.05 && row[1] < 0.55;
    let below: f64 = grid
        .iter()
        .zip(&masses)
        .filter(|(row, _)| inside(&row[..]))
        .map(|(_, m)| m)
        .sum();
    let samples = model.sample(20_000, None, &mut stream(2, "samples", 0));
    let share = samples.iter().filter(|row| inside(row)).count() as f64 / 20_000.0;
    assert!((share - below).abs() < 0.02, "{share}, {below}");
}

#[test]
fn a_conditional_ensemble_has_the_mass_one_and_draws_what_it_scores() {
    let model = fitted(true, 2);
    let rng = &mut stream(4, "samples", 0);
    for x in [0.5, 2.0, 3.5] {
        let step = 0.02;
        let grid: Vec<f64> = (-1000..2000).map(|i| f64::from(i) * step).collect();
        let context = |n: usize| Rows::new(vec![x; n], 1);
        let scores = model.log_prob(&Rows::new(grid.clone(), 1), Some(&context(grid.len())));
        let masses: Vec<f64> = scores.iter().map(|s| s.exp() * step).collect();
        let mass: f64 = masses.iter().sum();
        assert!((mass - 1.0).abs() < 0.01, "given {x}: {mass}");
        let below: f64 = grid
            .iter()
            .zip(&masses)
            .filter(|(y, _)| **y < 1.01)
            .map(|(_, m)| m)
            .sum();
        let samples = model.sample(5000, Some(&context(5000)), rng);
        let share = samples.values().iter().filter(|y| **y < 1.01).count() as f64 / 5000.0;
        assert!((share - below).abs() < 0.03, "given {x}: {share}, {below}");
    }
}

#[test]
fn an_interrupted_ensemble_goes_on_to_the_same_bits() {
    use flows_tables::table_flow::{Checkpointing, fit_with, member_checkpoint};
    let table = table(120, false);
    let config = FitConfig {
        mixture: false,
        ..config(2, 0, 2)
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let run = |path: Option<&std::path::Path>| {
        let checkpointing = Checkpointing {
            path,
            compute: None,
        };
        let fitted = fit_with::<Autodiff<Flex>>(
            &table,
            &config,
            checkpointing,
            &Default::default(),
            &mut |_| {},
        );
        fitted.unwrap()
    };
    let whole = run(None);
    run(Some(&path));
    // The second member starts over, the first is done.
    std::fs::remove_file(member_checkpoint(&path, 1)).unwrap();
    let resumed = run(Some(&path));
    let scores = |model: &TableFlow<Flex>| model.log_prob(&table.density, None);
    assert_eq!(scores(&resumed), scores(&whole));
}

#[test]
fn too_many_members_and_none_are_refused_in_one_line() {
    let error = |members| {
        let config = config(2, 0, members);
        let fitted = fit::<Autodiff<Flex>>(&table(50, false), &config, &Default::default());
        fitted.unwrap_err().to_string()
    };
    assert!(error(0).contains("members is 0, expected at least 1"));
    assert!(
        error(20).contains("members is 20, expected at most 9"),
        "{}",
        error(20)
    );
}
