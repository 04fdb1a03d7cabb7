//! Tests in processes of their own: Burn takes gradients on one thread of a process, and fixes the default float type
//! on first use.

use std::process::{Command, Stdio};

use burn::tensor::backend::AutodiffBackend;
use flows_core::testing::Suite;

/// What a process that this module started has to do, as `INDEX/OF`.
const PART: &str = "FLOWS_TEST_PART";

/// Runs the body of the test `name` in `of` processes at once; each is told which one it is.
///
/// # Panics
/// With what a process printed, if its part failed.
pub(crate) fn in_processes(name: &str, of: usize, body: impl FnOnce(Part)) {
    if let Some(part) = std::env::var_os(PART) {
        let part = part.into_string().expect("INDEX/OF");
        let (index, of) = part.split_once('/').expect("INDEX/OF");
        let [index, of] = [index, of].map(|n| n.parse().expect("a number"));
        return body(Part { index, of });
    }
    let start = |index| {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program);
        child.args(["--exact", name]).stdout(Stdio::piped());
        child.env(PART, format!("{index}/{of}")).spawn()
    };
    let children: Vec<_> = (0..of).map(start).collect();
    for child in children {
        let output = child.and_then(|child| child.wait_with_output());
        let output = output.expect("a process");
        let printed = String::from_utf8_lossy(&output.stdout);
        // A filter that fits no test is a success too.
        let ran = output.status.success() && printed.contains("1 passed");
        assert!(ran, "{name}:\n{printed}");
    }
}

/// As many as work at once.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// One of several processes that share the cases of a suite.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    index: usize,
    of: usize,
}

impl Part {
    pub(crate) fn of<B: AutodiffBackend>(self, suite: Suite<B>) -> Suite<B> {
        suite.part(self.index, self.of)
    }
}
