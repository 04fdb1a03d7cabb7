//! Variational autoencoders with flow posteriors: see `vae --help`.

use std::process::ExitCode;

use clap::Parser;
use flows_experiments::cli::{exit_code, install_panic_hook};
use flows_experiments::vae::Args;

fn main() -> ExitCode {
    install_panic_hook();
    exit_code(Args::parse().run())
}
