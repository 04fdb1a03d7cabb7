//! Records of jobs, and rows over their seeds.

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::columns::{Column, Estimate, Format, Summary, Value};
use super::folder::{Folder, RunFolder};
use super::{Experiment, Job, Labels};
use crate::backend::Dtype;
use crate::report::{Cell, Table};

/// What a job left behind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record<M> {
    /// How it ended.
    pub outcome: Outcome<M>,
    /// What a reader of its numbers has to know, a line each.
    pub warnings: Vec<String>,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome<M> {
    /// Trained and measured.
    Measured(M),
    /// Not run, for a reason.
    Refused(String),
    /// The loss was not finite any more, or too many rows had no inverse.
    Diverged(String),
}

/// What there is of the jobs of an experiment.
pub struct Results<E: Experiment> {
    /// The folder.
    pub folder: Folder,
    /// The float type in which it computes.
    pub dtype: Dtype,
    /// The jobs.
    pub jobs: Vec<E::Job>,
    /// The record of each, where it has ended.
    pub records: Vec<Option<Record<E::Measured>>>,
}

impl<E: Experiment> Results<E> {
    /// The jobs that have ended, with their records.
    pub fn ended(&self) -> impl Iterator<Item = (&E::Job, &Record<E::Measured>)> {
        let all = self.jobs.iter().zip(&self.records);
        all.filter_map(|(job, record)| Some((job, record.as_ref()?)))
    }

    /// The jobs that were measured.
    pub fn measured(&self) -> impl Iterator<Item = (&E::Job, &E::Measured)> {
        self.ended()
            .filter_map(|(job, record)| match &record.outcome {
                Outcome::Measured(measured) => Some((job, measured)),
                _ => None,
            })
    }

    /// The folder of a job.
    pub fn run(&self, job: &E::Job) -> RunFolder {
        self.folder.run(job)
    }

    /// How many jobs diverged.
    pub(super) fn diverged(&self) -> usize {
        let diverged =
            |(_, record): &(_, &Record<_>)| matches!(record.outcome, Outcome::Diverged(_));
        self.ended().filter(diverged).count()
    }

    /// A row for each job that has ended: labels, seed, status, and every column.
    pub(super) fn tidy(&self, columns: &[Column<'_, E>]) -> Vec<Tidy> {
        let row = |(job, record): (&E::Job, &Record<E::Measured>)| {
            let mut row: Vec<(String, Value)> = Vec::new();
            let mut push = |name: &str, value: Value| row.push((name.to_owned(), value));
            for (name, value) in job.labels() {
                push(name, value);
            }
            push("seed", job.seed().into());
            let (status, reason) = match &record.outcome {
                Outcome::Measured(_) => ("measured", Value::Missing),
                Outcome::Refused(reason) => ("refused", reason.as_str().into()),
                Outcome::Diverged(reason) => ("diverged", reason.as_str().into()),
            };
            push("status", status.into());
            push("reason", reason);
            for column in columns {
                let (value, error) = match &record.outcome {
                    Outcome::Measured(measured) => column.of(job, measured),
                    _ => (Value::Missing, None),
                };
                push(column.name, value);
                if let Some(error) = error {
                    push(&format!("{}_stderr", column.name), error);
                }
            }
            push("warnings", record.warnings.clone().into());
            Tidy(row)
        };
        self.ended().map(row).collect()
    }

    /// A row for the seeds of each kind of job.
    pub(super) fn rows(&self, columns: &[Column<'_, E>]) -> Rows {
        type Group<'a, E> = Vec<(
            &'a <E as Experiment>::Job,
            &'a Record<<E as Experiment>::Measured>,
        )>;
        let mut groups: Vec<(Labels, Group<'_, E>)> = Vec::new();
        for (job, record) in self.ended() {
            let labels = job.labels();
            match groups.iter_mut().find(|(other, _)| *other == labels) {
                Some((_, group)) => group.push((job, record)),
                None => groups.push((labels, vec![(job, record)])),
            }
        }
        let row = |(labels, group): (Vec<_>, Group<'_, E>)| {
            let mut measured = Vec::new();
            let mut row = Row {
                labels,
                ..Row::default()
            };
            for (job, record) in group {
                match &record.outcome {
                    Outcome::Measured(of_seed) => measured.push((job, of_seed)),
                    Outcome::Refused(reason) => row.notes.push(format!("refused: {reason}")),
                    Outcome::Diverged(reason) => {
                        row.diverged += 1;
                        row.notes.push(format!("diverged: {reason}"));
                    }
                }
                let of_seed = |warning: &String| format!("seed {}: {warning}", job.seed());
                row.warnings.extend(record.warnings.iter().map(of_seed));
            }
            row.notes.dedup();
            row.seeds = measured.len();
            let value = |column: &Column<'_, E>| (column.name, column.over(&measured));
            row.values = columns.iter().map(value).collect();
            row
        };
        let head = |column: &Column<'_, E>| Head {
            name: column.name,
            title: column.title.clone(),
            format: column.format,
        };
        Rows {
            heads: columns.iter().map(head).collect(),
            rows: groups.into_iter().map(row).collect(),
        }
    }
}

/// A job as a line of `results.jsonl`.
pub(super) struct Tidy(Vec<(String, Value)>);

impl Serialize for Tidy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// The seeds of one kind of job.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    labels: Labels,
    /// Seeds that were measured.
    pub seeds: usize,
    /// Seeds that diverged.
    pub diverged: usize,
    /// Why results are missing.
    pub notes: Vec<String>,
    /// What a reader of the numbers has to know.
    pub warnings: Vec<String>,
    values: Vec<(&'static str, Summary)>,
}

impl Row {
    /// A label; missing where there is none of this name.
    pub fn label(&self, name: &str) -> &Value {
        let found = self.labels.iter().find(|(label, _)| *label == name);
        found.map_or(&Value::Missing, |(_, value)| value)
    }

    /// A label that is a whole number.
    pub fn count(&self, name: &str) -> Option<usize> {
        match self.label(name) {
            Value::Count(count) => Some(*count as usize),
            _ => None,
        }
    }

    /// Whether a label has this text.
    pub fn is(&self, name: &str, text: &str) -> bool {
        matches!(self.label(name), Value::Text(value) if value == text)
    }

    /// The mean in a column.
    pub fn mean(&self, name: &str) -> Option<&Estimate> {
        match self.value(name) {
            Some(Summary::Mean(mean)) => mean.as_ref(),
            _ => None,
        }
    }

    /// A column.
    pub fn value(&self, name: &str) -> Option<&Summary> {
        let found = self.values.iter().find(|(column, _)| *column == name);
        found.map(|(_, value)| value)
    }

    /// What stands in place of a mean that is not there.
    fn missing(&self) -> Cell {
        let words = self.notes.first().filter(|_| self.seeds == 0);
        Cell::text(
            words
                .and_then(|words| words.split(':').next())
                .unwrap_or_default(),
        )
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in &self.labels {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("seeds", &self.seeds)?;
        map.serialize_entry("diverged", &self.diverged)?;
        for (name, value) in &self.values {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("notes", &self.notes)?;
        map.serialize_entry("warnings", &self.warnings)?;
        map.end()
    }
}

#[derive(Debug)]
struct Head {
    name: &'static str,
    title: String,
    format: Format,
}

/// Rows over the seeds, in the order of the jobs.
#[derive(Debug)]
pub struct Rows {
    heads: Vec<Head>,
    /// The rows.
    pub rows: Vec<Row>,
}

impl Rows {
    /// All rows with their labels, every column that has a title, and the seeds.
    pub fn table(&self) -> Table {
        let labels = self
            .rows
            .first()
            .map(|row| row.labels.clone())
            .unwrap_or_default();
        let labels = labels.iter().map(|(name, _)| *name);
        let titled = self.heads.iter().filter(|head| !head.title.is_empty());
        let names = labels.chain(titled.map(|head| head.name)).chain(["seeds"]);
        self.table_of(|_| true, &names.collect::<Vec<_>>())
    }

    /// The rows that `keep` is true of, with some labels and columns by name, and `seeds` or `notes`.
    pub fn table_of(&self, keep: impl Fn(&Row) -> bool, names: &[&str]) -> Table {
        let head = |name: &str| self.heads.iter().find(|head| head.name == name);
        let titles = names.iter().map(|name| match head(name) {
            Some(head) => head.title.clone(),
            None => (*name).to_owned(),
        });
        let mut table = Table::new(titles);
        for row in self.rows.iter().filter(|row| keep(row)) {
            let mut unsaid = true;
            let cell = |name: &&str| match (row.value(name), head(name)) {
                // What became of a row without numbers is said once.
                (Some(Summary::Mean(None)), _) if std::mem::take(&mut unsaid) => row.missing(),
                (Some(value), Some(head)) => value.cell(head.format),
                _ if *name == "seeds" => Cell::text(match row.diverged {
                    0 => return Cell::Count(row.seeds as u64),
                    n => format!("{} ({n} diverged)", row.seeds),
                }),
                _ if *name == "notes" => Cell::text(row.notes.join("; ")),
                _ => match row.label(name) {
                    Value::Count(count) => Cell::Count(*count),
                    label => Cell::text(label.to_string()),
                },
            };
            table.push(names.iter().map(cell).collect());
        }
        table
    }

    /// One label down, another across: of `columns` the first that has a mean.
    pub fn pivot(&self, down: &'static str, across: &str, columns: &[&str]) -> Table {
        let distinct = |label: &str| {
            let mut found: Vec<&Value> = Vec::new();
            for row in &self.rows {
                if !found.contains(&row.label(label)) {
                    found.push(row.label(label));
                }
            }
            found
        };
        let heads = |place: &Value| {
            let here = || self.rows.iter().filter(|row| row.label(across) == place);
            let has = |name: &&&str| here().any(|row| row.mean(name).is_some());
            let name = columns.iter().find(has).or(columns.first());
            self.heads.iter().find(|head| Some(&head.name) == name)
        };
        let places = distinct(across);
        let title = |place: &&Value| match heads(place) {
            Some(head) if columns.len() > 1 => format!("{place} ({})", head.title),
            _ => place.to_string(),
        };
        let titles = places.iter().map(title);
        let mut table = Table::new(std::iter::once(down.to_owned()).chain(titles));
        for name in distinct(down) {
            let cell = |place: &&Value| {
                let is_here = |row: &&Row| row.label(across) == *place && row.label(down) == name;
                let row = self.rows.iter().find(is_here);
                match row.zip(heads(place)) {
                    Some((row, head)) => match row.value(head.name) {
                        Some(Summary::Mean(None)) | None => row.missing(),
                        Some(value) => value.cell(head.format),
                    },
                    None => Cell::text(""),
                }
            };
            let cells = places.iter().map(cell);
            table.push(
                [Cell::text(name.to_string())]
                    .into_iter()
                    .chain(cells)
                    .collect(),
            );
        }
        table
    }
}
