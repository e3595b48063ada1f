"""Running reductions along one axis: cumsum, cumprod, cummax, cummin, cumlogsumexp.

cumsum is linear. The others are differentiated by a parallel prefix over pairs (value, tangent), whose combination is
the derivative of the two-operand function: exact for zeros, infinities and ties, O(n) work, and made of element-wise
operations, so that it differentiates again. (Blelloch, "Prefix Sums and Their Applications", 1990.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import INEXACT, NUMBER, Primitive, check_dtype, linear_jvp, primitive
from asgfn.primitives.elementwise import add, eq, is_finite, lt, max_p, min_p, mul, mul_p, real, select_n, sub
from asgfn.primitives.padding import concatenate, rev
from asgfn.primitives.shaping import (
    canonical_axis,
    convert_element_type,
    expand_dims,
    full_like,
    reduced_shape,
    reshape,
)
from asgfn.primitives.slicing import slice_in_dim
from asgfn.primitives.transcendental import exp, log1p
from asgfn.tracing import Array, as_array, bind

Pair = tuple[Any, ...]  # value and tangent


def _type_rule(name: str, kinds: Sequence[str]) -> Callable[..., ArrayType]:
    def rule(x: ArrayType, *, axis: int, reverse: bool) -> ArrayType:
        check_dtype(name, x.dtype, kinds)
        reduced_shape(x, (axis,), name)  # raises if there is no such axis
        return x

    return rule


def _batch_rule(name: str) -> Callable[..., tuple]:
    def rule(args: Sequence[Any], dims: Sequence[int], *, axis: int, reverse: bool) -> tuple:
        (x,), (d,) = args, dims
        return bind(primitive(name), x, axis=axis + (axis >= d), reverse=reverse), d

    return rule


# ---------------------------------------------------------------------------------------------- differentiation
def prefix_scan(combine: Callable[[Pair, Pair], Pair], pair: Pair, axis: int) -> Pair:
    """All prefixes of an associative combination of pairs of arrays, along `axis`.

    Neighbours are combined, the half as long sequence is scanned, and the elements in between are filled in: 2 n
    combinations, log2(n) deep.
    """
    n = pair[0].shape[axis]
    if n < 2:
        return pair

    def cut(p: Pair, start: int, stop: int, stride: int) -> Pair:
        return tuple(slice_in_dim(v, start, stop, stride, axis) for v in p)

    pairs = combine(cut(pair, 0, n - 1, 2), cut(pair, 1, n, 2))
    odd = prefix_scan(combine, pairs, axis)
    first = cut(pair, 0, 1, 1)
    if n == 2:
        return tuple(concatenate([a, b], axis) for a, b in zip(first, odd, strict=True))
    reached = n // 2 - (n % 2 == 0)  # how many of the odd results have an even successor
    even = combine(cut(odd, 0, reached, 1), cut(pair, 2, n, 2))
    even = tuple(concatenate([a, b], axis) for a, b in zip(first, even, strict=True))
    return tuple(_interleave(a, b, axis) for a, b in zip(even, odd, strict=True))


def _interleave(even: Any, odd: Any, axis: int) -> Any:
    """[even[0], odd[0], even[1], ...]; `even` may be longer by one."""
    n = odd.shape[axis]
    shape = even.shape
    stacked = concatenate(
        [expand_dims(slice_in_dim(even, 0, n, 1, axis), (axis + 1,)), expand_dims(odd, (axis + 1,))], axis + 1
    )
    merged = reshape(stacked, (*shape[:axis], 2 * n, *shape[axis + 1 :]))
    if shape[axis] == n:
        return merged
    return concatenate([merged, slice_in_dim(even, n, n + 1, 1, axis)], axis)


def _prefix_jvp(name: str, combine: Callable[[Pair, Pair], Pair]) -> Callable[..., tuple]:
    def rule(primals: Sequence[Any], tangents: Sequence[Any], *, axis: int, reverse: bool) -> tuple:
        pair: Pair = (primals[0], tangents[0])
        if reverse:
            pair = tuple(rev(v, (axis,)) for v in pair)
        tangent = prefix_scan(combine, pair, axis)[1]
        out = bind(primitive(name), primals[0], axis=axis, reverse=reverse)
        return out, rev(tangent, (axis,)) if reverse else tangent

    return rule


def _dual(prim: Primitive) -> Callable[[Pair, Pair], Pair]:
    """The combination of (value, tangent) pairs by an element-wise primitive."""
    jvp = prim.jvp
    assert jvp is not None
    return lambda a, b: jvp((a[0], b[0]), (a[1], b[1]))


def _dual_logaddexp(a: Pair, b: Pair) -> Pair:
    """log(exp x + exp y), the larger factored out; the tangents are averaged with weights exp(x - result).

    Where the result is infinite, the weights are 1 for infinite elements of its sign +, and 0 for all others.
    """
    (x, tx), (y, ty) = a, b
    swap = lt(_real_part(x), _real_part(y))
    high, low = select_n(swap, x, y), select_n(swap, y, x)
    zero = full_like(x, 0, shape=())
    finite = is_finite(_real_part(high))
    total = add(high, log1p(exp(select_n(finite, zero, sub(low, high)))))
    shift = select_n(finite, zero, total)

    def weight(v: Any) -> Any:
        infinite = eq(_real_part(v), full_like(_real_part(v), np.inf, shape=()))
        return select_n(finite, convert_element_type(infinite, v.dtype), exp(sub(v, shift)))

    return total, add(mul(weight(x), tx), mul(weight(y), ty))


def _real_part(x: Any) -> Any:
    return real(x) if dtypes.is_complex(x.dtype) else x


# ---------------------------------------------------------------------------------------------- primitives
cumsum_p: Primitive = Primitive(
    "cumsum",
    category="reduction",
    type_rule=_type_rule("cumsum", NUMBER),
    jvp=linear_jvp("cumsum"),
    transpose=lambda ct, x, *, axis, reverse: [bind(cumsum_p, ct, axis=axis, reverse=not reverse)],
    batch=_batch_rule("cumsum"),
    what="Running sums along one axis.",
    formula="y[i] = x[0] + ... + x[i]",
    why="Distribution functions, offsets of segments, discounted returns.",
)


def _nonlinear(name: str, kinds: Sequence[str], combine: Callable, what: str, formula: str, why: str) -> Primitive:
    return Primitive(
        name,
        category="reduction",
        type_rule=_type_rule(name, kinds),
        jvp=_prefix_jvp(name, combine),
        batch=_batch_rule(name),
        what=what,
        formula=formula,
        why=why,
    )


cumprod_p = _nonlinear(
    "cumprod", NUMBER, _dual(mul_p), "Running products along one axis.", "y[i] = x[0] * ... * x[i]", "Survival, decay."
)
cummax_p = _nonlinear(
    "cummax", NUMBER, _dual(max_p), "Running maxima along one axis.", "y[i] = max(x[0], ..., x[i])", "Best so far."
)
cummin_p = _nonlinear(
    "cummin", NUMBER, _dual(min_p), "Running minima along one axis.", "y[i] = min(x[0], ..., x[i])", "Worst so far."
)
cumlogsumexp_p = _nonlinear(
    "cumlogsumexp",
    INEXACT,
    _dual_logaddexp,
    "Running log-sum-exps along one axis.",
    "y[i] = log(exp(x[0]) + ... + exp(x[i]))",
    "Running sums of probabilities that are kept as logarithms.",
)


def _apply(prim: Primitive, operand: Any, axis: int, reverse: bool) -> Array:
    operand = as_array(operand, prim.name)
    return bind(prim, operand, axis=canonical_axis(axis, operand.ndim, prim.name), reverse=bool(reverse))


def cumsum(operand: Any, axis: int = 0, reverse: bool = False) -> Array:
    """Running sums of `operand` along `axis`, from its end if `reverse`; same shape and dtype."""
    return _apply(cumsum_p, operand, axis, reverse)


def cumprod(operand: Any, axis: int = 0, reverse: bool = False) -> Array:
    """Running products of `operand` along `axis`, from its end if `reverse`; same shape and dtype."""
    return _apply(cumprod_p, operand, axis, reverse)


def cummax(operand: Any, axis: int = 0, reverse: bool = False) -> Array:
    """Running maxima of `operand` along `axis`, from its end if `reverse`; NaN stays once it was met."""
    return _apply(cummax_p, operand, axis, reverse)


def cummin(operand: Any, axis: int = 0, reverse: bool = False) -> Array:
    """Running minima of `operand` along `axis`, from its end if `reverse`; NaN stays once it was met."""
    return _apply(cummin_p, operand, axis, reverse)


def cumlogsumexp(operand: Any, axis: int = 0, reverse: bool = False) -> Array:
    """Running ``log(sum(exp(x)))`` of a float or complex `operand` along `axis`, without overflow."""
    return _apply(cumlogsumexp_p, operand, axis, reverse)
