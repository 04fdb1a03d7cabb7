//! Sizes and rates to try, so that each model's are chosen by the validation rows.

use serde::{Deserialize, Serialize};

use super::config::Override;

/// Values to try for some models and sets: one run for every combination. What is not listed stays as it is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grid {
    /// Models it applies to; none given: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Sets it applies to; none given: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<String>,
    /// Layers, or blocks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<usize>,
    /// Widths of hidden layers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<Vec<usize>>,
    /// Cells of a DDNF's blocks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cells: Vec<usize>,
    /// Whether the columns are decorrelated first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub whiten: Vec<bool>,
    /// Whether batch normalization follows each layer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub batch_norm: Vec<bool>,
    /// Peak learning rates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub learning_rate: Vec<f64>,
    /// Weight decays.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weight_decay: Vec<f64>,
}

/// One combination.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Variant {
    /// Its values in words, as tables and files call it; empty where nothing varies.
    pub(super) name: String,
    /// Its values.
    pub(super) values: Override,
}

impl Grid {
    /// Every combination, in the order of the lists.
    pub(super) fn variants(&self) -> Vec<Variant> {
        let mut all = vec![Variant {
            name: String::new(),
            values: Override::default(),
        }];
        vary(
            &mut all,
            &self.layers,
            |n| format!("layers {n}"),
            |to, n| {
                to.layers = Some(n);
            },
        );
        let words = |widths: Vec<usize>| {
            let widths: Vec<String> = widths.iter().map(usize::to_string).collect();
            format!("hidden {}", widths.join(" "))
        };
        vary(&mut all, &self.hidden, words, |to, h| to.hidden = Some(h));
        vary(
            &mut all,
            &self.cells,
            |n| format!("cells {n}"),
            |to, n| {
                to.cells = Some(n);
            },
        );
        let words = |yes| if yes { "whitened" } else { "not whitened" }.to_owned();
        vary(&mut all, &self.whiten, words, |to, yes| {
            to.whiten = Some(yes)
        });
        let words = |yes| if yes { "batch norm" } else { "no batch norm" }.to_owned();
        vary(&mut all, &self.batch_norm, words, |to, yes| {
            to.batch_norm = Some(yes);
        });
        vary(
            &mut all,
            &self.learning_rate,
            |v| format!("rate {v}"),
            |to, v| {
                to.learning_rate = Some(v);
            },
        );
        vary(
            &mut all,
            &self.weight_decay,
            |v| format!("decay {v}"),
            |to, v| {
                to.weight_decay = Some(v);
            },
        );
        all
    }
}

/// Replaces each of `all` by itself with every value, where there are values.
fn vary<T: Clone>(
    all: &mut Vec<Variant>,
    values: &[T],
    words: impl Fn(T) -> String,
    set: impl Fn(&mut Override, T),
) {
    if values.is_empty() {
        return;
    }
    let with = |one: &Variant, value: &T| {
        let mut one = one.clone();
        let words = words(value.clone());
        one.name = match one.name.as_str() {
            "" => words,
            before => format!("{before}, {words}"),
        };
        set(&mut one.values, value.clone());
        one
    };
    let product = all
        .iter()
        .flat_map(|one| values.iter().map(move |v| (one, v)));
    *all = product.map(|(one, value)| with(one, value)).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_has_a_name_of_its_own() {
        let grid = Grid {
            hidden: vec![vec![8], vec![16, 16]],
            weight_decay: vec![0.0, 0.1, 1.0],
            ..Grid::default()
        };
        let variants = grid.variants();
        let mut names: Vec<&str> = variants.iter().map(|v| v.name.as_str()).collect();
        assert_eq!(names[..2], ["hidden 8, decay 0", "hidden 8, decay 0.1"]);
        let last = &variants[5].values;
        assert_eq!(
            (&last.hidden, last.weight_decay),
            (&Some(vec![16, 16]), Some(1.0))
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 6);
        assert_eq!(Grid::default().variants().len(), 1);
    }
}
