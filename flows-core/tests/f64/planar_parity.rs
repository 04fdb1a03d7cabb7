//! Planar and Sylvester maps against values computed by the reference implementation of
//! *Sylvester Normalizing Flows* (arXiv:1803.05649), in f64: same parameters, same value and
//! log-determinant to 1e-10, and back again.

use burn::backend::Flex;
use burn::tensor::{DType, Tensor, TensorData};
use flows_core::bijector::Mapped;
use flows_core::bijectors::planar;
use flows_core::bijectors::sylvester::{self, Basis, Parameters};
use safetensors::SafeTensors;
use std::path::Path;

use crate::double;

type B = Flex;

struct Golden(Vec<u8>);

impl Golden {
    fn read(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        Self(std::fs::read(folder.join(format!("{name}.safetensors"))).unwrap())
    }

    fn get<const D: usize>(&self, name: &str) -> Tensor<B, D> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor(name).unwrap();
        let values: Vec<f64> = view
            .data()
            .chunks_exact(8)
            .map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        let data = TensorData::new(values, view.shape().to_vec());
        Tensor::from_data(data, double())
    }

    fn assert_matches(&self, mapped: Mapped<B>) {
        assert_close(mapped.value, self.get("value"), 1e-10);
        assert_close(mapped.log_det, self.get("log_det"), 1e-10);
    }

    fn assert_inverse(&self, mapped: Mapped<B>) {
        assert_close(mapped.value, self.get("z"), 1e-10);
        assert_close(mapped.log_det, self.get::<1>("log_det").neg(), 1e-10);
    }
}

fn assert_close<const D: usize>(actual: Tensor<B, D>, expected: Tensor<B, D>, tolerance: f64) {
    assert_eq!(actual.dims(), expected.dims());
    assert_eq!(actual.dtype(), DType::F64);
    let (actual, expected) = (actual.into_data(), expected.into_data());
    for (i, (a, e)) in actual.iter::<f64>().zip(expected.iter::<f64>()).enumerate() {
        assert!(
            (a - e).abs() <= tolerance * (1.0 + e.abs()),
            "entry {i}: {a} against {e}"
        );
    }
}

#[test]
fn planar_has_the_reference_values() {
    let golden = Golden::read("planar");
    let (u, w, b) = (golden.get("u"), golden.get("w"), golden.get("b"));
    golden.assert_matches(planar::apply(
        golden.get("z"),
        u.clone(),
        w.clone(),
        b.clone(),
    ));
    let (back, iterations) = planar::invert(golden.get("value"), u, w, b);
    golden.assert_inverse(back);
    assert!(iterations <= 20, "{iterations} iterations");
}

fn sylvester_matches(golden: &Golden, basis: Basis<B>) {
    let [r1, r2] = ["r1", "r2"].map(|name| golden.get(name));
    let parameters = Parameters::from_matrices(basis, r1, r2, golden.get("b"));
    golden.assert_matches(sylvester::apply(golden.get("z"), &parameters));
    let (back, passes) = sylvester::invert(golden.get("value"), &parameters);
    golden.assert_inverse(back);
    assert!(passes <= 20, "{passes} passes");
}

#[test]
fn orthogonal_sylvester_has_the_reference_values() {
    let golden = Golden::read("sylvester-orthogonal");
    sylvester_matches(&golden, Basis::Columns(golden.get("q")));
    // The reference stops its iteration early; both are close to the same matrix.
    let q = sylvester::orthonormalize(golden.get::<3>("q_raw"));
    assert_close(q.clone(), golden.get("q"), 1e-10);
    let gram = q.clone().swap_dims(1, 2).matmul(q);
    assert_close(gram, identities(16, 4), 1e-14);
}

#[test]
fn householder_sylvester_has_the_reference_values() {
    let golden = Golden::read("sylvester-householder");
    let q = sylvester::householder(golden.get::<3>("v"));
    assert_close(q.clone(), golden.get("q"), 1e-10);
    sylvester_matches(&golden, Basis::Columns(q));
    sylvester_matches(&golden, sylvester::reflections(golden.get("v")));
}

#[test]
fn triangular_sylvester_has_the_reference_values() {
    sylvester_matches(
        &Golden::read("sylvester-triangular-identity"),
        Basis::Identity,
    );
    sylvester_matches(
        &Golden::read("sylvester-triangular-reversal"),
        Basis::Reversal,
    );
}

fn identities(rows: usize, m: usize) -> Tensor<B, 3> {
    let values: Vec<f64> = (0..rows * m * m)
        .map(|i| f64::from(u8::from((i / m) % m == i % m)))
        .collect();
    let data = TensorData::new(values, [rows, m, m]);
    Tensor::from_data(data, double())
}
