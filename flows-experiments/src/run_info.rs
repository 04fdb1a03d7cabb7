//! Where and with what a result was computed.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::backend::{BackendKind, Dtype};

/// What qualifies a number besides its configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunInfo {
    /// Commit that the program was built from, with `-dirty` where its sources differed from it;
    /// `unknown` where they were no checkout.
    pub git: String,
    /// The backend.
    pub backend: BackendKind,
    /// Its device.
    pub device: String,
    /// Its floating-point type.
    pub dtype: Dtype,
    /// Threads in all.
    pub threads: usize,
    /// Versions of this program and of the crates that compute.
    pub versions: BTreeMap<String, String>,
    /// Seconds since the program began, in this sitting.
    pub wall_seconds: f64,
}

impl RunInfo {
    /// Looks at the surroundings.
    pub fn new(backend: BackendKind, device: String, dtype: Dtype, threads: usize) -> Self {
        Self {
            git: env!("FLOWS_COMMIT").to_owned(),
            backend,
            device,
            dtype,
            threads,
            versions: versions(),
            wall_seconds: 0.0,
        }
    }
}

/// The versions that the lock file pinned when the program was built, of the crates that decide numbers.
pub(crate) fn versions() -> BTreeMap<String, String> {
    #[derive(serde::Deserialize)]
    struct Lock {
        #[serde(default)]
        package: Vec<Package>,
    }
    #[derive(serde::Deserialize)]
    struct Package {
        name: String,
        version: String,
    }
    let lock: Lock = toml::from_str(include_str!(concat!(env!("OUT_DIR"), "/Cargo.lock")))
        .expect("cargo wrote it");
    let decides = |name: &str| {
        name == "burn" || name.starts_with("burn-") || name.starts_with("flows-") || name == "rand"
    };
    lock.package
        .into_iter()
        .filter(|p| decides(&p.name))
        .map(|p| (p.name, p.version))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_name_burn_and_this_program() {
        let versions = versions();
        assert_eq!(versions["burn"], "0.21.0");
        assert_eq!(versions["flows-experiments"], env!("CARGO_PKG_VERSION"));
    }
}
