"""Division, remainders, powers, rounding, and the integer functions gcd and lcm."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from asgfn import dtypes, lax
from asgfn.errors import DTypeError
from asgfn.numpy.arguments import (
    ArrayLike,
    broadcast_operand,
    check_arraylike,
    constant,
    convert,
    filled,
    numeric,
    promote_args,
    promote_args_inexact,
    refuse_out,
    to_array,
)
from asgfn.tracing import Array

# ---------------------------------------------------------------------------------------------------------- division


def _real_operands(name: str, x1: ArrayLike, x2: ArrayLike) -> tuple[Any, Any]:
    x1, x2 = map(numeric, promote_args(name, x1, x2))
    if dtypes.is_complex(x1.dtype):
        raise DTypeError(f"{name} is not defined for complex numbers (operands are {x1.dtype})")
    return x1, x2


def floor_divide(x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """The largest integer not above x1 / x2, as Python's `//`: -7 // 2 is -4. Same dtype as the operands."""
    sign = _known_sign(x2)
    x1, x2 = _real_operands("floor_divide", x1, x2)
    if dtypes.is_unsigned_integer(x1.dtype):
        return lax.div(x1, x2)
    if dtypes.is_integer(x1.dtype):
        quotient = lax.div(x1, x2)
        return lax.sub(quotient, convert(_needs_correction(lax.rem(x1, x2), x2, sign), x1.dtype))
    dividend, divisor, _ = _with_positive_divisor(x1, x2, sign)
    rest = _float_remainder(dividend, divisor)
    return _float_floor_divide(dividend, divisor, rest, lax.div(x1, x2), sign)


def _known_sign(x: ArrayLike) -> int:
    """1 or -1 for a Python number other than 0, inf and NaN: `x // 2` takes a fraction of the nodes of `x // y`."""
    known = type(x) in (int, float) and math.isfinite(x) and x != 0
    return (1 if x > 0 else -1) if known else 0


def _needs_correction(truncated: Any, x2: Any, sign: int) -> Array:
    """Where the remainder of the truncated division is not 0 and does not have the divisor's sign."""
    zero = constant(0, truncated.dtype)
    if sign:
        return lax.lt(truncated, zero) if sign > 0 else lax.gt(truncated, zero)
    opposite = lax.bitwise_xor(lax.lt(truncated, zero), lax.lt(x2, zero))
    return lax.bitwise_and(opposite, lax.ne(truncated, zero))


def _integer_remainder(x1: Any, x2: Any, sign: int) -> Array:
    truncated = lax.rem(x1, x2)
    correction = lax.select(_needs_correction(truncated, x2, sign), x2, constant(0, truncated.dtype))
    return lax.add(truncated, correction)


def _with_positive_divisor(x1: Any, x2: Any, sign: int) -> tuple[Any, Any, Any]:
    """Floats s * x1, s * x2 and s for s the sign of x2 (None for 1): the quotient is the same, the remainder s times.

    So the rules below need one sign of the divisor only, and the signs of zeros come out as IEEE 754 has them.
    """
    if sign > 0:
        return x1, x2, None
    s = constant(-1, x2.dtype) if sign else lax.sign(x2)
    return lax.mul(x1, s), lax.mul(x2, s), s


def _float_remainder(x1: Any, x2: Any) -> Array:
    """For a divisor that is not negative."""
    truncated = lax.rem(x1, x2)
    zero = constant(0, truncated.dtype)
    # adding 0 where nothing is to be corrected turns -0 into +0, the sign that a remainder by x2 > 0 has
    return lax.add(truncated, lax.select(lax.lt(truncated, zero), x2, zero))


def _float_floor_divide(x1: Any, x2: Any, remainder: Any, quotient: Any, sign: int) -> Array:
    """For a divisor that is not negative; finite, not 0 and not NaN where `sign` is not 0."""
    # (x1 - remainder) / x2 is a whole number up to rounding error: round it. Where that is not a number, x1 or 1 / x2
    # is infinite (the floor is, too) or one of them is NaN, and the quotient says which.
    whole = lax.round(lax.div(lax.sub(x1, remainder), x2), lax.RoundingMethod.TO_NEAREST_EVEN)
    if sign:
        return lax.select(lax.is_finite(x1), whole, quotient)
    # a negative number over inf: -1, which inf - inf above lost
    lost = lax.bitwise_and(lax.lt(x1, constant(0, x1.dtype)), lax.eq(x2, constant(math.inf, x2.dtype)))
    whole = lax.select(lost, constant(-1, whole.dtype), whole)
    finite = lax.bitwise_and(lax.is_finite(x1), lax.ne(x2, constant(0, x2.dtype)))
    return lax.select(finite, whole, quotient)


def remainder(x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """x1 - x2 * floor_divide(x1, x2), with the sign of x2, as Python's `%`: -7 % 3 is 2."""
    sign = _known_sign(x2)
    x1, x2 = _real_operands("remainder", x1, x2)
    if dtypes.is_unsigned_integer(x1.dtype):
        return lax.rem(x1, x2)
    if dtypes.is_integer(x1.dtype):
        return _integer_remainder(x1, x2, sign)
    dividend, divisor, s = _with_positive_divisor(x1, x2, sign)
    rest = _float_remainder(dividend, divisor)
    return rest if s is None else lax.mul(rest, s)


mod = remainder


def fmod(x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """The remainder of the truncated division, with the sign of x1, as in C: fmod(-7, 3) is -1."""
    return lax.rem(*_real_operands("fmod", x1, x2))


def divmod(x1: ArrayLike, x2: ArrayLike, /) -> tuple[Array, Array]:
    """(floor_divide(x1, x2), remainder(x1, x2))."""
    check_arraylike("divmod", x1, x2)
    if not dtypes.is_inexact(dtypes.result_type(x1, x2)):
        return floor_divide(x1, x2), remainder(x1, x2)
    sign = _known_sign(x2)
    x1, x2 = _real_operands("divmod", x1, x2)
    dividend, divisor, s = _with_positive_divisor(x1, x2, sign)
    rest = _float_remainder(dividend, divisor)
    floor = _float_floor_divide(dividend, divisor, rest, lax.div(x1, x2), sign)
    return floor, rest if s is None else lax.mul(rest, s)


# ------------------------------------------------------------------------------------------------------------ powers


def power(x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """x1 to the power x2.

    A Python int as exponent becomes repeated multiplication (`lax.integer_pow`), exact and differentiable at 0.

    Raises:
        DTypeError: an integer array to a negative Python int; the result would not be an integer.
    """
    check_arraylike("power", x1, x2)
    if type(x2) is int:
        return _integer_power(numeric(to_array("power", x1)), x2)
    x1, x2 = promote_args("power", x1, x2)
    if dtypes.is_inexact(x1.dtype):
        return lax.pow(x1, x2)
    return _power_of_integers(numeric(x1), numeric(x2))


pow = power


def _integer_power(x: Array, exponent: int) -> Array:
    if exponent < 0 and dtypes.is_integer(x.dtype):
        raise DTypeError(
            f"power: integers cannot be raised to negative powers, got {x.dtype} ** {exponent}; "
            f"make the base floating: x.astype(float) ** {exponent}"
        )
    return lax.integer_pow(x, exponent)


def _power_of_integers(base: Any, exponent: Any) -> Array:
    """Exponentiation by squaring, in wrapping arithmetic; 1 / x truncated towards 0 for negative exponents."""
    one, zero = constant(1, base.dtype), constant(0, base.dtype)
    shape = base.shape or exponent.shape
    base, exponent = broadcast_operand(base, shape), broadcast_operand(exponent, shape)
    if dtypes.is_signed_integer(base.dtype):
        vanishes = lax.bitwise_and(lax.lt(exponent, zero), lax.ne(lax.abs(base), one))
        base = lax.select(vanishes, zero, base)
        exponent = lax.abs(exponent)

    def step(state: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        result, square, left = state
        odd = lax.eq(lax.bitwise_and(left, one), one)
        result = lax.select(odd, lax.mul(result, square), result)
        return result, lax.mul(square, square), lax.shift_right_logical(left, one)

    def unfinished(state: tuple[Any, Any, Any]) -> Any:
        left = state[2]
        return lax.reduce_or(lax.ne(left, zero), tuple(range(left.ndim)))

    result, _, _ = lax.while_loop(unfinished, step, (filled(shape, 1, base.dtype), base, exponent))
    return result


def float_power(x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """x1 to the power x2, computed in the default float (or complex) at least."""
    x1, x2 = promote_args_inexact("float_power", x1, x2)
    return lax.pow(x1, x2)


# ---------------------------------------------------------------------------------------------------------- rounding


def _on_parts(function: Any, x: Any) -> Array:
    if dtypes.is_complex(x.dtype):
        return lax.complex(function(lax.real(x)), function(lax.imag(x)))
    return function(x)


def _round_half_even(x: Any) -> Array:
    return lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN)


def round(a: ArrayLike, decimals: int = 0, out: None = None) -> Array:
    """Rounds to `decimals` places, halves to the even neighbour: round(0.5) is 0, round(1.5) is 2.

    Negative decimals round to tens, hundreds, ...; integers stay integers.
    """
    refuse_out("round", out)
    a = to_array("round", a)
    decimals = int(decimals)
    if not dtypes.is_inexact(a.dtype):
        return _round_integers(a, -decimals) if decimals < 0 else a
    if decimals == 0:
        return _on_parts(_round_half_even, a)

    def scaled(x: Any) -> Array:
        wide = convert(x, np.dtype(np.float32)) if x.dtype.itemsize < 4 else x
        factor = constant(10.0 ** builtins.abs(decimals), wide.dtype)
        if decimals > 0:
            return convert(lax.div(_round_half_even(lax.mul(wide, factor)), factor), x.dtype)
        return convert(lax.mul(_round_half_even(lax.div(wide, factor)), factor), x.dtype)

    return _on_parts(scaled, a)


around = round


def _round_integers(x: Array, places: int) -> Array:
    power = 10**places
    if power > np.iinfo(x.dtype).max:
        return filled(x.shape, 0, x.dtype)
    unit, half = constant(power, x.dtype), constant(power // 2, x.dtype)
    quotient, rest = divmod(x, unit)
    odd = lax.ne(lax.bitwise_and(quotient, constant(1, x.dtype)), constant(0, x.dtype))
    up = lax.bitwise_or(lax.gt(rest, half), lax.bitwise_and(lax.eq(rest, half), odd))
    return lax.mul(lax.add(quotient, convert(up, x.dtype)), unit)


def rint(x: ArrayLike, /) -> Array:
    """The nearest whole number, halves to even, as a floating number."""
    return _on_parts(_round_half_even, *promote_args_inexact("rint", x))


def trunc(x: ArrayLike, /) -> Array:
    """x without its fraction (rounded towards 0), in x's dtype."""
    x = to_array("trunc", x)
    if not dtypes.is_inexact(x.dtype):
        return x
    return lax.select(lax.lt(x, constant(0, x.dtype)), lax.ceil(x), lax.floor(x))


fix = trunc

# ---------------------------------------------------------------------------------------------------------- integers


def _integer_operands(name: str, x1: ArrayLike, x2: ArrayLike) -> list[Any]:
    x1, x2 = promote_args(name, x1, x2)
    if not dtypes.is_integer(x1.dtype):
        raise DTypeError(f"{name} takes integers, got {x1.dtype}")
    shape = x1.shape or x2.shape
    return [broadcast_operand(x, shape) for x in (x1, x2)]


def gcd(x1: ArrayLike, x2: ArrayLike) -> Array:
    """Greatest common divisor of integers, not negative; gcd(0, 0) is 0. Euclid's algorithm."""
    x1, x2 = _integer_operands("gcd", x1, x2)
    if dtypes.is_signed_integer(x1.dtype):
        x1, x2 = lax.abs(x1), lax.abs(x2)
    zero, one = constant(0, x1.dtype), constant(1, x1.dtype)

    def step(pair: tuple[Any, Any]) -> tuple[Any, Any]:
        a, b = pair
        done = lax.eq(b, zero)
        rest = lax.rem(a, lax.max(b, one))
        return lax.select(done, a, b), lax.select(done, b, rest)

    def unfinished(pair: tuple[Any, Any]) -> Any:
        return lax.reduce_or(lax.ne(pair[1], zero), tuple(range(pair[1].ndim)))

    return lax.while_loop(unfinished, step, (x1, x2))[0]


def lcm(x1: ArrayLike, x2: ArrayLike) -> Array:
    """Least common multiple of integers, not negative; 0 when either is 0."""
    x1, x2 = _integer_operands("lcm", x1, x2)
    divisor = gcd(x1, x2)
    if dtypes.is_signed_integer(x1.dtype):
        x1, x2 = lax.abs(x1), lax.abs(x2)
    return lax.mul(x1, lax.div(x2, lax.max(divisor, constant(1, x1.dtype))))
