//! A benchmark case, `KIND-D-H-B`, as the scripts for other libraries read it.

use std::fmt;
use std::str::FromStr;

use flows_core::bijectors::LayerConfig;
use flows_core::log_det::LogDet;
use flows_models::{DdnfConfig, MafConfig};

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A training step of a MAF: five MADE layers, two hidden layers of H, order reversed between.
    Maf,
    /// The log-density under the same MAF, without gradients.
    MafForward,
    /// The inverse of the same MAF.
    MafInverse,
    /// A training step of a DDNF: four blocks of 16 cells, one tanh layer of H.
    Ddnf,
    /// The same step with the determinant itself, whatever its size.
    DdnfExact,
    /// The same step for a loss without log-determinant, the mean square of the value.
    DdnfValue,
}

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
#[error(
    "'{0}' is not a case; expected maf-D-H-B, maffwd-D-H-B, mafinv-D-H-B, ddnf-D-H-B, ddnfexact-D-H-B or ddnfvalue-D-H-B with positive numbers"
)]
pub struct UnknownCase(String);

impl FromStr for Case {
    type Err = UnknownCase;

    fn from_str(text: &str) -> Result<Self, UnknownCase> {
        let refuse = || UnknownCase(text.to_owned());
        let parts = text.split('-').collect::<Vec<_>>();
        let [kind, dim, hidden, batch] = parts[..] else {
            return Err(refuse());
        };
        let kind = match kind {
            "maf" => Kind::Maf,
            "maffwd" => Kind::MafForward,
            "mafinv" => Kind::MafInverse,
            "ddnf" => Kind::Ddnf,
            "ddnfexact" => Kind::DdnfExact,
            "ddnfvalue" => Kind::DdnfValue,
            _ => return Err(refuse()),
        };
        let number = |text: &str| text.parse().ok().filter(|n| *n > 0).ok_or_else(refuse);
        Ok(Self {
            kind,
            dim: number(dim)?,
            hidden: number(hidden)?,
            batch: number(batch)?,
            cells: CELLS,
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Maf => "maf",
            Kind::MafForward => "maffwd",
            Kind::MafInverse => "mafinv",
            Kind::Ddnf => "ddnf",
            Kind::DdnfExact => "ddnfexact",
            Kind::DdnfValue => "ddnfvalue",
        };
        let Self {
            dim, hidden, batch, ..
        } = self;
        write!(f, "{kind}-{dim}-{hidden}-{batch}")
    }
}

/// Blocks of the DDNF and cells of each.
const BLOCKS: usize = 4;
const CELLS: usize = 16;
/// Layers of the MAF.
const LAYERS: usize = 5;

impl Case {
    /// The layers, data to base.
    pub fn layers(&self) -> Vec<LayerConfig> {
        match self.kind {
            Kind::Maf | Kind::MafForward | Kind::MafInverse => MafConfig {
                layers: LAYERS,
                hidden: vec![self.hidden; 2],
                ..MafConfig::new(self.dim)
            }
            .layers(),
            Kind::Ddnf | Kind::DdnfExact | Kind::DdnfValue => DdnfConfig {
                cells: self.cells,
                blocks: BLOCKS,
                hidden: vec![self.hidden],
                // The cheapest closed form there is, as the other implementations use it.
                log_det: if self.kind == Kind::DdnfExact || self.dim.min(self.hidden) <= 2 {
                    LogDet::Exact
                } else {
                    LogDet::Taylor { order: 2 }
                },
                affine: false,
                ..DdnfConfig::new(self.dim)
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
        match self.kind {
            Kind::Maf | Kind::MafForward | Kind::MafInverse => {
                let masked = 0.5 * (d * h + h * h + 2.0 * h * d);
                let passes = if self.kind == Kind::Maf { 3.0 } else { 1.0 };
                passes * 2.0 * b * masked * LAYERS as f64
            }
            Kind::Ddnf | Kind::DdnfExact | Kind::DdnfValue => {
                let field = 2.0 * d * h;
                let jacobian = match (self.dim.min(self.hidden) <= 2, d < h) {
                    _ if self.kind == Kind::DdnfValue => 0.0,
                    (true, true) => d * d * h,
                    (true, false) => h * h,
                    (false, _) => h * h,
                };
                let elimination = match self.kind {
                    Kind::DdnfExact => 2.0 * b * d.min(h).powi(3),
                    _ => 0.0,
                };
                (3.0 * 2.0 * b * (field + jacobian) + elimination) * (BLOCKS * self.cells) as f64
            }
        }
    }

    /// Hyperbolic tangents of the work; forward only, as their derivative is `1 - tanh^2`.
    pub fn tanhs(&self) -> f64 {
        match self.kind {
            Kind::Ddnf | Kind::DdnfExact | Kind::DdnfValue => {
                (self.batch * self.hidden * BLOCKS * self.cells) as f64
            }
            Kind::Maf | Kind::MafForward | Kind::MafInverse => 0.0,
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
        let case: Case = "maffwd-64-512-1000".parse().unwrap();
        assert_eq!(case.kind, Kind::MafForward);
        assert_eq!(case.to_string(), "maffwd-64-512-1000");
        for bad in ["ddnf-2-64", "ddnf-0-1-1", "nsf-2-2-2", "maf-1-1-1-1"] {
            assert!(bad.parse::<Case>().is_err(), "{bad}");
        }
    }
}
