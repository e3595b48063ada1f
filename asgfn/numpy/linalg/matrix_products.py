"""Products of matrices beyond `matmul`, and the array API's forms of functions that NumPy has elsewhere too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asgfn.errors import ShapeError
from asgfn.numpy import diagonals, manipulation, products
from asgfn.numpy.arguments import ArrayLike, DTypeLike, promote_dtypes, to_array
from asgfn.numpy.linalg.solving import inv
from asgfn.tracing import Array


def matrix_power(a: ArrayLike, n: int) -> Array:
    """The n-th power of square matrices [..., k, k], by repeated squaring; negative n inverts first."""
    a = to_array("linalg.matrix_power", a)
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise ShapeError(f"linalg.matrix_power: the matrices must be square, got {a.aval}")
    if not isinstance(n, int):
        raise TypeError(f"linalg.matrix_power: n must be an int, got {n!r}")
    if n == 0:
        return manipulation.broadcast_to(diagonals.eye(a.shape[-1], dtype=a.dtype), a.shape)
    if n < 0:
        a, n = inv(a), -n
    while not n & 1:
        a, n = products.matmul(a, a), n >> 1
    result = a
    while n := n >> 1:
        a = products.matmul(a, a)
        if n & 1:
            result = products.matmul(result, a)
    return result


def multi_dot(arrays: Sequence[ArrayLike], *, precision: Any = None) -> Array:
    """The product of two or more matrices, in the order that needs the fewest multiplications.

    The first and the last may be vectors. The order is found by dynamic programming over the shapes.
    """
    matrices = promote_dtypes(*(to_array("linalg.multi_dot", x) for x in arrays))
    if len(matrices) < 2:
        raise ValueError(f"linalg.multi_dot: needs at least two arrays, got {len(matrices)}")
    first_is_vector, last_is_vector = matrices[0].ndim == 1, matrices[-1].ndim == 1
    if first_is_vector:
        matrices[0] = manipulation.expand_dims(matrices[0], 0)
    if last_is_vector:
        matrices[-1] = manipulation.expand_dims(matrices[-1], 1)
    if any(x.ndim != 2 for x in matrices):
        raise ShapeError("linalg.multi_dot: all arrays but the first and last must be matrices, got shapes "
                         + ", ".join(str(x.shape) for x in matrices))  # fmt: skip
    order = _chain_order([x.shape[0] for x in matrices] + [matrices[-1].shape[1]])

    def multiply(start: int, stop: int) -> Array:
        if start == stop:
            return matrices[start]
        split = order[start, stop]
        return products.matmul(multiply(start, split), multiply(split + 1, stop), precision=precision)

    result = multiply(0, len(matrices) - 1)
    dropped = tuple(axis for axis, drop in enumerate((first_is_vector, last_is_vector)) if drop)
    return manipulation.squeeze(result, dropped) if dropped else result


def _chain_order(sizes: Sequence[int]) -> dict[tuple[int, int], int]:
    """Where to split each run of matrices; matrix i is sizes[i] x sizes[i + 1]."""
    count = len(sizes) - 1
    cost = {(i, i): 0 for i in range(count)}
    split = {}
    for length in range(1, count):
        for start in range(count - length):
            stop = start + length
            options = {
                k: cost[start, k] + cost[k + 1, stop] + sizes[start] * sizes[k + 1] * sizes[stop + 1]
                for k in range(start, stop)
            }
            split[start, stop] = min(options, key=options.__getitem__)
            cost[start, stop] = options[split[start, stop]]
    return split


def cross(x1: ArrayLike, x2: ArrayLike, /, *, axis: int = -1) -> Array:
    """The cross product of vectors of three components along `axis`."""
    x1, x2 = to_array("linalg.cross", x1), to_array("linalg.cross", x2)
    for x in (x1, x2):
        if not -x.ndim <= axis < x.ndim or x.shape[axis] != 3:
            raise ShapeError(
                f"linalg.cross: both operands must have size 3 on axis {axis}, got {x1.aval} and {x2.aval}"
            )
    return products.cross(x1, x2, axis=axis)


def outer(x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """All products of elements of two vectors: [n], [m] -> [n, m]."""
    x1, x2 = to_array("linalg.outer", x1), to_array("linalg.outer", x2)
    if x1.ndim != 1 or x2.ndim != 1:
        raise ShapeError(f"linalg.outer: operands must be vectors, got {x1.aval} and {x2.aval}; jnp.outer flattens")
    return products.outer(x1, x2)


def diagonal(x: ArrayLike, /, *, offset: int = 0) -> Array:
    """The elements x[..., i, i + offset], as the last axis."""
    return diagonals.diagonal(x, offset, -2, -1)


def trace(x: ArrayLike, /, *, offset: int = 0, dtype: DTypeLike = None) -> Array:
    """The sum of the diagonals of the matrices in the last two axes."""
    return diagonals.trace(x, offset, -2, -1, dtype)
