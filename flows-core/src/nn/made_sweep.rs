//! A masked network computed level by level, as variables become known.

use burn::tensor::{Tensor, backend::Backend};
use std::ops::Range;

use super::columns::indices;
use super::made::{Made, Wiring};
use super::network::Connections;
use crate::expand::{expand, product};

/// In which order the units of a [`Made`] become computable.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// The variables sorted by level.
    pub(crate) order: Vec<usize>,
    /// The sorted variables of each level.
    pub(crate) variables: Vec<Range<usize>>,
    /// For each hidden layer that is computed, its units of each level.
    pub(crate) groups: Vec<Vec<Range<usize>>>,
    /// The parameters, those of one level side by side: all of the first kind, then all of the second.
    pub(crate) parameters: Vec<usize>,
    kinds: usize,
}

impl Schedule {
    pub(crate) fn new<B: Backend>(made: &Made<B>) -> Self {
        let layout = &made.layout;
        let order = layout.mask().order();
        let variables = layout.mask().level_ranges();
        let wiring = Wiring::new(layout, made.network.connections);
        let groups = wiring.layers.iter().map(|&(_, to)| layout.groups(to));
        let mut parameters = Vec::with_capacity(made.parameters * order.len());
        for own in &variables {
            for p in 0..made.parameters {
                parameters.extend(order[own.clone()].iter().map(|&i| p * order.len() + i));
            }
        }
        Self {
            groups: groups.collect(),
            kinds: made.parameters,
            order,
            variables,
            parameters,
        }
    }

    /// Where in [`parameters`](Self::parameters) those of some sorted variables lie.
    pub(crate) fn parameters_of(&self, variables: &Range<usize>) -> Range<usize> {
        self.kinds * variables.start..self.kinds * variables.end
    }
}

/// One pass through a [`Made`], spread over the levels of its mask.
///
/// A hidden unit of level `t` reads variables of levels below `t` and units up to `t`. So at level `t`
/// exactly one group of units of each layer becomes computable, and each group is computed once:
/// all levels together cost one forward pass. Call [`parameters`](Self::parameters) and then
/// [`reveal`](Self::reveal) for one level after the other.
pub(crate) struct MadeSweep<'a, B: Backend> {
    made: &'a Made<B>,
    rows: usize,
    level: usize,
    /// Masked weights; the variables in the rows of the first layer and the parameters in the
    /// columns of the last one are sorted by level.
    weights: Vec<Tensor<B, 2>>,
    /// Bias and context of each layer.
    offsets: Vec<Tensor<B, 2>>,
    embedded: Option<Tensor<B, 2>>,
    /// What each layer has read so far: columns of units, sorted by level.
    inputs: Vec<Option<Tensor<B, 2>>>,
    schedule: Schedule,
}

impl<'a, B: Backend> MadeSweep<'a, B> {
    pub(crate) fn new(made: &'a Made<B>, rows: usize, context: Option<&Tensor<B, 2>>) -> Self {
        Self::with_first(made, made.first_weight(), rows, context)
    }

    /// The same with other weights in the layer that reads the variables.
    pub(crate) fn with_first(
        made: &'a Made<B>,
        first: Tensor<B, 2>,
        rows: usize,
        context: Option<&Tensor<B, 2>>,
    ) -> Self {
        let network = &made.network;
        let layers = || network.layers.iter().chain([&network.output]);
        let others = layers().skip(1).map(|layer| layer.weight());
        let mut weights: Vec<_> = [first].into_iter().chain(others).collect();
        let mut offsets: Vec<_> = layers().map(|layer| layer.offset(context)).collect();

        let schedule = Schedule::new(made);
        let device = weights[0].device();
        if !schedule.order.is_sorted() {
            weights[0] = weights[0]
                .clone()
                .select(0, indices(&schedule.order, &device));
        }
        let columns = indices(&schedule.parameters, &device);
        for tensor in [weights.last_mut(), offsets.last_mut()]
            .into_iter()
            .flatten()
        {
            *tensor = tensor.clone().select(1, columns.clone());
        }
        Self {
            rows,
            level: 0,
            inputs: vec![None; weights.len()],
            embedded: network.embed(context),
            made,
            weights,
            offsets,
            schedule,
        }
    }

    /// The variables sorted by level, and the ranges of the levels among them.
    pub(crate) fn variables(&self) -> &[Range<usize>] {
        &self.schedule.variables
    }

    /// The parameters of the variables of this level, `[batch, parameters * variables]`, all of the
    /// first kind, then all of the second.
    pub(crate) fn parameters(&mut self) -> Tensor<B, 2> {
        let (network, t) = (&self.made.network, self.level);
        let act = network.activation;
        let last = network.layers.len();
        match network.connections {
            Connections::Plain => {
                for l in 0..last {
                    if let Some(a) = self.group(l, self.schedule.groups[l][t].clone()) {
                        self.append(l + 1, act.apply(a));
                    }
                }
            }
            Connections::Residual if last > 0 => {
                let stream = self.schedule.groups[0][t].clone();
                let mut h = self.group(0, stream.clone());
                if let (Some(h), Some(embedded)) = (&mut h, &self.embedded) {
                    *h = h.clone() + columns(embedded.clone(), stream.clone());
                }
                for l in (1..last).step_by(2) {
                    if let Some(h) = &h {
                        self.append(l, act.apply(h.clone()));
                    }
                    if let Some(inner) = self.group(l, self.schedule.groups[l][t].clone()) {
                        self.append(l + 1, act.apply(inner));
                    }
                    if let (Some(h), Some(change)) = (&mut h, self.group(l + 1, stream.clone())) {
                        *h = h.clone() + change;
                    }
                }
                if let Some(h) = h {
                    self.append(last, h);
                }
            }
            Connections::Residual => {}
        }
        let own = &self.schedule.variables[t];
        self.group(last, self.schedule.parameters_of(own))
            .expect("every level has variables")
    }

    /// Takes in the variables of this level, `[batch, variables]`, and goes on to the next.
    pub(crate) fn reveal(&mut self, x: Tensor<B, 2>) {
        self.append(0, x);
        self.level += 1;
    }

    /// Units `units` of layer `layer`, from what it has read so far; none if there are no such units.
    fn group(&self, layer: usize, units: Range<usize>) -> Option<Tensor<B, 2>> {
        if units.is_empty() {
            return None;
        }
        let offset = columns(self.offsets[layer].clone(), units.clone());
        Some(match &self.inputs[layer] {
            Some(input) => {
                let read = input.dims()[1];
                let weight = self.weights[layer].clone().slice([0..read, units]);
                product(input.clone(), weight) + offset
            }
            None => {
                let width = units.len();
                expand(offset, [self.rows, width])
            }
        })
    }

    fn append(&mut self, layer: usize, units: Tensor<B, 2>) {
        let input = &mut self.inputs[layer];
        *input = Some(match input.take() {
            Some(known) => Tensor::cat(vec![known, units], 1),
            None => units,
        });
    }

    /// All variables revealed, sorted by level, `[batch, dim]`.
    pub(crate) fn into_sorted(self) -> Tensor<B, 2> {
        let sorted = self.inputs.into_iter().next().flatten();
        sorted.expect("all levels revealed")
    }
}

fn columns<B: Backend>(x: Tensor<B, 2>, range: Range<usize>) -> Tensor<B, 2> {
    let rows = x.dims()[0];
    x.slice([0..rows, range])
}
