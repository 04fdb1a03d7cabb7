//! The experiment as a user runs it: in processes, interrupted, resumed.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

fn widths(out: &Path) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("widths"));
    let small = "--threads 2 --seeds 2 --steps 40 --targets moons --set widths=4,8 \
                 --set training.checkpoint_seconds=0 --set training.log_every=5";
    command.args(small.split_whitespace()).arg("--out").arg(out);
    command.stdout(Stdio::null());
    command
}

fn results(out: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(out.join("results.jsonl")).unwrap();
    let row = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        row.as_object_mut()
            .unwrap()
            .remove("train_seconds")
            .unwrap();
        row
    };
    text.lines().map(row).collect()
}

#[test]
fn a_run_leaves_table_and_picture_and_resumes_to_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, cut) = (folder.path().join("whole"), folder.path().join("cut"));
    assert!(widths(&whole).status().unwrap().success());
    let rows = results(&whole);
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|row| row["nll"].as_f64().unwrap() > 0.0));
    let table = std::fs::read_to_string(whole.join("table.md")).unwrap();
    assert!(
        table.contains("| width |") && table.contains("moons"),
        "{table}"
    );
    assert!(std::fs::metadata(whole.join("widths.png")).unwrap().len() > 5000);

    let mut first = widths(&cut).spawn().unwrap();
    while !cut.join("runs/moons").exists() {
        assert!(first.try_wait().unwrap().is_none(), "it ended early");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(!cut.join("results.jsonl").exists());
    assert!(widths(&cut).arg("--resume").status().unwrap().success());
    assert_eq!(results(&cut), rows);
}
