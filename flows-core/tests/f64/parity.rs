//! Golden values of other libraries: the same parameters must give the same value and
//! log-determinant, and the value must lead back.
//!
//! The files in `data/` hold inputs, parameters and outputs in f64, computed by zuko 1.6.0, nflows 0.14
//! and the code of sylvester-flows; masked weights are stored with their masks.

use burn::tensor::{Tensor, TensorData};
use burn_flex::Flex;
use safetensors::{Dtype, SafeTensors};

use flows_core::bijector::Invert;
use flows_core::bijectors::{
    Autoregressive, AutoregressiveInverse, Permutation, PermutationConfig,
};
use flows_core::conditioners::Coupling;
use flows_core::distributions::{DiagonalNormal, LogProb};
use flows_core::masks::Ordering;
use flows_core::masks::Untouched;
use flows_core::nn::{
    ConditionerActivation, Connections, LayerParameters, Made, NetworkParameters,
};
use flows_core::random::generator;
use flows_core::transforms::{Affine, LogScale};

use crate::double;

type Matrix = Vec<Vec<f64>>;

/// A file of golden values.
pub(crate) struct Golden(pub(crate) Vec<u8>);

impl Golden {
    fn open(name: &str) -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
        Self(std::fs::read(format!("{folder}/{name}.safetensors")).unwrap())
    }

    pub(crate) fn numbers(&self, name: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), Dtype::F64, "{name}");
        let words = tensor.data().chunks_exact(8);
        words
            .map(|word| f64::from_le_bytes(word.try_into().unwrap()))
            .collect()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        file.tensor(name).is_ok()
    }

    fn matrix(&self, name: &str) -> Matrix {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let columns = file.tensor(name).unwrap().shape()[1];
        self.numbers(name)
            .chunks(columns)
            .map(<[f64]>::to_vec)
            .collect()
    }

    pub(crate) fn tensor(&self, name: &str) -> Tensor<Flex, 2> {
        let rows = self.matrix(name);
        let data = TensorData::new(rows.concat(), [rows.len(), rows[0].len()]);
        Tensor::from_data(data, double())
    }

    /// A matrix `[out, in]` as ours are, `[in, out]`.
    pub(crate) fn transposed_matrix(&self, name: &str) -> Matrix {
        transposed(&self.matrix(name))
    }

    /// A PyTorch linear layer, with its mask if it has one.
    pub(crate) fn linear(&self, name: &str) -> LayerParameters {
        let mask = format!("{name}.mask");
        LayerParameters {
            weight: transposed(&self.matrix(&format!("{name}.weight"))),
            bias: self.numbers(&format!("{name}.bias")),
            context: None,
            mask: self
                .has(&mask)
                .then(|| boolean(&transposed(&self.matrix(&mask)))),
        }
    }

    /// A layer whose weights are stored `[in, out]`.
    fn direct(&self, name: &str) -> LayerParameters {
        LayerParameters {
            weight: self.matrix(&format!("{name}.weight")),
            bias: self.numbers(&format!("{name}.bias")),
            context: None,
            mask: Some(boolean(&self.matrix(&format!("{name}.mask")))),
        }
    }
}

fn transposed(matrix: &Matrix) -> Matrix {
    (0..matrix[0].len())
        .map(|j| matrix.iter().map(|row| row[j]).collect())
        .collect()
}

fn boolean(matrix: &Matrix) -> Vec<Vec<bool>> {
    let row = |row: &Vec<f64>| row.iter().map(|v| *v != 0.0).collect();
    matrix.iter().map(row).collect()
}

/// Picks rows of weights and mask.
fn rows(
    mut layer: LayerParameters,
    picked: impl Iterator<Item = usize> + Clone,
) -> LayerParameters {
    layer.weight = picked.clone().map(|i| layer.weight[i].clone()).collect();
    layer.mask = layer
        .mask
        .map(|mask| picked.map(|i| mask[i].clone()).collect());
    layer
}

/// Picks columns of weights, mask and bias.
fn columns(layer: LayerParameters, picked: impl Iterator<Item = usize> + Clone) -> LayerParameters {
    let pick = |row: &Vec<f64>| picked.clone().map(|j| row[j]).collect();
    LayerParameters {
        weight: layer.weight.iter().map(pick).collect(),
        bias: pick(&layer.bias),
        context: layer.context.map(|rows| rows.iter().map(pick).collect()),
        mask: layer.mask.map(|mask| {
            let pick = |row: &Vec<bool>| picked.clone().map(|j| row[j]).collect();
            mask.iter().map(pick).collect()
        }),
    }
}

fn values<const D: usize>(x: Tensor<Flex, D>) -> Vec<f64> {
    x.into_data().iter::<f64>().collect()
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!(
            (a - b).abs() <= 1e-10 * (1.0 + b.abs()),
            "{a}, expected {b}"
        );
    }
}

/// Runs layers in turn, compares value and log-determinant, and goes back.
#[track_caller]
fn check(
    layers: &[&dyn Map],
    x: Tensor<Flex, 2>,
    context: Option<Tensor<Flex, 2>>,
    value: &[f64],
    log_det: &[f64],
) {
    let mut y = x.clone();
    let mut sum = vec![0.0; log_det.len()];
    for layer in layers {
        let (next, volume) = layer.there(y, context.clone());
        y = next;
        sum.iter_mut().zip(volume).for_each(|(s, v)| *s += v);
    }
    assert_close(&values(y.clone()), value);
    assert_close(&sum, log_det);
    for layer in layers.iter().rev() {
        let (next, volume) = layer.back(y, context.clone());
        y = next;
        sum.iter_mut().zip(volume).for_each(|(s, v)| *s += v);
    }
    assert_close(&values(y), &values(x));
    assert_close(&sum, &vec![0.0; sum.len()]);
}

/// Layers of different types in one list.
trait Map {
    fn there(&self, x: Tensor<Flex, 2>, c: Option<Tensor<Flex, 2>>) -> (Tensor<Flex, 2>, Vec<f64>);
    fn back(&self, y: Tensor<Flex, 2>, c: Option<Tensor<Flex, 2>>) -> (Tensor<Flex, 2>, Vec<f64>);
}

impl<L: Invert<Flex>> Map for L {
    fn there(&self, x: Tensor<Flex, 2>, c: Option<Tensor<Flex, 2>>) -> (Tensor<Flex, 2>, Vec<f64>) {
        let mapped = self.forward_and_log_det(x, c.filter(|_| self.context_dim() > 0));
        (mapped.value, values(mapped.log_det))
    }

    fn back(&self, y: Tensor<Flex, 2>, c: Option<Tensor<Flex, 2>>) -> (Tensor<Flex, 2>, Vec<f64>) {
        let mapped = self.inverse_and_log_det(y, c.filter(|_| self.context_dim() > 0));
        (mapped.value, values(mapped.log_det))
    }
}

type Maf = Autoregressive<Flex, Made<Flex>, Affine>;

fn masked_affine(network: &NetworkParameters, dim: usize, scale: LogScale) -> Maf {
    let conditioner = network.made(dim, double()).unwrap();
    let inverse = AutoregressiveInverse::Incremental;
    Autoregressive::new(conditioner, Affine { scale }, inverse).unwrap()
}

fn zuko(name: &str) {
    let golden = Golden::open(name);
    let (dim, x) = (6, golden.tensor("x"));
    let context = golden.has("context").then(|| golden.tensor("context"));
    let layers: Vec<_> = (0..3)
        .map(|k| {
            let layer = |l: usize| golden.linear(&format!("transform.transforms.{k}.hyper.{l}"));
            // The network reads `[x, context]`.
            let (mut first, inputs) = (layer(0), dim);
            if context.is_some() {
                first.context = Some(first.weight[inputs..].to_vec());
            }
            // Shift and scale of a variable lie side by side.
            let halves = (0..dim).map(|i| 2 * i).chain((0..dim).map(|i| 2 * i + 1));
            let network = NetworkParameters {
                layers: vec![rows(first, 0..inputs), layer(2)],
                output: columns(layer(4), halves),
                embedding: None,
                activation: ConditionerActivation::Relu,
                connections: Connections::Plain,
            };
            let bound = -f64::ln(1e-3);
            masked_affine(&network, dim, LogScale::SoftClip { bound })
        })
        .collect();
    let layers: Vec<&dyn Map> = layers.iter().map(|layer| layer as &dyn Map).collect();
    let (z, log_det) = (golden.numbers("z"), golden.numbers("log_det"));
    check(&layers, x, context, &z, &log_det);
    let base = DiagonalNormal::<Flex>::standard(dim, double());
    let log_prob = values(base.log_prob(golden.tensor("z"), None));
    let log_prob: Vec<f64> = log_prob.iter().zip(&log_det).map(|(a, b)| a + b).collect();
    assert_close(&log_prob, &golden.numbers("log_prob"));
}

#[test]
fn zuko_maf() {
    zuko("zuko-maf");
}

#[test]
fn zuko_maf_with_context() {
    zuko("zuko-maf-context");
}

/// Nflows lists the scale of a variable before its shift.
fn scale_before_shift(output: LayerParameters, dim: usize) -> LayerParameters {
    let shifts = (0..dim).map(|i| 2 * i + 1);
    columns(output, shifts.chain((0..dim).map(|i| 2 * i)))
}

#[test]
fn nflows_maf() {
    let (golden, dim) = (Golden::open("nflows-maf"), 6);
    let layer = |name: &str| golden.linear(&format!("autoregressive_net.{name}"));
    let network = NetworkParameters {
        layers: vec![
            layer("initial_layer"),
            layer("blocks.0.linear"),
            layer("blocks.1.linear"),
        ],
        output: scale_before_shift(layer("final_layer"), dim),
        embedding: None,
        activation: ConditionerActivation::Relu,
        connections: Connections::Plain,
    };
    let layer = masked_affine(&network, dim, LogScale::Softplus { floor: 1e-3 });
    let (value, log_det) = (golden.numbers("value"), golden.numbers("log_det"));
    check(&[&layer], golden.tensor("x"), None, &value, &log_det);
}

#[test]
fn nflows_residual_maf_with_context() {
    let (golden, dim) = (Golden::open("nflows-maf-residual-context"), 6);
    let layer = |name: &str| golden.linear(&format!("autoregressive_net.{name}"));
    let mut layers = vec![layer("initial_layer")];
    for k in 0..2 {
        let block = |name: &str| layer(&format!("blocks.{k}.{name}"));
        let (mut inner, context) = (block("linear_layers.0"), block("context_layer"));
        inner.context = Some(context.weight);
        inner
            .bias
            .iter_mut()
            .zip(context.bias)
            .for_each(|(b, c)| *b += c);
        layers.extend([inner, block("linear_layers.1")]);
    }
    let network = NetworkParameters {
        layers,
        output: scale_before_shift(layer("final_layer"), dim),
        embedding: Some(layer("context_layer")),
        activation: ConditionerActivation::Relu,
        connections: Connections::Residual,
    };
    let layer = masked_affine(&network, dim, LogScale::Softplus { floor: 1e-3 });
    let context = Some(golden.tensor("context"));
    let (value, log_det) = (golden.numbers("value"), golden.numbers("log_det"));
    check(&[&layer], golden.tensor("x"), context, &value, &log_det);
}

#[test]
fn nflows_coupling() {
    let golden = Golden::open("nflows-coupling");
    let features =
        |name: &str| -> Vec<usize> { golden.numbers(name).iter().map(|v| *v as usize).collect() };
    let (seen, moved) = (
        features("identity_features"),
        features("transform_features"),
    );
    assert!(
        moved.is_sorted(),
        "the order in which shifts and scales are listed"
    );
    let layer = |name: &str| golden.linear(&format!("transform_net.{name}"));
    let network = NetworkParameters {
        layers: vec![
            layer("initial_layer"),
            layer("blocks.0.linear_layers.0"),
            layer("blocks.0.linear_layers.1"),
        ],
        output: layer("final_layer"),
        embedding: None,
        activation: ConditionerActivation::Relu,
        connections: Connections::Residual,
    };
    let scale = LogScale::Sigmoid {
        offset: 2.0,
        floor: 1e-3,
    };
    let network = network.mlp::<Flex>(double()).unwrap();
    let conditioner = Coupling::new(network, 6, &Untouched::Variables(seen)).unwrap();
    let inverse = AutoregressiveInverse::Incremental;
    let layer = Autoregressive::new(conditioner, Affine { scale }, inverse).unwrap();
    let (value, log_det) = (golden.numbers("value"), golden.numbers("log_det"));
    check(&[&layer], golden.tensor("x"), None, &value, &log_det);
}

#[test]
fn iaf() {
    let (golden, dim) = (Golden::open("iaf"), 6);
    let steps: Vec<_> = (0..2)
        .map(|k| {
            let layer = |name: &str| golden.direct(&format!("{k}.{name}"));
            // The context is added to the activations of the first layer: the second one reads it
            // through its own weights.
            let mut second = layer("hid");
            second.context = Some(second.weight.clone());
            let (mut output, gate) = (layer("mean"), layer("gate"));
            let side_by_side = output.weight.iter_mut().zip(gate.weight);
            side_by_side.for_each(|(row, more)| row.extend(more));
            let masks = output.mask.iter_mut().flatten().zip(gate.mask.unwrap());
            masks.for_each(|(row, more)| row.extend(more));
            output.bias.extend(gate.bias);
            let network = NetworkParameters {
                layers: vec![layer("inp"), second],
                output,
                embedding: None,
                activation: ConditionerActivation::Elu,
                connections: Connections::Plain,
            };
            masked_affine(&network, dim, LogScale::SigmoidGate)
        })
        .collect();
    let reversal: Permutation<Flex> = PermutationConfig::new(dim, Ordering::Reversed)
        .init(double(), &mut generator(0))
        .unwrap();
    let layers: [&dyn Map; 3] = [&steps[0], &reversal, &steps[1]];
    let context = Some(golden.tensor("context"));
    let (value, log_det) = (golden.numbers("value"), golden.numbers("log_det"));
    check(&layers, golden.tensor("z"), context, &value, &log_det);
}
