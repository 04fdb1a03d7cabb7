//! How the tables of the experiments show whether the fields of a model are too stiff for their number of steps.

use flows_models::stability::Stability;

use crate::runner::{Column, Experiment, Format};

/// The columns of the jobs of an experiment that keep one.
pub fn columns<'a, E: Experiment>(
    of: fn(&E::Measured) -> Option<&Stability>,
) -> [Column<'a, E>; 3] {
    let count = move |m: &E::Measured, count: fn(&Stability) -> usize| of(m).map_or(0, count);
    [
        Column::largest("max_rho", "max rho", move |_, m| of(m)?.max_rho)
            .written(Format::Decimals(2)),
        Column::total("rho_at_least_one", "rho ≥ 1", move |_, m| {
            count(m, |s| s.rho_at_least_one)
        }),
        Column::total("non_positive_determinants", "det ≤ 0", move |_, m| {
            count(m, |s| s.non_positive_determinants)
        }),
    ]
}
