//! Progress bars on a terminal, one line a run elsewhere.

use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Job, Progress, Record};

/// What the user sees of a running experiment.
pub(super) struct Screen {
    bars: MultiProgress,
    total: ProgressBar,
    running: Vec<Option<ProgressBar>>,
}

impl Screen {
    pub(super) fn new(jobs: usize) -> Self {
        let bars = MultiProgress::new();
        if !std::io::stderr().is_terminal() {
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = "{bar:30} {pos}/{len} runs, {elapsed} elapsed, {eta} left";
        let total = bars.add(ProgressBar::new(jobs as u64).with_style(style_of(style)));
        Self {
            bars,
            total,
            running: vec![None; jobs],
        }
    }

    pub(super) fn show<R: Record>(&mut self, jobs: &[impl Job], progress: &Progress<R>) {
        match progress {
            Progress::Started { job } => {
                let name = jobs[*job].name();
                let steps = jobs[*job].steps() as u64;
                let style = style_of("{prefix:<32} {bar:20} {pos}/{len} {msg}");
                let bar = ProgressBar::new(steps).with_style(style).with_prefix(name);
                self.running[*job] = Some(self.bars.insert_before(&self.total, bar));
            }
            Progress::Stepped { job, event } => {
                if let Some(bar) = &self.running[*job] {
                    bar.set_position(event.step as u64);
                    bar.set_message(format!("loss {:.4}", event.loss));
                }
            }
            Progress::Ended { job, record } => {
                if let Some(bar) = self.running[*job].take() {
                    bar.finish_and_clear();
                }
                self.total.inc(1);
                let name = jobs[*job].name();
                self.bars.suspend(|| {
                    println!("{name:<32} {}", record.outcome());
                    for warning in record.warnings() {
                        eprintln!("warning: {name}: {warning}");
                    }
                });
            }
        }
    }

    pub(super) fn clear(&self) {
        self.total.finish_and_clear();
    }
}

fn style_of(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a template written here")
}
