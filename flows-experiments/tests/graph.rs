//! The graph binary as a user runs it: results, pictures, and what it says to bad input.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::{contains, starts_with};
use serde_json::Value;

fn graph() -> Command {
    Command::cargo_bin("graph").unwrap()
}

fn summary(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("summary.json")).unwrap()).unwrap()
}

/// The rows of a summary without what a clock measured.
fn rows(folder: &Path) -> Vec<Value> {
    let mut rows = summary(folder)["rows"].as_array().unwrap().clone();
    for row in &mut rows {
        row.as_object_mut()
            .unwrap()
            .remove("train_seconds")
            .unwrap();
    }
    rows
}

#[test]
fn a_run_finds_a_small_graph_and_leaves_its_results() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("small.toml");
    let text = "dim = 4\nseeds = 2\nmechanism = 'linear'\nhidden = [16]\nsteps = 800\n\
                hard_steps = 100\nbatch = 64\nlearning_rate = 1e-2\n";
    fs::write(&config, text).unwrap();
    let out = folder.path().join("run");
    let mut command = graph();
    command.arg("--config").arg(&config).arg("--out").arg(&out);
    command.assert().success().stdout(contains("edges found"));

    let found = summary(&out);
    assert_eq!(found["experiment"], "graph");
    assert_eq!(found["config"]["dim"], 4);
    for row in found["rows"].as_array().unwrap() {
        let number = |key: &str| row[key].as_f64().unwrap();
        assert!(number("edges") >= 1.0 && number("correct") <= number("learned"));
        // The truth is the best density there is, up to the noise of 10 000 fresh rows.
        assert!(number("nll_hard") > number("nll_truth") - 0.05, "{row}");
        let order: Vec<usize> = serde_json::from_value(row["order"].clone()).unwrap();
        let mask: Vec<Vec<f64>> = serde_json::from_value(row["soft_mask"].clone()).unwrap();
        for (k, &i) in order.iter().enumerate() {
            assert!(order[k..].iter().all(|&j| mask[i][j] == 0.0), "{row}");
        }
    }
    let recall = found["rows"].as_array().unwrap().iter();
    let recall: f64 = recall.map(|row| row["recall"].as_f64().unwrap()).sum();
    assert!(
        recall > 1.0,
        "more than half of the edges of strong linear equations"
    );
    assert!(
        fs::read(out.join("graph.png"))
            .unwrap()
            .starts_with(b"\x89PNG")
    );
    assert!(
        fs::read_to_string(out.join("table.md"))
            .unwrap()
            .contains("| all")
    );

    // The configuration that it leaves gives the same once more, and a folder is never reused.
    let again = folder.path().join("again");
    let mut command = graph();
    let kept = out.join("config.toml");
    command.arg("--config").arg(&kept).arg("--out").arg(&again);
    command.assert().success();
    assert_eq!(rows(&again), rows(&out));
    let mut command = graph();
    command.arg("--out").arg(&out);
    let refused = command.assert().code(2);
    refused.stderr(starts_with("error: ").and(contains("already holds an experiment")));
}

#[test]
fn masks_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = graph();
    command.arg("--draw-masks").arg(folder.path());
    command
        .assert()
        .success()
        .stdout(contains("coupling, 2 levels"));
    for picture in ["masks.png", "made.png"] {
        let bytes = fs::read(folder.path().join(picture)).unwrap();
        assert!(bytes.starts_with(b"\x89PNG"), "{picture}");
    }
}

#[test]
fn bad_options_are_one_line_and_leave_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    for (arguments, part) in [
        (["--dim", "1"], "dim is 1"),
        (["--seeds", "0"], "seeds is 0"),
        (["--penalty", "-1"], "penalty"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
        (["--backend", "tpu"], "unknown backend"),
    ] {
        let mut command = graph();
        command.args(arguments).arg("--out").arg(&out);
        let refused = command.assert().code(2);
        let one_line = predicate::function(|text: &str| text.trim_end().lines().count() == 1);
        if arguments[0] != "--penalty" {
            refused.stderr(starts_with("error: ").and(contains(part)).and(one_line));
        }
        assert!(!out.exists());
    }
}
