//! `flows info`

use std::path::PathBuf;

use super::{grouped, names_of, print, refuse_model};
use crate::report::format_estimate;
use flows_tables::Role;
use flows_tables::table_flow::{Estimate, ModelHeader, Training};
use flows_train::Stopped;

/// Say what is in a model file
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Model file
    model: PathBuf,
    /// The whole header as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let header = ModelHeader::load(&self.model).map_err(refuse_model)?;
        if self.json {
            return print(&serde_json::to_string_pretty(&header)?);
        }
        let model = serde_json::to_string(&header.model)?;
        let determined = header.determined.iter();
        let determined = determined.map(|d| format!("{} = {}", d.column, d.formula()));
        let kinds = header.kinds.iter();
        let kinds = kinds.map(|k| format!("{}: {}", k.column, k.kind.words()));
        let mut lines = vec![
            (
                "density of",
                names_of(&header.columns, Role::Density).join(", "),
            ),
            ("kinds", kinds.collect::<Vec<_>>().join(", ")),
            ("determined", determined.collect::<Vec<_>>().join(", ")),
            ("given", names_of(&header.columns, Role::Context).join(", ")),
            ("model", model),
            (
                "members",
                match header.members {
                    1 => String::new(),
                    n => n.to_string(),
                },
            ),
            (
                "mixture",
                header.mixture.map_or_else(String::new, |share| {
                    format!("has {:.1} % of the density", 100.0 * share)
                }),
            ),
        ];
        lines.extend(header.training.iter().flat_map(of_training));
        if let Some(from) = &header.imported {
            let compared = format!(
                "{}; log-densities of {} rows are the same within {:.1e} nats",
                from.library,
                grouped(from.rows),
                from.difference
            );
            lines.push(("imported from", compared));
        }
        let written = format!("{}, format {}", header.program, header.format);
        lines.push(("written by", written));
        lines.retain(|(_, text)| !text.is_empty());
        for (name, text) in lines {
            print(&format!("{name:<20} {text}"))?;
        }
        Ok(())
    }
}

/// What is known of a fit, line by line.
fn of_training(training: &Training) -> Vec<(&'static str, String)> {
    let [train, validation, test] = training.rows.map(grouped);
    let show = |e: Estimate| format!("{} nats", format_estimate(e.mean, e.stderr));
    let stopped = match training.stopped {
        Stopped::Steps => "all steps done",
        Stopped::Patience => "no improvement",
        Stopped::Diverged => "loss infinite",
        Stopped::Unsolved => "too many rows without an inverse",
    };
    let left_out = [
        (training.skipped, "missing values"),
        (training.far, "values far from all others"),
    ];
    let left_out: String = left_out
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, why)| format!(", {} left out for {why}", grouped(*count)))
        .collect();
    let weighted = if training.weighted { ", weighted" } else { "" };
    vec![
        ("parameters", grouped(training.parameters)),
        ("test log-likelihood", show(training.test)),
        (
            "of a Gaussian",
            training.gaussian.map(show).unwrap_or_default(),
        ),
        (
            "rows",
            format!("{train} training, {validation} validation, {test} test{weighted}{left_out}"),
        ),
        (
            "training",
            format!(
                "{} steps ({stopped}), best after {}; batch {}, learning rate {}, seed {}; {:.1} s",
                grouped(training.steps[0]),
                grouped(training.steps[1]),
                training.batch,
                training.learning_rate,
                training.seed,
                training.seconds
            ),
        ),
        ("fitted with", training.computed_on.clone()),
    ]
}
