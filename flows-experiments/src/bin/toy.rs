//! Densities on the plane: see `toy --help`.

use std::process::ExitCode;

use clap::Parser;
use flows_experiments::cli::{exit_code, install_panic_hook};
use flows_experiments::toy::Args;

fn main() -> ExitCode {
    install_panic_hook();
    exit_code(Args::parse().run())
}
