"""`map` and `associative_scan`, made of other loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from asgfn.control.common import arrays_of
from asgfn.control.scan import scan
from asgfn.errors import ShapeError, StructureError
from asgfn.primitives.elementwise import add
from asgfn.primitives.padding import concatenate, pad, rev
from asgfn.primitives.shaping import canonical_axis, reshape
from asgfn.primitives.slicing import slice_in_dim
from asgfn.transforms.vmap import vmap
from asgfn.tree_util import tree_leaves, tree_map, tree_unflatten


def map(f: Callable, xs: Any, *, batch_size: int | None = None) -> Any:
    """Applies f to each slice of xs along the leading axis, one after another, and stacks the results.

    Arguments:
        batch_size: apply it to that many slices at once, vectorised.
    """
    if batch_size is None:
        return scan(lambda _, x: ((), f(x)), (), xs)[1]
    if batch_size < 1:
        raise ValueError(f"map: batch_size must be positive, got {batch_size}")
    leaves = tree_leaves(xs)
    if not leaves:
        raise ShapeError("map: xs has no arrays to map over")
    n = leaves[0].shape[0]
    full = n // batch_size
    batched = vmap(f)
    parts = []
    if full:
        head = tree_map(lambda x: reshape(slice_in_dim(x, 0, full * batch_size), (full, batch_size, *x.shape[1:])), xs)
        out = scan(lambda _, x: ((), batched(x)), (), head)[1]
        parts.append(tree_map(lambda y: reshape(y, (full * batch_size, *y.shape[2:])), out))
    if n % batch_size or not full:
        parts.append(batched(tree_map(lambda x: slice_in_dim(x, full * batch_size, n), xs)))
    return parts[0] if len(parts) == 1 else tree_map(lambda a, b: concatenate([a, b], 0), *parts)


def associative_scan(fn: Callable, elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """All prefixes of a sequence under an associative operation, in a logarithmic number of vectorised steps.

    Arguments:
        fn: ``(a, b) -> c`` on pytrees like `elems`, applied to slices with many elements at once; it must be associative.
        elems: a pytree of arrays with one length along `axis`.
        reverse: scan from the end.

    Source: G. Blelloch, Prefix Sums and Their Applications, 1990.
    """
    if not callable(fn):
        raise TypeError("associative_scan: fn must be a function of two pytrees")
    leaves, tree = arrays_of("associative_scan", elems)
    axes = [canonical_axis(axis, x.ndim, "associative_scan") for x in leaves]
    lengths = {x.shape[a] for x, a in zip(leaves, axes, strict=True)}
    if len(lengths) != 1:
        raise ShapeError(
            f"associative_scan: all arrays must have one length along axis {axis}, got {', '.join(str(x.aval) for x in leaves)}"
        )
    at = axes[0]

    def combine(a: list, b: list) -> list:
        out, out_tree = arrays_of("associative_scan", fn(tree_unflatten(tree, a), tree_unflatten(tree, b)))
        if out_tree != tree:
            raise StructureError(
                f"associative_scan: fn must return the structure of its arguments, {tree}, got {out_tree}"
            )
        return out

    def cut(xs: list, start: int, stop: int, step: int = 1) -> list:
        return [slice_in_dim(x, start, stop, step, at) for x in xs]

    # odd elements are prefixes of the pairs; even ones combine the prefix before them with themselves
    def up(xs: list) -> list:
        n = xs[0].shape[at]
        if n < 2:
            return xs
        pairs = combine(cut(xs, 0, n - 1, 2), cut(xs, 1, n, 2))
        odd = up(pairs)
        rest = cut(xs, 2, n, 2)
        even = combine(cut(odd, 0, rest[0].shape[at]), rest) if rest[0].shape[at] else rest
        even = [concatenate([slice_in_dim(x, 0, 1, axis=at), e], at) for x, e in zip(xs, even, strict=True)]
        return [_interleave(e, o, at) for e, o in zip(even, odd, strict=True)]

    if reverse:
        leaves = [rev(x, (at,)) for x in leaves]
    out = up(leaves)
    if reverse:
        out = [rev(x, (at,)) for x in out]
    return tree_unflatten(tree, out)


def _interleave(even: Any, odd: Any, axis: int) -> Any:
    """even[0], odd[0], even[1], odd[1], ... along an axis."""
    zero = np.zeros((), even.dtype)
    extra = even.shape[axis] - odd.shape[axis]  # 0 or 1

    def spread(x: Any, low: int, high: int) -> Any:
        return pad(x, zero, [(low, high, 1) if i == axis else (0, 0, 0) for i in range(x.ndim)])

    a, b = spread(even, 0, 1 - extra), spread(odd, 1, extra)
    if even.dtype == np.bool_:
        return a | b
    return add(a, b)
