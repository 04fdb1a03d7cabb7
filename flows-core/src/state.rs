//! The parameters of a module as plain data, by path, without loss, with what they are the parameters of.
//!
//! Burn's recorders pass every float through the backend's element type, which is f32 for a backend
//! whose tensors choose their type at run time: a model in f64 would come back rounded. Here the
//! numbers keep their own type, so a saved model continues with the same bits.
//!
//! Parameters alone do not say what they compute: the same weights mean another density in another order of the
//! variables, under another mask, temperature or base. A [`state`] therefore carries everything about the
//! configuration that the module prints about itself, and [`load_state`] refuses any other, naming the first
//! difference. The printed form of a module comes from Burn's `derive(Module)`, so layers of other crates take part
//! without a line of their own; a bare tensor in a layer is printed by its shape only, and a layer that holds one
//! which its configuration does not determine keeps its values in a `#[module(skip)]` field beside it.

use std::collections::BTreeMap;

use burn::module::{DisplaySettings, Module, ModuleDisplay, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, Int, Tensor, TensorData, backend::Backend};

/// Parameters by path, such as `layers.0.weight`: trained ones, and statistics kept as [`Param`]s; and under
/// [`CONFIGURATION`] the text that says what they are the parameters of.
pub type State = BTreeMap<String, TensorData>;

/// The entry of a [`State`] that holds the configuration, as UTF-8 bytes.
pub const CONFIGURATION: &str = "configuration";

/// First line of a configuration. Raise the number where fields of layers change their names or their printed form:
/// configurations of different layouts cannot be compared, and only paths and shapes are checked.
const LAYOUT: &str = "layout 3";

/// Names that paths had before, with those they have: in a file of a layout before, none of the new ones occurs.
const RENAMED: [(&str, &str); 2] = [
    (
        ".MaskedAffine.conditioner.",
        ".Autoregressive.conditioner.Masked.",
    ),
    (
        ".Coupling.conditioner.",
        ".Autoregressive.conditioner.Coupling.network.",
    ),
];

/// Words of a configuration that were others before, with those of now.
const REWORDED: [(&str, &str); 2] = [
    ("flow::Normalizing>", "flow::DataToBase>"),
    ("flow::Generative>", "flow::BaseToData>"),
];

/// A field that is no part of what a module is, such as noise or a cache: printed, it shows nothing.
#[derive(Clone, Default)]
pub(crate) struct Transient<T>(pub(crate) T);

impl<T> std::fmt::Debug for Transient<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("..")
    }
}

/// Why a state does not fit a module.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StateError {
    /// The module has a parameter that the state lacks.
    #[error("parameter '{path}' is missing")]
    Missing {
        /// Path of the parameter.
        path: String,
    },
    /// The state has an entry that the module lacks.
    #[error("entry '{path}' belongs to no parameter")]
    Unknown {
        /// Path of the entry.
        path: String,
    },
    /// Both have it, in different shapes.
    #[error("parameter '{path}' has shape {actual:?}, expected {expected:?}")]
    Shape {
        /// Path of the parameter.
        path: String,
        /// Shape in the module.
        expected: Vec<usize>,
        /// Shape in the state.
        actual: Vec<usize>,
    },
    /// The state belongs to a module of another configuration.
    #[error("the parameters belong to another model: {difference}")]
    OtherConfiguration {
        /// The first difference, in words.
        difference: String,
    },
}

/// The parameters of `module`, with its configuration.
pub fn state<B: Backend, M: Module<B> + ModuleDisplay>(module: &M) -> State {
    let mut state = parameters::<B, M>(module);
    let text = configuration(module).join("\n").into_bytes();
    let shape = [text.len()];
    state.insert(CONFIGURATION.to_owned(), TensorData::new(text, shape));
    state
}

/// The parameters of `module` alone, for another module that differs from it on purpose.
pub fn parameters<B: Backend, M: Module<B>>(module: &M) -> State {
    let mut collect = Collect::default();
    module.visit(&mut collect);
    collect.state
}

/// Number of trained scalars in `module`: entries of the parameters that take a gradient.
pub fn trained_parameters<B: Backend, M: Module<B>>(module: &M) -> usize {
    let mut collect = Collect::default();
    module.visit(&mut collect);
    collect.trained
}

/// `module` with the parameters of `state`, converted to the type the module's own have.
///
/// A state without a configuration, as [`parameters`] gives, is checked by paths and shapes only.
///
/// # Errors
/// [`StateError`] where paths, shapes or the configuration differ; the module is then lost, the state is not.
pub fn load_state<B: Backend, M: Module<B> + ModuleDisplay>(
    module: M,
    state: &State,
) -> Result<M, StateError> {
    let renamed = renamed(state);
    let state = renamed.as_ref().unwrap_or(state);
    let own = parameters::<B, M>(&module);
    for (path, expected) in &own {
        let found = state
            .get(path)
            .ok_or_else(|| StateError::Missing { path: path.clone() })?;
        if found.shape != expected.shape {
            return Err(StateError::Shape {
                path: path.clone(),
                expected: expected.shape.to_vec(),
                actual: found.shape.to_vec(),
            });
        }
    }
    let unknown = |path: &&String| !own.contains_key(*path) && *path != CONFIGURATION;
    if let Some(path) = state.keys().find(unknown) {
        return Err(StateError::Unknown { path: path.clone() });
    }
    if let Some(text) = state.get(CONFIGURATION) {
        let text: Vec<u8> = text.iter().collect();
        check_configuration(&configuration(&module), &String::from_utf8_lossy(&text))?;
    }
    let path = Path::default();
    Ok(module.map(&mut Load { state, path }))
}

/// A state of before with the paths that parameters have now, if it has others.
fn renamed(state: &State) -> Option<State> {
    let new = |path: &String| {
        let at = |(old, new): &(&str, &str)| path.contains(old).then(|| path.replace(old, new));
        RENAMED.iter().find_map(at)
    };
    state.keys().any(|path| new(path).is_some()).then(|| {
        let entries = state.iter();
        entries
            .map(|(path, data)| (new(path).unwrap_or_else(|| path.clone()), data.clone()))
            .collect()
    })
}

/// What a module prints about itself, except for its parameters: a line for each value, `path: value`.
fn configuration<M: ModuleDisplay>(module: &M) -> Vec<String> {
    let settings = DisplaySettings::new()
        .with_show_all_attributes(true)
        .with_show_num_parameters(false);
    let mut path = Vec::new();
    let mut lines = vec![LAYOUT.to_owned()];
    for line in module.format(settings).lines().map(str::trim) {
        let (name, value) = line.split_once(": ").unwrap_or(("", line));
        if line == "}" {
            path.pop();
        } else if let Some(kind) = value.strip_suffix(" {") {
            path.push(name.to_owned());
            lines.push(format!("{}: {kind}", path.join(".")));
        } else if !value.starts_with("ParamTensor {") {
            lines.push(format!("{}.{name}: {value}", path.join(".")));
        }
    }
    lines
}

fn check_configuration(own: &[String], saved: &str) -> Result<(), StateError> {
    let reword = |text: String, (old, new): &(&str, &str)| text.replace(old, new);
    let saved = REWORDED.iter().fold(saved.to_owned(), reword);
    let saved: Vec<&str> = saved.lines().collect();
    if saved.first().copied() != Some(LAYOUT) {
        return Ok(());
    }
    let missing = |line: Option<&str>| {
        line.unwrap_or("nothing more")
            .trim_matches(['.', ':', ' '])
            .to_owned()
    };
    for k in 0..own.len().max(saved.len()) {
        let (own, saved) = (own.get(k).map(String::as_str), saved.get(k).copied());
        if own != saved {
            return Err(StateError::OtherConfiguration {
                difference: format!(
                    "it has '{}' where this one has '{}'",
                    missing(saved),
                    missing(own)
                ),
            });
        }
    }
    Ok(())
}

/// Names of the modules around the current one.
#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    fn show(&self) -> String {
        self.0.join(".")
    }
}

#[derive(Default)]
struct Collect {
    path: Path,
    state: State,
    trained: usize,
}

impl<B: Backend> ModuleVisitor<B> for Collect {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let value = param.val();
        if param.is_require_grad() {
            self.trained += value.shape().num_elements();
        }
        self.state.insert(self.path.show(), value.into_data());
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<B, D, Int>>) {
        self.state.insert(self.path.show(), param.val().into_data());
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<B, D, Bool>>) {
        self.state.insert(self.path.show(), param.val().into_data());
    }

    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.0.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.0.pop();
    }
}

struct Load<'a> {
    state: &'a State,
    path: Path,
}

impl Load<'_> {
    /// The data of the current parameter, whose presence and shape were checked.
    fn data(&self) -> TensorData {
        self.state[&self.path.show()].clone()
    }
}

impl<B: Backend> ModuleMapper<B> for Load<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let trained = param.is_require_grad();
        let (id, old, mapper) = param.consume();
        let new = Tensor::from_data(self.data(), (&old.device(), old.dtype()));
        Param::from_mapped_value(id, new.set_require_grad(trained), mapper)
    }

    fn map_int<const D: usize>(
        &mut self,
        param: Param<Tensor<B, D, Int>>,
    ) -> Param<Tensor<B, D, Int>> {
        let (id, old, mapper) = param.consume();
        let new = Tensor::from_data(self.data(), (&old.device(), old.dtype()));
        Param::from_mapped_value(id, new, mapper)
    }

    fn map_bool<const D: usize>(
        &mut self,
        param: Param<Tensor<B, D, Bool>>,
    ) -> Param<Tensor<B, D, Bool>> {
        let (id, old, mapper) = param.consume();
        let new = Tensor::from_data(self.data(), &old.device());
        Param::from_mapped_value(id, new, mapper)
    }

    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.0.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.0.pop();
    }
}
