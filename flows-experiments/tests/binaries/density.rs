//! The density binary: workers, resumption, and choosing by validation rows.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

use crate::{gas, json, run_with_interruptions};

fn density() -> Command {
    let mut command = Command::cargo_bin("density").unwrap();
    command.env_remove("FLOWS_DATA");
    command
}

fn small(folder: &Path, more: &str) -> std::path::PathBuf {
    let config = folder.join("small.toml");
    let text = format!(
        "sets = ['gas']\nmodels = ['gaussian', 'maf', 'ddnf']\nseeds = 2\nsamples = 500\n\
         [course]\nsteps = 120\nbatch = 50\nevaluate_every = 10\ncheckpoint_seconds = 0\n{more}\
         [[model]]\nname = 'gaussian'\nfamily = 'gaussian'\n\
         [[model]]\nname = 'maf'\nfamily = 'maf'\nlayers = 2\nhidden = [8]\nbatch_norm = true\n\
         [[model]]\nname = 'ddnf'\nfamily = 'ddnf'\nlayers = 2\nhidden = [2]\ncells = 3\n"
    );
    fs::write(&config, text).unwrap();
    config
}

/// The runs of a summary without what a clock measured.
fn runs(folder: &Path) -> Vec<Value> {
    let mut runs = json(&folder.join("summary.json"))["runs"]
        .as_array()
        .unwrap()
        .clone();
    for run in &mut runs {
        let measured = run["outcome"]["measured"].as_object_mut().unwrap();
        measured.remove("train_seconds").unwrap();
    }
    runs
}

#[test]
fn a_killed_run_resumes_to_the_same_bits_on_any_number_of_workers() {
    let folder = tempfile::tempdir().unwrap();
    gas(folder.path());
    let config = small(folder.path(), "");
    let (whole, cut) = (folder.path().join("whole"), folder.path().join("cut"));
    density()
        .arg("--config")
        .arg(&config)
        .arg("--data-dir")
        .arg(folder.path())
        .args(["--threads", "1"])
        .arg("--out")
        .arg(&whole)
        .assert()
        .success();
    // Begun with a place for its data, which later sittings are not told.
    let mut first = std::process::Command::new(assert_cmd::cargo::cargo_bin("density"))
        .arg("--config")
        .arg(&config)
        .arg("--data-dir")
        .arg(folder.path())
        .args(["--threads", "2"])
        .arg("--out")
        .arg(&cut)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !cut.join("data.json").exists() {
        assert!(first.try_wait().unwrap().is_none(), "it ended early");
        std::thread::sleep(Duration::from_millis(5));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    run_with_interruptions("density", &config, &cut, || {
        std::process::Command::new(assert_cmd::cargo::cargo_bin("density"))
    });
    let (whole_runs, cut_runs) = (runs(&whole), runs(&cut));
    assert_eq!(whole_runs.len(), 5);
    assert_eq!(whole_runs, cut_runs);
    for model in ["maf", "ddnf"] {
        let bytes = |out: &Path| {
            let run = out.join("runs/gas").join(model).join("seed-1/model.flow");
            let bytes = fs::read(run).unwrap();
            // Behind the header, which has the seconds of training.
            let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            bytes[8 + header..].to_vec()
        };
        assert_eq!(bytes(&whole), bytes(&cut), "{model}");
    }
}

/// As docs/density.md has it.
#[test]
fn runs_of_two_machines_are_put_into_one_folder() {
    let folder = tempfile::tempdir().unwrap();
    gas(folder.path());
    let config = small(folder.path(), "");
    let run = |models: &str, out: &str| {
        let mut command = density();
        command.arg("--config").arg(&config);
        command.args([
            "--models",
            models,
            "--seeds",
            "1",
            "--steps",
            "10",
            "--threads",
            "1",
        ]);
        command.arg("--data-dir").arg(folder.path());
        command
            .arg("--out")
            .arg(folder.path().join(out))
            .assert()
            .success();
    };
    run("gaussian", "one");
    run("maf", "two");
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    fs::rename(two.join("runs/gas/maf"), one.join("runs/gas/maf")).unwrap();
    let settings = fs::read_to_string(one.join("config.toml")).unwrap();
    let both = settings.replace(
        "models = [\"gaussian\"]",
        "models = [\"gaussian\", \"maf\"]",
    );
    assert_ne!(settings, both);
    fs::write(one.join("config.toml"), both).unwrap();
    let before = fs::metadata(one.join("runs/gas/maf/seed-0/result.json")).unwrap();
    density()
        .arg("--resume")
        .arg("--out")
        .arg(&one)
        .assert()
        .success();
    assert_eq!(runs(&one).len(), 2);
    let after = fs::metadata(one.join("runs/gas/maf/seed-0/result.json")).unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
}

#[test]
fn a_grid_is_scored_on_validation_rows_and_shows_its_best() {
    let folder = tempfile::tempdir().unwrap();
    gas(folder.path());
    let grid = "[[grid]]\nmodels = ['maf']\nhidden = [[4], [16]]\nweight_decay = [0.0, 5.0]\n";
    let config = small(folder.path(), grid);
    // Test rows that would show: nothing may look at them.
    fs::copy(
        folder.path().join("gas/train.npy"),
        folder.path().join("gas/test.npy"),
    )
    .unwrap();
    let out = folder.path().join("out");
    let done = density()
        .arg("--config")
        .arg(&config)
        .arg("--data-dir")
        .arg(folder.path())
        .args(["--models", "maf", "--seeds", "1"])
        .arg("--out")
        .arg(&out)
        .assert()
        .success();
    done.stdout(contains("hidden 16, decay 5").and(contains("validation")));
    let summary = json(&out.join("summary.json"));
    let rows = summary["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    let runs = summary["runs"].as_array().unwrap();
    for (run, row) in runs.iter().zip(rows) {
        assert_eq!(run["scored"], "validation");
        assert_eq!(run["rows"], serde_json::json!([600, 150, 150]));
        let measured = &run["outcome"]["measured"];
        let [score, seen] = [&measured["test"]["mean"], &measured["validation"]];
        let difference = score.as_f64().unwrap() - seen.as_f64().unwrap();
        assert!(difference.abs() < 1e-6, "{row}");
    }
    let best = rows
        .iter()
        .max_by(|a, b| {
            a["mean"]
                .as_f64()
                .unwrap()
                .total_cmp(&b["mean"].as_f64().unwrap())
        })
        .unwrap();
    let table = fs::read_to_string(out.join("table.md")).unwrap();
    let bold = format!("**{}**", best["variant"].as_str().unwrap());
    assert!(
        table.contains(&bold) && table.matches("**").count() == 2,
        "{table}"
    );
    assert!(!out.join("gas-pairs.png").exists());
}

#[test]
fn a_configuration_that_cannot_be_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    gas(folder.path());
    let refused = |more: &str, words: &str| {
        let config = small(folder.path(), more);
        let out = folder.path().join("refused");
        let mut command = density();
        command
            .arg("--config")
            .arg(config)
            .arg("--data-dir")
            .arg(folder.path());
        let said = command.arg("--out").arg(&out).assert().code(2);
        said.stderr(
            contains(words.to_owned()).and(predicates::str::is_match("^error: .*\n$").unwrap()),
        );
        assert!(!out.exists());
    };
    refused("weight_decay = -1.0\n", "weight_decay is -1");
    refused("speed = 3\n", "small.toml, line 10: unknown field `speed`");
    refused("[[grid]]\nsets = ['mnist']\n", "unknown set 'mnist'");
    refused(
        "[[grid]]\nmodels = ['maf']\n[[grid]]\nmodels = ['maf']\n",
        "is listed twice",
    );
}
