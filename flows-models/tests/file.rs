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
