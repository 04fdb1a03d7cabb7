//! What holds between the two directions of a layer.

use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;

use super::{ROUNDING, Run, epsilon};
use crate::testing::built::Input;
use crate::testing::case::Case;
use crate::testing::differentiate::jacobians;
use crate::testing::layer::Direction::{Forward, Inverse};
use crate::testing::layer::Layer;
use crate::testing::numbers::{relative_error, rows};

impl<B: AutodiffBackend> Run<'_, B, Case> {
    pub(super) fn inverse_properties(&mut self, layer: &dyn Layer<B>) {
        let tolerance = self.round_trip_tolerance();
        for (points, start) in [
            ("N(0, 1)", self.normal(layer)),
            ("U(-5, 5)", self.uniform(layer)),
        ] {
            let there = layer.mapped(Forward, start.clone());
            let y = there.value.detach();
            let back = layer.mapped(Inverse, start.at(y.clone()));
            let property = format!("inverse(forward(x)) = x, x from {points}");
            self.comes_back(&property, layer, &start, &y, &rows(&back.value));
            self.expect_close(
                "log-det of inverse is minus that of forward",
                &rows(&back.log_det.neg()),
                &rows(&there.log_det),
                self.log_det_tolerance(),
            );
        }
        let image = self.points(Inverse, layer, self.normal(layer));
        let back = layer.value(Inverse, image.clone());
        let again = layer.value(Forward, image.at(back.detach()));
        self.expect_close(
            "forward(inverse(y)) = y",
            &rows(&again),
            &rows(&image.x),
            tolerance,
        );
        self.jacobians_multiply_to_one(layer, &image);
        self.reports_its_passes(layer, &image);
    }

    /// To the tolerance, or to what an ill-conditioned layer makes of the rounding of `y`.
    fn comes_back(
        &mut self,
        property: &str,
        layer: &dyn Layer<B>,
        start: &Input<B>,
        y: &Tensor<B, 2>,
        back: &[f64],
    ) {
        let (x, y, dim) = (rows(&start.x), rows(y), layer.dim());
        let tolerance = self.round_trip_tolerance();
        let error = relative_error(back, &x);
        if error <= tolerance {
            return;
        }
        let jacobians = jacobians(|x| layer.value(Forward, start.at(x)), &start.x);
        let largest = |v: &[f64]| v.iter().fold(0.0, |s: f64, v| s.max(v.abs()));
        for (r, jacobian) in jacobians.into_iter().enumerate() {
            let row = r * dim..(r + 1) * dim;
            let (x, y, back) = (&x[row.clone()], &y[row.clone()], &back[row]);
            let error = relative_error(back, x);
            let forward = jacobian.norm();
            let inverse = jacobian.try_inverse().map_or(f64::INFINITY, |j| j.norm());
            let rounding = ROUNDING * epsilon(&start.x);
            let own = rounding * inverse * (forward * largest(x) + largest(y));
            let allowed = tolerance.max(own);
            if error.is_nan() || error > allowed {
                let detail = format!("row {r}: relative error {error:e}, allowed {allowed:e}");
                self.fail(property, detail);
            }
        }
    }

    fn jacobians_multiply_to_one(&mut self, layer: &dyn Layer<B>, image: &Input<B>) {
        let x = layer.value(Inverse, image.clone()).detach();
        let forward = jacobians(|x| layer.value(Forward, image.at(x)), &x);
        let inverse = jacobians(|y| layer.value(Inverse, image.at(y)), &image.x);
        let solver = 10.0 * self.case.inverse_tolerance.unwrap_or(0.0);
        let tolerance = self.precision.jacobian_product.max(solver);
        for (r, (f, g)) in forward.iter().zip(&inverse).enumerate() {
            let product = f * g;
            let error = (&product - nalgebra::DMatrix::identity(f.nrows(), f.nrows())).amax();
            let own = ROUNDING * epsilon(&x) * f.norm() * g.norm();
            let tolerance = tolerance.max(own);
            if error.is_nan() || error > tolerance {
                let detail = format!("row {r}: off the identity by {error:e}");
                self.fail("J(forward) J(inverse) = I", detail);
            }
        }
    }

    fn reports_its_passes(&mut self, layer: &dyn Layer<B>, image: &Input<B>) {
        let property = "the inverse reports passes and residual";
        let (mapped, report) = layer.inverse_with_report(image.clone());
        let plain = layer.value(Inverse, image.clone());
        let tolerance = self.round_trip_tolerance();
        self.expect_close(property, &rows(&mapped.value), &rows(&plain), tolerance);
        let scale = rows(&image.x).iter().fold(1.0, |s: f64, v| s.max(v.abs()));
        let small = report.residual >= 0.0 && report.residual <= tolerance * scale;
        let few = self
            .case
            .max_passes
            .is_none_or(|most| report.passes <= most);
        if !small || !few || report.passes == 0 {
            self.fail(property, format!("{report:?}"));
        }
    }
}
