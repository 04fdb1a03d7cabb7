//! The binaries as a user runs them.

mod density;
mod regularization;
mod toy;
mod vae;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Runs an experiment and kills it again and again, whatever it is doing, until a sitting comes to
/// its end.
fn run_with_interruptions(binary: &str, config: &Path, out: &Path) {
    let binary = assert_cmd::cargo::cargo_bin(binary);
    let mut sittings = 0;
    for patience in [0.3, 0.5, 0.9, 1.3, 2.0, 600.0] {
        let mut command = Command::new(&binary);
        command.arg("--out").arg(out);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        if out.join("config.toml").exists() {
            command.arg("--resume");
        } else {
            command.arg("--config").arg(config);
        }
        let mut child = command.spawn().unwrap();
        let begun = Instant::now();
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success());
                break true;
            }
            if begun.elapsed() > Duration::from_secs_f64(patience) {
                child.kill().unwrap();
                child.wait().unwrap();
                break false;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        sittings += 1;
        if ended {
            break;
        }
    }
    assert!(sittings > 1, "the first sitting was never interrupted");
}
