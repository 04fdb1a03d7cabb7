//! Every configuration refuses a key that it does not know, by its name, in every table at every depth.

use std::fmt::Debug;

use flows_core::bijectors::LayerConfig;
use flows_core::regularizers::Regularizers;
use flows_models::vae::{Likelihood, PosteriorConfig, VaeConfig};
use flows_models::{ModelConfig, PRESETS};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use toml::Value;

use crate::runner::{self, Experiment};
use crate::{density, regularization, toy, vae};
use flows_tables::table_flow::FitConfig;

/// `value` with one more key in one of its tables, for each of them.
fn with_unknown_key(value: &Value) -> Vec<Value> {
    match value {
        Value::Table(table) => {
            let with = |key: &str, value: Value| {
                let mut table = table.clone();
                table.insert(key.to_owned(), value);
                Value::Table(table)
            };
            let inside = table.iter().flat_map(|(key, inner)| {
                let changed = with_unknown_key(inner).into_iter();
                changed.map(|inner| with(key, inner)).collect::<Vec<_>>()
            });
            inside.chain([with("zzz", Value::from(1))]).collect()
        }
        Value::Array(items) => (0..items.len())
            .flat_map(|i| {
                let changed = with_unknown_key(&items[i]).into_iter();
                changed.map(move |inner| {
                    let mut items = items.clone();
                    items[i] = inner;
                    Value::Array(items)
                })
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(config: &T) {
    let value = Value::try_from(config).expect("a configuration is a table");
    let text = toml::to_string(&value).expect("a table");
    assert_eq!(
        &toml::from_str::<T>(&text).expect("what was written"),
        config
    );
    let all = with_unknown_key(&value);
    assert!(!all.is_empty());
    for changed in all {
        let text = toml::to_string(&changed).expect("a table");
        let error = toml::from_str::<T>(&text)
            .expect_err(&text)
            .message()
            .to_owned();
        assert!(error.contains("`zzz`"), "{error}\n{text}");
        // The model file and the summaries are JSON.
        let text = serde_json::to_string(&changed).expect("a table");
        let error = serde_json::from_str::<T>(&text)
            .expect_err(&text)
            .to_string();
        assert!(error.contains("`zzz`"), "{error}\n{text}");
    }
}

/// The same of an experiment, whose overrides are read with its jobs.
fn check_experiment<E: Experiment>()
where
    E::Config: PartialEq + Debug,
{
    for preset in E::PRESETS {
        let config: E::Config = runner::preset(E::PRESETS, preset.name);
        let text = toml::to_string(&config).expect("plain data");
        assert_eq!(toml::from_str::<E::Config>(&text).unwrap(), config);
        for changed in with_unknown_key(&Value::try_from(&config).expect("a table")) {
            let config = E::Config::deserialize(changed.clone()).map_err(|e| e.to_string());
            let jobs = config.and_then(|config| E::new(config, None)?.jobs().map(drop));
            let error = jobs.expect_err(&changed.to_string());
            assert!(error.contains("zzz"), "{error}");
        }
    }
}

/// The names that serde lists for an enum with a tag.
fn kinds<T: DeserializeOwned + Debug>(tag: &str) -> Vec<String> {
    let error = toml::from_str::<T>(&format!("{tag} = 'zzz'")).expect_err("no kind");
    let listed = error.message().split('`').skip(3).step_by(2);
    listed.map(str::to_owned).collect()
}

#[test]
fn layers_refuse_unknown_keys() {
    let configs = [
        "layer = 'act-norm'\ndim = 4",
        "layer = 'batch-norm'\ndim = 4",
        "layer = 'block-affine'\ndim = 2\nhidden = [8]\nblocks = [[0], [1]]",
        "layer = 'autoregressive'\ndim = 4\nhidden = [8]\nconditioner = 'coupling'\nmask = { coupling = 'odd' }\ntransform = { affine = { scale = { soft_clip = { bound = 2.0 } } } }",
        "layer = 'autoregressive'\ndim = 4\nhidden = [8]\nconditioner = 'coupling'\nmask = { coupling = [1] }\ntransform = { affine = { scale = 'exp' } }",
        "layer = 'conditioned'\ncontext_dim = 2\nmap = { planar = { dim = 4 } }",
        "layer = 'conditioned'\ncontext_dim = 2\nmap = { sylvester = { dim = 4, basis = 'identity' } }",
        "layer = 'ddnf'\ndim = 4\nhidden = [8]",
        "layer = 'ddnf'\ndim = 4\nhidden = [8]\nlog_det = { taylor = { order = 2 } }",
        "layer = 'ddnf'\ndim = 4\nhidden = [8]\nlog_det = { hutchinson = {} }",
        "layer = 'ddnf'\ndim = 4\nhidden = [8]\nlog_det = { russian_roulette = {} }",
        "layer = 'bnaf'\ndim = 4\nhidden = [8]",
        "layer = 'cnf'\ndim = 4\nhidden = [8]\ntrace = { hutchinson = {} }\nsolver = { rk4 = { steps = 4 } }",
        "layer = 'cnf'\ndim = 4\nhidden = [8]\nevaluation = { dormand_prince = { tolerance = 1e-9 } }",
        "layer = 'ddnf'\ndim = 4\nhidden = [8]\ncells = 1\nlipschitz = 0.9",
        "layer = 'elementwise-affine'\ndim = 4",
        "layer = 'elementwise-map'\nmaps = ['log', { power = { exponent = 2.0 } }]",
        "layer = 'lu-linear'\ndim = 4",
        "layer = 'autoregressive'\ndim = 2\nhidden = [8]\nmask = { graph = [[], [0]] }\ntransform = { affine = { scale = { softplus = { floor = 1e-3 } } } }",
        "layer = 'autoregressive'\ndim = 2\nhidden = [8]\nmask = { autoregressive = { random = { seed = 1 } } }",
        "layer = 'autoregressive'\ndim = 2\nhidden = [8]\ninverse = { jacobi = { tolerance = 1e-6 } }\ntransform = 'sinh_arcsinh'",
        "layer = 'multi-scale'\nstages = [[{ layer = 'act-norm', dim = 4 }], [{ layer = 'lu-linear', dim = 2 }]]",
        "layer = 'permutation'\ndim = 4\nordering = { random = { seed = 1 } }",
        "layer = 'permutation'\ndim = 2\nordering = { explicit = [1, 0] }",
        "layer = 'planar'\ndim = 4",
        "layer = 'radial'\ndim = 4",
        "layer = 'autoregressive'\ndim = 4\nhidden = [8]\nconditioner = 'shared'\ntransform = { affine = { scale = { sigmoid = { offset = 2.0, floor = 1e-3 } } } }",
        "layer = 'autoregressive'\ndim = 4\nhidden = [8]\nconditioner = 'soft'",
        "layer = 'autoregressive'\ndim = 4\nhidden = [8]\nconditioner = { soft_masked = { start = { entry = 0.2 } } }",
        "layer = 'sylvester'\ndim = 4\nbasis = { orthogonal = { columns = 2 } }",
        "layer = 'sylvester'\ndim = 4\nbasis = { householder = { reflections = 2 } }",
    ];
    let configs = configs.map(|text| toml::from_str::<LayerConfig>(text).expect(text));
    configs.iter().for_each(check);
    let kind_of = |config| {
        Value::try_from(config).unwrap()["layer"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let listed: Vec<String> = configs.iter().map(kind_of).collect();
    for kind in kinds::<LayerConfig>("layer") {
        assert!(
            listed.contains(&kind),
            "no configuration of '{kind}' is tried"
        );
    }
}

#[test]
fn models_and_fits_refuse_unknown_keys() {
    for preset in PRESETS {
        let model = preset.config(4);
        check(&model);
        check(&FitConfig::new(model));
    }
    let kinds = kinds::<ModelConfig>("kind");
    assert!(kinds.len() >= 8, "{kinds:?}");
    for kind in kinds {
        let rest = match kind.as_str() {
            "stack" => "layers = [{ layer = 'lu-linear', dim = 4 }]",
            _ => "",
        };
        let text = format!("kind = '{kind}'\ndim = 4\n{rest}");
        check(&toml::from_str::<ModelConfig>(&text).unwrap());
    }
    let maf = "kind = 'maf'\ndim = 4\nmixing = { random = { seed = 1 } }";
    check(&toml::from_str::<ModelConfig>(maf).unwrap());
    for base in [
        "{ normal = { covariance = 'full', parameters = { context = { context_dim = 2 } } } }",
        "{ student_t = { degrees = 3.0, parameters = 'trained' } }",
        "{ normal_mixture = { components = 3 } }",
        "{ uniform = { low = [-2.0] } }",
        "'torus'",
        "{ flows = { layers = [{ layer = 'lu-linear', dim = 4 }] } }",
    ] {
        let text = format!("kind = 'maf'\ndim = 4\nbase = {base}");
        check(&toml::from_str::<ModelConfig>(&text).unwrap());
    }
    let metric = "geodesic = 1.0\nmetric = { diagonal = [1.0, 2.0] }";
    check(&toml::from_str::<Regularizers>(metric).unwrap());
}

#[test]
fn autoencoders_refuse_unknown_keys() {
    let posteriors = [
        "kind = 'gaussian'",
        "kind = 'planar'\nflows = 2",
        "kind = 'radial'\nflows = 2",
        "kind = 'iaf'\nflows = 2\nhidden = [8]",
        "kind = 'sylvester-orthogonal'\nflows = 2\ncolumns = 2",
        "kind = 'sylvester-householder'\nflows = 2\nreflections = 2",
        "kind = 'sylvester-triangular'\nflows = 2",
        "kind = 'realnvp'\nflows = 2\nhidden = [8]",
        "kind = 'maf'\nflows = 2\nhidden = [8]",
        "kind = 'ddnf'\nblocks = 1\ncells = 4\nhidden = [8]\nlog_det = { taylor = { order = 2 } }\ncontext = { low-rank = { rank = 2 } }",
    ];
    let likelihoods = [
        "kind = 'bernoulli'",
        "kind = 'categorical'\nlevels = 4",
        "kind = 'gaussian'\nstd = 0.1",
    ];
    let every_kind = |kinds: Vec<String>, tried: &[&str]| {
        let tried: Vec<_> = tried
            .iter()
            .map(|t| t.split('\'').nth(1).unwrap())
            .collect();
        assert_eq!(tried, kinds);
    };
    every_kind(kinds::<PosteriorConfig>("kind"), &posteriors);
    every_kind(kinds::<Likelihood>("kind"), &likelihoods);
    let networks = ["kind = 'conv'", "kind = 'dense'\nhidden = [8]"];
    for posterior in posteriors {
        for likelihood in likelihoods {
            for network in networks {
                let text = format!(
                    "size = [8, 8]\nlatent = 4\n[network]\n{network}\n[likelihood]\n{likelihood}\n[posterior]\n{posterior}"
                );
                check(&toml::from_str::<VaeConfig>(&text).expect(&text));
            }
        }
    }
}

#[test]
fn experiments_refuse_unknown_keys() {
    check_experiment::<toy::Toy>();
    check_experiment::<regularization::Regularization>();
    check_experiment::<density::Density>();
    check_experiment::<vae::VaeExperiment>();
    check_experiment::<crate::graph::Graph>();
}
