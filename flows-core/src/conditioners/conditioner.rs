//! What a conditioner is.

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Tensor, backend::Backend};

use crate::masks::DependencyMask;
use crate::nn::{pick, unsort};
use crate::visit::Task;

/// The parameters of each variable, computed from the variables that it may see and from a context.
///
/// A conditioner may leave the variables of the first level *untouched*; the layer has parameters for the others only.
pub trait Conditioner<B: Backend>: Module<B> + ModuleDisplay + 'static {
    /// Name of a layer with this conditioner, used in error messages.
    fn name(&self) -> &'static str;

    /// Columns of the context, 0 for none.
    fn context_dim(&self) -> usize;

    /// Parameters of each variable.
    fn parameters(&self) -> usize;

    /// Which variables the parameters of each variable may see.
    fn mask(&self) -> &DependencyMask;

    /// The variables by level, those of a level side by side: an inverse makes one level known after the other.
    fn order(&self) -> Vec<usize> {
        self.mask().order()
    }

    /// How many variables are left as they are: 0, or those of the first level.
    fn untouched(&self) -> usize {
        0
    }

    /// The parameters of all variables that are not untouched, from all variables or, where there are any, from the
    /// untouched ones.
    ///
    /// # Shapes
    /// - `x`: `[batch, dim]`, or `[batch, untouched]` in their [`order`](Self::order); `context`: `[batch, context_dim]`
    /// - output: `[batch, parameters * k]` for `k` variables, all of the first kind, then all of the second; without
    ///   untouched variables in their own order, otherwise in that of [`order`](Self::order)
    fn all(&self, x: Tensor<B, 2>, context: Option<&Tensor<B, 2>>) -> Tensor<B, 2>;

    /// The same for some variables only. Override where that saves work.
    fn some(
        &self,
        variables: &[usize],
        x: Tensor<B, 2>,
        context: Option<&Tensor<B, 2>>,
    ) -> Tensor<B, 2> {
        pick_parameters(self, variables, x, context)
    }

    /// The parameters level by level, for a batch of the shape of `y` whose variables become known one level after the
    /// other. Override where what was computed once need not be computed again.
    fn by_level<'a>(
        &'a self,
        y: &Tensor<B, 2>,
        context: Option<&'a Tensor<B, 2>>,
    ) -> Box<dyn ByLevel<B> + 'a> {
        repeated(self, y, context)
    }

    /// Does its part of a task that a visit of the layers brings along, see
    /// [`Bijector::adapt`](crate::bijector::Bijector::adapt).
    fn adapt(&mut self, _task: Task<'_, B>) {}
}

/// Those of all, but for some variables.
pub(super) fn pick_parameters<B: Backend, C: Conditioner<B>>(
    conditioner: &C,
    variables: &[usize],
    x: Tensor<B, 2>,
    context: Option<&Tensor<B, 2>>,
) -> Tensor<B, 2> {
    let dim = x.dims()[1];
    let kinds = 0..conditioner.parameters();
    let columns = kinds.flat_map(|p| variables.iter().map(move |&i| p * dim + i));
    pick(
        conditioner.all(x, context),
        &columns.collect::<Vec<usize>>(),
    )
}

/// The network is evaluated for each level anew.
pub(super) fn repeated<'a, B: Backend, C: Conditioner<B>>(
    conditioner: &'a C,
    y: &Tensor<B, 2>,
    context: Option<&'a Tensor<B, 2>>,
) -> Box<dyn ByLevel<B> + 'a> {
    Box::new(Repeated {
        conditioner,
        order: conditioner.order(),
        levels: conditioner.mask().variables_by_level(),
        unknown: y.zeros_like(),
        known: Vec::new(),
        context,
    })
}

/// A batch whose variables become known level by level.
pub trait ByLevel<B: Backend> {
    /// The parameters of the variables of the present level, `[batch, parameters * variables]`, all of the first kind,
    /// then all of the second.
    fn parameters(&mut self) -> Tensor<B, 2>;

    /// Takes in the variables of the present level, `[batch, variables]`, and goes on to the next.
    fn reveal(&mut self, x: Tensor<B, 2>);

    /// All variables in the conditioner's order, once every level is known, `[batch, dim]`.
    fn known(self: Box<Self>) -> Tensor<B, 2>;
}

struct Repeated<'a, B: Backend, C> {
    conditioner: &'a C,
    order: Vec<usize>,
    levels: Vec<Vec<usize>>,
    /// Zeros, `[batch, dim]`: what is not known yet is masked, and any finite number does in its place.
    unknown: Tensor<B, 2>,
    known: Vec<Tensor<B, 2>>,
    context: Option<&'a Tensor<B, 2>>,
}

impl<B: Backend, C: Conditioner<B>> ByLevel<B> for Repeated<'_, B, C> {
    fn parameters(&mut self) -> Tensor<B, 2> {
        let [rows, dim] = self.unknown.dims();
        let count = self.known.iter().map(|x| x.dims()[1]).sum();
        let rest = self.unknown.clone().slice([0..rows, count..dim]);
        let x = Tensor::cat([self.known.clone(), vec![rest]].concat(), 1);
        let level = &self.levels[self.known.len()];
        self.conditioner
            .some(level, unsort(x, &self.order), self.context)
    }

    fn reveal(&mut self, x: Tensor<B, 2>) {
        self.known.push(x);
    }

    fn known(self: Box<Self>) -> Tensor<B, 2> {
        Tensor::cat(self.known, 1)
    }
}
