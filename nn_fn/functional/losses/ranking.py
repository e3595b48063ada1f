"""Losses of comparisons: which is larger, which is nearer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import asgfn.numpy as jnp
from asgfn.errors import ShapeError
from asgfn.numpy.arguments import to_array
from asgfn.tracing import Array
from nn_fn.functional.distances import pairwise_distance, vector_norm
from nn_fn.functional.losses.reduction import positive_part, reduced, same_shape


def margin_ranking_loss(input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean") -> Array:
    """max(0, margin - target * (input1 - input2)).

    Arguments:
        input1, input2: scores of one shape.
        target: of the same shape; 1 where input1 should be larger, -1 where input2 should.
        margin: by how much.
        reduction: "none", "mean" or "sum".

    Raises:
        ShapeError: shapes differ. ValueError: an unknown reduction.
    """
    name = "margin_ranking_loss"
    input1, input2, target = same_shape(name, input1=input1, input2=input2, target=target)
    return reduced(name, positive_part(margin - target * (input1 - input2)), reduction)


def hinge_embedding_loss(input: Any, target: Any, margin: float = 1.0, reduction: str = "mean") -> Array:
    """input where the target is 1, max(0, margin - input) where it is -1: a loss of distances (Hadsell et al., 2006).

    Arguments:
        input: distances.
        target: of the same shape; 1 for what should be near, -1 for what should be apart.
        margin: how far apart is enough.
        reduction: "none", "mean" or "sum".

    Raises:
        ShapeError: shapes differ. ValueError: an unknown reduction.
    """
    input, target = same_shape("hinge_embedding_loss", input=input, target=target)
    near = jnp.where(target == -1, 0, input)
    apart = jnp.where(target == 1, 0, positive_part(margin - input))
    return reduced("hinge_embedding_loss", near + apart, reduction)


def cosine_embedding_loss(input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean") -> Array:
    """1 - cos where the target is 1, max(0, cos - margin) where it is -1; cos is that of the angle of two rows.

    A vector of zeros has cosine 0 with all others, and a finite gradient.

    Arguments:
        input1, input2: float, [N, D] or [D], of one shape.
        target: [N] or a number: 1 for what should be alike, -1 for what should not.
        margin: in [-1, 1]; cosines of dissimilar pairs below it cost nothing.
        reduction: "none" (one loss a row), "mean" or "sum".

    Raises:
        ShapeError: shapes do not fit. ValueError: an unknown reduction.
    """
    name = "cosine_embedding_loss"
    input1, input2 = same_shape(name, input1=input1, input2=input2)
    target = to_array(name, target)
    if input1.ndim not in (1, 2) or target.shape != input1.shape[:-1]:
        raise ShapeError(
            f"{name}: inputs are [N, D] with target [N], or [D] with one number; got inputs {input1.aval}, "
            f"target {target.aval}"
        )
    # sqrt(|x|^2 + 1e-12) for the length of x, as in PyTorch
    unit1, unit2 = (x / jnp.hypot(vector_norm(x, keepdims=True), 1e-6) for x in (input1, input2))
    cosine = jnp.sum(unit1 * unit2, axis=-1)
    alike = jnp.where(target == 1, 1 - cosine, 0)
    unlike = jnp.where(target == -1, positive_part(cosine - margin), 0)
    return reduced(name, alike + unlike, reduction)


def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Array:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) for each row, d being the p-norm of the difference.

    Source: V. Balntas et al., Learning shallow convolutional feature descriptors with triplet losses, 2016.

    Arguments:
        anchor, positive, negative: float, [N, D] (or [..., D]), of one shape.
        margin: by how much the negative should be farther than the positive; above 0.
        p, eps: see `pairwise_distance`.
        swap: where the positive is nearer to the negative than the anchor is, take that distance instead.
        reduction: "none" (one loss a row), "mean" or "sum".

    Raises:
        ShapeError: shapes differ. ValueError: margin is not positive, an unknown reduction.
    """

    def distance(x: Array, y: Array) -> Array:
        return pairwise_distance(x, y, p, eps)

    return _triplet("triplet_margin_loss", anchor, positive, negative, distance, margin, swap, reduction)


def triplet_margin_with_distance_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    *,
    distance_function: Callable[[Array, Array], Array] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Array:
    """`triplet_margin_loss` with a distance of one's own.

    Arguments:
        distance_function: takes two arrays of the shape of `anchor` and gives an array of distances;
            `pairwise_distance` by default.

    Raises:
        ShapeError: shapes differ. ValueError: margin is not positive, an unknown reduction.
    """
    name = "triplet_margin_with_distance_loss"
    return _triplet(name, anchor, positive, negative, distance_function or pairwise_distance, margin, swap, reduction)


def _triplet(
    name: str,
    anchor: Any,
    positive: Any,
    negative: Any,
    distance: Callable[[Array, Array], Array],
    margin: float,
    swap: bool,
    reduction: str,
) -> Array:
    if not margin > 0:
        raise ValueError(f"{name}: margin must be positive, got {margin!r}")
    anchor, positive, negative = same_shape(name, anchor=anchor, positive=positive, negative=negative)
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = jnp.minimum(far, distance(positive, negative))
    return reduced(name, positive_part(near - far + margin), reduction)
