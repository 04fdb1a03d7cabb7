//! Networks from given parameters, such as those of other libraries.

use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, TensorData, backend::Backend};

use super::linear::NetworkLinear;
use super::made::{Made, Wiring};
use super::mlp::Mlp;
use super::network::{ConditionerActivation, Connections, Network};
use crate::error::Error;
use crate::masks::{DependencyMask, HiddenUnits, MadeLayout, WeightMask};

/// Parameters of one layer `y = x W + c C + b`. Rows are inputs: PyTorch's weights are transposed.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerParameters {
    /// `W`, `[inputs][outputs]`.
    pub weight: Vec<Vec<f64>>,
    /// `b`, `[outputs]`.
    pub bias: Vec<f64>,
    /// `C`, `[context_dim][outputs]`, for a layer that reads the context.
    pub context: Option<Vec<Vec<f64>>>,
    /// Which weights exist, `[inputs][outputs]`; none for all of them.
    pub mask: Option<Vec<Vec<bool>>>,
}

impl LayerParameters {
    fn outputs(&self) -> usize {
        self.bias.len()
    }

    fn check(&self, what: &'static str, inputs: usize) -> Result<(), Error> {
        let outputs = self.outputs();
        let fits = |lengths: Vec<usize>| {
            let equal = lengths.iter().all(|&length| length == outputs);
            outputs > 0 && !lengths.is_empty() && equal
        };
        let lengths = |rows: &Vec<Vec<f64>>| rows.iter().map(Vec::len).collect();
        let weight = self.weight.len() == inputs && fits(lengths(&self.weight));
        let mask = self
            .mask
            .as_ref()
            .is_none_or(|rows| rows.len() == inputs && fits(rows.iter().map(Vec::len).collect()));
        let context = self.context.as_ref().is_none_or(|rows| fits(lengths(rows)));
        if weight && mask && context {
            return Ok(());
        }
        let expected = format!("[{inputs}][{outputs}], as many columns as biases");
        Err(Error::config("network", what, "another shape", expected))
    }

    fn weight_mask(&self) -> WeightMask {
        match &self.mask {
            Some(rows) => WeightMask {
                inputs: rows.len(),
                outputs: self.outputs(),
                entries: rows.concat(),
            },
            None => WeightMask::full(self.weight.len(), self.outputs()),
        }
    }

    /// The layer with its inputs and outputs at other places, given with their number, and zeros at those left.
    fn placed(
        &self,
        rows: Option<(&[usize], usize)>,
        columns: Option<(&[usize], usize)>,
        mask: &WeightMask,
    ) -> Self {
        let spread = |row: &[f64]| match columns {
            None => row.to_vec(),
            Some((places, width)) => {
                let mut wide = vec![0.0; width];
                places.iter().zip(row).for_each(|(&j, v)| wide[j] = *v);
                wide
            }
        };
        let bias = spread(&self.bias);
        let own = self.weight.iter().map(|row| spread(row));
        let weight = match rows {
            None => own.collect(),
            Some((places, height)) => {
                let mut all = vec![vec![0.0; bias.len()]; height];
                own.zip(places).for_each(|(row, &i)| all[i] = row);
                all
            }
        };
        let context = self.context.as_ref();
        Self {
            weight,
            context: context.map(|rows| rows.iter().map(|row| spread(row)).collect()),
            mask: Some(
                mask.entries
                    .chunks(bias.len())
                    .map(<[bool]>::to_vec)
                    .collect(),
            ),
            bias,
        }
    }

    /// The layer with its inputs and outputs in another order.
    fn layer<B: Backend>(
        &self,
        rows: Option<&[usize]>,
        columns: Option<&[usize]>,
        mask: &WeightMask,
        options: &TensorCreationOptions<B>,
    ) -> NetworkLinear<B> {
        let pick = |row: &[f64]| match columns {
            Some(columns) => columns.iter().map(|&j| row[j]).collect(),
            None => row.to_vec(),
        };
        let matrix = |rows: Vec<Vec<f64>>| {
            let shape = [rows.len(), self.outputs()];
            Tensor::from_data(TensorData::new(rows.concat(), shape), options.clone())
        };
        let weight = match rows {
            Some(rows) => rows.iter().map(|&i| pick(&self.weight[i])).collect(),
            None => self.weight.iter().map(|row| pick(row)).collect(),
        };
        let context = self.context.as_ref().map(|rows| {
            let rows = rows.iter().map(|row| pick(row)).collect();
            matrix(rows)
        });
        let bias = TensorData::new(pick(&self.bias), [self.outputs()]);
        let bias = Tensor::from_data(bias, options.clone());
        NetworkLinear::from_parameters(matrix(weight), bias, context, mask)
    }
}

/// Parameters of a whole conditioner, its layers in the order in which they are applied.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkParameters {
    /// Hidden layers; with [`Connections::Residual`] the first one, then two for each block.
    pub layers: Vec<LayerParameters>,
    /// The last layer, without activation.
    pub output: LayerParameters,
    /// `C` and `d` of the embedded context of a residual network.
    pub embedding: Option<LayerParameters>,
    /// Activation of the hidden layers.
    pub activation: ConditionerActivation,
    /// Plain layers or residual blocks.
    pub connections: Connections,
}

impl NetworkParameters {
    /// Widths of the hidden layers of a layout, and how the linear layers connect them.
    fn wiring(&self, inputs: usize) -> Result<(Vec<usize>, Wiring), Error> {
        let count = self.layers.len();
        let depth = match self.connections {
            Connections::Plain => count,
            Connections::Residual if count % 2 == 1 => count / 2 + 1,
            Connections::Residual => {
                let expected = "one layer and two for each block";
                return Err(Error::config("network", "layers", count, expected));
            }
        };
        let wiring = Wiring::for_depth(depth, self.connections);
        let mut widths = vec![0; depth];
        for (layer, &(from, to)) in self.layers.iter().zip(&wiring.layers) {
            layer.check("layers", from.map_or(inputs, |l| widths[l]))?;
            let width = layer.outputs();
            if widths[to] != 0 && widths[to] != width {
                let expected = widths[to].to_string();
                return Err(Error::config("network", "block width", width, expected));
            }
            widths[to] = width;
        }
        let last = wiring.last.map_or(inputs, |l| widths[l]);
        self.output.check("output", last)?;
        if let Some(embedding) = &self.embedding {
            embedding.check("embedding", embedding.weight.len())?;
            if widths.first() != Some(&embedding.outputs()) {
                let expected = "as many outputs as the first layer";
                return Err(Error::config(
                    "network",
                    "embedding",
                    embedding.outputs(),
                    expected,
                ));
            }
        }
        Ok((widths, wiring))
    }

    /// Widths of the hidden layers, as a configuration of a network with so many inputs lists them.
    ///
    /// # Errors
    /// [`Error::Config`] for shapes that do not fit together.
    pub fn widths(&self, inputs: usize) -> Result<Vec<usize>, Error> {
        Ok(self.wiring(inputs)?.0)
    }

    /// Columns of the context, 0 for none.
    ///
    /// # Errors
    /// [`Error::Config`] for layers that read contexts of different widths.
    pub fn context_dim(&self) -> Result<usize, Error> {
        let layers = self.layers.iter().chain([&self.output]);
        let read = layers.filter_map(|layer| layer.context.as_ref().map(Vec::len));
        let embedded = self.embedding.iter().map(|layer| layer.weight.len());
        let mut sizes: Vec<usize> = read.chain(embedded).collect();
        sizes.dedup();
        match sizes[..] {
            [] => Ok(0),
            [size] => Ok(size),
            [first, other, ..] => Err(Error::config(
                "network",
                "context_dim",
                other,
                first.to_string(),
            )),
        }
    }

    /// How a masked network over `dim` variables is wired, and what its masks let each unit see; for each hidden layer
    /// the units in the order of the layout.
    fn layout(&self, dim: usize) -> Result<(Wiring, MadeLayout, Vec<Vec<usize>>), Error> {
        let (widths, wiring) = self.wiring(dim)?;
        let outputs = self.output.outputs();
        if dim == 0 || !outputs.is_multiple_of(dim) {
            let expected = format!("a multiple of the dimension, {dim}");
            return Err(Error::config("network", "outputs", outputs, expected));
        }
        let masks: Vec<_> = self
            .layers
            .iter()
            .map(|layer| layer.weight_mask())
            .collect();
        let wired = wiring.layers.iter().zip(&masks);
        let wired: Vec<_> = wired.map(|(&(from, to), mask)| (from, to, mask)).collect();
        let output = self.output.weight_mask();
        let (layout, orders) =
            MadeLayout::from_masks(dim, &widths, &wired, (wiring.last, &output))?;
        Ok((wiring, layout, orders))
    }

    /// A masked network over `dim` variables. What each variable may see is read off the masks of the
    /// weights; units are sorted by level. Column `p * dim + i` of the output is parameter `p` of variable `i`.
    ///
    /// # Errors
    /// [`Error::Config`] for shapes that do not fit together, [`Error::Cycle`] where the masks let a
    /// variable depend on itself.
    pub fn made<B: Backend>(
        &self,
        dim: usize,
        options: impl Into<TensorCreationOptions<B>>,
    ) -> Result<Made<B>, Error> {
        let options = &options.into();
        let (wiring, layout, orders) = self.layout(dim)?;
        let outputs = self.output.outputs();
        let layers = self.layers.iter().zip(&wiring.layers);
        let layers = layers.map(|(layer, &(from, to))| {
            let mask = match from {
                None => layout.from_variables(to),
                Some(from) => layout.between(from, to),
            };
            let rows = from.map(|l| orders[l].as_slice());
            layer.layer(rows, Some(&orders[to]), &mask, options)
        });
        let rows = wiring.last.map(|l| orders[l].as_slice());
        let mask = layout.to_parameters(wiring.last, outputs / dim);
        let network = Network {
            layers: layers.collect(),
            output: self.output.layer(rows, None, &mask, options),
            embedding: self.embedding.as_ref().map(|layer| {
                let columns = orders.first().map(Vec::as_slice);
                layer.layer(None, columns, &layer.weight_mask(), options)
            }),
            activation: self.activation,
            connections: self.connections,
        };
        let context_dim = self.context_dim()?;
        Ok(Made::new(network, layout, outputs / dim, context_dim))
    }

    /// The same function as a masked network over `dim` variables that a configuration can build: its hidden units
    /// are shared out as [`MadeConfig`](super::MadeConfig) shares them out, with units in between whose weights are 0.
    /// With it comes the mask over the variables, and the widths of the hidden layers.
    ///
    /// # Errors
    /// As [`made`](Self::made), and [`Error::Config`] for a hidden unit that sees something else than the parents of
    /// a variable.
    pub fn evenly(&self, dim: usize) -> Result<(Self, DependencyMask, Vec<usize>), Error> {
        let (wiring, layout, orders) = self.layout(dim)?;
        let (even, sorted) = layout.evenly(self.context_dim()? > 0)?;
        let widths: Vec<usize> = even.hidden().iter().map(HiddenUnits::width).collect();
        let places = orders.iter().zip(&sorted).map(|(order, sorted)| {
            let mut places = vec![0; order.len()];
            order
                .iter()
                .zip(sorted)
                .for_each(|(&u, &place)| places[u] = place);
            places
        });
        let places: Vec<Vec<usize>> = places.collect();
        let place = |l: usize| (places[l].as_slice(), widths[l]);
        let layers = self.layers.iter().zip(&wiring.layers);
        let layers = layers.map(|(layer, &(from, to))| {
            let mask = match from {
                None => even.from_variables(to),
                Some(from) => even.between(from, to),
            };
            layer.placed(from.map(place), Some(place(to)), &mask)
        });
        let mask = even.to_parameters(wiring.last, self.output.outputs() / dim);
        let network = Self {
            layers: layers.collect(),
            output: self.output.placed(wiring.last.map(place), None, &mask),
            embedding: self.embedding.as_ref().map(|layer| {
                let columns = (!places.is_empty()).then(|| place(0));
                let wide = columns.map_or(layer.outputs(), |(_, width)| width);
                layer.placed(None, columns, &WeightMask::full(layer.weight.len(), wide))
            }),
            activation: self.activation,
            connections: self.connections,
        };
        Ok((network, even.mask().clone(), widths))
    }

    /// A plain network.
    ///
    /// # Errors
    /// [`Error::Config`] for shapes that do not fit together.
    pub fn mlp<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
    ) -> Result<Mlp<B>, Error> {
        let options = &options.into();
        let first = self.layers.first().unwrap_or(&self.output);
        let inputs = first.weight.len();
        self.wiring(inputs)?;
        let layer =
            |layer: &LayerParameters| layer.layer(None, None, &layer.weight_mask(), options);
        Ok(Mlp {
            network: Network {
                layers: self.layers.iter().map(layer).collect(),
                output: layer(&self.output),
                embedding: self.embedding.as_ref().map(layer),
                activation: self.activation,
                connections: self.connections,
            },
            inputs,
            outputs: self.output.outputs(),
            context_dim: self.context_dim()?,
        })
    }
}
