//! What a graph experiment is made of.

use serde::{Deserialize, Serialize};

use crate::experiment::parse_toml;

/// How a variable depends on its parents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mechanism {
    /// `g(x) = x` for every edge.
    Linear,
    /// `g` is `x`, `tanh 2x` or `cos 2x`, drawn for each edge: the last leaves no correlation.
    #[default]
    Nonlinear,
}

/// Configuration of a graph experiment, all fields with a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GraphConfig {
    /// Number of variables.
    pub dim: usize,
    /// Probability that a variable is a parent of one after it.
    pub edge_probability: f64,
    /// How a variable depends on its parents.
    pub mechanism: Mechanism,
    /// Rows of the training set.
    pub samples: usize,
    /// Graphs to recover, with seeds 0, 1, ...
    pub seeds: usize,
    /// Widths of the hidden layers of the shared conditioner.
    pub hidden: Vec<usize>,
    /// Gradient steps with the learned mask.
    pub steps: usize,
    /// Gradient steps with the hard mask that came out.
    pub hard_steps: usize,
    /// Rows in a batch.
    pub batch: usize,
    /// Adam's learning rate at its peak.
    pub learning_rate: f64,
    /// Weight of the sum of the mask's entries in the loss, nats.
    pub penalty: f64,
    /// Weight of the squares of the first layer's weights in the loss, nats: without it they would
    /// make up for any mask.
    pub decay: f64,
    /// Temperature of the mask in the first step and from three quarters of the steps on; in between
    /// it falls geometrically.
    pub temperature: [f64; 2],
    /// Entries of the mask from which on an edge counts as learned.
    pub threshold: f64,
}

impl Default for GraphConfig {
    fn default() -> Self {
        Self {
            dim: 8,
            edge_probability: 0.3,
            mechanism: Mechanism::default(),
            samples: 2000,
            seeds: 5,
            hidden: vec![48, 48],
            steps: 2500,
            hard_steps: 300,
            batch: 128,
            learning_rate: 5e-3,
            penalty: 0.01,
            decay: 0.03,
            temperature: [1.0, 0.2],
            threshold: 0.5,
        }
    }
}

impl GraphConfig {
    /// Reads TOML; `origin` names the file in the error.
    ///
    /// # Errors
    /// One line with the parser's words.
    pub fn from_toml(text: &str, origin: &str) -> Result<Self, String> {
        parse_toml(text, origin)
    }

    /// Says what is out of range, if anything.
    pub fn problem(&self) -> Option<String> {
        let counts = [
            ("samples", self.samples),
            ("seeds", self.seeds),
            ("steps", self.steps),
            ("batch", self.batch),
        ];
        if self.dim < 2 {
            return Some(format!("dim is {}, expected at least 2", self.dim));
        }
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Some(format!("{name} is 0, expected at least 1"));
        }
        if self.hidden.contains(&0) {
            return Some("hidden has a layer of width 0".to_owned());
        }
        let share = |v: f64| v > 0.0 && v < 1.0;
        for (name, value) in [
            ("edge_probability", self.edge_probability),
            ("threshold", self.threshold),
        ] {
            if !share(value) {
                return Some(format!("{name} is {value}, expected between 0 and 1"));
            }
        }
        let [first, last] = self.temperature;
        for (name, value, at_zero) in [
            ("learning_rate", self.learning_rate, false),
            ("temperature[0]", first, false),
            ("temperature[1]", last, false),
            ("penalty", self.penalty, true),
            ("decay", self.decay, true),
        ] {
            let fits = value.is_finite() && (value > 0.0 || (at_zero && value == 0.0));
            if !fits {
                let least = if at_zero { "at least 0" } else { "positive" };
                return Some(format!("{name} is {value}, expected finite and {least}"));
            }
        }
        None
    }

    /// The temperature of step `step`, counted from 0.
    pub fn temperature_at(&self, step: usize) -> f64 {
        let [first, last] = self.temperature;
        let progress = (step as f64 / (0.75 * self.steps as f64)).min(1.0);
        first * (last / first).powf(progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_temperature_falls_and_stays() {
        let config = GraphConfig {
            steps: 1000,
            temperature: [1.0, 0.01],
            ..GraphConfig::default()
        };
        assert_eq!(config.temperature_at(0), 1.0);
        assert!((config.temperature_at(375) - 0.1).abs() < 1e-12);
        assert!((config.temperature_at(750) - 0.01).abs() < 1e-12);
        assert_eq!(config.temperature_at(750), config.temperature_at(999));
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        assert_eq!(GraphConfig::default().problem(), None);
        let text = "dim = 4\nmechanism = 'linear'";
        assert_eq!(GraphConfig::from_toml(text, "a").unwrap().dim, 4);
        for (text, word) in [
            ("dim = 1", "dim"),
            ("seeds = 0", "seeds"),
            ("hidden = [3, 0]", "hidden"),
            ("threshold = 1.0", "threshold"),
            ("penalty = -0.1", "penalty"),
            ("temperature = [1.0, 0.0]", "temperature[1]"),
        ] {
            let problem = GraphConfig::from_toml(text, "a").unwrap().problem();
            assert!(problem.is_some_and(|p| p.starts_with(word)), "{text}");
        }
        let error = GraphConfig::from_toml("edges = 3", "here").unwrap_err();
        assert!(error.starts_with("here, line 1: unknown field"), "{error}");
    }
}
