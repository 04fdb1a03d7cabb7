//! Density estimation for a table of one's own: see `flows --help`.

use std::process::ExitCode;

use clap::Parser;
use flows_experiments::backend::Compiled;
use flows_experiments::cli::{exit_code, install_panic_hook};
use flows_experiments::flows::Args;

// A training step takes and gives back hundreds of small tensors.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    install_panic_hook();
    exit_code(Args::parse().run::<Compiled>())
}
