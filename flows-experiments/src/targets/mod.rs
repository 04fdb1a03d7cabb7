//! The two-dimensional targets of the toy experiments: energies known up to a constant, and sample
//! sets, most of them with a known density.

pub mod energy;
pub mod quadrature;
pub mod sample_set;

use std::fmt;

pub use energy::{Energy, SoftWall};
pub use quadrature::{Normalization, normalize_in_box, normalize_walled};
pub use sample_set::SampleSet;

/// What a model can be fitted to.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// A potential, fitted by the reverse Kullback-Leibler divergence.
    Energy(Energy),
    /// Samples, fitted by maximum likelihood.
    Samples(&'static dyn SampleSet),
}

/// How a target is given, and with it how it is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TargetKind {
    /// An unnormalized density.
    Energy,
    /// Independent draws.
    Samples,
}

/// A target name that is in no list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown target '{name}'; targets are {}", Target::names().join(", "))]
pub struct UnknownTarget {
    /// The name asked for.
    pub name: String,
}

impl Target {
    /// Every target: the energies, then the sample sets.
    pub fn all() -> Vec<Self> {
        let energies = Energy::ALL.into_iter().map(Self::Energy);
        let sets = sample_set::ALL.iter().map(|set| Self::Samples(*set));
        energies.chain(sets).collect()
    }

    /// The names of [`all`](Self::all).
    pub fn names() -> Vec<&'static str> {
        Self::all().iter().map(Self::name).collect()
    }

    /// The target of a name, in either case.
    ///
    /// # Errors
    /// [`UnknownTarget`], whose message lists the names there are.
    pub fn parse(name: &str) -> Result<Self, UnknownTarget> {
        Self::all()
            .into_iter()
            .find(|target| target.name().eq_ignore_ascii_case(name.trim()))
            .ok_or_else(|| UnknownTarget {
                name: name.to_owned(),
            })
    }

    /// Name on the command line, in files and in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Energy(energy) => energy.name(),
            Self::Samples(set) => set.name(),
        }
    }

    /// Energy or samples.
    pub fn kind(&self) -> TargetKind {
        match self {
            Self::Energy(_) => TargetKind::Energy,
            Self::Samples(_) => TargetKind::Samples,
        }
    }

    /// `[[low, high]; 2]`, the square that pictures of the target show.
    pub fn plot_range(&self) -> [[f64; 2]; 2] {
        match self {
            Self::Energy(_) => [[-4.0, 4.0]; 2],
            Self::Samples(set) => set.plot_range(),
        }
    }

    /// One line: what it looks like, and where it comes from.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Energy(energy) => energy.describe(),
            Self::Samples(set) => set.describe(),
        }
    }
}

/// Targets are the same where their names are.
impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Target {}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Target {
    type Err = UnknownTarget;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::parse(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_to_itself_and_is_the_only_one() {
        let names = Target::names();
        assert_eq!(names.len(), 20);
        for (i, name) in names.iter().enumerate() {
            assert_eq!(Target::parse(name).unwrap().name(), *name);
            assert!(!names[..i].contains(name), "{name} stands twice");
        }
        assert_eq!("U1".parse::<Target>().unwrap(), Target::Energy(Energy::U1));
        assert_eq!(Target::parse("u3").unwrap().kind(), TargetKind::Energy);
        assert_eq!(Target::parse("moons").unwrap().kind(), TargetKind::Samples);
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let message = Target::parse("u5").unwrap_err().to_string();
        assert!(message.starts_with("unknown target 'u5'; targets are u1, u2, u3, u4, "));
        assert!(message.contains("8gaussians") && message.ends_with("diamond"));
        assert!(!message.contains('\n'));
    }

    #[test]
    fn descriptions_are_one_line_with_a_source() {
        for target in Target::all() {
            let line = target.describe();
            assert!(!line.contains('\n') && line.len() < 120, "{target}: {line}");
            assert!(
                line.ends_with(')') && line.contains('('),
                "{target}: {line}"
            );
        }
    }

    #[test]
    fn plot_ranges_are_squares() {
        for target in Target::all() {
            let [x, y] = target.plot_range();
            assert!(x[0] < x[1]);
            assert!((x[1] - x[0] - (y[1] - y[0])).abs() < 1e-12, "{target}");
        }
    }
}
