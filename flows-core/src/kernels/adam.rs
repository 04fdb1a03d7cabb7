//! A step of Adam or Adamax as one pass over memory.

use burn::tensor::{DType, Element, Tensor, TensorData, backend::Backend};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::fused_kernels_enabled;
use super::host::{Host, is_plain_host};
use super::lanes::{Real, dispatch, load, store};

/// Numbers of a piece that one thread takes: a few passes through the first-level cache.
const PIECE: usize = 16_384;

/// A parameter with the running means of its gradient and of its squared gradient.
#[derive(Debug, Clone)]
pub struct AdamParameter<B: Backend, const D: usize> {
    /// The parameter.
    pub value: Tensor<B, D>,
    /// Mean of the gradient.
    pub first: Tensor<B, D>,
    /// Mean of the squared gradient, or the gradient's decaying maximum.
    pub second: Tensor<B, D>,
}

/// What a gradient is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdamNorm {
    /// `sqrt(v) + epsilon` with `v <- b2 v + (1 - b2) g^2`: Adam.
    Two,
    /// `u <- max(b2 u, |g| + epsilon)`: Adamax.
    Infinity,
}

/// The numbers of a step, the same for every parameter.
#[derive(Debug, Clone, Copy)]
pub struct AdamStep {
    /// Decay of the mean of the gradient.
    pub beta_1: f64,
    /// Decay of the mean of the squared gradient, or of the maximum.
    pub beta_2: f64,
    /// Learning rate, bias corrections included.
    pub rate: f64,
    /// Added to the root of the mean square, or to the size of the gradient.
    pub epsilon: f64,
    /// Which of the two.
    pub norm: AdamNorm,
}

impl AdamStep {
    /// `m <- b1 m + (1 - b1) g`, `x <- x - rate m / s` with `s` as [`AdamNorm`] says (Kingma & Ba,
    /// arXiv:1412.6980, algorithms 1 and 2, the bias corrections moved into the scalars).
    ///
    /// In one pass on the CPU backends, in Burn operations elsewhere; the two agree to rounding.
    pub fn apply<B: Backend, const D: usize>(
        self,
        parameter: AdamParameter<B, D>,
        gradient: Tensor<B, D>,
    ) -> AdamParameter<B, D> {
        let AdamParameter {
            value,
            first,
            second,
        } = parameter;
        let dtype = value.dtype();
        let same = [&first, &second, &gradient]
            .iter()
            .all(|t| t.dtype() == dtype);
        if fused_kernels_enabled() && is_plain_host::<B>() && same {
            match dtype {
                DType::F32 => return self.fused::<f32, B, D>([value, first, second], gradient),
                DType::F64 => return self.fused::<f64, B, D>([value, first, second], gradient),
                _ => {}
            }
        }
        let first = first * self.beta_1 + gradient.clone() * (1.0 - self.beta_1);
        let second = second * self.beta_2;
        let (second, size) = match self.norm {
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
            value: value - first.clone() / size * self.rate,
            first,
            second,
        }
    }

    fn fused<F: Real + Element, B: Backend, const D: usize>(
        self,
        tensors: [Tensor<B, D>; 3],
        gradient: Tensor<B, D>,
    ) -> AdamParameter<B, D> {
        let (device, dtype) = (gradient.device(), gradient.dtype());
        let gradient = Host::new(gradient);
        // Tensors that nothing else holds give their memory away and get it back.
        let mut data = tensors.map(Tensor::into_data);
        let [value, first, second] = data.each_mut().map(|data: &mut TensorData| {
            let numbers = data.as_mut_slice::<F>().expect("data of the checked type");
            numbers.chunks_mut(PIECE)
        });
        let gradients = gradient.numbers::<F>().chunks(PIECE);
        let pieces = value.zip(first).zip(second.zip(gradients));
        let pieces = pieces.map(|((value, first), (second, gradient))| Piece {
            step: self,
            value,
            first,
            second,
            gradient,
        });
        let pieces: Vec<_> = pieces.collect();
        let arch = Arch::new();
        if pieces.len() > 1 {
            pieces
                .into_par_iter()
                .for_each(|piece| dispatch(arch, piece));
        } else {
            pieces.into_iter().for_each(|piece| dispatch(arch, piece));
        }
        let [value, first, second] = data.map(|data| Tensor::from_data(data, (&device, dtype)));
        AdamParameter {
            value,
            first,
            second,
        }
    }
}

struct Piece<'a, F> {
    step: AdamStep,
    value: &'a mut [F],
    first: &'a mut [F],
    second: &'a mut [F],
    gradient: &'a [F],
}

impl<F: Real> WithSimd for Piece<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.step.norm {
            AdamNorm::Two => self.run::<S, false>(simd),
            AdamNorm::Infinity => self.run::<S, true>(simd),
        }
    }
}

impl<F: Real> Piece<'_, F> {
    #[inline(always)]
    fn run<S: Simd, const INFINITY: bool>(self, simd: S) {
        let lanes = F::lanes::<S>();
        let Self {
            step,
            value,
            first,
            second,
            gradient,
        } = self;
        let [beta_1, beta_2, rest_1, rest_2, rate, epsilon] = [
            step.beta_1,
            step.beta_2,
            1.0 - step.beta_1,
            1.0 - step.beta_2,
            step.rate,
            step.epsilon,
        ]
        .map(|number| F::splat(simd, F::of(number)));
        let zero = F::splat(simd, F::of(0.0));
        let moments = first.chunks_mut(lanes).zip(second.chunks_mut(lanes));
        let pairs = value.chunks_mut(lanes).zip(gradient.chunks(lanes));
        for ((value, gradient), (first, second)) in pairs.zip(moments) {
            let g = load::<F, S>(simd, gradient);
            let m = F::mul(simd, beta_1, load::<F, S>(simd, first));
            let m = F::fma(simd, rest_1, g, m);
            let v = F::mul(simd, beta_2, load::<F, S>(simd, second));
            let (v, size) = if INFINITY {
                let minus = F::sub(simd, zero, g);
                let here = F::add(simd, F::where_less(simd, g, zero, minus, g), epsilon);
                let largest = F::where_less(simd, v, here, here, v);
                (largest, largest)
            } else {
                let v = F::fma(simd, F::mul(simd, rest_2, g), g, v);
                (v, F::add(simd, F::sqrt(simd, v), epsilon))
            };
            let direction = F::div(simd, m, size);
            let moved = F::fnma(simd, rate, direction, load::<F, S>(simd, value));
            store::<F, S>(m, first);
            store::<F, S>(v, second);
            store::<F, S>(moved, value);
        }
    }
}

#[cfg(test)]
#[cfg(all(feature = "flex", feature = "ndarray"))]
mod tests {
    use super::*;
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
                [1, 17, 2 * PIECE + 5].map(|len| [(len, AdamNorm::Two), (len, AdamNorm::Infinity)]);
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
