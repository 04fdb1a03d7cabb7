//! The conformance suite: every property that a layer or a distribution must have, run over any.
//!
//! For those of this crate and for your own. A [`Suite`] fixes backend and precision;
//! [`Suite::check`] runs every property that applies on a layer, [`Suite::check_distribution`] on a
//! distribution: as it starts, and with its parameters moved far from there. [`Suite::finish`]
//! panics with the list of failures, each naming layer and property.
//!
//! ```
//! use burn::backend::{Autodiff, Flex};
//! use flows_core::bijectors::ElementwiseAffineConfig;
//! use flows_core::testing::{Case, Precision, Suite};
//!
//! let mut suite = Suite::<Autodiff<Flex>>::new(&Default::default(), Precision::SINGLE);
//! suite.check(Case::new("elementwise affine"), |options, rng| {
//!     ElementwiseAffineConfig::new(3).init(options, rng)
//! });
//! suite.finish();
//! ```
//!
//! Tests in f64 belong in a binary of their own that first calls
//! `burn::tensor::set_default_dtypes`: the default float type of a device is fixed on first use.

mod built;
mod case;
mod differentiate;
mod distribution;
mod failure;
mod layer;
mod numbers;
mod panics;
mod properties;
mod visits;

pub use case::{Case, Dependencies, DistributionCase, Precision};
pub use differentiate::{central_difference, gradients, jacobians, slog_det};
pub use failure::Failure;
pub use numbers::{batch, normal_batch, relative_error, residual, rows, uniform_batch};
pub use visits::Probe;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use burn::module::AutodiffModule;
use burn::tensor::TensorCreationOptions;
use burn::tensor::backend::AutodiffBackend;
use rand::Rng;

use crate::autodiff::exclusive;
use crate::bijector::{Bijector, Invert};
use crate::distributions::{LogProb, Sample};
use crate::error::Error;
use built::Built;
use layer::{BuiltLayer, Inverse};
use properties::Run;

/// Runs the properties on one backend and collects what fails.
#[derive(Debug)]
pub struct Suite<B: AutodiffBackend> {
    options: TensorCreationOptions<B>,
    precision: Precision,
    only_values: bool,
    part: [usize; 2],
    names: BTreeSet<String>,
    failures: Vec<Failure>,
    outputs: BTreeMap<String, Vec<f64>>,
}

impl<B: AutodiffBackend> Suite<B> {
    /// A suite on `device`, with the tolerances of `precision`.
    pub fn new(options: impl Into<TensorCreationOptions<B>>, precision: Precision) -> Self {
        Self {
            options: options.into(),
            precision,
            only_values: false,
            part: [0, 1],
            names: BTreeSet::new(),
            failures: Vec::new(),
            outputs: BTreeMap::new(),
        }
    }

    /// Checks of layers only what [`agree_with`](Self::agree_with) compares, values and gradients where they start, and
    /// that the order of memory does not matter: for a second backend beside one on which everything was checked.
    #[must_use]
    pub fn only_values(mut self) -> Self {
        self.only_values = true;
        self
    }

    /// Checks every `of`-th case, from case `index` on: for a registry shared by several processes, each of which
    /// takes gradients on one thread.
    ///
    /// # Panics
    /// If `index` is not below `of`.
    #[must_use]
    pub fn part(mut self, index: usize, of: usize) -> Self {
        assert!(index < of, "part {index} of {of} parts, counted from 0");
        self.part = [index, of];
        self
    }

    /// Runs every property over an invertible layer.
    ///
    /// `build` makes the layer from a seeded generator; it is called several times.
    pub fn check<L, F>(&mut self, case: Case, build: F)
    where
        L: Invert<B> + AutodiffModule<B>,
        L::InnerModule: Invert<B::InnerBackend>,
        F: Fn(TensorCreationOptions<B>, &mut dyn Rng) -> Result<L, Error>,
    {
        self.check_layer(&case, &build, Some(Inverse::of_layer()));
    }

    /// Runs the properties that need no inverse over a layer without one.
    pub fn check_forward_only<L, F>(&mut self, case: Case, build: F)
    where
        L: Bijector<B> + AutodiffModule<B>,
        L::InnerModule: Bijector<B::InnerBackend>,
        F: Fn(TensorCreationOptions<B>, &mut dyn Rng) -> Result<L, Error>,
    {
        self.check_layer(&case, &build, None);
    }

    fn check_layer<L, F>(&mut self, case: &Case, build: &F, inverse: Option<Inverse<B, L>>)
    where
        L: Bijector<B> + AutodiffModule<B>,
        L::InnerModule: Bijector<B::InnerBackend>,
        F: Fn(TensorCreationOptions<B>, &mut dyn Rng) -> Result<L, Error>,
    {
        if !self.takes(&case.name) {
            return;
        }
        let _alone = exclusive();
        let options = self.options.clone();
        let mut run = Run::new(case, &case.name, self.precision, &options);
        match BuiltLayer::new(build, &options, case.seed, inverse) {
            Ok(layer) if self.only_values => run.values_of_layer(&layer),
            Ok(layer) => run.layer(&layer),
            Err(error) => run.not_built(&error),
        }
        let (outputs, failures) = run.end();
        self.record(&case.name, outputs, failures);
    }

    /// Runs every property over a distribution.
    ///
    /// `build` makes the distribution from a seeded generator; it is called several times.
    pub fn check_distribution<D, F>(&mut self, case: DistributionCase, build: F)
    where
        D: LogProb<B> + Sample<B> + AutodiffModule<B>,
        D::InnerModule: LogProb<B::InnerBackend> + Sample<B::InnerBackend>,
        F: Fn(TensorCreationOptions<B>, &mut dyn Rng) -> Result<D, Error>,
    {
        if !self.takes(&case.name) {
            return;
        }
        let _alone = exclusive();
        let options = self.options.clone();
        let mut run = Run::new(&case, &case.name, self.precision, &options);
        match Built::new(&build, &options, case.seed) {
            Ok(distribution) if self.only_values => run.values_of_distribution(&distribution),
            Ok(distribution) => run.distribution(&distribution),
            Err(error) => run.not_built(&error),
        }
        let (outputs, failures) = run.end();
        self.record(&case.name, outputs, failures);
    }

    /// Whether the next case, `name`, is in the part of this suite.
    fn takes(&mut self, name: &str) -> bool {
        let [index, of] = self.part;
        let number = self.names.len();
        if !self.names.insert(name.to_owned()) {
            let detail = "two cases have it, so that one hides the other".to_owned();
            self.fail(name, "a name of its own", detail);
        }
        number % of == index
    }

    fn record(&mut self, name: &str, outputs: Vec<f64>, mut failures: Vec<Failure>) {
        self.failures.append(&mut failures);
        self.outputs.insert(name.to_owned(), outputs);
    }

    fn fail(&mut self, name: &str, property: &str, detail: String) {
        self.failures.push(Failure {
            name: name.to_owned(),
            property: property.to_owned(),
            detail,
        });
    }

    /// What failed so far.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// Requires that another suite, on another backend, checked the same cases and computed the same
    /// values from the same seeds, to relative `tolerance`.
    pub fn agree_with<C: AutodiffBackend>(&mut self, other: &Suite<C>, tolerance: f64) {
        let names = self.outputs.keys().chain(other.outputs.keys());
        let names: BTreeSet<String> = names.cloned().collect();
        for name in names {
            let detail = match (self.outputs.get(&name), other.outputs.get(&name)) {
                (Some(ours), Some(theirs)) => {
                    let worst = relative_error(ours, theirs);
                    if ours.len() != theirs.len() {
                        format!("{} numbers against {}", ours.len(), theirs.len())
                    } else if worst.is_nan() || worst > tolerance {
                        format!("relative difference {worst:e}, allowed {tolerance:e}")
                    } else {
                        continue;
                    }
                }
                (Some(_), None) => "checked here, not on the other backend".to_owned(),
                (None, _) => "checked on the other backend, not here".to_owned(),
            };
            self.fail(&name, "backends agree", detail);
        }
    }

    /// Ends the suite.
    ///
    /// # Panics
    /// With one line for each failure, if there is one, and where nothing was checked.
    pub fn finish(self) {
        assert!(
            !self.outputs.is_empty(),
            "the conformance suite checked nothing"
        );
        let mut list = String::new();
        for failure in &self.failures {
            let Failure {
                name,
                property,
                detail,
            } = failure;
            let _ = writeln!(list, "  {name}: {property}: {detail}");
        }
        assert!(
            self.failures.is_empty(),
            "{} of the properties failed:\n{list}",
            self.failures.len()
        );
    }
}
