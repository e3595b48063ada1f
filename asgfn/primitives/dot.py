"""dot_general: sums of products over pairs of axes. Matrix products, inner and outer products, batched or not.

The result's axes are the batch axes, then the free axes of lhs, then those of rhs.
"""

from __future__ import annotations

import enum
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.config import config
from asgfn.errors import AxisError, DTypeError, ShapeError
from asgfn.graph.serial import parameter_type
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import Primitive, Zero, add_tangents, is_linear, is_zero, tangent_type
from asgfn.primitives.shaping import canonical_axes, convert_element_type, transpose
from asgfn.tracing import Array, as_array, bind

Axes = tuple[int, ...]
DotDimensionNumbers = tuple[tuple[Axes, Axes], tuple[Axes, Axes]]


@parameter_type
class Precision(enum.Enum):
    """How exactly a device that has faster, coarser products must compute those of float32 operands."""

    DEFAULT = "default"
    HIGH = "high"
    HIGHEST = "highest"


_PRECISIONS = {
    "default": "default", "fastest": "default", "bfloat16": "default",
    "high": "high", "bfloat16_3x": "high", "tensorfloat32": "high",
    "highest": "highest", "float32": "highest",
}  # fmt: skip


def canonical_precision(precision: Any) -> tuple[str, str] | None:
    """The precision of both operands, or None where the device decides.

    Arguments:
        precision: None (the setting `default_matmul_precision`), a `Precision`, its name, or a pair of these.

    Raises:
        ValueError: for anything else.
    """
    if precision is None:
        precision = config.default_matmul_precision
    if precision is None:
        return None
    both = precision if isinstance(precision, (tuple, list)) else (precision, precision)
    names = tuple(p.value if isinstance(p, Precision) else "default" if p is None else p for p in both)
    if len(names) != 2 or not all(isinstance(n, str) and n in _PRECISIONS for n in names):
        raise ValueError(
            f"precision must be None, a Precision, one of {sorted(_PRECISIONS)}, or a pair; got {precision!r}"
        )
    return _PRECISIONS[names[0]], _PRECISIONS[names[1]]


def product_dtype(name: str, lhs: ArrayType, rhs: ArrayType, preferred: np.dtype | None) -> np.dtype:
    """The dtype of sums of products: the preferred one, or the operands' joint dtype."""
    joint = lhs.dtype if lhs.dtype == rhs.dtype else dtypes.result_type(lhs, rhs)
    if preferred is None:
        return joint
    loses_imaginary = dtypes.is_complex(joint) and not dtypes.is_complex(preferred)
    both_integers = dtypes.is_integer(joint) and dtypes.is_integer(preferred)
    if loses_imaginary or (both_integers and preferred.itemsize < joint.itemsize):
        raise DTypeError(
            f"{name}: preferred_element_type={preferred.name} cannot hold products of {lhs} and {rhs}; "
            f"leave it out or choose a dtype at least as wide as {joint.name}"
        )
    return preferred


def _free(ndim: int, contract: Axes, batch: Axes) -> Axes:
    return tuple(d for d in range(ndim) if d not in contract and d not in batch)


# ---------------------------------------------------------------------------------------------- rules
def _type_rule(
    lhs: ArrayType,
    rhs: ArrayType,
    *,
    dimension_numbers: DotDimensionNumbers,
    precision: Any,
    preferred_element_type: Any,
) -> ArrayType:
    (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = dimension_numbers
    for side, t, contract, batch in (("lhs", lhs, lhs_contract, lhs_batch), ("rhs", rhs, rhs_contract, rhs_batch)):
        axes = (*contract, *batch)
        if any(not 0 <= d < t.ndim for d in axes) or len(set(axes)) != len(axes):
            raise AxisError(
                f"dot_general: contracting axes {contract} and batch axes {batch} are not distinct axes of {side} {t}"
            )
    for kind, ours, theirs in (("contracting", lhs_contract, rhs_contract), ("batch", lhs_batch, rhs_batch)):
        sizes, others = tuple(lhs.shape[d] for d in ours), tuple(rhs.shape[d] for d in theirs)
        if sizes != others:
            raise ShapeError(
                f"dot_general: {kind} axes {ours} of lhs {lhs} have sizes {sizes}, "
                f"but {kind} axes {theirs} of rhs {rhs} have sizes {others}; they must be equal. "
                "Is an operand transposed?"
            )
    shape = (
        *(lhs.shape[d] for d in lhs_batch),
        *(lhs.shape[d] for d in _free(lhs.ndim, lhs_contract, lhs_batch)),
        *(rhs.shape[d] for d in _free(rhs.ndim, rhs_contract, rhs_batch)),
    )
    dtype = product_dtype("dot_general", lhs, rhs, preferred_element_type)
    return ArrayType(shape, dtype, lhs.weak_type and rhs.weak_type and preferred_element_type is None)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple:
    (lhs, rhs), (lhs_tangent, rhs_tangent) = primals, tangents
    out = bind(dot_general_p, lhs, rhs, **params)
    total: Any = Zero(tangent_type(out.aval))
    if not is_zero(lhs_tangent):
        total = bind(dot_general_p, lhs_tangent, rhs, **params)
    if not is_zero(rhs_tangent):
        total = add_tangents(total, bind(dot_general_p, lhs, rhs_tangent, **params))
    return out, total


def _transpose_rule(
    ct: Any, lhs: Any, rhs: Any, *, dimension_numbers: DotDimensionNumbers, precision: Any, preferred_element_type: Any
) -> list:
    """Products of `ct` with the other operand, in the order that spares x @ w a transposition."""
    (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = dimension_numbers
    lhs_free = _free(len(lhs.shape), lhs_contract, lhs_batch)
    rhs_free = _free(len(rhs.shape), rhs_contract, rhs_batch)
    batch = tuple(range(len(lhs_batch)))
    ct_lhs_free = tuple(range(len(batch), len(batch) + len(lhs_free)))
    ct_rhs_free = tuple(range(len(batch) + len(lhs_free), len(ct.shape)))
    partner = dict(zip(rhs_contract, lhs_contract, strict=True))
    lhs_ct = rhs_ct = None
    if is_linear(lhs):
        product = dot_general(ct, rhs, ((ct_rhs_free, rhs_free), (batch, rhs_batch)), precision)
        order = (*lhs_batch, *lhs_free, *(partner[d] for d in sorted(rhs_contract)))
        lhs_ct = _restore(product, order, lhs.dtype)
    if is_linear(rhs):
        swapped = precision if precision is None else precision[::-1]
        product = dot_general(lhs, ct, ((lhs_free, ct_lhs_free), (lhs_batch, batch)), swapped)
        back = {d: e for e, d in partner.items()}
        order = (*rhs_batch, *(back[d] for d in sorted(lhs_contract)), *rhs_free)
        rhs_ct = _restore(product, order, rhs.dtype)
    return [lhs_ct, rhs_ct]


def _restore(product: Any, axes: Axes, dtype: np.dtype) -> Any:
    """Axis i of `product` belongs at position axes[i]."""
    return convert_element_type(transpose(product, np.argsort(axes).tolist()), dtype)


def _batch_rule(
    args: Sequence[Any], dims: Sequence[int | None], *, dimension_numbers: DotDimensionNumbers, **params: Any
) -> tuple:
    """A batch axis of both operands is one more batch axis; of one operand alone, one more free axis."""
    (lhs, rhs), (lhs_dim, rhs_dim) = args, dims
    (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = dimension_numbers
    lhs_contract, lhs_batch = _shift(lhs_contract, lhs_dim), _shift(lhs_batch, lhs_dim)
    rhs_contract, rhs_batch = _shift(rhs_contract, rhs_dim), _shift(rhs_batch, rhs_dim)
    if lhs_dim is not None and rhs_dim is not None:
        lhs_batch, rhs_batch = (lhs_dim, *lhs_batch), (rhs_dim, *rhs_batch)
        out_dim = 0
    elif lhs_dim is not None:
        out_dim = len(lhs_batch) + _free(lhs.ndim, lhs_contract, lhs_batch).index(lhs_dim)
    else:
        before = lhs.ndim - len(lhs_contract)  # batch and free axes of lhs
        out_dim = before + _free(rhs.ndim, rhs_contract, rhs_batch).index(rhs_dim)
    numbers = ((lhs_contract, rhs_contract), (lhs_batch, rhs_batch))
    return bind(dot_general_p, lhs, rhs, dimension_numbers=numbers, **params), out_dim


def _shift(axes: Axes, dim: int | None) -> Axes:
    return axes if dim is None else tuple(d + (d >= dim) for d in axes)


dot_general_p = Primitive(
    "dot_general",
    category="contraction",
    type_rule=_type_rule,
    jvp=_jvp,
    transpose=_transpose_rule,
    batch=_batch_rule,
    what="Multiplies along paired axes and sums: a matrix product with any number of batch, free and contracted axes.",
    formula="z[b, i, j] = sum over k of x[b, i, k] y[b, k, j]",
    why="Linear layers, attention, every projection: where nearly all arithmetic of a network happens.",
)


# ---------------------------------------------------------------------------------------------- user functions
def dot_general(
    lhs: Any,
    rhs: Any,
    dimension_numbers: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
    **_: Any,
) -> Array:
    """Sum of products over pairs of axes (StableHLO dot_general).

    Arguments:
        lhs, rhs: arrays; different dtypes are promoted.
        dimension_numbers: ``((lhs_contracting, rhs_contracting), (lhs_batch, rhs_batch))``, sequences of axes. Paired
            axes have equal sizes; the products are summed over contracting axes, batch axes are kept.
        precision: None, a `Precision`, its name, or a pair of these for the operands.
        preferred_element_type: dtype in which to sum and return.

    Returns:
        Array of shape (batch axes, free axes of lhs, free axes of rhs).

    Raises:
        AxisError: an axis is out of range or named twice.
        ShapeError: paired axes differ in number or size.
        DTypeError: `preferred_element_type` is too narrow.
    """
    lhs, rhs = as_array(lhs, "dot_general"), as_array(rhs, "dot_general")
    pairs = []
    for kind, (ours, theirs) in zip(("contracting", "batch"), dimension_numbers, strict=True):
        ours = canonical_axes(tuple(map(operator.index, ours)), lhs.ndim, f"dot_general: {kind} axes of lhs")
        theirs = canonical_axes(tuple(map(operator.index, theirs)), rhs.ndim, f"dot_general: {kind} axes of rhs")
        if len(ours) != len(theirs):
            raise ShapeError(
                f"dot_general: {len(ours)} {kind} axes {ours} of lhs are paired with {len(theirs)}, {theirs}, of rhs"
            )
        pairs.append((ours, theirs))
    return bind(
        dot_general_p,
        lhs,
        rhs,
        dimension_numbers=tuple(pairs),
        precision=canonical_precision(precision),
        preferred_element_type=canonical_element_type(preferred_element_type),
    )


def canonical_element_type(dtype: Any) -> np.dtype | None:
    """The dtype that a `preferred_element_type` names, if any."""
    return None if dtype is None else dtypes.canonicalize(dtype)


def dot(
    lhs: Any,
    rhs: Any,
    *,
    dimension_numbers: Any = None,
    precision: Any = None,
    preferred_element_type: Any = None,
    **_: Any,
) -> Array:
    """Product of vectors and matrices: the last axis of `lhs` with the first of `rhs`.

    With `dimension_numbers` it is `dot_general`.

    Raises:
        ShapeError: operands of other ranks than 1 and 2, or sizes that differ.
    """
    lhs, rhs = as_array(lhs, "dot"), as_array(rhs, "dot")
    if dimension_numbers is None:
        if not (1 <= lhs.ndim <= 2 and 1 <= rhs.ndim <= 2 and lhs.shape[-1] == rhs.shape[0]):
            raise ShapeError(
                f"dot: cannot multiply {lhs.aval} and {rhs.aval}: expected vectors or matrices where the last axis of "
                "lhs is as long as the first of rhs; for other ranks use dot_general, batch_matmul or asgfn.numpy.matmul"
            )
        dimension_numbers = (((lhs.ndim - 1,), (0,)), ((), ()))
    return dot_general(lhs, rhs, dimension_numbers, precision, preferred_element_type)


def batch_matmul(lhs: Any, rhs: Any, precision: Any = None) -> Array:
    """Matrix products over equal leading axes: (..., m, k) times (..., k, n) gives (..., m, n).

    Raises:
        ShapeError: ranks below 2 or unequal, or sizes that do not fit.
    """
    lhs, rhs = as_array(lhs, "batch_matmul"), as_array(rhs, "batch_matmul")
    if lhs.ndim != rhs.ndim or lhs.ndim < 2:
        raise ShapeError(f"batch_matmul: expected operands of one rank, 2 or more, got {lhs.aval} and {rhs.aval}")
    batch = tuple(range(lhs.ndim - 2))
    return dot_general(lhs, rhs, (((lhs.ndim - 1,), (rhs.ndim - 2,)), (batch, batch)), precision)


__all__ = ["DotDimensionNumbers", "Precision", "batch_matmul", "dot", "dot_general"]
