"""dot_general and conv_general_dilated: every product of arrays ends in `np.matmul`, and so in BLAS.

What can be decided from the types (permutations, merged axes, work dtype, im2col layout) is decided when the kernel is
planned. At run time an operand is transposed and reshaped, which is a view whenever its strides allow one, and
np.matmul hands transposed views to BLAS as they are.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from asgfn.graph import ArrayType
from backends.numpy.bilinear import Contract, plan_bilinear
from backends.numpy.im2col import plan_convolution
from backends.numpy.registry import kernel

Dims = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]]


@kernel("dot_general")
def _(in_types: tuple[ArrayType, ...], out_types: tuple[ArrayType, ...], *, dimension_numbers: Dims, **_: Any):
    lhs, rhs = in_types
    (contract, _unused), _batch = dimension_numbers
    depth = math.prod(lhs.shape[d] for d in contract)

    def build(work: np.dtype) -> Contract:
        return _plan_matmul(lhs.shape, rhs.shape, out_types[0].shape, dimension_numbers)

    return plan_bilinear(lhs.dtype, rhs.dtype, out_types[0].dtype, depth, build)


def _free(ndim: int, *taken: tuple[int, ...]) -> tuple[int, ...]:
    used = {d for dims in taken for d in dims}
    return tuple(d for d in range(ndim) if d not in used)


def _plan_matmul(
    lhs_shape: tuple[int, ...], rhs_shape: tuple[int, ...], out_shape: tuple[int, ...], dimension_numbers: Dims
) -> Contract:
    """lhs as (batch..., m, k) times rhs as (batch..., k, n)."""
    (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = dimension_numbers
    lhs_free = _free(len(lhs_shape), lhs_contract, lhs_batch)
    rhs_free = _free(len(rhs_shape), rhs_contract, rhs_batch)
    # Pairs of contracted axes may come in any order. In the order of the larger operand's memory, merging them is a
    # view of that operand.
    pairs = list(zip(lhs_contract, rhs_contract, strict=True))
    pairs.sort(key=lambda pair: pair[math.prod(rhs_shape) > math.prod(lhs_shape)])
    batch = tuple(lhs_shape[d] for d in lhs_batch)
    m = math.prod(lhs_shape[d] for d in lhs_free)
    k = math.prod(lhs_shape[d] for d in lhs_contract)
    n = math.prod(rhs_shape[d] for d in rhs_free)

    lhs_perm = (*lhs_batch, *lhs_free, *(a for a, _ in pairs))
    rhs_perm = (*rhs_batch, *(b for _, b in pairs), *rhs_free)
    lhs_matrix, rhs_matrix = (*batch, m, k), (*batch, k, n)
    combine = np.multiply if k == 1 else np.matmul  # an outer product broadcasts (m, 1) with (1, n)

    if (lhs_matrix, rhs_matrix, (*batch, m, n)) == (lhs_shape, rhs_shape, out_shape) and (
        lhs_perm == rhs_perm == tuple(range(len(lhs_shape)))
    ):
        return combine

    def run(lhs: np.ndarray, rhs: np.ndarray) -> np.ndarray:
        lhs = lhs.transpose(lhs_perm).reshape(lhs_matrix)
        rhs = rhs.transpose(rhs_perm).reshape(rhs_matrix)
        return combine(lhs, rhs).reshape(out_shape)

    return run


@kernel("conv_general_dilated")
def _(in_types: tuple[ArrayType, ...], out_types: tuple[ArrayType, ...], **params: Any):
    lhs, rhs = in_types
    depth = rhs.size // max(rhs.shape[params["dimension_numbers"].rhs_spec[0]], 1)

    def build(work: np.dtype) -> Contract:
        return plan_convolution(lhs.shape, rhs.shape, out_types[0].shape, work, **params)

    return plan_bilinear(lhs.dtype, rhs.dtype, out_types[0].dtype, depth, build)
