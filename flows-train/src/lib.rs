//! Fitting of normalizing flows: objectives, one loop, optimizers, checkpoints and model files.
//!
//! [`fit`] trains any Burn module on any [`Objective`]: [`MaximumLikelihood`] on rows of data, [`ReverseKl`] to an
//! unnormalized density, or a closure that returns a [`Loss`]. [`Training`] says how long and how fast, [`Run`] what
//! the run is called, its seed, and where its checkpoint is kept.
//!
//! ```
//! use burn::backend::{Autodiff, Flex};
//! use burn::module::AutodiffModule;
//! use flows_core::{bijectors::ElementwiseAffineConfig, distributions::DiagonalNormal, flow::Flow};
//! use flows_train::{Data, MaximumLikelihood, Rows, Run, Training, fit, log_probs};
//!
//! let device = Default::default();
//! let layer = ElementwiseAffineConfig::new(1).init::<Autodiff<Flex>>(&device, &mut flows_train::stream(0, "parameters", 0))?;
//! let flow = Flow::data_to_base(layer, DiagonalNormal::standard(1, &device))?;
//! let data = Data::new(Rows::new((0..100).map(f64::from).collect(), 1), None)?;
//! let (train, validation) = data.split(0.2, 0);
//! let training = Training { steps: 20, ..Training::default() };
//! let mut objective = MaximumLikelihood::new(&train).validated_on(&validation);
//! let fitted = fit(flow, &mut objective, &training, Run::new("example", 0))?;
//! let scores = log_probs(&fitted.model.valid(), &validation); // nats
//! # assert_eq!(scores.len(), 20);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Exact resumption
//! Everything random in a step is a function of the run's seed, a purpose and the step ([`stream`]), optimizer state
//! keeps its bits, and a checkpoint is written whole or not at all. A run that was interrupted ends with the same bits
//! as one that was not. See `docs/training-loop.md`.

pub mod atomic;
mod checkpoint;
mod clip;
mod data;
mod error;
mod evaluate;
mod fit;
mod likelihood;
pub mod model_file;
mod objective;
mod optimizer;
mod reverse_kl;
mod segments;
mod solved;
pub mod state_file;
mod streams;
mod training;

pub use checkpoint::{Checkpoint, Header};
pub use data::{Data, Epochs, Rows};
pub use error::{DataError, FileError, TrainError};
pub use evaluate::{chunks, log_probs, mean_of_finite, sample_given};
pub use fit::{Curves, Evaluation, Event, Fitted, Run, Stopped, fit, number_or_nan};
pub use likelihood::MaximumLikelihood;
pub use objective::{Loss, Objective, Score, Step};
pub use optimizer::Optimizer;
pub use reverse_kl::ReverseKl;
pub use segments::{SegmentedLikelihood, segmented_likelihood};
pub use solved::{MOST_UNSOLVED, mean_of_solved};
pub use streams::{stream, stream_seed};
pub use training::{Method, Schedule, Training};

/// What most programs that fit a flow use.
pub mod prelude {
    pub use crate::{
        Data, Event, Fitted, Loss, MaximumLikelihood, Objective, ReverseKl, Rows, Run, Schedule,
        Step, Training, fit, log_probs, sample_given, stream,
    };
}
