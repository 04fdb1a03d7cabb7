//! The loop on flows whose optimum is known, stopped and resumed in every way, and model files.

use std::path::Path;

use burn::backend::{Autodiff, Flex, NdArray};
use burn::module::AutodiffModule;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::TensorCreationOptions;
use burn::tensor::backend::Backend;
use flows_core::bijectors::{
    ActNormConfig, BatchNormConfig, DdnfBlock, DdnfBlockConfig, ElementwiseAffine,
    ElementwiseAffineConfig, Pair, Permutation, PermutationConfig,
};
use flows_core::distributions::{DiagonalNormal, LogProb, Sample};
use flows_core::error::Error;
use flows_core::flow::{BaseToData, DataToBase, Flow};
use flows_core::log_det::LogDet;
use flows_core::masks::Ordering;
use flows_core::state::{State, parameters};
use flows_train::model_file::{Build, FORMAT, load, save, write};
use flows_train::{
    Data, Event, Fitted, Loss, MaximumLikelihood, Objective, ReverseKl, Rows, Run, Score, Step,
    Stopped, TrainError, Training, fit, log_probs, sample_given, stream,
};
use rand::Rng;
use serde::{Deserialize, Serialize};

type B = Autodiff<Flex>;
type Affine<B> = Flow<B, ElementwiseAffine<B>, DiagonalNormal<B>, DataToBase>;

fn affine() -> Affine<B> {
    let (device, rng) = (Default::default(), &mut stream(0, "parameters", 0));
    let layer = ElementwiseAffineConfig::new(1)
        .init::<B>(&device, rng)
        .unwrap();
    Flow::data_to_base(layer, DiagonalNormal::standard(1, &device)).unwrap()
}

/// Rows drawn from a normal of mean 2 and standard deviation 0.5.
fn gaussian() -> Data {
    let rng = &mut stream(1, "data", 0);
    let normal: Tensor<Flex, 2> =
        flows_core::init::normal_tensor([400, 1], 0.5, &Default::default(), rng);
    let values: Vec<f64> = normal.into_data().iter::<f64>().map(|z| 2.0 + z).collect();
    Data::new(Rows::new(values, 1), None).unwrap()
}

fn moments(rows: &Rows) -> [f64; 2] {
    let n = rows.len() as f64;
    let mean = rows.values().iter().sum::<f64>() / n;
    let variance = rows
        .values()
        .iter()
        .map(|x| (x - mean).powi(2))
        .sum::<f64>()
        / n;
    [mean, variance.sqrt()]
}

fn training(steps: usize) -> Training {
    Training {
        steps,
        batch: 100,
        learning_rate: 0.05,
        evaluate_every: 10,
        log_every: 5,
        checkpoint_seconds: 0.0,
        ..Training::default()
    }
}

#[test]
fn maximum_likelihood_on_a_gaussian_recovers_its_moments() {
    let data = gaussian();
    let mut objective = MaximumLikelihood::new(&data);
    let fitted = fit(
        affine(),
        &mut objective,
        &training(2000),
        Run::new("moments", 0),
    )
    .unwrap();
    assert_eq!(
        (fitted.stopped, fitted.steps, fitted.evaluations.len()),
        (Stopped::Steps, 2000, 0)
    );
    // log p is quadratic in x: three values give mean and standard deviation.
    let at = Data::new(Rows::new(vec![1.0, 2.0, 3.0], 1), None).unwrap();
    let log_p = log_probs(&fitted.model.valid(), &at);
    let precision = -(log_p[0] - 2.0 * log_p[1] + log_p[2]);
    let mean = 2.0 + (log_p[2] - log_p[0]) / 2.0 / precision;
    let [expected, deviation] = moments(&data.x);
    assert!((mean - expected).abs() < 0.02, "{mean}, {expected}");
    assert!(
        (precision.powf(-0.5) - deviation).abs() < 0.02,
        "{precision}, {deviation}"
    );
}

#[test]
fn reverse_kl_reaches_a_gaussian_target_and_its_constant() {
    let (device, rng) = (Default::default(), &mut stream(0, "parameters", 0));
    let layer = ElementwiseAffineConfig::new(1)
        .init::<B>(&device, rng)
        .unwrap();
    let flow: Flow<B, _, _, BaseToData> =
        Flow::base_to_data(layer, DiagonalNormal::standard(1, &device)).unwrap();
    // U = (x - 1)^2 / 2 / 0.25, Z = sqrt(2 pi) / 2.
    let mut objective =
        ReverseKl(|x: Tensor<B, 2>, _: &Step<'_, B>| ((x - 1.0).square() * 2.0).squeeze_dim(1));
    let fitted = fit(flow, &mut objective, &training(400), Run::new("energy", 0)).unwrap();
    let log_z = 0.5 * (2.0 * std::f64::consts::PI).ln() - 2f64.ln();
    let last = fitted.losses.last().unwrap().1;
    assert!((last + log_z).abs() < 0.02, "{last}, {log_z}");
}

#[test]
fn a_closure_is_an_objective_and_may_take_gradients_itself() {
    let data = gaussian();
    let x = |at: &Step<'_, B>| {
        data.x
            .pick(&[at.index % 400, (at.index * 7) % 400])
            .tensor::<B>(at.options.clone())
    };
    let mut plain = |flow: &Affine<B>, at: &Step<'_, B>| flow.log_prob(x(at), None).mean().neg();
    let mut taken = |flow: &Affine<B>, at: &Step<'_, B>| {
        let loss = flow.log_prob(x(at), None).mean().neg();
        let gradients = GradientsParams::from_grads(loss.clone().backward(), flow);
        Loss::new(loss.clone())
            .with_gradients(gradients)
            .with_terms(vec![("nll", loss)])
    };
    let plain = fit(affine(), &mut plain, &training(20), Run::new("a", 0)).unwrap();
    let mut events = Vec::new();
    let run = Run::new("b", 0).on_event(|event| events.push(event));
    let taken = fit(affine(), &mut taken, &training(20), run).unwrap();
    assert_eq!(bits(&plain.model), bits(&taken.model));
    assert_eq!(taken.terms["nll"], taken.losses);
    assert_eq!(events.len(), 5);
    assert!(matches!(events[1], Event::Loss { step: 6, .. }));
}

fn bits(model: &Affine<B>) -> State {
    parameters::<B, _>(model)
}

/// A likelihood with scores of its own choice, killed at a step.
struct Killed<'a> {
    inner: MaximumLikelihood<'a, Affine<Flex>>,
    at: usize,
}

impl Objective<B, Affine<B>> for Killed<'_> {
    fn loss(&mut self, model: &Affine<B>, at: &Step<'_, B>) -> Loss<B> {
        assert!(at.index < self.at, "killed");
        self.inner.loss(model, at)
    }
    fn initialize(&mut self, model: &mut Affine<B>, at: &Step<'_, B>) {
        self.inner.initialize(model, at);
    }
    fn before_step(&mut self, model: &mut Affine<B>, at: &Step<'_, B>) {
        Objective::<B, Affine<B>>::before_step(&mut self.inner, model, at);
    }
    fn evaluate_every(&self, training: &Training) -> Option<usize> {
        Objective::<B, Affine<B>>::evaluate_every(&self.inner, training)
    }
    fn evaluate(&mut self, model: &Affine<Flex>, at: &Step<'_, B>) -> Option<Score> {
        Objective::<B, Affine<B>>::evaluate(&mut self.inner, model, at)
    }
}

fn run_to(
    kill: usize,
    training: &Training,
    validated: bool,
    path: &Path,
) -> Result<Fitted<Affine<B>>, TrainError> {
    let data = gaussian();
    let (train, validation) = data.split(0.25, 0);
    let inner = MaximumLikelihood::new(&train);
    let inner = if validated {
        inner.validated_on(&validation)
    } else {
        inner
    };
    let mut objective = Killed { inner, at: kill };
    fit(
        affine(),
        &mut objective,
        training,
        Run::new("run", 5).checkpoint(path),
    )
}

#[test]
fn a_killed_run_ends_with_the_bits_of_one_that_was_not() {
    let all = Training {
        patience: None,
        ..training(60)
    };
    let early = Training {
        steps: 3000,
        learning_rate: 0.5,
        patience: Some(2),
        min_steps: 20,
        ..training(60)
    };
    for (training, validated) in [(&all, false), (&all, true), (&early, true)] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let whole = run_to(usize::MAX, training, validated, &path("whole")).unwrap();
        for kill in [7, 33, 47] {
            let killed = || run_to(kill, training, validated, &path("cut"));
            assert!(std::panic::catch_unwind(killed).is_err());
        }
        let cut = run_to(usize::MAX, training, validated, &path("cut")).unwrap();
        assert_eq!(bits(&whole.model), bits(&cut.model));
        assert_eq!(
            (whole.losses, whole.evaluations),
            (cut.losses, cut.evaluations)
        );
        assert_eq!((whole.stopped, whole.steps), (cut.stopped, cut.steps));
        let expected = if training.patience.is_some() {
            Stopped::Patience
        } else {
            Stopped::Steps
        };
        assert_eq!(whole.stopped, expected);
        assert!(training.patience.is_none() || whole.steps < 3000 && whole.steps >= 40);
        // What has ended is not done again, and another run is refused.
        let again = run_to(0, training, validated, &path("cut")).unwrap();
        assert_eq!(bits(&again.model), bits(&whole.model));
        let other = Run::new("other", 5).checkpoint(path("cut"));
        let data = gaussian();
        let error = fit(
            affine(),
            &mut MaximumLikelihood::new(&data),
            training,
            other,
        );
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("holds the run 'run', not 'other'")
        );
    }
}

#[test]
fn patience_keeps_the_best_and_what_is_out_of_range_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let early = Training {
        steps: 3000,
        learning_rate: 0.5,
        patience: Some(3),
        ..training(1)
    };
    let fitted = run_to(usize::MAX, &early, true, &folder.path().join("a")).unwrap();
    let (best, last) = (fitted.best().unwrap(), fitted.evaluations.last().unwrap());
    assert_eq!(
        (fitted.stopped, last.step - best.step),
        (Stopped::Patience, 30)
    );
    let (_, validation) = gaussian().split(0.25, 0);
    let scores = log_probs(&fitted.model.valid(), &validation);
    assert_eq!(flows_train::mean_of_finite(&scores), best.score);

    let wrong = Training {
        batch: 0,
        ..training(1)
    };
    let error = run_to(0, &wrong, false, &folder.path().join("b")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "training.batch is 0, expected at least 1"
    );
}

#[test]
fn few_far_rows_are_left_out_and_counted_and_many_end_a_run() {
    for (far, left_out) in [(0, Some(0)), (1, Some(4)), (2, Some(8)), (3, None)] {
        let mut values = gaussian().x.values()[..200].to_vec();
        values[..far].fill(1e30);
        let data = Data::new(Rows::new(values, 1), None).unwrap();
        let four = Training {
            batch: 200,
            clip_norm: 0.0,
            ..training(4)
        };
        let score = |_: &Affine<Flex>| -1.0;
        let mut objective = MaximumLikelihood::new(&data).scored_by(1, score);
        let fitted = fit(affine(), &mut objective, &four, Run::new("far", 0)).unwrap();
        match left_out {
            Some(count) => assert_eq!((fitted.stopped, fitted.left_out), (Stopped::Steps, count)),
            None => assert_eq!(fitted.stopped, Stopped::Diverged),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Mixed {
    dim: usize,
    order: Ordering,
}

type MixedFlow<B> =
    Flow<B, Pair<B, ElementwiseAffine<B>, Permutation<B>>, DiagonalNormal<B>, DataToBase>;

impl<B: Backend> Build<B> for Mixed {
    type Model = MixedFlow<B>;

    fn build(
        &self,
        options: TensorCreationOptions<B>,
        rng: &mut dyn Rng,
    ) -> Result<MixedFlow<B>, Error> {
        let affine = ElementwiseAffineConfig::new(self.dim).init(options.clone(), rng)?;
        let permutation =
            PermutationConfig::new(self.dim, self.order.clone()).init(options.clone(), rng)?;
        Flow::data_to_base(
            Pair::new(affine, permutation)?,
            DiagonalNormal::standard(self.dim, options),
        )
    }
}

#[test]
fn a_model_file_gives_the_model_back_on_another_backend_in_f64_and_refuses_what_it_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mixed.flow");
    let config = Mixed {
        dim: 2,
        order: Ordering::Reversed,
    };
    let model =
        Build::<Flex>::build(&config, Default::default(), &mut stream(3, "parameters", 0)).unwrap();
    save::<Flex, _>(&path, &config, &model, &"about it").unwrap();
    let loaded = load::<NdArray<f64>, Mixed>(&path, &Default::default()).unwrap();
    assert_eq!(
        (loaded.config, loaded.metadata),
        (config.clone(), "about it".into())
    );
    let data = Data::new(Rows::new(vec![0.1, 0.2, -1.0, 3.0], 2), None).unwrap();
    let single = log_probs::<Flex, _>(&model, &data);
    let double = log_probs::<NdArray<f64>, _>(&loaded.model, &data);
    for (a, b) in single.iter().zip(&double) {
        assert!((a - b).abs() < 1e-5, "{a}, {b}");
    }

    let state = flows_core::state::state::<Flex, _>(&model);
    let refused = |config: &Mixed, state: &State, more: Option<(&str, &State)>| {
        let header = serde_json::json!({ "format": 1, "program": "test", "model": config });
        let parts = [("flow", state)]
            .into_iter()
            .chain(more)
            .collect::<Vec<_>>();
        write(&path, &header, &parts).unwrap();
        load::<Flex, Mixed>(&path, &Default::default())
            .unwrap_err()
            .to_string()
    };
    let natural = Mixed {
        order: Ordering::Natural,
        ..config.clone()
    };
    let other = refused(&natural, &state, None);
    assert!(other.contains("belong to another model: it has"), "{other}");
    let mut more = state.clone();
    more.insert("stray".to_owned(), burn::tensor::TensorData::from([1.0]));
    let unknown = refused(&config, &more, None);
    assert!(
        unknown.contains("'stray' belongs to no parameter"),
        "{unknown}"
    );
    let part = refused(&config, &state, Some(("extra", &more)));
    assert!(part.contains("it has a part 'extra'"), "{part}");
    let header = serde_json::json!({ "format": FORMAT + 1, "program": "test", "model": config });
    write(&path, &header, &[]).unwrap();
    let newer = load::<Flex, Mixed>(&path, &Default::default())
        .unwrap_err()
        .to_string();
    let expected = format!("model format {}", FORMAT + 1);
    assert!(newer.contains(&expected), "{newer}");
}

#[test]
fn several_samples_for_each_context_stay_with_it() {
    /// A normal around its context.
    #[derive(burn::module::Module, Debug)]
    struct Around<B: Backend> {
        base: DiagonalNormal<B>,
    }
    impl<B: Backend> LogProb<B> for Around<B> {
        fn dim(&self) -> usize {
            1
        }
        fn context_dim(&self) -> usize {
            1
        }
        fn log_prob(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 1> {
            self.base.log_prob(x - context.unwrap(), None)
        }
    }
    impl<B: Backend> Sample<B> for Around<B> {
        fn sample(
            &self,
            n: usize,
            context: Option<Tensor<B, 2>>,
            rng: &mut dyn Rng,
        ) -> Tensor<B, 2> {
            self.base.sample(n, None, rng) + context.unwrap()
        }
        fn sample_and_log_prob(
            &self,
            n: usize,
            context: Option<Tensor<B, 2>>,
            rng: &mut dyn Rng,
        ) -> (Tensor<B, 2>, Tensor<B, 1>) {
            let x = self.sample(n, context.clone(), rng);
            (x.clone(), self.log_prob(x, context))
        }
    }
    let device = Default::default();
    let around = Around::<Flex> {
        base: DiagonalNormal::standard(1, &device),
    };
    let contexts = Rows::new(vec![0.0, 100.0], 1);
    let samples = sample_given(&around, &contexts, 5000, &mut stream(0, "samples", 0));
    assert_eq!(samples.len(), 10_000);
    let halves = [(0, 5000, 0.0), (5000, 10_000, 100.0)];
    assert!(halves.iter().all(|&(from, to, center)| {
        samples.values()[from..to]
            .iter()
            .all(|x| (x - center).abs() < 10.0)
    }));
}

#[test]
fn few_rows_without_an_inverse_are_counted_and_more_than_a_hundredth_end_a_run() {
    let all = Rows::new(gaussian().x.values()[..200].to_vec(), 1);
    let run = |lost: usize| {
        // NaN, as of a layer whose inverse was not solved.
        let marks: Vec<f32> = (0..200)
            .map(|i| if i < lost { f32::NAN } else { 0.0 })
            .collect();
        let mut objective = |flow: &Affine<B>, at: &Step<'_, B>| {
            let marks = Tensor::<B, 1>::from_data(&marks[..], &Default::default());
            Loss::of_solved(
                flow.log_prob(all.tensor::<B>(at.options.clone()), None)
                    .neg()
                    + marks,
            )
        };
        let training = Training {
            batch: 200,
            ..training(20)
        };
        fit(affine(), &mut objective, &training, Run::new("unsolved", 0))
    };
    let fitted = run(1).unwrap();
    assert_eq!((fitted.stopped, fitted.steps), (Stopped::Steps, 20));
    assert_eq!(fitted.terms["unsolved"][0], (0, 1.0));
    assert!(!run(0).unwrap().terms.contains_key("unsolved"));
    let error = run(3).unwrap_err();
    assert!(
        matches!(error, TrainError::Unsolved { step: 11, .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .starts_with("1.5 % of the rows had no inverse"),
        "{error}"
    );
}

#[test]
fn a_fit_begins_with_activation_norms_set_from_the_data() {
    let (data, device) = (gaussian(), Default::default());
    let rng = &mut stream(0, "parameters", 0);
    let norm = ActNormConfig::new(1).init::<B>(&device, rng).unwrap();
    let flow = Flow::data_to_base(norm, DiagonalNormal::standard(1, &device)).unwrap();
    // One step too short to move anything: what is scored is where the fit begins.
    let still = Training {
        learning_rate: 1e-12,
        ..training(1)
    };
    let mut objective = MaximumLikelihood::new(&data);
    let fitted = fit(flow, &mut objective, &still, Run::new("norm", 0)).unwrap();
    let scores = log_probs(&fitted.model.valid(), &data);
    let mean = scores.iter().sum::<f64>() / scores.len() as f64;
    let [_, deviation] = moments(&data.x);
    let entropy = 0.5 * (2.0 * std::f64::consts::PI * std::f64::consts::E).ln() + deviation.ln();
    assert!((mean + entropy).abs() < 1e-4, "{mean}, {entropy}");
}

#[test]
fn a_fit_moves_running_statistics_to_those_of_the_data() {
    let (data, device) = (gaussian(), Default::default());
    let rng = &mut stream(0, "parameters", 0);
    let norm = BatchNormConfig::new(1).init::<B>(&device, rng).unwrap();
    let flow = Flow::data_to_base(norm, DiagonalNormal::standard(1, &device)).unwrap();
    let mut objective = MaximumLikelihood::new(&data);
    let fitted = fit(flow, &mut objective, &training(100), Run::new("norm", 0)).unwrap();
    let [mean, variance] = fitted.model.bijector().running_statistics();
    let [expected, deviation] = moments(&data.x);
    let (mean, variance) = (
        f64::from(mean.into_scalar()),
        f64::from(variance.into_scalar()),
    );
    assert!((mean - expected).abs() < 0.1, "{mean}, {expected}");
    assert!(
        (variance.sqrt() - deviation).abs() < 0.1,
        "{variance}, {deviation}"
    );
}

#[test]
fn fits_on_several_threads_end_with_the_bits_of_one() {
    let data = gaussian();
    let run = || {
        let mut objective = MaximumLikelihood::new(&data);
        let fitted = fit(
            affine(),
            &mut objective,
            &training(100),
            Run::new("thread", 0),
        );
        bits(&fitted.unwrap().model)
    };
    let alone = run();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        for thread in threads {
            assert_eq!(thread.join().expect("no panic"), alone);
        }
    });
}

#[test]
fn estimators_get_new_noise_in_every_step() {
    type Estimated = Flow<B, DdnfBlock<B>, DiagonalNormal<B>, DataToBase>;
    let rows = Rows::new(gaussian().x.values().to_vec(), 2);
    let losses = |log_det| {
        let (device, rng) = (Default::default(), &mut stream(0, "parameters", 0));
        let config = DdnfBlockConfig {
            log_det,
            ..DdnfBlockConfig::new(2, [8])
        };
        let block = config.init::<B>(&device, rng).unwrap();
        let flow = Flow::data_to_base(block, DiagonalNormal::standard(2, &device)).unwrap();
        let mut objective = |flow: &Estimated, at: &Step<'_, B>| {
            let x = rows.tensor::<B>(at.options.clone());
            flow.log_prob(x, None).mean().neg()
        };
        let still = Training {
            learning_rate: 1e-12,
            log_every: 1,
            ..training(3)
        };
        let fitted = fit(flow, &mut objective, &still, Run::new("noise", 0));
        fitted.unwrap().losses
    };
    let exact = losses(LogDet::Exact);
    assert_eq!((exact.len(), exact[0].1), (3, exact[2].1));
    let noisy = losses(LogDet::HUTCHINSON);
    assert!(
        noisy[0].1 != noisy[1].1 && noisy[1].1 != noisy[2].1,
        "{noisy:?}"
    );
}
