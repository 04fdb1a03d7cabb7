//! A benchmark case, `KIND-D-H-B`, as the scripts for other libraries read it.

use std::fmt;
use std::str::FromStr;

use flows_core::bijectors::LayerConfig;
use flows_core::log_det::LogDet;
use flows_models::{DdnfConfig, MafConfig, NsfConfig, NsfCouplingConfig, RealNvpConfig};

/// A flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// MAF: five MADE layers, two hidden layers of H, order reversed between.
    Maf,
    /// The same with a rational-quadratic spline of each variable, eight bins on `[-5, 5]`.
    Nsf,
    /// RealNVP: eight affine couplings that swap halves, two hidden layers of H.
    Nvp,
    /// The same with a spline of each variable that is moved.
    NsfCoupling,
    /// DDNF: four blocks of 16 cells, one tanh layer of H.
    Ddnf,
    /// The same with the determinant itself, whatever its size.
    DdnfExact,
}

/// What is timed of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A training step.
    Step,
    /// The log-density, without gradients.
    Forward,
    /// The inverse, without gradients.
    Inverse,
    /// A training step for a loss without log-determinant, the mean square of the value.
    Value,
}

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The flow.
    pub family: Family,
    /// What of it.
    pub work: Work,
}

/// Every kind by its name.
pub const KINDS: [(&str, Family, Work); 12] = [
    ("maf", Family::Maf, Work::Step),
    ("maffwd", Family::Maf, Work::Forward),
    ("mafinv", Family::Maf, Work::Inverse),
    ("nsf", Family::Nsf, Work::Step),
    ("nsfinv", Family::Nsf, Work::Inverse),
    ("nvp", Family::Nvp, Work::Step),
    ("nvpinv", Family::Nvp, Work::Inverse),
    ("nsfc", Family::NsfCoupling, Work::Step),
    ("nsfcinv", Family::NsfCoupling, Work::Inverse),
    ("ddnf", Family::Ddnf, Work::Step),
    ("ddnfexact", Family::DdnfExact, Work::Step),
    ("ddnfvalue", Family::Ddnf, Work::Value),
];

/// A case: what, at which dimension, width and batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// What is timed.
    pub kind: Kind,
    /// Columns (D).
    pub dim: usize,
    /// Width of the hidden layers (H).
    pub hidden: usize,
    /// Rows of the batch (B).
    pub batch: usize,
    /// Cells of a DDNF block: 16, as the other implementations have.
    pub cells: usize,
}

/// A case that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is not a case; expected KIND-D-H-B with positive numbers and KIND one of {names}", names = names())]
pub struct UnknownCase(String);

fn names() -> String {
    KINDS.map(|(name, ..)| name).join(", ")
}

impl FromStr for Case {
    type Err = UnknownCase;

    fn from_str(text: &str) -> Result<Self, UnknownCase> {
        let refuse = || UnknownCase(text.to_owned());
        let parts = text.split('-').collect::<Vec<_>>();
        let [kind, dim, hidden, batch] = parts[..] else {
            return Err(refuse());
        };
        let known = KINDS.iter().find(|(name, ..)| *name == kind);
        let &(_, family, work) = known.ok_or_else(refuse)?;
        let number = |text: &str| text.parse().ok().filter(|n| *n > 0).ok_or_else(refuse);
        Ok(Self {
            kind: Kind { family, work },
            dim: number(dim)?,
            hidden: number(hidden)?,
            batch: number(batch)?,
            cells: CELLS,
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kind { family, work } = self.kind;
        let own = KINDS.iter().find(|kind| (kind.1, kind.2) == (family, work));
        let kind = own.map_or("?", |(name, ..)| name);
        let Self {
            dim, hidden, batch, ..
        } = self;
        write!(f, "{kind}-{dim}-{hidden}-{batch}")
    }
}

/// Blocks of the DDNF and cells of each.
const BLOCKS: usize = 4;
const CELLS: usize = 16;
/// Layers of the MAF and of the autoregressive splines.
const LAYERS: usize = 5;
/// Couplings.
const COUPLINGS: usize = 8;

impl Case {
    /// The layers, data to base.
    pub fn layers(&self) -> Vec<LayerConfig> {
        let Self { dim, hidden, .. } = *self;
        match self.kind.family {
            Family::Maf => MafConfig {
                layers: LAYERS,
                hidden: vec![hidden; 2],
                ..MafConfig::new(dim)
            }
            .layers(),
            Family::Nsf => NsfConfig {
                layers: LAYERS,
                hidden: vec![hidden; 2],
                ..NsfConfig::new(dim)
            }
            .layers(),
            Family::Nvp => RealNvpConfig {
                layers: COUPLINGS,
                hidden: vec![hidden; 2],
                ..RealNvpConfig::new(dim)
            }
            .layers(),
            Family::NsfCoupling => NsfCouplingConfig {
                layers: COUPLINGS,
                hidden: vec![hidden; 2],
                ..NsfCouplingConfig::new(dim)
            }
            .layers(),
            Family::Ddnf | Family::DdnfExact => DdnfConfig {
                cells: self.cells,
                blocks: BLOCKS,
                hidden: vec![hidden],
                // The cheapest closed form there is, as the other implementations use it.
                log_det: if self.kind.family == Family::DdnfExact || dim.min(hidden) <= 2 {
                    LogDet::Exact
                } else {
                    LogDet::Taylor { order: 2 }
                },
                affine: false,
                ..DdnfConfig::new(dim)
            }
            .layers(),
        }
    }

    /// Floating-point operations of the matrix products that the work cannot do without.
    ///
    /// A product of `[b, i]` and `[i, o]` is `2 b i o`; a training step is three of them (forward,
    /// input gradient, weight gradient). Of a masked product only half the entries count. The
    /// Jacobian's share: `D^2 H` products with the weights for `D <= H`, `H^2 D` otherwise, done as
    /// `P`-weighted sums of size `min(D, H)^2` per hidden unit. An inverse of size `m` is `2 m^3`, its
    /// determinant included.
    pub fn flops(&self) -> f64 {
        let (d, h, b) = (self.dim as f64, self.hidden as f64, self.batch as f64);
        let passes = match self.kind.work {
            Work::Step | Work::Value => 3.0,
            Work::Forward | Work::Inverse => 1.0,
        };
        // Raw parameters of each variable.
        let parameters = match self.kind.family {
            Family::Nsf | Family::NsfCoupling => 23.0,
            _ => 2.0,
        };
        match self.kind.family {
            Family::Maf | Family::Nsf => {
                let masked = 0.5 * (d * h + h * h + parameters * h * d);
                passes * 2.0 * b * masked * LAYERS as f64
            }
            Family::Nvp | Family::NsfCoupling => {
                // One half is read and the other moved, in turn; over two couplings both sizes come once.
                let pair = d * h + 2.0 * h * h + parameters * h * d;
                passes * 2.0 * b * 0.5 * pair * COUPLINGS as f64
            }
            Family::Ddnf | Family::DdnfExact => {
                let field = 2.0 * d * h;
                let jacobian = match (self.dim.min(self.hidden) <= 2, d < h) {
                    _ if self.kind.work == Work::Value => 0.0,
                    (true, true) => d * d * h,
                    (true, false) => h * h,
                    (false, _) => h * h,
                };
                let elimination = match self.kind.family {
                    Family::DdnfExact => 2.0 * b * d.min(h).powi(3),
                    _ => 0.0,
                };
                (passes * 2.0 * b * (field + jacobian) + elimination) * (BLOCKS * self.cells) as f64
            }
        }
    }

    /// Hyperbolic tangents of the work; forward only, as their derivative is `1 - tanh^2`.
    pub fn tanhs(&self) -> f64 {
        match self.kind.family {
            Family::Ddnf | Family::DdnfExact => {
                (self.batch * self.hidden * BLOCKS * self.cells) as f64
            }
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_reads_as_it_prints() {
        let case: Case = "ddnf-2-64-1000".parse().unwrap();
        assert_eq!((case.dim, case.hidden, case.batch), (2, 64, 1000));
        assert_eq!(case.to_string(), "ddnf-2-64-1000");
        for (name, family, work) in KINDS {
            let case: Case = format!("{name}-64-512-1000").parse().unwrap();
            assert_eq!(case.kind, Kind { family, work });
            assert_eq!(case.to_string(), format!("{name}-64-512-1000"));
            assert!(case.flops() > 0.0 && !case.layers().is_empty());
        }
        for bad in ["ddnf-2-64", "ddnf-0-1-1", "nice-2-2-2", "maf-1-1-1-1"] {
            assert!(bad.parse::<Case>().is_err(), "{bad}");
        }
    }
}
