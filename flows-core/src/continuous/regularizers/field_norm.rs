//! The norm of the fields along the paths.

use burn::tensor::{Tensor, TensorData, backend::Backend};

use crate::bijector::{Bijector, context_for};
use crate::continuous::time_field::{TimeField, unit_tangents};
use crate::continuous::{AsDdnfBlock, DdnfBlock, Trajectory};

/// `E[ sum_k sum_t (|v^k(z_{k,t})|^2 + a |J_{v^k}(z_{k,t})|_F^2) / T ]` over the steps `t = 0..T` of the blocks `k`, the
/// mean over the batch: the squared norm of the fields in `H^1`, seen along the paths.
///
/// Flows of fields in the Sobolev space `H^s` are diffeomorphisms for `s > dim / 2 + 1`, and the integral of
/// `|v_t|_{H^s}^2` over time is the energy that geodesics of the group of diffeomorphisms minimise (arXiv:1810.03256,
/// section 2). With `a = 0` it is the [`path_energy`](super::path_energy), which sees how far rows move and not how much
/// the field shears what lies beside them.
///
/// # Shapes
/// - `paths`: of the blocks among `layers`, the first one first; `context`: `[batch, context_dim]`; output `[1]`
///
/// # Panics
/// Without a path.
pub fn field_norm<B: Backend, L: Bijector<B> + AsDdnfBlock<B>>(
    layers: &[L],
    paths: &[Trajectory<B>],
    context: Option<&Tensor<B, 2>>,
    a: f64,
) -> Tensor<B, 1> {
    let blocks = layers.iter().filter_map(|layer| layer.as_ddnf_block());
    let of_block = |(block, path): (&DdnfBlock<B>, &Trajectory<B>)| {
        let cells = path.cells();
        let z = Tensor::cat(path.states[..cells].to_vec(), 0);
        let n = path.states[0].dims()[0];
        let times = (0..cells).flat_map(|cell| vec![cell as f64 / cells as f64; n]);
        let times = TensorData::new(times.collect(), [cells * n, 1]);
        let t = Tensor::from_data(times, (&z.device(), z.dtype()));
        let own = context_for(block, &context.cloned());
        let own = own.map(|context| Tensor::cat(vec![context; cells], 0));
        let field = block.field().bind(own, 1.0);
        let (velocity, columns) = field.jvps(z.clone(), t, unit_tangents(&z));
        let squared: Tensor<B, 1> = columns.square().sum_dims_squeeze(&[0, 2]);
        (velocity.square().sum_dim(1).squeeze_dim(1) + squared * a).mean()
    };
    let sum = blocks
        .zip(paths)
        .map(of_block)
        .reduce(|sum, next| sum + next);
    sum.expect("at least one path")
}
