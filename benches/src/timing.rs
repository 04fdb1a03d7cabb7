//! Timing as the other scripts do it: three calls to warm up, then calls until the budget is spent.

use std::time::{Duration, Instant};

use serde::Serialize;

/// One line of output.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Whose implementation.
    #[serde(rename = "impl")]
    pub implementation: String,
    /// The case.
    pub case: String,
    /// Median milliseconds of a call.
    pub median_ms: f64,
    /// Fastest call.
    pub min_ms: f64,
    /// Mean processor milliseconds of a call, over all threads; absent where the system has none.
    pub cpu_ms: Option<f64>,
    /// Calls timed.
    pub n: usize,
    /// Rows a second, by the median.
    pub sps: f64,
    /// Operations of the matrix products in a call, in GFLOP.
    pub gflop: f64,
    /// Those operations at the rate at which the machine multiplies and adds.
    pub floor_ms: f64,
    /// Most memory that this process has had so far, in MiB; absent where the system has none.
    pub peak_mib: Option<f64>,
}

/// Wall and processor time of repeated calls.
#[derive(Debug, Clone)]
pub struct Timing {
    seconds: Vec<f64>,
    cpu_seconds: Option<f64>,
}

impl Timing {
    /// Calls `f` three times to warm up, then at least five times and until `budget` is spent, at
    /// most 400 times.
    pub fn of(budget: Duration, mut f: impl FnMut()) -> Self {
        for _ in 0..3 {
            f();
        }
        let mut seconds = Vec::new();
        let (begun, cpu) = (Instant::now(), processor_seconds());
        while seconds.len() < 5 || (begun.elapsed() < budget && seconds.len() < 400) {
            let call = Instant::now();
            f();
            seconds.push(call.elapsed().as_secs_f64());
        }
        let cpu_seconds = processor_seconds()
            .zip(cpu)
            .map(|(now, then)| (now - then) / seconds.len() as f64);
        seconds.sort_by(f64::total_cmp);
        Self {
            seconds,
            cpu_seconds,
        }
    }

    /// Median seconds of a call.
    pub fn median(&self) -> f64 {
        self.seconds[self.seconds.len() / 2]
    }

    /// Seconds of the fastest call.
    pub fn min(&self) -> f64 {
        self.seconds[0]
    }

    /// Mean processor seconds of a call.
    pub fn cpu(&self) -> Option<f64> {
        self.cpu_seconds
    }

    /// Calls timed.
    pub fn calls(&self) -> usize {
        self.seconds.len()
    }
}

/// Processor time of this process so far, where `/proc` tells it.
fn processor_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Fields 14 and 15, behind the parenthesised name: user and system time in ticks of 1/100 s.
    let fields = stat.rsplit_once(')')?.1.split_whitespace();
    let ticks = fields.skip(11).take(2).map(str::parse::<f64>);
    Some(ticks.sum::<Result<f64, _>>().ok()? / 100.0)
}

/// Most memory that this process has had so far in MiB, where `/proc` tells it.
pub fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// Rounds to three decimals, as the other scripts print.
pub fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
