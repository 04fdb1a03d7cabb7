//! Modules inside a type that contains itself.

use core::marker::PhantomData;
use std::any::Any;

use burn::module::{
    AutodiffModule, Content, Devices, DisplaySettings, HasAutodiffModule, Module, ModuleDisplay,
    ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param,
};
use burn::record::Record;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Bool, Int, Tensor};

/// A module whose record does not name its type.
///
/// A record that Burn derives names the records of all fields. That of an enum of layers, one of which is made of
/// layers of this enum, would contain itself; this one is a list of parameters, in the order of a visit. Paths of
/// parameters and the printed form are those of the module inside.
///
/// # Panics
/// Where a record is made of a module with other parameters than floats of one to three dimensions, and where one of
/// another module is loaded.
#[derive(Debug, Clone)]
pub struct Nested<M>(pub M);

/// The parameters of a [`Nested`] module by their number of dimensions, in the order of a visit.
#[derive(Record)]
pub struct NestedRecord<B: Backend> {
    vectors: Vec<Param<Tensor<B, 1>>>,
    matrices: Vec<Param<Tensor<B, 2>>>,
    stacks: Vec<Param<Tensor<B, 3>>>,
}

impl<B: Backend> ModuleVisitor<B> for NestedRecord<B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let record: Box<dyn Any> = Box::new(param.clone().into_record());
        match D {
            1 => push(&mut self.vectors, record),
            2 => push(&mut self.matrices, record),
            3 => push(&mut self.stacks, record),
            _ => panic!("a parameter of {D} dimensions in a nested module, expected one to three"),
        }
    }

    fn visit_int<const D: usize>(&mut self, _: &Param<Tensor<B, D, Int>>) {
        panic!("a parameter of integers in a nested module, expected floats");
    }

    fn visit_bool<const D: usize>(&mut self, _: &Param<Tensor<B, D, Bool>>) {
        panic!("a parameter of booleans in a nested module, expected floats");
    }
}

fn push<T: 'static>(list: &mut Vec<T>, item: Box<dyn Any>) {
    list.push(
        *item
            .downcast()
            .expect("a list for this number of dimensions"),
    );
}

/// Gives the parameters of a record back, one by one.
struct Load<B: Backend> {
    vectors: std::vec::IntoIter<Param<Tensor<B, 1>>>,
    matrices: std::vec::IntoIter<Param<Tensor<B, 2>>>,
    stacks: std::vec::IntoIter<Param<Tensor<B, 3>>>,
    backend: PhantomData<B>,
}

impl<B: Backend> ModuleMapper<B> for Load<B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let record = match D {
            1 => next(&mut self.vectors),
            2 => next(&mut self.matrices),
            _ => next(&mut self.stacks),
        };
        let record = record.downcast().ok();
        param.load_record(*record.expect("a record of a module with other parameters"))
    }
}

fn next<T: 'static>(list: &mut std::vec::IntoIter<T>) -> Box<dyn Any> {
    Box::new(
        list.next()
            .expect("a record of a module with fewer parameters"),
    )
}

impl<B: Backend, M: Module<B>> Module<B> for Nested<M> {
    type Record = NestedRecord<B>;

    fn collect_devices(&self, devices: Devices<B>) -> Devices<B> {
        self.0.collect_devices(devices)
    }

    fn fork(self, device: &B::Device) -> Self {
        Self(self.0.fork(device))
    }

    fn to_device(self, device: &B::Device) -> Self {
        Self(self.0.to_device(device))
    }

    fn visit<Visitor: ModuleVisitor<B>>(&self, visitor: &mut Visitor) {
        self.0.visit(visitor);
    }

    fn map<Mapper: ModuleMapper<B>>(self, mapper: &mut Mapper) -> Self {
        Self(self.0.map(mapper))
    }

    fn into_record(self) -> Self::Record {
        let mut record = NestedRecord {
            vectors: Vec::new(),
            matrices: Vec::new(),
            stacks: Vec::new(),
        };
        self.0.visit(&mut record);
        record
    }

    fn load_record(self, record: Self::Record) -> Self {
        let mut load = Load {
            vectors: record.vectors.into_iter(),
            matrices: record.matrices.into_iter(),
            stacks: record.stacks.into_iter(),
            backend: PhantomData,
        };
        let loaded = self.0.map(&mut load);
        let left = load.vectors.len() + load.matrices.len() + load.stacks.len();
        assert_eq!(
            left, 0,
            "parameters of a record that the module does not have"
        );
        Self(loaded)
    }
}

impl<B: AutodiffBackend, M: AutodiffModule<B>> AutodiffModule<B> for Nested<M> {
    type InnerModule = Nested<M::InnerModule>;

    fn valid(&self) -> Self::InnerModule {
        Nested(self.0.valid())
    }

    fn from_inner(module: Self::InnerModule) -> Self {
        Self(M::from_inner(module.0))
    }
}

impl<B: AutodiffBackend, M> HasAutodiffModule<B> for Nested<M>
where
    M: Module<B::InnerBackend> + HasAutodiffModule<B>,
{
    type TrainModule = Nested<M::TrainModule>;
}

impl<M: ModuleDisplay> ModuleDisplayDefault for Nested<M> {
    fn content(&self, content: Content) -> Option<Content> {
        self.0.content(content)
    }

    fn num_params(&self) -> usize {
        ModuleDisplayDefault::num_params(&self.0)
    }
}

impl<M: ModuleDisplay> ModuleDisplay for Nested<M> {
    fn format(&self, settings: DisplaySettings) -> String {
        self.0.format(settings)
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::record::{FullPrecisionSettings, Recorder};
    use burn_flex::Flex;
    use rand::SeedableRng;

    use crate::bijectors::{
        AutoregressiveConfig, Layer, LayerConfig, MultiScaleConfig, PermutationConfig,
    };
    use crate::masks::{Ordering, Untouched};
    use crate::state::state;

    /// Stages inside a stage.
    fn layer(seed: u64) -> Layer<Flex> {
        let coupling = |dim| {
            let config = AutoregressiveConfig::coupling(dim, vec![4], Untouched::FirstHalf);
            LayerConfig::Autoregressive(config)
        };
        let inside = MultiScaleConfig::new(vec![vec![coupling(4)], vec![coupling(2)]]);
        let order = PermutationConfig::new(4, Ordering::Reversed);
        let config = LayerConfig::MultiScale(MultiScaleConfig::new(vec![
            vec![
                LayerConfig::Permutation(order),
                LayerConfig::MultiScale(inside),
            ],
            vec![coupling(3)],
        ]));
        let rng = &mut rand::rngs::StdRng::seed_from_u64(seed);
        config.init(&Default::default(), rng).unwrap()
    }

    #[test]
    fn a_record_holds_every_parameter_of_layers_inside_layers() {
        let recorder = burn::record::BinBytesRecorder::<FullPrecisionSettings>::default();
        let bytes = recorder.record(layer(1).into_record(), ()).unwrap();
        let record = recorder.load(bytes, &Default::default()).unwrap();
        let [saved, other] = [1, 2].map(|seed| state(&layer(seed)));
        assert_ne!(saved, other);
        assert_eq!(state(&layer(2).load_record(record)), saved);
    }
}
