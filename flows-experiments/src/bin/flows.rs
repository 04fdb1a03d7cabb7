//! Density estimation for a table of one's own: see `flows --help`.

use std::process::ExitCode;

use clap::Parser;
use flows_experiments::cli::{exit_code, install_panic_hook};
use flows_experiments::flows::Args;

fn main() -> ExitCode {
    install_panic_hook();
    exit_code(Args::parse().run())
}
