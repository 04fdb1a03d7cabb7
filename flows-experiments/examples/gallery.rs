//! Draws every toy target, and a plot of each other kind, into a folder:
//! `cargo run --release -p flows-experiments --example gallery -- FOLDER`.

use flows_experiments::report::density_plot::{grid_points, histogram};
use flows_experiments::report::{
    Cell, CurvePlot, DensityPanel, Scale, Series, Table, draw_curves, draw_density_panels,
    draw_overview, format_estimate,
};
use flows_experiments::targets::{SoftWall, Target, normalize_walled, quadrature::DEFAULT_CELL};
use rand::SeedableRng;
use rand::rngs::StdRng;

const CELLS: usize = 200;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "gallery".to_owned());
    let folder = std::path::Path::new(&folder);
    std::fs::create_dir_all(folder)?;
    let mut table = Table::new(["target", "entropy (nats)", "source"]);
    let mut rows = Vec::new();
    for target in Target::all() {
        let (entropy, panels) = panels(target);
        draw_density_panels(
            folder.join(format!("{target}.png")),
            target.name(),
            &panels,
            4,
        )?;
        let entropy = entropy.map_or(Cell::Missing, |h| Cell::estimate(h, None));
        table.push(vec![
            Cell::text(target.name()),
            entropy,
            Cell::text(target.describe()),
        ]);
        rows.push((target.name().to_owned(), panels));
    }
    draw_overview(folder.join("overview.png"), &rows)?;
    println!("{}", table.to_terminal());

    let decay =
        |rate: f64| (0..=200).map(move |i| [f64::from(i * 20), (-rate * f64::from(i)).exp()]);
    let series: Vec<Series> = [("0.01", 0.01), ("0.03", 0.03), ("0.05", 0.05)]
        .map(|(name, rate)| Series {
            name: format!("exp(−{name} i)"),
            points: decay(rate).collect(),
        })
        .to_vec();
    let plot = CurvePlot {
        title: "Decay at three rates".to_owned(),
        x_label: "step".to_owned(),
        y_label: "value (nats)".to_owned(),
        y_scale: Scale::Log10,
        ..CurvePlot::default()
    };
    draw_curves(folder.join("curves.png"), &plot, &series)?;
    Ok(())
}

/// The entropy where it is known, and the density beside a histogram of samples where there are both.
fn panels(target: Target) -> (Option<f64>, Vec<DensityPanel>) {
    let range = target.plot_range();
    let panel = |title: &str, subtitle: String, grid| DensityPanel {
        title: title.to_owned(),
        subtitle,
        range,
        grid,
    };
    let points = grid_points(range, CELLS);
    match target {
        Target::Energy(energy) => {
            let wall = SoftWall::default();
            let integral = normalize_walled(energy, &wall, DEFAULT_CELL);
            let log_p = |z| -energy.potential(z) - wall.penalty(z) - integral.log_z;
            let grid = points.iter().map(|z| log_p(*z).exp()).collect();
            let subtitle = format!("entropy {}", format_estimate(integral.entropy, None));
            (
                Some(integral.entropy),
                vec![panel("density", subtitle, grid)],
            )
        }
        Target::Samples(set) => {
            let samples = set.sample(1_000_000, &mut StdRng::seed_from_u64(1));
            let drawn = panel(
                "10⁶ samples",
                String::new(),
                histogram(&samples, range, CELLS),
            );
            let Some(entropy) = set.entropy() else {
                return (None, vec![drawn]);
            };
            let log_p = |x| set.log_density(x).unwrap_or(f64::NAN);
            let grid = points.iter().map(|x| log_p(*x).exp()).collect();
            let subtitle = format!("entropy {}", format_estimate(entropy, None));
            (Some(entropy), vec![panel("density", subtitle, grid), drawn])
        }
    }
}
