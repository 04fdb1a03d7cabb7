//! Golden values of other libraries, a folder of them: those in `data/golden`, or in the folder that `FLOWS_GOLDEN_DIR`
//! names. Each file says in its metadata what it holds; `data/generate.py` writes them.

use std::path::{Path, PathBuf};

use burn::tensor::Tensor;
use burn_flex::Flex;
use flows_core::bijector::{Bijector, Invert};
use flows_core::bijectors::{Autoregressive, AutoregressiveInverse};
use flows_core::conditioners::{AnyConditioner, Coupling};
use flows_core::masks::Untouched;
use flows_core::nn::{ConditionerActivation, Connections, LayerParameters, NetworkParameters};
use flows_core::testing::rows;
use flows_core::transforms::{AnyTransform, Transform};
use safetensors::SafeTensors;
use serde::Deserialize;

use crate::parity::Golden;
use crate::{Wide, double};

/// What a file says about itself.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    library: String,
    family: String,
    seed: u64,
    dim: usize,
    context_dim: usize,
    hidden_layers: usize,
    conditioner: Kind,
    #[serde(default)]
    untouched: Vec<usize>,
    connections: Connections,
    transform: AnyTransform,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Masked,
    Coupling,
}

fn about(file: &Golden) -> About {
    let (_, metadata) = SafeTensors::read_metadata(&file.0).expect("a safetensors file");
    let metadata = metadata.metadata().as_ref().expect("metadata");
    serde_json::from_str(&metadata["golden"]).expect("what a golden file says about itself")
}

/// The columns of a first layer that read the context are its `context` already; those of a block have none other.
fn layer(file: &Golden, name: &str) -> LayerParameters {
    let mut layer = file.linear(name);
    let context = format!("{name}.context");
    layer.context = file.has(&context).then(|| file.transposed_matrix(&context));
    layer
}

fn read(path: &Path) -> (About, Golden) {
    let file = Golden(std::fs::read(path).expect("a readable file"));
    (about(&file), file)
}

fn build(about: &About, file: &Golden) -> Autoregressive<Wide, AnyConditioner<Wide>, AnyTransform> {
    let network = NetworkParameters {
        layers: (0..about.hidden_layers)
            .map(|k| layer(file, &k.to_string()))
            .collect(),
        output: layer(file, "output"),
        embedding: file
            .has("embedding.weight")
            .then(|| layer(file, "embedding")),
        activation: ConditionerActivation::Relu,
        connections: about.connections,
    };
    let device = double();
    let conditioner = match about.conditioner {
        Kind::Masked => AnyConditioner::Masked(network.made(about.dim, device).unwrap()),
        Kind::Coupling => {
            let untouched = Untouched::Variables(about.untouched.clone());
            let network = network.mlp(device).unwrap();
            AnyConditioner::Coupling(Coupling::new(network, about.dim, &untouched).unwrap())
        }
    };
    let inverse = AutoregressiveInverse::Incremental;
    Autoregressive::new(conditioner, about.transform.clone(), inverse).unwrap()
}

/// The largest difference relative to `1 + |expected|`, and what it is of.
fn compare(found: &[f64], expected: &[f64], what: &str, tolerance: f64) -> Option<String> {
    let error = flows_core::testing::relative_error(found, expected);
    let same = found.len() == expected.len() && error <= tolerance;
    (!same).then(|| format!("{what} is off by {error:e}, allowed {tolerance:e}"))
}

fn check(path: &Path) -> Result<About, String> {
    let (about, file) = read(path);
    let layer = build(&about, &file);
    let tensor = |name: &str| Tensor::<Wide, 2>::from_inner(file.tensor(name));
    let (x, context) = (
        tensor("x").require_grad(),
        (about.context_dim > 0).then(|| tensor("context").require_grad()),
    );
    let mapped = layer.forward_and_log_det(x.clone(), context.clone());
    let (value, log_det) = (mapped.value.clone(), mapped.log_det.clone());
    let loss = (value.clone().square() * 0.5 + value.clone().sin()).sum() - log_det.clone().sum();
    let gradients = loss.backward();
    let of = |t: &Tensor<Wide, 2>| rows::<Flex, 2>(&t.grad(&gradients).expect("it depends on it"));
    let back = layer.inverse_and_log_det(value.clone().detach(), context.clone());

    let mut found = vec![
        compare(&rows(&value), &file.numbers("value"), "value", 1e-10),
        compare(&rows(&log_det), &file.numbers("log_det"), "log-det", 1e-10),
        compare(&of(&x), &file.numbers("gradient.x"), "gradient in x", 1e-10),
        compare(&rows(&back.value), &file.numbers("x"), "inverse", 1e-10),
        compare(
            &rows(&back.log_det.neg()),
            &rows(&log_det),
            "log-det of inverse",
            1e-9,
        ),
    ];
    if let Some(context) = &context {
        let expected = file.numbers("gradient.context");
        found.push(compare(
            &of(context),
            &expected,
            "gradient in the context",
            1e-10,
        ));
    }
    let found: Vec<String> = found.into_iter().flatten().collect();
    match found.is_empty() {
        true => Ok(about),
        false => Err(format!("{}: {}", path.display(), found.join(", "))),
    }
}

fn folder() -> PathBuf {
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/golden");
    std::env::var_os("FLOWS_GOLDEN_DIR").map_or_else(|| committed.into(), PathBuf::from)
}

#[test]
fn every_file_of_the_folder_gives_the_same_numbers() {
    double();
    let entries = std::fs::read_dir(folder()).expect("FLOWS_GOLDEN_DIR names a folder");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "safetensors"));
    files.sort();
    assert!(
        !files.is_empty(),
        "no golden files in {}",
        folder().display()
    );
    let (passed, failed): (Vec<_>, Vec<_>) = files
        .iter()
        .map(|path| check(path))
        .partition(Result::is_ok);
    let failed: Vec<String> = failed.into_iter().filter_map(Result::err).collect();
    assert!(
        failed.is_empty(),
        "{} files:\n{}",
        failed.len(),
        failed.join("\n")
    );
    for about in passed.into_iter().flatten() {
        let count = Transform::<Wide>::parameters(&about.transform);
        println!(
            "{} {}, dim {}, seed {}: {count} parameters",
            about.library, about.family, about.dim, about.seed
        );
    }
}
