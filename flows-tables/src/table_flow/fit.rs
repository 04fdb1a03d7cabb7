//! From a table to a fitted flow.

use std::borrow::Cow;
use std::path::Path;

use burn::module::AutodiffModule;
use burn::tensor::backend::{AutodiffBackend, Backend};
use flows_core::distributions::LogProb;
use flows_core::state::{self, load_state, trained_parameters};
use flows_core::visit::LayerVisit;
use flows_models::DataToBaseFlow;

use super::config::{FitConfig, FitError};
use super::file::ModelHeader;
use super::kind::{ColumnKind, Kinds};
use super::{Estimate, Prepared, TableFlow, Training};
use crate::{DataError, FullGaussian, Preprocessing, Role, Rows, Table};
use flows_train::model_file::FORMAT;
use flows_train::{
    Checkpoint, Data, Evaluation, Event, MaximumLikelihood, Run, chunks, log_probs, mean_of_finite,
    stream,
};
use rand::Rng;
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
        self.header.training.table = format!("{:016x}", table.fingerprint());
        self.header.training.skipped = table.skipped;
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
    let units = |part: &Table, z: &Rows| Data {
        x: preprocessing.apply(z),
        context: part
            .context
            .as_ref()
            .zip(context.as_ref())
            .map(|(rows, map)| map.apply(rows)),
    };
    let train_units = units(train, &train_mapped);
    let validation_units = units(validation, &validation_mapped);

    let refuse = |source| FitError::Model {
        model: config.model.name(),
        source,
    };
    let begin = |model: &flows_models::ModelConfig| {
        let rng = &mut stream(config.seed, "parameters", 0);
        model.init_data_to_base::<B>(device, rng)
    };
    let model = begin(&config.training_model()).map_err(refuse)?;
    let parameters = trained_parameters::<B, _>(&model);
    let rng = &mut stream(config.seed, "parameters", 0);
    let untrained = config
        .model
        .init_data_to_base::<B::InnerBackend>(device, rng);
    let untrained = untrained.map_err(refuse)?;
    // The same parameters under the log-determinant that is kept, with the statistics of all rows that
    // are trained on.
    let as_kept = |trained: &DataToBaseFlow<B::InnerBackend>| {
        let trained = state::parameters(trained);
        let mut flow = load_state(untrained.clone(), &trained).expect("the same layers");
        if config.batch_norm() {
            let all = |rows: &Rows| -> Vec<_> {
                let pieces = chunks(train_units.x.len(), train_units.x.width());
                let pieces = pieces.map(|(from, to)| rows.slice(from, to).tensor(device));
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
    let validation_weight = relative_weight(validation);
    let score = |trained: &DataToBaseFlow<B::InnerBackend>| {
        let scores = log_probs::<B::InnerBackend, _>(&as_kept(trained), &validation_units);
        let slopes = validation_slopes.iter().enumerate();
        let scores = scores.iter().zip(slopes);
        let scores = scores.map(|(s, (row, slope))| (s + slope - log_det) * validation_weight(row));
        mean_of_finite(&scores.collect::<Vec<_>>())
    };

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
    let name = name.to_string();
    let mut run = Run::new(name, config.seed).on_event(|event| {
        if let Event::Evaluation(evaluation) = event {
            on_evaluation(evaluation);
        }
    });
    if let Some(path) = checkpointing.path {
        run = run.checkpoint(path);
    }
    let statistics = if config.batch_norm() {
        train_units.len()
    } else {
        0
    };
    let mut objective =
        MaximumLikelihood::new(&train_units).scored_by(validation_units.len() + statistics, score);
    if let Some(weights) = &train.weights {
        objective = objective.weighted(weights);
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

    let training = Training {
        seed: config.seed,
        held_out: [config.validation, config.test],
        rows: [train.len(), validation.len(), test.len()],
        skipped: 0,
        far: prepared.left_out,
        not_finite: fitted.left_out,
        table: format!("{fingerprint:016x}"),
        steps: [fitted.steps, best.step],
        batch: config.course.batch.min(train.len()),
        learning_rate: config.course.learning_rate,
        weighted: train.weights.is_some(),
        stopped: fitted.stopped,
        parameters,
        validation: best.score,
        test: Estimate {
            mean: f64::NAN,
            stderr: None,
        },
        gaussian: gaussian([train, test], &free, &kinds, config.seed),
        seconds: fitted.seconds,
        computed_on: checkpointing
            .compute
            .as_ref()
            .map(|c| format!("{} in {}", c.backend, c.dtype))
            .unwrap_or_default(),
    };
    let mut kept = TableFlow {
        header: ModelHeader {
            format: if prepared.determined.is_empty()
                && kinds.are_continuous()
                && prepared.left_out + fitted.left_out == 0
                && train.named
                && train.weights.is_none()
            {
                1
            } else {
                FORMAT
            },
            program: concat!("flows-tables ", env!("CARGO_PKG_VERSION")).to_owned(),
            model: config.model.clone(),
            columns: train.columns.clone(),
            source_columns: train.source_columns,
            unnamed: !train.named,
            determined: prepared.determined.clone(),
            kinds: config.kinds.clone(),
            training,
        },
        flow: as_kept(&fitted.model.valid()),
        preprocessing,
        context,
        device: device.clone(),
    };
    let scores = kept.log_prob(&test.density, test.context.as_ref());
    kept.header.training.test = Estimate::weighted(&scores, relative_weight(test));
    Ok(kept)
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
    let weights = table.weights.as_deref();
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
