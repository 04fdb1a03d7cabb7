//! Models by name, each after what it reproduces.

use crate::{
    BernsteinConfig, BnafFlowConfig, CnfFlowConfig, DdnfConfig, IafConfig, MafConfig, ModelConfig,
    MultiScaleRealNvpConfig, NafConfig, NiceConfig, NsfConfig, NsfCouplingConfig, PlanarFlowConfig,
    RadialFlowConfig, RealNvpConfig, ResidualFlowConfig, SosConfig, SylvesterFlowConfig,
    UmnnConfig,
};

/// A named model.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// Its name on the command line and in tables.
    pub name: &'static str,
    /// What it is and where it comes from.
    pub about: &'static str,
    build: fn(usize) -> ModelConfig,
}

impl Preset {
    /// The configuration for data of `dim` columns.
    pub fn config(&self, dim: usize) -> ModelConfig {
        (self.build)(dim)
    }
}

/// The preset of this name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|p| p.name == name)
}

/// Every preset, in the order of tables.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "ddnf",
        about: "DDNF: 4 blocks of 16 cells, one hidden layer of 64 (arXiv:1810.03256)",
        build: |dim| ModelConfig::Ddnf(DdnfConfig::new(dim)),
    },
    Preset {
        name: "ddnf-1",
        about: "DDNF of a single block",
        build: |dim| {
            ModelConfig::Ddnf(DdnfConfig {
                blocks: 1,
                ..DdnfConfig::new(dim)
            })
        },
    },
    Preset {
        name: "ddnf-tiny",
        about: "DDNF with fields of two hidden units, the smallest the paper is said to use",
        build: |dim| {
            ModelConfig::Ddnf(DdnfConfig {
                hidden: vec![2],
                ..DdnfConfig::new(dim)
            })
        },
    },
    Preset {
        name: "ddnf-lipschitz",
        about: "DDNF whose cells are contractions beside the identity: Lip(v / T) at most 0.97",
        build: |dim| {
            ModelConfig::Ddnf(DdnfConfig {
                lipschitz: Some(0.97),
                ..DdnfConfig::new(dim)
            })
        },
    },
    Preset {
        name: "residual",
        about: "residual flow: 8 blocks, two hidden layers of 64, Lip(g) at most 0.97 (arXiv:1906.02735)",
        build: |dim| ModelConfig::Residual(ResidualFlowConfig::new(dim)),
    },
    Preset {
        name: "cnf",
        about: "continuous flow: two hidden layers of 64, trained in 8 steps of RK4 (arXiv:1810.01367)",
        build: |dim| ModelConfig::Cnf(CnfFlowConfig::to_tolerance(dim)),
    },
    Preset {
        name: "bnaf",
        about: "BNAF: 2 layers with 16 hidden units for each variable (arXiv:1904.04676)",
        build: |dim| ModelConfig::Bnaf(BnafFlowConfig::new(dim)),
    },
    Preset {
        name: "planar-2",
        about: "planar flow, K = 2 (arXiv:1505.05770, figure 3)",
        build: |dim| planar(dim, 2),
    },
    Preset {
        name: "planar-8",
        about: "planar flow, K = 8 (arXiv:1505.05770, figure 3)",
        build: |dim| planar(dim, 8),
    },
    Preset {
        name: "planar-32",
        about: "planar flow, K = 32 (arXiv:1505.05770, figure 3)",
        build: |dim| planar(dim, 32),
    },
    Preset {
        name: "radial-8",
        about: "radial flow, K = 8 (arXiv:1505.05770, equation 14)",
        build: |dim| radial(dim, 8),
    },
    Preset {
        name: "sylvester-8",
        about: "Sylvester flow, K = 8 (arXiv:1803.05649)",
        build: |dim| ModelConfig::Sylvester(SylvesterFlowConfig::new(dim)),
    },
    Preset {
        name: "nice",
        about: "NICE: 8 additive couplings and a scaling (arXiv:1410.8516)",
        build: |dim| ModelConfig::Nice(NiceConfig::new(dim)),
    },
    Preset {
        name: "realnvp",
        about: "RealNVP: 8 affine couplings (arXiv:1605.08803)",
        build: |dim| ModelConfig::RealNvp(RealNvpConfig::new(dim)),
    },
    Preset {
        name: "multi-scale",
        about: "RealNVP at two scales, where there are four columns or more: half of them are done after the first",
        build: |dim| {
            ModelConfig::MultiScale(MultiScaleRealNvpConfig {
                scales: if dim < 4 { 1 } else { 2 },
                ..MultiScaleRealNvpConfig::new(dim)
            })
        },
    },
    Preset {
        name: "maf",
        about: "MAF: 5 masked autoregressive layers, density in one pass (arXiv:1705.07057)",
        build: |dim| ModelConfig::Maf(MafConfig::new(dim)),
    },
    Preset {
        name: "iaf",
        about: "IAF: 5 masked autoregressive layers, samples in one pass (arXiv:1606.04934)",
        build: |dim| ModelConfig::Iaf(IafConfig::new(dim)),
    },
    Preset {
        name: "nsf",
        about: "NSF: 5 masked autoregressive layers of splines with 8 bins (arXiv:1906.04032)",
        build: |dim| ModelConfig::Nsf(NsfConfig::new(dim)),
    },
    Preset {
        name: "nsf-coupling",
        about: "NSF: 8 couplings of splines with 8 bins (arXiv:1906.04032)",
        build: |dim| ModelConfig::NsfCoupling(NsfCouplingConfig::new(dim)),
    },
    Preset {
        name: "naf",
        about: "NAF: 5 masked autoregressive layers of 8 sigmoids (arXiv:1804.00779)",
        build: |dim| ModelConfig::Naf(NafConfig::new(dim)),
    },
    Preset {
        name: "sos",
        about: "SOS: 5 masked autoregressive layers of polynomials of degree 9 (arXiv:1905.02325)",
        build: |dim| ModelConfig::Sos(SosConfig::new(dim)),
    },
    Preset {
        name: "bernstein",
        about: "5 masked autoregressive layers of Bernstein polynomials of degree 21 (arXiv:2204.13939)",
        build: |dim| ModelConfig::Bernstein(BernsteinConfig::new(dim)),
    },
    Preset {
        name: "umnn",
        about: "UMNN: 5 masked autoregressive layers of integrals of 8 units (arXiv:1908.05164)",
        build: |dim| ModelConfig::Umnn(UmnnConfig::new(dim)),
    },
];

fn planar(dim: usize, layers: usize) -> ModelConfig {
    ModelConfig::Planar(PlanarFlowConfig {
        layers,
        ..PlanarFlowConfig::new(dim)
    })
}

fn radial(dim: usize, layers: usize) -> ModelConfig {
    ModelConfig::Radial(RadialFlowConfig {
        layers,
        ..RadialFlowConfig::new(dim)
    })
}
