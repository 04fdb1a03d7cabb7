//! The conformance suite: every property a layer must have, run over any layer.
//!
//! For the layers of this crate and for layers of your own. A [`Suite`] fixes backend and
//! precision; [`Suite::check`] runs every property that applies on a layer; [`Suite::finish`]
//! panics with the list of failures, each naming layer and property.
//!
//! ```
//! use burn::backend::{Autodiff, Flex};
//! use flows_core::bijectors::ElementwiseAffineConfig;
//! use flows_core::testing::{Case, Precision, Suite};
//!
//! let mut suite = Suite::<Autodiff<Flex>>::new(&Default::default(), Precision::SINGLE);
//! suite.check(Case::new("elementwise affine"), |device, rng| {
//!     ElementwiseAffineConfig::new(3).init(device, rng)
//! });
//! suite.finish();
//! ```
//!
//! Tests in f64 belong in a binary of their own that first calls
//! `burn::tensor::set_default_dtypes`: the default float type of a device is fixed on first use.

mod case;
mod differentiate;
mod layer;
mod numbers;
mod panics;
mod properties;
mod visits;

pub use case::{Case, Dependencies, Precision};
pub use differentiate::{central_difference, gradients, jacobians, slog_det};
pub use numbers::{batch, normal_batch, relative_error, residual, rows, uniform_batch};
pub use visits::Probe;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use burn::module::AutodiffModule;
use burn::tensor::backend::AutodiffBackend;
use rand::Rng;

use crate::autodiff::exclusive;
use crate::bijector::{Bijector, Invert};
use crate::error::Error;
use layer::{Built, Invertible, Layer};

/// One property that did not hold.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Layer under test.
    pub layer: String,
    /// Property that failed.
    pub property: String,
    /// What was seen and what was expected.
    pub detail: String,
}

/// Runs the properties over layers on one backend and collects what fails.
#[derive(Debug)]
pub struct Suite<B: AutodiffBackend> {
    device: B::Device,
    precision: Precision,
    failures: Vec<Failure>,
    outputs: BTreeMap<String, Vec<f64>>,
}

impl<B: AutodiffBackend> Suite<B> {
    /// A suite on `device`, with the tolerances of `precision`.
    pub fn new(device: &B::Device, precision: Precision) -> Self {
        Self {
            device: device.clone(),
            precision,
            failures: Vec::new(),
            outputs: BTreeMap::new(),
        }
    }

    /// Runs every property over an invertible layer.
    ///
    /// `build` makes the layer from a seeded generator; it is called several times.
    pub fn check<L, F>(&mut self, case: Case, build: F)
    where
        L: Invert<B> + AutodiffModule<B>,
        L::InnerModule: Bijector<B::InnerBackend>,
        F: Fn(&B::Device, &mut dyn Rng) -> Result<L, Error>,
    {
        let _alone = exclusive();
        let device = self.device.clone();
        match Built::new(&build, &device, case.seed) {
            Ok(layer) => self.run(&case, &layer, Some(&layer)),
            Err(error) => self.not_built(&case, &error),
        }
    }

    /// Runs the properties that need no inverse over a layer without one.
    pub fn check_forward_only<L, F>(&mut self, case: Case, build: F)
    where
        L: Bijector<B> + AutodiffModule<B>,
        L::InnerModule: Bijector<B::InnerBackend>,
        F: Fn(&B::Device, &mut dyn Rng) -> Result<L, Error>,
    {
        let _alone = exclusive();
        let device = self.device.clone();
        match Built::new(&build, &device, case.seed) {
            Ok(layer) => self.run(&case, &layer, None),
            Err(error) => self.not_built(&case, &error),
        }
    }

    fn run(&mut self, case: &Case, layer: &dyn Layer<B>, with_inverse: Option<&dyn Invertible<B>>) {
        let mut run = properties::Run::new(case, self.precision, &self.device);
        run.forward_properties(layer);
        if let Some(layer) = with_inverse {
            run.inverse_properties(layer);
        }
        self.outputs.insert(case.name.clone(), run.outputs());
        self.failures.append(&mut run.into_failures());
    }

    fn not_built(&mut self, case: &Case, error: &Error) {
        self.failures.push(Failure {
            layer: case.name.clone(),
            property: "builds from its configuration".to_owned(),
            detail: error.to_string(),
        });
    }

    /// What failed so far.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// Requires that another suite, on another backend, computed the same values from the same
    /// seeds, to relative `tolerance`.
    pub fn agree_with<C: AutodiffBackend>(&mut self, other: &Suite<C>, tolerance: f64) {
        for (layer, ours) in &self.outputs {
            let Some(theirs) = other.outputs.get(layer) else {
                continue;
            };
            let worst = relative_error(ours, theirs);
            if worst.is_nan() || worst > tolerance || ours.len() != theirs.len() {
                self.failures.push(Failure {
                    layer: layer.clone(),
                    property: "backends agree".to_owned(),
                    detail: format!("relative difference {worst:e}, allowed {tolerance:e}"),
                });
            }
        }
    }

    /// Number of layers checked.
    pub fn layers(&self) -> usize {
        self.outputs.len()
    }

    /// Ends the suite.
    ///
    /// # Panics
    /// With one line for each failure, if there is one, and where no layer was checked.
    pub fn finish(self) {
        assert!(
            !self.outputs.is_empty(),
            "the conformance suite checked no layer"
        );
        let mut list = String::new();
        for failure in &self.failures {
            let Failure {
                layer,
                property,
                detail,
            } = failure;
            let _ = writeln!(list, "  {layer}: {property}: {detail}");
        }
        assert!(
            self.failures.is_empty(),
            "{} of the properties failed:\n{list}",
            self.failures.len()
        );
    }
}
