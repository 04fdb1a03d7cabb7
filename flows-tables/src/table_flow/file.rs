//! A fitted flow as one safetensors file.
//!
//! The header is JSON in the file's metadata under `flows-model`; the tensors are `flow.*`,
//! `preprocessing.*` and, for a conditional flow, `context.*`.

use std::path::Path;

use burn::tensor::backend::Backend;
use flows_core::state::state;
use flows_models::ModelConfig;
use flows_models::interop::Imported;
use serde::{Deserialize, Serialize};

use super::config::{is_one, one};
use super::kind::ColumnKind;
use super::{Determined, TableFlow, Training};
use crate::mixture::StudentMixture;
use crate::selection::Origin;
use crate::{Column, DataError, Preprocessing, Role};
use flows_train::model_file::{FLOW, FORMAT, ModelFile, write};
use flows_train::{FileError, stream};

/// Everything about a fitted flow that is not a tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelHeader {
    /// Version of the file's layout: 1, which older programs read as well, unless there is something in it that
    /// they do not know: 2 with columns that others determine, kinds of columns, rows left out, a table without
    /// names; 3 with several members or a mixture; 4 for a flow of another library.
    pub format: u32,
    /// The program that wrote it.
    pub program: String,
    /// The model.
    pub model: ModelConfig,
    /// Models of this configuration in the file, whose densities are averaged.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub members: usize,
    /// The share of a mixture in the density, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixture: Option<f64>,
    /// The columns used, in the order of the file it was fitted to.
    pub columns: Vec<Column>,
    /// Columns of that file.
    pub source_columns: usize,
    /// Whether that file has no names for them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unnamed: bool,
    /// Modelled columns that the others determine; the model is over the rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub determined: Vec<Determined>,
    /// Kinds of the modelled columns; those not named are continuous.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<ColumnKind>,
    /// How it was fitted; not there for a flow of another library.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<Training>,
    /// Where a flow of another library comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<ImportedFrom>,
}

/// Where a flow of another library comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportedFrom {
    /// The library.
    pub library: String,
    /// Rows whose log-densities were compared with those of the library.
    pub rows: usize,
    /// Their largest difference, in nats.
    pub difference: f64,
}

impl ModelHeader {
    /// The file the model was fitted to.
    pub fn source(&self) -> Origin {
        Origin {
            columns: self.source_columns,
            named: !self.unnamed,
        }
    }

    /// Number of columns with this role.
    pub fn count(&self, role: Role) -> usize {
        self.columns.iter().filter(|c| c.role == role).count()
    }

    /// Reads the header of a model file.
    ///
    /// # Errors
    /// [`FileError`] naming the file and what is wrong with it.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        Ok(Parts::load(path)?.1.header)
    }
}

/// What writes these files.
pub(super) const PROGRAM: &str = concat!("flows-tables ", env!("CARGO_PKG_VERSION"));

/// Most members that a file may claim.
const MOST_MEMBERS: usize = 1000;

/// A model file taken apart, without a backend.
struct Parts {
    header: ModelHeader,
    preprocessing: Preprocessing,
    context: Option<Preprocessing>,
    mixture: Option<StudentMixture>,
}

/// The part with the parameters of a member.
fn part_of(member: usize) -> String {
    match member {
        0 => FLOW.to_owned(),
        k => format!("{FLOW}-{}", k + 1),
    }
}

impl Parts {
    fn load(path: &Path) -> Result<(ModelFile, Self), FileError> {
        let file = ModelFile::load(path)?;
        let parts = Self::check(file.header()?, &file).map_err(|reason| file.unusable(reason))?;
        let members: Vec<String> = (0..parts.header.members).map(part_of).collect();
        let mut known = vec!["preprocessing", "context", "mixture"];
        known.extend(members.iter().map(String::as_str));
        file.refuse_parts_but(&known)?;
        Ok((file, parts))
    }

    fn check(header: ModelHeader, file: &ModelFile) -> Result<Self, String> {
        let named = |name: &str| header.columns.iter().find(|c| c.name == name);
        for (i, determined) in header.determined.iter().enumerate() {
            let before = &header.determined[..i];
            let once = !before.iter().any(|d| d.column == determined.column);
            let column = named(&determined.column);
            // A column follows those that are not determined themselves.
            let follows = |(name, _): &(String, f64)| {
                named(name).is_some() && !header.determined.iter().any(|d| d.column == *name)
            };
            if !once
                || column.is_none_or(|c| c.role != Role::Density)
                || !determined.terms.iter().all(follows)
            {
                return Err("a column is determined by others that are not there".to_owned());
            }
        }
        for (i, ColumnKind { column, kind }) in header.kinds.iter().enumerate() {
            let twice = header.kinds[..i].iter().any(|k| k.column == *column);
            if let Some(problem) = kind.problem() {
                return Err(format!("column '{column}': {problem}"));
            }
            if twice || named(column).is_none_or(|c| c.role != Role::Density) {
                return Err(format!(
                    "its kind of column '{column}' is of no modelled column"
                ));
            }
        }
        let all = header.count(Role::Density);
        let (dim, contexts) = (all - header.determined.len(), header.count(Role::Context));
        if header.model.dim() != dim || header.model.context_dim() != contexts {
            return Err("its model does not fit its columns".to_owned());
        }
        if header
            .columns
            .iter()
            .any(|c| c.position >= header.source_columns)
        {
            return Err("its columns lie outside its table".to_owned());
        }
        let preprocessing = Preprocessing::from_state(&file.part("preprocessing"), dim)
            .ok_or("its standardization does not fit its columns")?;
        let context = match contexts {
            0 => None,
            n => Some(
                Preprocessing::from_state(&file.part("context"), n)
                    .ok_or("the standardization of its context does not fit its columns")?,
            ),
        };
        if !(1..=MOST_MEMBERS).contains(&header.members) {
            return Err(format!("it has {} members", header.members));
        }
        let mixture = match header.mixture {
            None => None,
            Some(share) if share > 0.0 && share < 1.0 => Some(
                StudentMixture::from_state(&file.part("mixture"), dim + contexts)
                    .ok_or("its mixture does not fit its columns")?,
            ),
            Some(share) => return Err(format!("its mixture has the share {share}")),
        };
        Ok(Self {
            header,
            preprocessing,
            context,
            mixture,
        })
    }
}

impl<B: Backend> TableFlow<B> {
    /// A flow of another library over columns of these names, with context columns of those, in the units that it was
    /// trained in.
    ///
    /// # Errors
    /// [`DataError::Columns`] where there are not as many names as the flow has columns, or a name occurs twice.
    pub fn imported(
        imported: Imported<B>,
        library: &str,
        names: &[String],
        context: &[String],
        device: &B::Device,
    ) -> Result<Self, DataError> {
        let model = ModelConfig::from(imported.config);
        let (dim, given) = (model.dim(), model.context_dim());
        for (what, found, expected) in
            [("columns", names, dim), ("context columns", context, given)]
        {
            if found.len() != expected {
                let count = found.len();
                return Err(DataError::Columns(format!(
                    "the flow has {expected} {what}, and {count} have names: {}",
                    found.join(", ")
                )));
            }
        }
        let all = names.iter().chain(context);
        let column = |(position, name): (usize, &String)| Column {
            name: name.clone(),
            position,
            role: if position < dim {
                Role::Density
            } else {
                Role::Context
            },
        };
        let columns: Vec<Column> = all.enumerate().map(column).collect();
        let twice = |column: &Column| {
            columns[..column.position]
                .iter()
                .any(|c| c.name == column.name)
        };
        if let Some(column) = columns.iter().find(|column| twice(column)) {
            let reason = format!("two columns have the name '{}'", column.name);
            return Err(DataError::Columns(reason));
        }
        let header = ModelHeader {
            format: FORMAT,
            program: PROGRAM.to_owned(),
            model,
            members: 1,
            mixture: None,
            source_columns: columns.len(),
            columns,
            unnamed: false,
            determined: Vec::new(),
            kinds: Vec::new(),
            training: None,
            imported: Some(ImportedFrom {
                library: library.to_owned(),
                rows: imported.rows,
                difference: imported.difference,
            }),
        };
        Ok(Self {
            header,
            preprocessing: Preprocessing::none(dim),
            context: (given > 0).then(|| Preprocessing::none(given)),
            members: vec![imported.flow],
            mixture: None,
            device: device.clone(),
        })
    }

    /// Writes the model whole or not at all.
    ///
    /// # Errors
    /// [`FileError::Write`] naming the file.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        let members = self.members.iter().enumerate();
        let members: Vec<_> = members.map(|(k, flow)| (part_of(k), state(flow))).collect();
        let preprocessing = self.preprocessing.state();
        let context = self.context.as_ref().map(Preprocessing::state);
        let mixture = self.mixture.as_ref().map(StudentMixture::state);
        let mut parts: Vec<_> = members.iter().map(|(name, s)| (name.as_str(), s)).collect();
        parts.push(("preprocessing", &preprocessing));
        parts.extend(context.as_ref().map(|context| ("context", context)));
        parts.extend(mixture.as_ref().map(|mixture| ("mixture", mixture)));
        write(path, &self.header, &parts)
    }

    /// Reads a model that any backend wrote.
    ///
    /// # Errors
    /// [`FileError`] naming the file and what is wrong with it.
    pub fn load(path: &Path, device: &B::Device) -> Result<Self, FileError> {
        let (file, parts) = Parts::load(path)?;
        let model = &parts.header.model;
        file.check_size(model.least_parameters())?;
        let built = model.init_data_to_base::<B>(device, &mut stream(0, "replaced", 0));
        let built = built.map_err(|e| file.unusable(e.to_string()))?;
        let member = |k| file.fill_from(&part_of(k), built.clone());
        let members = (0..parts.header.members).map(member);
        Ok(Self {
            members: members.collect::<Result<_, _>>()?,
            mixture: parts.mixture,
            header: parts.header,
            preprocessing: parts.preprocessing,
            context: parts.context,
            device: device.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table_flow::{FitConfig, fit};
    use crate::{Rows, Table};
    use burn::backend::{Autodiff, Flex};
    use flows_models::MafConfig;
    use flows_train::Training as FitTraining;
    use rand::RngExt;

    fn example() -> TableFlow<Flex> {
        let values = (0..80).map(|i| f64::from(i * i % 17)).collect();
        let table = Table::from_values(["a", "b"], values).unwrap();
        let model = MafConfig {
            layers: 1,
            hidden: vec![2],
            ..MafConfig::new(2)
        };
        let config = FitConfig {
            whiten: true,
            course: FitTraining {
                steps: 1,
                ..FitTraining::default()
            },
            ..FitConfig::new(model)
        };
        fit::<Autodiff<Flex>>(&table, &config, &Default::default()).unwrap()
    }

    fn load(path: &Path, bytes: &[u8]) -> Result<TableFlow<Flex>, FileError> {
        std::fs::write(path, bytes).unwrap();
        TableFlow::load(path, &Default::default())
    }

    #[test]
    fn a_model_comes_back_with_the_same_bits_and_damaged_ones_are_refused_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        let model = example();
        model.save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let loaded = load(&path, &bytes).unwrap();
        assert_eq!(loaded.header, model.header);
        let x = crate::Rows::new(vec![3.0, 4.0, 10.0, 0.5], 2);
        assert_eq!(loaded.log_prob(&x, None), model.log_prob(&x, None));

        for length in 0..bytes.len() {
            let error = load(&path, &bytes[..length]).unwrap_err().to_string();
            assert!(
                !error.contains('\n') && error.contains("is not a model"),
                "{error}"
            );
        }
        let rng = &mut stream(0, "damage", 0);
        for _ in 0..2000 {
            let mut damaged = bytes.clone();
            let at = rng.random_range(0..damaged.len());
            damaged[at] = rng.random();
            if let Err(error) = load(&path, &damaged) {
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
    }

    #[test]
    fn a_base_that_reads_the_context_is_fitted_saved_and_loaded() {
        let values = (0..240).map(|i| f64::from(i * i % 17)).collect();
        let mut table = Table::from_values(["a", "b", "c"], values).unwrap();
        table.columns[2].role = Role::Context;
        let (density, context) = crate::table::by_role(table.density, &table.columns);
        let table = Table {
            density,
            context,
            ..table
        };
        let text = "kind = 'planar'\ndim = 2\nlayers = 1\n\
                    base = { student_t = { parameters = { context = { context_dim = 1 } } } }";
        let model: ModelConfig = toml::from_str(text).unwrap();
        let config = FitConfig {
            course: FitTraining {
                steps: 2,
                ..FitTraining::default()
            },
            ..FitConfig::new(model)
        };
        let model = fit::<Autodiff<Flex>>(&table, &config, &Default::default()).unwrap();
        let path = tempfile::tempdir().unwrap();
        let path = path.path().join("model");
        model.save(&path).unwrap();
        let loaded = TableFlow::<Flex>::load(&path, &Default::default()).unwrap();
        let (x, context) = (Rows::new(vec![3.0, 4.0], 2), Rows::new(vec![5.0], 1));
        let scores = model.log_prob(&x, Some(&context));
        assert!(scores[0].is_finite());
        assert_eq!(loaded.log_prob(&x, Some(&context)), scores);
    }

    #[test]
    fn batch_normalization_is_fixed_at_the_training_rows() {
        let rng = &mut stream(0, "table", 0);
        let values = (0..600).map(|_| rng.random::<f64>().powi(2)).collect();
        let table = Table::from_values(["a", "b"], values).unwrap();
        let config = FitConfig {
            course: FitTraining {
                steps: 60,
                batch: 50,
                evaluate_every: 20,
                ..FitTraining::default()
            },
            ..FitConfig::new(MafConfig {
                layers: 2,
                hidden: vec![8],
                batch_norm: true,
                ..MafConfig::new(2)
            })
        };
        let device = Default::default();
        let mut scores = Vec::new();
        let fitted = super::super::fit_with::<Autodiff<Flex>>(
            &table,
            &config,
            Default::default(),
            &device,
            &mut |evaluation| scores.push(evaluation.score),
        )
        .unwrap();
        // What decided is what is kept: statistics of a batch would score differently.
        let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        assert!((fitted.header.training.as_ref().unwrap().validation - best).abs() < 1e-9);
        let split = crate::Split::shuffled(300, 0.1, 0.1, 0);
        let validation = table.pick(&split.validation).density;
        let scores = fitted.log_prob(&validation, None);
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        assert!((mean - best).abs() < 1e-4, "{mean}, {best}");
        // Rows do not see each other, in another process either.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        fitted.save(&path).unwrap();
        let loaded = TableFlow::<Flex>::load(&path, &device).unwrap();
        for (i, score) in scores.iter().enumerate() {
            let alone = loaded.log_prob(&validation.slice(i, i + 1), None)[0];
            assert!((alone - score).abs() < 1e-4, "{alone}, {score}");
        }
        let samples = loaded.sample(50, None, &mut stream(1, "samples", 0));
        assert!(samples.values().iter().all(|v| v.is_finite()));
    }

    /// Written by `flows fit --steps 30 --layers 1 --hidden 2` before there was flows-train.
    #[test]
    fn a_file_of_an_older_program_gives_the_same_densities() {
        let old = include_bytes!("../../tests/data/written-before-flows-train.flow");
        let folder = tempfile::tempdir().unwrap();
        let model = load(&folder.path().join("old.flow"), old).unwrap();
        let rows = Rows::new(vec![OLD_ROW[0], OLD_ROW[1]], 2);
        assert!((model.log_prob(&rows, None)[0] - OLD_ROW[2]).abs() < 1e-5);
        let again = folder.path().join("again.flow");
        model.save(&again).unwrap();
        let again = TableFlow::<Flex>::load(&again, &Default::default()).unwrap();
        assert_eq!(again.header(), model.header());
        // The flow alone, without the units of its table, is not what the file holds.
        let alone = flows_models::load::<Flex>(folder.path().join("old.flow"), &Default::default());
        assert!(
            alone
                .unwrap_err()
                .to_string()
                .contains("part 'preprocessing'")
        );
    }

    /// A row of the table, and what the program that wrote the file printed for it.
    const OLD_ROW: [f64; 3] = [0.0947, 0.7197, -2.265135];

    #[test]
    fn a_newer_format_and_a_claim_too_large_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        let model = example();
        let with = |change: &dyn Fn(&mut ModelHeader)| {
            let mut changed = model.clone();
            change(&mut changed.header);
            changed.save(&path).unwrap();
            let error = TableFlow::<Flex>::load(&path, &Default::default());
            error.unwrap_err().to_string()
        };
        let newer = with(&|header| header.format = 5);
        assert!(newer.contains("model format 5") && newer.contains("newer program"));
        let huge = with(&|header| {
            header.model = ModelConfig::Maf(MafConfig {
                hidden: vec![1 << 40, 1 << 40],
                ..MafConfig::new(2)
            });
        });
        assert!(huge.contains("more parameters than"), "{huge}");
        let other = with(&|header| header.columns.truncate(1));
        assert!(other.contains("does not fit its columns"), "{other}");
        std::fs::write(&path, "a,b\n1,2\n").unwrap();
        let foreign = TableFlow::<Flex>::load(&path, &Default::default());
        assert!(foreign.unwrap_err().to_string().contains("no safetensors"));
    }
}
