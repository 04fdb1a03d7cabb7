//! The binaries as a user runs them.

mod all;
mod density;
mod graph;
#[path = "../interruptions/mod.rs"]
mod interruptions;
mod regularization;
mod together;
mod toy;
mod vae;

use std::fs;
use std::path::Path;
use std::process::Command;

use flows_tables::{Format, Sink};
use serde_json::Value;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Runs an experiment and kills it again and again until a sitting comes to its end.
fn run_with_interruptions(config: &Path, out: &Path, command: impl Fn() -> Command) {
    interruptions::run_with_interruptions(out, || {
        let mut command = command();
        command.arg("--out").arg(out);
        if out.join("config.toml").exists() {
            command.arg("--resume");
        } else {
            command.arg("--config").arg(config);
        }
        command
    });
}

/// The rows of a summary.
fn rows(folder: &Path) -> Vec<Value> {
    let summary = json(&folder.join("summary.json"));
    summary["rows"].as_array().unwrap().clone()
}

/// Three columns of a set as a converter leaves it: the second follows the square of the first.
fn gas(folder: &Path) {
    fs::create_dir_all(folder.join("gas")).unwrap();
    let mut state = 1u64;
    let mut uniform = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    for (name, rows) in [("train", 600), ("validation", 150), ("test", 200)] {
        let values: Vec<f64> = (0..rows)
            .flat_map(|_| {
                let [a, b, c] = [uniform(), uniform(), uniform()];
                [a, a * a + 0.2 * b, b - c]
            })
            .collect();
        let path = folder.join("gas").join(format!("{name}.npy"));
        let mut sink =
            Sink::create(&path, Format::Npy, vec!["x".to_owned(); 3], vec![6; 3]).unwrap();
        sink.push(&values).unwrap();
        sink.finish().unwrap();
    }
}
