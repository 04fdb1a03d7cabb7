//! Stages that let go of some dimensions on the way.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use core::marker::PhantomData;

use super::nested::Nested;
use crate::bijector::{Bijector, Invert, Mapped, assert_ok, context_for, shared_context_dim};
use crate::domain::Interval;
use crate::error::Error;
use crate::visit::LayerVisit;

const NAME: &str = "multi-scale";

/// `(z_k, h_k) = f_k(h_(k-1))` with `h_0 = x` and `y = (z_1, .., z_n)`, the last stage letting go of
/// everything: `log|det J| = sum_k log|det J_(f_k)|`.
///
/// The multi-scale architecture of RealNVP (Dinh et al., arXiv:1605.08803, section 3.6, eq. 13 to 16): stage
/// `k` maps what is left, its first columns are done, and the rest goes on to the next stage, so that later
/// stages cost less. As many columns are let go of as the next stage has fewer. A permutation at the end of
/// a stage chooses which.
#[derive(Module, Debug)]
pub struct MultiScale<B: Backend, L> {
    stages: Nested<Vec<L>>,
    backend: PhantomData<B>,
}

impl<B: Backend, L: Bijector<B>> MultiScale<B, L> {
    /// Stages of falling dimension, the first one applied first.
    ///
    /// # Errors
    /// [`Error::Config`] without stages, where a stage has no fewer columns than the one before, and
    /// where context dimensions differ.
    pub fn new(stages: Vec<L>) -> Result<Self, Error> {
        if stages.is_empty() {
            return Err(Error::config(NAME, "stages", 0, "at least one stage"));
        }
        let mut context_dim = 0;
        for stage in &stages {
            context_dim = shared_context_dim(NAME, context_dim, stage.context_dim())?;
        }
        for pair in stages.windows(2) {
            let (before, after) = (pair[0].dim(), pair[1].dim());
            if after >= before {
                let expected = format!("less than {before}, the dimension of the stage before");
                return Err(Error::config(NAME, "dim", after, expected));
            }
        }
        let whole = Self {
            stages: Nested(stages),
            backend: PhantomData,
        };
        whole.image(&whole.domain())?;
        Ok(whole)
    }

    /// The stages, the first one applied first.
    pub fn stages(&self) -> &[L] {
        &self.stages.0
    }

    /// Columns that each stage lets go of.
    fn leaving(&self) -> Vec<usize> {
        let dims = self.stages.0.iter().map(L::dim);
        let next = dims.clone().skip(1).chain([0]);
        dims.zip(next).map(|(dim, next)| dim - next).collect()
    }

    /// Undoes [`through`], the last stage first.
    fn back(
        &self,
        y: Tensor<B, 2>,
        mut apply: impl FnMut(usize, Tensor<B, 2>) -> Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        let rows = y.dims()[0];
        let mut end = self.dim();
        let mut left: Option<Tensor<B, 2>> = None;
        for (k, leaving) in self.leaving().into_iter().enumerate().rev() {
            let own = y.clone().slice([0..rows, end - leaving..end]);
            end -= leaving;
            let mapped = match left.take() {
                Some(rest) => Tensor::cat(vec![own, rest], 1),
                None => own,
            };
            left = Some(apply(k, mapped));
        }
        left.expect("at least one stage")
    }
}

/// Applies stage after stage to what is left, where stage `k` lets go of `leaving[k]` columns.
fn through<B: Backend>(
    leaving: &[usize],
    x: Tensor<B, 2>,
    mut apply: impl FnMut(usize, Tensor<B, 2>) -> Tensor<B, 2>,
) -> Tensor<B, 2> {
    let mut left = x;
    let mut done = Vec::new();
    for (k, &leaving) in leaving.iter().enumerate() {
        let [rows, dim] = left.dims();
        let mapped = apply(k, left.clone());
        done.push(mapped.clone().slice([0..rows, 0..leaving]));
        if leaving < dim {
            left = mapped.slice([0..rows, leaving..dim]);
        }
    }
    Tensor::cat(done, 1)
}

/// The first `columns` of every chunk, and the others.
fn split_all<B: Backend>(
    chunks: Vec<Tensor<B, 2>>,
    columns: usize,
) -> (Vec<Tensor<B, 2>>, Vec<Tensor<B, 2>>) {
    let split = |chunk: Tensor<B, 2>| {
        let [rows, dim] = chunk.dims();
        let first = chunk.clone().slice([0..rows, 0..columns]);
        (first, chunk.slice([0..rows, columns..dim]))
    };
    chunks.into_iter().map(split).unzip()
}

/// Undoes [`split_all`]: the columns that each stage let go of, then those left.
fn join_all<B: Backend>(done: &[Vec<Tensor<B, 2>>], left: Vec<Tensor<B, 2>>) -> Vec<Tensor<B, 2>> {
    let columns = |(chunk, left): (usize, Tensor<B, 2>)| {
        let done = done.iter().map(|stage| stage[chunk].clone());
        Tensor::cat(done.chain([left]).collect(), 1)
    };
    left.into_iter().enumerate().map(columns).collect()
}

/// Adds to a sum that begins with nothing.
fn add<B: Backend>(sum: &mut Option<Tensor<B, 1>>, term: Tensor<B, 1>) {
    *sum = Some(match sum.take() {
        Some(sum) => sum + term,
        None => term,
    });
}

impl<B: Backend, L: Bijector<B>> Bijector<B> for MultiScale<B, L> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn dim(&self) -> usize {
        self.stages.0[0].dim()
    }

    fn context_dim(&self) -> usize {
        self.stages.0.iter().map(L::context_dim).max().unwrap_or(0)
    }

    fn domain(&self) -> Vec<Interval> {
        self.stages.0[0].domain()
    }

    fn image(&self, of: &[Interval]) -> Result<Vec<Interval>, Error> {
        let (mut left, mut done) = (of.to_vec(), Vec::new());
        for (stage, leaving) in self.stages.0.iter().zip(self.leaving()) {
            left = stage.image(&left)?;
            done.extend(left.drain(..leaving));
        }
        Ok(done)
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&x, context.as_ref()));
        let mut log_det = None;
        let value = through(&self.leaving(), x, |k, x| {
            let stage = &self.stages.0[k];
            let mapped = stage.forward_and_log_det(x, context_for(stage, &context));
            add(&mut log_det, mapped.log_det);
            mapped.value
        });
        let log_det = log_det.expect("at least one stage");
        Mapped { value, log_det }
    }

    fn forward(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        assert_ok(self.check(&x, context.as_ref()));
        through(&self.leaving(), x, |k, x| {
            let stage = &self.stages.0[k];
            stage.forward(x, context_for(stage, &context))
        })
    }

    fn visit_layers(&mut self, visit: &mut LayerVisit<B>) {
        let leaving = self.leaving();
        // Of each stage but the last, the columns that every chunk lets go of there.
        let mut done: Vec<Vec<Tensor<B, 2>>> = Vec::new();
        for (k, stage) in self.stages.0.iter_mut().enumerate() {
            if k > 0 {
                visit.map_rows(|chunks| {
                    let (own, left) = split_all(chunks, leaving[k - 1]);
                    done.push(own);
                    left
                });
            }
            visit.part(k, |visit| stage.visit_layers(visit));
        }
        visit.map_rows(|left| join_all(&done, left));
    }
}

impl<B: Backend, L: Invert<B>> Invert<B> for MultiScale<B, L> {
    fn inverse_image(&self, of: &[Interval]) -> Result<Vec<Interval>, Error> {
        let (mut end, mut left) = (of.len(), Vec::new());
        for (stage, leaving) in self.stages.0.iter().zip(self.leaving()).rev() {
            let own = [&of[end - leaving..end], &left].concat();
            end -= leaving;
            left = stage.inverse_image(&own)?;
        }
        Ok(left)
    }

    fn visit_layers_inverse(&mut self, visit: &mut LayerVisit<B>) {
        let last = self.stages.0.len() - 1;
        let mut done: Vec<Vec<Tensor<B, 2>>> = Vec::new();
        for &leaving in &self.leaving()[..last] {
            visit.map_rows(|chunks| {
                let (own, left) = split_all(chunks, leaving);
                done.push(own);
                left
            });
        }
        for (k, stage) in self.stages.0.iter_mut().enumerate().rev() {
            visit.part(k, |visit| stage.visit_layers_inverse(visit));
            if k > 0 {
                let own: Vec<_> = done.pop().into_iter().collect();
                visit.map_rows(|left| join_all(&own, left));
            }
        }
    }

    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&y, context.as_ref()));
        let mut log_det = None;
        let value = self.back(y, |k, y| {
            let stage = &self.stages.0[k];
            let mapped = stage.inverse_and_log_det(y, context_for(stage, &context));
            add(&mut log_det, mapped.log_det);
            mapped.value
        });
        let log_det = log_det.expect("at least one stage");
        Mapped { value, log_det }
    }

    fn inverse(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        assert_ok(self.check(&y, context.as_ref()));
        self.back(y, |k, y| {
            let stage = &self.stages.0[k];
            stage.inverse(y, context_for(stage, &context))
        })
    }

    fn inverse_and_passes(
        &self,
        y: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (Mapped<B>, usize) {
        assert_ok(self.check(&y, context.as_ref()));
        let (mut log_det, mut passes) = (None, 0);
        let value = self.back(y, |k, y| {
            let stage = &self.stages.0[k];
            let (mapped, own) = stage.inverse_and_passes(y, context_for(stage, &context));
            add(&mut log_det, mapped.log_det);
            passes += own;
            mapped.value
        });
        let log_det = log_det.expect("at least one stage");
        (Mapped { value, log_det }, passes)
    }
}
