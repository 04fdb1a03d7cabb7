//! The table of a comparison.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::case::Case;
use crate::contender::{Contender, Figures};

/// What the rounds of one case gave.
#[derive(Debug, Clone)]
pub struct Row {
    case: Case,
    /// By the place in [`Contender::ALL`]: the figures of each round, or why there are none.
    cells: Vec<Result<Vec<Figures>, Option<String>>>,
}

/// A row as plain data.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    /// The case.
    pub case: String,
    /// Milliseconds that counted operations alone would take.
    pub floor_ms: Option<f64>,
    /// The median of each round, by contender.
    pub rounds_ms: BTreeMap<String, Vec<f64>>,
    /// Why a contender has no figure.
    pub missing: BTreeMap<String, String>,
    /// The median of the best other over ours.
    pub speedup: Option<f64>,
}

impl Row {
    /// No figures yet; none ever for a contender without such cases.
    pub fn new(case: Case) -> Self {
        let cells = Contender::ALL.iter().map(|contender| {
            if contender.takes(case.kind) {
                Ok(Vec::new())
            } else {
                Err(None)
            }
        });
        Self {
            case,
            cells: cells.collect(),
        }
    }

    /// The case.
    pub fn case(&self) -> Case {
        self.case
    }

    /// The contenders that have not failed, with their places.
    pub fn running(&self) -> Vec<(usize, Contender)> {
        let cells = self.cells.iter().zip(Contender::ALL).enumerate();
        let running = cells.filter(|(_, (cell, _))| cell.is_ok());
        running.map(|(place, (_, c))| (place, c)).collect()
    }

    /// Takes in a round of the contender at `place`; after a failure it is left out.
    pub fn add(&mut self, place: usize, result: Result<Figures, String>) {
        match (result, &mut self.cells[place]) {
            (Ok(figures), Ok(rounds)) => rounds.push(figures),
            (Ok(_), Err(_)) => {}
            (Err(reason), cell) => *cell = Err(Some(reason)),
        }
    }

    /// Median over the rounds of the contender at `place`.
    fn median(&self, place: usize) -> Option<f64> {
        let rounds = self.cells[place].as_ref().ok()?;
        median(rounds.iter().map(|figures| figures.median_ms).collect())
    }

    fn floor(&self) -> Option<f64> {
        let rounds = self.cells[0].as_ref().ok()?;
        // The smallest: a floor measured beside other work is too high.
        rounds.iter().filter_map(|f| f.floor_ms).reduce(f64::min)
    }

    /// How many times as long as ours the best other one takes.
    fn speedup(&self) -> Option<f64> {
        let others = (1..self.cells.len()).filter_map(|place| self.median(place));
        Some(others.reduce(f64::min)? / self.median(0)?)
    }

    /// The row as plain data.
    pub fn record(&self) -> Record {
        let mut rounds_ms = BTreeMap::new();
        let mut missing = BTreeMap::new();
        for (cell, contender) in self.cells.iter().zip(Contender::ALL) {
            let name = contender.name().to_owned();
            match cell {
                Ok(rounds) => {
                    rounds_ms.insert(name, rounds.iter().map(|f| f.median_ms).collect());
                }
                Err(Some(reason)) => {
                    missing.insert(name, reason.clone());
                }
                Err(None) => {}
            }
        }
        Record {
            case: self.case.to_string(),
            floor_ms: self.floor(),
            rounds_ms,
            missing,
            speedup: self.speedup(),
        }
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 {
        upper
    } else {
        0.5 * (upper + values[middle - 1])
    })
}

/// A Markdown table of medians in milliseconds, and a line below it for every figure that is missing.
pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::from("| case | floor |");
    for contender in Contender::ALL {
        let _ = write!(text, " {} |", contender.name());
    }
    text.push_str(" best other / ours |\n|---|");
    text.push_str(&"---:|".repeat(Contender::ALL.len() + 2));
    let number = |value: Option<f64>| value.map_or_else(String::new, significant);
    let mut notes = String::new();
    for row in rows {
        let _ = write!(text, "\n| {} | {} |", row.case, number(row.floor()));
        for (place, contender) in Contender::ALL.iter().enumerate() {
            let cell = match &row.cells[place] {
                Ok(_) => number(row.median(place)),
                Err(None) => "–".to_owned(),
                Err(Some(reason)) => {
                    let _ = write!(notes, "\n- {}, {}: {reason}", row.case, contender.name());
                    "none".to_owned()
                }
            };
            let _ = write!(text, " {cell} |");
        }
        let _ = write!(text, " {} |", number(row.speedup()));
    }
    if !notes.is_empty() {
        let _ = write!(text, "\n\nWithout a figure:\n{notes}");
    }
    text.push('\n');
    text
}

/// Three significant digits, and no more than two decimals.
fn significant(value: f64) -> String {
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(median_ms: f64) -> Result<Figures, String> {
        let floor_ms = Some(0.25);
        Ok(Figures {
            median_ms,
            floor_ms,
        })
    }

    #[test]
    fn medians_and_reasons_stand_in_the_table() {
        let mut row = Row::new("ddnf-2-64-1000".parse().unwrap());
        for ms in [4.0, 2.0, 3.0] {
            row.add(0, figures(ms));
            row.add(1, figures(10.0 * ms));
        }
        row.add(2, Err("no compiler".to_owned()));
        assert_eq!(row.running().len(), 3);
        row.add(2, figures(1.0));
        row.add(6, figures(24.0));
        let text = markdown(std::slice::from_ref(&row));
        let line = "| ddnf-2-64-1000 | 0.25 | 3.00 | 30.0 | none | – | – | – | 24.0 | – | 8.00 |";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("- ddnf-2-64-1000, torch compiled: no compiler"));
        let record = row.record();
        assert_eq!(record.speedup, Some(8.0));
        assert_eq!(record.rounds_ms["ours"], [4.0, 2.0, 3.0]);
        assert_eq!(record.missing.len(), 1);
    }

    #[test]
    fn the_median_of_two_lies_between_them() {
        assert_eq!(median(vec![3.0, 1.0]), Some(2.0));
        assert_eq!(median(Vec::new()), None);
    }
}
