//! A step of Adam or Adamax.

use burn::tensor::{Tensor, backend::Backend};

use crate::fused;
pub use crate::fused::plan::{AdamNorm, AdamParameter, AdamStep};

impl AdamStep {
    /// `m <- b1 m + (1 - b1) g`, `x <- x - rate m / s` with `s` as [`AdamNorm`] says (Kingma & Ba,
    /// arXiv:1412.6980, algorithms 1 and 2, the bias corrections moved into the scalars).
    ///
    /// In one pass on the CPU backends, in Burn operations elsewhere; the two agree to rounding.
    ///
    /// # Panics
    /// If the moments have another number of elements than the parameter, or the gradient another shape.
    pub fn apply<B: Backend, const D: usize>(
        self,
        parameter: AdamParameter<B, D>,
        gradient: Tensor<B, D>,
    ) -> AdamParameter<B, D> {
        let shape = parameter.value.shape();
        let moments = [&parameter.first, &parameter.second];
        assert!(
            gradient.shape() == shape && moments.iter().all(|m| m.dims() == [shape.num_elements()]),
            "Adam: a parameter of {shape:?}, a gradient of {:?}, moments of {:?} and {:?}",
            gradient.shape(),
            parameter.first.dims(),
            parameter.second.dims(),
        );
        let AdamParameter {
            value,
            first,
            second,
        } = match fused::adam_in_place(self, parameter, &gradient) {
            Ok(moved) => return moved,
            Err(parameter) => parameter,
        };
        let gradient = gradient.flatten::<1>(0, D - 1);
        let first = first * self.beta_1 + gradient.clone() * (1.0 - self.beta_1);
        let second = second * self.beta_2;
        let (second, magnitude) = match self.norm {
            AdamNorm::Two => {
                let second = second + gradient.square() * (1.0 - self.beta_2);
                (second.clone(), second.sqrt() + self.epsilon)
            }
            AdamNorm::Infinity => {
                let largest = second.max_pair(gradient.abs() + self.epsilon);
                (largest.clone(), largest)
            }
        };
        AdamParameter {
            value: value - (first.clone().div(magnitude) * self.rate).reshape(shape),
            first,
            second,
        }
    }
}

#[cfg(test)]
#[cfg(all(feature = "flex", feature = "ndarray"))]
mod tests {
    use super::*;
    use burn::tensor::{DType, TensorData};
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;
    use burn_ndarray::NdArray;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    fn vector<B: Backend>(len: usize, dtype: DType, rng: &mut StdRng) -> Tensor<B, 1> {
        let numbers: Vec<f64> = (0..len).map(|_| rng.random_range(-1.0..1.0)).collect();
        Tensor::from_data(
            TensorData::new(numbers, [len]),
            (&Default::default(), dtype),
        )
    }

    /// Parameter and moments after some steps.
    fn trained<B: Backend>(len: usize, dtype: DType, norm: AdamNorm) -> Vec<f64> {
        let rng = &mut StdRng::seed_from_u64(7);
        let value = vector::<B>(len, dtype, rng);
        let zeros = value.zeros_like();
        let mut parameter = AdamParameter {
            value,
            first: zeros.clone(),
            second: zeros,
        };
        let step = AdamStep {
            beta_1: 0.9,
            beta_2: 0.999,
            rate: 0.01,
            epsilon: 1e-8,
            norm,
        };
        for _ in 0..4 {
            parameter = step.apply(parameter, vector(len, dtype, rng));
        }
        let tensors = [parameter.value, parameter.first, parameter.second];
        let numbers = tensors.map(|t| t.into_data().iter::<f64>().collect::<Vec<_>>());
        numbers.concat()
    }

    #[test]
    fn one_pass_agrees_with_burn_operations() {
        for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F64, 1e-14)] {
            let cases =
                [1, 17, 33_000].map(|len| [(len, AdamNorm::Two), (len, AdamNorm::Infinity)]);
            for &(len, norm) in cases.as_flattened() {
                // With autodiff there is no fused step.
                let generic = trained::<Autodiff<Flex>>(len, dtype, norm);
                let flex = trained::<Flex>(len, dtype, norm);
                for fused in [flex, trained::<NdArray>(len, dtype, norm)] {
                    for (a, b) in fused.iter().zip(&generic) {
                        assert!((a - b).abs() <= tolerance, "{dtype:?}, {len}: {a} and {b}");
                    }
                }
            }
        }
    }
}
