//! The logarithm of a mean of exponentials, one number at a time.

/// `log (1/n sum_i exp(a_i))` in constant memory.
///
/// Keeps the largest `a` so far and sums relative to it, so that nothing overflows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogMeanExp {
    largest: f64,
    /// Mean of `exp(a - largest)`.
    weight: f64,
    /// Sum of the squared deviations from it (Welford's recurrence): as a difference of two sums the
    /// variance of nearly equal weights would be rounding alone.
    squares: f64,
    /// `sum a`.
    plain: f64,
    count: usize,
}

impl Default for LogMeanExp {
    fn default() -> Self {
        Self {
            largest: f64::NEG_INFINITY,
            weight: 0.0,
            squares: 0.0,
            plain: 0.0,
            count: 0,
        }
    }
}

impl LogMeanExp {
    /// Takes one more number. A NaN stays in the result; minus infinity is a weight of zero.
    pub fn push(&mut self, a: f64) {
        self.plain += a;
        if a > self.largest {
            let shrink = (self.largest - a).exp();
            self.weight *= shrink;
            self.squares *= shrink * shrink;
            self.largest = a;
        }
        let weight = match a {
            f64::NEG_INFINITY => 0.0,
            _ => (a - self.largest).exp(),
        };
        self.count += 1;
        let deviation = weight - self.weight;
        self.weight += deviation / self.count as f64;
        self.squares += deviation * (weight - self.weight);
    }

    /// How many numbers there were.
    pub fn count(&self) -> usize {
        self.count
    }

    /// `log (1/n sum_i exp(a_i))`; minus infinity for no numbers.
    pub fn value(&self) -> f64 {
        if self.weight == 0.0 {
            return f64::NEG_INFINITY;
        }
        self.largest + self.weight.ln()
    }

    /// `1/n sum_i a_i`.
    pub fn mean(&self) -> f64 {
        self.plain / self.count as f64
    }

    /// Standard error of [`value`](Self::value) by the delta method: that of the mean of the
    /// exponentials, divided by the mean.
    pub fn stderr(&self) -> f64 {
        let n = self.count as f64;
        (self.squares / (n - 1.0) / n).sqrt() / self.weight
    }

    /// `(sum w)^2 / sum w^2` with `w = exp(a)`: how many equal weights would be worth as much.
    pub fn effective_samples(&self) -> f64 {
        let square = self.weight * self.weight;
        let spread = self.squares / self.count as f64;
        self.count as f64 * (square / (square + spread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> LogMeanExp {
        let mut sum = LogMeanExp::default();
        values.iter().for_each(|a| sum.push(*a));
        sum
    }

    #[test]
    fn it_is_the_logarithm_of_the_mean_in_any_order() {
        let values = [0.3, -2.0, 1.7, 0.3, -40.0];
        let plain = (values.iter().map(|a: &f64| a.exp()).sum::<f64>() / 5.0).ln();
        let mut reversed = values;
        reversed.reverse();
        for order in [values, reversed] {
            let sum = of(&order);
            assert!((sum.value() - plain).abs() < 1e-14, "{}", sum.value());
            assert!((sum.mean() - values.iter().sum::<f64>() / 5.0).abs() < 1e-14);
        }
    }

    #[test]
    fn far_numbers_neither_overflow_nor_vanish() {
        assert_eq!(of(&[-1e5, -1e5]).value(), -1e5);
        assert_eq!(of(&[1e5, -1e5]).value(), 1e5 - 2f64.ln());
        assert_eq!(of(&[f64::NEG_INFINITY, 0.0]).value(), -(2f64.ln()));
        assert_eq!(of(&[0.0, f64::NEG_INFINITY]).value(), -(2f64.ln()));
        assert_eq!(of(&[f64::NEG_INFINITY]).value(), f64::NEG_INFINITY);
        assert!(of(&[0.0, f64::NAN, 1.0]).value().is_nan());
    }

    #[test]
    fn the_standard_error_is_that_of_the_weights() {
        let equal = of(&[2.0; 10]);
        assert_eq!(equal.stderr(), 0.0);
        assert!((equal.effective_samples() - 10.0).abs() < 1e-12);
        // Weights 1 and 3: mean 2, variance 2, standard error 1.
        let two = of(&[0.0, 3f64.ln()]);
        assert!((two.stderr() - 0.5).abs() < 1e-12, "{}", two.stderr());
    }
}
