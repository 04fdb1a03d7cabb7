//! What a suite finds.

/// One property that did not hold.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Name of the case: of a layer or a distribution.
    pub name: String,
    /// Property that failed.
    pub property: String,
    /// What was seen and what was expected.
    pub detail: String,
}
