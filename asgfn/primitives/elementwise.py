"""Arithmetic, comparison, bits and selection, element by element.

Operands have one dtype and one shape; rank-0 operands broadcast. Semantics are StableHLO's: integers wrap around,
integer division truncates, `max` and `min` propagate NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.errors import DTypeError, ShapeError, TransformError
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import (
    ANY,
    BITS,
    FLOAT,
    REAL,
    Primitive,
    Zero,
    add_tangents,
    batch_size,
    bdim_at_front,
    elementwise,
    is_linear,
    move_batch_axis,
    tangent_type,
)
from asgfn.primitives.shaping import broadcast_in_dim, full_like, unbroadcast
from asgfn.tracing import Array, as_array, bind, concrete


def _binary_transpose(*rules: Callable) -> Callable:
    """A transpose rule from one function an operand, ``(ct, *operands) -> ct``, used where that operand is linear."""

    def rule(ct: Any, *operands: Any, **params: Any) -> list:
        return [
            unbroadcast(r(ct, *operands, **params), x.aval) if is_linear(x) else None
            for r, x in zip(rules, operands, strict=True)
        ]

    return rule


# ---------------------------------------------------------------------------------------------- arithmetic
add_p = elementwise(
    "add", 2,
    jvp=[lambda g, y, a, b: g, lambda g, y, a, b: g],
    transpose=_binary_transpose(lambda ct, a, b: ct, lambda ct, a, b: ct),
    what="Adds two arrays.", formula="y = a + b", why="Biases, residual connections, accumulating gradients.",
)  # fmt: skip
sub_p = elementwise(
    "sub", 2,
    jvp=[lambda g, y, a, b: g, lambda g, y, a, b: neg(g)],
    transpose=_binary_transpose(lambda ct, a, b: ct, lambda ct, a, b: neg(ct)),
    what="Subtracts one array from another.", formula="y = a - b", why="Differences: errors, centring, gradient steps.",
)  # fmt: skip
mul_p = elementwise(
    "mul", 2,
    jvp=[lambda g, y, a, b: mul(g, b), lambda g, y, a, b: mul(a, g)],
    transpose=_binary_transpose(lambda ct, a, b: mul(ct, b), lambda ct, a, b: mul(a, ct)),
    what="Multiplies two arrays.", formula="y = a * b", why="Scaling, gating, masking, the chain rule.",
)  # fmt: skip
div_p = elementwise(
    "div", 2,
    jvp=[lambda g, y, a, b: div(g, b), lambda g, y, a, b: mul(neg(g), div(y, b))],
    transpose=_binary_transpose(lambda ct, a, b: div(ct, b), lambda ct, a, b: _not_linear("div", "its divisor")),
    what="Divides one array by another; integers truncate towards zero.", formula="y = a / b", why="Normalising.",
)  # fmt: skip
rem_p = elementwise(
    "rem", 2, kinds=REAL,
    jvp=[lambda g, y, a, b: g, lambda g, y, a, b: mul(neg(g), _truncate(div(a, b)))],
    what="Remainder of a truncated division; it has the dividend's sign.", formula="y = a - b * trunc(a / b)",
    why="Wrapping positions and angles.",
)  # fmt: skip
max_p = elementwise(
    "max", 2, kinds=ANY,
    jvp=[lambda g, y, a, b: mul(g, _balanced(y, a, b)), lambda g, y, a, b: mul(g, _balanced(y, b, a))],
    what="The larger of two values; NaN if either is.", formula="y = max(a, b)", why="ReLU, clipping from below.",
)  # fmt: skip
min_p = elementwise(
    "min", 2, kinds=ANY,
    jvp=[lambda g, y, a, b: mul(g, _balanced(y, a, b)), lambda g, y, a, b: mul(g, _balanced(y, b, a))],
    what="The smaller of two values; NaN if either is.", formula="y = min(a, b)", why="Clipping from above.",
)  # fmt: skip
neg_p = elementwise(
    "neg", 1, jvp=[lambda g, y, x: neg(g)], transpose=lambda ct, x: [neg(ct)],
    what="Changes the sign.", formula="y = -x", why="Losses from likelihoods, descent directions.",
)  # fmt: skip
sign_p = elementwise(
    "sign", 1,
    what="-1, 0 or 1 by sign (NaN stays NaN; x / |x| for complex x).", formula="y = sign(x)", why="Sign-based updates.",
)  # fmt: skip
abs_p = elementwise(
    "abs", 1, out=lambda d: dtypes.real_dtype(d),
    jvp=[lambda g, y, x: _abs_tangent(g, y, x)],
    what="Magnitude.", formula="y = |x|", why="L1 losses and penalties.",
)  # fmt: skip
floor_p = elementwise(
    "floor", 1, kinds=FLOAT, what="Rounds down.", formula="y = floor(x)", why="Binning, grid indices."
)
ceil_p = elementwise("ceil", 1, kinds=FLOAT, what="Rounds up.", formula="y = ceil(x)", why="Counting bins.")
_round_p = elementwise(
    "round", 1, kinds=FLOAT,
    what="Rounds to the nearest integer; ties away from zero or to even.", formula="y = round(x)", why="Quantisation.",
)  # fmt: skip
square_p = elementwise(
    "square", 1, jvp=[lambda g, y, x: mul(g, mul(_scalar(2, x), x))],
    what="The square.", formula="y = x * x", why="Squared errors, variances, energy.",
)  # fmt: skip
integer_pow_p = elementwise(
    "integer_pow", 1,
    jvp=[lambda g, out, x, *, y: _zero_like(g) if y == 0 else mul(g, mul(_scalar(y, x), integer_pow(x, y - 1)))],
    what="A power with a fixed integer exponent.", formula="y = x ** n", why="Polynomials; cheaper and exact where pow is not.",
)  # fmt: skip
nextafter_p = elementwise(
    "nextafter", 2, kinds=FLOAT,
    what="The next representable number towards another.", formula="y = nextafter(a, b)", why="Open intervals, ulp arithmetic.",
)  # fmt: skip


def _zero_like(x: Any) -> Any:
    return full_like(x, 0)


def _scalar(value: Any, like: Any) -> Array:
    """A rank-0 array with the dtype of `like`."""
    return concrete(np.array(value, like.dtype), ArrayType((), like.dtype))


def _not_linear(name: str, what: str) -> Any:
    raise TransformError(f"{name} is not linear in {what} and cannot be transposed with respect to it")


def _truncate(x: Any) -> Array:
    if not dtypes.is_floating(x.dtype):
        return x
    return select_n(lt(x, _scalar(0, x)), floor(x), ceil(x))


def _balanced(y: Any, a: Any, b: Any) -> Array:
    """1 where `a` gave the maximum, 1/2 where both did: the share of the tangent that `a` gets."""
    if a.shape != y.shape:
        a = broadcast_in_dim(a, y.shape, ())
    if b.shape != y.shape:
        b = broadcast_in_dim(b, y.shape, ())
    share = select_n(eq(a, b), _scalar(1, y), _scalar(0.5, y))
    return select_n(eq(a, y), _scalar(0, y), share)


def _abs_tangent(g: Any, y: Any, x: Any) -> Array:
    if not dtypes.is_complex(x.dtype):
        return select(ge(x, _scalar(0, x)), g, neg(g))  # JAX's choice of the slope at 0: 1
    safe = select_n(eq(y, _scalar(0, y)), y, _scalar(1, y))
    return div(add(mul(real(g), real(x)), mul(imag(g), imag(x))), safe)


def add(x: Any, y: Any) -> Array:
    """x + y. Shapes: equal, or one of rank 0; dtypes: equal numbers."""
    return bind(add_p, x, y)


def sub(x: Any, y: Any) -> Array:
    """x - y."""
    return bind(sub_p, x, y)


def mul(x: Any, y: Any) -> Array:
    """x * y."""
    return bind(mul_p, x, y)


def div(x: Any, y: Any) -> Array:
    """x / y; for integers the quotient truncated towards zero (x / 0 is -1, as in XLA)."""
    return bind(div_p, x, y)


def rem(x: Any, y: Any) -> Array:
    """Remainder with the sign of x."""
    return bind(rem_p, x, y)


def max(x: Any, y: Any) -> Array:
    """The larger; NaN if either is NaN. Complex numbers compare by real, then imaginary part."""
    return bind(max_p, x, y)


def min(x: Any, y: Any) -> Array:
    """The smaller; NaN if either is NaN."""
    return bind(min_p, x, y)


def neg(x: Any) -> Array:
    """-x."""
    return bind(neg_p, x)


def sign(x: Any) -> Array:
    """Sign: -1, 0, 1; x / |x| for complex numbers."""
    return bind(sign_p, x)


def abs(x: Any) -> Array:
    """Magnitude; real for complex x. The derivative at 0 is 1 (0 for complex x), as in JAX."""
    return bind(abs_p, x)


def floor(x: Any) -> Array:
    """Largest integer not above x."""
    return bind(floor_p, x)


def ceil(x: Any) -> Array:
    """Smallest integer not below x."""
    return bind(ceil_p, x)


class RoundingMethod:
    """How `round` decides ties: `AWAY_FROM_ZERO` or `TO_NEAREST_EVEN`."""

    AWAY_FROM_ZERO = 0
    TO_NEAREST_EVEN = 1


def round(x: Any, rounding_method: int = RoundingMethod.AWAY_FROM_ZERO) -> Array:
    """The nearest integer, as a float."""
    return bind(_round_p, x, rounding_method=int(rounding_method))


def square(x: Any) -> Array:
    """x * x."""
    return bind(square_p, x)


def integer_pow(x: Any, y: int) -> Array:
    """x ** y for a Python int y."""
    if y == 0:
        return full_like(x, 1)
    if y == 1:
        return as_array(x)
    if y == 2:
        return square(x)
    return bind(integer_pow_p, x, y=int(y))


def nextafter(x1: Any, x2: Any) -> Array:
    """The next number after x1 in the direction of x2."""
    return bind(nextafter_p, x1, x2)


def reciprocal(x: Any) -> Array:
    """1 / x."""
    x = as_array(x, "reciprocal")
    return div(_scalar(1, x), x)


# ---------------------------------------------------------------------------------------------- comparison
def _comparison(name: str, symbol: str, words: str, kinds: Sequence[str] = ANY) -> Primitive:
    return elementwise(
        name, 2, kinds=kinds, out=np.bool_, category="comparison",
        what=f"Whether the first value is {words} the second.", formula=f"y = a {symbol} b", why="Masks for select and where.",
    )  # fmt: skip


eq_p = _comparison("eq", "==", "equal to")
ne_p = _comparison("ne", "!=", "different from")
ge_p = _comparison("ge", ">=", "greater than or equal to", ("bool", "int", "float"))
gt_p = _comparison("gt", ">", "greater than", ("bool", "int", "float"))
le_p = _comparison("le", "<=", "less than or equal to", ("bool", "int", "float"))
lt_p = _comparison("lt", "<", "less than", ("bool", "int", "float"))
is_finite_p = elementwise(
    "is_finite", 1, kinds=FLOAT, out=np.bool_, category="comparison",
    what="Whether a number is neither infinite nor NaN.", formula="y = isfinite(x)", why="Skipping steps that overflowed.",
)  # fmt: skip


def eq(x: Any, y: Any) -> Array:
    """x == y."""
    return bind(eq_p, x, y)


def ne(x: Any, y: Any) -> Array:
    """x != y."""
    return bind(ne_p, x, y)


def ge(x: Any, y: Any) -> Array:
    """x >= y."""
    return bind(ge_p, x, y)


def gt(x: Any, y: Any) -> Array:
    """x > y."""
    return bind(gt_p, x, y)


def le(x: Any, y: Any) -> Array:
    """x <= y."""
    return bind(le_p, x, y)


def lt(x: Any, y: Any) -> Array:
    """x < y."""
    return bind(lt_p, x, y)


def is_finite(x: Any) -> Array:
    """Whether x is finite."""
    return bind(is_finite_p, x)


# ---------------------------------------------------------------------------------------------- bits and logic
def _bitwise(name: str, arity: int, what: str, formula: str, kinds: Sequence[str] = BITS) -> Primitive:
    return elementwise(
        name, arity, kinds=kinds, category="logical", what=what, formula=formula, why="Masks, hashing, random bits."
    )


and_p = _bitwise("and", 2, "Logical or bitwise and.", "y = a & b")
or_p = _bitwise("or", 2, "Logical or bitwise or.", "y = a | b")
xor_p = _bitwise("xor", 2, "Logical or bitwise exclusive or.", "y = a ^ b")
not_p = _bitwise("not", 1, "Logical or bitwise negation.", "y = ~x")
shift_left_p = _bitwise(
    "shift_left", 2, "Shifts bits to the left; 0 once the shift reaches the width.", "y = a << b", ("int",)
)
shift_right_logical_p = _bitwise(
    "shift_right_logical", 2, "Shifts bits to the right, filling with zeros.", "y = a >>> b", ("int",)
)
shift_right_arithmetic_p = _bitwise(
    "shift_right_arithmetic", 2, "Shifts bits to the right, keeping the sign.", "y = a >> b", ("int",)
)
population_count_p = _bitwise("population_count", 1, "Counts the bits that are set.", "y = popcount(x)", ("int",))
clz_p = _bitwise("clz", 1, "Counts leading zero bits.", "y = clz(x)", ("int",))


def bitwise_and(x: Any, y: Any) -> Array:
    """x & y for integers or booleans."""
    return bind(and_p, x, y)


def bitwise_or(x: Any, y: Any) -> Array:
    """x | y for integers or booleans."""
    return bind(or_p, x, y)


def bitwise_xor(x: Any, y: Any) -> Array:
    """x ^ y for integers or booleans."""
    return bind(xor_p, x, y)


def bitwise_not(x: Any) -> Array:
    """~x for integers or booleans."""
    return bind(not_p, x)


def shift_left(x: Any, y: Any) -> Array:
    """x << y; 0 where y is not below the width of the dtype."""
    return bind(shift_left_p, x, y)


def shift_right_logical(x: Any, y: Any) -> Array:
    """x >> y with zeros shifted in."""
    return bind(shift_right_logical_p, x, y)


def shift_right_arithmetic(x: Any, y: Any) -> Array:
    """x >> y with the sign bit shifted in."""
    return bind(shift_right_arithmetic_p, x, y)


def population_count(x: Any) -> Array:
    """Number of set bits."""
    return bind(population_count_p, x)


def clz(x: Any) -> Array:
    """Number of leading zero bits."""
    return bind(clz_p, x)


# ---------------------------------------------------------------------------------------------- complex numbers
real_p = elementwise(
    "real", 1, kinds=("complex",), out=dtypes.real_dtype,
    jvp=[lambda g, y, x: real(g)], transpose=lambda ct, x: [complex(ct, full_like(ct, 0))],
    what="Real part.", formula="y = Re(x)", why="Back from spectra to signals.",
)  # fmt: skip
imag_p = elementwise(
    "imag", 1, kinds=("complex",), out=dtypes.real_dtype,
    # cotangents pair without conjugation: Im(x) = Re(-i x), whose transpose is multiplication by -i
    jvp=[lambda g, y, x: imag(g)], transpose=lambda ct, x: [complex(full_like(ct, 0), neg(ct))],
    what="Imaginary part.", formula="y = Im(x)", why="Phases.",
)  # fmt: skip
complex_p = elementwise(
    "complex", 2, kinds=FLOAT, out=dtypes.complex_dtype,
    jvp=[lambda g, y, a, b: complex(g, full_like(g, 0)), lambda g, y, a, b: complex(full_like(g, 0), g)],
    transpose=_binary_transpose(lambda ct, a, b: real(ct), lambda ct, a, b: neg(imag(ct))),
    what="A complex number from its parts.", formula="y = a + i b", why="Building spectra.",
)  # fmt: skip
conj_p = elementwise(
    "conj", 1, kinds=("complex",),
    jvp=[lambda g, y, x: conj(g)], transpose=lambda ct, x: [conj(ct)],
    what="Complex conjugate.", formula="y = Re(x) - i Im(x)", why="Inner products, Hermitian transposes.",
)  # fmt: skip


def real(x: Any) -> Array:
    """Real part of a complex array."""
    return bind(real_p, x)


def imag(x: Any) -> Array:
    """Imaginary part of a complex array."""
    return bind(imag_p, x)


def complex(x: Any, y: Any) -> Array:
    """x + iy for real x and y."""
    return bind(complex_p, x, y)


def conj(x: Any) -> Array:
    """Complex conjugate; a real array becomes complex first."""
    x = as_array(x, "conj")
    if not dtypes.is_complex(x.dtype):
        return complex(x, full_like(x, 0))
    return bind(conj_p, x)


# ---------------------------------------------------------------------------------------------- selection
def _select_type(which: ArrayType, *cases: ArrayType) -> ArrayType:
    if not cases:
        raise ShapeError("select_n needs at least one case")
    if which.dtype != np.bool_ and which.dtype != np.int32:
        raise DTypeError(f"select_n: the selector must be boolean or int32, got {which}")
    if which.dtype == np.bool_ and len(cases) > 2:
        raise ShapeError(f"select_n: a boolean selector chooses between at most two cases, got {len(cases)}")
    shape: tuple[int, ...] = which.shape
    for c in cases:
        shape = shape or c.shape
    weak = True
    for c in cases:
        if c.dtype != cases[0].dtype:
            raise DTypeError(f"select_n: cases must have one dtype, got {', '.join(x.dtype.name for x in cases)}")
        if c.shape and c.shape != shape:
            raise ShapeError(
                f"select_n: cases and selector must have one shape (or be scalars), got selector {which} and cases {', '.join(map(str, cases))}"
            )
        weak = weak and c.weak_type
    if which.shape and which.shape != shape:
        raise ShapeError(f"select_n: the selector {which} must be a scalar or have the cases' shape {shape}")
    return ArrayType(shape, cases[0].dtype, weak)


def _select_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple:
    which, *cases = primals
    out = bind(select_n_p, which, *cases)
    if all(type(t) is Zero for t in tangents[1:]):
        return out, Zero(tangent_type(out.aval))
    zero = _scalar(0, out)
    filled = [zero if type(t) is Zero else t for t in tangents[1:]]
    tangent = bind(select_n_p, which, *filled)
    if tangent.shape != out.shape:
        tangent = broadcast_in_dim(tangent, out.shape, ())
    return out, tangent


def _select_transpose(ct: Any, which: Any, *cases: Any) -> list:
    zero = _scalar(0, ct)
    cts: list[Any] = [None]
    for i, case in enumerate(cases):
        if is_linear(case):
            share = bind(select_n_p, which, *(ct if k == i else zero for k in range(len(cases))))
            cts.append(unbroadcast(share, case.aval))
        else:
            cts.append(None)
    return cts


def _select_batch(args: Sequence[Any], dims: Sequence[int | None]) -> tuple:
    first = next(k for k, d in enumerate(dims) if d is not None)
    rank, dim = args[first].ndim, dims[first]
    if all((d == dim and x.ndim == rank) or (d is None and x.ndim == 0) for x, d in zip(args, dims, strict=True)):
        return bind(select_n_p, *args), dim
    size = batch_size(args, dims)
    inner = [x.ndim - (d is not None) for x, d in zip(args, dims, strict=True)]
    out_rank = int(np.max(inner))
    k = inner.index(out_rank)
    shape = tuple(s for i, s in enumerate(args[k].shape) if i != dims[k])
    moved = []
    for x, d, r in zip(args, dims, inner, strict=True):
        if d is None:
            moved.append(x if r == 0 else bdim_at_front(x, None, size))
        else:
            x = move_batch_axis(x, d, 0)
            moved.append(x if r == out_rank else broadcast_in_dim(x, (size, *shape), (0,)))
    return bind(select_n_p, *moved), 0


select_n_p = Primitive(
    "select_n",
    category="logical",
    type_rule=_select_type,
    jvp=_select_jvp,
    transpose=_select_transpose,
    batch=_select_batch,
    what="Chooses, for each element, one of several arrays.",
    formula="y[i] = cases[which[i]][i]",
    why="Masking and piecewise functions without branches.",
)


def select_n(which: Any, *cases: Any) -> Array:
    """Element by element `cases[which]`; for a boolean `which`, False chooses the first case."""
    return bind(select_n_p, which, *cases)


def select(pred: Any, on_true: Any, on_false: Any) -> Array:
    """`on_true` where `pred` holds, else `on_false`."""
    return bind(select_n_p, pred, on_false, on_true)


def _clamp_type(lo: ArrayType, x: ArrayType, hi: ArrayType) -> ArrayType:
    for what, t in (("min", lo), ("max", hi)):
        if t.dtype != x.dtype:
            raise DTypeError(
                f"clamp: min, x and max must have one dtype, got {lo.dtype.name}, {x.dtype.name}, {hi.dtype.name}"
            )
        if t.shape and t.shape != x.shape:
            raise ShapeError(f"clamp: {what} must be a scalar or have the operand's shape {x.shape}, got {t.shape}")
    return x


def _clamp_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple:
    lo, x, hi = primals
    out = bind(clamp_p, lo, x, hi)
    total: Any = Zero(tangent_type(out.aval))
    zero = _scalar(0, out)

    def share(mask: Any, t: Any) -> Any:
        if type(t) is Zero:
            return t
        if t.shape != out.shape:
            t = broadcast_in_dim(t, out.shape, ())
        return select(mask, t, zero)

    t_lo, t_x, t_hi = tangents
    if type(t_lo) is not Zero:
        total = add_tangents(total, share(bitwise_and(gt(lo, x), lt(lo, hi)), t_lo))
    if type(t_x) is not Zero:
        total = add_tangents(total, share(bitwise_and(gt(x, lo), lt(x, hi)), t_x))
    if type(t_hi) is not Zero:
        total = add_tangents(total, share(lt(hi, x), t_hi))
    return out, total


def _clamp_batch(args: Sequence[Any], dims: Sequence[int | None]) -> tuple:
    lo, x, hi = args
    size = batch_size(args, dims)
    moved_x = bdim_at_front(x, dims[1], size)
    bounds = []
    for b, d in ((lo, dims[0]), (hi, dims[2])):
        if d is None:
            bounds.append(b if b.ndim == 0 else bdim_at_front(b, None, size))
        else:
            b = move_batch_axis(b, d, 0)
            bounds.append(b if b.ndim == moved_x.ndim else broadcast_in_dim(b, moved_x.shape, (0,)))
    return bind(clamp_p, bounds[0], moved_x, bounds[1]), 0


clamp_p = Primitive(
    "clamp",
    category="arithmetic",
    type_rule=_clamp_type,
    jvp=_clamp_jvp,
    batch=_clamp_batch,
    what="Limits values to an interval.",
    formula="y = min(max(x, lo), hi)",
    why="Keeps values in a range: gradients, probabilities, pixels.",
)


def clamp(min: Any, x: Any, max: Any) -> Array:
    """x limited to [min, max]; the bounds are scalars or have x's shape."""
    return bind(clamp_p, min, x, max)
