"""Activation functions, element by element.

All take an array of any shape and give one of the same shape; integers are converted to float unless the function
keeps them. At a kink the gradient is JAX's (`relu`'s at 0 is 0).
"""

from __future__ import annotations

import math

import asgfn.numpy as jnp
from asgfn import lax
from asgfn.custom_derivatives import custom_jvp
from asgfn.errors import ShapeError
from asgfn.numpy.arguments import ArrayLike, normalize_axis, promote_args_inexact, to_array
from asgfn.tracing import Array

_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


# ---------------------------------------------------------------------------------------------- piecewise linear
def relu(x: ArrayLike) -> Array:
    """max(x, 0); the gradient at 0 is 0, and NaN stays NaN."""
    x = to_array("relu", x)
    # As a selection rather than a maximum, whose gradient at the tie would be 1/2.
    return jnp.where(x <= 0, 0, x)


def relu6(x: ArrayLike) -> Array:
    """min(max(x, 0), 6); the gradient at 0 and at 6 is 0."""
    (x,) = promote_args_inexact("relu6", x)
    return jnp.where(x <= 0, 0, jnp.where(x >= 6, 6, x))


def leaky_relu(x: ArrayLike, negative_slope: ArrayLike = 1e-2) -> Array:
    """x where x >= 0, else negative_slope * x."""
    (x,) = promote_args_inexact("leaky_relu", x)
    return jnp.where(x >= 0, x, negative_slope * x)


def hard_tanh(x: ArrayLike) -> Array:
    """x clipped to [-1, 1]."""
    x = to_array("hard_tanh", x)
    return jnp.where(x > 1, 1, jnp.where(x < -1, -1, x))


def hard_sigmoid(x: ArrayLike) -> Array:
    """relu6(x + 3) / 6."""
    return relu6(to_array("hard_sigmoid", x) + 3.0) / 6.0


def hard_silu(x: ArrayLike) -> Array:
    """x * hard_sigmoid(x) (Howard et al., 2019)."""
    (x,) = promote_args_inexact("hard_silu", x)
    return x * hard_sigmoid(x)


def identity(x: ArrayLike) -> Array:
    """x itself."""
    return to_array("identity", x)


# ---------------------------------------------------------------------------------------------- smooth
def sigmoid(x: ArrayLike) -> Array:
    """1 / (1 + exp(-x))."""
    return lax.logistic(*promote_args_inexact("sigmoid", x))


def log_sigmoid(x: ArrayLike) -> Array:
    """log(sigmoid(x)) = -softplus(-x)."""
    (x,) = promote_args_inexact("log_sigmoid", x)
    return -softplus(-x)


def softplus(x: ArrayLike) -> Array:
    """log(1 + exp(x)), without overflow."""
    (x,) = promote_args_inexact("softplus", x)
    return jnp.logaddexp(x, 0.0)


def tanh(x: ArrayLike, /) -> Array:
    """Hyperbolic tangent."""
    return jnp.tanh(x)


def soft_sign(x: ArrayLike) -> Array:
    """x / (1 + |x|)."""
    (x,) = promote_args_inexact("soft_sign", x)
    return x / (jnp.abs(x) + 1)


def silu(x: ArrayLike) -> Array:
    """x * sigmoid(x), also known as swish (Ramachandran et al., 2017)."""
    (x,) = promote_args_inexact("silu", x)
    return x * sigmoid(x)


def mish(x: ArrayLike) -> Array:
    """x * tanh(softplus(x)) (Misra, 2019)."""
    (x,) = promote_args_inexact("mish", x)
    return x * jnp.tanh(softplus(x))


@custom_jvp
def _logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)): within 3 units in the last place, where `sigmoid` has 2 and more to do."""
    return 1.0 / (1.0 + jnp.exp(-x))


@_logistic.defjvp
def _logistic_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # by the result, which is 0 where exp(-x) is infinite
    y = _logistic(primals[0])
    return y, tangents[0] * ((1.0 - y) * y)


def gelu(x: ArrayLike, approximate: bool = True) -> Array:
    """x times the standard normal's cumulative probability at x (Hendrycks and Gimpel, 2016).

    Arguments:
        approximate: use x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) instead of the error function.
    """
    (x,) = promote_args_inexact("gelu", x)
    if approximate:
        # (1 + tanh(y)) / 2 is the logistic function of 2 y, which takes less and keeps the digits of the left tail
        scale = 2 * math.sqrt(2 / math.pi)
        return x * _logistic(x * (scale + (0.044715 * scale) * (x * x)))
    # erfc keeps the digits of the left tail, which 1 + erf would cancel.
    return 0.5 * x * lax.erfc(-x * math.sqrt(0.5))


def squareplus(x: ArrayLike, b: ArrayLike = 4) -> Array:
    """(x + sqrt(x^2 + b)) / 2, a smooth relu without exponentials (Barron, 2021)."""
    x, b = promote_args_inexact("squareplus", x, b)
    return 0.5 * (x + jnp.sqrt(jnp.square(x) + b))


# ---------------------------------------------------------------------------------------------- exponential on one side
def elu(x: ArrayLike, alpha: ArrayLike = 1.0) -> Array:
    """x where x > 0, else alpha * (exp(x) - 1) (Clevert et al., 2015)."""
    (x,) = promote_args_inexact("elu", x)
    positive = x > 0
    # The unused branch sees 0: exp of a large x would put inf * 0 = NaN into the gradient.
    return jnp.where(positive, x, alpha * jnp.expm1(jnp.where(positive, 0.0, x)))


def selu(x: ArrayLike) -> Array:
    """Scaled `elu` with the self-normalising constants of Klambauer et al., 2017."""
    (x,) = promote_args_inexact("selu", x)
    return _SELU_SCALE * elu(x, _SELU_ALPHA)


def celu(x: ArrayLike, alpha: ArrayLike = 1.0) -> Array:
    """max(x, 0) + alpha * (exp(min(x, 0) / alpha) - 1), continuously differentiable (Barron, 2017)."""
    (x,) = promote_args_inexact("celu", x)
    return jnp.maximum(x, 0.0) + alpha * jnp.expm1(jnp.minimum(x, 0.0) / alpha)


def log1mexp(x: ArrayLike) -> Array:
    """log(1 - exp(-x)) for x >= 0, accurate at both ends (Maechler, 2012)."""
    (x,) = promote_args_inexact("log1mexp", x)
    near = x < math.log(2)
    # Each branch sees a harmless value where the other is taken, which keeps the gradient finite.
    small = jnp.log(-jnp.expm1(-jnp.where(near, x, 1.0)))
    large = jnp.log1p(-jnp.exp(-jnp.where(near, 1.0, x)))
    return jnp.where(near, small, large)


# ---------------------------------------------------------------------------------------------- sparse
def sparse_plus(x: ArrayLike) -> Array:
    """0 below -1, x above 1, (x + 1)^2 / 4 between: the softplus of sparsemax."""
    (x,) = promote_args_inexact("sparse_plus", x)
    return jnp.where(x <= -1, 0.0, jnp.where(x >= 1, x, jnp.square(x + 1) / 4))


def sparse_sigmoid(x: ArrayLike) -> Array:
    """(x + 1) / 2 clipped to [0, 1]: the derivative of `sparse_plus`."""
    (x,) = promote_args_inexact("sparse_sigmoid", x)
    return 0.5 * jnp.clip(x + 1.0, 0.0, 2.0)


# ---------------------------------------------------------------------------------------------- gated
def glu(x: ArrayLike, axis: int = -1) -> Array:
    """The first half of `x` along `axis` times the sigmoid of the second half (Dauphin et al., 2017).

    Raises:
        ShapeError: the axis has odd length.
    """
    (x,) = promote_args_inexact("glu", x)
    axis = normalize_axis("glu", axis, x.shape)
    size = x.shape[axis]
    if size % 2:
        raise ShapeError(f"glu: axis {axis} of {x.aval} has odd length {size}, but it is split into two halves")
    value = lax.slice_in_dim(x, 0, size // 2, axis=axis)
    gate = lax.slice_in_dim(x, size // 2, size, axis=axis)
    return value * sigmoid(gate)


hard_swish = hard_silu
swish = silu
