"""What the distributions share: promotion of their arguments, and location and scale."""

from __future__ import annotations

import asgfn.numpy as jnp
from asgfn.numpy.arguments import ArrayLike, promote_args_inexact
from asgfn.tracing import Array


def promote(name: str, *args: ArrayLike) -> list[Array]:
    """The arguments as arrays of one floating-point dtype and one shape."""
    return jnp.broadcast_arrays(*promote_args_inexact(name, *args))


def located(name: str, x: ArrayLike, *shapes: ArrayLike, loc: ArrayLike, scale: ArrayLike) -> list[Array]:
    """(x - loc) / scale, the shape parameters, and scale: all promoted and broadcast."""
    x, *promoted, loc, scale = promote(name, x, *shapes, loc, scale)
    return [(x - loc) / scale, *promoted, scale]


def shifted(name: str, k: ArrayLike, *shapes: ArrayLike, loc: ArrayLike) -> list[Array]:
    """k - loc and the shape parameters: all promoted and broadcast."""
    k, *promoted, loc = promote(name, k, *shapes, loc)
    return [k - loc, *promoted]
