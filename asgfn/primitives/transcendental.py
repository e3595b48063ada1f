"""Exponentials, logarithms, powers and trigonometry, element by element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn import dtypes
from asgfn.errors import DTypeError
from asgfn.graph.types import ArrayType
from asgfn.primitives.base import FLOAT, INEXACT, Primitive, Zero, add_tangents, elementwise, tangent_type
from asgfn.primitives.base import broadcast_type as _broadcast_type
from asgfn.primitives.elementwise import (
    _scalar,
    add,
    div,
    eq,
    integer_pow,
    mul,
    neg,
    reciprocal,
    select,
    square,
    sub,
)
from asgfn.primitives.shaping import broadcast_in_dim, convert_element_type, full_like
from asgfn.tracing import Array, bind


def _transcendental(
    name: str, jvp: Any, what: str, formula: str, why: str, kinds: Sequence[str] = INEXACT
) -> Primitive:
    return elementwise(name, 1, kinds=kinds, jvp=[jvp], category="transcendental", what=what, formula=formula, why=why)


def _one(x: Any) -> Array:
    return _scalar(1, x)


exp_p = _transcendental("exp", lambda g, y, x: mul(g, y), "Exponential.", "y = e^x", "Softmax, likelihoods, growth.")
exp2_p = _transcendental(
    "exp2", lambda g, y, x: mul(mul(g, y), _scalar(np.log(2.0), x)), "Power of two.", "y = 2^x", "Scales in octaves."
)
expm1_p = _transcendental(
    "expm1",
    lambda g, y, x: mul(g, add(y, _one(x))),
    "e^x - 1 without losing digits near 0.",
    "y = e^x - 1",
    "ELU, rates.",
)
log_p = _transcendental("log", lambda g, y, x: div(g, x), "Natural logarithm.", "y = ln(x)", "Likelihoods, entropies.")
log1p_p = _transcendental(
    "log1p",
    lambda g, y, x: div(g, add(x, _one(x))),
    "ln(1 + x) without losing digits near 0.",
    "y = ln(1 + x)",
    "Softplus.",
)
logistic_p = _transcendental(
    "logistic",
    lambda g, y, x: mul(g, mul(y, sub(_one(x), y))),
    "Sigmoid.",
    "y = 1 / (1 + e^-x)",
    "Gates, probabilities.",
)
sqrt_p = _transcendental(
    "sqrt",
    lambda g, y, x: mul(g, div(_scalar(0.5, x), y)),
    "Square root.",
    "y = sqrt(x)",
    "Norms, standard deviations.",
)
rsqrt_p = _transcendental(
    "rsqrt", lambda g, y, x: mul(g, mul(_scalar(-0.5, x), div(y, x))), "Reciprocal square root.", "y = 1 / sqrt(x)",
    "Normalisation layers.",
)  # fmt: skip
cbrt_p = _transcendental(
    "cbrt", lambda g, y, x: mul(g, mul(_scalar(1 / 3, x), mul(y, reciprocal(x)))), "Cube root.", "y = x^(1/3)", "Volumes.",
    FLOAT,
)  # fmt: skip
sin_p = _transcendental(
    "sin", lambda g, y, x: mul(g, cos(x)), "Sine.", "y = sin(x)", "Positional encodings, oscillations."
)
cos_p = _transcendental(
    "cos", lambda g, y, x: neg(mul(g, sin(x))), "Cosine.", "y = cos(x)", "Positional encodings, rotations."
)
tan_p = _transcendental("tan", lambda g, y, x: mul(g, add(_one(x), square(y))), "Tangent.", "y = tan(x)", "Angles.")
asin_p = _transcendental(
    "asin", lambda g, y, x: mul(g, rsqrt(sub(_one(x), square(x)))), "Inverse sine.", "y = arcsin(x)", "Angles."
)
acos_p = _transcendental(
    "acos", lambda g, y, x: mul(g, neg(rsqrt(sub(_one(x), square(x))))), "Inverse cosine.", "y = arccos(x)", "Angles."
)
atan_p = _transcendental(
    "atan", lambda g, y, x: div(g, add(_one(x), square(x))), "Inverse tangent.", "y = arctan(x)", "Angles."
)
sinh_p = _transcendental(
    "sinh", lambda g, y, x: mul(g, cosh(x)), "Hyperbolic sine.", "y = sinh(x)", "Hyperbolic geometry."
)
cosh_p = _transcendental("cosh", lambda g, y, x: mul(g, sinh(x)), "Hyperbolic cosine.", "y = cosh(x)", "Robust losses.")
tanh_p = _transcendental(
    "tanh",
    lambda g, y, x: mul(g, sub(_one(x), square(y))),
    "Hyperbolic tangent.",
    "y = tanh(x)",
    "Bounded activations.",
)
asinh_p = _transcendental(
    "asinh", lambda g, y, x: mul(g, rsqrt(add(square(x), _one(x)))), "Inverse hyperbolic sine.", "y = arsinh(x)",
    "Logarithmic scales through zero.",
)  # fmt: skip
acosh_p = _transcendental(
    "acosh", lambda g, y, x: mul(g, mul(rsqrt(sub(x, _one(x))), rsqrt(add(x, _one(x))))), "Inverse hyperbolic cosine.",
    "y = arcosh(x)", "Hyperbolic distances.",
)  # fmt: skip
atanh_p = _transcendental(
    "atanh", lambda g, y, x: mul(reciprocal(add(_one(x), x)), div(g, sub(_one(x), x))), "Inverse hyperbolic tangent.",
    "y = artanh(x)", "Fisher transform.",
)  # fmt: skip
atan2_p = elementwise(
    "atan2", 2, kinds=INEXACT, category="transcendental",
    jvp=[
        lambda g, z, y, x: mul(g, div(x, add(square(x), square(y)))),
        lambda g, z, y, x: mul(g, div(neg(y), add(square(x), square(y)))),
    ],
    what="Angle of the point (x, y), in (-pi, pi].", formula="z = atan2(y, x)", why="Phases and headings.",
)  # fmt: skip


def _pow_type(x: ArrayType, y: ArrayType) -> ArrayType:
    if dtypes.is_inexact(x.dtype) and dtypes.is_integer(y.dtype):
        joined = _broadcast_type("pow", (x, y.update(dtype=x.dtype)))
        return joined.update(weak_type=x.weak_type)
    if not dtypes.is_inexact(x.dtype) and x.dtype != y.dtype:
        raise DTypeError(
            f"pow takes a float or complex base with an exponent of that dtype or an integer one, got {x} and {y}"
        )
    return _broadcast_type("pow", (x, y))


def _pow_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple:
    x, y = primals
    gx, gy = tangents
    out = bind(pow_p, x, y)
    total: Any = Zero(tangent_type(out.aval))
    if type(gx) is not Zero:
        if gx.shape != out.shape:
            gx = broadcast_in_dim(gx, out.shape, ())
        one = _scalar(1, y)
        # x^0 is constant, also where x^(y-1) is not finite
        slope = mul(convert_element_type(y, x.dtype), pow(x, select(eq(y, _scalar(0, y)), one, sub(y, one))))
        total = add_tangents(total, mul(gx, slope))
    if type(gy) is not Zero and dtypes.is_inexact(y.dtype):
        if gy.shape != out.shape:
            gy = broadcast_in_dim(gy, out.shape, ())
        # 0^y is constant for y > 0: take log(1) there instead of log(0) * 0
        safe = select(eq(x, _scalar(0, x)), full_like(x, 1), x)
        total = add_tangents(total, mul(gy, mul(log(safe), out)))
    return out, total


pow_p = elementwise(
    "pow", 2, kinds=INEXACT, category="transcendental", what="Power.", formula="z = x^y", why="Power laws, norms, schedules."
)  # fmt: skip
pow_p.type_rule = _pow_type
pow_p.jvp = _pow_jvp


def exp(x: Any, accuracy: Any = None) -> Array:
    """e^x."""
    return bind(exp_p, x)


def exp2(x: Any, accuracy: Any = None) -> Array:
    """2^x."""
    return bind(exp2_p, x)


def expm1(x: Any, accuracy: Any = None) -> Array:
    """e^x - 1, accurate near 0."""
    return bind(expm1_p, x)


def log(x: Any, accuracy: Any = None) -> Array:
    """Natural logarithm."""
    return bind(log_p, x)


def log1p(x: Any, accuracy: Any = None) -> Array:
    """ln(1 + x), accurate near 0."""
    return bind(log1p_p, x)


def logistic(x: Any, accuracy: Any = None) -> Array:
    """1 / (1 + e^-x)."""
    return bind(logistic_p, x)


def pow(x: Any, y: Any) -> Array:
    """x^y; y has x's dtype or is an integer (a Python int gives `integer_pow`)."""
    if type(y) is int:
        return integer_pow(x, y)
    return bind(pow_p, x, y)


def sqrt(x: Any, accuracy: Any = None) -> Array:
    """Square root; NaN for negative reals."""
    return bind(sqrt_p, x)


def rsqrt(x: Any, accuracy: Any = None) -> Array:
    """1 / sqrt(x)."""
    return bind(rsqrt_p, x)


def cbrt(x: Any, accuracy: Any = None) -> Array:
    """Real cube root."""
    return bind(cbrt_p, x)


def sin(x: Any, accuracy: Any = None) -> Array:
    """Sine of x in radians."""
    return bind(sin_p, x)


def cos(x: Any, accuracy: Any = None) -> Array:
    """Cosine of x in radians."""
    return bind(cos_p, x)


def tan(x: Any, accuracy: Any = None) -> Array:
    """Tangent of x in radians."""
    return bind(tan_p, x)


def asin(x: Any) -> Array:
    """Inverse sine, in radians."""
    return bind(asin_p, x)


def acos(x: Any) -> Array:
    """Inverse cosine, in radians."""
    return bind(acos_p, x)


def atan(x: Any) -> Array:
    """Inverse tangent, in radians."""
    return bind(atan_p, x)


def atan2(x: Any, y: Any) -> Array:
    """Angle of the point (y, x): atan(x / y) in the right quadrant, in radians."""
    return bind(atan2_p, x, y)


def sinh(x: Any) -> Array:
    """Hyperbolic sine."""
    return bind(sinh_p, x)


def cosh(x: Any) -> Array:
    """Hyperbolic cosine."""
    return bind(cosh_p, x)


def tanh(x: Any, accuracy: Any = None) -> Array:
    """Hyperbolic tangent."""
    return bind(tanh_p, x)


def asinh(x: Any) -> Array:
    """Inverse hyperbolic sine."""
    return bind(asinh_p, x)


def acosh(x: Any) -> Array:
    """Inverse hyperbolic cosine."""
    return bind(acosh_p, x)


def atanh(x: Any) -> Array:
    """Inverse hyperbolic tangent."""
    return bind(atanh_p, x)
