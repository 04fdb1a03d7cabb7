//! The conformance suite itself: layers and distributions with one fault each are caught, and correct ones
//! that look odd pass.

use burn::module::{Module, Param};
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, backend::Backend};
use flows_core::bijector::{Bijector, Invert, Mapped};
use flows_core::bijectors::{ElementwiseAffine, ElementwiseAffineConfig};
use flows_core::distributions::{DiagonalNormal, LogProb, Sample, Uniform};
use flows_core::domain::Interval;
use flows_core::error::Error;
use flows_core::init;
use flows_core::init::{options_of, options_of_module};
use flows_core::testing::{Case, DistributionCase, Failure, Precision, Suite};
use rand::Rng;

use crate::double;
use crate::{Wide, WideNdArray};

fn suite() -> Suite<Wide> {
    Suite::new(double(), Precision::DOUBLE)
}

/// For what the suite leaves out where the type is not the default one.
fn single() -> Suite<Wide> {
    double();
    Suite::new(TensorCreationOptions::default(), Precision::SINGLE)
}

/// The properties that failed, each once.
fn failed(suite: &Suite<Wide>) -> Vec<&str> {
    let mut names: Vec<_> = suite.failures().iter().map(|f| &f.property[..]).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn detail<'a>(suite: &'a Suite<Wide>, property: &str) -> &'a str {
    let of = |f: &&Failure| f.property == property;
    let failure = suite.failures().iter().find(of);
    &failure
        .unwrap_or_else(|| panic!("{:?}", suite.failures()))
        .detail
}

/// A rotation of the plane by a trained angle: the density of an isotropic base does not feel it.
#[derive(Module, Debug)]
struct Rotation<B: Backend> {
    angle: Param<Tensor<B, 2>>,
    #[module(skip)]
    is_detached: bool,
}

impl<B: Backend> Rotation<B> {
    fn new(
        device: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
        is_detached: bool,
    ) -> Result<Self, Error> {
        Ok(Self {
            angle: init::normal([1, 1], 1.0, device, rng),
            is_detached,
        })
    }

    fn turn(&self, x: Tensor<B, 2>, sign: f64) -> Mapped<B> {
        let angle = match self.is_detached {
            true => self.angle.val().detach(),
            false => self.angle.val(),
        };
        let (sin, cos) = ((angle.clone() * sign).sin(), angle.cos());
        let (a, b) = (x.clone().narrow(1, 0, 1), x.narrow(1, 1, 1));
        let turned = vec![
            a.clone() * cos.clone() - b.clone() * sin.clone(),
            a * sin + b * cos,
        ];
        Mapped::volume_preserving(Tensor::cat(turned, 1))
    }
}

impl<B: Backend> Bijector<B> for Rotation<B> {
    fn name(&self) -> &'static str {
        "rotation"
    }

    fn dim(&self) -> usize {
        2
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_shapes(self, &x, &context);
        self.turn(x, 1.0)
    }
}

impl<B: Backend> Invert<B> for Rotation<B> {
    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_shapes(self, &y, &context);
        self.turn(y, -1.0)
    }
}

fn assert_shapes<B: Backend, L: Bijector<B>>(
    layer: &L,
    x: &Tensor<B, 2>,
    context: &Option<Tensor<B, 2>>,
) {
    if let Err(error) = layer.check(x, context.as_ref()) {
        panic!("{error}");
    }
}

#[test]
fn a_rotation_passes() {
    let mut suite = suite();
    suite.check(Case::new("rotation"), |device, rng| {
        Rotation::new(device, rng, false)
    });
    suite.finish();
}

#[test]
fn a_detached_angle_fails_whatever_it_is_declared() {
    for (case, reason) in [
        (
            Case::new("as it is"),
            "moves the output, and gets no gradient",
        ),
        (
            Case::new("without gradient").without_gradient(vec!["angle"]),
            "moves the output, and gets no gradient",
        ),
        (
            Case::new("a statistic").statistics(vec!["angle"]),
            "declared a statistic and requires a gradient",
        ),
    ] {
        let mut suite = suite();
        suite.check(case, |device, rng| Rotation::new(device, rng, true));
        assert_eq!(failed(&suite), ["every parameter learns"]);
        let detail = detail(&suite, "every parameter learns");
        assert!(
            detail.contains("angle") && detail.contains(reason),
            "{detail}"
        );
    }
}

#[test]
fn what_is_declared_without_a_gradient_has_none() {
    let mut suite = suite();
    let case = Case::new("rotation").without_gradient(vec!["angle"]);
    suite.check(case, |device, rng| Rotation::new(device, rng, false));
    assert_eq!(failed(&suite), ["every parameter learns"]);
    let detail = detail(&suite, "every parameter learns");
    assert!(
        detail.contains("angle is declared without a gradient"),
        "{detail}"
    );
}

#[test]
fn a_parameter_that_nothing_trains_is_a_statistic_or_fails() {
    let build = |device: TensorCreationOptions<_>, rng: &mut dyn Rng| {
        let mut layer = Rotation::<Wide>::new(device, rng, false)?;
        layer.angle = layer.angle.no_grad();
        Ok(layer)
    };
    let mut declared = suite();
    declared.check(Case::new("rotation").statistics(vec!["angle"]), build);
    declared.finish();
    let mut suite = suite();
    suite.check(Case::new("rotation"), build);
    assert_eq!(failed(&suite), ["every parameter learns"]);
    assert!(detail(&suite, "every parameter learns").contains("declare it by Case::statistics"));
}

/// `y = x + tanh(x W1) W2` in steps of 1/8, without inverse; `W2` starts at zero, as the last layer of many networks.
#[derive(Module, Debug)]
struct ZeroStart<B: Backend> {
    first: Param<Tensor<B, 2>>,
    last: Param<Tensor<B, 2>>,
    unused: Option<Param<Tensor<B, 2>>>,
}

impl<B: Backend> ZeroStart<B> {
    fn new(
        device: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
        with_unused: bool,
    ) -> Result<Self, Error> {
        let device = device.into();
        Ok(Self {
            first: init::normal([1, 3], 1.0, device.clone(), rng),
            last: init::constant([3, 1], 0.0, device.clone()),
            unused: with_unused.then(|| init::constant([1, 1], 1.0, device)),
        })
    }
}

impl<B: Backend> Bijector<B> for ZeroStart<B> {
    fn name(&self) -> &'static str {
        "zero start"
    }

    fn dim(&self) -> usize {
        2
    }

    /// The second column is moved by what is computed from the first.
    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_shapes(self, &x, &context);
        let (a, b) = (x.clone().narrow(1, 0, 1), x.narrow(1, 1, 1));
        let hidden = a.clone().matmul(self.first.val()).tanh();
        let shift = hidden.matmul(self.last.val());
        Mapped::volume_preserving(Tensor::cat(vec![a, b + shift], 1))
    }
}

#[test]
fn a_network_whose_last_layer_starts_at_zero_passes_and_a_dead_parameter_fails() {
    let mut alive = suite();
    alive.check_forward_only(Case::new("zero start"), |device, rng| {
        ZeroStart::new(device, rng, false)
    });
    alive.finish();

    let mut dead = suite();
    dead.check_forward_only(Case::new("dead"), |device, rng| {
        ZeroStart::new(device, rng, true)
    });
    assert_eq!(failed(&dead), ["every parameter learns"]);
    let detail = detail(&dead, "every parameter learns");
    assert!(
        detail.contains("unused") && detail.contains("Case::without_gradient"),
        "{detail}"
    );

    let mut declared = suite();
    let case = Case::new("declared").without_gradient(vec!["unused"]);
    declared.check_forward_only(case, |device, rng| ZeroStart::new(device, rng, true));
    declared.finish();
}

/// One thing that an elementwise affine layer with a shift by its context can do wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// The inverse takes any shapes.
    InverseTakesAnything,
    /// The panic of the inverse says something else than `check`.
    InversePanicsOtherwise,
    /// The inverse shifts by nothing, and so does forward, where the context is the one of training.
    InverseDropsContext,
    /// Forward is right only near where the layer starts.
    RightNearTheStart,
    /// The inverse without automatic differentiation is another one.
    OtherInverseWithoutAutodiff,
    /// The inverse reads a number that is not a parameter.
    StateOutsideOfParameters,
    EmptyForwardPanics,
    EmptyInversePanics,
    EmptyLogDetHasARow,
}

/// A number that a module does not print, as it does not print what a bare tensor holds: a state misses it.
#[derive(Clone, Copy)]
struct Unprinted(f64);

impl std::fmt::Debug for Unprinted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("..")
    }
}

#[derive(Module, Debug)]
struct Faulty<B: Backend> {
    affine: ElementwiseAffine<B>,
    #[module(skip)]
    fault: Fault,
    #[module(skip)]
    hidden: Unprinted,
}

impl<B: Backend> Faulty<B> {
    fn new(
        fault: Fault,
        device: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<Self, Error> {
        Ok(Self {
            affine: ElementwiseAffineConfig::new(2).init(device, rng)?,
            fault,
            hidden: Unprinted(1.0 + rng.next_u32() as f64 * 1e-12),
        })
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }
}

impl<B: Backend> Bijector<B> for Faulty<B> {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn dim(&self) -> usize {
        2
    }

    fn context_dim(&self) -> usize {
        2
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_shapes(self, &x, &context);
        assert!(
            !self.is(Fault::EmptyForwardPanics) || x.dims()[0] > 0,
            "no rows"
        );
        let mut out = self.affine.forward_and_log_det(x, None);
        if self.is(Fault::RightNearTheStart) && out.value.dims()[0] > 0 {
            let size = out.log_det.clone().abs().max();
            out.log_det = out.log_det + (size - 0.2).clamp_min(0.0);
        }
        if self.is(Fault::EmptyLogDetHasARow) && out.value.dims()[0] == 0 {
            out.log_det = Tensor::zeros([1], options_of(&out.value));
        }
        out.value = out.value + context.expect("checked");
        out
    }
}

impl<B: Backend> Invert<B> for Faulty<B> {
    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        match self.fault {
            Fault::InverseTakesAnything => {}
            Fault::InversePanicsOtherwise => {
                assert!(self.check(&y, context.as_ref()).is_ok(), "wrong shapes");
            }
            _ => assert_shapes(self, &y, &context),
        }
        assert!(
            !self.is(Fault::EmptyInversePanics) || y.dims()[0] > 0,
            "no rows"
        );
        let without_autodiff = !B::ad_enabled(&y.device());
        let y = match (self.fault, context) {
            (Fault::InverseTakesAnything, _) => y.narrow(1, 0, 2),
            (Fault::InverseDropsContext, _) => y,
            (Fault::StateOutsideOfParameters, context) => {
                y - context.expect("checked") * self.hidden.0
            }
            (Fault::OtherInverseWithoutAutodiff, context) if without_autodiff => {
                y - context.expect("checked") * 1.001
            }
            (_, context) => y - context.expect("checked"),
        };
        self.affine.inverse_and_log_det(y, None)
    }
}

fn faults_of(fault: Fault) -> Suite<Wide> {
    let mut suite = match fault {
        Fault::EmptyForwardPanics | Fault::EmptyInversePanics | Fault::EmptyLogDetHasARow => {
            single()
        }
        _ => suite(),
    };
    suite.check(Case::new(format!("{fault:?}")), |device, rng| {
        Faulty::new(fault, device, rng)
    });
    suite
}

#[test]
fn each_fault_of_a_layer_is_caught_by_its_property() {
    faults_of(Fault::None).finish();
    for (fault, property) in [
        (Fault::InverseTakesAnything, "refuses wrong shapes"),
        (Fault::InversePanicsOtherwise, "refuses wrong shapes"),
        (Fault::InverseDropsContext, "context changes the output"),
        (Fault::RightNearTheStart, "log-det of forward"),
        (
            Fault::OtherInverseWithoutAutodiff,
            "valid() keeps outputs of inverse",
        ),
        (
            Fault::StateOutsideOfParameters,
            "a saved layer loads bit for bit",
        ),
        (Fault::EmptyForwardPanics, "takes a batch without rows"),
        (Fault::EmptyInversePanics, "takes a batch without rows"),
        (Fault::EmptyLogDetHasARow, "takes a batch without rows"),
    ] {
        let suite = faults_of(fault);
        let failed = failed(&suite);
        assert!(
            failed.contains(&property),
            "{fault:?}: {:?}",
            suite.failures()
        );
    }
}

#[test]
fn a_layer_that_is_right_only_near_where_it_starts_fails_far_from_there_alone() {
    let suite = faults_of(Fault::RightNearTheStart);
    let far = |f: &Failure| f.detail.starts_with("parameters moved by N(0, 0.5^2)");
    assert!(!suite.failures().is_empty());
    assert!(suite.failures().iter().all(far), "{:?}", suite.failures());
}

#[test]
fn backends_that_checked_different_cases_do_not_agree() {
    let affine = |device: TensorCreationOptions<_>, rng: &mut dyn Rng| {
        ElementwiseAffineConfig::new(2).init(device, rng)
    };
    let mut flex = suite();
    flex.check(Case::new("both"), affine);
    flex.check(Case::new("here"), affine);
    let mut ndarray = Suite::<WideNdArray>::new(double(), Precision::DOUBLE);
    ndarray.check(Case::new("both"), |device, rng| {
        ElementwiseAffineConfig::new(2).init(device, rng)
    });
    ndarray.check(Case::new("there"), |device, rng| {
        ElementwiseAffineConfig::new(2).init(device, rng)
    });
    flex.agree_with(&ndarray, 1e-10);
    let names: Vec<_> = flex.failures().iter().map(|f| &f.name[..]).collect();
    assert_eq!(names, ["here", "there"]);
    assert_eq!(failed(&flex), ["backends agree"]);
}

#[test]
fn two_cases_of_one_name_fail() {
    let mut suite = suite();
    for _ in 0..2 {
        suite.check(Case::new("twice"), |device, rng| {
            ElementwiseAffineConfig::new(2).init(device, rng)
        });
    }
    assert_eq!(failed(&suite), ["a name of its own"]);
}

/// One thing that a normal distribution around its context can do wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    NotNormalized,
    OtherScaleOfSamples,
    OtherLogProbOfSamples,
    MeanOfTheBatch,
    TakesAnyContext,
    DropsContext,
    NoRowsPanic,
    NoSamplesPanic,
    NotSaved,
    OtherWithoutAutodiff,
    NotSeeded,
    OverflowsFarOut,
}

#[derive(Module, Debug)]
struct Around<B: Backend> {
    normal: DiagonalNormal<B>,
    #[module(skip)]
    wrong: Wrong,
    /// Drawn when built, as a parameter would be.
    #[module(skip)]
    drawn: Unprinted,
}

impl<B: Backend> Around<B> {
    fn new(
        wrong: Wrong,
        device: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<Self, Error> {
        Ok(Self {
            normal: DiagonalNormal::new(&[0.5], &[0.8], device)?,
            wrong,
            drawn: Unprinted(f64::from(rng.next_u32() % 1000) * 1e-3),
        })
    }

    fn centre(&self, context: Option<Tensor<B, 2>>, like: &Tensor<B, 2>) -> Tensor<B, 2> {
        match context {
            Some(context) if self.wrong != Wrong::DropsContext => context.narrow(1, 0, 1),
            _ => like.zeros_like(),
        }
    }

    fn assert_context(&self, n: usize, context: &Option<Tensor<B, 2>>) {
        if self.wrong != Wrong::TakesAnyContext {
            let x = Tensor::zeros([n, 1], options_of_module::<B, _>(&self.normal));
            if let Err(error) =
                flows_core::bijector::check_shapes::<B>("around", 1, 1, &x, context.as_ref())
            {
                panic!("{error}");
            }
        }
    }
}

impl<B: Backend> LogProb<B> for Around<B> {
    fn dim(&self) -> usize {
        1
    }

    fn context_dim(&self) -> usize {
        1
    }

    fn log_prob(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 1> {
        self.assert_context(x.dims()[0], &context);
        assert!(
            self.wrong != Wrong::NoRowsPanic || x.dims()[0] > 0,
            "no rows"
        );
        let without_autodiff = !B::ad_enabled(&x.device());
        let mut x = x.clone() - self.centre(context, &x);
        if self.wrong == Wrong::MeanOfTheBatch {
            x = x.clone() - x.mean_dim(0) * 0.1;
        }
        let log_p = self.normal.log_prob(x.clone(), None);
        match self.wrong {
            Wrong::NotNormalized => log_p + 1e-3,
            Wrong::NotSaved => log_p + self.drawn.0,
            Wrong::OtherWithoutAutodiff if without_autodiff => log_p + 1e-6,
            Wrong::OverflowsFarOut => {
                log_p + (x.square().exp() * 0.0).sum_dim(1).squeeze_dim::<1>(1)
            }
            _ => log_p,
        }
    }
}

impl<B: Backend> Sample<B> for Around<B> {
    fn sample(&self, n: usize, context: Option<Tensor<B, 2>>, rng: &mut dyn Rng) -> Tensor<B, 2> {
        self.assert_context(n, &context);
        assert!(self.wrong != Wrong::NoSamplesPanic || n > 0, "no rows");
        let x = match self.wrong {
            Wrong::NotSeeded => self.normal.sample(n, None, &mut rand::rng()),
            _ => self.normal.sample(n, None, rng),
        };
        let centre = self.centre(context, &x);
        match self.wrong {
            Wrong::OtherScaleOfSamples => (x - 0.5) * 1.1 + 0.5 + centre,
            _ => x + centre,
        }
    }

    fn sample_and_log_prob(
        &self,
        n: usize,
        context: Option<Tensor<B, 2>>,
        rng: &mut dyn Rng,
    ) -> (Tensor<B, 2>, Tensor<B, 1>) {
        let x = self.sample(n, context.clone(), rng);
        let log_p = self.log_prob(x.clone(), context);
        match self.wrong {
            Wrong::OtherLogProbOfSamples => (x, log_p + 1e-6),
            _ => (x, log_p),
        }
    }
}

fn wrongs_of(wrong: Wrong) -> Suite<Wide> {
    let mut suite = match wrong {
        Wrong::NoRowsPanic | Wrong::NoSamplesPanic => single(),
        _ => suite(),
    };
    let case = DistributionCase::new(format!("{wrong:?}"));
    suite.check_distribution(case, |device, rng| Around::new(wrong, device, rng));
    suite
}

#[test]
fn each_fault_of_a_distribution_is_caught_by_its_property() {
    wrongs_of(Wrong::Nothing).finish();
    for (wrong, property) in [
        (Wrong::NotNormalized, "log_prob integrates to one"),
        (Wrong::OtherScaleOfSamples, "draws are of the density"),
        (
            Wrong::OtherLogProbOfSamples,
            "sample_and_log_prob is log_prob of the sample",
        ),
        (Wrong::MeanOfTheBatch, "rows of log_prob are independent"),
        (Wrong::TakesAnyContext, "refuses wrong shapes"),
        (Wrong::DropsContext, "context changes the output"),
        (Wrong::NoRowsPanic, "takes a batch without rows"),
        (Wrong::NoSamplesPanic, "takes a batch without rows"),
        (Wrong::NotSaved, "a saved distribution loads bit for bit"),
        (Wrong::OtherWithoutAutodiff, "valid() keeps outputs"),
        (Wrong::NotSeeded, "the same seed gives the same bits"),
        (Wrong::OverflowsFarOut, "finite at extremes"),
    ] {
        let suite = wrongs_of(wrong);
        let failed = failed(&suite);
        assert!(
            failed.contains(&property),
            "{wrong:?}: {:?}",
            suite.failures()
        );
    }
}

/// A uniform distribution that says another support than its own.
#[derive(Module, Debug)]
struct Misplaced<B: Backend> {
    uniform: Uniform<B>,
    #[module(skip)]
    high: f64,
}

impl<B: Backend> LogProb<B> for Misplaced<B> {
    fn dim(&self) -> usize {
        1
    }
    fn support(&self) -> Vec<Interval> {
        vec![Interval {
            low: -1.0,
            high: self.high,
        }]
    }
    fn log_prob(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 1> {
        self.uniform.log_prob(x, context)
    }
}

impl<B: Backend> Sample<B> for Misplaced<B> {
    fn sample(&self, n: usize, context: Option<Tensor<B, 2>>, rng: &mut dyn Rng) -> Tensor<B, 2> {
        self.uniform.sample(n, context, rng)
    }
    fn sample_and_log_prob(
        &self,
        n: usize,
        context: Option<Tensor<B, 2>>,
        rng: &mut dyn Rng,
    ) -> (Tensor<B, 2>, Tensor<B, 1>) {
        self.uniform.sample_and_log_prob(n, context, rng)
    }
}

#[test]
fn minus_infinity_is_for_what_lies_outside_of_the_support_alone() {
    let of = |high: f64| {
        let mut suite = suite();
        suite.check_distribution(DistributionCase::new("uniform"), move |device, _| {
            let uniform = Uniform::new(&[-1.0], &[2.0], device)?;
            Ok(Misplaced { uniform, high })
        });
        suite
    };
    of(2.0).finish();
    // 10 lies inside of what it says; -10 and 0 do not tell.
    assert_eq!(failed(&of(20.0)), ["finite at extremes"]);
    assert_eq!(failed(&of(-0.5)), ["finite at extremes"]);
}
