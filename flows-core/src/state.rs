//! The parameters of a module as plain data, by path, without loss.
//!
//! Burn's recorders pass every float through the backend's element type, which is f32 for a backend
//! whose tensors choose their type at run time: a model in f64 would come back rounded. Here the
//! numbers keep their own type, so a saved model continues with the same bits.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData, backend::Backend};

/// Parameters by path, such as `layers.0.weight`: trained ones, and statistics kept as [`Param`]s.
pub type State = BTreeMap<String, TensorData>;

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
}

/// The parameters of `module`.
pub fn state<B: Backend, M: Module<B>>(module: &M) -> State {
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
/// # Errors
/// [`StateError`] where paths or shapes differ; the module is then lost, the state is not.
pub fn load_state<B: Backend, M: Module<B>>(module: M, state: &State) -> Result<M, StateError> {
    let mut load = Load {
        state,
        path: Path::default(),
        used: 0,
        error: None,
    };
    let module = module.map(&mut load);
    if let Some(error) = load.error {
        return Err(error);
    }
    if load.used < state.len() {
        let own = self::state(&module);
        if let Some(path) = state.keys().find(|path| !own.contains_key(*path)) {
            return Err(StateError::Unknown { path: path.clone() });
        }
    }
    Ok(module)
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
    used: usize,
    error: Option<StateError>,
}

impl<B: Backend> ModuleMapper<B> for Load<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let path = self.path.show();
        let Some(data) = self.state.get(&path) else {
            self.error.get_or_insert(StateError::Missing { path });
            return param;
        };
        let trained = param.is_require_grad();
        let (id, old, mapper) = param.consume();
        if data.shape.as_slice() != old.dims().as_slice() {
            self.error.get_or_insert(StateError::Shape {
                path,
                expected: old.dims().to_vec(),
                actual: data.shape.to_vec(),
            });
            return Param::from_mapped_value(id, old, mapper);
        }
        self.used += 1;
        let new = Tensor::from_data(data.clone(), (&old.device(), old.dtype()));
        Param::from_mapped_value(id, new.set_require_grad(trained), mapper)
    }

    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.0.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.0.pop();
    }
}
