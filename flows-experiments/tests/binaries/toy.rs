//! The toy binary: what it does besides the runner.

use std::fs;

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::{contains, starts_with};
use serde_json::Value;

use crate::rows;

fn toy() -> Command {
    Command::cargo_bin("toy").unwrap()
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
    assert!(of("planar-2")["kl"]["mean"].is_f64());
    assert!(of("ddnf-1")["kl"].is_null());
    let note = of("ddnf-1")["notes"][0].as_str().unwrap();
    assert!(note.starts_with("diverged: the loss became"), "{note}");
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
