//! The pictures.

use super::config::{Job, RegularizationConfig};
use super::record::RunRecord;
use super::summary::Summary;
use crate::experiment::Folder;
use crate::report::ReportError;

pub(super) fn draw_pictures(
    _folder: &Folder,
    _jobs: &[Job],
    _config: &RegularizationConfig,
    _summary: &Summary,
    _records: &[RunRecord],
) -> Result<(), ReportError> {
    Ok(())
}
