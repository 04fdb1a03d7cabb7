//! Pictures of every kind of mask, and of the weight masks of a masked network: draws `masks.png` and
//! `made.png` into the folder named, and writes and prints the masks as `masks.txt`.

use std::path::PathBuf;

use flows_core::masks::{DependencyMask, MadeLayout, MaskConfig, Ordering, Untouched, WeightMask};
use flows_experiments::report::{MatrixPanel, draw_matrix_panels, write_atomically};

const DIM: usize = 8;
const CONTEXT: usize = 2;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| anyhow::anyhow!("which folder to draw into?"))?;
    std::fs::create_dir_all(&folder)
        .map_err(|error| anyhow::anyhow!("cannot make the folder {}: {error}", folder.display()))?;
    let blocks = vec![vec![0, 1, 2], vec![3, 4], vec![5, 6, 7]];
    let graph = vec![
        vec![],
        vec![],
        vec![0, 1],
        vec![2],
        vec![2],
        vec![],
        vec![3, 5],
        vec![4, 6],
    ];
    let masks = [
        ("natural", MaskConfig::default()),
        ("reversed", MaskConfig::Autoregressive(Ordering::Reversed)),
        (
            "random, seed 1",
            MaskConfig::Autoregressive(Ordering::Random { seed: 1 }),
        ),
        ("graph", MaskConfig::Graph(graph)),
        ("blocks", MaskConfig::Blocks(blocks.clone())),
        ("coupling", MaskConfig::Coupling(Untouched::Even)),
    ];
    let mut panels = Vec::new();
    let mut text = String::new();
    for (name, config) in masks {
        let mask = config.build(DIM)?;
        text += &format!("{name}, {} levels\n{mask}\n", mask.depth());
        panels.push(panel(name, &mask));
    }
    let mask = MaskConfig::default().build(DIM)?;
    let with_context = MatrixPanel::of("with context", [DIM, DIM + CONTEXT], |i, j| {
        j >= DIM || mask.sees(i, j)
    });
    let subtitle = format!("the last {CONTEXT} columns are context");
    panels.push(
        with_context
            .subtitled(subtitle)
            .named("parameters of i", "see j"),
    );
    // What an output depends on beyond what its parameters see.
    let mask = MaskConfig::Blocks(blocks).build(DIM)?;
    let dense = MatrixPanel::of("dense blocks", [DIM, DIM], |i, j| {
        mask.sees(i, j) || mask.levels()[i] == mask.levels()[j]
    });
    panels.push(
        dense
            .subtitled("Jacobian of a block affine layer")
            .named("output i", "depends on j"),
    );
    draw_matrix_panels(folder.join("masks.png"), "", &panels, 4)?;

    let layout = MadeLayout::new(MaskConfig::default().build(DIM)?, &[16, 16], false)?;
    let degrees = layout.hidden()[0].degrees();
    text += &format!("degrees of 16 hidden units, natural order\n{degrees:?}\n");
    let weights = [
        (
            "first layer",
            layout.from_variables(0),
            ["variable", "unit"],
        ),
        ("second layer", layout.between(0, 1), ["unit", "unit"]),
        (
            "last layer",
            layout.to_parameters(Some(1), 2),
            ["unit", "shift and scale of i"],
        ),
    ];
    let weights = weights.map(|(title, mask, [from, to])| {
        weight_panel(title, &mask).named(&format!("from {from}"), &format!("to {to}"))
    });
    draw_matrix_panels(folder.join("made.png"), "", &weights, 3)?;
    write_atomically(folder.join("masks.txt"), text.as_bytes())?;
    print!("{text}");
    Ok(())
}

fn panel(title: &str, mask: &DependencyMask) -> MatrixPanel {
    let dim = mask.dim();
    MatrixPanel::of(title, [dim, dim], |i, j| mask.sees(i, j))
        .subtitled(format!("inverse in {} steps", mask.depth()))
        .named("parameters of i", "see j")
}

fn weight_panel(title: &str, mask: &WeightMask) -> MatrixPanel {
    let open = mask.entries.iter().filter(|open| **open).count();
    let share = 100.0 * open as f64 / mask.entries.len() as f64;
    MatrixPanel::of(title, [mask.inputs, mask.outputs], |i, j| mask.allows(i, j))
        .subtitled(format!("{share:.0} % of the weights exist"))
}
