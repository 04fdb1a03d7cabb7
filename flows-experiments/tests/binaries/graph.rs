//! The graph binary: what it finds.

use std::fs;

use assert_cmd::Command;

use crate::{json, rows};

#[test]
fn a_run_finds_a_small_graph() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut command = Command::cargo_bin("graph").unwrap();
    let small = "--seeds 2 --steps 800 --set dim=4 --set mechanism=linear --set hidden=16 --set hard_steps=100 \
                 --set batch=64 --set learning_rate=1e-2";
    command
        .args(small.split_whitespace())
        .arg("--out")
        .arg(&out);
    command.assert().success();
    for seed in 0..2 {
        let result = out.join(format!("runs/variables-4/seed-{seed}/result.json"));
        let found = json(&result)["outcome"]["measured"].clone();
        let number = |key: &str| found[key].as_f64().unwrap();
        assert!(number("edges") >= 1.0 && number("correct") <= number("learned"));
        // The truth is the best density there is, up to the noise of 10 000 fresh rows.
        assert!(number("nll_hard") > number("nll_truth") - 0.05, "{found}");
        let order: Vec<usize> = serde_json::from_value(found["order"].clone()).unwrap();
        let mask: Vec<Vec<f64>> = serde_json::from_value(found["soft_mask"].clone()).unwrap();
        for (k, &i) in order.iter().enumerate() {
            assert!(order[k..].iter().all(|&j| mask[i][j] == 0.0), "{found}");
        }
    }
    let recall = rows(&out)[0]["recall"]["mean"].as_f64().unwrap();
    assert!(
        recall > 0.5,
        "more than half of the edges of strong linear equations"
    );
    let table = fs::read_to_string(out.join("table.md")).unwrap();
    assert!(table.contains("| seed |"), "{table}");
}
