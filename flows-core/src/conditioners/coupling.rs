//! Variables that stay as they are, and a plain network that reads them: RealNVP and NICE.

use std::sync::{Arc, OnceLock};

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};

use super::conditioner::Conditioner;
use crate::error::Error;
use crate::fused::plan::Patterns;
use crate::masks::{DependencyMask, MaskConfig, Untouched};
use crate::nn::{Mlp, Network};
use crate::state::Transient;

const NAME: &str = "coupling";

/// The parameters of the moved variables from those that are left as they are, all at once.
///
/// Both directions of the layer take one pass (Dinh et al., RealNVP, arXiv:1605.08803, eq. 7 and 8). The untouched
/// variables come through bit by bit, so layers alternate between halves or stand between permutations.
#[derive(Module, Debug)]
pub struct Coupling<B: Backend> {
    network: Mlp<B>,
    /// The untouched variables as listed, then the others.
    #[module(skip)]
    order: Vec<usize>,
    #[module(skip)]
    mask: DependencyMask,
    untouched: usize,
    /// Blocks of each weight matrix, for the kernels; made when first asked for.
    #[module(skip)]
    patterns: Transient<Arc<OnceLock<Arc<Patterns>>>>,
}

impl<B: Backend> Coupling<B> {
    /// A conditioner with a given network, which reads the untouched variables as listed and gives the first parameter
    /// of all moved variables, then the second.
    ///
    /// # Errors
    /// [`Error::Config`] where the sizes of the network do not fit, and as [`Untouched::variables`].
    pub fn new(network: Mlp<B>, dim: usize, untouched: &Untouched) -> Result<Self, Error> {
        Self::reading(1, network, dim, untouched)
    }

    /// The same where the network reads each untouched variable by several numbers.
    pub(super) fn reading(
        numbers: usize,
        network: Mlp<B>,
        dim: usize,
        untouched: &Untouched,
    ) -> Result<Self, Error> {
        let mut order = untouched.variables(dim)?;
        let mask = MaskConfig::Coupling(untouched.clone()).build(dim)?;
        let seen = order.len();
        order.extend((0..dim).filter(|&i| mask.levels()[i] > 0));
        let moved = dim - seen;
        if network.inputs() != numbers * seen || !network.outputs().is_multiple_of(moved) {
            let actual = format!("{} to {}", network.inputs(), network.outputs());
            let expected = format!(
                "{} inputs, and as many outputs for each of {moved} variables",
                numbers * seen
            );
            return Err(Error::config(NAME, "network", actual, expected));
        }
        Ok(Self {
            network,
            order,
            mask,
            untouched: seen,
            patterns: Transient::default(),
        })
    }
}

impl<B: Backend> Coupling<B> {
    pub(crate) fn network(&self) -> &Network<B> {
        self.network.network()
    }

    /// The untouched variables as listed, then the others.
    pub(crate) fn sorted(&self) -> &[usize] {
        &self.order
    }

    /// The blocks of the weights of each linear layer, for the kernels.
    pub(crate) fn patterns(&self) -> &Arc<Patterns> {
        let parameters = Conditioner::parameters(self);
        let made = || Arc::new(self.network.patterns(parameters));
        self.patterns.0.get_or_init(made)
    }
}

impl<B: Backend> Conditioner<B> for Coupling<B> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn context_dim(&self) -> usize {
        self.network.context_dim()
    }

    fn parameters(&self) -> usize {
        self.network.outputs() / (self.order.len() - self.untouched)
    }

    fn mask(&self) -> &DependencyMask {
        &self.mask
    }

    fn order(&self) -> Vec<usize> {
        self.order.clone()
    }

    fn untouched(&self) -> usize {
        self.untouched
    }

    fn all(&self, x: Tensor<B, 2>, context: Option<&Tensor<B, 2>>) -> Tensor<B, 2> {
        self.network.forward(x, context)
    }
}
