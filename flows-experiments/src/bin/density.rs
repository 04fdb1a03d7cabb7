//! Density estimation on tables of the literature: see `density --help`.

use std::process::ExitCode;

use clap::Parser;
use flows_experiments::cli::{exit_code, install_panic_hook};
use flows_experiments::density::Args;

fn main() -> ExitCode {
    install_panic_hook();
    exit_code(Args::parse().run())
}
