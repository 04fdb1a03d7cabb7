//! The ten lines of the crate page, as a program.

use flows_train::stream;
use rand_distr::{Distribution, StandardNormal};

#[path = "../../examples/own_table.rs"]
mod example;

#[test]
fn the_ten_lines_of_the_example_fit_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let rng = &mut stream(1, "table", 0);
    let mut normal = || -> f64 { StandardNormal.sample(rng) };
    let row = |_| {
        let (a, c) = (normal(), normal());
        format!("{a},{},{c}\n", a * a + c + 0.3 * normal())
    };
    let rows: String = (0..300).map(row).collect();
    std::fs::write(at("data.csv"), format!("a,b,c\n{rows}")).unwrap();
    let test = example::fit_and_use(&at("data.csv"), &at("m.flow")).unwrap();
    // The noise on b alone has an entropy of 0.2 nats, a and c have 1.42 each.
    assert!((-4.5..-2.5).contains(&test), "{test}");
}
