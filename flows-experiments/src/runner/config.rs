//! The configuration: a preset or a file, options, and `--set`.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// A built-in configuration.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// What it is, and how long it takes.
    pub about: &'static str,
    /// Its TOML.
    pub toml: &'static str,
}

/// A short option for a key of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// The option, without its hyphens.
    pub name: &'static str,
    /// What stands for its value in `--help`.
    pub value: &'static str,
    /// What it does.
    pub about: &'static str,
    /// The key that it sets, as `--set` takes it.
    pub key: &'static str,
    /// A key that it removes, so that nothing overrides the value.
    pub removes: Option<&'static str>,
}

impl Preset {
    /// A built-in configuration.
    pub const fn new(name: &'static str, about: &'static str, toml: &'static str) -> Self {
        Self { name, about, toml }
    }
}

impl Flag {
    /// An option that sets one key; `value` stands for its value in `--help`.
    pub const fn new(
        name: &'static str,
        value: &'static str,
        about: &'static str,
        key: &'static str,
    ) -> Self {
        Self {
            name,
            value,
            about,
            key,
            removes: None,
        }
    }

    /// `--NAME NAMES`, a list of the configuration.
    pub const fn names(name: &'static str, about: &'static str) -> Self {
        Self::new(name, "NAMES", about, name)
    }

    /// `--seeds N`.
    pub const SEEDS: Self = Self::new(
        "seeds",
        "N",
        "Runs of each kind, with seeds 0, 1, ...",
        "seeds",
    );

    /// `--steps N`, in place of what the configuration and its overrides say.
    pub const STEPS: Self = Self {
        removes: Some("override.steps"),
        ..Self::new(
            "steps",
            "N",
            "Gradient steps of every run, in place of those of the configuration",
            "training.steps",
        )
    };
}

/// A preset by its name.
///
/// # Panics
/// Where there is none, or its text is wrong: presets are tested.
pub fn preset<C: DeserializeOwned>(presets: &[Preset], name: &str) -> C {
    let found = presets.iter().find(|preset| preset.name == name);
    let text = found.expect("a preset of this name").toml;
    parse_toml(text, "built-in preset").expect("the presets are tested")
}

/// Reads TOML; `origin` names the file or preset in errors.
///
/// # Errors
/// One line naming the unknown key or the value that does not fit, and the line it stands in.
pub fn parse_toml<T: DeserializeOwned>(text: &str, origin: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let origin = match error.span() {
            Some(span) => {
                let before = &text.as_bytes()[..span.start.min(text.len())];
                let line = 1 + before.iter().filter(|b| **b == b'\n').count();
                format!("{origin}, line {line}")
            }
            None => origin.to_owned(),
        };
        format!("{origin}: {}", one_line(&error))
    })
}

fn one_line(error: &toml::de::Error) -> String {
    error.message().lines().collect::<Vec<_>>().join(" ")
}

/// A configuration as TOML.
pub(super) fn to_toml<C: Serialize>(config: &C) -> String {
    toml::to_string_pretty(config).expect("a configuration is plain data")
}

/// `config` with `text` for `key`, a path such as `training.steps`; `origin` names the option in errors.
///
/// The text is TOML, or a string without its quotes; where there is a list, its elements may be
/// separated by commas.
///
/// # Errors
/// One line on a key that is not known, or a value that does not fit.
pub(super) fn set<C: Serialize + DeserializeOwned>(
    config: &C,
    key: &str,
    text: &str,
    removes: Option<&str>,
    origin: &str,
) -> Result<C, String> {
    let table = Table::try_from(config).expect("a configuration is plain data");
    let mut root = Value::Table(table);
    if let Some(path) = removes {
        remove(&mut root, path);
    }
    let wrong = |reason: String| format!("{origin}: {reason}");
    let (parents, last) = key.rsplit_once('.').unwrap_or(("", key));
    let mut place = &mut root;
    for name in parents.split('.').filter(|name| !name.is_empty()) {
        place = enter(place, name).map_err(wrong)?;
    }
    let value = read(text, place.get(last));
    *enter(place, last).map_err(wrong)? = value;
    root.try_into().map_err(|error| wrong(one_line(&error)))
}

/// The value of this name, made where it is missing; a number counts the elements of a list.
fn enter<'a>(value: &'a mut Value, name: &str) -> Result<&'a mut Value, String> {
    match value {
        Value::Table(table) => {
            let new = || Value::Table(Table::new());
            Ok(table.entry(name.to_owned()).or_insert_with(new))
        }
        Value::Array(items) => {
            let count = items.len();
            let item = name.parse().ok().and_then(|i: usize| items.get_mut(i));
            item.ok_or_else(|| {
                format!("'{name}' is not a number below {count}, the length of the list")
            })
        }
        _ => Err(format!("'{name}' is no key: there is a value in its place")),
    }
}

/// Removes a key in every table that the path leads to.
fn remove(value: &mut Value, path: &str) {
    match (value, path.split_once('.')) {
        (Value::Array(items), _) => items.iter_mut().for_each(|item| remove(item, path)),
        (Value::Table(table), Some((name, rest))) => {
            if let Some(inner) = table.get_mut(name) {
                remove(inner, rest);
            }
        }
        (Value::Table(table), None) => {
            table.remove(path);
        }
        _ => {}
    }
}

/// A value as it is written on the command line, in the place of another.
fn read(text: &str, before: Option<&Value>) -> Value {
    let parsed = || {
        toml::from_str::<Table>(&format!("value = {text}"))
            .ok()?
            .remove("value")
    };
    match before {
        Some(Value::String(_)) => match parsed() {
            Some(value @ (Value::String(_) | Value::Table(_))) => value,
            _ => Value::String(text.to_owned()),
        },
        Some(Value::Array(items)) => match parsed() {
            Some(list @ Value::Array(_)) => list,
            _ => {
                let parts = text
                    .split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty());
                Value::Array(parts.map(|part| read(part, items.first())).collect())
            }
        },
        _ => parsed().unwrap_or_else(|| Value::String(text.to_owned())),
    }
}

/// Other values for some jobs, a table of a configuration; later ones win.
///
/// Keys that end in `s` and are asked for by [`applies`](Self::applies) list what it is for; the others
/// are the values.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Override(pub Table);

impl Override {
    /// Whether it is for a job with these names: a list that is not there names everything.
    pub fn applies(&self, names: &[(&str, &str)]) -> bool {
        names.iter().all(|(list, name)| {
            let listed = self.names(list);
            listed.is_empty() || listed.contains(name)
        })
    }

    /// The names in one of its lists.
    pub fn names(&self, list: &str) -> Vec<&str> {
        let listed = self.0.get(list).and_then(Value::as_array);
        listed
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    }

    /// Its values, without the lists.
    pub fn values(&self, lists: &[&str]) -> Table {
        let values = self
            .0
            .iter()
            .filter(|(key, _)| !lists.contains(&key.as_str()));
        values
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }
}

/// `base` with other values for some of its keys.
///
/// # Errors
/// One line on a key that it does not have, or a value that does not fit.
pub fn with_values<T: Serialize + DeserializeOwned>(base: &T, values: Table) -> Result<T, String> {
    let mut table = Table::try_from(base).expect("a configuration is plain data");
    table.extend(values);
    table.try_into().map_err(|error| one_line(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        names: Vec<String>,
        sizes: Vec<usize>,
        kind: String,
        inner: Inner,
        #[serde(default, rename = "override")]
        overrides: Vec<Override>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        steps: usize,
        rate: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        patience: Option<usize>,
    }

    fn config() -> Config {
        let text = "names = ['u1']\nsizes = [2]\nkind = 'a'\ninner = { steps = 3, rate = 0.5 }\n\
                    [[override]]\nmodels = ['maf']\nsteps = 9\nrate = 0.1";
        parse_toml(text, "text").unwrap()
    }

    fn with(key: &str, text: &str) -> Result<Config, String> {
        set(&config(), key, text, None, &format!("--set {key}={text}"))
    }

    #[test]
    fn any_key_is_set_by_its_path() {
        assert_eq!(
            with("names", "u4,2spirals, 7").unwrap().names,
            ["u4", "2spirals", "7"]
        );
        assert_eq!(with("sizes", "4,8").unwrap().sizes, [4, 8]);
        assert_eq!(with("sizes", "[]").unwrap().sizes, [0; 0]);
        assert_eq!(with("kind", "7").unwrap().kind, "7");
        assert_eq!(with("inner.rate", "1e-3").unwrap().inner.rate, 1e-3);
        assert_eq!(with("inner.rate", "1").unwrap().inner.rate, 1.0);
        assert_eq!(with("inner.patience", "4").unwrap().inner.patience, Some(4));
        let changed = with("override.0.steps", "5").unwrap();
        assert_eq!(changed.overrides[0].0["steps"].as_integer(), Some(5));
    }

    #[test]
    fn what_does_not_fit_is_one_line_with_the_option() {
        for (key, text, reason) in [
            ("inner.stps", "4", "unknown field `stps`"),
            ("inner.steps", "many", "invalid type: string \"many\""),
            ("kind.name", "4", "'name' is no key"),
            ("override.1.steps", "4", "'1' is not a number below 1"),
        ] {
            let error = with(key, text).unwrap_err();
            assert!(
                error.starts_with(&format!("--set {key}={text}: ")),
                "{error}"
            );
            assert!(error.contains(reason) && !error.contains('\n'), "{error}");
        }
        let error = parse_toml::<Inner>("steps = 1\nrat = 3", "my.toml").unwrap_err();
        assert!(
            error.starts_with("my.toml, line 2: unknown field `rat`"),
            "{error}"
        );
    }

    #[test]
    fn an_option_wins_over_overrides() {
        let changed: Config =
            set(&config(), "inner.steps", "5", Some("override.steps"), "").unwrap();
        assert_eq!(changed.inner.steps, 5);
        let other = &changed.overrides[0];
        assert!(other.applies(&[("models", "maf")]) && !other.applies(&[("models", "nice")]));
        let values = other.values(&["models"]);
        let inner = with_values(&changed.inner, values).unwrap();
        assert_eq!((inner.steps, inner.rate), (5, 0.1));
        let wrong = with_values(
            &inner,
            Table::from_iter([("zzz".to_owned(), Value::from(1))]),
        );
        assert!(wrong.unwrap_err().contains("unknown field `zzz`"));
    }
}
