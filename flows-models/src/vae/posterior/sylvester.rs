//! Sylvester maps with parameters from the encoder.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use flows_core::bijectors::sylvester::{
    Basis, Parameters, householder, orthonormalize, upper_triangular,
};
use flows_core::error::Error;
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::planar::{GAIN, INIT_STD};
use super::{PosteriorConfig, Size, repeat_rows};
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
    /// `[features, flows * each]`.
    parameters: Linear<B>,
    #[module(skip)]
    kind: Kind,
    latent: usize,
}

/// Numbers of one map, in the order in which they lie.
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

    /// Both triangles in one square, two diagonals, `b`, and `Q`.
    fn parts(self) -> [usize; 5] {
        let Self { m, raw } = self;
        [m * m, m, m, m, raw[0] * raw[1]]
    }
}

impl<B: Backend> AmortizedSylvester<B> {
    /// Maps near the identity for `h = 0`: `R1` near 0, `R2` near `tanh(1)` times the identity, `Q`
    /// random.
    pub(super) fn init(
        config: &PosteriorConfig,
        Size { latent, features }: Size,
        device: &B::Device,
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
        let [full, d1, d2, b, q] = Layout::of(kind, latent).parts();
        let mut biases = Vec::new();
        for _ in 0..flows {
            let mut normal = |n: usize, around: f64, std: f64| {
                biases.extend((0..n).map(|_| {
                    let z: f64 = StandardNormal.sample(&mut *rng);
                    around + std * z
                }));
            };
            normal(full, 0.0, INIT_STD);
            normal(d1, 0.0, INIT_STD);
            normal(d2, 1.0, INIT_STD);
            normal(b, 0.0, 1.0);
            normal(q, 0.0, 1.0);
        }
        Ok(Self {
            parameters: Linear::around(biases, features, GAIN, device, rng),
            kind,
            latent,
        })
    }

    pub(super) fn amortize(&self, h: Tensor<B, 2>) -> Vec<Parameters<B>> {
        let all = self.parameters.forward(h);
        let rows = all.dims()[0];
        let layout = Layout::of(self.kind, self.latent);
        let (m, sizes) = (layout.m, layout.parts());
        let each: usize = sizes.iter().sum();
        let map = |k: usize| {
            let part = |i: usize| {
                let start = k * each + sizes[..i].iter().sum::<usize>();
                all.clone().narrow(1, start, sizes[i])
            };
            let full = part(0).reshape([rows, m, m]);
            let raw = || part(4).reshape([rows, layout.raw[0], layout.raw[1]]);
            Parameters {
                basis: match self.kind {
                    Kind::Orthogonal { .. } => Basis::Columns(orthonormalize(raw())),
                    Kind::Householder { .. } => Basis::Columns(householder(raw())),
                    Kind::Triangular if k.is_multiple_of(2) => Basis::Identity,
                    Kind::Triangular => Basis::Reversal,
                },
                r1: upper_triangular(full.clone(), part(1)),
                r2: upper_triangular(full.swap_dims(1, 2), part(2)),
                b: part(3),
            }
        };
        (0..all.dims()[1] / each).map(map).collect()
    }
}

pub(super) fn repeat_parameters<B: Backend>(p: &Parameters<B>, times: usize) -> Parameters<B> {
    let matrices = |x: &Tensor<B, 3>| {
        let [n, a, b] = x.dims();
        let rows = repeat_rows(x.clone().reshape([n, a * b]), times);
        rows.reshape([n * times, a, b])
    };
    Parameters {
        basis: match &p.basis {
            Basis::Columns(q) => Basis::Columns(matrices(q)),
            Basis::Identity => Basis::Identity,
            Basis::Reversal => Basis::Reversal,
        },
        r1: matrices(&p.r1),
        r2: matrices(&p.r2),
        b: repeat_rows(p.b.clone(), times),
    }
}
