//! `flows data`: the published files, which of them are there, and getting the others.

use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Subcommand};

use super::{print, refuse_data, say};
use crate::cli::UsageError;
use crate::data::catalog::{Checksum, ENTRIES, Entry, State};
use crate::data::data_folder;
use crate::data::images::ImageSetId;

/// List, check and get the files of the image sets
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Sets and their files, with the addresses they come from
    List,
    /// Compare the files of a data folder with their published checksums
    Verify(Choice),
    /// Get the files that are not there, and check them
    Fetch(Choice),
}

#[derive(Debug, ClapArgs)]
struct Choice {
    /// Sets, such as mnist or caltech [default: all]
    sets: Vec<String>,
    /// Folder with the data [default: the environment variable FLOWS_DATA]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.action {
            Action::List => list(),
            Action::Verify(choice) => choice.verify(),
            Action::Fetch(choice) => choice.fetch(),
        }
    }
}

fn list() -> anyhow::Result<()> {
    for set in ImageSetId::ALL {
        print(&format!("{:<10} {}", set.name(), set.describe()))?;
        for entry in ENTRIES.iter().filter(|e| e.set == set.name()) {
            print(&format!("  {}", entry.path))?;
            print(&format!("    {}", entry.url))?;
            if let Some(checksum) = entry.checksum {
                print(&format!("    {} {}", checksum.name(), checksum.digest()))?;
            }
        }
    }
    Ok(())
}

impl Choice {
    fn entries(&self) -> Result<Vec<&'static Entry>, UsageError> {
        let known = |set: &String| ENTRIES.iter().any(|e| e.set == set);
        if let Some(set) = self.sets.iter().find(|set| !known(set)) {
            let names = ["mnist", "omniglot", "frey", "caltech"].join(", ");
            return Err(UsageError(format!(
                "no files of a set '{set}'; there are {names}"
            )));
        }
        let chosen = |e: &&Entry| self.sets.is_empty() || self.sets.iter().any(|s| s == e.set);
        Ok(ENTRIES.iter().filter(chosen).collect())
    }

    fn folder(&self) -> Result<PathBuf, UsageError> {
        data_folder(self.data_dir.clone()).ok_or_else(|| {
            UsageError("no data folder: --data-dir or FLOWS_DATA names one".to_owned())
        })
    }

    fn verify(&self) -> anyhow::Result<()> {
        let (entries, folder) = (self.entries()?, self.folder()?);
        let mut wrong = 0;
        for entry in entries {
            let state = entry.verify(&folder).map_err(refuse_data)?;
            wrong += usize::from(matches!(state, State::Differs { .. }));
            print(&line(entry, &state, &folder))?;
        }
        if wrong > 0 {
            anyhow::bail!("{wrong} files differ from the published ones");
        }
        Ok(())
    }

    fn fetch(&self) -> anyhow::Result<()> {
        let (entries, folder) = (self.entries()?, self.folder()?);
        let mut failed = 0;
        for entry in entries {
            match entry.verify(&folder).map_err(refuse_data)? {
                state @ (State::Exact(_) | State::Unchecked(_)) => {
                    print(&line(entry, &state, &folder))?;
                    continue;
                }
                State::Differs { path, .. } => {
                    return Err(UsageError(format!(
                        "{} is there and not the published file; move it away",
                        path.display()
                    ))
                    .into());
                }
                State::Missing => {}
            }
            match with_bar(entry, &folder) {
                Ok(()) => print(&line(
                    entry,
                    &entry.verify(&folder).map_err(refuse_data)?,
                    &folder,
                ))?,
                Err(error) => {
                    failed += 1;
                    say(&format!("error: {error}"));
                }
            }
        }
        if failed > 0 {
            anyhow::bail!("{failed} files could not be fetched");
        }
        Ok(())
    }
}

/// Gets a file, with a bar on a terminal.
fn with_bar(entry: &Entry, folder: &Path) -> Result<(), crate::data::fetch::FetchError> {
    let style = "{prefix} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}";
    let bar = crate::runner::bar(0, style).with_prefix(entry.path);
    let done = crate::data::fetch::fetch(entry, folder, &mut |have, of| {
        if let Some(of) = of {
            bar.set_length(of);
        }
        bar.set_position(have);
    });
    bar.finish_and_clear();
    done.map(drop)
}

fn line(entry: &Entry, state: &State, folder: &Path) -> String {
    let shown = |path: &Path| {
        path.strip_prefix(folder)
            .unwrap_or(path)
            .display()
            .to_string()
    };
    match state {
        State::Exact(path) => {
            let kind = entry.checksum.map_or("", Checksum::name);
            format!("exact      {} ({kind})", shown(path))
        }
        State::Unchecked(path) => format!("unchecked  {} (no published checksum)", shown(path)),
        State::Differs { path, found } => {
            let kind = entry.checksum.map_or("", Checksum::name);
            format!("differs    {} ({kind} {found})", shown(path))
        }
        State::Missing => format!("missing    {}", entry.path),
    }
}
