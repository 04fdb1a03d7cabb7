//! What makes a likelihood mean less than it seems, found before a fit.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::detect::Detected;
use super::kind::Kind;
use super::prepared::Prepared;
use crate::preprocessing::constant;
use crate::{Role, Rows, Table};

/// A value as it is likely to stand in the table: `9.97e36` and not all its digits.
pub(super) fn shown(value: f64) -> String {
    match value.abs() {
        size if size == 0.0 || (1e-4..1e15).contains(&size) => value.to_string(),
        _ => format!("{value:e}"),
    }
}

/// How to go on where a value may stand for a missing one.
const IF_MISSING: &str =
    "if it stands for a missing value, write NA in its place and use --skip-missing";

/// One sentence for each thing found, naming column, value and count, and what to do.
pub(super) fn notes(prepared: &Prepared<'_>, kinds: &[Detected]) -> Vec<String> {
    let parts: &[Table; 3] = &prepared.parts;
    let total = parts.iter().map(Table::len).sum::<usize>() + prepared.left_out;
    let mut found = Vec::new();
    for far in &prepared.far {
        let [rows, all] = far.rows;
        let others = match all - rows {
            0 => String::new(),
            n => format!(" and others as far in {n}"),
        };
        found.push(format!(
            "column '{}' has the value {} in {} of {total} rows{others}, more than a million times the \
             width of its middle half away; these rows are left out of the fit and of its scores; {IF_MISSING}",
            far.column,
            shown(far.value),
            rows
        ));
    }
    for determined in &prepared.determined {
        let (name, formula) = (&determined.column, determined.formula());
        let what = match determined.terms.is_empty() {
            true => format!("is constant ({formula})"),
            false => format!("is a linear function of other columns ({formula})"),
        };
        found.push(format!(
            "column '{name}' {what} in the training rows: it has no density of its own; samples get it \
             back, and rows where it differs have a log-density of -inf; --drop {name} leaves it out"
        ));
    }
    let train = &parts[0];
    if let Some(context) = &train.context {
        for (column, name) in train.names(Role::Context).iter().enumerate() {
            if let Some(value) = constant(context.column(column)) {
                found.push(format!(
                    "context column '{name}' is {} in all training rows: the model learns nothing of \
                     it, and other values will change nothing; leave it out of --context",
                    shown(value)
                ));
            }
        }
    }
    let repeats = rows_of(parts).len() - different(parts).len();
    let total = total - prepared.left_out;
    if train.dim() + train.context_dim() > 1 && repeats * 100 >= total {
        found.push(format!(
            "repeated rows: only {} of {total} rows are different, so the same row is in training, validation \
             and test, and the held-out score means little; remove the repeats",
            total - repeats
        ));
    }
    // Of different rows, where there is more than one column: rows that repeat are said above.
    let rows = match train.dim() + train.context_dim() {
        1 => rows_of(parts),
        _ => different(parts),
    };
    for (column, name) in train.names(Role::Density).into_iter().enumerate() {
        if !prepared.determined.iter().any(|d| d.column == name) {
            let values = rows
                .iter()
                .map(|(part, row)| part.density.row(*row)[column]);
            let kind = kinds.iter().find(|k| k.column == name).map(|k| &k.kind);
            found.extend(of_column(name, column, kind, values.collect(), parts));
        }
    }
    let (rows, dim) = (train.len(), prepared.dim());
    if rows <= dim {
        found.push(format!(
            "fewer rows than columns: {rows} training rows of {dim} columns do not determine a density; \
             take fewer columns (--columns) or more rows"
        ));
    } else if rows < 20 * dim {
        found.push(format!(
            "few rows for so many columns: {rows} training rows of {dim} columns; expect a model close to a \
             Gaussian, and try a narrow one (--hidden 16)"
        ));
    }
    found
}

/// What can be said of one column.
fn of_column(
    name: &str,
    column: usize,
    kind: Option<&Kind>,
    mut values: Vec<f64>,
    parts: &[Table; 3],
) -> Vec<String> {
    let rows = values.len();
    values.sort_by(f64::total_cmp);
    let runs: Vec<(f64, usize)> = runs(&values).collect();
    match kind {
        None | Some(Kind::Heavy { .. }) => {}
        Some(Kind::Levels { .. }) => {
            return rare_levels(name, column, &runs, parts)
                .into_iter()
                .collect();
        }
        Some(_) => return Vec::new(),
    }
    let distinct = runs.len();
    let whole = if values.iter().all(|v| v.fract() == 0.0) {
        ", all whole numbers"
    } else {
        ""
    };
    if distinct <= 50 && distinct * 4 < rows {
        let mut found = vec![format!(
            "column '{name}' has only {distinct} distinct values in {rows} rows{whole}: a density can be \
             arbitrarily high on them, so its log-likelihood means little; --discrete {name} gives them \
             probabilities, or condition on it (--context {name}) or leave it out (--drop {name})"
        )];
        found.extend(rare_levels(name, column, &runs, parts));
        return found;
    }
    let mut found = Vec::new();
    let (value, count) = runs
        .iter()
        .copied()
        .max_by_key(|run| run.1)
        .unwrap_or_default();
    // Against how often the others come, which rounding repeats too.
    let others = (rows - count) as f64 / (distinct - 1).max(1) as f64;
    let spike = count >= 3 && count as f64 >= 3.0 + 10.0 * (others - 1.0);
    if spike {
        found.push(format!(
            "column '{name}' has the value {} in {count} of {rows} rows: a density can be arbitrarily \
             high there, so its log-likelihood means little; {IF_MISSING}, otherwise fit the other rows alone",
            shown(value)
        ));
    } else if distinct * 2 < rows {
        found.push(format!(
            "column '{name}' has only {distinct} distinct values in {rows} rows{whole}: a density can be \
             arbitrarily high on them; --discrete {name} gives them probabilities, or add uniform noise as wide \
             as the steps between them"
        ));
    }
    let mean = values.iter().sum::<f64>() / rows as f64;
    let square = |v: f64| (v - mean).powi(2);
    let variance: f64 = values.iter().map(|v| square(*v)).sum();
    let ends = [runs[0], runs[distinct - 1]];
    let (value, count) = if square(ends[0].0) > square(ends[1].0) {
        ends[0]
    } else {
        ends[1]
    };
    let share = count as f64 * square(value) / variance;
    if share > 0.5 && rows > 10 {
        let value = shown(value);
        let of = match count {
            1 => format!("one row, with the value {value}, decides"),
            n => format!("{n} of {rows} rows, with the value {value}, decide"),
        };
        found.push(format!(
            "column '{name}': {of} its scale ({:.0} % of its variance); {IF_MISSING}, otherwise a logarithm \
             of the column may fit better",
            100.0 * share
        ));
    }
    found
}

/// Values of a column with few of them that a part of the rows does not have.
fn rare_levels(
    name: &str,
    column: usize,
    runs: &[(f64, usize)],
    parts: &[Table; 3],
) -> Option<String> {
    let held = parts.each_ref().map(|part| {
        let levels = part.density.column(column).map(bits);
        levels.collect::<HashSet<u64>>()
    });
    let (value, count) = runs
        .iter()
        .filter(|(value, _)| held.iter().any(|levels| !levels.contains(&bits(*value))))
        .min_by_key(|run| run.1)?;
    let names = ["training", "validation", "test"];
    let without: Vec<&str> = (0..3)
        .filter(|&part| !held[part].contains(&bits(*value)))
        .map(|part| names[part])
        .collect();
    Some(format!(
        "column '{name}' has the value {} in {count} rows, none of them a {} row: the score of those cannot \
         see it; another --seed splits otherwise",
        shown(*value),
        without.join(" or ")
    ))
}

fn rows_of(parts: &[Table; 3]) -> Vec<(&Table, usize)> {
    parts
        .iter()
        .flat_map(|part| (0..part.len()).map(move |row| (part, row)))
        .collect()
}

/// The bits of a value; both zeros are one.
fn bits(value: f64) -> u64 {
    (value + 0.0).to_bits()
}

/// Rows each of which differs from those before it.
fn different(parts: &[Table; 3]) -> Vec<(&Table, usize)> {
    let mut seen = HashSet::new();
    let mut rows = rows_of(parts);
    rows.retain(|(part, row)| {
        let mut hash = DefaultHasher::new();
        let feed = |rows: &Rows| rows.row(*row).iter().for_each(|v| bits(*v).hash(&mut hash));
        [&part.density]
            .into_iter()
            .chain(&part.context)
            .for_each(feed);
        seen.insert(hash.finish())
    });
    rows
}

/// The value that comes most often, and how often; sorts.
pub(super) fn most_frequent(values: &mut [f64]) -> Option<(f64, usize)> {
    values.sort_by(f64::total_cmp);
    runs(values).max_by_key(|run| run.1)
}

/// The values of a sorted column, and how often each comes.
pub(super) fn runs(sorted: &[f64]) -> impl Iterator<Item = (f64, usize)> + '_ {
    sorted
        .chunk_by(|a, b| a == b)
        .map(|run| (run[0], run.len()))
}
