"""How a list of items becomes one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asgfn import tree
from asgfn.errors import DTypeError, ShapeError, StructureError

_PYTHON_NUMBERS = ((bool, np.bool_), (int, np.int32), (float, np.float32), (complex, np.complex64))


def default_collate(items: Sequence[Any]) -> Any:
    """Stacks the leaves of equal pytrees along a new first axis.

    Arguments:
        items: n pytrees of one structure, n ≥ 1. A leaf is an array, a NumPy scalar or a Python number, and has one shape
            and one dtype in all items. Python numbers become bool, int32, float32 and complex64, as asgfn's defaults are.

    Returns:
        A pytree of the same structure; a leaf of shape `[...]` and some dtype becomes a NumPy array `[n, ...]` of it.

    Raises:
        StructureError: for items of different structures.
        ShapeError, DTypeError: for leaves of different shapes or dtypes; the message names the items.
        TypeError: for a leaf that is neither array nor number, such as a string.
        ValueError: for no items.
        OverflowError: for a Python integer that int32 does not hold.
    """
    if not len(items):
        raise ValueError("default_collate: a batch needs at least one item, got none")
    first, structure = tree.flatten_with_path(items[0])
    columns: list[list[Any]] = [[leaf] for _, leaf in first]
    for number, item in enumerate(items[1:], 1):
        leaves, other = tree.flatten(item)
        if other != structure:
            raise StructureError(
                f"default_collate: items of a batch must have one structure; item 0 has {structure}, item {number} has "
                f"{other}. Make the items alike, or pass collate=."
            )
        for column, leaf in zip(columns, leaves, strict=True):
            column.append(leaf)
    return tree.unflatten(structure, [_stack(path, column) for (path, _), column in zip(first, columns, strict=True)])


def _stack(path: Any, leaves: list[Any]) -> np.ndarray:
    """One leaf of all items as one array."""
    arrays = [_leaf_array(path, leaf) for leaf in leaves]
    for number, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise ShapeError(
                f"default_collate: items of a batch must have one shape; item 0 has {arrays[0].shape}, item {number} has "
                f"{array.shape}{_at(path)}. Pad or crop them in a transform, or pass collate=."
            )
        if array.dtype != arrays[0].dtype:
            raise DTypeError(
                f"default_collate: items of a batch must have one dtype; item 0 has {arrays[0].dtype}, item {number} has "
                f"{array.dtype}{_at(path)}. Cast them in a transform, or pass collate=."
            )
    return np.stack(arrays)


def _leaf_array(path: Any, leaf: Any) -> np.ndarray:
    for python_type, dtype in _PYTHON_NUMBERS:
        if type(leaf) is python_type:
            return np.asarray(leaf, dtype)
    array = np.asarray(leaf)
    if array.dtype.kind in "OSU":
        raise TypeError(
            f"default_collate: a leaf must be an array or a number, got {type(leaf).__name__}{_at(path)}. "
            "Turn it into numbers in a transform, or pass collate=."
        )
    return array


def _at(path: Any) -> str:
    """Where in the item a leaf stands, as part of a message."""
    return f" at {''.join(map(str, path))}" if path else ""
