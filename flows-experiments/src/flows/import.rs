//! `flows import`

use std::path::PathBuf;

use burn::tensor::backend::AutodiffBackend;
use flows_core::distributions::LogProb;
use flows_models::interop::{self, Library};
use flows_tables::table_flow::TableFlow;

use super::{grouped, print, refuse_data, refuse_existing, refuse_model};
use crate::backend::{Backends, Task};
use crate::cli::{DeviceArgs, UsageError};

/// Read a flow that was trained with zuko or nflows
///
/// FILE is a safetensors file that the few lines of Python in docs/interop.md write. It holds rows with their
/// log-densities: a flow that gives other ones here is refused, and the model says how close they are. Densities and
/// samples are in the units that the flow was trained in.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
zuko: MAF, NSF, NICE, RealNVP and BPF, with any order or adjacency of the variables, with and without a context.
nflows: masked affine and spline layers, affine, additive and spline couplings, permutations.

Examples:
  flows import flow.safetensors --from zuko -o model.flow
  flows import flow.safetensors --from nflows --columns mass,radius --context age -o model.flow
  flows log-prob model.flow new.csv")]
pub(super) struct Args {
    /// File with the flow
    file: PathBuf,
    /// Library that it was trained with
    #[arg(long, value_enum)]
    from: From,
    /// Names of its columns, between commas [default: x1, x2, ...]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    columns: Vec<String>,
    /// Names of its context columns, between commas [default: c1, c2, ...]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    context: Vec<String>,
    /// File for the model
    #[arg(short, long, value_name = "MODEL")]
    out: PathBuf,
    /// Write over MODEL
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// [`Library`] as an option.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum From {
    /// zuko 1.6.
    Zuko,
    /// nflows 0.14.
    Nflows,
}

impl Args {
    pub(super) fn run<D: Backends>(self) -> anyhow::Result<()> {
        refuse_existing(&self.out, self.force)?;
        let compute = self.device.resolve()?;
        D::dispatch(compute.backend, compute.dtype, self).map_err(UsageError::from)?
    }
}

impl Task for Args {
    type Output = anyhow::Result<()>;

    fn run<B: AutodiffBackend>(self, device: B::Device) -> Self::Output {
        let (library, name) = match self.from {
            From::Zuko => (Library::Zuko, "zuko"),
            From::Nflows => (Library::Nflows, "nflows"),
        };
        let imported = interop::import::<B::InnerBackend>(&self.file, library, &device);
        let imported = imported.map_err(refuse_model)?;
        let (dim, given) = (imported.flow.dim(), imported.flow.context_dim());
        let (rows, difference) = (imported.rows, imported.difference);
        let names = |own: Vec<String>, letter: &str, count: usize| match own.is_empty() {
            true => (1..=count).map(|k| format!("{letter}{k}")).collect(),
            false => own,
        };
        let (columns, context) = (
            names(self.columns, "x", dim),
            names(self.context, "c", given),
        );
        let flow = TableFlow::imported(imported, name, &columns, &context, &device);
        flow.map_err(refuse_data)?
            .save(&self.out)
            .map_err(refuse_model)?;
        print(&format!(
            "wrote {}: the log-densities of {} rows are those of {name} within {difference:.1e} nats",
            self.out.display(),
            grouped(rows)
        ))
    }
}
