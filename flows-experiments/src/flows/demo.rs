//! `flows demo`

use std::path::PathBuf;

use super::{print, refuse_existing};
use flows_train::atomic::write_atomically;

/// Write a small real table to try the commands on
///
/// 2,000 minutes of the electricity of one household near Paris, from December 2006 on: hour of the day, power
/// (kW), voltage (V), and what kitchen, laundry room, and water heater with air conditioner took (Wh a minute).
/// A circle, a positive and a continuous column, and three of whole numbers.
///
/// G. Hebrail, A. Berard (2012), Individual household electric power consumption, UCI Machine Learning Repository,
/// data set 235, doi:10.24432/C58K54, CC BY 4.0; rows chosen at random, hours and minutes made one number.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    flows demo household.csv\n  \
    flows fit household.csv --periodic hour=24 -o household.flow\n  \
    flows plot household.flow household.csv -o pairs.png\n  \
    flows sample household.flow -n 5")]
pub(super) struct Args {
    /// File for the table, as CSV
    #[arg(default_value = "household.csv")]
    out: PathBuf,
    /// Write over the file
    #[arg(long)]
    force: bool,
}

const TABLE: &str = include_str!("../../data/household.csv");

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.out.as_os_str() == "-" {
            return print(TABLE.trim_end());
        }
        refuse_existing(&self.out, self.force)?;
        write_atomically(&self.out, TABLE.as_bytes())?;
        let rows = TABLE.lines().count() - 1;
        print(&format!("wrote {} ({rows} rows)", self.out.display()))
    }
}
