//! One table, two forms: Markdown for files, aligned text for the terminal.

use comfy_table::{CellAlignment, ColumnConstraint, Row, Width, presets};

/// What stands in a cell that has no value.
pub const NOT_AVAILABLE: &str = "not available";

/// One cell of a table.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Words, left-aligned.
    Text(String),
    /// A number as it is written, right-aligned.
    Number(String),
    /// A whole number, in groups of three digits.
    Count(u64),
    /// A measured number with the standard error of its mean; `None` where one run cannot tell.
    Estimate {
        /// Mean over the runs.
        mean: f64,
        /// Standard error of the mean.
        stderr: Option<f64>,
    },
    /// No value: never measured, or never published.
    Missing,
}

impl Cell {
    /// Words.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Mean and standard error.
    pub fn estimate(mean: f64, stderr: Option<f64>) -> Self {
        Self::Estimate { mean, stderr }
    }

    fn show(&self) -> String {
        match self {
            // A line break would end the row.
            Self::Text(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
            Self::Number(number) => number.clone(),
            Self::Count(n) => group_digits(*n),
            Self::Estimate { mean, stderr } => format_estimate(*mean, *stderr),
            Self::Missing => NOT_AVAILABLE.to_owned(),
        }
    }
}

/// `mean ± stderr` with two significant digits of the error and the mean cut at the same place, or the
/// mean alone with four significant digits where there is no error.
///
/// ```
/// use flows_experiments::report::format_estimate;
/// assert_eq!(format_estimate(0.012345, Some(0.00067)), "0.01235 ± 0.00067");
/// assert_eq!(format_estimate(-2.5, None), "-2.500");
/// ```
pub fn format_estimate(mean: f64, stderr: Option<f64>) -> String {
    if !mean.is_finite() {
        return format!("{mean}");
    }
    match stderr {
        Some(stderr) if stderr.is_finite() && stderr > 0.0 => {
            // The larger of the two decides whether plain decimals stay readable.
            let leading = magnitude(mean.abs().max(stderr));
            let last = magnitude(stderr) - 1;
            if (-4..6).contains(&leading) && last >= -7 {
                let decimals = (-last).max(0) as usize;
                format!("{mean:.decimals$} ± {stderr:.decimals$}")
            } else {
                let scale = 10f64.powi(leading);
                let decimals = (leading - last).max(0) as usize;
                let (mean, stderr) = (mean / scale, stderr / scale);
                format!("({mean:.decimals$} ± {stderr:.decimals$})e{leading}")
            }
        }
        _ => format_number(mean),
    }
}

/// A number with four significant digits.
fn format_number(x: f64) -> String {
    if x == 0.0 {
        return "0".to_owned();
    }
    let leading = magnitude(x.abs());
    if (-4..6).contains(&leading) {
        let decimals = (3 - leading).max(0) as usize;
        format!("{x:.decimals$}")
    } else {
        format!("{x:.3e}")
    }
}

/// Power of ten of the first digit of a positive number.
fn magnitude(x: f64) -> i32 {
    x.log10().floor() as i32
}

fn group_digits(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A table with named columns. Columns whose values are all numbers are right-aligned.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub fn new<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> Self {
        Self {
            columns: columns.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// Where it does not have one cell per column.
    pub fn push(&mut self, row: Vec<Cell>) {
        assert_eq!(
            row.len(),
            self.columns.len(),
            "a row of {} cells in a table of {} columns",
            row.len(),
            self.columns.len()
        );
        self.rows.push(row);
    }

    /// Writes a cell in bold.
    pub fn embolden(&mut self, row: usize, column: usize) {
        let cell = &mut self.rows[row][column];
        *cell = Cell::Text(format!("**{}**", cell.show()));
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A GitHub-flavoured Markdown table, padded so that it is readable as text too.
    pub fn to_markdown(&self) -> String {
        let text = self.laid_out(presets::ASCII_MARKDOWN, |text| text.replace('|', "\\|"));
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        // The style does not say where a column is aligned.
        let dashes: Vec<&str> = lines[1].trim_matches('|').split('|').collect();
        let dash = |(dashes, right): (&&str, &bool)| {
            let count = dashes.len() - 2 - usize::from(*right);
            format!(" {}{} ", "-".repeat(count), if *right { ":" } else { "" })
        };
        let numeric = self.numeric_columns();
        let rule = dashes.iter().zip(&numeric).map(dash);
        lines[1] = format!("|{}|", rule.collect::<Vec<_>>().join("|"));
        lines.join("\n") + "\n"
    }

    /// Aligned text in a frame.
    pub fn to_terminal(&self) -> String {
        self.laid_out(presets::UTF8_FULL_CONDENSED, |text| text)
    }

    fn laid_out(&self, style: comfy_table::TableStyle, escape: fn(String) -> String) -> String {
        let numeric = self.numeric_columns();
        let row = |cells: Vec<String>| -> Row {
            let cell = |(text, right): (String, &bool)| {
                comfy_table::Cell::new(escape(text)).set_alignment(match right {
                    true => CellAlignment::Right,
                    false => CellAlignment::Left,
                })
            };
            let cells: Vec<_> = cells.into_iter().zip(&numeric).map(cell).collect();
            cells.into()
        };
        let mut table = comfy_table::Table::new();
        table.load_style(style);
        table.set_header(row(self.columns.clone()));
        for cells in &self.rows {
            table.add_row(row(cells.iter().map(Cell::show).collect()));
        }
        // Markdown has no cell narrower than its rule.
        for column in table.column_iter_mut() {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(5)));
        }
        table.trim_fmt()
    }

    fn numeric_columns(&self) -> Vec<bool> {
        (0..self.columns.len())
            .map(|i| {
                let empty = |cell: &&Cell| matches!(cell, Cell::Text(text) if text.is_empty());
                let cells = self.rows.iter().map(|row| &row[i]);
                let mut cells = cells.filter(|cell| !empty(cell)).peekable();
                cells.peek().is_some() && cells.all(|cell| !matches!(cell, Cell::Text(_)))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Table {
        let mut table = Table::new(["model", "KL (nats)", "parameters"]);
        table.push(vec![
            Cell::text("DDNF, K = 4"),
            Cell::estimate(0.00312, Some(0.00021)),
            Cell::Count(1_284),
        ]);
        table.push(vec![Cell::text("a|b\nc"), Cell::Missing, Cell::Count(64)]);
        table
    }

    #[test]
    fn markdown() {
        let expected = "\
| model       |         KL (nats) | parameters |
| ----------- | ----------------: | ---------: |
| DDNF, K = 4 | 0.00312 ± 0.00021 |      1,284 |
| a\\|b c      |     not available |         64 |
";
        assert_eq!(example().to_markdown(), expected);
    }

    #[test]
    fn terminal_lines_are_equally_wide_and_hold_the_same_values() {
        let text = example().to_terminal();
        for value in [
            "DDNF, K = 4",
            "0.00312 ± 0.00021",
            "not available",
            "1,284",
            "KL (nats)",
        ] {
            assert!(text.contains(value), "{text}");
        }
        // Right-aligned: both numbers end in the same column.
        let end = |value: &str| {
            let line = text.lines().find(|line| line.contains(value)).unwrap();
            line[..line.find(value).unwrap() + value.len()]
                .chars()
                .count()
        };
        assert_eq!(end("0.00312 ± 0.00021"), end("not available"));
    }

    #[test]
    fn digits_follow_the_error() {
        let show = |mean, stderr| format_estimate(mean, Some(stderr));
        assert_eq!(show(1.234567, 0.0123), "1.235 ± 0.012");
        assert_eq!(show(-12.3, 4.56), "-12.3 ± 4.6");
        assert_eq!(show(1234.5, 120.0), "1234 ± 120");
        assert_eq!(show(0.0, 0.5), "0.00 ± 0.50");
        assert_eq!(show(3.2e-7, 1.5e-8), "(3.20 ± 0.15)e-7");
        assert_eq!(show(4.0e8, 2.0e7), "(4.00 ± 0.20)e8");
        assert_eq!(format_estimate(3.4657, Some(0.0)), "3.466");
        assert_eq!(format_estimate(123_456.0, None), "123456");
        assert_eq!(format_estimate(1.0e-9, None), "1.000e-9");
        assert_eq!(format_estimate(f64::NAN, Some(0.1)), "NaN");
        assert_eq!(format_estimate(2.0, Some(f64::NAN)), "2.000");
    }

    #[test]
    #[should_panic(expected = "a row of 1 cells in a table of 3 columns")]
    fn a_short_row_is_refused() {
        example().push(vec![Cell::Missing]);
    }
}
