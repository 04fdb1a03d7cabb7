//! Models come back from their files without their types being known, on another backend and in f64.

use burn::backend::{Flex, NdArray};
use burn::tensor::DType;
use flows_models::prelude::*;
use flows_models::{FastDirection, PRESETS};

#[test]
fn every_preset_comes_back_on_another_backend_in_f64() {
    let folder = tempfile::tempdir().unwrap();
    let data = Data::new(Rows::new(vec![0.1, -0.4, 1.2, 0.3, -0.8, 0.9], 2), None).unwrap();
    for preset in PRESETS {
        let config = preset.config(2);
        let path = folder.path().join(preset.name);
        let flow = config
            .init::<Flex>(&Default::default(), &mut stream(0, "parameters", 0))
            .unwrap();
        save(&path, &config, flow.clone()).unwrap();
        let loaded = load::<NdArray<f64>>(&path, &Default::default()).unwrap();
        let base_to_data = config.fast_direction() == FastDirection::Sampling;
        assert_eq!(matches!(loaded, AnyFlow::BaseToData(_)), base_to_data);
        let single = log_probs(&flow, &data);
        let double = log_probs(&loaded, &data);
        // The same backend in its other type, in one process.
        let options = (&Default::default(), DType::F64);
        let beside = log_probs(&load::<Flex>(&path, options).unwrap(), &data);
        for (a, b) in double.iter().zip(&beside) {
            assert!((a - b).abs() < 1e-9, "{}: {a}, {b}", preset.name);
        }
        for (a, b) in single.iter().zip(&double) {
            assert!((a - b).abs() < 1e-3, "{}: {a}, {b}", preset.name);
        }
    }
}

#[test]
fn a_file_whose_header_is_of_another_model_is_refused_with_the_difference() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("maf.flow");
    let maf = |layers| {
        ModelConfig::from(MafConfig {
            layers,
            ..MafConfig::new(2)
        })
    };
    let flow = maf(2)
        .init::<Flex>(&Default::default(), &mut stream(0, "parameters", 0))
        .unwrap();
    save(&path, &maf(1), flow.clone()).unwrap();
    let error = load::<Flex>(&path, &Default::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("maf.flow is not a model file of this program: entry '"),
        "{error}"
    );
    let wide = MafConfig {
        hidden: vec![1 << 40, 1 << 40],
        ..MafConfig::new(2)
    };
    save(&path, &wide.into(), flow).unwrap();
    let error = load::<Flex>(&path, &Default::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("more parameters than"), "{error}");
}

#[test]
fn a_stack_of_any_layers_is_a_model_that_is_saved_and_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.flow");
    let text = |dim: usize| {
        format!(
            r#"
            kind = "stack"
            dim = {dim}
            layers = [
                {{ layer = "elementwise-map", maps = ["logit", "log"] }},
                {{ layer = "autoregressive", dim = 2, hidden = [8], transform = "rq_spline" }},
                {{ layer = "lu-linear", dim = 2 }},
            ]
            "#
        )
    };
    let config: ModelConfig = toml::from_str(&text(2)).unwrap();
    let flow = config
        .init::<Flex>(&Default::default(), &mut generator(0))
        .unwrap();
    save(&path, &config, flow.clone()).unwrap();
    let loaded = load::<Flex>(&path, &Default::default()).unwrap();
    let data = Data::new(Rows::new(vec![0.1, 0.4, 0.9, 3.0, 1.5, 1.0], 2), None).unwrap();
    let scores = log_probs(&loaded, &data);
    assert_eq!(scores, log_probs(&flow, &data));
    // A share of 1.5 is none.
    assert!(scores[..2].iter().all(|s| s.is_finite()) && scores[2] == f64::NEG_INFINITY);

    let wrong: ModelConfig = toml::from_str(&text(3)).unwrap();
    let error = wrong
        .init::<Flex>(&Default::default(), &mut generator(0))
        .unwrap_err();
    assert!(
        error.to_string().contains("2, the columns of the layers"),
        "{error}"
    );
    let unknown = text(2).replace("hidden = [8]", "hidden = [8], zzz = 1");
    let error = toml::from_str::<ModelConfig>(&unknown).unwrap_err();
    assert!(error.to_string().contains("zzz"), "{error}");
}

#[test]
fn every_base_is_named_in_toml_saved_and_loaded_and_left_out_where_it_is_the_default() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("based.flow");
    let data = Data::new(Rows::new(vec![0.1, -0.4, 0.2, 0.3], 2), None).unwrap();
    let device = &Default::default();
    for (k, base) in [
        "'standard_normal'",
        "{ normal = { covariance = 'full', parameters = 'trained' } }",
        "{ student_t = { degrees = 3.0, parameters = 'trained' } }",
        "{ normal_mixture = { components = 3 } }",
        "{ uniform = { low = [-4.0], high = [4.0, 5.0] } }",
        "'torus'",
        "{ flows = { components = 2, weights = 'trained', layers = [{ layer = 'lu-linear', dim = 2 }] } }",
    ]
    .into_iter()
    .enumerate()
    {
        let kinds = ModelConfig::KINDS.iter().filter(|kind| **kind != "stack");
        for kind in kinds.chain(["iaf", "stack"].iter()) {
            let layers = match *kind {
                "stack" => "layers = [{ layer = 'lu-linear', dim = 2 }]",
                _ => "",
            };
            let text = format!("kind = '{kind}'\ndim = 2\n{layers}\nbase = {base}");
            let config: ModelConfig = toml::from_str(&text).unwrap();
            assert_eq!(*config.base() == Default::default(), k == 0, "{text}");
            if k == 0 {
                assert!(!toml::to_string(&config).unwrap().contains("base"));
            }
            // The layers are those under another base.
            if !["maf", "iaf", "planar", "stack"].contains(kind) {
                continue;
            }
            let flow = config.init::<Flex>(device, &mut generator(0)).unwrap();
            save(&path, &config, flow.clone()).unwrap();
            let loaded = load::<Flex>(&path, device).unwrap();
            assert_eq!(log_probs(&loaded, &data), log_probs(&flow, &data), "{text}");
            assert_eq!(loaded.support(), flow.support());
            let (x, log_p) = loaded.sample_and_log_prob(20, None, &mut generator(1));
            assert!(x.into_data().iter::<f64>().all(f64::is_finite), "{text}");
            assert!(log_p.into_data().iter::<f64>().all(f64::is_finite), "{text}");
        }
    }
    // A base that reads the context of the layers, and one that reads another.
    let text = |columns: usize| {
        format!(
            "kind = 'maf'\ndim = 2\ncontext_dim = 3\n\
             base = {{ normal = {{ parameters = {{ context = {{ context_dim = {columns} }} }} }} }}"
        )
    };
    let config: ModelConfig = toml::from_str(&text(3)).unwrap();
    let flow = config.init::<Flex>(device, &mut generator(0)).unwrap();
    assert_eq!(flow.context_dim(), 3);
    let config: ModelConfig = toml::from_str(&text(2)).unwrap();
    let error = config.init::<Flex>(device, &mut generator(0)).unwrap_err();
    assert!(error.to_string().contains("context_dim is 2"), "{error}");
}
