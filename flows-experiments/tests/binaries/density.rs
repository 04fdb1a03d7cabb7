//! The density binary: workers, resumption, and choosing by validation rows.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;

use crate::{gas, rows};

fn density() -> Command {
    let mut command = Command::cargo_bin("density").unwrap();
    command.env_remove("FLOWS_DATA");
    command
}

pub(crate) const SMALL: &str = "sets = ['gas']\nmodels = ['gaussian', 'maf', 'ddnf']\nseeds = 2\nsamples = 500\n\
    [training]\nsteps = 120\nbatch = 50\nevaluate_every = 10\ncheckpoint_seconds = 0\n\
    [[model]]\nname = 'gaussian'\nfamily = 'gaussian'\n\
    [[model]]\nname = 'maf'\nfamily = 'maf'\nlayers = 2\nhidden = [8]\nbatch_norm = true\n\
    [[model]]\nname = 'ddnf'\nfamily = 'ddnf'\nlayers = 2\nhidden = [2]\ncells = 3\n";

fn small(folder: &Path, more: &str) -> std::path::PathBuf {
    let config = folder.join("small.toml");
    fs::write(&config, format!("{SMALL}{more}")).unwrap();
    config
}

/// The data folder is remembered, and a fitted model has the same bits however it came about.
#[test]
fn a_resumed_run_finds_its_data_and_ends_with_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    gas(folder.path());
    let config = small(folder.path(), "");
    let (whole, cut) = (folder.path().join("whole"), folder.path().join("cut"));
    let begin = |out: &Path| {
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("density"));
        command
            .env_remove("FLOWS_DATA")
            .arg("--config")
            .arg(&config);
        command
            .arg("--data-dir")
            .arg(folder.path())
            .args(["--models", "maf", "--threads", "2"]);
        command.arg("--out").arg(out).stdout(Stdio::null());
        command
    };
    assert!(begin(&whole).status().unwrap().success());
    let mut first = begin(&cut).spawn().unwrap();
    while !cut.join("config.toml").exists() {
        assert!(first.try_wait().unwrap().is_none(), "it ended early");
        std::thread::sleep(Duration::from_millis(5));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    density()
        .arg("--resume")
        .arg("--out")
        .arg(&cut)
        .assert()
        .success();
    let bytes = |out: &Path| {
        let bytes = fs::read(out.join("runs/gas/maf/seed-1/model.flow")).unwrap();
        // Behind the header, which has the seconds of training.
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    assert_eq!(bytes(&whole), bytes(&cut));
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
    assert_eq!(rows(&one).len(), 2);
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
    done.stdout(contains("hidden 16, weight_decay 5").and(contains("validation")));
    let rows = rows(&out);
    assert_eq!(rows.len(), 4);
    for row in &rows {
        assert_eq!(row["scored"], "validation");
        assert_eq!(row["rows"], serde_json::json!([600, 150, 150]));
        let [score, seen] = [&row["score"]["mean"], &row["validation"]["mean"]];
        let difference = score.as_f64().unwrap() - seen.as_f64().unwrap();
        assert!(difference.abs() < 1e-6, "{row}");
    }
    let best = rows
        .iter()
        .max_by(|a, b| {
            a["score"]["mean"]
                .as_f64()
                .unwrap()
                .total_cmp(&b["score"]["mean"].as_f64().unwrap())
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
