//! Flows that were trained with zuko or nflows.
//!
//! A few lines of Python, in `docs/interop.md`, write a flow as a safetensors file: its `state_dict`, what its layers
//! are, and some rows with their log-densities. [`import`] builds the same layers from it and compares: a flow whose
//! log-densities differ is refused, so that nothing which the file does not say can go wrong unseen.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorCreationOptions, TensorData};
use flows_core::base::BaseConfig;
use flows_core::bijectors::{
    Autoregressive, AutoregressiveConfig, Chain, ConditionerConfig, Layer, LayerConfig,
    PermutationConfig,
};
use flows_core::conditioners::{AnyConditioner, Coupling};
use flows_core::distributions::LogProb;
use flows_core::error::Error;
use flows_core::flow::Flow;
use flows_core::masks::{DependencyMask, MaskConfig, Ordering, Untouched};
use flows_core::nn::{ConditionerActivation, Connections, LayerParameters, NetworkParameters};
use flows_core::random::generator;
use flows_core::transforms::{
    Affine, AnyTransform, Bernstein, LogScale, RqSpline, SplineForm, Transform,
};
use flows_train::FileError;
use flows_train::state_file::{decode, read};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::StackConfig;
use crate::model::DataToBaseFlow;

/// A library whose flows are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// zuko 1.6: MAF, NSF, NICE and RealNVP, BPF, with any order of the variables.
    Zuko,
    /// nflows 0.14: masked affine and spline layers, affine and spline couplings, permutations.
    Nflows,
}

/// A flow of another library, and how well it agrees with what that library computed.
#[derive(Debug)]
pub struct Imported<B: Backend> {
    /// What builds its layers.
    pub config: StackConfig,
    /// The flow.
    pub flow: DataToBaseFlow<B>,
    /// Rows whose log-densities were compared.
    pub rows: usize,
    /// Their largest difference, in nats.
    pub difference: f64,
}

/// Reads a flow that the Python lines of `docs/interop.md` wrote. `options` are `&device` for its default float type,
/// or such as `(&device, DType::F64)`.
///
/// # Errors
/// [`FileError`] naming the file and the layer that this library does not have, or the difference of the log-densities.
pub fn import<B: Backend>(
    path: impl AsRef<Path>,
    library: Library,
    options: impl Into<TensorCreationOptions<B>>,
) -> Result<Imported<B>, FileError> {
    let path = path.as_ref();
    let bytes = read(path, WHAT)?;
    from_bytes(&bytes, library, &options.into()).map_err(|reason| FileError::Format {
        path: path.to_owned(),
        expected: WHAT,
        reason,
    })
}

const WHAT: &str = "a flow for the import";

/// What the file says of one layer.
#[derive(Debug, Deserialize)]
struct About {
    /// Where its tensors are.
    name: String,
    /// Its class in Python.
    class: String,
    #[serde(default)]
    activation: Option<String>,
    #[serde(default)]
    univariate: Option<String>,
    #[serde(default)]
    options: Map<String, Value>,
}

impl About {
    fn number(&self, option: &str) -> Option<f64> {
        self.options.get(option)?.as_f64()
    }

    fn activation(&self) -> Result<ConditionerActivation, String> {
        match self.activation.as_deref().map(str::to_lowercase).as_deref() {
            None | Some("relu") => Ok(ConditionerActivation::Relu),
            Some("elu") => Ok(ConditionerActivation::Elu),
            Some("tanh") => Ok(ConditionerActivation::Tanh),
            Some(other) => Err(format!("{}: no activation '{other}' here", self.name)),
        }
    }
}

/// Tensors by name.
struct Tensors(BTreeMap<String, TensorData>);

impl Tensors {
    fn get(&self, name: &str) -> Result<&TensorData, String> {
        self.0
            .get(name)
            .ok_or_else(|| format!("it has no '{name}'"))
    }

    fn numbers(&self, name: &str) -> Result<Vec<f64>, String> {
        Ok(self.get(name)?.iter::<f64>().collect())
    }

    fn indices(&self, name: &str) -> Result<Vec<usize>, String> {
        Ok(self
            .numbers(name)?
            .into_iter()
            .map(|v| v as usize)
            .collect())
    }

    /// Rows of a matrix.
    fn matrix(&self, name: &str) -> Result<Vec<Vec<f64>>, String> {
        let shape = &self.get(name)?.shape;
        let [_, width] = shape[..] else {
            return Err(format!("'{name}' is no matrix"));
        };
        let numbers = self.numbers(name)?;
        Ok(numbers.chunks(width.max(1)).map(<[f64]>::to_vec).collect())
    }

    /// A linear layer of PyTorch, `weight` `[outputs, inputs]`, with its mask where it has one.
    fn linear(&self, name: &str) -> Result<LayerParameters, String> {
        let mut weight = transposed(&self.matrix(&format!("{name}.weight"))?);
        let mask = format!("{name}.mask");
        let mask = match self.0.contains_key(&mask) {
            true => Some(transposed(&self.matrix(&mask)?)),
            false => None,
        };
        let mask: Option<Vec<Vec<bool>>> = mask.map(|rows| {
            rows.iter()
                .map(|row| row.iter().map(|m| *m != 0.0).collect())
                .collect()
        });
        if let Some(mask) = &mask {
            let entries = weight.iter_mut().flatten().zip(mask.iter().flatten());
            entries
                .filter(|(_, kept)| !**kept)
                .for_each(|(w, _)| *w = 0.0);
        }
        Ok(LayerParameters {
            weight,
            bias: self.numbers(&format!("{name}.bias"))?,
            context: None,
            mask,
        })
    }
}

fn transposed<T: Clone>(rows: &[Vec<T>]) -> Vec<Vec<T>> {
    let width = rows.first().map_or(0, Vec::len);
    let column = |j: usize| rows.iter().map(|row| row[j].clone()).collect();
    (0..width).map(column).collect()
}

/// The inputs behind the first `dim` of a layer that reads `[x, context]`.
fn split_context(mut layer: LayerParameters, dim: usize) -> LayerParameters {
    if layer.weight.len() > dim {
        layer.context = Some(layer.weight.split_off(dim));
        layer
            .mask
            .as_mut()
            .map(|mask| mask.truncate(dim))
            .unwrap_or_default();
    }
    layer
}

/// What the outputs of a network are, where ours list parameter 0 of all variables, then parameter 1, and so on.
#[derive(Clone, Copy)]
enum Outputs {
    /// The same.
    ByParameter,
    /// All parameters of variable 0, then those of variable 1, and so on.
    ByVariable,
    /// Likewise, of an affine map with the scale before the shift.
    ScaleFirst,
    /// As `ByVariable`, of a spline whose raw widths and heights are divided by the root of the number of hidden units.
    Divided,
}

impl Outputs {
    /// The network with its outputs in our order, for a map with `count` parameters.
    fn sorted(self, mut network: NetworkParameters, count: usize) -> NetworkParameters {
        let output = &mut network.output;
        let variables = output.bias.len() / count;
        let parameter = |p: usize| match self {
            Self::ScaleFirst => count - 1 - p,
            _ => p,
        };
        let place = |j: usize| match self {
            Self::ByParameter => j,
            _ => j % variables * count + parameter(j / variables),
        };
        let width = network.layers.first().map_or(1, |layer| layer.bias.len());
        let factor = |j: usize| match self {
            // Of `3 bins - 1` parameters all but the slopes, `bins - 1`.
            Self::Divided if j / variables < 2 * count.div_ceil(3) => (width as f64).sqrt().recip(),
            _ => 1.0,
        };
        let pick = |row: &mut Vec<f64>| {
            *row = (0..row.len()).map(|j| factor(j) * row[place(j)]).collect();
        };
        output.weight.iter_mut().for_each(pick);
        pick(&mut output.bias);
        for row in output.mask.iter_mut().flatten() {
            *row = (0..row.len()).map(|j| row[place(j)]).collect();
        }
        network
    }
}

/// The layers of a flow as they are found.
struct Reader<'a, B: Backend> {
    tensors: &'a Tensors,
    dim: usize,
    context_dim: usize,
    options: &'a TensorCreationOptions<B>,
    layers: Vec<(LayerConfig, Layer<B>)>,
}

fn from_bytes<B: Backend>(
    bytes: &[u8],
    library: Library,
    options: &TensorCreationOptions<B>,
) -> Result<Imported<B>, String> {
    let (about, parts) = decode(bytes, "flow")?;
    let about: Vec<About> = serde_json::from_str(&about).map_err(|e| e.to_string())?;
    let named = parts.into_iter().flat_map(|(part, state)| {
        let name = move |(name, data)| (format!("{part}.{name}"), data);
        state.into_iter().map(name)
    });
    let tensors = Tensors(named.collect());
    let width = |name: &str| {
        tensors
            .get(name)
            .map(|data| data.shape.last().copied().unwrap_or(0))
    };
    let mut reader = Reader {
        dim: width("check.x")?,
        context_dim: match tensors.0.contains_key("check.context") {
            true => width("check.context")?,
            false => 0,
        },
        tensors: &tensors,
        options,
        layers: Vec::new(),
    };
    for layer in &about {
        match library {
            Library::Zuko => reader.zuko(layer)?,
            Library::Nflows => reader.nflows(layer)?,
        }
    }
    if library == Library::Zuko {
        reader.check_base()?;
    }
    reader.finish()
}

impl<B: Backend> Reader<'_, B> {
    fn zuko(&mut self, about: &About) -> Result<(), String> {
        let least = |option, or: f64| about.number(option).unwrap_or(or);
        let univariate = about.univariate.as_deref().unwrap_or("");
        let net = format!("{}.hyper", about.name);
        let names = (0..).step_by(2).map(|k| format!("{net}.{k}"));
        let names = names.take_while(|name| self.tensors.0.contains_key(&format!("{name}.weight")));
        let linear: Result<Vec<_>, _> = names.map(|name| self.tensors.linear(&name)).collect();
        let mut layers = linear?;
        let output = layers.pop().ok_or_else(|| unknown(about))?;
        let masked = match about.class.as_str() {
            "MaskedAutoregressiveTransform" => true,
            "GeneralCouplingTransform" => false,
            _ => return Err(unknown(about)),
        };
        let (untouched, moved) = match masked {
            true => (None, self.dim),
            false => {
                let mask = self.tensors.numbers(&format!("{}.mask", about.name))?;
                let seen: Vec<usize> = (0..mask.len()).filter(|&i| mask[i] != 0.0).collect();
                let moved = self.dim.saturating_sub(seen.len());
                (Some(seen), moved)
            }
        };
        let count = output.bias.len() / moved.max(1);
        let transform: AnyTransform = match univariate {
            "MonotonicAffineTransform" => {
                let bound = -least("slope", 1e-3).ln();
                Affine::from(LogScale::SoftClip { bound }).into()
            }
            "MonotonicRQSTransform" => RqSpline {
                bins: (count + 1) / 3,
                bound: least("bound", 5.0),
                form: SplineForm::SoftClip {
                    min_slope: least("slope", 1e-3),
                },
            }
            .into(),
            "BoundedBernsteinTransform" => Bernstein {
                steps: count,
                bound: least("bound", 5.0),
            }
            .into(),
            other => return Err(format!("{}: no map '{other}' here", about.name)),
        };
        let inputs = untouched.as_ref().map_or(self.dim, Vec::len);
        if let Some(first) = layers.first_mut() {
            *first = split_context(first.clone(), inputs);
        }
        let network = NetworkParameters {
            layers,
            output,
            embedding: None,
            activation: about.activation()?,
            connections: Connections::Plain,
        };
        self.push(about, network, untouched, transform, Outputs::ByVariable)
    }

    fn nflows(&mut self, about: &About) -> Result<(), String> {
        let spline = |about: &About| -> Result<AnyTransform, String> {
            if about.options.get("tails").and_then(Value::as_str) != Some("linear") {
                return Err(format!("{}: its spline has no linear tails", about.name));
            }
            let need = |option| {
                let found = about.number(option);
                found.ok_or_else(|| format!("{}: it has no {option}", about.name))
            };
            let spline = RqSpline {
                bins: need("num_bins")? as usize,
                bound: need("tail_bound")?,
                form: SplineForm::Softplus {
                    min_width: need("min_bin_width")?,
                    min_height: need("min_bin_height")?,
                    min_slope: need("min_derivative")?,
                },
            };
            Ok(spline.into())
        };
        let name = &about.name;
        match about.class.as_str() {
            "Permutation" | "ReversePermutation" | "RandomPermutation" => {
                let order = self.tensors.indices(&format!("{name}._permutation"))?;
                let config = PermutationConfig::new(self.dim, Ordering::Explicit(order));
                let layer = config.init(self.options.clone(), &mut generator(0));
                let layer = layer.map_err(|e| e.to_string())?;
                self.layers
                    .push((LayerConfig::Permutation(config), Layer::Permutation(layer)));
                Ok(())
            }
            "MaskedAffineAutoregressiveTransform" => {
                let scale = LogScale::Softplus { floor: 1e-3 };
                let network = self.residual(about, "autoregressive_net")?;
                let transform = Affine::from(scale).into();
                self.push(about, network, None, transform, Outputs::ScaleFirst)
            }
            "MaskedPiecewiseRationalQuadraticAutoregressiveTransform" => {
                let transform = spline(about)?;
                let network = self.residual(about, "autoregressive_net")?;
                self.push(about, network, None, transform, Outputs::ByVariable)
            }
            "AffineCouplingTransform" | "AdditiveCouplingTransform" => {
                let scale = match about.class.as_str() {
                    "AdditiveCouplingTransform" => LogScale::Additive,
                    _ => LogScale::Sigmoid {
                        offset: 2.0,
                        floor: 1e-3,
                    },
                };
                let network = self.residual(about, "transform_net")?;
                let untouched = self.tensors.indices(&format!("{name}.identity_features"))?;
                let transform = Affine::from(scale).into();
                self.push(
                    about,
                    network,
                    Some(untouched),
                    transform,
                    Outputs::ByParameter,
                )
            }
            "PiecewiseRationalQuadraticCouplingTransform" => {
                let transform = spline(about)?;
                let network = self.residual(about, "transform_net")?;
                let untouched = self.tensors.indices(&format!("{name}.identity_features"))?;
                self.push(about, network, Some(untouched), transform, Outputs::Divided)
            }
            _ => Err(unknown(about)),
        }
    }

    /// A residual network of nflows.
    fn residual(&self, about: &About, net: &str) -> Result<NetworkParameters, String> {
        let net = format!("{}.{net}", about.name);
        let has = |name: &str| self.tensors.0.contains_key(name);
        if has(&format!("{net}.blocks.0.linear.weight")) {
            return Err(format!("{net}: its blocks are not residual"));
        }
        if has(&format!("{net}.blocks.0.batch_norm_layers.0.weight")) {
            return Err(format!("{net}: its blocks have batch normalization"));
        }
        let gated = net.ends_with("transform_net") && self.context_dim > 0;
        if gated {
            return Err(format!("{net}: its blocks are gated by the context"));
        }
        let mut layers = vec![self.tensors.linear(&format!("{net}.initial_layer"))?];
        for k in 0.. {
            let block = format!("{net}.blocks.{k}");
            if !has(&format!("{block}.linear_layers.0.weight")) {
                break;
            }
            let mut inner = self.tensors.linear(&format!("{block}.linear_layers.0"))?;
            let context = format!("{block}.context_layer");
            if has(&format!("{context}.weight")) {
                let context = self.tensors.linear(&context)?;
                inner
                    .bias
                    .iter_mut()
                    .zip(&context.bias)
                    .for_each(|(b, c)| *b += c);
                inner.context = Some(context.weight);
            }
            layers.push(inner);
            layers.push(self.tensors.linear(&format!("{block}.linear_layers.1"))?);
        }
        let context = format!("{net}.context_layer");
        Ok(NetworkParameters {
            layers,
            output: self.tensors.linear(&format!("{net}.final_layer"))?,
            embedding: match has(&format!("{context}.weight")) {
                true => Some(self.tensors.linear(&context)?),
                false => None,
            },
            activation: about.activation()?,
            connections: Connections::Residual,
        })
    }

    /// Adds a layer: a coupling that leaves variables untouched, or a masked one.
    fn push(
        &mut self,
        about: &About,
        network: NetworkParameters,
        untouched: Option<Vec<usize>>,
        transform: AnyTransform,
        outputs: Outputs,
    ) -> Result<(), String> {
        let refuse = |e: Error| format!("{}: {e}", about.name);
        // Whatever the file says is checked before anything is looked up by it.
        Transform::<B>::validate(&transform, "map").map_err(refuse)?;
        let inputs = untouched.as_ref().map_or(self.dim, Vec::len);
        network.widths(inputs).map_err(refuse)?;
        let moved = self.dim
            - untouched
                .as_ref()
                .map_or(0, |seen| seen.len().min(self.dim));
        let count = Transform::<B>::parameters(&transform);
        if network.output.bias.len() != count * moved {
            let found = network.output.bias.len();
            return Err(format!(
                "{}: its network has {found} outputs, not {count} for each of {moved} variables",
                about.name
            ));
        }
        let network = outputs.sorted(network, count);
        let (activation, connections) = (network.activation, network.connections);
        let context_dim = network.context_dim().map_err(refuse)?;
        let options = self.options.clone();
        let (hidden, mask, kind, conditioner) = match untouched {
            None => {
                let (network, mask, hidden) = network.evenly(self.dim).map_err(refuse)?;
                let made = network.made(self.dim, options).map_err(refuse)?;
                let conditioner = AnyConditioner::Masked(made);
                let mask = mask_config(&mask, self.dim);
                (hidden, mask, ConditionerConfig::Masked, conditioner)
            }
            Some(untouched) => {
                let hidden = network.widths(untouched.len()).map_err(refuse)?;
                let untouched = Untouched::Variables(untouched);
                let network = network.mlp(options).map_err(refuse)?;
                let coupling = Coupling::new(network, self.dim, &untouched).map_err(refuse)?;
                let conditioner = AnyConditioner::Coupling(coupling);
                let mask = MaskConfig::Coupling(untouched);
                (hidden, mask, ConditionerConfig::Coupling, conditioner)
            }
        };
        let config = AutoregressiveConfig {
            mask,
            conditioner: kind,
            transform: transform.clone(),
            activation,
            connections,
            context_dim,
            ..AutoregressiveConfig::new(self.dim, hidden)
        };
        let layer = Autoregressive::new(conditioner, transform, config.inverse).map_err(refuse)?;
        let config = LayerConfig::Autoregressive(config);
        self.layers.push((config, Layer::Autoregressive(layer)));
        Ok(())
    }

    /// Refuses a base of zuko that was trained: its flows have a standard normal.
    fn check_base(&self) -> Result<(), String> {
        for (name, expected) in [("base.loc", 0.0), ("base.scale", 1.0)] {
            if self.tensors.numbers(name)?.iter().any(|v| *v != expected) {
                return Err(format!(
                    "{name} is not {expected}: its base is no standard normal"
                ));
            }
        }
        Ok(())
    }

    /// Puts the layers together, and compares the log-densities of the rows.
    fn finish(self) -> Result<Imported<B>, String> {
        let (configs, layers): (Vec<_>, Vec<_>) = self.layers.into_iter().unzip();
        let config = StackConfig::new(self.dim, configs);
        let stack = Chain::new(layers).map_err(|e| e.to_string())?;
        let base = BaseConfig::default().init(self.dim, self.options.clone(), &mut generator(0));
        let base = base.map_err(|e| e.to_string())?;
        let flow = Flow::data_to_base(stack, base).map_err(|e| e.to_string())?;

        if flow.context_dim() != self.context_dim {
            let (own, given) = (flow.context_dim(), self.context_dim);
            return Err(format!(
                "its layers read {own} columns of context, and 'check.context' has {given}"
            ));
        }
        let expected = self.tensors.numbers("check.log_prob")?;
        let tensor = |name: &str| -> Result<Tensor<B, 2>, String> {
            let rows = self.tensors.matrix(name)?;
            if rows.is_empty() || rows.len() != expected.len() {
                let (count, scores) = (rows.len(), expected.len());
                return Err(format!(
                    "'{name}' has {count} rows, and there are {scores} log-densities"
                ));
            }
            let data = TensorData::new(rows.concat(), [rows.len(), rows[0].len()]);
            Ok(Tensor::from_data(data, self.options.clone()))
        };
        let context = match self.context_dim {
            0 => None,
            _ => Some(tensor("check.context")?),
        };
        let found = flow.log_prob(tensor("check.x")?, context).into_data();
        let wide = [found.dtype, self.tensors.get("check.x")?.dtype] == [DType::F64; 2];
        let found: Vec<f64> = found.iter().collect();
        let allowed = |e: &f64| if wide { 1e-9 } else { 1e-4 } * (1.0 + e.abs());
        let (mut difference, mut differ) = (0.0f64, None);
        for (row, (f, e)) in found.iter().zip(&expected).enumerate() {
            let off = (f - e).abs();
            difference = difference.max(off);
            // A difference that is NaN agrees with nothing.
            let agrees = off <= allowed(e);
            if !agrees && differ.is_none() {
                differ = Some(format!(
                    "row {} of 'check.x' has {f} here and {e} there",
                    row + 1
                ));
            }
        }
        match differ {
            Some(row) => Err(format!(
                "the log-densities differ: {row}; what its layers say of themselves is not all that they do"
            )),
            None => Ok(Imported {
                config,
                flow,
                rows: found.len(),
                difference,
            }),
        }
    }
}

fn unknown(about: &About) -> String {
    format!("{}: no layer '{}' here", about.name, about.class)
}

/// How a configuration names a mask.
fn mask_config(mask: &DependencyMask, dim: usize) -> MaskConfig {
    let order = mask.order();
    let earlier = |k: usize| order[..k].iter().all(|&j| mask.sees(order[k], j));
    match (0..dim).all(earlier) {
        true => MaskConfig::Autoregressive(Ordering::Explicit(order)),
        false => {
            let parents = |i: usize| (0..dim).filter(|&j| mask.sees(i, j)).collect();
            MaskConfig::Graph((0..dim).map(parents).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{ModelConfig, load, save};
    use burn_flex::Flex;
    use flows_core::distributions::Sample;

    fn data(folder: &str) -> PathBuf {
        [env!("CARGO_MANIFEST_DIR"), "tests", "data", folder]
            .iter()
            .collect()
    }

    fn library(path: &Path) -> Library {
        let name = path.file_name().unwrap().to_str().unwrap();
        match name.starts_with("zuko") {
            true => Library::Zuko,
            false => Library::Nflows,
        }
    }

    /// In f64, in which the files are: within 1e-9, which `import` asks for.
    fn wide(path: &Path) -> Result<Imported<Flex>, FileError> {
        import(path, library(path), (&Default::default(), DType::F64))
    }

    #[test]
    fn every_flow_has_its_log_densities_and_is_a_model_like_any_other() {
        let folder =
            std::env::var_os("FLOWS_INTEROP_DIR").map_or_else(|| data("interop"), PathBuf::from);
        let files = std::fs::read_dir(&folder).unwrap();
        let files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        assert!(files.len() >= 10, "{} files", files.len());
        let scratch = tempfile::tempdir().unwrap();
        for path in files {
            let imported = wide(&path).unwrap();
            assert_eq!(imported.rows, 16, "{}", path.display());
            let narrow = import::<Flex>(&path, library(&path), &Default::default());
            assert!(narrow.unwrap().difference < 1e-3);

            let saved = scratch.path().join("flow");
            let config = ModelConfig::from(imported.config);
            save::<Flex>(&saved, &config, imported.flow.clone()).unwrap();
            let device = Default::default();
            let loaded = load::<Flex>(&saved, (&device, DType::F64)).unwrap();
            let x = Tensor::<Flex, 2>::ones([3, config.dim()], (&device, DType::F64)) * 0.3;
            let context = match config.context_dim() {
                0 => None,
                k => Some(Tensor::ones([3, k], (&device, DType::F64))),
            };
            let expected = imported.flow.log_prob(x.clone(), context.clone());
            let found = loaded.log_prob(x, context.clone());
            found.into_data().assert_eq(&expected.into_data(), true);
            let (samples, log_prob) =
                loaded.sample_and_log_prob(3, context.clone(), &mut generator(1));
            let again = loaded.log_prob(samples, context).into_data();
            again.assert_approx_eq::<f64>(
                &log_prob.into_data(),
                burn::tensor::Tolerance::absolute(1e-6),
            );
        }
    }

    #[test]
    fn what_is_another_model_here_is_refused_by_name() {
        let refused = |bytes: &[u8], library: Library| {
            let options = (&Default::default(), DType::F64).into();
            from_bytes::<Flex>(bytes, library, &options).unwrap_err()
        };
        let sos = std::fs::read(data("wrong").join("zuko-sos.safetensors")).unwrap();
        let reason = refused(&sos, Library::Zuko);
        assert!(
            reason.contains("transform.transforms.0: no map 'ShiftedSOSPTransform' here"),
            "{reason}"
        );

        // An option that the file does not tell truly changes the densities.
        let maf = std::fs::read(data("interop").join("zuko-maf.safetensors")).unwrap();
        let swap = |file: &[u8], from: &str, to: &str| {
            let place = file
                .windows(from.len())
                .position(|window| window == from.as_bytes());
            let mut other = file.to_vec();
            other[place.unwrap()..][..to.len()].copy_from_slice(to.as_bytes());
            other
        };
        let reason = refused(&swap(&maf, "ReLU", "Tanh"), Library::Zuko);
        assert!(
            reason.contains("the log-densities differ: row 1"),
            "{reason}"
        );
        let reason = refused(&swap(&maf, "ReLU", "SiLU"), Library::Zuko);
        assert!(reason.contains("no activation 'silu' here"), "{reason}");
        let reason = refused(&maf, Library::Nflows);
        assert!(
            reason.contains("no layer 'MaskedAutoregressiveTransform' here"),
            "{reason}"
        );
        // Numbers of layers that do not go together are an error and no panic.
        let nsf = std::fs::read(data("interop").join("nflows-nsf.safetensors")).unwrap();
        let (bins, name) = (
            r#"num_bins\": "#,
            "its network has 56 outputs, not 26 for each of 4",
        );
        let reason = refused(
            &swap(&nsf, &format!("{bins}5"), &format!("{bins}9")),
            Library::Nflows,
        );
        assert!(reason.contains(name), "{reason}");
        let reason = refused(
            &swap(&nsf, &format!("{bins}5"), &format!("{bins}0")),
            Library::Nflows,
        );
        assert!(reason.contains("bins"), "{reason}");
        let reason = refused(&maf[..maf.len() - 1], Library::Zuko);
        assert!(!reason.contains('\n'), "{reason}");
    }
}
