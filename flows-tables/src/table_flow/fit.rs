//! From a table to a fitted flow.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use burn::module::AutodiffModule;
use burn::tensor::backend::{AutodiffBackend, Backend};
use flows_core::distributions::LogProb;
use flows_core::state::{self, load_state, trained_parameters};
use flows_core::visit::LayerVisit;
use flows_models::DataToBaseFlow;

use super::config::{FitConfig, FitError};
use super::file::{ModelHeader, PROGRAM};
use super::kind::{ColumnKind, Kinds};
use super::{Estimate, Prepared, TableFlow, Training};
use crate::mixture::StudentMixture;
use crate::{DataError, FullGaussian, Preprocessing, Role, Rows, Table};
use flows_train::{
    Checkpoint, Data, Evaluation, Event, MaximumLikelihood, Run, Stopped, chunks, log_probs,
    mean_of_finite, stream,
};
use rand::{Rng, RngExt};
use rand_distr::{Distribution, Open01};
use serde::{Deserialize, Serialize};

/// What a fit is computed on, as far as it may decide the bits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compute {
    /// Name of the backend.
    pub backend: String,
    /// Its floating-point type.
    pub dtype: String,
    /// Threads in all.
    pub threads: usize,
}

/// Where an unfinished fit is kept.
#[derive(Debug, Clone, Default)]
pub struct Checkpointing<'a> {
    /// The file; `None` keeps nothing.
    pub path: Option<&'a Path>,
    /// What it is computed on, where that may decide the bits.
    pub compute: Option<Compute>,
}

/// What an unfinished fit was begun on; `None` where there is none, or it was not said.
pub fn begun_on(checkpoint: &Path) -> Option<Compute> {
    let run = Checkpoint::load(checkpoint).ok()??.header.run;
    let run: serde_json::Value = serde_json::from_str(&run).ok()?;
    serde_json::from_value(run.get("compute")?.clone()).ok()
}

/// Fits a flow to the rows of `table` by maximum likelihood. Its dimension is [`Prepared::dim`]: that of
/// the table, unless a column is constant or a linear function of others.
///
/// # Errors
/// [`FitError`] for a table without a density, and a configuration that does not fit it.
pub fn fit<B: AutodiffBackend>(
    table: &Table,
    config: &FitConfig,
    device: &B::Device,
) -> Result<TableFlow<B::InnerBackend>, FitError> {
    fit_with::<B>(table, config, Checkpointing::default(), device, &mut |_| {})
}

/// As [`fit`], going on from a checkpoint where there is one, with news of every evaluation on the validation
/// rows, in nats of the table's units.
///
/// # Errors
/// As [`fit`]; and where the checkpoint is of another fit, or cannot be written.
pub fn fit_with<B: AutodiffBackend>(
    table: &Table,
    config: &FitConfig,
    checkpointing: Checkpointing<'_>,
    device: &B::Device,
    on_evaluation: &mut dyn FnMut(Evaluation),
) -> Result<TableFlow<B::InnerBackend>, FitError> {
    let prepared = Prepared::split(table, [config.validation, config.test], config.seed)?;
    let fitted = fit_prepared::<B>(&prepared, config, checkpointing, device, on_evaluation)?;
    Ok(fitted.of(table))
}

impl<B: Backend> TableFlow<B> {
    /// Notes the table as it came, so that its test rows are found again.
    #[must_use]
    pub fn of(mut self, table: &Table) -> Self {
        if let Some(training) = &mut self.header.training {
            training.table = format!("{:016x}", table.fingerprint());
            training.skipped = table.skipped;
        }
        self
    }
}

/// As [`fit_with`], for rows that have been split into training, validation and test rows already.
///
/// # Errors
/// As [`fit_with`].
pub fn fit_parts<B: AutodiffBackend>(
    parts: &[Table; 3],
    config: &FitConfig,
    checkpointing: Checkpointing<'_>,
    device: &B::Device,
    on_evaluation: &mut dyn FnMut(Evaluation),
) -> Result<TableFlow<B::InnerBackend>, FitError> {
    let prepared = Prepared::new(Cow::Borrowed(parts))?;
    fit_prepared::<B>(&prepared, config, checkpointing, device, on_evaluation)
}

/// As [`fit_parts`], for rows that have been looked through already.
///
/// # Errors
/// As [`fit_with`].
pub fn fit_prepared<B: AutodiffBackend>(
    prepared: &Prepared<'_>,
    config: &FitConfig,
    checkpointing: Checkpointing<'_>,
    device: &B::Device,
    on_evaluation: &mut dyn FnMut(Evaluation),
) -> Result<TableFlow<B::InnerBackend>, FitError> {
    check(prepared, config)?;
    let [train, validation, test] = &*prepared.parts;
    let free = super::free(&train.columns, &prepared.determined);
    let [train_density, validation_density] =
        [train, validation].map(|part| match free.len() == part.dim() {
            true => Cow::Borrowed(&part.density),
            false => Cow::Owned(part.density.columns(&free)),
        });
    let names = train.names(Role::Density);
    let names: Vec<&str> = free.iter().map(|&column| names[column]).collect();
    let kinds = Kinds::of(&names, &config.kinds);
    let mapped = |rows: &Rows, purpose: &str| {
        let rng = &mut stream(config.seed, purpose, 0);
        kinds.apply(rows, || noise(rng))
    };
    let (train_mapped, log_slopes) = mapped(&train_density, "noise");
    if let Some(row) = log_slopes.iter().position(|s| !s.is_finite()) {
        let values = train_density.row(row);
        return Err(DataError::Table(format!(
            "training row {values:?} of {} has a value that the kind of its column does not have",
            names.join(", ")
        ))
        .into());
    }
    let (validation_mapped, validation_slopes) = mapped(&validation_density, "validation noise");
    let preprocessing = if config.whiten {
        Preprocessing::whiten(&train_mapped, &names)?
    } else {
        Preprocessing::standardize(&train_mapped, &names)?
    };
    let context = train.context.as_ref();
    let context =
        context.map(|rows| Preprocessing::standardize_context(rows, &train.names(Role::Context)));
    let context = context.transpose()?;
    let given = |part: &Table| {
        let pair = part.context.as_ref().zip(context.as_ref());
        pair.map(|(rows, map)| map.apply(rows))
    };
    let weights = match (&train.weights, &validation.weights) {
        (Some(a), Some(b)) => Some([a.as_slice(), b].concat()),
        _ => None,
    };
    let pool = Pool {
        density: train_density.then(&validation_density),
        units: Data {
            x: preprocessing.apply(&train_mapped.then(&validation_mapped)),
            context: given(train).zip(given(validation)).map(|(a, b)| a.then(&b)),
        },
        log_slopes: [log_slopes, validation_slopes].concat(),
        weights,
    };
    let folds = folds(train.len(), validation.len(), config.members)?;
    let fingerprint = train.fingerprint() ^ validation.fingerprint().rotate_left(1);
    let weights = [train, validation].map(|part| {
        let weights = part.weights.clone()?;
        Table::from_values(["weight"], weights).ok()
    });
    let weights = weights.map(|weights| weights.map(|w| w.fingerprint()));
    // All that decides the bits: a checkpoint of another fit is not gone on with.
    let mut decides = config.clone();
    decides.course.checkpoint_seconds = 0.0;
    let mut name = serde_json::json!({
        "program": env!("CARGO_PKG_VERSION"),
        "compute": checkpointing.compute,
        "config": decides,
        "table": format!("{fingerprint:016x}"),
    });
    if train.weights.is_some() {
        name["weights"] = serde_json::json!(weights);
    }
    let shared = Shared::<B> {
        config,
        kinds: &kinds,
        preprocessing: &preprocessing,
        pool: &pool,
        device,
    };
    let mut members = Vec::new();
    for (k, fold) in folds.iter().enumerate() {
        if k > 0 {
            name["member"] = serde_json::json!(k + 1);
        }
        let path = checkpointing.path.map(|path| member_checkpoint(path, k));
        let kept = (name.to_string(), path.as_deref());
        members.push(shared.member(k, fold, kept, on_evaluation)?);
    }
    let begun = std::time::Instant::now();
    let (mixture, share) = match config.mixture {
        true => shared.mixture(&folds, &members).unzip(),
        false => (None, None),
    };
    let seconds = begun.elapsed().as_secs_f64();

    let sum =
        |of: &dyn Fn(&Member<B::InnerBackend>) -> usize| members.iter().map(of).sum::<usize>();
    let mut training = Training {
        seed: config.seed,
        held_out: [config.validation, config.test],
        rows: [train.len(), validation.len(), test.len()],
        skipped: 0,
        far: prepared.left_out,
        not_finite: sum(&|m| m.left_out),
        table: format!("{fingerprint:016x}"),
        steps: [sum(&|m| m.steps[0]), sum(&|m| m.steps[1])],
        batch: config.course.batch.min(train.len()),
        learning_rate: config.course.learning_rate,
        weighted: train.weights.is_some(),
        stopped: members[0].stopped,
        parameters: sum(&|m| m.parameters) + mixture.as_ref().map_or(0, StudentMixture::parameters),
        validation: members.iter().map(|m| m.best).sum::<f64>() / members.len() as f64,
        test: Estimate {
            mean: f64::NAN,
            stderr: None,
        },
        gaussian: gaussian([train, test], &free, &kinds, config.seed),
        seconds: seconds + members.iter().map(|m| m.seconds).sum::<f64>(),
        computed_on: checkpointing
            .compute
            .as_ref()
            .map(|c| format!("{} in {}", c.backend, c.dtype))
            .unwrap_or_default(),
    };
    let mut kept = TableFlow {
        header: ModelHeader {
            format: if members.len() > 1 || mixture.is_some() {
                3
            } else if prepared.determined.is_empty()
                && kinds.are_continuous()
                && prepared.left_out + training.not_finite == 0
                && train.named
                && train.weights.is_none()
            {
                1
            } else {
                2
            },
            program: PROGRAM.to_owned(),
            model: config.model.clone(),
            members: members.len(),
            mixture: share,
            columns: train.columns.clone(),
            source_columns: train.source_columns,
            unnamed: !train.named,
            determined: prepared.determined.clone(),
            kinds: config.kinds.clone(),
            training: None,
            imported: None,
        },
        members: members.into_iter().map(|m| m.flow).collect(),
        mixture,
        preprocessing,
        context,
        device: device.clone(),
    };
    let scores = kept.log_prob(&test.density, test.context.as_ref());
    training.test = Estimate::weighted(&scores, relative_weight(test));
    kept.header.training = Some(training);
    Ok(kept)
}

/// Training rows and, behind them, validation rows: of the columns that the flow is over, with one draw of noise in
/// each cell.
struct Pool {
    density: Rows,
    units: Data,
    log_slopes: Vec<f64>,
    weights: Option<Vec<f64>>,
}

impl Pool {
    fn units(&self, rows: &[usize]) -> Data {
        Data {
            x: self.units.x.pick(rows),
            context: self.units.context.as_ref().map(|c| c.pick(rows)),
        }
    }

    fn weights(&self, rows: &[usize]) -> Option<Vec<f64>> {
        let weights = self.weights.as_ref()?;
        Some(rows.iter().map(|&row| weights[row]).collect())
    }
}

/// Places in the pool of the rows that each member is trained on and of those that stop it: for the first the
/// training and the validation rows, for each further one other rows of the pool stop.
fn folds(
    train: usize,
    validation: usize,
    members: usize,
) -> Result<Vec<[Vec<usize>; 2]>, FitError> {
    let most = 1 + train / validation;
    if members > most {
        return Err(FitError::Config(format!(
            "members is {members}, expected at most {most}: each is stopped by {validation} other rows"
        )));
    }
    let all = 0..train + validation;
    let fold = |k: usize| {
        let held = match k {
            0 => train..train + validation,
            k => (k - 1) * validation..k * validation,
        };
        let rest = all.clone().filter(|row| !held.contains(row)).collect();
        [rest, held.collect()]
    };
    Ok((0..members).map(fold).collect())
}

/// Where the unfinished fit of a member is kept.
pub fn member_checkpoint(path: &Path, member: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    if member > 0 {
        name.push(format!(".{}", member + 1));
    }
    PathBuf::from(name)
}

/// A trained member with the scores of the rows that stopped it, in the units of the flow.
struct Member<B: Backend> {
    flow: DataToBaseFlow<B>,
    scores: Vec<f64>,
    best: f64,
    steps: [usize; 2],
    left_out: usize,
    parameters: usize,
    stopped: Stopped,
    seconds: f64,
}

/// What all members are fitted with.
struct Shared<'a, B: Backend> {
    config: &'a FitConfig,
    kinds: &'a Kinds,
    preprocessing: &'a Preprocessing,
    pool: &'a Pool,
    device: &'a B::Device,
}

impl<B: AutodiffBackend> Shared<'_, B> {
    fn member(
        &self,
        k: usize,
        [train, validation]: &[Vec<usize>; 2],
        (name, checkpoint): (String, Option<&Path>),
        on_evaluation: &mut dyn FnMut(Evaluation),
    ) -> Result<Member<B::InnerBackend>, FitError> {
        let Self {
            config,
            kinds,
            preprocessing,
            pool,
            device,
        } = self;
        let [train_units, validation_units] = [train, validation].map(|rows| pool.units(rows));
        let train_density = pool.density.pick(train);
        let refuse = |source| FitError::Model {
            model: config.model.name(),
            source,
        };
        let begin = |model: &flows_models::ModelConfig| {
            let rng = &mut stream(config.seed, "parameters", k as u64);
            model.init_data_to_base::<B>(*device, rng)
        };
        let model = begin(&config.training_model()).map_err(refuse)?;
        let parameters = trained_parameters::<B, _>(&model);
        let rng = &mut stream(config.seed, "parameters", k as u64);
        let untrained = config
            .model
            .init_data_to_base::<B::InnerBackend>(*device, rng);
        let untrained = untrained.map_err(refuse)?;
        // The same parameters under the log-determinant that is kept, with the statistics of all rows that
        // are trained on.
        let as_kept = |trained: &DataToBaseFlow<B::InnerBackend>| {
            let trained = state::parameters(trained);
            let mut flow = load_state(untrained.clone(), &trained).expect("the same layers");
            if config.batch_norm() {
                let all = |rows: &Rows| -> Vec<_> {
                    let pieces = chunks(train_units.x.len(), train_units.x.width());
                    let pieces = pieces.map(|(from, to)| rows.slice(from, to).tensor(*device));
                    pieces.collect()
                };
                let contexts = train_units.context.as_ref().map(all);
                flow.visit_layers(&mut LayerVisit::freeze_statistics(
                    all(&train_units.x),
                    contexts,
                ));
            }
            flow
        };
        let log_det = preprocessing.log_det();
        let weights = pool.weights(validation);
        let weight = relative(weights.as_deref());
        let score = |trained: &DataToBaseFlow<B::InnerBackend>| {
            let scores = log_probs::<B::InnerBackend, _>(&as_kept(trained), &validation_units);
            let slopes = validation.iter().map(|&row| pool.log_slopes[row]);
            let scores = scores.iter().zip(slopes).enumerate();
            let scores = scores.map(|(row, (s, slope))| (s + slope - log_det) * weight(row));
            mean_of_finite(&scores.collect::<Vec<_>>())
        };
        let seed = match k {
            0 => config.seed,
            k => stream(config.seed, "member", k as u64).random(),
        };
        let mut run = Run::new(name, seed).on_event(|event| {
            if let Event::Evaluation(evaluation) = event {
                on_evaluation(evaluation);
            }
        });
        if let Some(path) = checkpoint {
            run = run.checkpoint(path);
        }
        let statistics = if config.batch_norm() {
            train_units.len()
        } else {
            0
        };
        let mut objective = MaximumLikelihood::new(&train_units)
            .scored_by(validation_units.len() + statistics, score);
        if let Some(weights) = pool.weights(train) {
            objective = objective.weighted(&weights);
        }
        if kinds.with_cells() > 0 {
            objective = objective.drawn_by(|rows, rng| Data {
                x: preprocessing.apply(&kinds.apply(&train_density.pick(rows), || noise(rng)).0),
                context: train_units
                    .context
                    .as_ref()
                    .map(|context| context.pick(rows)),
            });
        }
        let fitted = flows_train::fit::<B, _, _>(model, &mut objective, &config.course, run)?;
        drop(objective);
        let best = fitted.best().expect("the loop returns what was evaluated");
        let flow = as_kept(&fitted.model.valid());
        Ok(Member {
            scores: log_probs::<B::InnerBackend, _>(&flow, &validation_units),
            flow,
            best: best.score,
            steps: [fitted.steps, best.step],
            left_out: fitted.left_out,
            parameters,
            stopped: fitted.stopped,
            seconds: fitted.seconds,
        })
    }

    /// The mixture that scores best on the rows that stopped the members, fitted to all of them, and its share in
    /// the density; `None` where none can be fitted.
    fn mixture(
        &self,
        folds: &[[Vec<usize>; 2]],
        members: &[Member<B::InnerBackend>],
    ) -> Option<(StudentMixture, f64)> {
        let units = &self.pool.units;
        let (rows, given) = match &units.context {
            Some(context) => (context.beside(&units.x), context.width()),
            None => (units.x.clone(), 0),
        };
        let weights = self.pool.weights.clone();
        let weights = weights.unwrap_or_else(|| vec![1.0; rows.len()]);
        let rng = &mut stream(self.config.seed, "mixture", 0);
        let (config, scores) = StudentMixture::choose(&rows, given, &weights, folds, rng)?;
        let held: Vec<usize> = folds.iter().flat_map(|fold| fold[1].clone()).collect();
        let held: Vec<f64> = held.iter().map(|&row| weights[row]).collect();
        let flows: Vec<f64> = members.iter().flat_map(|m| m.scores.clone()).collect();
        let share = best_share(&flows, &scores, &held);
        let all = StudentMixture::some(&(0..rows.len()).collect::<Vec<_>>());
        let own: Vec<f64> = all.iter().map(|&row| weights[row]).collect();
        let mixture = StudentMixture::fit(&rows.pick(&all), &own, &config, rng)?;
        Some((mixture, share))
    }
}

/// The share `s` of `b` that maximizes `sum_i w_i ln((1 - s) e^a_i + s e^b_i)`, by expectation and maximization with
/// the prior of one row of each.
fn best_share(a: &[f64], b: &[f64], weights: &[f64]) -> f64 {
    let total: f64 = weights.iter().sum();
    (0..200).fold(0.5, |share, _| {
        let of = |((a, b), w): ((&f64, &f64), &f64)| {
            let odds = (share / (1.0 - share)).ln() + b - a;
            match odds.is_nan() {
                true => w * share,
                false => w / (1.0 + (-odds).exp()),
            }
        };
        let sum: f64 = a.iter().zip(b).zip(weights).map(of).sum();
        (1.0 + sum) / (2.0 + total)
    })
}

fn check(prepared: &Prepared<'_>, config: &FitConfig) -> Result<(), FitError> {
    if let Some(problem) = config.problem() {
        return Err(FitError::Config(problem));
    }
    let (table, dim) = (&prepared.parts[0], prepared.dim());
    let names = ["training", "validation", "test"];
    for (part, name) in prepared.parts.iter().zip(names) {
        if part
            .weights
            .as_ref()
            .is_some_and(|w| w.iter().all(|w| *w == 0.0))
        {
            return Err(DataError::Table(format!("all {name} rows have the weight 0")).into());
        }
    }
    if config.model.dim() != dim {
        let found = config.model.dim();
        let mut reason = format!("the model has dim {found}, the table {dim} modelled columns");
        if dim < table.dim() {
            let determined = prepared.determined.iter().map(|d| d.column.as_str());
            let determined = determined.collect::<Vec<_>>().join(", ");
            reason += &format!(" that the others do not determine, as they do {determined}");
        }
        return Err(FitError::Config(reason));
    }
    let names = table.names(Role::Density);
    for (i, ColumnKind { column, .. }) in config.kinds.iter().enumerate() {
        if !names.contains(&column.as_str()) {
            return Err(FitError::Config(format!(
                "a kind is given of column '{column}', which is not modelled"
            )));
        }
        if config.kinds[..i].iter().any(|k| k.column == *column) {
            return Err(FitError::Config(format!(
                "column '{column}' is given two kinds"
            )));
        }
    }
    match (config.model.context_dim(), table.context_dim()) {
        (found, wanted) if found != wanted => Err(FitError::Config(format!(
            "the model takes {found} context columns, the table has {wanted}"
        ))),
        _ => Ok(()),
    }
}

/// The weight of each row relative to their mean.
fn relative_weight(table: &Table) -> impl Fn(usize) -> f64 + '_ {
    relative(table.weights.as_deref())
}

fn relative(weights: Option<&[f64]>) -> impl Fn(usize) -> f64 + '_ {
    let mean = weights.map_or(1.0, |w| w.iter().sum::<f64>() / w.len() as f64);
    move |row| weights.map_or(1.0, |weights| weights[row] / mean)
}

/// Uniform noise of a cell.
fn noise(rng: &mut dyn Rng) -> f64 {
    Open01.sample(rng)
}

/// The test score of a Gaussian behind the maps of the kinds, with one draw of noise in each cell: with a context,
/// `log p(x, c) - log p(c)`.
fn gaussian(
    [train, test]: [&Table; 2],
    free: &[usize],
    kinds: &Kinds,
    seed: u64,
) -> Option<Estimate> {
    let rng = &mut stream(seed, "noise of a Gaussian", 0);
    let mut joint = |part: &Table| {
        let (z, log_slopes) = kinds.apply(&part.density.columns(free), || noise(rng));
        match &part.context {
            Some(context) => (z.beside(context), log_slopes),
            None => (z, log_slopes),
        }
    };
    let whole = FullGaussian::weighted(&joint(train).0, relative_weight(train))?;
    let (z, log_slopes) = joint(test);
    let rows = z.iter().zip(log_slopes);
    let mut scores: Vec<f64> = rows
        .map(|(row, slope)| whole.log_prob(row) + slope)
        .collect();
    if let (Some(context), Some(given)) = (&train.context, &test.context) {
        let margin = FullGaussian::weighted(context, relative_weight(train))?;
        let margins = given.iter().map(|row| margin.log_prob(row));
        scores.iter_mut().zip(margins).for_each(|(s, m)| *s -= m);
    }
    Some(Estimate::weighted(&scores, relative_weight(test)))
}
