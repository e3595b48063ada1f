"""Images as sequences."""

from __future__ import annotations

from typing import Any

import asgfn.numpy as jnp
from asgfn import random
from asgfn.errors import ShapeError
from nn_fn import functional as F
from nn_fn.functional.arguments import float_array, per_axis
from nn_fn.initializers import Initializer
from nn_fn.layers.checks import positive, probability
from nn_fn.layers.configuration import constructor
from nn_fn.layers.layer import Call, Layer, composite
from nn_fn.layers.linear import linear
from nn_fn.layers.positions import table_initializer


@constructor
def patch_embedding(
    channels: int,
    features: int,
    patch_size: int | tuple[int, int],
    image_size: int | tuple[int, int] | None = None,
    *,
    class_token: bool = False,
    learned_positions: bool = False,
    dropout: float = 0.0,
    bias: bool = True,
    weight_init: str | Initializer = "fan_in_uniform",
    bias_init: str | Initializer = "fan_in_uniform",
    position_init: str | Initializer | None = None,
) -> Layer:
    """Cuts images [N, channels, H, W] into patches and maps each to a vector (A. Dosovitskiy et al., 2021).

    Gives [N, patches, features], patches row by row; with a class token [N, 1 + patches, features], the token first.
    An image alone, [channels, H, W], gives a sequence alone.

    Parameters: ``projection`` (`linear`; its ``weight`` [channels * height * width of a patch, features] is that of a
    convolution, [features, channels, height, width], reshaped to [features, -1] and transposed), ``class_token``
    [features] and ``positions`` [patches (+ 1), features].

    Arguments:
        patch_size: height and width of a patch, or one number for both.
        image_size: height and width of the images; needed for learned positions, otherwise any multiple of the patch
            size will do.
        class_token: whether a learned vector goes first.
        learned_positions: whether a learned vector is added for each place, the class token's included.
        dropout: rate, at the end.
        position_init: for class token and positions; by default normal with deviation 0.02.

    Raises:
        ValueError: an image size that is missing or no multiple of the patch size, other arguments out of range.
        ShapeError (when called): images of another shape.
    """
    name = "patch_embedding"
    height, width = per_axis(name, "patch_size", patch_size, 2, 1)
    positive(name, channels=channels, features=features)
    probability(name, dropout=dropout)
    size = None if image_size is None else per_axis(name, "image_size", image_size, 2, 1)
    if size is None and learned_positions:
        raise ValueError(f"{name}: learned positions need image_size=(height, width)")
    if size is not None and (size[0] % height or size[1] % width):
        raise ValueError(f"{name}: image_size {size} must be a multiple of patch_size {(height, width)}")
    make = table_initializer(position_init)

    def init(key: Any) -> dict[str, Any]:
        token_key, position_key = random.split(key)
        params = {}
        if class_token:
            params["class_token"] = make(token_key, (1, features))[0]
        if learned_positions and size is not None:
            places = (size[0] // height) * (size[1] // width) + class_token
            params["positions"] = make(position_key, (places, features))
        return params

    def apply(call: Call, x: Any) -> Any:
        x = float_array(name, "x", x)
        _check_images(name, x, channels, (height, width), size)
        rows, columns = x.shape[-2] // height, x.shape[-1] // width
        x = x.reshape(*x.shape[:-3], channels, rows, height, columns, width)
        x = jnp.moveaxis(x, (-4, -2), (-5, -4))
        y = call("projection", x.reshape(*x.shape[:-5], rows * columns, channels * height * width))
        if class_token:
            token = jnp.broadcast_to(call.params["class_token"], (*y.shape[:-2], 1, features))
            y = jnp.concatenate([token, y], axis=-2)
        if learned_positions:
            y = y + call.params["positions"]
        return F.dropout(y, dropout, call.train, key=call.next_key())

    projection = linear(channels * height * width, features, bias, weight_init, bias_init)
    return composite(name, {"projection": projection}, apply, init=init)


def _check_images(name: str, x: Any, channels: int, patch: tuple[int, int], size: tuple[int, ...] | None) -> None:
    wanted = f"[N, {channels}, {', '.join(map(str, size)) if size else 'H, W'}]"
    if x.ndim < 3 or x.shape[-3] != channels or (size is not None and x.shape[-2:] != size):
        raise ShapeError(f"{name}: images must be {wanted}, got {x.aval}")
    if x.shape[-2] % patch[0] or x.shape[-1] % patch[1]:
        raise ShapeError(
            f"{name}: height and width of the images must be multiples of the patches' {patch}, got {x.aval}; "
            "pad or crop them"
        )
