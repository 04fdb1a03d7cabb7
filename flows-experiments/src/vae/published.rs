//! What the literature reports, for the column beside ours.

use crate::data::images::ImageSetId;

/// Minus the bound with the convolutional networks, mean and standard deviation of three runs:
/// nats, Frey faces in bits a dimension. Grathwohl et al., arXiv:1810.01367, table 3; the row of
/// Sylvester flows is the best of the three kinds there. DDNF's numbers could not be had.
const TABLE: [(&str, &str); 4] = [
    (
        "gaussian",
        "86.55 ± 0.06; 104.28 ± 0.39; 4.53 ± 0.02; 110.80 ± 0.46",
    ),
    (
        "planar",
        "86.06 ± 0.31; 102.65 ± 0.42; 4.40 ± 0.06; 109.66 ± 0.42",
    ),
    (
        "iaf",
        "84.20 ± 0.17; 102.41 ± 0.04; 4.47 ± 0.05; 111.58 ± 0.38",
    ),
    (
        "sylvester",
        "83.32 ± 0.06; 99.00 ± 0.04; 4.45 ± 0.04; 104.62 ± 0.29",
    ),
];

/// The published number of a posterior on a set, as it is printed.
pub(super) fn published(posterior: &str, set: ImageSetId) -> Option<String> {
    let column = match set {
        ImageSetId::Digits => return None,
        ImageSetId::Mnist => 0,
        ImageSetId::Omniglot => 1,
        ImageSetId::Frey => 2,
        ImageSetId::Caltech => 3,
    };
    let family = if posterior.starts_with("sylvester-") {
        "sylvester"
    } else {
        posterior
    };
    let (_, row) = TABLE.iter().find(|(name, _)| *name == family)?;
    let best = if family == "sylvester" {
        " (best kind)"
    } else {
        ""
    };
    let unit = if set == ImageSetId::Frey {
        " bits/dim"
    } else {
        ""
    };
    Some(format!("{}{unit}{best}", row.split("; ").nth(column)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_without_a_published_number_stay_empty() {
        assert_eq!(published("ddnf", ImageSetId::Mnist), None);
        assert_eq!(published("gaussian", ImageSetId::Digits), None);
        assert_eq!(
            published("iaf", ImageSetId::Omniglot).as_deref(),
            Some("102.41 ± 0.04")
        );
        let best = published("sylvester-h", ImageSetId::Frey);
        assert_eq!(best.as_deref(), Some("4.45 ± 0.04 bits/dim (best kind)"));
    }
}
