//! A user's table: its columns, its file, and a flow for it.
//!
//! A table is read from text, npy or npz ([`Table`], [`Source`]), a flow is fitted to it by maximum likelihood
//! ([`table_flow`]), kept in one file, scored and sampled in the units of the table, and compared with rows that it
//! has not seen ([`energy_distance`]). The program `flows` is these with a command line:
//!
//! ```no_run
//! use burn::backend::{Autodiff, Flex};
//! use flows_core::random::generator;
//! use flows_models::MafConfig;
//! use flows_tables::Table;
//! use flows_tables::table_flow::{FitConfig, TableFlow, fit};
//!
//! let device = Default::default();
//! let table = Table::read("data.csv")?;
//! let config = FitConfig::new(MafConfig::new(table.dim()));
//! fit::<Autodiff<Flex>>(&table, &config, &device)?.save("data.flow".as_ref())?;
//!
//! let flow = TableFlow::<Flex>::load("data.flow".as_ref(), &device)?;
//! let scores = flow.log_prob(&table.density, None); // nats, in the units of the table
//! let samples = flow.sample(1000, None, &mut generator(0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A file is recognised by its first bytes: gzip, npy, npz, or text. Whatever a header claims, memory is
//! taken for what has been read.

pub mod bytes;
mod csv;
pub mod energy_distance;
mod error;
pub mod gaussian;
pub mod mixture;
mod npy;
mod npz;
pub mod preprocessing;
pub mod selection;
pub mod sink;
pub mod source;
pub mod table;
pub mod table_flow;
pub mod two_sample;

pub use error::DataError;
pub use flows_train::Rows;
pub use gaussian::FullGaussian;
pub use preprocessing::{Factor, Preprocessing};
pub use selection::{Column, Role, Selection};
pub use sink::{Format, Sink};
pub use source::{Header, Layout, Missing, Reading, Source};
pub use table::{Split, Table};
