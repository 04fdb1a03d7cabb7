//! Takes down the commit and the lock file that a binary is built from: a result names both.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What goes into a binary, seen from this package.
const SOURCES: [&str; 17] = [
    "build.rs",
    "Cargo.toml",
    "src",
    "configs",
    "assets",
    "../flows-kernels/Cargo.toml",
    "../flows-kernels/src",
    "../flows-core/Cargo.toml",
    "../flows-core/src",
    "../flows-train/Cargo.toml",
    "../flows-train/src",
    "../flows-models/Cargo.toml",
    "../flows-models/src",
    "../flows-tables/Cargo.toml",
    "../flows-tables/src",
    "../Cargo.toml",
    "../Cargo.lock",
];

fn main() {
    let variable = |name| PathBuf::from(std::env::var_os(name).expect("cargo sets it"));
    let package = variable("CARGO_MANIFEST_DIR");
    let commit = commit(&package).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=FLOWS_COMMIT={commit}");

    // Without a lock file no versions are known: the package is built as a part of something else.
    let lock = std::fs::read(package.join("../Cargo.lock")).unwrap_or_default();
    std::fs::write(variable("OUT_DIR").join("Cargo.lock"), lock).expect("cargo made the folder");

    // A file that is watched and missing would be taken for a change at every build.
    let sources = SOURCES.map(|source| package.join(source));
    for file in sources.into_iter().chain(head(&package)) {
        if file.exists() {
            println!("cargo::rerun-if-changed={}", file.display());
        }
    }
}

/// The commit that `package` stands at, with `-dirty` where what goes into a binary differs from it;
/// `None` where the package is not a part of a checkout, or there is no git.
pub(crate) fn commit(package: &Path) -> Option<String> {
    // In a folder inside somebody else's checkout, the commit would be theirs.
    git(package, &["ls-files", "--error-unmatch", "build.rs"])?;
    let commit = git(package, &["rev-parse", "HEAD"])?;
    let mut status = vec!["--no-optional-locks", "status", "--porcelain"];
    status.extend(["--untracked-files=normal", "--"].iter().chain(&SOURCES));
    let changes = git(package, &status)?;
    Some(if changes.is_empty() {
        commit
    } else {
        format!("{commit}-dirty")
    })
}

/// The files that change when HEAD moves.
pub(crate) fn head(package: &Path) -> Vec<PathBuf> {
    let file = |name| git(package, &["rev-parse", "--git-path", name]).map(|p| package.join(p));
    // The log has a line for each move. Where none is kept, the branches are watched, all of them.
    let log = file("logs/HEAD").filter(|log| log.exists());
    let branches = || {
        ["HEAD", "refs/heads", "packed-refs"]
            .into_iter()
            .filter_map(file)
    };
    log.map_or_else(|| branches().collect(), |log| vec![log])
}

fn git(package: &Path, arguments: &[&str]) -> Option<String> {
    let mut git = Command::new("git");
    git.arg("-C").arg(package).args(arguments);
    // A build started by a hook of git finds these set, for another folder.
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        git.env_remove(variable);
    }
    let output = git.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
