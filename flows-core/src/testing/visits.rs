//! Whether a composition hands a visit to every layer inside, in both directions.

use std::sync::{Arc, Mutex};

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use core::marker::PhantomData;

use super::Suite;
use super::failure::Failure;
use super::numbers::{normal_batch, rows};
use crate::bijector::{Bijector, Invert, Mapped, assert_ok};
use crate::error::Error;
use crate::visit::{End, LayerVisit, Task, has_statistics};
use burn::tensor::backend::AutodiffBackend;

/// A layer `y = 2 x + 1` that writes down what it is asked to do and on which rows, to be put into a composition.
#[derive(Module, Debug)]
pub struct Probe<B: Backend> {
    dim: usize,
    #[module(skip)]
    log: Log,
    backend: PhantomData<B>,
}

#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    tasks: Vec<String>,
    /// Rows that a task brought, and rows of the last map.
    arrived: Option<(End, Vec<f64>)>,
    mapped: Option<(End, Vec<f64>)>,
}

impl Log {
    fn with<T>(&self, f: impl FnOnce(&mut Seen) -> T) -> T {
        f(&mut self.0.lock().expect("no property panics while it looks"))
    }
}

impl<B: Backend> Bijector<B> for Probe<B> {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&x, context.as_ref()));
        self.log
            .with(|seen| seen.mapped = Some((End::Input, rows(&x))));
        let there = Mapped::volume_preserving(x * 2.0 + 1.0);
        Mapped {
            log_det: there.log_det + self.dim as f64 * 2f64.ln(),
            ..there
        }
    }

    fn adapt(&mut self, task: Task<'_, B>) {
        let (name, rows) = match task {
            Task::InitFromData(rows) => ("init".to_owned(), Some(rows)),
            Task::UpdateStatistics(rows) => ("update".to_owned(), Some(rows)),
            Task::FreezeStatistics(rows) => ("freeze".to_owned(), Some(rows)),
            Task::FindStatistics(found) => {
                *found = true;
                ("find".to_owned(), None)
            }
            Task::ResampleNoise(seed) => (format!("noise {seed}"), None),
            Task::SetTemperature(temperature) => (format!("temperature {temperature}"), None),
        };
        let rows = rows.map(|arriving| {
            let chunks = arriving.chunks.iter().flat_map(self::rows);
            (arriving.at, chunks.collect())
        });
        self.log.with(|seen| {
            seen.tasks.push(name);
            seen.arrived = rows;
        });
    }
}

impl<B: Backend> Invert<B> for Probe<B> {
    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&y, context.as_ref()));
        self.log
            .with(|seen| seen.mapped = Some((End::Output, rows(&y))));
        let back = Mapped::volume_preserving((y - 1.0) * 0.5);
        Mapped {
            log_det: back.log_det - self.dim as f64 * 2f64.ln(),
            ..back
        }
    }
}

impl<B: AutodiffBackend> Suite<B> {
    /// Requires that a composition hands every task to every layer inside, once, with the rows that the map itself
    /// brings there, and with noise of its own for each, in both directions.
    ///
    /// `build` makes the composition out of probes; it calls `probe(dim)` for each layer.
    pub fn check_composition<L, F>(&mut self, name: &str, build: F)
    where
        L: Invert<B>,
        F: Fn(&mut dyn FnMut(usize) -> Probe<B>) -> Result<L, Error>,
    {
        let mut logs = Vec::new();
        let mut probe = |dim| {
            let log = Log::default();
            logs.push(log.clone());
            Probe {
                dim,
                log,
                backend: PhantomData,
            }
        };
        let mut whole = match build(&mut probe) {
            Ok(whole) => whole,
            Err(error) => panic!("{name}: {error}"),
        };
        let mut fail = |property: &str, detail: String| {
            self.failures.push(Failure {
                name: name.to_owned(),
                property: property.to_owned(),
                detail,
            });
        };
        let x = normal_batch::<B>([5, whole.dim()], 3, self.options.clone());
        let chunks = || {
            let dim = x.dims()[1];
            vec![
                x.clone().slice([0..2, 0..dim]),
                x.clone().slice([2..5, 0..dim]),
            ]
        };
        for inverse in [false, true] {
            let direction = if inverse { "inverse" } else { "forward" };
            let visits: [(&str, LayerVisit<B>); 5] = [
                ("init", LayerVisit::init_from_data(x.clone(), None)),
                ("update", LayerVisit::update_statistics(x.clone(), None)),
                ("freeze", LayerVisit::freeze_statistics(chunks(), None)),
                ("noise", LayerVisit::resample_noise(7)),
                (
                    "temperature 0.5",
                    LayerVisit::set_temperature(0.5).expect("it is positive"),
                ),
            ];
            for (task, mut visit) in visits {
                let with_rows = visit.has_rows();
                if inverse {
                    whole.visit_layers_inverse(&mut visit);
                } else {
                    whole.visit_layers(&mut visit);
                }
                let arrived: Vec<_> = logs
                    .iter()
                    .map(|log| log.with(|s| s.arrived.take()))
                    .collect();
                let end = if inverse {
                    whole.inverse(x.clone(), None)
                } else {
                    whole.forward(x.clone(), None)
                };
                let mut all = Vec::new();
                for (k, log) in logs.iter().enumerate() {
                    let (tasks, mapped) =
                        log.with(|s| (std::mem::take(&mut s.tasks), s.mapped.take()));
                    let once = tasks.len() == 1 && tasks[0].starts_with(task);
                    if !once {
                        let detail = format!("{direction}, task '{task}': layer {k} saw {tasks:?}");
                        fail("a visit reaches every layer once", detail);
                    }
                    if with_rows && arrived[k] != mapped {
                        let detail = format!("{direction}, task '{task}': other rows at layer {k}");
                        fail("a visit brings the rows that the map brings", detail);
                    }
                    all.extend(tasks);
                }
                if with_rows {
                    let there: Vec<f64> = visit.into_rows().iter().flat_map(rows).collect();
                    if there != rows(&end) {
                        let detail = format!("{direction}, task '{task}'");
                        fail("a visit takes rows where the map takes them", detail);
                    }
                }
                all.sort();
                all.dedup();
                if task == "noise" && all.len() < logs.len() {
                    fail("every layer draws noise of its own", direction.to_owned());
                }
            }
        }
        if !has_statistics(|visit| whole.visit_layers(visit)) {
            fail("running statistics are found", "none was".to_owned());
        }
        self.outputs.insert(name.to_owned(), Vec::new());
    }
}
