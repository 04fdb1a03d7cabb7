//! What every experiment gets from the runner: the same files, the same resumption, the same errors.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::{gas, json, run_with_interruptions};

/// A small run of an experiment.
struct Case {
    binary: &'static str,
    config: &'static str,
    data: bool,
    pictures: &'static [&'static str],
}

const TOY: Case = Case {
    binary: "toy",
    config: "targets = ['u1', '8gaussians']\nmodels = ['ddnf-1', 'realnvp']\nseeds = 2\n\
        [training]\nsteps = 40\nbatch = 64\nlearning_rate = 5e-3\nlog_every = 5\ncheckpoint_seconds = 0\n\
        [evaluation]\nsamples = 1000\ngrid = 20\n",
    data: false,
    pictures: &["u1", "8gaussians", "overview"],
};

const GRAPH: Case = Case {
    binary: "graph",
    config: "dim = 4\nseeds = 2\nmechanism = 'linear'\nhidden = [16]\nsteps = 60\nhard_steps = 40\nbatch = 64\n\
        learning_rate = 1e-2\n",
    data: false,
    pictures: &["graph"],
};

const DENSITY: Case = Case {
    binary: "density",
    config: crate::density::SMALL,
    data: true,
    pictures: &["gas-pairs", "gas-marginals"],
};

/// Two posteriors with two latent variables on the embedded digits.
const VAE: Case = Case {
    binary: "vae",
    config: crate::vae::SMALL,
    data: false,
    pictures: &[
        "samples-latent-2",
        "reconstructions-latent-2",
        "posteriors-latent-2",
        "curves-latent-2",
    ],
};

const REGULARIZATION: Case = Case {
    binary: "regularization",
    config: crate::regularization::SMALL,
    data: false,
    pictures: &[
        "overview",
        "u1-T4",
        "8gaussians-T4",
        "trade-off",
        "truncation",
        "training",
        "capacity",
    ],
};

impl Case {
    fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin(self.binary));
        command.env_remove("FLOWS_DATA").args(["--threads", "2"]);
        if self.data {
            command.arg("--data-dir").arg(folder);
        }
        command
    }

    fn done(&self, folder: &Path, arguments: &[&str]) -> Output {
        let output = self.command(folder).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{} {arguments:?}: {said}",
            self.binary
        );
        output
    }
}

/// The lines of `results.jsonl` without what a clock measured.
fn results(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("results.jsonl")).unwrap();
    let row = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        let row_of = row.as_object_mut().unwrap();
        row_of.retain(|key, _| !key.ends_with("seconds"));
        row
    };
    text.lines().map(row).collect()
}

/// A run, one killed again and again, and one whose jobs are done by processes of their own, two at a
/// time and in another order, end with the same rows, which the files of the first one hold.
fn runs_alike_whatever_happens(case: &Case) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    if case.data {
        gas(folder);
    }
    let config = folder.join("small.toml");
    fs::write(&config, case.config).unwrap();
    let at = |name: &str| folder.join(name);
    let (config, whole) = (config.to_str().unwrap(), at("whole"));
    let out = |path: &'static str| at(path).to_str().unwrap().to_owned();
    let said = case
        .done(folder, &["--config", config, "--out", &out("whole")])
        .stdout;
    let rows = results(&whole);

    let summary = json(&whole.join("summary.json"));
    assert_eq!(summary["experiment"], case.binary);
    assert_eq!(summary["complete"], true);
    let run = json(&whole.join("run.json"));
    assert_eq!(
        (&run["backend"], &run["complete"]),
        (&"flex".into(), &true.into())
    );
    assert!(run["wall_seconds"].as_f64().unwrap() > 0.0, "{run}");
    assert!(
        !fs::read_to_string(whole.join("table.md"))
            .unwrap()
            .is_empty()
    );
    for picture in case.pictures {
        let file = fs::File::open(whole.join(format!("{picture}.png"))).unwrap();
        let mut reader = png::Decoder::new(std::io::BufReader::new(file))
            .read_info()
            .unwrap();
        let mut pixels = vec![0; reader.output_buffer_size()];
        reader.next_frame(&mut pixels).unwrap();
        let (min, max) = (pixels.iter().min(), pixels.iter().max());
        assert!(pixels.len() > 30_000 && max > min, "{picture} is empty");
    }

    let jobs = case
        .done(folder, &["--config", config, "--list-jobs"])
        .stdout;
    let jobs = String::from_utf8(jobs).unwrap();
    let jobs: Vec<&str> = jobs.lines().collect();
    assert_eq!(jobs.len(), rows.len());
    let said = String::from_utf8(said).unwrap();
    assert!(said.lines().count() > jobs.len(), "{said}");
    for row in &rows {
        assert_eq!(row["status"], "measured", "{row}");
    }

    let cut = at("cut");
    run_with_interruptions(Path::new(config), &cut, || case.command(folder));
    assert_eq!(results(&cut), rows, "killed and resumed");

    let parts = out("parts");
    let last_first: Vec<&str> = jobs.iter().rev().copied().collect();
    for pair in last_first.chunks(2) {
        let start = |job: &&str| {
            let mut command = case.command(folder);
            command.args(["--config", config, "--out", &parts, "--only", job]);
            command.stdout(std::process::Stdio::null()).spawn().unwrap()
        };
        let started: Vec<_> = pair.iter().map(start).collect();
        for mut child in started {
            assert!(child.wait().unwrap().success(), "{pair:?}");
        }
    }
    case.done(folder, &["--resume", "--out", &parts]);
    assert_eq!(results(&at("parts")), rows, "one process a job");

    // A second run never writes over the first, and one with other settings does not continue it.
    let refused = |arguments: &[&str], words: &str| {
        let output = case
            .command(folder)
            .args(arguments)
            .args(["--out", &out("whole")])
            .output();
        is_usage_error(&output.unwrap(), words);
    };
    refused(
        &["--config", config],
        "already holds an experiment; use --resume",
    );
    refused(
        &["--resume", "--seeds", "7"],
        "begun with other settings: it has `seeds = ",
    );
    refused(&["--resume", "--dtype", "f64"], "it runs on flex in f32");
    refused(
        &["--resume", "--only", "nothing"],
        "no job is called 'nothing'",
    );
    // What a program before this one left.
    fs::remove_file(whole.join("run.json")).unwrap();
    refused(
        &["--resume"],
        "was begun by an older version of this program",
    );
}

fn is_usage_error(output: &Output, words: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.starts_with("error: ") && said.contains(words),
        "{said}"
    );
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
}

#[test]
fn toy_runs_alike_whatever_happens() {
    runs_alike_whatever_happens(&TOY);
}

#[test]
fn graph_runs_alike_whatever_happens() {
    runs_alike_whatever_happens(&GRAPH);
}

#[test]
fn density_runs_alike_whatever_happens() {
    runs_alike_whatever_happens(&DENSITY);
}

#[test]
fn vae_runs_alike_whatever_happens() {
    runs_alike_whatever_happens(&VAE);
}

#[test]
fn regularization_runs_alike_whatever_happens() {
    runs_alike_whatever_happens(&REGULARIZATION);
}

/// Everything a user can get wrong is one line on stderr and exit code 2, and leaves no folder.
#[test]
fn usage_errors_are_one_line_and_leave_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = |name: &str, text: &str| -> String {
        let path: PathBuf = folder.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let toy = TOY.config;
    let typo = file("typo.toml", &toy.replace("batch", "bach"));
    let wide = file(
        "wide.toml",
        &format!("{toy}[custom.wide]\nkind = 'maf'\ndim = 3\n"),
    );
    let relu = format!("{toy}[custom.relu]\nkind = 'ddnf'\ndim = 2\nactivation = 'relu'\n");
    let relu = file("relu.toml", &relu);
    let none = folder.join("none").display().to_string();
    let out = folder.join("new").display().to_string();
    let here = folder.display().to_string();
    fs::create_dir(folder.join("full")).unwrap();
    fs::write(folder.join("full/thesis.txt"), "mine").unwrap();
    let full = folder.join("full").display().to_string();
    let cases: &[(&str, &[&str], &str)] = &[
        ("toy", &["--targets", "u5"], "unknown target 'u5'"),
        (
            "toy",
            &["--models", "glow"],
            "unknown model 'glow'; models are ddnf",
        ),
        (
            "toy",
            &["--models", "maf,maf"],
            "'u1 maf seed 0' is listed twice",
        ),
        (
            "toy",
            &["--backend", "tpu"],
            "unknown backend 'tpu'; this build has",
        ),
        (
            "toy",
            &["--config", &typo],
            "typo.toml, line 6: unknown field `bach`",
        ),
        ("toy", &["--config", &relu, "--models", "relu"], "relu"),
        ("toy", &["--config", &none], "--config"),
        (
            "toy",
            &["--config", &wide, "--models", "wide"],
            "model 'wide' has dim 3, the toy targets have 2",
        ),
        ("toy", &["--seeds", "0"], "seeds is 0"),
        (
            "toy",
            &["--seeds", "some"],
            "--seeds some: invalid type: string \"some\"",
        ),
        (
            "toy",
            &["--steps", "0"],
            "training.steps is 0, expected at least 1",
        ),
        (
            "toy",
            &["--set", "training.stps=3"],
            "--set training.stps=3: unknown field `stps`",
        ),
        (
            "toy",
            &["--set", "seeds"],
            "--set seeds: expected KEY=VALUE",
        ),
        ("toy", &["--threads", "0"], "--threads is 0"),
        (
            "toy",
            &["--only", "u9/maf/seed-0"],
            "no job is called 'u9/maf/seed-0'; --list-jobs prints them",
        ),
        (
            "toy",
            &["--resume", "--out", &none],
            "holds no experiment to resume",
        ),
        ("graph", &["--set", "dim=1"], "dim is 1"),
        ("graph", &["--set", "penalty=-1"], "penalty is -1"),
        (
            "density",
            &[],
            "no data: --data-dir or FLOWS_DATA names a folder",
        ),
        ("density", &["--data-dir", &none], "none is no folder"),
        (
            "density",
            &["--set", "training.weight_decay=-1"],
            "training.weight_decay is -1",
        ),
        (
            "density",
            &["--set", "override=[{ speed = 3 }]"],
            "override: unknown field `speed`",
        ),
        (
            "density",
            &["--set", "grid=[{ sets = ['mnist'] }]"],
            "unknown set 'mnist'; sets are power",
        ),
        (
            "vae",
            &["--posterior", "spline"],
            "no posterior is called 'spline'",
        ),
        ("vae", &["--data", "mnist"], "--data-dir or FLOWS_DATA"),
        (
            "vae",
            &["--data", "omniglot", "--data-dir", &here],
            "looked for omniglot/chardata.mat",
        ),
        (
            "vae",
            &["--data", "cifar"],
            "--data cifar: unknown variant `cifar`",
        ),
        (
            "vae",
            &["--set", "training.epochs=0"],
            "training.epochs is 0",
        ),
        ("vae", &["--posterior", "planar,planar"], "is listed twice"),
        ("vae", &["--set", "latents=0"], "latent is 0"),
        (
            "vae",
            &["--set", "latents=1", "--posterior", "realnvp"],
            "model 'realnvp latent 1 seed 0': coupling: untouched is []",
        ),
        (
            "regularization",
            &["--targets", "u5"],
            "unknown target 'u5'",
        ),
        (
            "regularization",
            &["--set", "regularizers.cells=0"],
            "regularizers.cells has 0",
        ),
        (
            "regularization",
            &["--set", "regularizers.rows=3"],
            "unknown field `rows`",
        ),
        (
            "regularization",
            &["--set", "model.time_dependent=true"],
            "model.time_dependent",
        ),
        (
            "regularization",
            &["--set", "model.activation=relu"],
            "relu",
        ),
        (
            "regularization",
            &["--set", "model.hidden=[]"],
            "hidden is []",
        ),
        ("toy", &["--out", &full], "exists and is not empty"),
    ];
    for (binary, arguments, words) in cases {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin(binary));
        command.env_remove("FLOWS_DATA").args(*arguments);
        if !arguments.contains(&"--out") {
            command.args(["--out", &out]);
        }
        let output = command.output().unwrap();
        is_usage_error(&output, words);
        assert!(
            !Path::new(&out).exists(),
            "{binary} {arguments:?} left a folder"
        );
    }
    assert_eq!(fs::read_dir(&full).unwrap().count(), 1);
}
