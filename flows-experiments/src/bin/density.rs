//! Tables of the literature: see `density --help`.

use std::process::ExitCode;

// A training step takes and gives back hundreds of small tensors.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    flows_experiments::runner::main::<flows_experiments::density::Density>()
}
