//! With what a result was computed.

use std::collections::BTreeMap;

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
