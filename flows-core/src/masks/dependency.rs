//! Which inputs the parameters of each output may see.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::ordering::Ordering;
use super::set::{VariableSet, digest};
use super::untouched::Untouched;
use crate::error::Error;

/// How to build a [`DependencyMask`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
pub enum MaskConfig {
    /// Every variable sees all those before it: the strict triangle in some order.
    Autoregressive(Ordering),
    /// Every variable sees all variables of earlier blocks; `blocks` lists the members of each.
    ///
    /// From `dim` blocks of one variable (autoregressive) to two blocks (coupling).
    Blocks(Vec<Vec<usize>>),
    /// Two blocks: some variables are seen by all others and see nothing.
    Coupling(Untouched),
    /// `parents[i]` lists the variables that variable `i` sees: any acyclic graph.
    Graph(Vec<Vec<usize>>),
}

crate::one_key!(MaskConfig);

impl Default for MaskConfig {
    fn default() -> Self {
        Self::Autoregressive(Ordering::Natural)
    }
}

impl MaskConfig {
    /// The mask over `dim` variables.
    ///
    /// # Errors
    /// [`Error::Config`] where indices are out of range, missing or repeated; [`Error::Cycle`] for
    /// a graph with a cycle.
    pub fn build(&self, dim: usize) -> Result<DependencyMask, Error> {
        if dim == 0 {
            return Err(Error::config("mask", "dim", 0, "at least 1"));
        }
        match self {
            Self::Autoregressive(ordering) => {
                let order = ordering.order(dim)?;
                let blocks: Vec<_> = order.into_iter().map(|i| vec![i]).collect();
                Self::Blocks(blocks).build(dim)
            }
            Self::Coupling(untouched) => {
                let seen = untouched.variables(dim)?;
                let rest = (0..dim).filter(|i| !seen.contains(i)).collect();
                Self::Blocks(vec![seen, rest]).build(dim)
            }
            Self::Blocks(blocks) => {
                if let Some(k) = blocks.iter().position(Vec::is_empty) {
                    let actual = format!("empty in block {k}");
                    return Err(Error::config("mask", "blocks", actual, "no empty block"));
                }
                let members = Ordering::Explicit(blocks.concat());
                members.order(dim)?;
                let mut parents = vec![VariableSet::empty(dim); dim];
                let mut earlier = VariableSet::empty(dim);
                for block in blocks {
                    for &i in block {
                        parents[i] = earlier.clone();
                    }
                    for &i in block {
                        earlier.insert(i);
                    }
                }
                DependencyMask::from_parents(parents)
            }
            Self::Graph(lists) => {
                if lists.len() != dim {
                    let expected = format!("{dim}, one list of parents for each variable");
                    return Err(Error::config("mask", "graph", lists.len(), expected));
                }
                let mut parents = vec![VariableSet::empty(dim); dim];
                for (i, list) in lists.iter().enumerate() {
                    for &j in list {
                        if j >= dim {
                            let actual = format!("{j} among the parents of {i}");
                            return Err(Error::config("mask", "graph", actual, format!("< {dim}")));
                        }
                        parents[i].insert(j);
                    }
                }
                DependencyMask::from_parents(parents)
            }
        }
    }
}

/// An acyclic dependency matrix `M`: `M_ij = 1` where the parameters of `y_i` may see `x_j`.
///
/// Variables have *levels*: those without parents have level 0, others lie one above their highest
/// parent. Inverting a layer takes as many steps as there are levels, because everything of one
/// level becomes known at once: `dim` for an autoregressive mask, 2 for a coupling. Context columns
/// are no variables; every parameter may see them.
///
/// Printed, the mask is a picture, one row for each output:
///
/// ```
/// use flows_core::masks::{MaskConfig, Ordering};
/// let mask = MaskConfig::Autoregressive(Ordering::Reversed).build(3)?;
/// assert_eq!(mask.to_string(), ".##\n..#\n...\n");
/// # Ok::<(), flows_core::error::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct DependencyMask {
    parents: Vec<VariableSet>,
    levels: Vec<usize>,
}

/// Short, and different for different masks: a state tells models apart by it.
impl fmt::Debug for DependencyMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let levels = &self.levels;
        write!(
            f,
            "DependencyMask {{ levels: {levels:?}, parents: {:016x} }}",
            digest(&self.parents)
        )
    }
}

impl DependencyMask {
    pub(super) fn from_parents(parents: Vec<VariableSet>) -> Result<Self, Error> {
        let levels = levels(&parents)?;
        Ok(Self { parents, levels })
    }

    /// The mask of a 0/1 matrix, `matrix[i][j]` telling whether output `i` sees input `j`.
    ///
    /// # Errors
    /// [`Error::Config`] for a matrix that is not square, [`Error::Cycle`] for a cyclic one.
    pub fn from_matrix(matrix: &[Vec<bool>]) -> Result<Self, Error> {
        let lists = matrix.iter().map(|row| {
            let seen = row.iter().enumerate().filter(|(_, sees)| **sees);
            seen.map(|(j, _)| j).collect()
        });
        if let Some(row) = matrix.iter().find(|row| row.len() != matrix.len()) {
            let expected = format!("{}, a square matrix", matrix.len());
            return Err(Error::config("mask", "columns", row.len(), expected));
        }
        MaskConfig::Graph(lists.collect()).build(matrix.len())
    }

    /// Number of variables.
    pub fn dim(&self) -> usize {
        self.parents.len()
    }

    /// Whether the parameters of output `i` may see input `j`.
    ///
    /// # Panics
    /// Where `i` or `j` is no variable.
    pub fn sees(&self, i: usize, j: usize) -> bool {
        assert!(j < self.dim(), "variable {j} of {}", self.dim());
        self.parents[i].contains(j)
    }

    /// Level of each variable.
    pub fn levels(&self) -> &[usize] {
        &self.levels
    }

    /// Number of levels: the steps of an inverse.
    pub fn depth(&self) -> usize {
        self.levels.iter().max().map_or(0, |top| top + 1)
    }

    /// The variables sorted by level, those of one level in natural order.
    pub fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.dim()).collect();
        order.sort_by_key(|&i| self.levels[i]);
        order
    }

    /// The variables of each level, in natural order: what becomes known at each step of an inverse.
    pub fn variables_by_level(&self) -> Vec<Vec<usize>> {
        let mut groups = vec![Vec::new(); self.depth()];
        for (i, &level) in self.levels.iter().enumerate() {
            groups[level].push(i);
        }
        groups
    }

    /// Where in [`order`](Self::order) the variables of each level lie.
    pub(crate) fn level_ranges(&self) -> Vec<Range<usize>> {
        let mut counts = vec![0; self.depth()];
        self.levels.iter().for_each(|&level| counts[level] += 1);
        let mut start = 0;
        let ranges = counts.into_iter().map(|count| {
            start += count;
            start - count..start
        });
        ranges.collect()
    }

    pub(super) fn parents(&self) -> &[VariableSet] {
        &self.parents
    }

    /// The first level at which everything in `set` is known.
    pub(super) fn ready_level(&self, set: &VariableSet) -> usize {
        set.iter().map(|j| self.levels[j] + 1).max().unwrap_or(0)
    }
}

impl fmt::Display for DependencyMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for parents in &self.parents {
            let row = (0..self.dim()).map(|j| if parents.contains(j) { '#' } else { '.' });
            writeln!(f, "{}", row.collect::<String>())?;
        }
        Ok(())
    }
}

/// The level of each variable, or a cycle, found by walking up from every variable.
fn levels(parents: &[VariableSet]) -> Result<Vec<usize>, Error> {
    let dim = parents.len();
    let mut level: Vec<Option<usize>> = vec![None; dim];
    let mut on_path = vec![false; dim];
    for start in 0..dim {
        // An explicit stack: the recursion would be as deep as there are variables.
        let mut path = vec![(start, parents[start].iter())];
        on_path[start] = true;
        while let Some((i, rest)) = path.last_mut() {
            let i = *i;
            match rest.find(|&j| level[j].is_none()) {
                Some(j) if on_path[j] => {
                    let from = path.iter().position(|(k, _)| *k == j).unwrap_or(0);
                    let cycle = path[from..].iter().map(|(k, _)| *k).collect();
                    return Err(Error::Cycle { path: cycle });
                }
                Some(j) => {
                    on_path[j] = true;
                    path.push((j, parents[j].iter()));
                }
                None => {
                    let above = parents[i].iter().filter_map(|j| level[j]).max();
                    level[i] = Some(above.map_or(0, |top| top + 1));
                    on_path[i] = false;
                    path.pop();
                }
            }
        }
    }
    Ok(level.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_look_as_declared() {
        let natural = MaskConfig::default().build(3).unwrap();
        assert_eq!(natural.to_string(), "...\n#..\n##.\n");
        assert_eq!(natural.levels(), [0, 1, 2]);
        let blocks = MaskConfig::Blocks(vec![vec![1], vec![0, 3], vec![2]]);
        let blocks = blocks.build(4).unwrap();
        assert_eq!(blocks.to_string(), ".#..\n....\n##.#\n.#..\n");
        assert_eq!(blocks.depth(), 3);
        assert_eq!(blocks.order(), [1, 0, 3, 2]);
        assert_eq!(blocks.variables_by_level(), [vec![1], vec![0, 3], vec![2]]);
        let coupling = MaskConfig::Coupling(Untouched::Variables(vec![0, 2]))
            .build(4)
            .unwrap();
        assert_eq!(coupling.to_string(), "....\n#.#.\n....\n#.#.\n");
        assert_eq!(coupling.depth(), 2);
    }

    #[test]
    fn a_graph_is_as_deep_as_its_longest_path() {
        // A diamond: 0 -> 1, 0 -> 2, then 3 from both, while 4 stands alone.
        let parents = vec![vec![], vec![0], vec![0], vec![1, 2], vec![]];
        let mask = MaskConfig::Graph(parents).build(5).unwrap();
        assert_eq!(mask.levels(), [0, 1, 1, 2, 0]);
        assert!(mask.sees(3, 1) && !mask.sees(3, 0), "edges, not ancestors");
        let rows: Vec<Vec<bool>> = (0..5)
            .map(|i| (0..5).map(|j| mask.sees(i, j)).collect())
            .collect();
        assert_eq!(DependencyMask::from_matrix(&rows).unwrap(), mask);
    }

    #[test]
    fn a_cycle_is_named() {
        let parents = vec![vec![], vec![0, 3], vec![1], vec![2]];
        let Err(Error::Cycle { path }) = MaskConfig::Graph(parents.clone()).build(4) else {
            panic!("a cycle was accepted");
        };
        assert_eq!(path.len(), 3);
        for (k, &i) in path.iter().enumerate() {
            assert!(parents[i].contains(&path[(k + 1) % 3]), "{path:?}");
        }
        let own = MaskConfig::Graph(vec![vec![0]]).build(1);
        assert_eq!(own, Err(Error::Cycle { path: vec![0] }));
    }

    #[test]
    fn a_long_chain_needs_no_deep_stack() {
        let lists = (1..2000).map(|i| vec![i]).chain([vec![]]).collect();
        let mask = MaskConfig::Graph(lists).build(2000).unwrap();
        assert_eq!(mask.depth(), 2000);
        assert_eq!(mask.levels()[0], 1999);
    }

    #[test]
    fn wrong_lists_are_refused() {
        assert!(MaskConfig::default().build(0).is_err());
        assert!(
            MaskConfig::Coupling(Untouched::Variables(vec![]))
                .build(2)
                .is_err()
        );
        assert!(
            MaskConfig::Coupling(Untouched::Variables(vec![0, 1]))
                .build(2)
                .is_err()
        );
        assert!(
            MaskConfig::Coupling(Untouched::Variables(vec![2]))
                .build(2)
                .is_err()
        );
        assert!(
            MaskConfig::Blocks(vec![vec![0], vec![0, 1]])
                .build(2)
                .is_err()
        );
        assert!(MaskConfig::Graph(vec![vec![], vec![5]]).build(2).is_err());
        assert!(MaskConfig::Graph(vec![vec![]]).build(2).is_err());
        assert!(DependencyMask::from_matrix(&[vec![false, false]]).is_err());
    }
}
