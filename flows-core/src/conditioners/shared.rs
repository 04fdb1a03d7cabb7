//! One network for the parameters of all variables, asked for one variable at a time.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};

use super::conditioner::Conditioner;
use crate::error::Error;
use crate::masks::DependencyMask;
use crate::nn::{SharedNetwork, entries};

const NAME: &str = "shared autoregressive";

/// The parameters of variable `i` as `f([m_i * x ; e_i], context)`, with one network `f` on the input that row `m_i` of a
/// mask leaves visible; see [`SharedNetwork`].
///
/// Forward evaluates `f` once for each variable; any mask will do, however small the network. The incremental inverse
/// asks, level by level, for the parameters of the variables that become computable: each once, so it costs one pass
/// as well.
#[derive(Module, Debug)]
pub struct Shared<B: Backend> {
    network: SharedNetwork<B>,
    /// 0 or 1, `[dim, dim]`.
    entries: Tensor<B, 2>,
    #[module(skip)]
    mask: DependencyMask,
}

impl<B: Backend> Shared<B> {
    /// A conditioner with a given network.
    ///
    /// # Errors
    /// [`Error::Config`] where network and mask are of different dimensions.
    pub fn new(network: SharedNetwork<B>, mask: DependencyMask) -> Result<Self, Error> {
        if network.dim() != mask.dim() {
            let expected = mask.dim().to_string();
            return Err(Error::config(NAME, "dim", network.dim(), expected));
        }
        Ok(Self {
            entries: entries(&mask, network.options()),
            network,
            mask,
        })
    }
}

impl<B: Backend> Conditioner<B> for Shared<B> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn context_dim(&self) -> usize {
        self.network.context_dim()
    }

    fn parameters(&self) -> usize {
        self.network.parameters()
    }

    fn mask(&self) -> &DependencyMask {
        &self.mask
    }

    fn all(&self, x: Tensor<B, 2>, context: Option<&Tensor<B, 2>>) -> Tensor<B, 2> {
        self.network.forward(x, self.entries.clone(), None, context)
    }

    fn some(
        &self,
        variables: &[usize],
        x: Tensor<B, 2>,
        context: Option<&Tensor<B, 2>>,
    ) -> Tensor<B, 2> {
        self.network
            .forward(x, self.entries.clone(), Some(variables), context)
    }
}
