//! Progress bars on a terminal, one line a job elsewhere.

use std::io::{IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Event;

/// A progress bar on standard error, hidden where that is no terminal.
///
/// # Panics
/// Where `template` is none of indicatif.
pub fn bar(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("a template written here");
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    ProgressBar::with_draw_target(Some(length), target).with_style(style)
}

/// What the user sees of a running experiment.
pub(super) struct Screen {
    bars: MultiProgress,
    total: ProgressBar,
    running: Vec<Option<ProgressBar>>,
    steps: Vec<u64>,
    done: Vec<u64>,
}

impl Screen {
    /// For jobs of this many steps, of which `ended` were done before.
    pub(super) fn new(steps: Vec<u64>, ended: &[bool]) -> Self {
        let bars = MultiProgress::new();
        if !std::io::stderr().is_terminal() {
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = "{bar:30} {percent} % of all steps, {elapsed} elapsed, {eta} left";
        let total = bars.add(bar(steps.iter().sum(), style));
        let done = steps
            .iter()
            .zip(ended)
            .map(|(n, ended)| if *ended { *n } else { 0 });
        let done: Vec<u64> = done.collect();
        total.set_position(done.iter().sum());
        // What was done before took no time now.
        total.reset_eta();
        Self {
            bars,
            total,
            running: vec![None; steps.len()],
            steps,
            done,
        }
    }

    pub(super) fn started(&mut self, job: usize, name: &str) {
        let style = "{prefix:<32} {bar:20} {pos}/{len} {msg}";
        let bar = bar(self.steps[job], style).with_prefix(name.to_owned());
        self.running[job] = Some(self.bars.insert_before(&self.total, bar));
    }

    pub(super) fn stepped(&mut self, job: usize, event: Event) {
        if let Some(bar) = &self.running[job] {
            bar.set_position(event.step as u64);
            bar.set_message(format!("loss {:.4}", event.loss));
        }
        self.moved(job, event.step as u64);
    }

    pub(super) fn ended(&mut self, job: usize, name: &str, outcome: &str, warnings: &[String]) {
        if let Some(bar) = self.running[job].take() {
            bar.finish_and_clear();
        }
        self.moved(job, self.steps[job]);
        self.bars.suspend(|| {
            // Nobody may be reading any more; the results are in the folder.
            let _ = writeln!(std::io::stdout(), "{name:<32} {outcome}");
            for warning in warnings {
                eprintln!("warning: {name}: {warning}");
            }
        });
    }

    fn moved(&mut self, job: usize, steps: u64) {
        self.done[job] = steps;
        self.total.set_position(self.done.iter().sum());
    }

    pub(super) fn clear(&self) {
        self.total.finish_and_clear();
    }
}
