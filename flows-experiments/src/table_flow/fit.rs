//! From a table to a fitted flow.

use std::path::Path;

use burn::tensor::backend::AutodiffBackend;
use flows_core::distributions::LogProb;
use flows_core::state::{load_state, state, trained_parameters};
use flows_models::{NormalizingFlow, build_normalizing};

use super::config::{FitConfig, FitError, context_dim};
use super::file::{FORMAT, ModelHeader};
use super::{Estimate, TableFlow, Training};
use crate::data::{DataError, FullGaussian, Preprocessing, Role, Rows, Split, Table};
use crate::train::{Evaluated, Examples, HeldOut, Identity, fit_to_best, stream, tensor};

/// Fewest rows of a table that can be split three ways.
const FEWEST_ROWS: usize = 20;

/// Where an unfinished fit is kept.
#[derive(Debug, Clone, Copy, Default)]
pub struct Checkpointing<'a> {
    /// The file; `None` keeps nothing.
    pub path: Option<&'a Path>,
    /// Backend and type in words, for the header.
    pub computed_on: &'a str,
}

/// Fits a flow to the rows of `table` by maximum likelihood.
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

/// As [`fit`], going on from a checkpoint where there is one, with news of every look at the validation
/// rows, in nats of the table's units.
///
/// # Errors
/// As [`fit`]; and where the checkpoint is of another fit, or cannot be written.
pub fn fit_with<B: AutodiffBackend>(
    table: &Table,
    config: &FitConfig,
    checkpointing: Checkpointing<'_>,
    device: &B::Device,
    on_look: &mut dyn FnMut(Evaluated),
) -> Result<TableFlow<B::InnerBackend>, FitError> {
    let rows = table.len();
    if rows < FEWEST_ROWS {
        return Err(DataError::Table(format!(
            "the table has {rows} rows, too few to fit and to test a density: at least {FEWEST_ROWS}"
        ))
        .into());
    }
    check(table, config)?;
    let split = Split::shuffled(rows, config.validation, config.test, config.seed);
    let parts = [&split.train, &split.validation, &split.test].map(|rows| table.pick(rows));
    let mut fitted = fit_parts::<B>(&parts, config, checkpointing, device, on_look)?;
    // What is kept is the table as it came, so that its test rows are found again.
    fitted.header.training.table = format!("{:016x}", table.fingerprint());
    fitted.header.training.skipped = table.skipped;
    Ok(fitted)
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
    on_look: &mut dyn FnMut(Evaluated),
) -> Result<TableFlow<B::InnerBackend>, FitError> {
    let [train, validation, test] = parts;
    check(train, config)?;
    if let Some(empty) = parts.iter().position(Table::is_empty) {
        let name = ["training", "validation", "test"][empty];
        return Err(DataError::Table(format!("there are no {name} rows")).into());
    }
    let names = train.names(Role::Density);
    let preprocessing = if config.whiten {
        Preprocessing::whiten(&train.density, &names)?
    } else {
        Preprocessing::standardize(&train.density, &names)?
    };
    let context = train.context.as_ref();
    let context = context.map(|rows| Preprocessing::standardize(rows, &train.names(Role::Context)));
    let context = context.transpose()?;
    let units = |part: &Table| Examples {
        x: preprocessing.apply(&part.density),
        context: part
            .context
            .as_ref()
            .zip(context.as_ref())
            .map(|(rows, map)| map.apply(rows)),
    };
    let (train_units, validation_units) = (units(train), units(validation));

    let refuse = |source| FitError::Model {
        model: config.model.name(),
        source,
    };
    let begin = |model: &flows_models::ModelConfig| {
        let rng = &mut stream(config.seed, "parameters", 0);
        build_normalizing::<B>(&model.layers(), device, rng)
    };
    let model = begin(&config.training_model()).map_err(refuse)?;
    let parameters = trained_parameters::<B, _>(&model);
    let rng = &mut stream(config.seed, "parameters", 0);
    let kept = build_normalizing::<B::InnerBackend>(&config.model.layers(), device, rng);
    let kept = kept.map_err(refuse)?;
    // The same parameters under the log-determinant that is kept, with the statistics of all rows that
    // are trained on.
    let as_kept = |trained: &NormalizingFlow<B::InnerBackend>| {
        let mut flow = load_state(kept.clone(), &state(trained)).expect("the same layers");
        if config.batch_norm() {
            let all = |rows: &Rows| -> Vec<_> {
                let pieces = super::chunks(train_units.x.len(), train_units.x.width());
                let pieces = pieces.map(|(from, to)| tensor(&rows.slice(from, to), device));
                pieces.collect()
            };
            let contexts = train_units.context.as_ref().map(all);
            flow.fix_statistics(all(&train_units.x), contexts.as_deref());
        }
        flow
    };
    let log_det = preprocessing.log_det();
    let score = |trained: &NormalizingFlow<B::InnerBackend>| {
        let scores = log_probs(&as_kept(trained), &validation_units, device);
        Estimate::of(&scores).mean - log_det
    };

    let fingerprint = train.fingerprint() ^ validation.fingerprint().rotate_left(1);
    // All that decides the bits: a checkpoint of another fit is not gone on with.
    let mut decides = config.clone();
    decides.course.checkpoint_seconds = 0.0;
    let decides = serde_json::to_string(&decides).expect("a configuration is plain data");
    let name = format!("{decides} on table {fingerprint:016x}");
    let identity = Identity {
        name: &name,
        seed: config.seed,
        checkpoint: checkpointing.path,
    };
    let held_out = HeldOut {
        rows: validation_units.x.len()
            + if config.batch_norm() {
                train_units.x.len()
            } else {
                0
            },
        score: &score,
    };
    let course = &config.course;
    let best = fit_to_best::<B, _>(
        model,
        &train_units,
        held_out,
        course,
        identity,
        device,
        on_look,
    )?;

    let training = Training {
        seed: config.seed,
        held_out: [config.validation, config.test],
        rows: [train.len(), validation.len(), test.len()],
        skipped: 0,
        table: format!("{fingerprint:016x}"),
        steps: [best.steps, best.best_step],
        batch: course.batch.min(train.len()),
        learning_rate: course.learning_rate,
        stopped: best.stopped,
        parameters,
        validation: best.best,
        test: Estimate {
            mean: f64::NAN,
            stderr: None,
        },
        gaussian: gaussian(train, test),
        seconds: best.seconds,
        computed_on: checkpointing.computed_on.to_owned(),
    };
    let mut fitted = TableFlow {
        header: ModelHeader {
            format: FORMAT,
            program: concat!("flows-experiments ", env!("CARGO_PKG_VERSION")).to_owned(),
            model: config.model.clone(),
            columns: train.columns.clone(),
            source_columns: train.source_columns,
            training,
        },
        flow: as_kept(&best.model),
        preprocessing,
        context,
        device: device.clone(),
    };
    let scores = fitted.log_prob(&test.density, test.context.as_ref());
    fitted.header.training.test = Estimate::of(&scores);
    Ok(fitted)
}

fn check(table: &Table, config: &FitConfig) -> Result<(), FitError> {
    if let Some(problem) = config.problem() {
        return Err(FitError::Config(problem));
    }
    let dim = table.dim();
    if config.model.dim() != dim {
        let found = config.model.dim();
        let reason = format!("the model has dim {found}, the table {dim} modelled columns");
        return Err(FitError::Config(reason));
    }
    let name = config.model.name();
    let wanted = table.context_dim();
    match context_dim(&config.model) {
        None if wanted > 0 => Err(FitError::Config(format!(
            "model '{name}' cannot be conditioned on columns; take maf, realnvp, nice or ddnf"
        ))),
        Some(found) if found != wanted => Err(FitError::Config(format!(
            "the model takes {found} context columns, the table has {wanted}"
        ))),
        _ => Ok(()),
    }
}

/// `log p` of each row in the flow's units.
fn log_probs<B: burn::tensor::backend::Backend>(
    flow: &NormalizingFlow<B>,
    rows: &Examples,
    device: &B::Device,
) -> Vec<f64> {
    let chunks = super::chunks(rows.x.len(), rows.x.width());
    let score = |(from, to): (usize, usize)| {
        let part = |rows: &Rows| tensor::<B>(&rows.slice(from, to), device);
        let log_prob = flow.log_prob(part(&rows.x), rows.context.as_ref().map(part));
        log_prob.into_data().iter::<f64>().collect::<Vec<_>>()
    };
    chunks.flat_map(score).collect()
}

/// The test score of a Gaussian: with a context, `log p(x, c) - log p(c)`.
fn gaussian(train: &Table, test: &Table) -> Option<Estimate> {
    let joint = |part: &Table| match &part.context {
        Some(context) => part.density.beside(context),
        None => part.density.clone(),
    };
    let whole = FullGaussian::fit(&joint(train))?;
    let mut scores: Vec<f64> = joint(test).iter().map(|row| whole.log_prob(row)).collect();
    if let (Some(train), Some(test)) = (&train.context, &test.context) {
        let margin = FullGaussian::fit(train)?;
        let margins = test.iter().map(|row| margin.log_prob(row));
        scores.iter_mut().zip(margins).for_each(|(s, m)| *s -= m);
    }
    Some(Estimate::of(&scores))
}
