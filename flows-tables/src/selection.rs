//! Which columns of a file are modelled, and which condition the model.

use serde::{Deserialize, Serialize};

use super::DataError;
use super::csv::abbreviate;
use super::source::Layout;

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The density is over it.
    Density,
    /// The density is conditioned on it.
    Context,
}

/// A column that is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name, or `x` and its number from 1 where the file has no names.
    pub name: String,
    /// Where it stood in the file, from 0.
    pub position: usize,
    /// What it is for.
    pub role: Role,
}

/// A choice of columns: lists between commas of names, or of numbers from 1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The columns to use, context ones aside; none given: all.
    pub only: Vec<String>,
    /// Columns to leave out.
    pub drop: Vec<String>,
    /// Columns to condition on.
    pub context: Vec<String>,
    /// The column that holds the weights of the rows, which is neither.
    pub weights: Option<String>,
}

impl Selection {
    /// The columns used, in the order of the file.
    ///
    /// # Errors
    /// [`DataError::Columns`] for a column that is not there, or asked for in two ways, or where
    /// none is left.
    pub fn resolve(&self, layout: &Layout, origin: &str) -> Result<Vec<Column>, DataError> {
        let find = |list: &[String]| -> Result<Vec<usize>, DataError> {
            let found: Result<Vec<_>, _> =
                list.iter().map(|part| find(layout, part, origin)).collect();
            Ok(found?.concat())
        };
        let (only, drop, context) = (find(&self.only)?, find(&self.drop)?, find(&self.context)?);
        let weights = find(self.weights.as_slice())?;
        if weights.len() > 1 {
            return Err(DataError::Columns("--weights takes one column".to_owned()));
        }
        let twice = |a: &[usize], b: &[usize]| a.iter().find(|c| b.contains(c)).copied();
        let pairs = [
            (&only, &context, "--columns", "--context"),
            (&only, &drop, "--columns", "--drop"),
            (&drop, &context, "--drop", "--context"),
            (&weights, &only, "--weights", "--columns"),
            (&weights, &context, "--weights", "--context"),
        ];
        for (a, b, first, second) in pairs {
            if let Some(column) = twice(a, b) {
                let name = layout.name(column);
                return Err(DataError::Columns(format!(
                    "column '{name}' is named by {first} and by {second}"
                )));
            }
        }
        let role = |column: &usize| {
            if context.contains(column) {
                Some(Role::Context)
            } else if !drop.contains(column)
                && !weights.contains(column)
                && (only.is_empty() || only.contains(column))
            {
                Some(Role::Density)
            } else {
                None
            }
        };
        let columns: Vec<Column> = (0..layout.columns)
            .filter_map(|position| {
                Some(Column {
                    name: layout.name(position),
                    position,
                    role: role(&position)?,
                })
            })
            .collect();
        if !columns.iter().any(|c| c.role == Role::Density) {
            return Err(DataError::Columns(format!(
                "no column of {origin} is left to model"
            )));
        }
        Ok(columns)
    }

    /// Where the column of the weights stands.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn resolve_weights(
        &self,
        layout: &Layout,
        origin: &str,
    ) -> Result<Option<usize>, DataError> {
        let column = |list: &String| Ok(find(layout, list, origin)?[0]);
        self.weights.as_ref().map(column).transpose()
    }
}

/// The columns of a list between commas, by name or by number from 1. A name may hold commas itself: the longest
/// that fits is taken.
fn find(layout: &Layout, list: &str, origin: &str) -> Result<Vec<usize>, DataError> {
    let all: Vec<String> = (0..layout.columns).map(|c| layout.name(c)).collect();
    let mut columns = Vec::new();
    let mut rest = Some(list.trim());
    while let Some(list) = rest {
        let name = leading_name(&all, list, ',');
        let length = name.map_or_else(|| list.find(',').unwrap_or(list.len()), |c| all[c].len());
        let text = list[..length].trim();
        let numbered = || {
            let number: usize = text.parse().ok()?;
            (1..=layout.columns).contains(&number).then(|| number - 1)
        };
        columns.push(name.or_else(numbered).ok_or_else(|| {
            let all = abbreviate(&all);
            DataError::Columns(format!("{origin} has no column '{text}'; it has {all}"))
        })?);
        rest = list[length..]
            .trim_start()
            .strip_prefix(',')
            .map(str::trim_start);
    }
    Ok(columns)
}

/// Which of the names a text begins with, up to `end` or its own end; the longest, where several do.
pub fn leading_name(names: &[impl AsRef<str>], text: &str, end: char) -> Option<usize> {
    let fits = |name: &str| {
        let rest = text.strip_prefix(name).map(str::trim_start);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(end))
    };
    let fitting = (0..names.len()).filter(|&i| fits(names[i].as_ref()));
    fitting.max_by_key(|&i| names[i].as_ref().len())
}

/// Finds the columns of a fitted model in another file: by name. Where one of the two has no names, by place, in a
/// file with as many columns as the first one or with exactly the used ones.
///
/// # Errors
/// [`DataError::Columns`] where they are not there.
pub fn locate(
    columns: &[Column],
    source: Origin,
    layout: &Layout,
    origin: &str,
) -> Result<Vec<usize>, DataError> {
    if let Some(names) = &layout.names {
        let find = |c: &Column| names.iter().position(|n| *n == c.name);
        let found: Vec<Option<usize>> = columns.iter().map(find).collect();
        match found.iter().position(Option::is_none) {
            None => return Ok(found.into_iter().flatten().collect()),
            Some(missing) if source.named => {
                let (missing, have) = (&columns[missing].name, abbreviate(names));
                return Err(DataError::Columns(format!(
                    "{origin} has no column '{missing}', which the model uses; it has {have}"
                )));
            }
            Some(_) => {}
        }
    }
    if layout.columns == source.columns {
        return Ok(columns.iter().map(|c| c.position).collect());
    }
    if layout.columns == columns.len() {
        return Ok((0..columns.len()).collect());
    }
    let used: Vec<String> = columns.iter().map(|c| c.name.clone()).collect();
    Err(DataError::Columns(format!(
        "{origin} has {} columns, the model uses {}: {}",
        layout.columns,
        used.len(),
        abbreviate(&used)
    )))
}

/// The file a model was fitted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Its columns.
    pub columns: usize,
    /// Whether it names them.
    pub named: bool,
}

/// As [`locate`], for the context columns alone.
///
/// # Errors
/// As [`locate`].
pub fn locate_context(
    columns: &[Column],
    source: Origin,
    layout: &Layout,
    origin: &str,
) -> Result<Vec<usize>, DataError> {
    let context = columns.iter().filter(|c| c.role == Role::Context);
    let context: Vec<Column> = context.cloned().collect();
    locate(&context, source, layout, origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(names: &[&str]) -> Layout {
        Layout {
            columns: names.len(),
            names: Some(names.iter().map(|n| (*n).to_owned()).collect()),
            recognised: String::new(),
            rows: None,
            notes: Vec::new(),
        }
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn columns_are_chosen_by_name_or_number() {
        let layout = layout(&["id", "a", "b", "c"]);
        let selection = Selection {
            drop: names(&["1"]),
            context: names(&["b"]),
            ..Selection::default()
        };
        let columns = selection.resolve(&layout, "t.csv").unwrap();
        let shown = columns
            .iter()
            .map(|c| (c.name.as_str(), c.position, c.role));
        let expected = [
            ("a", 1, Role::Density),
            ("b", 2, Role::Context),
            ("c", 3, Role::Density),
        ];
        assert!(shown.eq(expected));
    }

    #[test]
    fn what_is_not_there_is_answered_with_what_is() {
        let selection = Selection {
            context: names(&["d"]),
            ..Selection::default()
        };
        let error = selection.resolve(&layout(&["a", "b"]), "t.csv");
        let error = error.unwrap_err().to_string();
        assert_eq!(error, "t.csv has no column 'd'; it has a, b");
        let both = Selection {
            only: names(&["a"]),
            context: names(&["1"]),
            ..Selection::default()
        };
        let error = both.resolve(&layout(&["a", "b"]), "t.csv").unwrap_err();
        assert!(error.to_string().contains("by --columns and by --context"));
    }

    #[test]
    fn a_model_finds_its_columns_in_another_order_and_by_place() {
        let selection = Selection {
            drop: names(&["id"]),
            ..Selection::default()
        };
        let fitted = layout(&["id", "a", "b"]);
        let columns = selection.resolve(&fitted, "t.csv").unwrap();
        let find = |layout: &Layout| {
            locate(
                &columns,
                Origin {
                    columns: 3,
                    named: true,
                },
                layout,
                "new.csv",
            )
        };
        assert_eq!(find(&layout(&["b", "z", "w", "a"])).unwrap(), [3, 0]);
        let unnamed = |columns| Layout {
            columns,
            names: None,
            recognised: String::new(),
            rows: None,
            notes: Vec::new(),
        };
        assert_eq!(find(&unnamed(3)).unwrap(), [1, 2]);
        assert_eq!(find(&unnamed(2)).unwrap(), [0, 1]);
        let error = find(&unnamed(5)).unwrap_err().to_string();
        assert_eq!(error, "new.csv has 5 columns, the model uses 2: a, b");
        let error = find(&layout(&["a", "z", "q"])).unwrap_err().to_string();
        assert!(error.contains("no column 'b'"), "{error}");
    }

    #[test]
    fn names_may_hold_commas_and_a_list_of_them_too() {
        let layout = layout(&["p (Pa, abs)", "p (Pa", "a", "2", "T"]);
        let find = |list: &str| find(&layout, list, "t.csv").map_err(|e| e.to_string());
        assert_eq!(find("p (Pa, abs)"), Ok(vec![0]));
        assert_eq!(find("T, p (Pa, abs),a"), Ok(vec![4, 0, 2]));
        // A name before a number.
        assert_eq!(find("2,1"), Ok(vec![3, 0]));
        assert_eq!(
            find("a,zz,T"),
            Err("t.csv has no column 'zz'; it has p (Pa, abs), p (Pa, a, 2, T".to_owned())
        );
    }

    #[test]
    fn other_names_are_refused_and_place_counts_where_a_file_has_none() {
        let columns = Selection::default()
            .resolve(&layout(&["mass", "age"]), "t.csv")
            .unwrap();
        let origin = Origin {
            columns: 2,
            named: true,
        };
        for other in [["Age", "Mass"], ["Alter", "Masse"]] {
            let error = locate(&columns, origin, &layout(&other), "new.csv").unwrap_err();
            assert!(error.to_string().contains("no column 'mass'"), "{error}");
        }
        // A model of a file without names knows none to compare.
        let unnamed = Origin {
            named: false,
            ..origin
        };
        assert_eq!(
            locate(&columns, unnamed, &layout(&["Age", "Mass"]), "new.csv").unwrap(),
            [0, 1]
        );
    }
}
