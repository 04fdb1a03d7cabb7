//! What a run leaves behind: JSON, tables and pictures, each written whole or not at all.

mod axes;
pub mod canvas;
pub mod curve_panels;
pub mod density_plot;
pub mod json;
pub mod marginals;
pub mod matrix;
pub mod matrix_plot;
pub mod mosaic;
pub mod pair_plot;
pub mod rank_plot;
pub mod table;
mod ticks;

use std::path::PathBuf;

pub use axes::{CurvePlot, Scale};
pub use curve_panels::{CurveLine, CurvePanel, Mark, Stroke, draw_curve_panels};
pub use density_plot::{DensityPanel, draw_density_panels, draw_overview};
pub use json::{JsonText, read_json, write_atomically, write_json, write_json_lines};
pub use marginals::{Marginal, draw_marginals};
pub use matrix::{LinePanel, MatrixRow, Panel, PanelLine, draw_matrix};
pub use matrix_plot::{MatrixPanel, draw_matrix_panels};
pub use mosaic::{Bitmap, draw_mosaic};
pub use pair_plot::{PairPlot, draw_pairs};
pub use rank_plot::{RankPanel, draw_ranks};
pub use table::{Cell, Table, format_estimate};

/// Why a report could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A file that could not be written: the folder is missing or read-only, the disk is full.
    #[error(transparent)]
    File(#[from] flows_train::FileError),
    /// A file that could not be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A value that JSON cannot hold, or a file that does not hold the value asked for.
    #[error("{}: {source}", .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// Data that cannot be drawn.
    #[error("cannot draw {}: {reason}", .path.display())]
    Draw {
        /// The picture.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}
