//! What a layer under test declares about itself, and how exactly it is held to it.

/// A layer's declared dependency graph: row `i` lists the inputs that output `i` may see.
pub type Dependencies = Vec<Vec<bool>>;

/// One layer in the suite, with what it promises beyond the contract.
#[derive(Debug, Clone)]
pub struct Case {
    pub(super) name: String,
    pub(super) seed: u64,
    pub(super) dependencies: Option<Dependencies>,
    pub(super) untouched: Vec<usize>,
    pub(super) max_passes: Option<usize>,
    pub(super) inverse_tolerance: Option<f64>,
    pub(super) bounded_domain: Option<f64>,
    pub(super) without_gradient: Vec<&'static str>,
    pub(super) statistics: Vec<&'static str>,
    pub(super) estimated_log_det: bool,
    pub(super) far: f64,
}

impl Case {
    /// A layer that promises the contract and no more.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            seed: 7,
            dependencies: None,
            untouched: Vec::new(),
            max_passes: None,
            inverse_tolerance: None,
            bounded_domain: None,
            without_gradient: Vec::new(),
            statistics: Vec::new(),
            estimated_log_det: false,
            far: 0.5,
        }
    }

    /// Output `i` depends on input `j` exactly where `dependencies[i][j]`: the Jacobian is exactly
    /// zero elsewhere, and non-zero there at some point of a random batch.
    pub fn dependencies(mut self, dependencies: Dependencies) -> Self {
        self.dependencies = Some(dependencies);
        self
    }

    /// These columns pass through bit for bit.
    pub fn untouched(mut self, columns: Vec<usize>) -> Self {
        self.untouched = columns;
        self
    }

    /// The inverse takes at most this many passes.
    pub fn max_passes(mut self, passes: usize) -> Self {
        self.max_passes = Some(passes);
        self
    }

    /// The inverse is iterative and stops at this tolerance, instead of the precision's own.
    pub fn inverse_tolerance(mut self, tolerance: f64) -> Self {
        self.inverse_tolerance = Some(tolerance);
        self
    }

    /// Inputs are kept within `+-bound`: for layers whose log-determinant under- or overflows
    /// far out by their nature. Say why beside the call.
    pub fn bounded_domain(mut self, bound: f64) -> Self {
        self.bounded_domain = Some(bound);
        self
    }

    /// Trained parameters, by the end of their path, that move nothing by construction, so that their
    /// gradient is zero: one that moves an output, or gets a gradient, fails all the same. Say why
    /// beside the call.
    pub fn without_gradient(mut self, parameters: Vec<&'static str>) -> Self {
        self.without_gradient = parameters;
        self
    }

    /// Parameters, by the end of their path, that are taken from data and not trained: one that
    /// requires a gradient fails.
    pub fn statistics(mut self, parameters: Vec<&'static str>) -> Self {
        self.statistics = parameters;
        self
    }

    /// Standard deviation of what is added to every trained parameter, far from where the layer starts,
    /// instead of 0.5. Say why beside the call.
    pub fn far(mut self, standard_deviation: f64) -> Self {
        self.far = standard_deviation;
        self
    }

    /// The log-determinant is an estimate, or a truncated series: it is not compared with the exact
    /// one. The estimator's own tests show its bias and variance.
    pub fn estimated_log_det(mut self) -> Self {
        self.estimated_log_det = true;
        self
    }
}

/// One distribution in the suite, with what it promises beyond the contract.
#[derive(Debug, Clone)]
pub struct DistributionCase {
    pub(super) name: String,
    pub(super) seed: u64,
    pub(super) grid: (f64, f64),
    pub(super) grid_tolerance: f64,
    pub(super) inverse_tolerance: Option<f64>,
    pub(super) far: f64,
}

impl DistributionCase {
    /// A distribution that promises the contract and no more.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            seed: 7,
            grid: (-12.0, 12.0),
            grid_tolerance: 1e-6,
            inverse_tolerance: None,
            far: 0.5,
        }
    }

    /// Standard deviation of what is added to every trained parameter, far from where the distribution starts,
    /// instead of 0.5. Say why beside the call.
    pub fn far(mut self, standard_deviation: f64) -> Self {
        self.far = standard_deviation;
        self
    }

    /// In one and two dimensions the density is integrated over `[low, high]` in each variable, on 4000
    /// and on 200 x 200 midpoints, and must give 1 to `tolerance`; otherwise over `[-12, 12]` to 1e-6.
    pub fn grid(mut self, low: f64, high: f64, tolerance: f64) -> Self {
        self.grid = (low, high);
        self.grid_tolerance = tolerance;
        self
    }

    /// One of the two directions is iterative and stops at this tolerance, instead of the precision's own.
    pub fn inverse_tolerance(mut self, tolerance: f64) -> Self {
        self.inverse_tolerance = Some(tolerance);
        self
    }
}

/// Tolerances of one floating-point type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Precision {
    /// Log-determinant against the Jacobian's, relative to `1 + |log det|`.
    pub log_det: f64,
    /// Round trips, relative to `1 + |x|`.
    pub round_trip: f64,
    /// Entries of `J(f) J(f^-1) - I`.
    pub jacobian_product: f64,
    /// A row alone against the row in its batch, relative.
    pub row: f64,
    /// Gradients against central differences, relative to the largest entry; `None` where the
    /// type is too coarse for differences.
    pub gradient: Option<f64>,
}

impl Precision {
    /// For f64.
    pub const DOUBLE: Self = Self {
        log_det: 1e-8,
        round_trip: 1e-10,
        jacobian_product: 1e-8,
        row: 1e-12,
        gradient: Some(1e-6),
    };
    /// For f32.
    pub const SINGLE: Self = Self {
        log_det: 1e-4,
        round_trip: 1e-4,
        jacobian_product: 1e-3,
        row: 1e-5,
        gradient: None,
    };
}
