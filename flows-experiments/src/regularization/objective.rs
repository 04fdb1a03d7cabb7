//! The loss of a flow of DDNF blocks with its regularizers.

use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use flows_core::bijector::Bijector;
use flows_core::bijectors::{Stack, trajectories};
use flows_core::distributions::{LogProb, Sample};
use flows_core::regularizers::{Regularizers, field_norm, inverse_consistency};
use flows_models::{BaseToDataFlow, DataToBaseFlow};

use crate::targets::SampleSet;
use crate::toy::{ReverseKl, points};
use flows_train::{Loss, Objective, Step};

/// `F + lambda_geo R_geo + lambda_inv R_inv` (arXiv:1810.03256) and the norm of the fields, each a term: `fit`, and
/// `geodesic`, `inverse` and `field norm` where they have a weight.
///
/// `F` is the objective of a plain run: the negative log-likelihood of data, which the blocks move to
/// the base, or the free energy of an energy, to which they move the base.
#[derive(Debug, Clone)]
pub struct Regularized<F> {
    /// What is fitted.
    pub fit: F,
    /// The penalties, for stationary fields.
    pub regularizers: Regularizers,
    /// Rows that the terms of paths are averaged over, the first of the batch; all if `None`.
    pub path_rows: Option<usize>,
}

impl<F> Regularized<F> {
    /// The loss and its terms, for a batch that starts at `start` and ends at `end`.
    fn add<B: AutodiffBackend>(
        &self,
        fit: Tensor<B, 1>,
        layers: &Stack<B>,
        start: Tensor<B, 2>,
        end: Tensor<B, 2>,
    ) -> Loss<B> {
        let Regularizers {
            geodesic,
            reading,
            metric,
            inverse_consistency: inverse,
            field_norm: norm,
            jacobian,
        } = &self.regularizers;
        let mut loss = fit.clone();
        let mut terms = vec![("fit", fit)];
        if *geodesic > 0.0 || *norm > 0.0 {
            let rows = start.dims()[0];
            let rows = self.path_rows.map_or(rows, |some| some.min(rows));
            let path = trajectories(layers.layers(), start.clone().narrow(0, 0, rows), None);
            if *geodesic > 0.0 {
                let penalty = reading.penalty(&path.blocks, metric);
                loss = loss + penalty.clone() * *geodesic;
                terms.push(("geodesic", penalty));
            }
            if *norm > 0.0 {
                let penalty = field_norm(layers.layers(), &path.blocks, None, *jacobian);
                loss = loss + penalty.clone() * *norm;
                terms.push(("field norm", penalty));
            }
        }
        if *inverse > 0.0 {
            let penalty = inverse_consistency(layers.layers(), start, end, None);
            let penalty = penalty.expect("the configuration has stationary fields only");
            loss = loss + penalty.clone() * *inverse;
            terms.push(("inverse", penalty));
        }
        Loss::new(loss).with_terms(terms)
    }
}

impl<B: AutodiffBackend> Objective<B, DataToBaseFlow<B>> for Regularized<&'static dyn SampleSet> {
    fn loss(&mut self, model: &DataToBaseFlow<B>, at: &Step<'_, B>) -> Loss<B> {
        let start = points(
            &self.fit.sample(at.batch, &mut at.rng("batch")),
            &at.options.device,
        );
        let end = model.bijector().forward_and_log_det(start.clone(), None);
        let log_prob = model.base().log_prob(end.value.clone(), None) + end.log_det;
        self.add(log_prob.mean().neg(), model.bijector(), start, end.value)
    }

    fn before_step(&mut self, model: &mut DataToBaseFlow<B>, at: &Step<'_, B>) {
        model.visit_layers(&mut at.resample_noise());
    }
}

impl<B: AutodiffBackend> Objective<B, BaseToDataFlow<B>> for Regularized<ReverseKl> {
    fn loss(&mut self, model: &BaseToDataFlow<B>, at: &Step<'_, B>) -> Loss<B> {
        let rng = &mut at.rng("batch");
        let (start, log_base) = model.base().sample_and_log_prob(at.batch, None, rng);
        let end = model.bijector().forward_and_log_det(start.clone(), None);
        let free_energy = self
            .fit
            .free_energy(at, end.value.clone(), log_base - end.log_det)
            .mean();
        self.add(free_energy, model.bijector(), start, end.value)
    }

    fn before_step(&mut self, model: &mut BaseToDataFlow<B>, at: &Step<'_, B>) {
        model.visit_layers(&mut at.resample_noise());
    }
}
