"""Sums that do not lose count: each is kept as two numbers of the default float dtype.

A float32 sum of ones stops at 2**24. A `Sum` keeps what rounding would drop in a second number (double-single arithmetic),
so whole numbers stay exact up to 2**47 and other sums keep about 46 bits, whatever the number of batches.
Source: T. J. Dekker, A floating-point technique for extending the available precision, 1971; D. Knuth, The Art of
Computer Programming 2, 4.2.2 (the error of a sum).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import asgfn
import asgfn.numpy as jnp
from asgfn import lax
from asgfn.tracing import Array


class Sum(NamedTuple):
    """high + low, of one shape; |low| is at most half a unit in the last place of high."""

    high: Array
    low: Array


def default_float() -> Any:
    """float32, or float64 when `enable_x64` is on: what metrics compute in."""
    return jnp.zeros(()).dtype


def zero(shape: tuple[int, ...] = ()) -> Sum:
    """The sum of nothing."""
    return Sum(jnp.zeros(shape), jnp.zeros(shape))


def exactly(x: Array) -> Sum:
    """Numbers as sums: integers of up to 32 bits lose nothing (nor do 64-bit ones, with float64)."""
    dtype = default_float()
    if not jnp.issubdtype(x.dtype, jnp.integer):
        x = x.astype(dtype)
        return Sum(x, jnp.zeros_like(x))
    # both halves fit the float's significand
    bits = 4 * x.dtype.itemsize
    high = (x >> bits) << bits
    return _two_sum(high.astype(dtype), (x - high).astype(dtype))


def add(a: Sum, b: Sum) -> Sum:
    """a + b. Commutative exactly; associative exactly for whole numbers, else up to rounding of the low part."""
    high, error = _two_sum(a.high, b.high)
    return _two_sum(high, error + (a.low + b.low))


def subtract(a: Sum, b: Sum) -> Sum:
    """a - b."""
    return add(a, Sum(-b.high, -b.low))


def scale(a: Sum, factor: Any) -> Array:
    """a * factor, rounded."""
    return a.high * factor + a.low * factor


def value(a: Sum) -> Array:
    """The sum as one number, rounded."""
    return a.high + a.low


def integer(a: Sum) -> Array:
    """A sum of whole numbers as int32 (int64 when `enable_x64` is on), exact below 2**31 (2**53)."""
    dtype = jnp.asarray(0).dtype
    # by halves, because high may be 2**31 where high + low still fits
    half = jnp.floor(a.high / 2)
    return half.astype(dtype) + (a.high - half).astype(dtype) + a.low.astype(dtype)


def batch_sum(values: Array, weights: Array, axis: Any = None) -> Sum:
    """The sum of values times weights, of one shape; booleans are counted in integers.

    Where a weight is 0 or False, the value does not matter.
    """
    if values.dtype == bool and weights.dtype == bool:
        return exactly(jnp.sum(values & weights, axis=axis))
    dtype = default_float()
    if weights.dtype == bool:
        products = jnp.where(weights, values.astype(dtype), 0)
    else:
        products = jnp.where(weights != 0, values.astype(dtype) * weights.astype(dtype), 0)
    return precise(lambda x: jnp.sum(x, axis=axis), products)


def batch_counts(classes: Array, weights: Array, num_classes: int) -> Sum:
    """The sums of weights by class, [num_classes]; a class out of range is left out."""

    def by_class(x: Array) -> Array:
        return asgfn.ops.segment_sum(x.reshape(-1), classes.reshape(-1), num_classes)

    if weights.dtype == bool:
        return exactly(by_class(weights.astype(jnp.int32)))
    return precise(by_class, weights)


def precise(reduce: Callable[[Array], Array], x: Array) -> Sum:
    """A reduction by addition, rounded little: what `reduce` adds up first are leading bits so few that nothing rounds.

    Source: S. Rump, T. Ogita, S. Oishi, Accurate floating-point summation, 2008 (extraction of leading parts).
    """
    largest = jnp.max(jnp.abs(x), initial=0)
    _, exponent = jnp.frexp(largest)
    unit = jnp.ldexp(jnp.ones((), x.dtype), exponent + max(x.size - 1, 0).bit_length())
    leading = jnp.where(jnp.isfinite(unit) & jnp.isfinite(largest), (x + unit) - unit, 0)
    return _two_sum(reduce(leading), reduce(x - leading))


def cumulative(values: Array) -> Array:
    """Cumulative sums along a vector, each as precise as a `Sum`, rounded at the end."""
    return value(lax.associative_scan(add, exactly(values)))


def _two_sum(a: Array, b: Array) -> Sum:
    """a + b and what rounding dropped (nothing where the sum is not finite)."""
    total = a + b
    of_b = total - a
    error = (a - (total - of_b)) + (b - of_b)
    return Sum(total, jnp.where(jnp.isfinite(total), error, 0))
