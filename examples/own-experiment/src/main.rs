//! How wide the networks of a RealNVP have to be: an experiment of its own, with everything that the runner
//! gives to any. `docs/adding-an-experiment.md` goes through it.

use std::path::PathBuf;
use std::process::ExitCode;

use burn::tensor::backend::AutodiffBackend;
use flows_experiments::report::{
    CurveLine, CurvePanel, CurvePlot, Scale, Table, draw_curve_panels, format_estimate,
};
use flows_experiments::runner::{
    self, Column, Experiment, Flag, Format, Labels, Preset, Results, Rows, Run,
};
use flows_experiments::targets::Target;
use flows_experiments::toy::{Evaluation, TargetSettings, train_and_measure};
use flows_models::RealNvpConfig;
use flows_train::{Training, stream, stream_seed};
use serde::{Deserialize, Serialize};

/// What `config.toml` holds: an unknown key is refused.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Sample sets of the toy experiment.
    targets: Vec<String>,
    /// Units of the one hidden layer.
    widths: Vec<usize>,
    seeds: usize,
    training: Training,
}

/// What is trained and measured at a time.
struct Job {
    target: Target,
    width: usize,
    seed: usize,
    steps: usize,
}

impl runner::Job for Job {
    fn labels(&self) -> Labels {
        vec![
            ("target", self.target.name().into()),
            ("width", self.width.into()),
        ]
    }

    fn seed(&self) -> usize {
        self.seed
    }

    fn steps(&self) -> usize {
        self.steps
    }
}

/// What a job leaves behind.
#[derive(Serialize, Deserialize)]
struct Measured {
    /// Mean negative log-likelihood of fresh samples, in nats, and its standard error.
    nll: [f64; 2],
    seconds: f64,
}

struct Widths(Config);

type Col<'a> = Column<'a, Widths>;

impl Experiment for Widths {
    const NAME: &'static str = "widths";
    const ABOUT: &'static str = "Fit a RealNVP of several widths to sample sets in the plane";
    const EXAMPLES: &'static str = "\
        widths                             half a minute, into runs/widths-1\n\
        widths --targets moons --seeds 5   another set, more seeds\n\
        widths --set widths=8,32           other widths";
    const PRESETS: &'static [Preset] = &[Preset::new(
        "quick",
        "Two sets, three widths, two seeds: half a minute on two cores",
        include_str!("../widths.toml"),
    )];
    const FLAGS: &'static [Flag] = &[
        Flag::names("targets", "Sample sets, separated by commas"),
        Flag::SEEDS,
        Flag::STEPS,
    ];
    type Config = Config;
    type Job = Job;
    type Measured = Measured;

    fn new(config: Config, _data: Option<PathBuf>) -> Result<Self, String> {
        Ok(Self(config))
    }

    fn jobs(&self) -> Result<Vec<Job>, String> {
        let config = &self.0;
        if let Some(problem) = config.training.problem() {
            return Err(format!("training.{problem}"));
        }
        let mut jobs = Vec::new();
        for name in &config.targets {
            let target = Target::parse(name).map_err(|error| error.to_string())?;
            if matches!(target, Target::Energy(_)) {
                return Err(format!(
                    "target '{name}' is an energy, expected a sample set"
                ));
            }
            for &width in &config.widths {
                jobs.extend((0..config.seeds).map(|seed| Job {
                    target,
                    width,
                    seed,
                    steps: config.training.steps,
                }));
            }
        }
        Ok(jobs)
    }

    fn list(&self) -> String {
        let sets = Target::all()
            .into_iter()
            .filter(|t| matches!(t, Target::Samples(_)));
        sets.map(|t| format!("{:<16} {}\n", t.name(), t.describe()))
            .collect()
    }

    fn run<B: AutodiffBackend>(&self, job: &Job, run: &mut Run<'_, B>) -> anyhow::Result<Measured> {
        let (device, seed) = (
            run.device,
            stream_seed(job.seed as u64, job.target.name(), 0),
        );
        let config = RealNvpConfig {
            hidden: vec![job.width],
            ..RealNvpConfig::new(2)
        };
        let flow = config.init::<B>(device, &mut stream(seed, "parameters", 0))?;
        let settings = TargetSettings {
            evaluation: Evaluation {
                samples: 20_000,
                ..Evaluation::default()
            },
            ..TargetSettings::default()
        };
        // Kept in the folder of the job, and continued from there.
        let training = run.training(seed);
        let (fitted, measured) = train_and_measure(
            flow,
            job.target,
            &settings,
            &self.0.training,
            training,
            device,
        )?;
        let nll = measured
            .metrics
            .last()
            .expect("a sample set has this metric");
        Ok(Measured {
            nll: [nll.value, nll.stderr],
            seconds: fitted.seconds,
        })
    }

    fn outcome(&self, measured: &Measured) -> String {
        let [nll, stderr] = measured.nll;
        format!("NLL {}", format_estimate(nll, Some(stderr)))
    }

    fn columns<'a>(&'a self, _: &'a Results<Self>) -> Vec<Column<'a, Self>> {
        vec![
            Col::mean("nll", "NLL", |_, m| Some(m.nll[0])).with_own_error(|_, m| Some(m.nll[1])),
            Col::mean("train_seconds", "seconds", |_, m| Some(m.seconds))
                .written(Format::Decimals(1)),
        ]
    }

    fn tables(&self, _: &Results<Self>, rows: &Rows) -> Vec<Table> {
        vec![rows.pivot("width", "target", &["nll"]), rows.table()]
    }

    fn notes(&self, _: &Results<Self>) -> String {
        "Negative log-likelihood of fresh samples in nats, mean ± standard error over seeds."
            .to_owned()
    }

    fn pictures<B: AutodiffBackend>(
        &self,
        results: &Results<Self>,
        rows: &Rows,
        _: &B::Device,
    ) -> anyhow::Result<()> {
        let line = |(color, target): (usize, &String)| {
            let of_target = rows.rows.iter().filter(|row| row.is("target", target));
            let point =
                |row: &runner::Row| Some([row.count("width")? as f64, row.mean("nll")?.mean]);
            CurveLine::plain(target.clone(), of_target.filter_map(point).collect(), color)
        };
        let plot = CurvePlot {
            title: "Fit against the width of the networks".to_owned(),
            x_label: "hidden units".to_owned(),
            y_label: "NLL, nats".to_owned(),
            x_scale: Scale::Log10,
            ..CurvePlot::default()
        };
        let panel = CurvePanel {
            plot,
            lines: self.0.targets.iter().enumerate().map(line).collect(),
            ..CurvePanel::default()
        };
        let path = results.folder.path().join("widths.png");
        Ok(draw_curve_panels(path, "", &[panel], 1)?)
    }
}

fn main() -> ExitCode {
    runner::main::<Widths>()
}
