//! The regularization binary: what it measures, resumption, and what it says to bad input.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

use crate::json;

pub(crate) const SMALL: &str = "
targets = ['u1', '8gaussians']
seeds = 2
[training]
steps = 30
batch = 32
learning_rate = 2e-2
log_every = 5
checkpoint_seconds = 0
[model]
dim = 2
blocks = 2
hidden = [4]
log_det = { taylor = { order = 2 } }
affine = false
[regularizers]
cells = [4]
geodesic = [10.0]
inverse_consistency = [100.0]
both = [[10.0, 100.0]]
geodesic_rows = 16
other_log_dets = ['exact']
[truncation]
cells = [4, 8, 16, 32]
samples = 100
[capacity]
targets = ['8gaussians']
blocks = [1]
cells = [2]
hidden = [2]
[evaluation]
samples = 500
grid = 12
[pictures]
geodesic = 10.0
inverse_consistency = 100.0
both = [10.0, 100.0]
particles = 8
";

fn regularization() -> Command {
    Command::cargo_bin("regularization").unwrap()
}

fn file(folder: &Path, text: &str) -> PathBuf {
    let config = folder.join("small.toml");
    fs::write(&config, text).unwrap();
    config
}

#[test]
fn a_run_measures_what_the_regularizers_do() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut command = regularization();
    command.arg("--config").arg(file(folder.path(), SMALL));
    let done = command.arg("--out").arg(&out).assert().success();
    done.stdout(
        contains("u1 cells 4 blocks 2 hidden 4 inverse 100 taylor(2) seed 1").and(contains("gain")),
    );

    let summary = json(&out.join("summary.json"));
    let all = summary["rows"].as_array().unwrap();
    let of = |study: &str| {
        all.iter()
            .filter(|row| row["study"] == study)
            .cloned()
            .collect()
    };
    let (rows, capacity): (Vec<Value>, Vec<Value>) = (of("regularizers"), of("capacity"));
    assert_eq!(rows.len(), 2 * 8);
    let mean = |row: &Value, key: &str| row[key]["mean"].as_f64().unwrap();
    for row in &rows {
        for key in [
            "fit",
            "surrogate_fit",
            "log_det_bias",
            "round_trip",
            "path_energy",
        ] {
            assert!(
                row[key]["mean"].is_f64() && row[key]["stderr"].is_f64(),
                "{key} of {row}"
            );
        }
        assert_eq!(row["seeds"], 2);
        // Two seeds, 100 points, two blocks of four cells.
        assert_eq!(row["evaluations"], 2 * 100 * 2 * 4);
        assert!(mean(row, "exact_inverse_residual") < 1e-4);
        // Cauchy and Schwarz, and the triangle's inequality.
        assert!(mean(row, "path_length").powi(2) <= 2.0 * mean(row, "path_energy"));
        assert!(mean(row, "displacement") <= mean(row, "path_length") * (1.0 + 1e-5));
        let squared = mean(row, "inverse_consistency");
        assert!(
            (mean(row, "round_trip").powi(2) - squared).abs() < 0.3 * squared,
            "{row}"
        );
        if row["trained by"] == "exact" {
            assert_eq!(mean(row, "log_det_bias"), 0.0);
            assert_eq!(row["fit"]["values"], row["surrogate_fit"]["values"]);
        } else {
            assert!(mean(row, "log_det_error") > 0.0);
        }
    }
    for target in ["u1", "8gaussians"] {
        let of = |kind: &str| {
            let same = |row: &&Value| {
                row["target"] == target
                    && row["regularizer"].as_str().unwrap().starts_with(kind)
                    && row["trained by"] != "exact"
            };
            rows.iter().find(same).unwrap()
        };
        let (none, geodesic, inverse, both) =
            (of("none"), of("geodesic"), of("inverse"), of("both"));
        assert!(none["training_geodesic"].is_null() && none["training_inverse"].is_null());
        assert!(both["training_geodesic"]["mean"].is_f64());
        assert!(both["training_inverse"]["mean"].is_f64());
        // Weights this large do what they are for, however short the training.
        assert!(mean(geodesic, "path_length") < 0.8 * mean(none, "path_length"));
        assert!(mean(inverse, "round_trip") < mean(none, "round_trip"));
        assert!(mean(inverse, "round_trip_gain") > 1.0);
    }
    let truncation = summary["truncation"].as_array().unwrap();
    assert_eq!(truncation.len(), rows.len());
    for row in truncation {
        for (key, theory) in [
            ("first_order", -1.0),
            ("second_order", -2.0),
            ("round_trip", -1.0),
        ] {
            // A strong geodesic term leaves errors of the size of rounding, which have no slope.
            let slope = row[key]["slope"]["mean"].as_f64();
            assert!(slope.is_some() || row["label"].as_str().unwrap().contains("10"));
            let near = |slope: f64| (slope - theory).abs() < 0.3;
            assert!(slope.is_none_or(near), "{key} of {row}");
        }
    }
    assert_eq!(capacity.len(), 4);
    assert!(capacity.iter().all(|row| row["fit"]["mean"].is_f64()));
    let table = fs::read_to_string(out.join("table.md")).unwrap();
    assert_eq!(table.matches("| target ").count(), 4);
}

#[test]
fn a_field_too_stiff_for_its_cells_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    // One Euler step and a first-order series: the loss rewards large Jacobians without end.
    let text = SMALL
        .replace("order = 2", "order = 1")
        .replace("cells = [4]", "cells = [1]")
        .replace("2e-2", "1e-1")
        .replace("seeds = 2", "seeds = 1");
    let mut command = regularization();
    command.arg("--config").arg(file(folder.path(), &text));
    command.args(["--targets", "8gaussians"]);
    let done = command.arg("--out").arg(&out).assert().success();
    done.stderr(contains(
        "warning: regularizers 8gaussians cells 1 blocks 2 hidden 4 none taylor(1) seed 0: ddnf block 0: \
         field too stiff for T = 1, rho(J/T) up to",
    ));
    let summary = json(&out.join("summary.json"));
    let row = &summary["rows"][0];
    assert_eq!(row["regularizer"], "none");
    assert!(row["max_rho"].as_f64().unwrap() >= 1.0);
    assert!(row["rho_at_least_one"].as_u64().unwrap() > 0);
    assert!(row["warnings"][0].as_str().unwrap().contains("block 0"));
    // The surrogate is far off there, and says nothing; the table has both.
    assert!(row["log_det_error"]["mean"].as_f64().unwrap() > 0.1);
}
