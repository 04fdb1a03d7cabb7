//! The toy binary: results, resumption, and what it says to bad input.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::{contains, starts_with};
use serde_json::Value;

use crate::{json, rows, run_with_interruptions};

fn toy() -> Command {
    Command::cargo_bin("toy").unwrap()
}

/// A small experiment on two targets, two seeds each, in `folder`.
fn small(folder: &Path) -> Command {
    let config = folder.join("small.toml");
    let text = "targets = ['u1', '8gaussians']\nmodels = ['ddnf', 'realnvp']\nseeds = 2\n\
                [training]\nsteps = 60\nbatch = 64\nlearning_rate = 5e-3\nlog_every = 5\ncheckpoint_seconds = 0\n\
                [evaluation]\nsamples = 1000\ngrid = 20\n";
    fs::write(&config, text).unwrap();
    let mut command = toy();
    command.arg("--config").arg(config);
    command
}

#[test]
fn a_run_leaves_summary_table_and_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let done = small(folder.path())
        .arg("--out")
        .arg(&out)
        .assert()
        .success();
    done.stdout(contains("u1 ddnf seed 0").and(contains("8gaussians (gap)")));

    let summary = json(&out.join("summary.json"));
    assert_eq!(summary["experiment"], "toy");
    assert_eq!(summary["complete"], true);
    assert_eq!(summary["backend"], "flex");
    assert_eq!(summary["config"]["training"]["steps"], 60);
    let rows = summary["rows"].as_array().unwrap();
    let metrics = rows.iter().map(|r| r["metric"].as_str().unwrap());
    assert_eq!(metrics.clone().filter(|m| *m == "kl").count(), 2);
    assert_eq!(metrics.clone().filter(|m| *m == "entropy_gap").count(), 2);
    assert_eq!(metrics.filter(|m| *m == "nll").count(), 2);
    for row in rows {
        assert!(row["mean"].is_f64() && row["stderr"].is_f64(), "{row}");
        assert_eq!(row["seeds"], 2);
        assert!(row["parameters"].as_u64().unwrap() > 0);
        assert!(row["inverse_residual"].as_f64().unwrap() < 1e-3, "{row}");
    }
    for picture in ["u1.png", "8gaussians.png", "overview.png"] {
        let bytes = fs::read(out.join(picture)).unwrap();
        assert!(bytes.starts_with(b"\x89PNG"), "{picture}");
    }
    assert!(
        fs::read_to_string(out.join("table.md"))
            .unwrap()
            .starts_with("| model")
    );

    // A second run never writes over the first.
    let again = small(folder.path()).arg("--out").arg(&out).assert().code(2);
    again.stderr(contains("already holds an experiment").and(contains("--resume")));
}

#[test]
fn a_killed_run_resumes_to_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, cut) = (folder.path().join("whole"), folder.path().join("cut"));
    small(folder.path())
        .arg("--out")
        .arg(&whole)
        .assert()
        .success();

    run_with_interruptions("toy", &folder.path().join("small.toml"), &cut);
    let (whole, cut) = (rows(&whole), rows(&cut));
    assert_eq!(whole.len(), cut.len());
    for (whole, cut) in whole.iter().zip(&cut) {
        assert_eq!(whole, cut);
    }
}

#[test]
fn resuming_with_other_settings_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let base = ["--targets", "u1", "--models", "planar-2", "--seeds", "1"];
    let run = |more: &[&str]| {
        let mut command = small(folder.path());
        command.args(base).args(more).arg("--out").arg(&out);
        command.assert()
    };
    run(&["--steps", "3"]).success();
    let other = run(&["--steps", "4", "--resume"]).code(2);
    other.stderr(contains("begun with other settings").and(contains("steps")));
    let other = run(&["--steps", "3", "--dtype", "f64", "--resume"]).code(2);
    other.stderr(contains("flex in f32"));
}

#[test]
fn f64_runs_and_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let base = ["--targets", "u2", "--models", "maf", "--seeds", "1"];
    let mut command = small(folder.path());
    command.args(base).args(["--steps", "5", "--dtype", "f64"]);
    command.arg("--out").arg(&out).assert().success();
    assert_eq!(json(&out.join("summary.json"))["dtype"], "f64");
    let before = rows(&out);
    toy()
        .arg("--resume")
        .arg("--out")
        .arg(&out)
        .assert()
        .success();
    assert_eq!(before, rows(&out));
}

/// Everything a user can get wrong is one line on stderr and exit code 2.
#[test]
fn misuse_gets_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let file = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        path(name)
    };
    let quick = include_str!("../../configs/toy-quick.toml");
    let typo = file("typo.toml", &quick.replace("batch", "bach"));
    let wide = format!("{quick}\n[custom.wide]\nkind = 'maf'\ndim = 3\n");
    let wide = file("wide.toml", &wide);
    let bad = format!("{quick}\n[custom.relu]\nkind = 'ddnf'\ndim = 2\nactivation = 'relu'\n");
    let bad = file("bad.toml", &bad);
    fs::create_dir(folder.path().join("full")).unwrap();
    file("full/thesis.txt", "mine");
    let (new, full, none) = (path("new"), path("full"), path("none"));
    let cases: [(&[&str], &str); 11] = [
        (&["--targets", "u5"], "unknown target 'u5'"),
        (
            &["--models", "glow"],
            "unknown model 'glow'; models are ddnf",
        ),
        (
            &["--backend", "tpu"],
            "unknown backend 'tpu'; this build has",
        ),
        (
            &["--config", &typo],
            "typo.toml, line 8: unknown field `bach`",
        ),
        (&["--config", &bad], "relu"),
        (&["--config", &none], "--config"),
        (
            &["--config", &wide, "--models", "wide"],
            "model 'wide' has dim 3, the toy targets have 2",
        ),
        (&["--seeds", "0"], "seeds"),
        (
            &["--steps", "0"],
            "training.steps is 0, expected at least 1",
        ),
        (&["--threads", "0"], "--threads is 0"),
        (
            &["--resume", "--out", &none],
            "holds no experiment to resume",
        ),
    ];
    for (arguments, message) in cases {
        let mut command = toy();
        command.args(arguments);
        if !arguments.contains(&"--out") {
            command.args(["--out", &new]);
        }
        let failed = command.assert().code(2);
        let one_line = predicate::function(|text: &str| text.trim_end().lines().count() == 1);
        failed.stderr(starts_with("error: ").and(contains(message)).and(one_line));
        assert!(!Path::new(&new).exists(), "{arguments:?} left a folder");
    }
    let taken = toy().args(["--out", &full]).assert().code(2);
    taken.stderr(contains("exists and is not empty"));
    assert_eq!(
        fs::read_to_string(folder.path().join("full/thesis.txt")).unwrap(),
        "mine"
    );
}

#[test]
fn a_diverging_run_is_reported_and_the_others_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let config = folder.path().join("wild.toml");
    let text = "targets = ['u1']\nmodels = ['planar-2', 'ddnf-1']\nseeds = 1\n\
                [training]\nsteps = 60\nbatch = 32\nlearning_rate = 1e-3\nlog_every = 5\n\
                [evaluation]\nsamples = 500\ngrid = 10\n\
                [[override]]\nmodels = ['ddnf-1']\nlearning_rate = 1e30\n";
    fs::write(&config, text).unwrap();
    let mut command = toy();
    command.arg("--config").arg(&config).arg("--out").arg(&out);
    let failed = command.assert().code(1);
    failed
        .stdout(contains("diverged: the loss became"))
        .stderr(contains("1 of 2 runs diverged"));
    let rows = rows(&out);
    let of = |model: &str| rows.iter().find(|r| r["model"] == model).unwrap();
    assert!(of("planar-2")["mean"].is_f64());
    assert!(of("ddnf-1")["mean"].is_null());
    assert_eq!(of("ddnf-1")["diverged"], 1);
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_made_is_a_failure_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("file");
    fs::write(&blocked, "not a folder").unwrap();
    let failed = toy().arg("--out").arg(blocked.join("run")).assert().code(1);
    failed.stderr(starts_with("error: cannot create").and(contains("file/run")));
}

#[test]
fn the_list_names_every_target_and_model() {
    let listed = toy().arg("--list").assert().success();
    listed.stdout(
        contains("checkerboard")
            .and(contains("u4"))
            .and(contains("ddnf-tiny")),
    );
}

#[test]
fn a_field_too_stiff_for_its_cells_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let config = folder.path().join("stiff.toml");
    // One Euler step and a first-order series: the loss rewards large Jacobians without end.
    let text = "targets = ['8gaussians']\nmodels = ['stiff', 'realnvp']\nseeds = 1\n\
                [training]\nsteps = 40\nbatch = 64\nlearning_rate = 5e-2\n\
                [evaluation]\nsamples = 500\ngrid = 10\n\
                [custom.stiff]\nkind = 'ddnf'\ndim = 2\nblocks = 2\ncells = 1\nhidden = [16]\n\
                log_det = { taylor = { order = 1 } }\n";
    fs::write(&config, text).unwrap();
    let mut command = toy();
    command.arg("--config").arg(&config).arg("--out").arg(&out);
    let done = command.assert().success();
    let named = "warning: 8gaussians stiff seed 0: ddnf block 0: field too stiff for T = 1, rho";
    done.stderr(contains(named));
    let rows = rows(&out);
    let of = |model: &str| rows.iter().find(|r| r["model"] == model).unwrap();
    let stiff = of("stiff");
    assert!(stiff["max_rho"].as_f64().unwrap() >= 1.0);
    assert!(stiff["rho_at_least_one"].as_u64().unwrap() > 0);
    let warning = stiff["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("seed 0: ddnf block 0: "), "{warning}");
    let other = of("realnvp");
    assert!(other["max_rho"].is_null() && other["warnings"] == Value::Array(vec![]));
}
