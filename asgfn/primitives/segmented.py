"""Products over the elements that share a place: what the derivative of `scatter_mul` needs."""

from __future__ import annotations

from typing import Any

import numpy as np

from asgfn.primitives import elementwise as ew
from asgfn.primitives import shaping
from asgfn.primitives.base import primitive
from asgfn.primitives.gather import GatherDimensionNumbers, gather


def product_of_others(values: Any, places: Any) -> Any:
    """For each value, the product of all other values that have the same place.

    Dividing the product of all by the value would fail at zeros, and its derivatives even more so. Instead the values
    are sorted by place, and running products from the left and from the right leave out the value itself. Only
    multiplications touch the values, so derivatives of every order are exact.

    Arguments:
        values: array of any shape.
        places: integers >= -1 of the same shape.

    Returns:
        Array of that shape: 1 where a value has its place for itself.
    """
    from asgfn.primitives.sorting import sort

    n = values.size
    if n <= 1:
        return shaping.full(values.shape, 1, values.dtype)
    count = shaping.iota(np.int32, n)
    places, order = sort((shaping.reshape(places, (n,)), count), num_keys=1)
    _, inverse = sort((order, count), num_keys=1)
    ordered = _take(shaping.reshape(values, (n,)), order)
    others = ew.mul(_running_product(ordered, places, 1), _running_product(ordered, places, -1))
    return shaping.reshape(_take(others, inverse), values.shape)


def _take(vector: Any, indices: Any) -> Any:
    numbers = GatherDimensionNumbers(offset_dims=(), collapsed_slice_dims=(0,), start_index_map=(0,))
    column = shaping.reshape(indices, (indices.shape[0], 1))
    return gather(vector, column, numbers, (1,), unique_indices=True)


def _running_product(values: Any, places: Any, direction: int) -> Any:
    """The product of the values before (after, for direction -1) each one with the same place; places are sorted."""

    def neighbour(vector: Any, distance: int) -> Any:
        """vector[i - distance] (+ for direction -1) where that element has the place of element i, else 1."""
        same = ew.eq(shifted(places, distance, -2), places)
        return ew.select(same, shifted(vector, distance, 1), np.ones((), vector.dtype))

    def shifted(vector: Any, distance: int, fill: int) -> Any:
        offset = direction * distance
        return primitive("pad").bind(vector, np.asarray(fill, vector.dtype), padding_config=((offset, -offset, 0),))

    product = neighbour(values, 1)
    distance = 1
    while distance < values.shape[0]:  # element i has the product of the `distance` ones before it
        product = ew.mul(product, neighbour(product, distance))
        distance *= 2
    return product
