//! The vae binary as a user runs it: results, resumption, and what it says to bad input.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::contains;

use super::json;

fn vae() -> Command {
    let mut command = Command::cargo_bin("vae").unwrap();
    command.env_remove("FLOWS_DATA");
    command
}

fn flows() -> Command {
    let mut command = Command::cargo_bin("flows").unwrap();
    command.env_remove("FLOWS_DATA");
    command
}

/// A small experiment on the embedded digits: two posteriors with two latent variables, two seeds.
pub(crate) const SMALL: &str = "data = 'digits'\nposteriors = ['gaussian', 'ddnf-bias']\nlatents = [2]\nseeds = 2\n\
    network = { kind = 'dense', hidden = [24] }\n\
    [flows]\nflows = 2\nmade_hidden = [8]\ncoupling_hidden = [8]\ncolumns = 2\nreflections = 1\nblocks = 2\ncells = 3\n\
    field_hidden = [6]\nlog_det = { taylor = { order = 2 } }\nrank = 1\n\
    [training]\nepochs = 6\nbatch = 100\nlearning_rate = 5e-3\nwarm_up = 2\npatience = 10\n\
    [evaluation]\nsamples = 20\nimages = 50\nrows = 300\ndraws = 4\n";

fn small(folder: &Path) -> Command {
    let config = folder.join("small.toml");
    fs::write(&config, SMALL).unwrap();
    let mut command = vae();
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
    done.stdout(contains("gaussian latent 2 seed 1").and(contains("own split")));

    let summary = json(&out.join("summary.json"));
    let rows = summary["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        let number = |name: &str| row[name]["mean"].as_f64().unwrap();
        let parts = number("reconstruction") + number("kl");
        assert!((number("loss") - parts).abs() < 1e-6, "{row}");
        // A uniform guess costs 64 ln 2 = 44.4 nats.
        assert!((20.0..44.0).contains(&number("loss")), "{row}");
        assert!(number("nll") < number("loss") + 2.0, "{row}");
        assert_eq!(row["seeds"], 2);
        assert_eq!(row["nll_images"], 50);
        assert_eq!(row["epochs"], serde_json::json!([6, 6]));
    }
    assert_eq!(rows[1]["log_det"], "taylor(2), evaluated exact");
    assert!(rows[1]["max_rho"].as_f64().unwrap() > 0.0);
    assert!(rows[0]["surrogate_loss"].is_null() && rows[1]["surrogate_loss"]["mean"].is_f64());
    let table = fs::read_to_string(out.join("table.md")).unwrap();
    assert!(
        table.contains("dynamic") && table.contains("not comparable"),
        "{table}"
    );
}

#[test]
fn files_of_a_data_folder_are_listed_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let list = flows().args(["data", "list"]).assert().success();
    list.stdout(contains("mnist/train-images-idx3-ubyte.gz").and(contains("md5")));
    let verify = |expected: i32| {
        let mut command = flows();
        command
            .args(["data", "verify", "caltech", "--data-dir"])
            .arg(folder.path());
        command.assert().code(expected)
    };
    verify(0).stdout(contains(
        "missing    caltech101-silhouettes/caltech101_silhouettes_28.mat",
    ));
    let path = folder.path().join("caltech101-silhouettes");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("caltech101_silhouettes_28.mat"), "no matrix").unwrap();
    let differs = verify(1);
    differs
        .stdout(contains("differs"))
        .stderr(contains("1 files differ"));
    let unknown = flows().args(["data", "verify", "cifar"]).assert().code(2);
    unknown.stderr(contains("no files of a set 'cifar'"));
    let nowhere = flows().args(["data", "verify"]).assert().code(2);
    nowhere.stderr(contains("FLOWS_DATA"));
}
