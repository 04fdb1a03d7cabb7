//! Degrees and weight masks of a masked network (MADE).

use std::fmt;
use std::ops::Range;

use super::dependency::DependencyMask;
use super::set::{VariableSet, digest};
use crate::error::Error;

/// The hidden units of one layer, sorted by level.
///
/// Each unit may see a set of variables; in an autoregressive mask the size of that set is its
/// *degree*. Its level is the first one at which all of the set is known.
#[derive(Debug, Clone, PartialEq)]
pub struct HiddenUnits {
    visible: Vec<VariableSet>,
    levels: Vec<usize>,
    /// The variable of each unit, where units are dealt to variables.
    owners: Option<Vec<usize>>,
}

impl HiddenUnits {
    /// Number of units.
    pub fn width(&self) -> usize {
        self.levels.len()
    }

    /// Level of each unit, never decreasing.
    pub fn levels(&self) -> &[usize] {
        &self.levels
    }

    /// The variable of each unit, where units are dealt to variables.
    pub fn owners(&self) -> Option<&[usize]> {
        self.owners.as_deref()
    }

    /// Whether a unit of the next layer may read unit `i`: one that sees as much, or one of the same variable.
    fn feeds(&self, i: usize, visible: &VariableSet, owner: impl Fn() -> usize) -> bool {
        match &self.owners {
            None => self.visible[i].is_subset(visible),
            Some(owners) => owners[i] == owner(),
        }
    }

    /// Number of variables each unit may see.
    pub fn degrees(&self) -> Vec<usize> {
        self.visible.iter().map(VariableSet::len).collect()
    }
}

/// A 0/1 matrix `[inputs, outputs]`, row-major, that tells which weights of a layer exist.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightMask {
    /// Rows: units or variables that the layer reads.
    pub inputs: usize,
    /// Columns: units or parameters that the layer computes.
    pub outputs: usize,
    /// `entries[i * outputs + j]`: whether output `j` may read input `i`.
    pub entries: Vec<bool>,
}

impl WeightMask {
    fn from_rule(inputs: usize, outputs: usize, rule: impl Fn(usize, usize) -> bool) -> Self {
        let entries = (0..inputs * outputs).map(|k| rule(k / outputs, k % outputs));
        Self {
            inputs,
            outputs,
            entries: entries.collect(),
        }
    }

    /// A layer without masked weights.
    pub fn full(inputs: usize, outputs: usize) -> Self {
        Self::from_rule(inputs, outputs, |_, _| true)
    }

    /// Whether output `j` may read input `i`.
    pub fn allows(&self, i: usize, j: usize) -> bool {
        self.entries[i * self.outputs + j]
    }

    /// Number of inputs each output reads.
    pub fn fan_in(&self) -> Vec<usize> {
        let mut fan_in = vec![0; self.outputs];
        for row in self.entries.chunks(self.outputs.max(1)) {
            for (count, &entry) in fan_in.iter_mut().zip(row) {
                *count += usize::from(entry);
            }
        }
        fan_in
    }
}

/// Which hidden unit of a masked network may see what, for any [`DependencyMask`] and any depth.
///
/// Germain et al., *MADE*, arXiv:1502.03509, give each hidden unit a degree and let it read units of
/// no higher degree. Here a unit has a set of variables `S` in place of a degree: it reads units whose
/// set lies inside its own, and the parameters of variable `i` read units whose set lies inside the
/// parents of `i`. For an autoregressive mask both say the same; sets serve any acyclic graph.
///
/// The sets are the distinct sets of parents, shared out evenly and sorted, so that unit `j` of
/// `h` has degree `1 + floor(j (dim - 1) / h)` in an autoregressive mask. The empty set is among them
/// where there is a context, so that variables without parents can depend on it nonlinearly.
#[derive(Clone, PartialEq)]
pub struct MadeLayout {
    mask: DependencyMask,
    hidden: Vec<HiddenUnits>,
}

/// Short, and different for different layouts: a state tells models apart by it.
impl fmt::Debug for MadeLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden: Vec<String> = self
            .hidden
            .iter()
            .map(|units| format!("{:016x}", digest(&units.visible)))
            .collect();
        let hidden = hidden.join(", ");
        write!(
            f,
            "MadeLayout {{ mask: {:?}, hidden: [{hidden}] }}",
            self.mask
        )
    }
}

impl MadeLayout {
    /// Shares out the units of hidden layers of the given widths.
    ///
    /// # Errors
    /// [`Error::Config`] for an empty layer, and for one with fewer units than there are sets of
    /// parents if these are not nested in each other: some variable would lose its parents.
    pub fn new(mask: DependencyMask, widths: &[usize], with_context: bool) -> Result<Self, Error> {
        let classes = unit_classes(&mask, with_context);
        let nested = classes.windows(2).all(|pair| pair[0].is_subset(&pair[1]));
        let least = if nested { 1 } else { classes.len() };
        if let Some(&width) = widths.iter().find(|width| **width < least) {
            let expected = format!("at least {least} units in each layer for this mask");
            return Err(Error::config("made", "hidden", width, expected));
        }
        let hidden = widths.iter().map(|&width| {
            let visible = (0..width).map(|j| classes[j * classes.len() / width].clone());
            let visible: Vec<_> = visible.collect();
            let levels = visible.iter().map(|set| mask.ready_level(set)).collect();
            HiddenUnits {
                visible,
                levels,
                owners: None,
            }
        });
        let hidden = hidden.collect();
        Ok(Self { mask, hidden })
    }

    /// Deals the units of hidden layers to the variables: a unit reads units of its own variable only, so that what
    /// a variable sees of another is decided in the first layer alone.
    ///
    /// # Errors
    /// [`Error::Config`] for a layer with fewer units than there are variables.
    pub fn dealt(mask: DependencyMask, widths: &[usize]) -> Result<Self, Error> {
        let dim = mask.dim();
        if let Some(&width) = widths.iter().find(|width| **width < dim) {
            let expected = format!("at least {dim} units in each layer, one for each variable");
            return Err(Error::config("made", "hidden", width, expected));
        }
        let order = mask.order();
        let hidden = widths.iter().map(|&width| {
            let owners: Vec<usize> = (0..width).map(|u| order[u * dim / width]).collect();
            HiddenUnits {
                visible: owners.iter().map(|&i| mask.parents()[i].clone()).collect(),
                levels: owners.iter().map(|&i| mask.levels()[i]).collect(),
                owners: Some(owners),
            }
        });
        let hidden = hidden.collect();
        Ok(Self { mask, hidden })
    }

    /// The layout of a network whose weight masks are given, as imported from elsewhere.
    ///
    /// `layers` lists source hidden layer (none for the variables), target hidden layer and mask;
    /// `output` lists source and mask, column `p * dim + i` being parameter `p` of variable `i`. With the
    /// layout comes, for each hidden layer, the given units in the order in which it has them.
    ///
    /// # Errors
    /// [`Error::Cycle`] where a variable would depend on itself.
    pub(crate) fn from_masks(
        dim: usize,
        widths: &[usize],
        layers: &[(Option<usize>, usize, &WeightMask)],
        output: (Option<usize>, &WeightMask),
    ) -> Result<(Self, Vec<Vec<usize>>), Error> {
        let variables: Vec<VariableSet> = (0..dim)
            .map(|i| {
                let mut own = VariableSet::empty(dim);
                own.insert(i);
                own
            })
            .collect();
        let mut visible: Vec<Vec<VariableSet>> = widths
            .iter()
            .map(|&width| vec![VariableSet::empty(dim); width])
            .collect();
        // Residual connections lead back to a layer, so once through may not be enough.
        loop {
            let before = visible.clone();
            for &(from, to, mask) in layers {
                let sources = from.map_or(&variables, |l| &visible[l]).clone();
                gather(mask, &sources, |j| j, &mut visible[to]);
            }
            if visible == before {
                break;
            }
        }
        let (from, mask) = output;
        let mut parents = vec![VariableSet::empty(dim); dim];
        let sources = from.map_or(&variables, |l| &visible[l]);
        gather(mask, sources, |j| j % dim, &mut parents);
        let mask = DependencyMask::from_parents(parents)?;
        let mut orders = Vec::with_capacity(widths.len());
        let hidden = visible.into_iter().map(|units| {
            let mut order: Vec<usize> = (0..units.len()).collect();
            order.sort_by_key(|&u| mask.ready_level(&units[u]));
            let visible: Vec<_> = order.iter().map(|&u| units[u].clone()).collect();
            orders.push(order);
            let levels = visible.iter().map(|set| mask.ready_level(set)).collect();
            HiddenUnits {
                visible,
                levels,
                owners: None,
            }
        });
        let hidden = hidden.collect();
        Ok((Self { mask, hidden }, orders))
    }

    /// The layout that [`new`](Self::new) makes of this one's mask, wide enough for its units, and for each hidden
    /// layer the place of each unit there. A unit takes a place that sees what it sees; places that are left see as
    /// much, and have no unit.
    ///
    /// # Errors
    /// [`Error::Config`] for a unit that sees what no unit of such a layout does.
    pub(crate) fn evenly(&self, with_context: bool) -> Result<(Self, Vec<Vec<usize>>), Error> {
        let classes = unit_classes(&self.mask, with_context);
        let mut widths = Vec::with_capacity(self.hidden.len());
        let mut places = Vec::with_capacity(self.hidden.len());
        for units in &self.hidden {
            let class_of = |set: &VariableSet| classes.iter().position(|class| class == set);
            let of: Option<Vec<usize>> = units.visible.iter().map(class_of).collect();
            let of = of.ok_or_else(|| {
                let actual = "a hidden unit that reads some of them";
                let expected = "all parents of a variable, for each hidden unit";
                Error::config("network", "mask", actual, expected)
            })?;
            let mut taken = vec![0; classes.len()];
            let rank = |&class: &usize| {
                taken[class] += 1;
                (class, taken[class] - 1)
            };
            let ranks: Vec<(usize, usize)> = of.iter().map(rank).collect();
            let each = taken.into_iter().max().unwrap_or(0);
            widths.push(classes.len() * each);
            places.push(
                ranks
                    .into_iter()
                    .map(|(class, k)| class * each + k)
                    .collect(),
            );
        }
        Ok((Self::new(self.mask.clone(), &widths, with_context)?, places))
    }

    /// This layout, whose units are dealt to variables, under another mask. With it comes, for each hidden layer, the
    /// units in the order in which it has them.
    pub(crate) fn under(&self, mask: DependencyMask) -> (Self, Vec<Vec<usize>>) {
        let (hidden, orders) = self
            .hidden
            .iter()
            .map(|units| {
                let owners = units.owners().expect("units dealt to variables");
                let mut order: Vec<usize> = (0..owners.len()).collect();
                order.sort_by_key(|&u| mask.levels()[owners[u]]);
                let owners: Vec<usize> = order.iter().map(|&u| owners[u]).collect();
                let units = HiddenUnits {
                    visible: owners.iter().map(|&i| mask.parents()[i].clone()).collect(),
                    levels: owners.iter().map(|&i| mask.levels()[i]).collect(),
                    owners: Some(owners),
                };
                (units, order)
            })
            .unzip();
        (Self { mask, hidden }, orders)
    }

    /// The mask over variables that the network obeys.
    pub fn mask(&self) -> &DependencyMask {
        &self.mask
    }

    /// The hidden layers.
    pub fn hidden(&self) -> &[HiddenUnits] {
        &self.hidden
    }

    /// Mask of the weights from the variables to hidden layer `layer`, `[dim, width]`.
    ///
    /// # Panics
    /// Without such a layer.
    pub fn from_variables(&self, layer: usize) -> WeightMask {
        let units = &self.hidden[layer];
        WeightMask::from_rule(self.mask.dim(), units.width(), |i, j| {
            units.visible[j].contains(i)
        })
    }

    /// Mask of the weights between two hidden layers, `[width, width]`.
    ///
    /// # Panics
    /// Without such layers.
    pub fn between(&self, from: usize, to: usize) -> WeightMask {
        let (from, to) = (&self.hidden[from], &self.hidden[to]);
        WeightMask::from_rule(from.width(), to.width(), |i, j| {
            from.feeds(i, &to.visible[j], || to.owners.as_ref().map_or(j, |o| o[j]))
        })
    }

    /// Mask of the weights from hidden layer `layer`, or directly from the variables, to
    /// `per_variable` parameters of each variable: `[width, per_variable * dim]`, column
    /// `p * dim + i` being parameter `p` of variable `i`.
    ///
    /// # Panics
    /// Without such a layer.
    pub fn to_parameters(&self, layer: Option<usize>, per_variable: usize) -> WeightMask {
        let (dim, parents) = (self.mask.dim(), self.mask.parents());
        match layer.map(|l| &self.hidden[l]) {
            Some(units) => WeightMask::from_rule(units.width(), per_variable * dim, |i, j| {
                units.feeds(i, &parents[j % dim], || j % dim)
            }),
            None => {
                WeightMask::from_rule(dim, per_variable * dim, |i, j| parents[j % dim].contains(i))
            }
        }
    }

    /// For each level, the units of hidden layer `layer` that become computable there.
    ///
    /// # Panics
    /// Without such a layer.
    pub fn groups(&self, layer: usize) -> Vec<Range<usize>> {
        let levels = &self.hidden[layer].levels;
        let ends = (0..self.mask.depth()).map(|t| levels.partition_point(|&level| level <= t));
        let mut start = 0;
        ends.map(|end| std::mem::replace(&mut start, end)..end)
            .collect()
    }
}

/// Adds to the set of `target(j)` the sets of all sources that column `j` of the mask reads.
fn gather(
    mask: &WeightMask,
    sources: &[VariableSet],
    target: impl Fn(usize) -> usize,
    sets: &mut [VariableSet],
) {
    for (i, source) in sources.iter().enumerate() {
        for j in (0..mask.outputs).filter(|&j| mask.allows(i, j)) {
            sets[target(j)].union_with(source);
        }
    }
}

/// The sets of variables that hidden units see, sorted by level, then by size.
fn unit_classes(mask: &DependencyMask, with_context: bool) -> Vec<VariableSet> {
    let mut classes: Vec<VariableSet> = Vec::new();
    let mut order = mask.order();
    order.sort_by_key(|&i| (mask.levels()[i], mask.parents()[i].len()));
    let mut seen = std::collections::HashSet::new();
    for i in order {
        let set = &mask.parents()[i];
        if (with_context || !set.is_empty()) && seen.insert(set.clone()) {
            classes.push(set.clone());
        }
    }
    if classes.is_empty() {
        // A single level: nothing to see, but the units' biases still count.
        classes.push(VariableSet::empty(mask.dim()));
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::masks::{MaskConfig, Ordering, Untouched};

    fn layout(config: MaskConfig, dim: usize, widths: &[usize], context: bool) -> MadeLayout {
        MadeLayout::new(config.build(dim).unwrap(), widths, context).unwrap()
    }

    #[test]
    fn degrees_are_shared_out_evenly_and_sorted() {
        let made = layout(MaskConfig::default(), 5, &[9, 2], false);
        assert_eq!(made.hidden()[0].degrees(), [1, 1, 1, 2, 2, 3, 3, 4, 4]);
        assert_eq!(made.hidden()[1].degrees(), [1, 3]);
        assert_eq!(made.groups(0), [0..0, 0..3, 3..5, 5..7, 7..9]);
        let made = layout(MaskConfig::default(), 3, &[6], true);
        assert_eq!(made.hidden()[0].degrees(), [0, 0, 1, 1, 2, 2]);
        let made = layout(MaskConfig::default(), 1, &[3], false);
        assert_eq!(made.hidden()[0].degrees(), [0, 0, 0]);
    }

    #[test]
    fn masks_between_hidden_layers_are_staircases() {
        let made = layout(MaskConfig::default(), 7, &[20, 30], false);
        let mask = made.between(0, 1);
        for j in 0..30 {
            let column: Vec<bool> = (0..20).map(|i| mask.allows(i, j)).collect();
            let stair = column.iter().take_while(|entry| **entry).count();
            assert!(column[stair..].iter().all(|entry| !entry));
        }
        assert_eq!(mask.fan_in()[29], 20);
    }

    /// The product of the weight masks counts paths: it must be positive exactly where the mask is.
    fn reachable(made: &MadeLayout) -> Vec<Vec<bool>> {
        let dim = made.mask().dim();
        let mut masks = Vec::new();
        if !made.hidden().is_empty() {
            masks.push(made.from_variables(0));
            masks.extend((1..made.hidden().len()).map(|l| made.between(l - 1, l)));
        }
        masks.push(made.to_parameters(made.hidden().len().checked_sub(1), 2));
        let mut reach: Vec<Vec<bool>> = (0..dim)
            .map(|j| (0..dim).map(|i| i == j).collect())
            .collect();
        for mask in &masks {
            reach = reach
                .iter()
                .map(|row| {
                    (0..mask.outputs)
                        .map(|o| row.iter().enumerate().any(|(i, &r)| r && mask.allows(i, o)))
                        .collect()
                })
                .collect();
        }
        reach
    }

    #[test]
    fn parameters_reach_exactly_what_the_mask_declares() {
        let diamond = vec![vec![], vec![0], vec![0], vec![1, 2], vec![], vec![4, 1]];
        let configs = [
            MaskConfig::Autoregressive(Ordering::Natural),
            MaskConfig::Autoregressive(Ordering::Random { seed: 3 }),
            MaskConfig::Blocks(vec![vec![3, 1], vec![0], vec![5, 2, 4]]),
            MaskConfig::Coupling(Untouched::Variables(vec![1, 3, 5])),
            MaskConfig::Graph(diamond),
        ];
        for config in configs {
            for widths in [&[][..], &[11], &[13, 8, 21]] {
                for context in [false, true] {
                    let made = layout(config.clone(), 6, widths, context);
                    let reach = reachable(&made);
                    for (j, row) in reach.iter().enumerate() {
                        for (o, &reached) in row.iter().enumerate() {
                            assert_eq!(reached, made.mask().sees(o % 6, j), "{config:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn too_few_units_for_a_graph_are_refused() {
        let mask = MaskConfig::Graph(vec![vec![], vec![0], vec![1]])
            .build(3)
            .unwrap();
        assert!(MadeLayout::new(mask.clone(), &[1], false).is_err());
        assert!(MadeLayout::new(mask.clone(), &[0], false).is_err());
        assert!(MadeLayout::new(mask, &[2], false).is_ok());
        let nested = MaskConfig::default().build(9).unwrap();
        assert!(MadeLayout::new(nested, &[2], false).is_ok());
    }
}
