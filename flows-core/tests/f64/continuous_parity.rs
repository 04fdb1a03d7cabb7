//! Continuous, residual and block neural autoregressive flows of other libraries: the same parameters give the same
//! numbers. The files in `data/continuous` hold them in f64; `data/generate_continuous.py` writes them.

use burn::backend::{Autodiff, Flex};
use burn::module::Param;
use burn::tensor::{Tensor, TensorData};
use flows_core::bijector::Invert;
use flows_core::bijectors::{Bnaf, BnafConfig, Cnf, DdnfBlock, DdnfBlockConfig};
use flows_core::continuous::{Solver, Trace, VelocityFieldConfig};
use flows_core::nn::Activation;
use flows_core::random::generator;
use flows_core::state::{load_state, state};
use flows_core::testing::{relative_error, rows};

use crate::double;
use crate::parity::Golden;

type Grad = Autodiff<Flex>;

fn open(name: &str) -> Golden {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/continuous");
    Golden(std::fs::read(format!("{folder}/{name}.safetensors")).expect("a golden file"))
}

/// A matrix `[out, in]` as ours are, `[in, out]`.
fn weight(file: &Golden, name: &str) -> Param<Tensor<Grad, 2>> {
    let columns = file.transposed_matrix(name);
    let data = TensorData::new(columns.concat(), [columns.len(), columns[0].len()]);
    Param::from_tensor(Tensor::from_data(data, double()))
}

fn vector(numbers: Vec<f64>) -> Param<Tensor<Grad, 1>> {
    let shape = [numbers.len()];
    Param::from_tensor(Tensor::from_data(TensorData::new(numbers, shape), double()))
}

fn check<L: Invert<Grad>>(file: &Golden, layer: &L, tolerance: f64) {
    let tensor = |name: &str| Tensor::<Grad, 2>::from_inner(file.tensor(name));
    let context = file.has("context").then(|| tensor("context"));
    let x = tensor("x").require_grad();
    let mapped = layer.forward_and_log_det(x.clone(), context.clone());
    let value = mapped.value.clone();
    let loss =
        (value.clone().square() * 0.5 + value.clone().sin()).sum() - mapped.log_det.clone().sum();
    let gradients = loss.backward();
    let back = layer.inverse(value.clone().detach(), context);
    for (what, found) in [
        ("value", rows(&value)),
        ("log_det", rows(&mapped.log_det)),
        ("gradient.x", rows(&x.grad(&gradients).expect("a gradient"))),
        ("x", rows(&back)),
    ] {
        let error = relative_error(&found, &file.numbers(what));
        assert!(
            error <= tolerance,
            "{}: {what} is off by {error:e}",
            layer.name()
        );
    }
}

#[test]
fn continuous_flows_of_zuko() {
    double();
    for (dim, context_dim) in [(2, 0), (3, 2)] {
        let file = open(&format!("zuko-cnf-{dim}"));
        let config = VelocityFieldConfig {
            context_dim,
            ..VelocityFieldConfig::new(dim, [8, 6])
        };
        let mut field = config.init::<Grad>(double(), &mut generator(0)).unwrap();
        for (k, layer) in field.layers.iter_mut().enumerate() {
            layer.weight = weight(&file, &format!("{k}.weight"));
            layer.bias = vector(file.numbers(&format!("{k}.bias")));
        }
        field.context_weight = file.has("0.context").then(|| weight(&file, "0.context"));
        let solver = Solver::DormandPrince {
            tolerance: 1e-12,
            max_steps: 10_000,
        };
        check(&file, &Cnf::new(field, Trace::Exact, solver).unwrap(), 1e-8);
    }
}

#[test]
fn residual_blocks_of_normflows() {
    double();
    let file = open("normflows-residual-2");
    let config = DdnfBlockConfig {
        cells: 1,
        activation: Activation::Swish,
        ..DdnfBlockConfig::new(2, [2, 8, 8])
    };
    let block: DdnfBlock<Grad> = config.init(double(), &mut generator(0)).unwrap();
    let mut parameters = state(&block);
    for k in 0..4 {
        let mut put =
            |name: &str, data| parameters.insert(format!("field.layers.{k}.{name}"), data);
        put(
            "weight",
            weight(&file, &format!("{k}.weight")).val().into_data(),
        );
        put(
            "bias",
            vector(file.numbers(&format!("{k}.bias"))).val().into_data(),
        );
    }
    check(&file, &load_state(block, &parameters).unwrap(), 1e-10);
}

#[test]
fn block_neural_autoregressive_networks_of_flowjax() {
    double();
    for (dim, context_dim) in [(2, 0), (3, 2)] {
        let file = open(&format!("flowjax-bnaf-{dim}"));
        let config = BnafConfig {
            context_dim,
            ..BnafConfig::new(dim, [3, 3])
        };
        let mut layer: Bnaf<Grad> = config.init(double(), &mut generator(0)).unwrap();
        layer.context = file.has("0.context").then(|| weight(&file, "0.context"));
        for (k, linear) in layer.layers.iter_mut().enumerate() {
            let given = weight(&file, &format!("{k}.weight")).val();
            let [inputs, outputs] = given.dims();
            let (a, b) = (inputs / dim, outputs / dim);
            // The logarithms of the blocks on the diagonal; the scale of each column is its norm.
            let raw = rows(&given).into_iter().enumerate().map(|(at, w)| {
                let own = at / outputs / a == at % outputs / b;
                if own { w.ln() } else { w }
            });
            let data = TensorData::new(raw.collect::<Vec<f64>>(), [inputs, outputs]);
            linear.weight = Param::from_tensor(Tensor::from_data(data, double()));
            linear.log_scale = vector(rows(&given.square().sum_dim(0).sqrt().log()));
            linear.bias = vector(file.numbers(&format!("{k}.bias")));
        }
        check(&file, &layer, 1e-10);
    }
}
