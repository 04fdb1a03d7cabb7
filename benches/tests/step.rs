//! The binary `step` times what it is asked to.

use std::process::Command;

#[test]
fn a_case_is_timed_on_one_line() {
    let mut step = Command::new(env!("CARGO_BIN_EXE_step"));
    step.args([
        "ddnf-2-8-16",
        "mafinv-3-8-16",
        "--threads",
        "1",
        "--budget",
        "0.01",
    ]);
    let done = step.output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let lines = String::from_utf8(done.stdout).unwrap();
    let reports = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let reports = reports.collect::<Vec<serde_json::Value>>();
    let cases = reports
        .iter()
        .map(|report| report["case"].as_str().unwrap());
    assert_eq!(cases.collect::<Vec<_>>(), ["ddnf-2-8-16", "mafinv-3-8-16"]);
    for report in reports {
        assert!(report["median_ms"].as_f64().unwrap() > 0.0, "{report}");
        assert!(report["n"].as_u64().unwrap() >= 5, "{report}");
    }
}
