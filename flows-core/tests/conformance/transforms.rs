//! Every transform on its own, with parameters near and far from the identity: on knots, a rounding error beside them,
//! at the bound, beyond it, and far out. Value and log-slope are finite, the map increases, its log-slope is that of
//! autodiff, and the inverse leads back.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorCreationOptions, TensorData};
use flows_core::base::BaseConfig;
use flows_core::bijectors::AutoregressiveConfig;
use flows_core::distributions::{LogProb, TorusConfig};
use flows_core::domain::Interval;
use flows_core::flow::Flow;
use flows_core::masks::Untouched;
use flows_core::random::generator;
use flows_core::testing::{batch, normal_batch, rows};
use flows_core::transforms::{AnyTransform, Elementwise, Transform};

use crate::registry::autoregressive::transforms;

/// Numbers where a map may change its form, each with both neighbours, in f32 so that no type rounds them.
fn points(domain: Interval) -> Vec<f64> {
    // Knots of splines with equal bins, for eight of them and for four.
    let bound = if domain == Interval::REALS {
        5.0
    } else {
        domain.high
    };
    let knots = (-8..=8).map(|k| 0.125 * bound * f64::from(k));
    let centres = [0.1, 0.3, 1.7, 2.9, 4.99, 10.0, 30.0, 1e3];
    let signed = centres.into_iter().flat_map(|x| [x, -x]);
    let all = knots.chain(signed).flat_map(|x| {
        let x = x as f32;
        [x.next_down(), x, x.next_up()].map(f64::from)
    });
    let mut all: Vec<f64> = all.collect();
    all.sort_by(f64::total_cmp);
    all.dedup();
    all.retain(|x| domain.low <= *x && *x <= domain.high);
    all
}

/// Runs over the transforms whose text contains `filter`.
pub(crate) fn transforms_at_special_points<B: AutodiffBackend>(
    options: &TensorCreationOptions<B>,
    filter: &str,
) {
    let mut failures = Vec::new();
    let chosen = transforms()
        .into_iter()
        .filter(|t| format!("{t:?}").contains(filter));
    for transform in chosen {
        for (name, size) in [
            ("identity", 0.0),
            ("near", 0.3),
            ("far", 3.0),
            ("extreme", 300.0),
        ] {
            let failed = check::<B>(&transform, size, options);
            failures.extend(failed.map(|what| format!("{transform:?}, {name}: {what}")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn check<B: AutodiffBackend>(
    transform: &AnyTransform,
    size: f64,
    options: &TensorCreationOptions<B>,
) -> Option<String> {
    let count = Transform::<B>::parameters(transform);
    let identity = Transform::<B>::identity(transform);
    let domain = Transform::<B>::domain(transform);
    // Numbers on a circle are near each other across its seam.
    let period = Transform::<B>::period(transform);
    let apart = |a: f64, b: f64| {
        let off = (a - b).abs();
        period.map_or(off, |period| off.min((off - period).abs()))
    };
    let points = points(domain);
    let n = points.len();
    let moves: Vec<f64> = rows(&normal_batch::<B>([1, count], 5, options.clone()));
    let raw: Vec<f64> = moves
        .iter()
        .zip(&identity)
        .map(|(m, i)| i + size * m)
        .collect();
    let raw = Tensor::<B, 3>::from_data(TensorData::new(raw, [1, count, 1]), options.clone());
    let raw = raw.repeat_dim(0, n);
    let x = Tensor::<B, 2>::from_data(TensorData::new(points.clone(), [n, 1]), options.clone());
    let epsilon = x.dtype().finfo().expect("a float type").epsilon;

    let input = x.clone().require_grad();
    let Elementwise { value, log_slope } = transform.forward(raw.clone(), input.clone());
    let slopes = input
        .grad(&value.clone().sum().backward())
        .map(|g| rows(&g));
    let (y, log_slope) = (rows(&value), rows(&log_slope));
    let slopes = slopes.unwrap_or_default();
    let back = transform.inverse(raw.clone(), value.detach());
    let there = rows(&transform.forward(raw, back.value.clone().detach()).value);
    let (again, back_slope) = (rows(&back.value), rows(&back.log_slope));
    let mut falls = 0;
    for i in 0..n {
        let x = points[i];
        let all = [y[i], log_slope[i], again[i], back_slope[i]];
        if all.iter().any(|v| !v.is_finite()) {
            return Some(format!("at {x}: {all:?}"));
        }
        if size == 0.0 && apart(y[i], x) > 64.0 * epsilon * (1.0 + x.abs()) {
            return Some(format!("the identity takes {x} to {}", y[i]));
        }
        // A rounding error of the value, and of the parts that it is made of.
        let rounding = 64.0 * epsilon * (1.0 + x.abs() + y[i].abs());
        if i > 0 && y[i] < y[i - 1] - rounding {
            falls += 1;
        }
        // Once around the circle it starts anew.
        if falls > usize::from(period.is_some()) {
            return Some(format!("falls from {} to {} at {x}", y[i - 1], y[i]));
        }
        let slope = log_slope[i].exp();
        // Autodiff adds terms up, whose rounding the smallest slopes of large parameters do not outweigh.
        let lost = if size > 10.0 { 1e3 * epsilon } else { 0.0 };
        if (slopes[i] - slope).abs() > 1e7 * epsilon * slope + lost {
            return Some(format!(
                "slope {} at {x}, log-slope says {slope}",
                slopes[i]
            ));
        }
        if apart(there[i], y[i]) > (1.0 + slope) * rounding {
            return Some(format!(
                "{} comes back as {}, which maps to {}",
                y[i], again[i], there[i]
            ));
        }
        if size < 10.0 && apart(again[i], x) > (1.0 + slope.recip()) * rounding {
            return Some(format!("{x} comes back as {}, slope {slope}", again[i]));
        }
        // Where the slope bends, the point that came back has a slope of its own.
        if (again[i] - x).abs() == 0.0 && (back_slope[i] + log_slope[i]).abs() > 1e6 * epsilon {
            return Some(format!(
                "log-slopes {} and {} at {x}",
                log_slope[i], back_slope[i]
            ));
        }
    }
    None
}

/// Multiplies every weight.
struct Enlarge(f64);

impl<B: Backend> ModuleMapper<B> for Enlarge {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (id, tensor, mapper) = param.consume();
        Param::from_mapped_value(id, tensor * self.0, mapper)
    }
}

/// The density of a standard normal seen through a masked layer of each transform, with weights far from where it
/// starts, on midpoints of `[-20, 20]` in one variable and in two, or the uniform density on the domain of the
/// transform through a coupling: 1 to 0.1 %.
pub(crate) fn densities_integrate_to_one<B: Backend>(options: &TensorCreationOptions<B>) {
    for transform in transforms() {
        for (dim, cells) in [(1, 4000_u32), (2, 400)] {
            // Slopes that the cells resolve.
            let factor = match transform {
                AnyTransform::Umnn(_) => 1.5,
                _ => 3.0,
            };
            let domain = Transform::<B>::domain(&transform);
            let reals = domain == Interval::REALS;
            let config = match reals || dim == 1 {
                true => AutoregressiveConfig::new(dim, vec![8]),
                false => AutoregressiveConfig::coupling(dim, vec![8], Untouched::Even),
            };
            let config = AutoregressiveConfig {
                transform: transform.clone(),
                ..config
            };
            let layer = config
                .init::<B>(options.clone(), &mut generator(3))
                .expect("a layer");
            let (base, bound) = match reals {
                true => (BaseConfig::default(), 20.0),
                false => {
                    let bound = domain.high;
                    (BaseConfig::Torus(TorusConfig { bound }), bound)
                }
            };
            let base = base.init(dim, options.clone(), &mut generator(4));
            let base = base.expect("a base");
            let flow =
                Flow::data_to_base(layer.map(&mut Enlarge(factor)), base).expect("one dimension");
            let width = 2.0 * bound / f64::from(cells);
            let middle = |k: u32| (f64::from(k) + 0.5) * width - bound;
            let points: Vec<Vec<f64>> = (0..u32::pow(cells, dim as u32))
                .map(|k| {
                    let digit = |j: u32| k / u32::pow(cells, j) % cells;
                    (0..dim as u32).map(|j| middle(digit(j))).collect()
                })
                .collect();
            let log_prob = rows(&flow.log_prob(batch(&points, options.clone()), None));
            let mass: f64 = log_prob
                .iter()
                .map(|l| l.exp() * width.powi(dim as i32))
                .sum();
            assert!(
                (mass - 1.0).abs() < 1e-3,
                "{transform:?}, dim {dim}: {mass}"
            );
        }
    }
}
