//! Killing a program again and again until it comes to its end.
//!
//! When to kill is decided by what the program has written, never by a clock: the same test runs
//! on machines of any speed.

use std::fs;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// Writes a sitting may see before it is killed; the one after the last goes on to its end.
const WRITES: [usize; 6] = [1, 2, 4, 8, 16, 32];

type Stamp = (PathBuf, Option<SystemTime>, u64);

/// Every file at or below `path`, with its time and size.
fn stamps(path: &Path, into: &mut Vec<Stamp>) {
    // A file may vanish between two looks: it was a temporary one.
    let Ok(about) = fs::metadata(path) else {
        return;
    };
    if !about.is_dir() {
        into.push((path.to_owned(), about.modified().ok(), about.len()));
        return;
    }
    let Ok(entries) = fs::read_dir(path) else {
        return;
    };
    let mut inside = entries
        .flatten()
        .map(|entry| entry.path())
        .collect::<Vec<_>>();
    inside.sort();
    for path in inside {
        stamps(&path, into);
    }
}

/// Runs the commands that `command` makes, one after the other, and kills each when the files at or
/// below `watched` have changed a number of times, until one comes to its end.
pub(crate) fn run_with_interruptions(watched: &Path, mut command: impl FnMut() -> Command) {
    let look = || {
        let mut seen = Vec::new();
        stamps(watched, &mut seen);
        seen
    };
    for (interrupted, patience) in WRITES.into_iter().chain([usize::MAX]).enumerate() {
        let mut before = look();
        let mut said = tempfile::tempfile().unwrap();
        let mut child = command()
            .stdout(Stdio::null())
            .stderr(said.try_clone().unwrap())
            .spawn()
            .unwrap();
        let mut writes = 0;
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                let mut text = String::new();
                said.rewind().unwrap();
                said.read_to_string(&mut text).unwrap();
                assert!(status.success(), "{status}: {text}");
                break true;
            }
            let now = look();
            writes += usize::from(now != before);
            before = now;
            if writes >= patience {
                child.kill().unwrap();
                // It may have ended in between.
                break child.wait().unwrap().success();
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        if ended {
            assert!(interrupted > 0, "it ended before it had written anything");
            return;
        }
    }
    unreachable!("the last sitting has no limit");
}
