//! One runner for all experiments: many independent jobs, each trained, measured, recorded, and
//! resumed to the same bits.
//!
//! An [`Experiment`] says what its jobs are, how one is done, and which numbers of it are shown. From
//! the runner come presets, options and `--set`, the folder, processes, progress, resumption, means
//! over seeds, `results.jsonl`, `summary.json`, `table.md` and `run.json`. See
//! `docs/adding-an-experiment.md`.

mod cli;
mod columns;
mod config;
mod folder;
mod process;
mod results;
mod screen;

use std::path::PathBuf;

use burn::tensor::backend::{AutodiffBackend, Backend};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use cli::{command, main};
pub use columns::{Column, Error, Estimate, Format, Summary, Value};
pub use config::{Flag, Override, Preset, parse_toml, preset, with_values};
pub use folder::{Folder, FolderError, RunFolder};
pub use results::{Outcome, Record, Results, Row, Rows};
pub use screen::bar;

use crate::report::{JsonText, Table};

/// What an experiment is made of.
pub trait Experiment: Sized + Sync + 'static {
    /// Its name: that of the program and of its folders.
    const NAME: &'static str;
    /// What `--help` prints: a line, an empty line, and the rest.
    const ABOUT: &'static str;
    /// Example commands for `--help`, one a line.
    const EXAMPLES: &'static str;
    /// Built-in configurations; the first one is used where none is named.
    const PRESETS: &'static [Preset];
    /// Short options for keys of the configuration that people type often.
    const FLAGS: &'static [Flag];
    /// Whether it reads a folder of data, `--data-dir`.
    const TAKES_DATA: bool = false;
    /// What `config.toml` holds.
    type Config: Serialize + DeserializeOwned;
    /// One job.
    type Job: Job + 'static;
    /// What a job leaves behind, kept as JSON.
    type Measured: Serialize + DeserializeOwned + Send + 'static;

    /// Takes its configuration, and the folder with data where there is one.
    ///
    /// # Errors
    /// One line on a value out of range.
    fn new(config: Self::Config, data: Option<PathBuf>) -> Result<Self, String>;

    /// Every job, in the order in which they begin and are listed.
    ///
    /// # Errors
    /// One line on an unknown name or a value out of range.
    fn jobs(&self) -> Result<Vec<Self::Job>, String>;

    /// What `--list` prints.
    fn list(&self) -> String;

    /// Reads data and builds every model once, before a folder is made.
    ///
    /// # Errors
    /// One line on what cannot be read or built.
    fn check<B: AutodiffBackend>(
        &self,
        _jobs: &[Self::Job],
        _device: &B::Device,
    ) -> anyhow::Result<()> {
        Ok(())
    }

    /// Does one job, going on from its checkpoint where there is one.
    ///
    /// # Errors
    /// Where there is nothing to record. A loss that is not finite any more is recorded as diverged, a
    /// [`Refused`] as refused.
    fn run<B: AutodiffBackend>(
        &self,
        job: &Self::Job,
        run: &mut Run<'_, B>,
    ) -> anyhow::Result<Self::Measured>;

    /// The result of a job in a few words, for a line of progress.
    fn outcome(&self, measured: &Self::Measured) -> String;

    /// The numbers of a job, for `results.jsonl`, and over seeds for `summary.json` and the tables.
    fn columns<'a>(&'a self, results: &'a Results<Self>) -> Vec<Column<'a, Self>>;

    /// The tables of `table.md`; the first one is printed as well.
    fn tables(&self, _results: &Results<Self>, rows: &Rows) -> Vec<Table> {
        vec![rows.table()]
    }

    /// What has to be known to read the tables.
    fn notes(&self, results: &Results<Self>) -> String;

    /// More for `summary.json`, by name.
    fn summary(&self, _results: &Results<Self>) -> Vec<(&'static str, JsonText)> {
        Vec::new()
    }

    /// Draws pictures into the folder, from what has been done.
    ///
    /// # Errors
    /// Where a picture cannot be drawn or written.
    fn pictures<B: AutodiffBackend>(
        &self,
        results: &Results<Self>,
        rows: &Rows,
        device: &B::Device,
    ) -> anyhow::Result<()>;
}

/// Names and values that tell a job from others, in the order of the columns.
pub type Labels = Vec<(&'static str, Value)>;

/// One job of an experiment: what is trained and measured by one seed.
pub trait Job: Sync {
    /// What tells it from the others, besides the seed.
    fn labels(&self) -> Labels;

    /// Its seed.
    fn seed(&self) -> usize;

    /// Gradient steps, or epochs, that it takes at most.
    fn steps(&self) -> usize;

    /// Its name in progress and errors: the labels and the seed.
    fn name(&self) -> String {
        let labels = self.labels().into_iter().map(|(name, value)| match value {
            Value::Text(text) => text,
            Value::Missing => String::new(),
            value => format!("{name} {value}"),
        });
        let labels = labels.filter(|label| !label.is_empty()).collect::<Vec<_>>();
        format!("{} seed {}", labels.join(" "), self.seed())
    }

    /// Its folder below `runs/`, and its name for `--only`: the labels and the seed.
    fn path(&self) -> PathBuf {
        let labels = self.labels().into_iter().map(|(name, value)| match value {
            Value::Text(text) => slug(&text),
            Value::Missing => String::new(),
            value => slug(&format!("{name}-{value}")),
        });
        let labels = labels.filter(|label| !label.is_empty());
        labels.chain([format!("seed-{}", self.seed())]).collect()
    }
}

/// A name for a folder that cannot lead elsewhere: every run of other signs becomes one hyphen.
fn slug(label: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._".contains(c);
    let words = label.split(|c| !plain(c)).filter(|word| !word.is_empty());
    let joined = words.collect::<Vec<_>>().join("-");
    joined.trim_start_matches('.').to_owned()
}

/// News from a job under way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Steps done.
    pub step: usize,
    /// The latest loss read.
    pub loss: f64,
}

/// A job under way.
pub struct Run<'a, B: Backend> {
    /// Where it computes.
    pub device: &'a B::Device,
    /// Its folder.
    pub folder: RunFolder,
    name: String,
    on_event: &'a mut dyn FnMut(Event),
    warnings: Vec<String>,
}

impl<B: Backend> Run<'_, B> {
    /// A training kept in the folder of the job, whose losses are its progress.
    pub fn training(&mut self, seed: u64) -> flows_train::Run<'_> {
        self.stage("checkpoint", 0, seed)
    }

    /// The same for one of several trainings: `stage` names its file, and `before` steps were done in others.
    pub fn stage(&mut self, stage: &str, before: usize, seed: u64) -> flows_train::Run<'_> {
        let checkpoint = self.folder.file(&format!("{stage}.safetensors"));
        let on_event = &mut *self.on_event;
        flows_train::Run::new(self.name.as_str(), seed)
            .checkpoint(checkpoint)
            .on_event(move |event| {
                if let flows_train::Event::Loss { step, loss } = event {
                    let step = before + step;
                    on_event(Event { step, loss });
                }
            })
    }

    /// The file of its checkpoint.
    pub fn checkpoint(&self) -> PathBuf {
        self.folder.file("checkpoint.safetensors")
    }

    /// Shows progress.
    pub fn report(&mut self, step: usize, loss: f64) {
        (self.on_event)(Event { step, loss });
    }

    /// Adds lines that a reader of its numbers has to know.
    pub fn warn(&mut self, warnings: impl IntoIterator<Item = String>) {
        self.warnings.extend(warnings);
    }
}

/// Why a job is not run: shown in its cell of the table, and not a failure.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// The folder with data: the one given, that of `FLOWS_DATA`, or that of the run that is resumed.
fn data_folder(given: Option<PathBuf>, before: Option<PathBuf>) -> Option<PathBuf> {
    let data = crate::data::data_folder(given).or(before)?;
    // Other processes may start elsewhere.
    Some(std::path::absolute(&data).unwrap_or(data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    struct Named(&'static str);

    impl Job for Named {
        fn labels(&self) -> Labels {
            vec![("model", self.0.into()), ("cells", 4_usize.into())]
        }
        fn seed(&self) -> usize {
            1
        }
        fn steps(&self) -> usize {
            0
        }
    }

    #[test]
    fn names_never_lead_out_of_the_folder() {
        assert_eq!(Named("maf-5").name(), "maf-5 cells 4 seed 1");
        for (name, folder) in [
            ("maf-5", "maf-5/cells-4/seed-1"),
            ("both 0.1 + 10", "both-0.1-10/cells-4/seed-1"),
            ("../../etc", "-..-etc/cells-4/seed-1"),
            ("/tmp", "tmp/cells-4/seed-1"),
            ("..", "cells-4/seed-1"),
        ] {
            let path = Named(name).path();
            assert_eq!(path, Path::new(folder), "{name}");
            assert!(
                path.components()
                    .all(|c| matches!(c, std::path::Component::Normal(_)))
            );
        }
    }
}
