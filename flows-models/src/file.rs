//! Any model of this crate, and the file it is kept in.

use std::path::Path;

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, backend::Backend};
use flows_core::distributions::{LogProb, Sample};
use flows_core::domain::Interval;
use flows_core::error::Error;
use flows_core::state::state;
use flows_core::visit::LayerVisit;
use flows_train::FileError;
use flows_train::model_file::{FLOW, ModelFile, write};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::model::{BaseToDataFlow, DataToBaseFlow, FastDirection, ModelConfig};

/// A flow of this crate in either direction.
#[derive(Module, Debug)]
pub enum AnyFlow<B: Backend> {
    /// Its layers map data to base.
    DataToBase(DataToBaseFlow<B>),
    /// Its layers map base to data.
    BaseToData(BaseToDataFlow<B>),
}

impl<B: Backend> From<DataToBaseFlow<B>> for AnyFlow<B> {
    fn from(flow: DataToBaseFlow<B>) -> Self {
        Self::DataToBase(flow)
    }
}

impl<B: Backend> From<BaseToDataFlow<B>> for AnyFlow<B> {
    fn from(flow: BaseToDataFlow<B>) -> Self {
        Self::BaseToData(flow)
    }
}

macro_rules! either {
    ($flow:expr, $inner:ident => $body:expr) => {
        match $flow {
            AnyFlow::DataToBase($inner) => $body,
            AnyFlow::BaseToData($inner) => $body,
        }
    };
}

impl<B: Backend> LogProb<B> for AnyFlow<B> {
    fn dim(&self) -> usize {
        either!(self, flow => flow.dim())
    }

    fn context_dim(&self) -> usize {
        either!(self, flow => flow.context_dim())
    }

    fn support(&self) -> Vec<Interval> {
        either!(self, flow => flow.support())
    }

    fn log_prob(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 1> {
        either!(self, flow => flow.log_prob(x, context))
    }

    fn visit_layers(&mut self, visit: &mut LayerVisit<B>) {
        either!(self, flow => flow.visit_layers(visit));
    }
}

impl<B: Backend> Sample<B> for AnyFlow<B> {
    fn sample(&self, n: usize, context: Option<Tensor<B, 2>>, rng: &mut dyn Rng) -> Tensor<B, 2> {
        either!(self, flow => flow.sample(n, context, rng))
    }

    fn sample_and_log_prob(
        &self,
        n: usize,
        context: Option<Tensor<B, 2>>,
        rng: &mut dyn Rng,
    ) -> (Tensor<B, 2>, Tensor<B, 1>) {
        either!(self, flow => flow.sample_and_log_prob(n, context, rng))
    }
}

/// Where the layers of a saved model lead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Direction {
    #[default]
    // The name in files written before.
    #[serde(alias = "normalizing")]
    DataToBase,
    #[serde(alias = "generative")]
    BaseToData,
}

#[derive(Serialize)]
struct Header<'a> {
    format: u32,
    program: &'static str,
    model: &'a ModelConfig,
    direction: Direction,
}

impl ModelConfig {
    /// The model as a flow for data: IAF with layers from base to data, all others with layers from data to base, so
    /// that `log_prob` takes one pass.
    ///
    /// # Errors
    /// [`Error`] where a layer refuses its configuration.
    pub fn init<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<AnyFlow<B>, Error> {
        let options = &options.into();
        let flow: AnyFlow<B> = match self.fast_direction() {
            FastDirection::Sampling => self.init_base_to_data(options.clone(), rng)?.into(),
            _ => self.init_data_to_base(options.clone(), rng)?.into(),
        };
        match flow.dim() == self.dim() {
            true => Ok(flow),
            false => {
                let expected = format!("{}, the columns of the layers", flow.dim());
                Err(Error::config("model", "dim", self.dim(), expected))
            }
        }
    }
}

/// Writes `flow`, which `config` builds, whole or not at all.
///
/// # Errors
/// [`FileError::Write`] naming the file.
pub fn save<B: Backend>(
    path: impl AsRef<Path>,
    config: &ModelConfig,
    flow: impl Into<AnyFlow<B>>,
) -> Result<(), FileError> {
    let (direction, parameters) = match flow.into() {
        AnyFlow::DataToBase(flow) => (Direction::DataToBase, state(&flow)),
        AnyFlow::BaseToData(flow) => (Direction::BaseToData, state(&flow)),
    };
    let header = Header {
        format: 1,
        program: concat!("flows-models ", env!("CARGO_PKG_VERSION")),
        model: config,
        direction,
    };
    write(path, &header, &[(FLOW, &parameters)])
}

/// Reads a model that [`save`] wrote on any backend, whichever it is. `options` are `&device` for its default float
/// type, or such as `(&device, DType::F64)`.
///
/// ```
/// use burn::backend::Flex;
/// use flows_core::{distributions::LogProb, random::generator};
/// use flows_models::{MafConfig, ModelConfig, load, save};
/// # let folder = std::env::temp_dir().join(format!("flows-models-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("maf.flow");
/// let config = ModelConfig::from(MafConfig::new(2));
/// save::<Flex>(&path, &config, config.init(&Default::default(), &mut generator(0))?)?;
/// let flow = load::<Flex>(&path, &Default::default())?;
/// assert_eq!(flow.dim(), 2);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`FileError`] naming the file and the first difference. A file of `flows fit` has preprocessing, too: it is refused
/// here, and read by `flows_tables::table_flow`.
pub fn load<B: Backend>(
    path: impl AsRef<Path>,
    options: impl Into<TensorCreationOptions<B>>,
) -> Result<AnyFlow<B>, FileError> {
    let options = &options.into();
    let file = ModelFile::load(path)?;
    file.refuse_parts_but(&[FLOW])?;
    let missing = || file.unusable("its header has no model".to_owned());
    let config: ModelConfig = file.entry("model")?.ok_or_else(missing)?;
    file.check_size(config.least_parameters())?;
    let rng = &mut flows_train::stream(0, "replaced", 0);
    let refuse = |e: Error| file.unusable(e.to_string());
    Ok(match file.entry("direction")?.unwrap_or_default() {
        Direction::DataToBase => {
            let flow = config.init_data_to_base::<B>(options.clone(), rng);
            file.fill(flow.map_err(refuse)?)?.into()
        }
        Direction::BaseToData => {
            let flow = config.init_base_to_data::<B>(options.clone(), rng);
            file.fill(flow.map_err(refuse)?)?.into()
        }
    })
}
