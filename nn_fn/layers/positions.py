"""What tells positions in a sequence apart: encodings that are added, rotations, and biases of attention scores.

Layers here count on from call to call when their state has an index (`Layer.init_cache`), so that a sequence may be fed
piece by piece. All take the option ``positions``: integers [..., length] instead of 0, 1, 2, ...
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import asgfn.numpy as jnp
from asgfn import dtypes
from asgfn.errors import DTypeError, ShapeError
from asgfn.numpy.arguments import computation_dtype, to_array
from asgfn.tracing import Array
from asgfn.tracing.concretize import is_concrete
from nn_fn import initializers
from nn_fn.functional.arguments import float_array, integer_array, static_int
from nn_fn.initializers import Initializer
from nn_fn.layers.checks import positive
from nn_fn.layers.configuration import constructor
from nn_fn.layers.layer import Layer


# ---------------------------------------------------------------------------------------------- functions
def position_ids(length: int, batch: int | tuple[int, ...] = (), offset: Any = 0) -> Array:
    """The positions offset, offset + 1, ... of `length` elements, int32.

    Arguments:
        batch: leading axes over which they are repeated.
        offset: the first position; may be traced.

    Returns:
        int32 [*batch, length].
    """
    ids = jnp.arange(static_int("position_ids", "length", length, 0), dtype="int32") + jnp.asarray(offset, "int32")
    leading = (batch,) if isinstance(batch, int) else tuple(batch)
    return jnp.broadcast_to(ids, (*leading, length))


def sinusoidal(positions: Any, features: int, base: float = 10000.0, dtype: Any = None) -> Array:
    """Sines and cosines of positions (A. Vaswani et al., 2017, 3.5).

    Feature 2i is sin(position / base^(2i / features)), feature 2i + 1 the cosine of the same; with an odd number of
    features the last one is a sine.

    Arguments:
        positions: integer or float [...].
        dtype: of the result; default float.

    Returns:
        [..., features].
    """
    positive("sinusoidal", features=features)
    dtype = jnp.zeros(0).dtype if dtype is None else dtypes.canonicalize(dtype)
    work = computation_dtype(dtype)
    frequencies = float(base) ** (-2 * np.arange((features + 1) // 2) / features)
    angles = to_array("sinusoidal", positions).astype(work)[..., None] * jnp.asarray(frequencies, work)
    pairs = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return pairs.reshape(*angles.shape[:-1], 2 * angles.shape[-1])[..., :features].astype(dtype)


def rotary(x: Any, positions: Any = None, *, offset: Any = 0, base: float = 10000.0) -> Array:
    """Rotates pairs of features by angles proportional to the position (J. Su et al., RoFormer, 2021).

    Pair i consists of the features i and i + n/2 of n (the split-half layout of LLaMA); at position p it is turned by
    p / base^(2i / n). The product of a rotated query and a rotated key depends on the difference of their positions
    only. Angles of 16-bit operands are computed in float32.

    Arguments:
        x: float [..., length, n], n even: queries or keys, any axes before.
        positions: integers broadcastable to x.shape[:-1]; by default offset, offset + 1, ... along axis -2.
        offset: the position of the first element; may be traced.
        base: the larger it is, the more slowly the last pairs turn.

    Returns:
        An array of the shape and dtype of x.

    Raises:
        ShapeError: x has fewer than 2 axes or an odd number of features, or positions do not broadcast.
    """
    x = float_array("rotary", "x", x)
    if x.ndim < 2 or x.shape[-1] % 2:
        raise ShapeError(f"rotary: x must be [..., length, n] with an even number n of features, got {x.aval}")
    if positions is None:
        positions = position_ids(x.shape[-2], offset=offset)
    else:
        positions = integer_array("rotary", "positions", positions)
        try:
            fits = np.broadcast_shapes(positions.shape, x.shape[:-1]) == x.shape[:-1]
        except ValueError:
            fits = False
        if not fits:
            raise ShapeError(f"rotary: positions must broadcast to {x.shape[:-1]}, got {positions.aval} for x {x.aval}")
    work = computation_dtype(x.dtype)
    half = x.shape[-1] // 2
    frequencies = float(base) ** (-np.arange(half) / max(half, 1))
    angles = positions.astype(work)[..., None] * jnp.asarray(frequencies, work)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    first, second = x[..., :half].astype(work), x[..., half:].astype(work)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def alibi_slopes(heads: int) -> np.ndarray:
    """How fast each head's attention falls with distance (O. Press et al., 2022), float64 [heads].

    For n heads, n a power of two: 2^(-8/n), 2^(-16/n), ..., 2^(-8). Otherwise the slopes of the largest power of two m
    below n, then every second one of 2m heads' slopes, from the first.
    """
    positive("alibi_slopes", heads=heads)
    power = 1 << (heads.bit_length() - 1)
    slopes = 2.0 ** (-8 * np.arange(1, power + 1) / power)
    between = 2.0 ** (-4 * np.arange(1, 2 * power + 1, 2) / power)
    return np.concatenate([slopes, between[: heads - power]])


def alibi_bias(
    heads: int, queries: int, keys: int | None = None, *, offset: Any = 0, causal: bool = False, dtype: Any = None
) -> Array:
    """What ALiBi adds to attention scores: -slope * |query - key|, with a slope for each head.

    Arguments:
        queries, keys: how many there are; as many keys as queries by default.
        offset: the position of the first query among the keys; may be traced.
        causal: -inf for keys behind the query.
        dtype: of the result; default float.

    Returns:
        [heads, queries, keys].
    """
    queries = static_int("alibi_bias", "queries", queries, 0)
    keys = queries if keys is None else static_int("alibi_bias", "keys", keys, 0)
    dtype = jnp.zeros(0).dtype if dtype is None else dtype
    ahead = jnp.arange(keys)[None, :] - (jnp.arange(queries)[:, None] + offset)
    bias = -jnp.asarray(alibi_slopes(heads), dtype)[:, None, None] * jnp.abs(ahead).astype(dtype)
    return jnp.where(ahead > 0, -math.inf, bias) if causal else bias


# ---------------------------------------------------------------------------------------------- layers
@constructor
def sinusoidal_position(features: int, base: float = 10000.0) -> Layer:
    """x + `sinusoidal` of its positions; x is float [..., length, features], of any length.

    Option ``positions``: integers [..., length]. With the state of `init_cache` it counts on from call to call.
    """
    positive("sinusoidal_position", features=features)

    def encode(params: Any, positions: Array, dtype: Any) -> Array:
        return sinusoidal(positions, features, base, dtype)

    return _added("sinusoidal_position", features, encode)


@constructor
def learned_position(max_length: int, features: int, weight_init: str | Initializer | None = None) -> Layer:
    """x + the row of a table for each position; x is float [..., length, features].

    Parameters: ``weight`` [max_length, features], by default normal with deviation 0.02. Option ``positions``: integers
    [..., length]. With the state of `init_cache` it counts on from call to call.

    Raises (when called):
        ValueError: a position is not in [0, max_length), or `init_cache` is asked for more. If positions are traced, so
            that this cannot be known, the result is NaN there.
    """
    positive("learned_position", max_length=max_length, features=features)
    make = table_initializer(weight_init)

    def encode(params: Any, positions: Array, dtype: Any) -> Array:
        if positions.shape[-1] > max_length:
            _refuse_beyond(max_length, f"a sequence of {positions.shape[-1]}")
        if positions.size and is_concrete(positions):
            low, high = int(jnp.min(positions)), int(jnp.max(positions))
            if low < 0 or high >= max_length:
                _refuse_beyond(max_length, f"positions from {low} to {high}")
        outside = (positions < 0) | (positions >= max_length)
        rows = jnp.take(params["weight"], positions, axis=0, mode="clip")
        return jnp.where(outside[..., None], math.nan, rows).astype(dtype)

    def init(key: Any) -> dict[str, Any]:
        return {"weight": make(key, (max_length, features))}

    return _added("learned_position", features, encode, init, max_length)


def table_initializer(spec: str | Initializer | None) -> Initializer:
    """That of vectors for places: by default normal with deviation 0.02, as BERT, GPT-2 and ViT start."""
    return initializers.normal(stddev=0.02) if spec is None else initializers.get(spec)


def _refuse_beyond(max_length: int, what: str) -> None:
    raise ValueError(
        f"learned_position: there are positions in [0, {max_length}), got {what}; make the layer with a larger max_length"
    )


def _added(name: str, features: int, encode: Any, init: Any = None, limit: int | None = None) -> Layer:
    """A layer that adds ``encode(params, positions, dtype)``, [..., length, features], to its input."""

    def apply(params: Any, state: Any, x: Any, key: Any, train: bool, positions: Any = None) -> tuple[Any, Any]:
        x = float_array(name, "x", x)
        if x.ndim < 2 or x.shape[-1] != features:
            raise ShapeError(f"{name}: the input must be [..., length, {features}], got {x.aval}")
        length = x.shape[-2]
        if positions is None:
            positions = position_ids(length, offset=state.get("index", 0))
        positions = checked_positions(name, positions, x)
        if "index" in state:
            state = {**state, "index": state["index"] + length}
        return x + encode(params, positions, x.dtype), state

    def cache_fn(state: Any, batch: int, max_length: int, dtype: Any) -> dict:
        if limit is not None and max_length > limit:
            _refuse_beyond(limit, f"init_cache with max_length={max_length}")
        return {**state, "index": jnp.zeros((), "int32")}

    def init_fn(key: Any) -> tuple[dict, dict]:
        return ({} if init is None else init(key)), {}

    return Layer(name, {}, init_fn, apply, options=frozenset({"positions"}), cache_fn=cache_fn)


def checked_positions(name: str, positions: Any, x: Array) -> Array:
    """The option `positions` as integers [length] or [..., length] for x [..., length, features].

    Raises:
        DTypeError: not integers; ShapeError: another shape.
    """
    positions = to_array(name, positions)
    if not dtypes.is_integer(positions.dtype):
        raise DTypeError(f"{name}: positions must be integers, got {positions.aval}")
    if positions.shape not in (x.shape[-2:-1], x.shape[:-1]):
        raise ShapeError(f"{name}: positions must be [..., length] for x {x.aval}, got {positions.aval}")
    return positions
