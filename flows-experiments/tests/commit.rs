//! The commit in results is that which the program was built from.

use std::path::Path;
use std::process::Command;

use assert_cmd::cargo::cargo_bin;

#[allow(dead_code)]
#[path = "../build.rs"]
mod build;

fn git(folder: &Path, arguments: &[&str]) -> bool {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder);
    git.args(["-c", "user.name=test", "-c", "user.email=test@example.com"]);
    git.args(arguments)
        .output()
        .is_ok_and(|o| o.status.success())
}

/// The commit that a program says, run in `folder`.
fn said(folder: &Path, out: &Path) -> String {
    let mut graph = Command::new(cargo_bin("graph"));
    graph.current_dir(folder).arg("--out").arg(out);
    graph.args("--set dim=2 --seeds 1 --steps 1 --set samples=20".split(' '));
    let done = graph.output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let summary = std::fs::read(out.join("run.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&summary).unwrap();
    summary["git"].as_str().unwrap().to_owned()
}

#[test]
fn results_name_the_commit_of_the_build_wherever_the_program_runs() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let elsewhere = at("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    git(&elsewhere, &["init"]);
    git(&elsewhere, &["commit", "--allow-empty", "-m", "other"]);
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert_eq!(said(&elsewhere, &at("a")), said(package, &at("b")));
}

#[test]
fn a_changed_source_is_dirty_and_sources_outside_a_checkout_are_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("flows-experiments");
    std::fs::create_dir_all(package.join("src")).unwrap();
    std::fs::write(package.join("build.rs"), "1").unwrap();
    assert_eq!(build::commit(&package), None);
    if !git(folder.path(), &["init"]) {
        return; // without git the commit is unknown everywhere
    }
    // In a checkout that it is no part of, as below somebody's home folder.
    git(folder.path(), &["commit", "--allow-empty", "-m", "other"]);
    assert_eq!(build::commit(&package), None);
    git(folder.path(), &["add", "."]);
    git(folder.path(), &["commit", "-m", "ours"]);
    let clean = build::commit(&package).unwrap();
    assert_eq!(clean.len(), 40, "{clean}");
    // What no binary is made of.
    std::fs::write(folder.path().join("notes.txt"), "2").unwrap();
    assert_eq!(build::commit(&package).unwrap(), clean);
    std::fs::write(package.join("src/new.rs"), "2").unwrap();
    assert_eq!(build::commit(&package).unwrap(), format!("{clean}-dirty"));
}

#[test]
fn a_build_follows_head() {
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path();
    if !git(package, &["init"]) {
        return;
    }
    git(package, &["commit", "--allow-empty", "-m", "one"]);
    let before = build::head(package)
        .iter()
        .map(std::fs::read)
        .collect::<Vec<_>>();
    assert!(!before.is_empty());
    git(package, &["commit", "--allow-empty", "-m", "two"]);
    let after = build::head(package)
        .iter()
        .map(std::fs::read)
        .collect::<Vec<_>>();
    assert!(
        before
            .iter()
            .map(|b| b.as_ref().ok())
            .ne(after.iter().map(|a| a.as_ref().ok()))
    );
}
