"""Element-wise functions: NumPy's ufuncs with JAX's promotion.

Most are one primitive after promotion, stated as one line of a table. Divisions, powers and roundings are in
`arithmetic.py`, floating-point bit manipulation in `floating_bits.py`, compositions in `elementwise.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import DTypeError
from asgfn.numpy.arguments import (
    ArrayLike,
    check_arraylike,
    convert,
    filled,
    numeric,
    promote_args,
    promote_args_inexact,
    promote_shapes,
    to_array,
)
from asgfn.numpy.ufunc import ufunc
from asgfn.tracing import Array

Unary = Callable[[Any], Array]
Binary = Callable[[Any, Any], Array]


def _named(function: Callable, name: str, doc: str) -> Callable:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def _unary(name: str, primitive: Callable, doc: str) -> Unary:
    """A function of any numeric dtype."""

    def function(x: ArrayLike, /) -> Array:
        return primitive(to_array(name, x))

    return _named(function, name, doc)


def _unary_inexact(name: str, primitive: Callable, doc: str) -> Unary:
    """A function of floating and complex numbers; integers are converted to float."""

    def function(x: ArrayLike, /) -> Array:
        return primitive(*promote_args_inexact(name, x))

    return _named(function, name, doc)


def _unary_integral_identity(name: str, primitive: Callable, doc: str) -> Unary:
    """A rounding: integers and booleans are returned as they are."""

    def function(x: ArrayLike, /) -> Array:
        x = to_array(name, x)
        return primitive(x) if dtypes.is_inexact(x.dtype) else x

    return _named(function, name, doc)


def _binary(name: str, primitive: Callable, doc: str) -> Binary:
    def function(x1: ArrayLike, x2: ArrayLike, /) -> Array:
        return primitive(*promote_args(name, x1, x2))

    return _named(function, name, doc)


def _binary_inexact(name: str, primitive: Callable, doc: str) -> Binary:
    def function(x1: ArrayLike, x2: ArrayLike, /) -> Array:
        return primitive(*promote_args_inexact(name, x1, x2))

    return _named(function, name, doc)


def _bitwise(name: str, primitive: Callable, doc: str) -> Binary:
    def function(x1: ArrayLike, x2: ArrayLike, /) -> Array:
        x1, x2 = promote_args(name, x1, x2)
        return primitive(_exact(name, x1), x2)

    return _named(function, name, doc)


def _exact(name: str, x: Any) -> Any:
    if dtypes.is_inexact(x.dtype):
        raise DTypeError(f"{name} takes integers or booleans, got {x.dtype}; convert with .astype first")
    return x


# ------------------------------------------------------------------------------------------ exponentials, logarithms
exp = _unary_inexact("exp", lax.exp, "e to the power x.")
exp2 = _unary_inexact("exp2", lax.exp2, "2 to the power x.")
expm1 = _unary_inexact("expm1", lax.expm1, "exp(x) - 1, accurate near 0.")
log = _unary_inexact("log", lax.log, "Natural logarithm; NaN below 0, -inf at 0.")
log1p = _unary_inexact("log1p", lax.log1p, "log(1 + x), accurate near 0.")
sqrt = _unary_inexact("sqrt", lax.sqrt, "Square root; NaN below 0.")
cbrt = _unary_inexact("cbrt", lax.cbrt, "Cube root; negative for negative x.")

# ------------------------------------------------------------------------------------------------------ trigonometry
sin = _unary_inexact("sin", lax.sin, "Sine of x in radians.")
cos = _unary_inexact("cos", lax.cos, "Cosine of x in radians.")
tan = _unary_inexact("tan", lax.tan, "Tangent of x in radians.")
arcsin = _unary_inexact("arcsin", lax.asin, "Inverse sine, in [-pi/2, pi/2]; NaN outside [-1, 1].")
arccos = _unary_inexact("arccos", lax.acos, "Inverse cosine, in [0, pi]; NaN outside [-1, 1].")
arctan = _unary_inexact("arctan", lax.atan, "Inverse tangent, in [-pi/2, pi/2].")
arctan2 = _binary_inexact(
    "arctan2", lax.atan2, "Angle of the point (x2, x1), in [-pi, pi]: arctan(x1 / x2) by quadrant."
)
sinh = _unary_inexact("sinh", lax.sinh, "Hyperbolic sine.")
cosh = _unary_inexact("cosh", lax.cosh, "Hyperbolic cosine.")
tanh = _unary_inexact("tanh", lax.tanh, "Hyperbolic tangent.")
arcsinh = _unary_inexact("arcsinh", lax.asinh, "Inverse hyperbolic sine.")
arccosh = _unary_inexact("arccosh", lax.acosh, "Inverse hyperbolic cosine; NaN below 1.")
arctanh = _unary_inexact("arctanh", lax.atanh, "Inverse hyperbolic tangent; NaN outside [-1, 1].")

asin, acos, atan, atan2 = arcsin, arccos, arctan, arctan2
asinh, acosh, atanh = arcsinh, arccosh, arctanh


# -------------------------------------------------------------------------------------------------------- arithmetic
def _no_bool(name: str, *operands: Any) -> None:
    if any(x.dtype == np.bool_ for x in operands):
        raise DTypeError(
            f"{name} is not defined for booleans; use logical_not, logical_xor, or convert with .astype(int)"
        )


def _add(x1: Array, x2: Array) -> Array:
    return lax.bitwise_or(x1, x2) if x1.dtype == np.bool_ else lax.add(x1, x2)


def _multiply(x1: Array, x2: Array) -> Array:
    return lax.bitwise_and(x1, x2) if x1.dtype == np.bool_ else lax.mul(x1, x2)


def _subtract(x1: Array, x2: Array) -> Array:
    _no_bool("subtract", x1)
    return lax.sub(x1, x2)


def _cumulative(primitive: Callable) -> Callable[[Array, int], Array]:
    return lambda x, axis: primitive(numeric(x), axis)


def _sum(x: Array, axes: tuple[int, ...]) -> Array:
    return lax.reduce_sum(numeric(x), axes)


def _product(x: Array, axes: tuple[int, ...]) -> Array:
    return lax.reduce_prod(numeric(x), axes)


add = ufunc(_binary("add", _add, "Sum x1 + x2; logical or for booleans."), 0, _sum, _cumulative(lax.cumsum))
subtract = ufunc(_binary("subtract", _subtract, "Difference x1 - x2; not defined for booleans."))
multiply = ufunc(
    _binary("multiply", _multiply, "Product x1 * x2; logical and for booleans."), 1, _product, _cumulative(lax.cumprod)
)
divide = _binary_inexact("divide", lax.div, "Quotient x1 / x2, always floating or complex.")
true_divide = divide
maximum = ufunc(
    _binary("maximum", lax.max, "The larger of x1 and x2; NaN when either is NaN."), None, lax.reduce_max, lax.cummax
)
minimum = ufunc(
    _binary("minimum", lax.min, "The smaller of x1 and x2; NaN when either is NaN."), None, lax.reduce_min, lax.cummin
)


def negative(x: ArrayLike, /) -> Array:
    """-x; not defined for booleans. Unsigned integers wrap around."""
    x = to_array("negative", x)
    _no_bool("negative", x)
    return lax.neg(x)


def positive(x: ArrayLike, /) -> Array:
    """x itself."""
    return to_array("positive", x)


def square(x: ArrayLike, /) -> Array:
    """x * x."""
    return lax.square(numeric(to_array("square", x)))


def reciprocal(x: ArrayLike, /) -> Array:
    """1 / x, always floating or complex."""
    (x,) = promote_args_inexact("reciprocal", x)
    return lax.integer_pow(x, -1)


def absolute(x: ArrayLike, /) -> Array:
    """|x|; the modulus, a real number, for complex x."""
    x = to_array("absolute", x)
    return x if x.dtype == np.bool_ or dtypes.is_unsigned_integer(x.dtype) else lax.abs(x)


abs = absolute


def fabs(x: ArrayLike, /) -> Array:
    """|x| as a floating number; not defined for complex x."""
    (x,) = promote_args_inexact("fabs", x)
    if dtypes.is_complex(x.dtype):
        raise DTypeError("fabs is not defined for complex numbers; use abs")
    return lax.abs(x)


def sign(x: ArrayLike, /) -> Array:
    """-1, 0 or 1 by the sign of x; x / |x| for complex x; NaN for NaN; not defined for booleans."""
    x = to_array("sign", x)
    _no_bool("sign", x)
    return lax.sign(x)


floor = _unary_integral_identity("floor", lax.floor, "The largest integer not above x, in x's dtype.")
ceil = _unary_integral_identity("ceil", lax.ceil, "The smallest integer not below x, in x's dtype.")


# ------------------------------------------------------------------------------------------------------- comparisons
def _ordered(real: Callable) -> Callable:
    """Complex numbers are ordered by their real part, then by their imaginary part, as in NumPy."""

    def compare(x1: Array, x2: Array) -> Array:
        if not dtypes.is_complex(x1.dtype):
            return real(x1, x2)
        re1, re2 = lax.real(x1), lax.real(x2)
        return lax.select(lax.eq(re1, re2), real(lax.imag(x1), lax.imag(x2)), real(re1, re2))

    return compare


equal = _binary("equal", lax.eq, "x1 == x2, a boolean array; NaN equals nothing.")
not_equal = _binary("not_equal", lax.ne, "x1 != x2, a boolean array; NaN differs from everything.")
less = _binary("less", _ordered(lax.lt), "x1 < x2, a boolean array; False with NaN.")
less_equal = _binary("less_equal", _ordered(lax.le), "x1 <= x2, a boolean array; False with NaN.")
greater = _binary("greater", _ordered(lax.gt), "x1 > x2, a boolean array; False with NaN.")
greater_equal = _binary("greater_equal", _ordered(lax.ge), "x1 >= x2, a boolean array; False with NaN.")


# ------------------------------------------------------------------------------------------------------------- logic
def to_bool(x: Any) -> Any:
    """Truth of each element: NaN is true."""
    return x if x.dtype == np.bool_ else convert(x, np.dtype(np.bool_))


def _logical(name: str, primitive: Callable, doc: str) -> Binary:
    def function(x1: ArrayLike, x2: ArrayLike, /) -> Array:
        check_arraylike(name, x1, x2)
        boolean = np.dtype(np.bool_)
        return primitive(*promote_shapes(name, convert(x1, boolean), convert(x2, boolean)))

    return _named(function, name, doc)


logical_and = ufunc(
    _logical("logical_and", lax.bitwise_and, "True where both are true (not zero)."), True, lax.reduce_and
)
logical_or = ufunc(
    _logical("logical_or", lax.bitwise_or, "True where at least one is true (not zero)."), False, lax.reduce_or
)
logical_xor = ufunc(
    _logical("logical_xor", lax.bitwise_xor, "True where exactly one is true (not zero)."), False, lax.reduce_xor
)


def logical_not(x: ArrayLike, /) -> Array:
    """True where x is zero."""
    return lax.bitwise_not(to_bool(to_array("logical_not", x)))


bitwise_and = ufunc(_bitwise("bitwise_and", lax.bitwise_and, "x1 & x2, bit by bit."), -1, lax.reduce_and)
bitwise_or = ufunc(_bitwise("bitwise_or", lax.bitwise_or, "x1 | x2, bit by bit."), 0, lax.reduce_or)
bitwise_xor = ufunc(_bitwise("bitwise_xor", lax.bitwise_xor, "x1 ^ x2, bit by bit."), 0, lax.reduce_xor)


def bitwise_not(x: ArrayLike, /) -> Array:
    """~x, bit by bit; logical not for booleans."""
    return lax.bitwise_not(_exact("bitwise_not", to_array("bitwise_not", x)))


invert = bitwise_invert = bitwise_not


def _shift(name: str, shift: Callable, doc: str) -> Binary:
    def function(x1: ArrayLike, x2: ArrayLike, /) -> Array:
        x1, x2 = promote_args(name, x1, x2)
        return shift(numeric(_exact(name, x1)), numeric(x2))

    return _named(function, name, doc)


def _shift_right(x1: Array, x2: Array) -> Array:
    logical = dtypes.is_unsigned_integer(x1.dtype)
    return lax.shift_right_logical(x1, x2) if logical else lax.shift_right_arithmetic(x1, x2)


left_shift = _shift("left_shift", lax.shift_left, "x1 << x2; 0 when x2 is not less than the number of bits.")
right_shift = _shift("right_shift", _shift_right, "x1 >> x2, keeping the sign.")
bitwise_left_shift, bitwise_right_shift = left_shift, right_shift


def bitwise_count(x: ArrayLike, /) -> Array:
    """Number of 1 bits of |x|, as uint8."""
    x = _exact("bitwise_count", to_array("bitwise_count", x))
    if x.dtype == np.bool_:
        return lax.convert_element_type(x, np.dtype(np.uint8))
    return convert(lax.population_count(absolute(x)), np.dtype(np.uint8))


# ----------------------------------------------------------------------------------------------------- complex parts
def conjugate(x: ArrayLike, /) -> Array:
    """The complex conjugate; x itself when it is real."""
    x = to_array("conjugate", x)
    return lax.conj(x) if dtypes.is_complex(x.dtype) else x


conj = conjugate


def real(val: ArrayLike, /) -> Array:
    """The real part; val itself when it is real."""
    val = to_array("real", val)
    return lax.real(val) if dtypes.is_complex(val.dtype) else val


def imag(val: ArrayLike, /) -> Array:
    """The imaginary part; zeros of the same dtype when val is real."""
    val = to_array("imag", val)
    return lax.imag(val) if dtypes.is_complex(val.dtype) else filled(val.shape, 0, val.dtype)


# ---------------------------------------------------------------------------------------------------- classification
def isfinite(x: ArrayLike, /) -> Array:
    """True where x is neither infinite nor NaN."""
    x = to_array("isfinite", x)
    if not dtypes.is_inexact(x.dtype):
        return filled(x.shape, True, np.dtype(np.bool_))
    if dtypes.is_complex(x.dtype):
        return lax.bitwise_and(lax.is_finite(lax.real(x)), lax.is_finite(lax.imag(x)))
    return lax.is_finite(x)


def isnan(x: ArrayLike, /) -> Array:
    """True where x is NaN (for complex x, where either part is)."""
    x = to_array("isnan", x)
    return lax.ne(x, x) if dtypes.is_inexact(x.dtype) else filled(x.shape, False, np.dtype(np.bool_))


def isinf(x: ArrayLike, /) -> Array:
    """True where x is plus or minus infinity (for complex x, where either part is)."""
    x = to_array("isinf", x)
    if not dtypes.is_inexact(x.dtype):
        return filled(x.shape, False, np.dtype(np.bool_))
    if dtypes.is_complex(x.dtype):
        return lax.bitwise_or(isinf(lax.real(x)), isinf(lax.imag(x)))
    return lax.eq(lax.abs(x), x.dtype.type(np.inf))


def _is_infinity(name: str, x: ArrayLike, infinity: float) -> Array:
    x = to_array(name, x)
    if dtypes.is_complex(x.dtype):
        raise DTypeError(f"{name} is not defined for complex numbers, which have no sign")
    if not dtypes.is_floating(x.dtype):
        return filled(x.shape, False, np.dtype(np.bool_))
    return lax.eq(x, x.dtype.type(infinity))


def isposinf(x: ArrayLike, /) -> Array:
    """True where x is +inf."""
    return _is_infinity("isposinf", x, np.inf)


def isneginf(x: ArrayLike, /) -> Array:
    """True where x is -inf."""
    return _is_infinity("isneginf", x, -np.inf)
