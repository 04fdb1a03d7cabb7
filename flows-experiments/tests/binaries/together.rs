//! Several processes of one program at a time.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use predicates::prelude::*;
use predicates::str::{contains, starts_with};

use crate::json;

/// A command that is quick but for its `steps`.
fn toy(steps: usize) -> Command {
    let mut command = Command::new(cargo_bin("toy"));
    let small = "--targets u1 --models planar-2 --seeds 1 --threads 1 --steps";
    command.args(small.split(' ')).arg(steps.to_string());
    command.stdout(Stdio::null());
    command
}

/// More steps than any test waits for.
const ENDLESS: usize = 100_000_000;

/// Kills what a test has started, however it ends.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `command` and waits until it has made `file`.
fn start_until(command: &mut Command, file: &Path) -> Started {
    let mut started = Started(command.stderr(Stdio::null()).spawn().unwrap());
    while !file.exists() {
        assert!(started.0.try_wait().unwrap().is_none(), "it ended early");
        std::thread::sleep(Duration::from_millis(5));
    }
    started
}

/// Asserts that `command` ends with one line that holds `message`.
fn refused(command: Command, message: &str) {
    let mut command = assert_cmd::Command::from_std(command);
    let ended = command.timeout(Duration::from_secs(60)).assert().code(2);
    let one_line = predicate::function(|text: &str| text.trim_end().lines().count() == 1);
    ended.stderr(starts_with("error: ").and(contains(message)).and(one_line));
}

#[test]
fn experiments_started_together_take_different_folders() {
    let folder = tempfile::tempdir().unwrap();
    // What a user has removed or named is no reason to go back.
    fs::create_dir_all(folder.path().join("runs/toy-3")).unwrap();
    fs::create_dir_all(folder.path().join("runs/toy-paper")).unwrap();
    let start = |_| toy(1).current_dir(folder.path()).spawn().unwrap();
    let started = [(); 3].map(start);
    for mut child in started {
        assert!(child.wait().unwrap().success());
    }
    for n in 4..7 {
        let run = folder.path().join(format!("runs/toy-{n}/run.json"));
        assert_eq!(json(&run)["complete"], true);
    }
}

#[test]
fn a_folder_in_use_is_refused_and_free_again_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let resumed = |steps| {
        let mut command = toy(steps);
        command.arg("--resume").arg("--out").arg(&out);
        command
    };
    let first = start_until(
        toy(ENDLESS).arg("--out").arg(&out),
        &out.join("config.toml"),
    );
    refused(resumed(ENDLESS), "is in use by another process");
    drop(first);
    // The settings are looked at once the folder is this process's own.
    refused(resumed(3), "was begun with other settings");
}

#[test]
fn a_model_being_fitted_is_refused_and_free_again_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let rows = (0..60).map(|i| {
        format!(
            "{},{}\n",
            (i * 37 % 61) as f64 / 7.0,
            (i * i % 53) as f64 / 3.0
        )
    });
    fs::write(at("data.csv"), format!("a,b\n{}", rows.collect::<String>())).unwrap();
    let fit = |more: &[&str]| {
        let mut command = Command::new(cargo_bin("flows"));
        command
            .arg("fit")
            .arg(at("data.csv"))
            .arg("-o")
            .arg(at("m.flow"));
        command.args([
            "--steps",
            &ENDLESS.to_string(),
            "--patience",
            &ENDLESS.to_string(),
        ]);
        command
            .args(["--checkpoint-seconds", "0", "--model", "made"])
            .args(more);
        command
    };
    let first = start_until(&mut fit(&[]), &at("m.flow.checkpoint"));
    refused(fit(&["--resume"]), "another process is fitting");
    refused(fit(&["--force"]), "another process is fitting");
    drop(first);
    refused(fit(&[]), "an unfinished fit is in");
    assert!(!at("m.flow.lock").exists());
}
