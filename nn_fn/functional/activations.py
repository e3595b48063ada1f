"""Activations: functions of each element, softmax and its relatives, gates.

Names, arguments and numerics are `torch.nn.functional`'s; gradients at kinks, too, which is where these differ from
`asgfn.nn`. An activation takes an array of any shape and gives one of the same shape and dtype, unless it says
otherwise; integers are converted to floating point.
"""

from __future__ import annotations

import math
from typing import Any

import asgfn
import asgfn.nn
import asgfn.numpy as jnp
from asgfn import lax, random
from asgfn.errors import ShapeError
from asgfn.nn import glu as glu
from asgfn.nn import mish as mish
from asgfn.nn import relu as relu
from asgfn.nn import relu6 as relu6
from asgfn.nn import selu as selu
from asgfn.nn import sigmoid as sigmoid
from asgfn.nn import silu as silu
from asgfn.nn import tanh as tanh
from asgfn.numpy.arguments import normalize_axis, promote_args_inexact
from asgfn.tracing import Array
from nn_fn.functional.arguments import float_array, one_of, same_dtype


def _float(name: str, x: Any) -> Array:
    (x,) = promote_args_inexact(name, x)
    return x


# ---------------------------------------------------------------------------------------------- piecewise linear
def threshold(x: Any, threshold: float, value: float) -> Array:
    """x where x > threshold, else `value`; the gradient at the threshold is 0."""
    x = _float("threshold", x)
    return jnp.where(x <= threshold, value, x)


def hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0) -> Array:
    """x clipped to [min_val, max_val]; the gradient at both ends is 0.

    Raises:
        ValueError: min_val > max_val.
    """
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val {min_val} must not exceed max_val {max_val}")
    x = _float("hardtanh", x)
    return jnp.where(x <= min_val, min_val, jnp.where(x >= max_val, max_val, x))


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Array:
    """x where x > 0, else negative_slope * x; the gradient at 0 is the slope."""
    x = _float("leaky_relu", x)
    return jnp.where(x > 0, x, negative_slope * x)


def prelu(x: Any, weight: Any) -> Array:
    """x where x > 0, else weight * x, with a learned weight (He et al., 2015). The gradient at 0 is the weight.

    Arguments:
        x: float; channels are axis 1 of an array with two axes or more.
        weight: float, a scalar, [1], or [channels].

    Raises:
        ShapeError: the weight has another shape.
        DTypeError: an operand is not floating point, or their dtypes differ.
    """
    x, weight = float_array("prelu", "x", x), float_array("prelu", "weight", weight)
    same_dtype("prelu", x=x, weight=weight)
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.ndim > 1 or (weight.ndim == 1 and weight.shape[0] not in (1, channels)):
        raise ShapeError(
            f"prelu: weight must be a scalar, [1] or [{channels}], one a channel (axis 1) of x; got {weight.aval} for "
            f"x {x.aval}"
        )
    per_channel = weight.reshape(weight.size, *(1,) * (x.ndim - 2)) if weight.size > 1 else weight.reshape(())
    return jnp.where(x > 0, x, per_channel * x)


def rrelu(x: Any, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, *, key: Any = None) -> Array:
    """Leaky ReLU with random slopes: uniform in [lower, upper] for each element while training, else their middle.

    Source: B. Xu et al., Empirical Evaluation of Rectified Activations in Convolution Network, 2015.

    Raises:
        ValueError: lower > upper, or training without a key.
    """
    if lower > upper:
        raise ValueError(f"rrelu: lower {lower} must not exceed upper {upper}")
    x = _float("rrelu", x)
    if not training:
        return leaky_relu(x, (lower + upper) / 2)
    if key is None:
        raise ValueError("rrelu: training draws random slopes; pass key=asgfn.random.key(...)")
    slope = random.uniform(key, x.shape, x.dtype, lower, upper)
    return jnp.where(x > 0, x, slope * x)


def hardsigmoid(x: Any) -> Array:
    """relu6(x + 3) / 6."""
    return relu6(_float("hardsigmoid", x) + 3.0) / 6.0


def hardswish(x: Any) -> Array:
    """x * relu6(x + 3) / 6 (Howard et al., 2019); the gradient is 0 at -3 and 1 at 3."""
    x = _float("hardswish", x)
    inside = jnp.where((x <= -3) | (x >= 3), 0, x)
    return jnp.where(x <= -3, 0, jnp.where(x >= 3, x, inside * (inside + 3.0) / 6.0))


def hardshrink(x: Any, lambd: float = 0.5) -> Array:
    """0 where |x| <= lambd, else x."""
    x = _float("hardshrink", x)
    return jnp.where((x >= -lambd) & (x <= lambd), 0, x)


def softshrink(x: Any, lambd: float = 0.5) -> Array:
    """x moved towards 0 by lambd, and 0 where |x| <= lambd.

    Raises:
        ValueError: lambd is negative.
    """
    if lambd < 0:
        raise ValueError(f"softshrink: lambd must not be negative, got {lambd}")
    x = _float("softshrink", x)
    return jnp.where(x > lambd, x - lambd, jnp.where(x < -lambd, x + lambd, jnp.where(jnp.isnan(x), x, 0)))


# ---------------------------------------------------------------------------------------------- smooth
def elu(x: Any, alpha: float = 1.0) -> Array:
    """x where x > 0, else alpha * (exp(x) - 1) (Clevert et al., 2015); the gradient at 0 is alpha."""
    return asgfn.nn.elu(x, alpha)


def celu(x: Any, alpha: float = 1.0) -> Array:
    """max(x, 0) + min(alpha * (exp(x / alpha) - 1), 0) (Barron, 2017).

    Raises:
        ValueError: alpha is 0.
    """
    if alpha == 0:
        raise ValueError("celu: alpha must not be 0, since x is divided by it")
    x = _float("celu", x)
    positive = x > 0
    return jnp.where(positive, x, alpha * jnp.expm1(jnp.where(positive, 0, x) / alpha))


def gelu(x: Any, approximate: str = "none") -> Array:
    """x times the standard normal's cumulative probability at x (Hendrycks and Gimpel, 2016).

    Arguments:
        approximate: "none", or "tanh" for x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).

    Raises:
        ValueError: `approximate` is neither.
    """
    one_of("gelu", "approximate", approximate, ("none", "tanh"))
    x = _float("gelu", x)
    if approximate == "none":
        return asgfn.nn.gelu(x, approximate=False)
    # The hyperbolic tangent is ±1 in every precision long before ±100, and the cube of a huge x would overflow.
    near = jnp.where(jnp.abs(x) < 100, x, jnp.where(x < 0, -100, 100))
    inner = math.sqrt(2 / math.pi) * (near + 0.044715 * (near * near * near))
    return x * (0.5 * (1.0 + jnp.tanh(inner)))


def softplus(x: Any, beta: float = 1, threshold: float = 20) -> Array:
    """log(1 + exp(beta * x)) / beta, and x itself where beta * x > threshold.

    Raises:
        ValueError: beta is 0.
    """
    if beta == 0:
        raise ValueError("softplus: beta must not be 0, since the result is divided by it")
    x = _float("softplus", x)
    scaled = x if beta == 1 else x * beta
    linear = scaled > threshold
    curved = asgfn.nn.softplus(jnp.where(linear, 0, scaled))
    return jnp.where(linear, x, curved if beta == 1 else curved / beta)


def logsigmoid(x: Any) -> Array:
    """log(1 / (1 + exp(-x))), without overflow."""
    x = _float("logsigmoid", x)
    # At ±infinity the sum of logarithms has the right values but no slopes.
    negative = x < 0
    tail = jnp.log1p(jnp.exp(jnp.where(negative, x, -x)))
    return jnp.where(negative, x, 0) - tail


def tanhshrink(x: Any) -> Array:
    """x - tanh(x)."""
    x = _float("tanhshrink", x)
    return x - jnp.tanh(x)


def softsign(x: Any) -> Array:
    """x / (1 + |x|)."""
    return _softsign(_float("softsign", x))


@asgfn.custom_jvp
def _softsign(x: Array) -> Array:
    return x / (1 + jnp.abs(x))


@_softsign.defjvp
def _softsign_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    # The rule of quotients gives a difference of nearly equal numbers where |x| is large.
    (x,), (t,) = primals, tangents
    return _softsign(x), t * jnp.square(1 / (1 + jnp.abs(x)))


# ---------------------------------------------------------------------------------------------- over an axis
def softmax(x: Any, axis: int = -1, dtype: Any = None) -> Array:
    """exp(x) / sum(exp(x)) along an axis, computed relative to the largest element.

    Arguments:
        dtype: what `x` is converted to first; its own by default.
    """
    return asgfn.nn.softmax(_ready("softmax", x, axis, dtype), axis)


def softmin(x: Any, axis: int = -1, dtype: Any = None) -> Array:
    """softmax(-x); arguments as there."""
    return asgfn.nn.softmax(-_ready("softmin", x, axis, dtype), axis)


def log_softmax(x: Any, axis: int = -1, dtype: Any = None) -> Array:
    """log(softmax(x)) without the underflow; arguments as of `softmax`."""
    return asgfn.nn.log_softmax(_ready("log_softmax", x, axis, dtype), axis)


def _ready(name: str, x: Any, axis: int, dtype: Any) -> Array:
    x = _float(name, x)
    if x.ndim:
        normalize_axis(name, axis, x.shape)
    return x if dtype is None else x.astype(dtype)


def gumbel_softmax(x: Any, tau: float = 1, hard: bool = False, axis: int = -1, *, key: Any) -> Array:
    """A draw from the Gumbel-softmax distribution: softmax((x + Gumbel noise) / tau).

    Arguments:
        x: unnormalised log-probabilities along `axis`.
        tau: temperature; towards 0 the draws become one-hot.
        hard: give the one-hot vector of the largest entry, with the gradient of the soft one (straight through).
        key: a random key.

    Raises:
        ValueError: tau is not positive.

    Source: E. Jang et al., Categorical Reparameterization with Gumbel-Softmax, 2016.
    """
    if tau <= 0:
        raise ValueError(f"gumbel_softmax: tau must be positive, got {tau}")
    x = _ready("gumbel_softmax", x, axis, None)
    soft = asgfn.nn.softmax((x + random.gumbel(key, x.shape, x.dtype)) / tau, axis)
    if not hard:
        return soft
    axis = normalize_axis("gumbel_softmax", axis, x.shape)
    chosen = asgfn.nn.one_hot(jnp.argmax(soft, axis), x.shape[axis], dtype=x.dtype, axis=axis)
    # soft - soft is exactly 0, so that the value stays one-hot
    return chosen + (soft - lax.stop_gradient(soft))
