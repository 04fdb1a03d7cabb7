//! Samples, reconstructions, posteriors in the plane, and training curves.

use super::drawing::{CELLS, Drawing};
use super::{DRAWING, Job, Measured, VaeExperiment, VaeExperimentConfig};
use crate::report::{
    Bitmap, CurveLine, CurvePanel, CurvePlot, ReportError, draw_curve_panels, draw_mosaic,
};
use crate::runner::Results;

/// Draws what the first seed of every posterior has kept.
pub(super) fn draw_pictures(
    results: &Results<VaeExperiment>,
    config: &VaeExperimentConfig,
) -> Result<(), ReportError> {
    let set = config.data.name();
    let width = config.data.size()[1];
    let image = |pixels: &Vec<u8>| Bitmap::grey(width, pixels);
    let side = config.data.size().into_iter().max().unwrap_or(1);
    // Bitmaps grow by whole numbers: a cell that is a multiple leaves no gap.
    let cell = |side: usize, most: usize| (side * (most / side).max(1)) as u32;
    for &latent in &config.latents {
        let drawn: Vec<(&Job, Drawing)> = results
            .jobs
            .iter()
            .filter(|job| job.seed == 0 && job.model.latent == latent)
            .filter_map(|job| Some((job, results.run(job).kept(DRAWING)?)))
            .collect();
        let Some((_, first)) = drawn.first() else {
            continue;
        };
        let path = |name: &str| {
            results
                .folder
                .path()
                .join(format!("{name}-latent-{latent}.png"))
        };

        let titles: Vec<String> = drawn.iter().map(|(job, _)| job.posterior.clone()).collect();
        let sheets = drawn.iter().map(|(_, drawing)| {
            let images: Vec<Bitmap> = drawing.samples.iter().map(image).collect();
            Bitmap::sheet(&images, images.len().isqrt())
        });
        let sheet = first.samples.len().isqrt() * (side + 1) - 1;
        let row = (String::new(), sheets.collect());
        let heading = format!("{set}: samples, {latent} latent variables");
        draw_mosaic(path("samples"), &heading, &titles, &[row], cell(sheet, 240))?;

        let none = vec![String::new(); first.originals.len()];
        let mut rows = vec![(
            "test images".to_owned(),
            first.originals.iter().map(image).collect(),
        )];
        rows.extend(drawn.iter().map(|(job, drawing)| {
            (
                job.posterior.clone(),
                drawing.reconstructions.iter().map(image).collect(),
            )
        }));
        let heading = format!("{set}: reconstructions, {latent} latent variables");
        draw_mosaic(
            path("reconstructions"),
            &heading,
            &none,
            &rows,
            cell(side, 84),
        )?;

        let mut titles = Vec::new();
        for _ in &first.posteriors {
            titles.extend(["image", "p(z|x)", "before the flow", "behind it"].map(str::to_owned));
        }
        if !titles.is_empty() {
            let row = |(job, drawing): &(&Job, Drawing)| {
                let cells = drawing.originals.iter().zip(&drawing.posteriors);
                let bitmaps = cells.flat_map(|(original, posterior)| {
                    [
                        image(original),
                        Bitmap::density(CELLS, &posterior.exact),
                        Bitmap::density(CELLS, &posterior.before),
                        Bitmap::density(CELLS, &posterior.behind),
                    ]
                });
                (job.posterior.clone(), bitmaps.collect())
            };
            let rows: Vec<_> = drawn.iter().map(row).collect();
            let heading = format!("{set}: posteriors of three test images");
            draw_mosaic(path("posteriors"), &heading, &titles, &rows, 120)?;
        }

        let of_latent = |(job, _): &(&Job, _)| job.model.latent == latent && job.seed == 0;
        // Epochs of the warm-up would take most of the height.
        let points = |measured: &Measured| -> Vec<[f64; 2]> {
            let warm = measured.curve.iter().filter(|e| e.weight >= 1.0);
            warm.map(|e| [e.epoch as f64, e.validation]).collect()
        };
        let lines = results.measured().filter(of_latent).enumerate();
        let line = |(i, (job, measured)): (usize, (&Job, &Measured))| {
            CurveLine::plain(job.posterior.clone(), points(measured), i)
        };
        let lines: Vec<CurveLine> = lines.map(line).filter(|l| !l.points.is_empty()).collect();
        if !lines.is_empty() {
            let plot = CurvePlot {
                title: format!("{set}: validation after the warm-up, {latent} latent variables"),
                x_label: "epoch".to_owned(),
                y_label: "-ELBO in nats".to_owned(),
                ..CurvePlot::default()
            };
            let panel = CurvePanel {
                plot,
                lines,
                ..CurvePanel::default()
            };
            draw_curve_panels(path("curves"), "", &[panel], 1)?;
        }
    }
    Ok(())
}
