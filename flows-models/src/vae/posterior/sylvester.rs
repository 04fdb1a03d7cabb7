//! Sylvester maps with parameters from the encoder.

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, backend::Backend};
use flows_core::bijectors::sylvester::{Basis, Parameters, orthonormalize, reflections};
use flows_core::error::Error;
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::planar::{GAIN, INIT_STD};
use super::{PosteriorConfig, Size};
use crate::vae::linear::Linear;

/// How `Q` is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Orthogonal { columns: usize },
    Householder { reflections: usize },
    Triangular,
}

/// `R1`, `R2`, `b` and what `Q` is computed from, of every map, linear in `h`.
#[derive(Module, Debug)]
pub struct AmortizedSylvester<B: Backend> {
    maps: Vec<Parts<B>>,
    #[module(skip)]
    kind: Kind,
    latent: usize,
}

/// What makes the numbers of one map. One map of `h` a part: cut out of a single large one, each part
/// would have a gradient of the size of the whole.
#[derive(Module, Debug)]
struct Parts<B: Backend> {
    /// `m^2`: `R1` above the diagonal, the transpose of `R2` below it.
    full: Linear<B>,
    /// Diagonal of `R1`, before the tanh.
    diagonal_1: Linear<B>,
    /// Diagonal of `R2`, before the tanh.
    diagonal_2: Linear<B>,
    b: Linear<B>,
    /// What `Q` is computed from.
    q: Option<Linear<B>>,
}

/// Sizes of one map.
#[derive(Debug, Clone, Copy)]
struct Layout {
    /// Columns of `Q`.
    m: usize,
    /// Shape of what `Q` is computed from.
    raw: [usize; 2],
}

impl Layout {
    fn of(kind: Kind, latent: usize) -> Self {
        match kind {
            Kind::Orthogonal { columns } => Self {
                m: columns,
                raw: [latent, columns],
            },
            Kind::Householder { reflections } => Self {
                m: latent,
                raw: [reflections, latent],
            },
            Kind::Triangular => Self {
                m: latent,
                raw: [0, 0],
            },
        }
    }
}

impl<B: Backend> AmortizedSylvester<B> {
    /// Maps near the identity for `h = 0`: `R1` near 0, `R2` near `tanh(1)` times the identity, `Q`
    /// random.
    pub(super) fn init(
        config: &PosteriorConfig,
        Size { latent, features }: Size,
        options: &TensorCreationOptions<B>,
        rng: &mut dyn Rng,
    ) -> Result<Self, Error> {
        let (kind, flows) = match *config {
            PosteriorConfig::SylvesterOrthogonal { flows, columns } => {
                if columns == 0 || columns > latent {
                    let expected = format!("1 to {latent}");
                    return Err(Error::config("sylvester", "columns", columns, expected));
                }
                (Kind::Orthogonal { columns }, flows)
            }
            PosteriorConfig::SylvesterHouseholder { flows, reflections } => {
                if reflections == 0 {
                    return Err(Error::config("sylvester", "reflections", 0, "at least 1"));
                }
                (Kind::Householder { reflections }, flows)
            }
            PosteriorConfig::SylvesterTriangular { flows } => (Kind::Triangular, flows),
            _ => unreachable!("the caller asks for Sylvester maps"),
        };
        let Layout { m, raw } = Layout::of(kind, latent);
        let mut part = |n: usize, around: f64, std: f64| {
            let biases = (0..n).map(|_| {
                let z: f64 = StandardNormal.sample(&mut *rng);
                around + std * z
            });
            Linear::around(biases.collect(), features, GAIN, options, &mut *rng)
        };
        let maps = (0..flows).map(|_| Parts {
            full: part(m * m, 0.0, INIT_STD),
            diagonal_1: part(m, 0.0, INIT_STD),
            diagonal_2: part(m, 1.0, INIT_STD),
            b: part(m, 0.0, 1.0),
            q: (raw != [0, 0]).then(|| part(raw[0] * raw[1], 0.0, 1.0)),
        });
        Ok(Self {
            maps: maps.collect(),
            kind,
            latent,
        })
    }

    pub(super) fn amortize(&self, h: Tensor<B, 2>) -> Vec<Parameters<B>> {
        let rows = h.dims()[0];
        let raw = Layout::of(self.kind, self.latent).raw;
        let map = |(k, parts): (usize, &Parts<B>)| {
            let of_h = |part: &Linear<B>| part.forward(h.clone());
            let q = parts.q.as_ref();
            let q = q.map(|q| of_h(q).reshape([rows, raw[0], raw[1]]));
            let basis = match (self.kind, q) {
                (Kind::Orthogonal { .. }, Some(raw)) => Basis::Columns(orthonormalize(raw)),
                (Kind::Householder { .. }, Some(v)) => reflections(v),
                _ if k.is_multiple_of(2) => Basis::Identity,
                _ => Basis::Reversal,
            };
            let diagonals = [&parts.diagonal_1, &parts.diagonal_2].map(|d| of_h(d).tanh());
            Parameters::from_square(basis, of_h(&parts.full), diagonals, of_h(&parts.b))
        };
        self.maps.iter().enumerate().map(map).collect()
    }
}
