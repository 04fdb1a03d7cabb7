//! The bridge where no backend with kernels is compiled in: it leads nowhere.

use burn::tensor::{Tensor, backend::Backend};

use super::parts::{DdnfCells, FusedLogDet, Masked, Part};
use super::plan::{AdamParameter, AdamStep};
use crate::bijector::Mapped;
use crate::linalg::Eliminated;
use crate::nn::Made;

pub(crate) fn has_ddnf_block(_dim: usize, _hidden: usize, _log_det: FusedLogDet) -> bool {
    false
}

pub(crate) fn ddnf_block<B: Backend>(_x: &Tensor<B, 2>, _cells: DdnfCells<B>) -> Option<Mapped<B>> {
    None
}

pub(crate) fn run<'a, B: Backend>(
    _parts: impl Iterator<Item = Option<Part<'a, B>>>,
    _x: &Tensor<B, 2>,
) -> Option<(Mapped<B>, usize)> {
    None
}

pub(crate) fn coupling_inverse<B: Backend>(
    _masked: Masked<'_, B>,
    _y: &Tensor<B, 2>,
) -> Option<Mapped<B>> {
    None
}

pub(crate) fn incremental_inverse<B: Backend>(
    _made: &Made<B>,
    _masked: Masked<'_, B>,
    _y: &Tensor<B, 2>,
) -> Option<Mapped<B>> {
    None
}

pub(crate) fn invert<B: Backend>(_a: &Tensor<B, 3>) -> Option<Eliminated<B>> {
    None
}

pub(crate) fn makes_log_dets<B: Backend, const D: usize>(_like: &Tensor<B, D>) -> bool {
    false
}

pub(crate) fn log_abs_dets<B: Backend>(_a: &Tensor<B, 3>) -> Option<Tensor<B, 1>> {
    None
}

pub(crate) fn log_dets_of_one_layer<B: Backend>(
    _d: &Tensor<B, 2>,
    _c: Tensor<B, 3>,
) -> Option<Tensor<B, 1>> {
    None
}

pub(crate) fn adam_in_place<B: Backend, const D: usize>(
    _step: AdamStep,
    parameter: AdamParameter<B, D>,
    _gradient: &Tensor<B, D>,
) -> Result<AdamParameter<B, D>, AdamParameter<B, D>> {
    Err(parameter)
}
