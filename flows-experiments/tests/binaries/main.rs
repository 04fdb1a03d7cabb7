//! The binaries as a user runs them.

mod density;
#[path = "../interruptions/mod.rs"]
mod interruptions;
mod regularization;
mod together;
mod toy;
mod vae;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Runs an experiment and kills it again and again until a sitting comes to its end.
fn run_with_interruptions(binary: &str, config: &Path, out: &Path) {
    let binary = assert_cmd::cargo::cargo_bin(binary);
    interruptions::run_with_interruptions(out, || {
        let mut command = Command::new(&binary);
        command.arg("--out").arg(out);
        if out.join("config.toml").exists() {
            command.arg("--resume");
        } else {
            command.arg("--config").arg(config);
        }
        command
    });
}

/// The rows of a summary without what a clock measured.
fn rows(folder: &Path) -> Vec<Value> {
    let mut rows = json(&folder.join("summary.json"))["rows"]
        .as_array()
        .unwrap()
        .clone();
    for row in &mut rows {
        row.as_object_mut()
            .unwrap()
            .remove("train_seconds")
            .unwrap();
    }
    rows
}
