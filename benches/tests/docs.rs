//! Every command and option that README, docs and help texts name is one that the programs take, every link leads
//! somewhere, and README's times are those that were measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use clap::builder::PossibleValuesParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command, CommandFactory};
use serde_json::Value;

/// Programs that documents may name and that are not ours.
const FOREIGN: [&str; 8] = [
    "apt-get", "bash", "do", "done", "for", "head", "python", "zcat",
];

/// Programs of this crate, whose options are private.
const BENCHES: [(&str, &str); 3] = [
    ("step", env!("CARGO_BIN_EXE_step")),
    ("compare", env!("CARGO_BIN_EXE_compare")),
    ("whole_fit", env!("CARGO_BIN_EXE_whole_fit")),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn documents_name_commands_and_options_that_exist() {
    let programs = Programs::new();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for file in documents() {
        let text = fs::read_to_string(root().join(&file)).unwrap();
        for Named { line, text, whole } in named(&text) {
            checked += 1;
            if let Err(reason) = programs.check(&text, whole) {
                wrong.push(format!("{}:{line}: `{text}`: {reason}", file.display()));
            }
        }
    }
    assert!(checked > 150, "{checked} commands and options found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn examples_of_help_texts_are_taken() {
    let programs = Programs::new();
    let mut checked = 0;
    for program in programs.ours.iter().filter(|p| p.get_name() != "cargo") {
        let help = program.get_after_help().map(|help| help.to_string());
        for line in help
            .unwrap_or_default()
            .lines()
            .filter(|l| l.starts_with("  "))
        {
            // An example, and behind some spaces what it does.
            let example = line.trim().split("  ").next().unwrap();
            let checks = programs.check(example, true);
            assert_eq!(checks, Ok(()), "{}: {example}", program.get_name());
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked} examples found");
}

/// What this test is for is found.
#[test]
fn a_wrong_name_is_found_wherever_it_stands() {
    let programs = Programs::new();
    let text = "Use `toy --stps 3`, `--stps` or `--preset best`.\n\n```sh\ncargo run -p flows-experiments --example no\n\
                X=1 cargo run -p flows-experiments --bin vae -- --epochs \\\n  many # comment\n```\n";
    let reasons = named(text).map(|n| (n.line, programs.check(&n.text, n.whole).is_err()));
    let all = [(1, true), (1, true), (1, true), (4, true), (5, true)];
    assert_eq!(reasons.collect::<Vec<_>>(), all);
}

/// The flows that are imported in tests are written by the lines that users are shown.
#[test]
fn the_page_on_imports_shows_the_lines_that_wrote_the_tested_files() {
    let read = |file: &str| fs::read_to_string(root().join(file)).unwrap();
    let lines = read("flows-models/tests/data/export.py");
    let block = format!("```python\n{lines}```\n");
    assert!(read("docs/interop.md").contains(&block));
}

#[test]
fn links_of_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for file in documents() {
        let text = fs::read_to_string(root().join(&file)).unwrap();
        for (line, target) in links(&text) {
            checked += 1;
            if let Err(reason) = leads_somewhere(&file, &target) {
                wrong.push(format!("{}:{line}: ({target}): {reason}", file.display()));
            }
        }
    }
    assert!(checked > 100, "{checked} links found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let from = |target| leads_somewhere(Path::new("docs/README.md"), target);
    assert_eq!(from("faq.md#how-do-i-freeze-layers"), Ok(()));
    assert_eq!(from("../README.md"), Ok(()));
    assert!(from("faq.md#no-such-heading").is_err());
    assert!(from("no-such-page.md").is_err());
}

/// But for the tables that programs write.
#[test]
fn the_book_has_every_page() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let listed: Vec<PathBuf> = links(&summary)
        .into_iter()
        .map(|(_, target)| Path::new("docs").join(target))
        .collect();
    let mut missing = documents();
    missing.retain(|file| {
        file.starts_with("docs")
            && !file.ends_with("SUMMARY.md")
            && !file.ends_with("table.md")
            && !listed.contains(file)
    });
    assert!(missing.is_empty(), "{missing:?}");
}

/// A cell is the number of the file, rounded to its digits; the last column is the fastest other library over ours.
#[test]
fn times_of_the_readme_are_those_that_were_measured() {
    let measured = fs::read_to_string(root().join("docs/benchmarks/readme.json")).unwrap();
    let measured: Value = serde_json::from_str(&measured).unwrap();
    let measured = measured["rows"].as_array().unwrap();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let cells = |line: &str| {
        let cells = line.trim_matches('|').split('|').map(str::trim);
        cells.map(str::to_owned).collect::<Vec<String>>()
    };
    let mut table = readme
        .lines()
        .skip_while(|line| !line.starts_with("| work"))
        .take_while(|line| line.starts_with('|'));
    let names = cells(table.next().expect("a table of times"));
    let rows: Vec<Vec<String>> = table.skip(1).map(cells).collect();
    assert_eq!(rows.len(), measured.len());
    for (row, measured) in rows.iter().zip(measured) {
        assert_eq!(measured["work"].as_str(), Some(row[0].as_str()));
        let number = |name: &str| measured[name].as_f64();
        let others = names[1..].iter().filter(|name| *name != "flows");
        let fastest = others
            .filter_map(|name| number(name))
            .fold(f64::INFINITY, f64::min);
        for (name, cell) in names.iter().zip(row).skip(1) {
            let (cell, value) = match name.as_str() {
                "" => (
                    cell.trim_end_matches(" times"),
                    number("flows").map(|ours| fastest / ours),
                ),
                name => (cell.as_str(), number(name)),
            };
            let digits = cell.split_once('.').map_or(0, |(_, after)| after.len());
            let expected = value.map_or("–".to_owned(), |value| format!("{value:.digits$}"));
            assert_eq!(cell, expected, "{name} of {}", row[0]);
        }
    }
}

/// The targets of relative links outside of code, each with its line.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for part in text.split("```").step_by(2) {
        for span in part.split('`').step_by(2) {
            for (at, _) in span.match_indices("](") {
                let target = span[at + 2..].split(')').next().unwrap_or_default();
                let offset = span.as_ptr() as usize - text.as_ptr() as usize + at;
                if !target.contains("://") {
                    let line = 1 + text[..offset].matches('\n').count();
                    found.push((line, target.to_owned()));
                }
            }
        }
    }
    found
}

/// Whether a link of `file` leads to a file, and to a heading where it names one.
fn leads_somewhere(file: &Path, target: &str) -> Result<(), String> {
    let (path, heading) = match target.split_once('#') {
        Some((path, heading)) => (path, Some(heading)),
        None => (target, None),
    };
    let file = match path {
        "" => root().join(file),
        _ => root().join(file).with_file_name(path),
    };
    if !file.exists() {
        return Err("no such file".to_owned());
    }
    let Some(heading) = heading else {
        return Ok(());
    };
    let text = fs::read_to_string(file).map_err(|e| e.to_string())?;
    let outside_of_code = text.split("```").step_by(2).flat_map(str::lines);
    match outside_of_code
        .filter(|line| line.starts_with('#'))
        .any(|line| anchor(line) == heading)
    {
        true => Ok(()),
        false => Err("no such heading".to_owned()),
    }
}

/// The name by which a link calls a heading.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn documents() -> Vec<PathBuf> {
    let markdown = |folder: &str| {
        let entries = fs::read_dir(root().join(folder)).unwrap();
        let names = entries.map(|entry| Path::new(folder).join(entry.unwrap().file_name()));
        names.collect::<Vec<_>>()
    };
    let mut files = markdown("docs");
    for file in files.clone() {
        if root().join(&file).is_dir() {
            files.extend(markdown(file.to_str().unwrap()));
        }
    }
    files.extend(["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"].map(PathBuf::from));
    files.retain(|file| file.extension().is_some_and(|e| e == "md"));
    files.sort();
    files
}

/// A command or an option in a document.
struct Named {
    line: usize,
    text: String,
    /// A line of a shell, which has to be complete.
    whole: bool,
}

/// The commands in blocks of `sh`, and spans of code that may be a command or an option.
fn named(text: &str) -> impl Iterator<Item = Named> {
    let mut found = Vec::new();
    for (i, part) in text.split("```").enumerate() {
        let begins = part.as_ptr() as usize - text.as_ptr() as usize;
        let line_of = |offset: usize| 1 + text[..begins + offset].matches('\n').count();
        if i % 2 == 0 {
            let mut offset = 0;
            for (j, span) in part.split('`').enumerate() {
                if j % 2 == 1 {
                    let text = span.replace("\\|", "|").replace('\n', " ");
                    found.push((line_of(offset), text, false));
                }
                offset += span.len() + 1;
            }
        } else if let Some(block) = part.strip_prefix("sh\n") {
            let mut offset = 3;
            let mut command = String::new();
            for line in block.lines() {
                let begun = line_of(offset) - command.matches('\n').count();
                offset += line.len() + 1;
                match line.strip_suffix('\\') {
                    Some(line) => command += &format!("{line}\n"),
                    None => {
                        command += line;
                        found.push((begun, std::mem::take(&mut command), true));
                    }
                }
            }
        }
    }
    let named = |(line, text, whole)| Named { line, text, whole };
    found.into_iter().map(named)
}

/// The words of each simple command of a line of a shell.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars().chain(['\n']) {
        match (quote, c) {
            (Some(q), _) if c == q => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ' | '\n') => commands.last_mut().unwrap().extend(word.take()),
            (None, '|' | ';') if word.is_none() || c == ';' => {
                commands.last_mut().unwrap().extend(word.take());
                commands.push(Vec::new());
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    commands.last_mut().unwrap().extend(word);
    commands.retain(|words| !words.is_empty());
    commands
}

/// A word that stands for another: `N`, `A,B`, `[DATA]`, `$s`.
fn stands_for(word: &str) -> bool {
    let word = word.trim_matches(['[', ']']);
    let upper = |c: char| c.is_ascii_uppercase() || c == ',';
    word.starts_with('$') || (word.contains(char::is_alphabetic) && word.chars().all(upper))
}

struct Programs {
    /// All whose options are public, and `cargo` with the packages of this workspace.
    ours: Vec<Command>,
    packages: Vec<Value>,
}

impl Programs {
    fn new() -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
        let metadata = Process::new(cargo)
            .args([
                "metadata",
                "--no-deps",
                "--offline",
                "--format-version",
                "1",
            ])
            .current_dir(root())
            .output()
            .unwrap();
        let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
        let packages = metadata["packages"].as_array().unwrap().clone();
        let ours = [
            flows_experiments::runner::command::<flows_experiments::density::Density>(),
            flows_experiments::flows::Args::command().name("flows"),
            flows_experiments::runner::command::<flows_experiments::graph::Graph>(),
            flows_experiments::runner::command::<flows_experiments::regularization::Regularization>(
            ),
            flows_experiments::runner::command::<flows_experiments::toy::Toy>(),
            flows_experiments::runner::command::<flows_experiments::vae::VaeExperiment>(),
            cargo_command(&packages),
        ];
        Self {
            ours: ours.into(),
            packages,
        }
    }

    /// Whether a line of a shell, or a span of code that is a part of one, is taken.
    fn check(&self, text: &str, whole: bool) -> Result<(), String> {
        for words in commands(text) {
            let is_program = |word: &String| {
                BENCHES.iter().any(|(name, _)| name == word)
                    || self.ours.iter().any(|program| program.get_name() == word)
            };
            let name = |word: &String| word.rsplit('/').next().unwrap().to_owned();
            let words = words.iter().map(name).zip(&words).collect::<Vec<_>>();
            // A script may take a program of ours for an argument.
            if words[0].0 == "python" {
                continue;
            }
            // In front of it there may be variables, `time` or `do`.
            let start = words.iter().position(|(name, _)| is_program(name));
            let arguments = |from: usize| {
                let rest = words[from..].iter().map(|(_, word)| (*word).clone());
                let rest = rest.map(|word| {
                    if stands_for(&word) {
                        "1".to_owned()
                    } else {
                        word
                    }
                });
                rest.take_while(|word| word != ">").collect::<Vec<_>>()
            };
            match start {
                Some(0) if !whole && words.len() == 1 => {}
                Some(i) if whole || i == 0 => {
                    self.check_command(&words[i].0, &arguments(i + 1), whole)?
                }
                _ if !whole && self.is_command_of_flows(&arguments(0)) => {
                    self.check_command("flows", &arguments(0), whole)?;
                }
                _ if whole && FOREIGN.contains(&words[0].0.as_str()) => {}
                _ if whole => return Err(format!("no program is called '{}'", words[0].0)),
                _ => self.check_options(text)?,
            }
        }
        Ok(())
    }

    /// `fit --skip-missing`: a command of `flows` without its name, and an option.
    fn is_command_of_flows(&self, words: &[String]) -> bool {
        let mut flows = self.ours.iter().filter(|p| p.get_name() == "flows");
        flows.any(|p| p.find_subcommand(&words[0]).is_some())
            && words.iter().any(|word| word.starts_with("--"))
    }

    fn check_command(&self, name: &str, arguments: &[String], whole: bool) -> Result<(), String> {
        if let Some((_, binary)) = BENCHES.iter().find(|(bench, _)| *bench == name) {
            // Behind what is to be looked at: an option it does not take is refused before.
            let output = Process::new(binary)
                .args(arguments)
                .arg("--help")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return if output.status.success() {
                Ok(())
            } else {
                Err(said)
            };
        }
        let program = self.ours.iter().find(|program| program.get_name() == name);
        let program = program.ok_or_else(|| format!("no program is called '{name}'"))?;
        let (own, handed_on) = match arguments.iter().position(|word| word == "--") {
            Some(i) if name == "cargo" => (&arguments[..i], &arguments[i + 1..]),
            _ => (arguments, &arguments[..0]),
        };
        let words = [name.to_owned()].into_iter().chain(own.iter().cloned());
        match program.clone().try_get_matches_from(words) {
            Ok(matches) => match matches.subcommand() {
                Some(("run", run)) if name == "cargo" => {
                    let binary = self.target(run)?;
                    match binary {
                        Some(binary) => self.check_command(&binary, handed_on, whole),
                        None => Ok(()),
                    }
                }
                Some((of_cargo, other)) if name == "cargo" && of_cargo != "fuzz" => {
                    self.target(other).map(drop)
                }
                _ => Ok(()),
            },
            Err(error) => match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(()),
                ErrorKind::MissingRequiredArgument | ErrorKind::MissingSubcommand if !whole => {
                    Ok(())
                }
                // An option named without its value.
                _ if !whole && own.last().is_some_and(|last| last.starts_with("--")) => {
                    let with_value = [own, &["1".to_owned()]].concat();
                    self.check_command(name, &with_value, whole)
                }
                _ => Err(error
                    .to_string()
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned()),
            },
        }
    }

    /// The binary of ours that `cargo run` runs; that package, target and features belong together.
    fn target(&self, matches: &clap::ArgMatches) -> Result<Option<String>, String> {
        let value = |name: &str| matches.get_one::<String>(name);
        let Some(name) = value("package") else {
            return Ok(None);
        };
        let package = self.packages.iter().find(|p| p["name"] == **name).unwrap();
        for kind in ["bin", "example", "test"] {
            if let Some(target) = value(kind)
                && !targets(package, kind).contains(target)
            {
                return Err(format!("{name} has no {kind} '{target}'"));
            }
        }
        for feature in matches.get_many::<String>("features").into_iter().flatten() {
            if !feature.contains('/') && package["features"].get(feature).is_none() {
                return Err(format!("{name} has no feature '{feature}'"));
            }
        }
        if value("example").is_some() {
            return Ok(None);
        }
        let default = package["default_run"].as_str().map(str::to_owned);
        let binary = value("bin").cloned().or(default);
        Ok(binary.filter(|b| {
            self.ours.iter().any(|p| p.get_name() == b) || BENCHES.iter().any(|(n, _)| n == b)
        }))
    }

    /// Options without the program that takes them: one of all has to, with that value.
    fn check_options(&self, text: &str) -> Result<(), String> {
        let words = text.split([' ', '`', '\'']).collect::<Vec<_>>();
        for (i, word) in words.iter().enumerate() {
            let Some(option) = word
                .strip_prefix("--")
                .filter(|o| o.starts_with(char::is_alphabetic))
            else {
                continue;
            };
            let option = option.trim_end_matches([',', '.', ';']);
            let takers = self.takers(option);
            if takers.is_empty() && !of_benches(option) {
                return Err(format!("no program takes --{option}"));
            }
            let Some(value) = words
                .get(i + 1)
                .filter(|v| !v.starts_with('-') && !stands_for(v))
            else {
                continue;
            };
            for value in value.split(['|', ',']).filter(|v| !v.is_empty()) {
                let fits = |arg: &Arg| {
                    let values = arg.get_possible_values();
                    values.is_empty() || values.iter().any(|v| v.matches(value, false))
                };
                if !takers.is_empty() && !takers.iter().any(fits) {
                    return Err(format!("no --{option} takes '{value}'"));
                }
            }
        }
        Ok(())
    }

    fn takers(&self, option: &str) -> Vec<Arg> {
        fn collect(program: &Command, option: &str, into: &mut Vec<Arg>) {
            let takes = |arg: &&Arg| arg.get_long() == Some(option);
            into.extend(program.get_arguments().filter(takes).cloned());
            program
                .get_subcommands()
                .for_each(|sub| collect(sub, option, into));
        }
        let mut takers = Vec::new();
        // A command that was built has `--help` and `--version` too.
        for mut program in self.ours.iter().cloned() {
            program.build();
            collect(&program, option, &mut takers);
        }
        takers
    }
}

fn of_benches(option: &str) -> bool {
    BENCHES.iter().any(|(_, binary)| {
        let help = Process::new(binary).arg("--help").output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        help.split([' ', '\n', ','])
            .any(|word| word.strip_prefix("--") == Some(option))
    })
}

fn targets(package: &Value, kind: &str) -> Vec<String> {
    let targets = package["targets"].as_array().unwrap().iter();
    let of_kind = targets.filter(|target| target["kind"][0] == kind);
    of_kind
        .map(|target| target["name"].as_str().unwrap().to_owned())
        .collect()
}

/// As much of cargo as documents use.
fn cargo_command(packages: &[Value]) -> Command {
    let all = |kind| {
        packages
            .iter()
            .flat_map(move |package| targets(package, kind))
    };
    let mut features = Vec::new();
    for package in packages {
        for feature in package["features"].as_object().unwrap().keys() {
            features.push(feature.clone());
            features.push(format!("{}/{feature}", package["name"].as_str().unwrap()));
        }
    }
    let names = packages
        .iter()
        .map(|p| p["name"].as_str().unwrap().to_owned());
    // Values of clap live as long as the program, as long as nobody asks for its feature `string`.
    let one_of = |name: &'static str, values: Vec<String>| {
        let values = values.into_iter().map(|value| &*value.leak());
        let values = PossibleValuesParser::new(values.collect::<Vec<&'static str>>());
        Arg::new(name).long(name).value_parser(values)
    };
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    let flags = [
        "all",
        "all-targets",
        "check",
        "lib",
        "list",
        "locked",
        "no-default-features",
        "no-deps",
        "no-run",
        "open",
        "release",
        "workspace",
    ];
    let arguments = [
        one_of("package", names.collect())
            .short('p')
            .action(ArgAction::Append),
        one_of("bin", all("bin").collect()),
        one_of("example", all("example").collect()),
        one_of("test", all("test").collect()),
        one_of("features", features).value_delimiter(','),
        Arg::new("manifest-path").long("manifest-path"),
        flag("quiet").short('q'),
        Arg::new("filter"),
    ];
    let verbs = [
        "build", "check", "clippy", "doc", "fmt", "package", "publish", "run", "test",
    ];
    let subcommands = verbs.map(|name| {
        Command::new(name)
            .args(arguments.clone())
            .args(flags.map(flag))
    });
    Command::new("cargo")
        .subcommand_required(true)
        .subcommands(subcommands)
        .subcommand(Command::new("fuzz"))
}
