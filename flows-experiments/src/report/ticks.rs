//! Round values along an axis, and labels that tell them apart.

/// Two, three or five round values inside a range, its middle among them where that is round.
pub(super) fn ticks([low, high]: [f64; 2]) -> Vec<f64> {
    let power = 10f64.powf((high - low).log10().floor());
    let step = [0.2, 0.5, 1.0, 2.0]
        .into_iter()
        .map(|s| s * power)
        .find(|step| (high - low) / step < 5.5)
        .unwrap_or(5.0 * power);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|i| i as f64 * step).collect()
}

/// What is written at the ticks of an axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Labels {
    /// A text for each.
    pub(super) texts: Vec<String>,
    /// What is to be added to all of them, as `(+1.6e9)`; empty for most axes.
    pub(super) offset: String,
}

/// Texts of at most four digits where those tell the values apart; then all digits where they are short,
/// and otherwise what is left after taking off an offset.
pub(super) fn labels(values: &[f64]) -> Labels {
    let steps = values.windows(2).map(|two| (two[1] - two[0]).abs());
    let step = steps.fold(f64::INFINITY, f64::min);
    let plain: Vec<String> = values.iter().map(|v| label(*v)).collect();
    let close = |(text, value): (&String, &f64)| {
        let shown: f64 = text.replace('−', "-").parse().unwrap_or(f64::NAN);
        (shown - value).abs() <= 0.01 * step
    };
    let without = |texts| Labels {
        texts,
        offset: String::new(),
    };
    if step == f64::INFINITY || step == 0.0 || plain.iter().zip(values).all(close) {
        return without(plain);
    }
    let decimals = |size: f64| (-size.log10().floor()).max(0.0) as usize;
    let digits = decimals(step) + 1;
    let long: Vec<String> = values.iter().map(|v| fixed(*v, digits)).collect();
    if long.iter().all(|text| text.chars().count() <= 7) {
        return without(long);
    }
    let [low, high] = values
        .iter()
        .fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], v| {
            [low.min(*v), high.max(*v)]
        });
    let unit = 10f64.powf((high - low).log10().floor() + 1.0);
    let offset = (low / unit).floor() * unit;
    let rest = values
        .iter()
        .map(|v| ((v - offset) / step * 1e3).round() * 1e-3 * step);
    let text = match offset.abs() {
        size if size < 1e7 => fixed(offset.abs(), decimals(unit)),
        size => format!("{size:e}"),
    };
    let sign = if offset < 0.0 { '−' } else { '+' };
    Labels {
        texts: rest.map(label).collect(),
        offset: format!("({sign}{})", text.replace('-', "−")),
    }
}

/// A number of at most four significant digits, with a true minus sign.
fn label(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if (1e-3..1e5).contains(&value.abs()) {
        let decimals = (3 - value.abs().log10().floor() as i32).clamp(0, 6) as usize;
        return fixed(value, decimals);
    }
    let exponent = value.abs().log10().floor() as i32;
    let mantissa = (value / 10f64.powi(exponent) * 100.0).round() / 100.0;
    format!("{mantissa}e{exponent}").replace('-', "−")
}

fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text.as_str(),
    };
    text.replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(ticks([-4.0, 4.0]), [-4.0, -2.0, 0.0, 2.0, 4.0]);
        assert_eq!(ticks([-4.5, 4.5]), [-4.0, -2.0, 0.0, 2.0, 4.0]);
        assert_eq!(ticks([-3.0, 5.0]), [-2.0, 0.0, 2.0, 4.0]);
        assert!(ticks([0.0, 0.153]).len() >= 3);
    }

    #[test]
    fn labels_are_short() {
        assert_eq!(labels(&[-2.0, 0.0, 1000.0]).texts, ["−2", "0", "1000"]);
        assert_eq!(labels(&[0.15, 0.3]).texts, ["0.15", "0.3"]);
        assert_eq!(labels(&[2.5e-5]).texts, ["2.5e−5"]);
        assert_eq!(
            labels(&[1e-3, 0.1, 10.0, 1e6]).texts,
            ["0.001", "0.1", "10", "1e6"]
        );
    }

    #[test]
    fn labels_of_an_axis_are_different_from_each_other() {
        let of = |range| labels(&ticks(range));
        let seconds = of([1.6e9, 1.6e9 + 400.0]);
        assert_eq!(seconds.texts, ["0", "100", "200", "300", "400"]);
        assert_eq!(seconds.offset, "(+1.6e9)");
        assert_eq!(
            of([2018.1, 2018.9]).texts,
            ["2018.2", "2018.4", "2018.6", "2018.8"]
        );
        assert_eq!(of([-123_456.8, -123_456.0]).offset, "(−123457)");
        for low in [
            1.7e18_f64, -1.7e18, 1.6e9, 123_456.0, -1000.2, 0.3, 1e-12, 1e30,
        ] {
            for share in [1e-9_f64, 1e-6, 1e-3, 0.1, 1.0, 30.0] {
                let range = [low, low + share * low.abs()];
                let Labels { texts, .. } = of(range);
                let different: std::collections::BTreeSet<&String> = texts.iter().collect();
                assert!(
                    texts.len() >= 2 && different.len() == texts.len(),
                    "{range:?} {texts:?}"
                );
                assert!(texts.iter().all(|t| t.chars().count() <= 8), "{texts:?}");
            }
        }
    }
}
